"""Which program of FlashAttention touches which tile of the scores: full, diagonal or skipped; m and l beside each row.

    grid = flash_tiles.Grid(T=16, prefix=0, rows=4, tile=4)        # 16 queries, a program for each 4, keys by fours
    steps = flash_tiles.walk(scores, grid)                         # scores[T][S]
    widgets.player(flash_tiles.frames(grid, steps), label="tile")
    flash_tiles.overview(grid)                                     # all tiles at once, counted

Programs are drawn from the top down, one after the other. On a GPU they run side by side.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.text import counted
from minilm.viz import html, svg, theme

FULL, DIAGONAL, SKIPPED = "full", "diagonal", "skipped"
HIDDEN = theme.GREY
LEFT, TOP, CELL = 96, 34, 20        # pixels: where the scores begin, and a score's size in the player


@dataclass(frozen=True)
class Grid:
    """T queries, the last of prefix + T keys, causal; `rows` queries a program, `tile` keys at a time."""

    T: int
    prefix: int
    rows: int
    tile: int

    def __post_init__(self) -> None:
        if min(self.T, self.rows, self.tile) < 1 or self.prefix < 0:
            raise ValueError(f"T, rows and tile must be at least 1 and prefix at least 0, not {self}")

    @property
    def S(self) -> int:
        return self.prefix + self.T

    @property
    def programs(self) -> int:
        return -(-self.T // self.rows)

    @property
    def columns(self) -> int:
        return -(-self.S // self.tile)

    def queries(self, program: int) -> range:
        return range(program * self.rows, min((program + 1) * self.rows, self.T))

    def keys(self, column: int) -> range:
        return range(column * self.tile, min((column + 1) * self.tile, self.S))

    def sees(self, query: int, key: int) -> bool:
        return key <= self.prefix + query

    def kind(self, program: int, column: int) -> str:
        """full: each query sees each key. skipped: none sees any. diagonal: some, so that a mask is needed."""
        queries, keys = self.queries(program), self.keys(column)
        if keys[0] > self.prefix + queries[-1]:
            return SKIPPED
        return FULL if len(keys) == self.tile and keys[-1] <= self.prefix + queries[0] else DIAGONAL

    def count(self) -> dict[str, int]:
        """How many tiles of each kind."""
        kinds = [self.kind(p, c) for p in range(self.programs) for c in range(self.columns)]
        return {kind: kinds.count(kind) for kind in (FULL, DIAGONAL, SKIPPED)}


@dataclass(frozen=True)
class Step:
    """One tile of one program: m and l of its queries, before and after; the weights exp(score - m) of its keys."""

    program: int
    column: int
    kind: str
    m_before: tuple[float, ...]
    m: tuple[float, ...]
    l_before: tuple[float, ...]
    l: tuple[float, ...]
    p: tuple[tuple[float, ...], ...]        # -1 where the mask hides a key


def walk(scores: Sequence[Sequence[float]], grid: Grid) -> list[Step]:
    """All tiles that are not skipped, program by program. scores[T][S]. Raises ValueError for another shape."""
    if len(scores) != grid.T or any(len(row) != grid.S for row in scores):
        raise ValueError(f"scores must have {grid.T} rows of {grid.S} numbers")
    steps = []
    for program in range(grid.programs):
        m, l = [-math.inf] * len(grid.queries(program)), [0.0] * len(grid.queries(program))
        for column in range(grid.columns):
            if (kind := grid.kind(program, column)) == SKIPPED:
                continue
            m_before, l_before, p = tuple(m), tuple(l), []
            for i, query in enumerate(grid.queries(program)):
                seen = [scores[query][key] if grid.sees(query, key) else -math.inf for key in grid.keys(column)]
                m[i] = max(m_before[i], *seen)
                shift = 0.0 if m[i] == -math.inf else m[i]              # a query that sees no key yet
                part = [math.exp(score - shift) for score in seen]
                l[i] = l_before[i] * math.exp(m_before[i] - shift) + sum(part)
                p.append(tuple(weight if score > -math.inf else -1.0
                               for weight, score in zip(part, seen, strict=True)))
            steps.append(Step(program, column, kind, m_before, tuple(m), l_before, tuple(l), tuple(p)))
    return steps


def frames(grid: Grid, steps: Sequence[Step], tokens: Sequence[str] = ()) -> list[str]:
    """A picture for each tile. tokens: the texts of the S keys; the last T of them are the queries."""
    return [frame(grid, steps, number, tokens) for number in range(len(steps))]


def frame(grid: Grid, steps: Sequence[Step], number: int, tokens: Sequence[str] = ()) -> str:
    """Tile `number` at work: its weights; tiles that are done, to come, and never touched; m and l of every query."""
    if not 0 <= number < len(steps):
        raise ValueError(f"there are tiles 0 to {len(steps) - 1}, not {number}")
    now = steps[number]
    last = {step.program: step for step in steps[: number + 1]}         # the state that each program is in
    done = {(step.program, step.column) for step in steps[:number]}
    names = [html.short(token, 10) for token in tokens] or [f"token {s}" for s in range(grid.S)]
    right = LEFT + grid.S * CELL
    shapes = [svg.label(LEFT, 12, f"{grid.S} keys →", size=11, color=theme.MUTED),
              *(svg.label(right + x, TOP - 10, text, size=11, color=theme.MUTED, anchor="end")
                for x, text in ((58, "m"), (108, "l"), (290, "l before × factor + new")))]
    for program in range(grid.programs):
        for column in range(grid.columns):
            shapes.append(_tile(grid, program, column, now, (program, column) in done))
        for query in grid.queries(program):
            shapes += _state(grid, query, now, last.get(program), names[grid.prefix + query], right)
    drawn = svg.drawing(theme.PIXELS, TOP + grid.T * CELL + 6, *shapes, title="tiles of the scores")
    return html.card(_told(grid, now, number, len(steps)) + drawn + _key())


def _tile(grid: Grid, program: int, column: int, now: Step, done: bool) -> str:
    """One tile: its weights if it is at work, else a box that says what became of it."""
    queries, keys, kind = grid.queries(program), grid.keys(column), grid.kind(program, column)
    x, y = LEFT + keys[0] * CELL, TOP + queries[0] * CELL
    wide, high = len(keys) * CELL, len(queries) * CELL
    letter, color = theme.owner(program)
    if (program, column) == (now.program, now.column):
        cells = [_cell(x + j * CELL, y + i * CELL, weight)
                 for i, row in enumerate(now.p) for j, weight in enumerate(row)]
        edge = [(x, y), (x + wide, y), (x + wide, y + high), (x, y + high), (x, y)]
        return "".join(cells) + svg.path(edge, color=theme.VERMILLION, width=3)
    said = "done, its scores are gone" if done else "never touched" if kind == SKIPPED else "to come"
    text = letter if done else "skip" if kind == SKIPPED else ""
    return (f"<g><title>program {letter}, keys {keys[0]} to {keys[-1]}: {kind}, {said}</title>"
            + svg.box(x + 1, y + 1, wide - 2, high - 2, fill=color + "55" if done else "none", radius=2,
                      dashed=kind == SKIPPED, stroke=theme.RULE if kind == SKIPPED else theme.MUTED)
            + svg.label(x + wide / 2, y + high / 2, text, size=12, anchor="middle",
                        color=theme.MUTED if kind == SKIPPED else theme.TEXT) + "</g>")


def _cell(x: float, y: float, weight: float) -> str:
    if weight < 0:
        return svg.box(x, y, CELL, CELL, fill=HIDDEN, stroke=theme.RULE, radius=0, text="−∞", size=9)
    return (f"<g><title>exp(score − m) = {weight:.2f}</title>"
            + svg.box(x, y, CELL, CELL, fill=theme.confidence(round(min(weight, 1.0), 2)), stroke=theme.RULE, radius=0)
            + "</g>")


def _state(grid: Grid, query: int, now: Step, step: Step | None, name: str, right: float) -> list[str]:
    """A query's name, and its running m and l, if its program has begun."""
    y = TOP + (query + 0.5) * CELL
    shapes = [svg.label(LEFT - 6, y, name, size=11, anchor="end", mono=True)]
    if step is None:
        return shapes
    i, mine = query - grid.queries(step.program)[0], step is now
    shapes += [svg.label(right + 58, y, f"{step.m[i]:.2f}", size=11.5, anchor="end", bold=mine),
               svg.label(right + 108, y, f"{step.l[i]:.2f}", size=11.5, anchor="end", bold=mine)]
    if mine and step.m_before[i] > -math.inf:
        factor = math.exp(step.m_before[i] - step.m[i])
        shapes.append(svg.label(right + 290, y, f"{step.l_before[i]:.2f} × {factor:.2f} + "
                                f"{step.l[i] - step.l_before[i] * factor:.2f}", size=11, anchor="end"))
    return shapes


def _told(grid: Grid, step: Step, number: int, count: int) -> str:
    letter, color = theme.owner(step.program)
    badge = (f'<span style="background:{color};color:{theme.ink(color)};border-radius:3px;padding:0 5px">'
             f"{letter}</span>")
    queries, keys = grid.queries(step.program), grid.keys(step.column)
    kind = {FULL: "full: no mask", DIAGONAL: "diagonal: masked"}[step.kind]
    risen = sum(now > before > -math.inf for now, before in zip(step.m, step.m_before, strict=True))
    first = step.m_before[0] == -math.inf
    says = "the first tile" if first else f"m rises in {counted(risen, 'row')}" if risen else "m rises nowhere"
    return (f'<div style="font:13px {theme.FONT}"><b>tile {number + 1} of {count}</b> {badge} program {step.program}: '
            f"queries {queries[0]} to {queries[-1]} against keys {keys[0]} to {keys[-1]}, <b>{kind}</b>; {says}</div>")


def _key() -> str:
    def one(style: str, mark: str, words: str) -> str:
        box = ("display:inline-block;min-width:22px;padding:0 3px;text-align:center;border-radius:2px;"
               f"font:11px/16px {theme.FONT}")
        return f'<span><span style="{box};{style}">{mark}</span> {words}</span>'
    return (f'<div style="display:flex;flex-wrap:wrap;gap:4px 16px;font:12px {theme.FONT};color:{theme.MUTED}">'
            + one(f"border:2px solid {theme.VERMILLION};background:{theme.confidence(0.6)}", "&nbsp;",
                  "at work: darker is a larger exp(score − m)")
            + one(f"background:{HIDDEN};color:{theme.ink(HIDDEN)}", "−∞", "hidden by the mask")
            + one(f"background:{theme.BLUE}55;border:1px solid {theme.MUTED}", "A", "done by program A, scores gone")
            + one(f"border:1px dashed {theme.MUTED}", "skip", "never loaded") + "</div>")


def _word(x: float, y: float, wide: float, high: float, text: str, color: str) -> str:
    """The tile's kind, in its lower left corner, where no border runs; turned where it is narrow."""
    if wide >= 30 and high >= 13:
        return svg.label(x + 6, y + high - 10, text, size=11, color=color)
    if wide >= 11 and high >= 34:
        at = x + wide / 2, y + high - 5
        return f'<g transform="rotate(-90 {at[0]:.1f} {at[1]:.1f})">{svg.label(*at, text, size=10, color=color)}</g>'
    return ""


def overview(grid: Grid) -> str:
    """All tiles at once, told apart by kind, and what the mask saves."""
    size = min(26.0, 330 / max(grid.T, 1), (theme.PIXELS - LEFT - 2) / grid.S)
    styles = {FULL: (theme.BLUE, "full"), DIAGONAL: (theme.ORANGE, "mask"), SKIPPED: ("none", "skip")}
    shapes, words = [], []
    for program in range(grid.programs):
        queries = grid.queries(program)
        y, high = 8 + queries[0] * size, len(queries) * size
        shapes.append(svg.label(LEFT - 8, y + high / 2, f"program {theme.owner(program)[0]}", size=12, anchor="end"))
        for column in range(grid.columns):
            keys, kind = grid.keys(column), grid.kind(program, column)
            fill, text = styles[kind]
            x, wide = LEFT + keys[0] * size, len(keys) * size
            shapes.append(svg.box(x + 1, y + 1, wide - 2, high - 2, fill=fill, radius=2, dashed=kind == SKIPPED))
            words.append(_word(x, y, wide, high, text, theme.ink(fill) if fill != "none" else theme.TEXT))
    corners = [(LEFT, 8.0)]
    for query in range(grid.T):                                         # the border of what may be seen
        x, y = LEFT + (grid.prefix + query + 1) * size, 8 + query * size
        corners += [(x, y), (x, y + size)]
    shapes += [svg.path(corners[1:], color=theme.LIGHT, width=4), svg.path(corners[1:], color=theme.DARK, width=1.6)]
    drawn = svg.drawing(theme.PIXELS, 14 + grid.T * size, *shapes, *words, title="kinds of tiles")
    n = grid.count()
    total, loaded = sum(n.values()), n[FULL] + n[DIAGONAL]
    caption = (f"{grid.T} queries after {grid.prefix} cached keys, {grid.rows} queries a program, {grid.tile} keys a "
               f"tile: {n[FULL]} full, {n[DIAGONAL]} with a mask, {n[SKIPPED]} skipped; {loaded} of {total} tiles are "
               f"computed ({loaded / total:.0%}). Right of the line lies the future.")
    return html.card(drawn, caption=caption)
