"""The gather of paged decode, tile by tile: a key's number, its entry in the block table, its place in the pool.

    case = page_gather.Gather(blocks=(5, 2, 7, 0), page=4, length=14, tile=8)
    widgets.player(page_gather.frames(case), label="tile")
"""
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.text import counted
from minilm.viz import html, svg, theme

LEFT, LANES, TABLE, POOL, HIGH = 92, 8, 78, 152, 26        # pixels: where cells begin; the three rows' tops; a cell's
NOW, BEFORE = theme.YELLOW, theme.BLUE + "55"


@dataclass(frozen=True)
class Gather:
    """One sequence of `length` keys in pages (the field also says blocks) of `page` keys, read `tile` keys at a time.

    blocks: its block table; pool: how many blocks there are in all.
    """

    blocks: tuple[int, ...]
    page: int
    length: int
    tile: int
    pool: int = 8

    def __post_init__(self) -> None:
        if min(self.page, self.length, self.tile) < 1 or self.tile & (self.tile - 1):
            raise ValueError("page and length must be at least 1, and the tile a power of two")
        if self.length > self.page * len(self.blocks):
            raise ValueError(f"{self.length} keys don't fit into {counted(len(self.blocks), 'block')} of {self.page}")
        if len(set(self.blocks)) < len(self.blocks) or not set(self.blocks) <= set(range(self.pool)):
            raise ValueError(f"the table must name different blocks of 0 to {self.pool - 1}")

    @property
    def tiles(self) -> int:
        return -(-self.length // self.tile)

    def keys(self, number: int) -> range:
        """The keys that the lanes of tile `number` stand at, those past the end included."""
        return range(number * self.tile, (number + 1) * self.tile)

    def slot(self, key: int) -> int:
        """Where a key lies in the pool: block · page + place."""
        return self.blocks[key // self.page] * self.page + key % self.page


def frames(case: Gather) -> list[str]:
    """A picture for each tile."""
    return [frame(case, number) for number in range(case.tiles)]


def frame(case: Gather, number: int) -> str:
    """Tile `number`: lanes above, the block table in the middle, the pool below."""
    if not 0 <= number < case.tiles:
        raise ValueError(f"there are tiles 0 to {case.tiles - 1}, not {number}")
    lane = min(30.0, (theme.PIXELS - LEFT) / case.tile)
    entry = min(64.0, (theme.PIXELS - LEFT) / len(case.blocks))
    slot = min(24.0, (theme.PIXELS - LEFT) / (case.pool * case.page) - 8 / case.page)
    keys = [key for key in case.keys(number) if key < case.length]
    shapes = [svg.label(LEFT - 8, y + HIGH / 2, word, size=11.5, anchor="end") for y, word in
              ((LANES, "lanes: key j"), (TABLE, "block table"), (POOL, "pool"))]
    shapes += [_lane(case, key, LEFT + i * lane, lane) for i, key in enumerate(case.keys(number))]
    shapes += _table(case, keys, entry)
    for block in range(case.pool):
        shapes += _block(case, block, number, slot)
    for part in _runs(case, keys):
        shapes += _arrows(case, part, part[0] - number * case.tile, lane, entry, slot)
    drawn = svg.drawing(theme.PIXELS, POOL + HIGH + 34, *shapes, title="gather through the block table")
    return html.card(_told(case, number, keys) + drawn)


def _runs(case: Gather, keys: Sequence[int]) -> list[list[int]]:
    """The tile's keys, those of one block together."""
    found: dict[int, list[int]] = {}
    for key in keys:
        found.setdefault(key // case.page, []).append(key)
    return list(found.values())


def _lane(case: Gather, key: int, x: float, wide: float) -> str:
    inside = key < case.length
    told = f"entry {key // case.page}, place {key % case.page}" if inside else "past the end: masked"
    return (f"<g><title>key {key}: {told}</title>"
            + svg.box(x + 1, LANES, wide - 2, HIGH, fill=NOW if inside else "none", dashed=not inside, radius=2,
                      text=str(key) if inside else "✗", size=min(12, wide * 0.5)) + "</g>")


def _table(case: Gather, keys: Sequence[int], wide: float) -> list[str]:
    used = {key // case.page for key in keys}
    shapes = []
    for i, block in enumerate(case.blocks):
        needed = i * case.page < case.length
        shapes += [svg.box(LEFT + i * wide, TABLE, wide - 4, HIGH, fill=NOW if i in used else "none", dashed=not needed,
                           text=str(block), size=13),
                   svg.label(LEFT + i * wide + (wide - 4) / 2, TABLE + HIGH + 8, f"[{i}]", size=10, anchor="middle",
                             color=theme.MUTED)]
    return shapes


def _block(case: Gather, block: int, number: int, wide: float) -> list[str]:
    """A block's places: read now, read before, still to come, or nobody's."""
    x0 = LEFT + block * (case.page * wide + 8)
    first = case.blocks.index(block) * case.page if block in case.blocks else None
    shapes = [svg.label(x0 + case.page * wide / 2, POOL + HIGH + 9, str(block), size=11, anchor="middle", bold=True)]
    for place in range(case.page):
        key = None if first is None else first + place
        held = key is not None and key < case.length
        now = held and key in case.keys(number)
        fill = NOW if now else BEFORE if held and key < number * case.tile else "none"
        state = "another's, or free" if not held else f"key {key}, read " + (
            "now" if now else "before" if fill == BEFORE else "later")
        shapes.append(f"<g><title>block {block}, place {place}: {state}</title>"
                      + svg.box(x0 + place * wide, POOL, wide, HIGH, fill=fill, radius=0, dashed=not held,
                                stroke=theme.MUTED if held else theme.RULE)
                      + svg.label(x0 + (place + 0.5) * wide, POOL + HIGH / 2, str(key) if held else "", anchor="middle",
                                  size=min(11.5, wide * 0.55), color=theme.DARK if now else theme.TEXT) + "</g>")
    return shapes


def _arrows(case: Gather, run: Sequence[int], at: int, lane: float, entry: float, slot: float) -> list[str]:
    """From a run of lanes to their entry, and from there to their places."""
    i, block = run[0] // case.page, case.blocks[run[0] // case.page]
    x0, x1 = LEFT + at * lane, LEFT + (at + len(run)) * lane
    middle = LEFT + i * entry + (entry - 4) / 2
    start = LEFT + block * (case.page * slot + 8) + (run[0] % case.page) * slot
    y = LANES + HIGH + 5
    return [svg.line(x0 + 2, y, x1 - 2, y, width=2.5), svg.arrow((x0 + x1) / 2, y, middle, TABLE - 3),
            svg.arrow(middle, TABLE + HIGH + 15, start + len(run) * slot / 2, POOL - 6),
            svg.line(start + 1, POOL - 4, start + len(run) * slot - 1, POOL - 4, width=2.5)]


def _told(case: Gather, number: int, keys: Sequence[int]) -> str:
    off = case.tile - len(keys)
    blocks = [case.blocks[i] for i in dict.fromkeys(key // case.page for key in keys)]
    names = f"block {blocks[0]}" if len(blocks) == 1 else "blocks " + " and ".join(
        [", ".join(map(str, blocks[:-1])), str(blocks[-1])])
    masked = f"; {counted(off, 'lane')} past the end masked" if off else ""
    return (f'<div style="font:13px {theme.FONT};margin-bottom:4px"><b>tile {number + 1} of {case.tiles}</b> keys '
            f"{keys[0]} to {keys[-1]}: entry j // {case.page}, place j % {case.page}, from {names}{masked}</div>")
