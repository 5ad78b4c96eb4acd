"""The blocks and who owns them, step by step: colour and letter for an owner, the tables beside the pool.

    widgets.player(block_view.frames(block_trace.record(engine), tokenizer), label="step")
"""
from collections.abc import Sequence
from html import escape

from minilm.viz import html, svg, theme
from minilm.viz.block_trace import Shot, Table, letters
from minilm.viz.block_words import copy_of, told

COLUMNS, WIDE, HEAD, LINE, GAP, FOOT = 6, 66, 17, 13, 7, 15     # pixels: a block, its head, a token, between blocks
RIGHT = COLUMNS * (WIDE + GAP) + 16                         # where the tables begin
CELL, ROW = 25, 35


def frames(shots: Sequence[Shot], tokenizer) -> list[str]:
    """One picture for each step that a recorded engine made."""
    if len(shots) < 2:
        raise ValueError("nothing was recorded: run the engine after block_trace.record(engine)")
    places = letters(shots)
    return [frame(before, after, n, places, tokenizer) for n, (before, after) in
            enumerate(zip(shots, shots[1:], strict=False), start=1)]


def frame(before: Shot, after: Shot, number: int, places: dict[str, int], tokenizer) -> str:
    """What a step did, in words; then the pool at the left, the tables at the right."""
    lines = told(before, after, places)
    fed = sum(count for _, count in after.batch)
    head = (f'<div style="font:13px/1.5 {theme.FONT};min-height:104px"><b>step {number}</b> '
            f'<span style="color:{theme.MUTED}">{fed} token{"" if fed == 1 else "s"} fed · {after.used} of '
            f"{len(after.references)} blocks used, {after.held} tokens in {after.used * after.block_size} places</span>"
            + "".join(f'<div style="padding-left:10px">{line}</div>' for line in lines) + "</div>")
    pool, depth = _pool(before, after, places, tokenizer)
    tables, deep = _tables(after, places, tokenizer)
    return html.card(head + svg.drawing(theme.PIXELS, max(depth, deep) + 4, *pool, *tables, title="blocks and tables"))


# --- the pool --------------------------------------------------------------------------------------------------------

def _pool(before: Shot, after: Shot, places: dict[str, int], tokenizer) -> tuple[list[str], float]:
    high = HEAD + LINE * after.block_size + 4
    corner = lambda block: (block % COLUMNS * (WIDE + GAP), 22 + block // COLUMNS * (high + FOOT))    # noqa: E731
    shapes = [svg.label(0, 9, f"physical blocks of {after.block_size} tokens", size=12, bold=True)]
    for block, count in enumerate(after.references):
        owners = [places[table.name] for table in after.tables if block in table.blocks]
        was = before.places[block] if count else ()
        same = after.places[block][: len(was)] == was
        shapes.append(_block(*corner(block), high, block, owners, after.places[block], len(was) if same else 0,
                             after.block_size, tokenizer))
    for what, who in after.events:
        pair = copy_of(before, after, who) if what == "copy" else None
        if pair:
            shapes += _copy(corner(pair[0]), corner(pair[1]), high, pair[0])
    rows = -(-len(after.references) // COLUMNS)
    return shapes, 22 + rows * (high + FOOT)


def _block(x: float, y: float, high: float, block: int, owners: list[int], tokens: tuple[int, ...], old: int, size: int,
           tokenizer) -> str:
    """A block: its number and owners at the head, its tokens below, those of this step marked."""
    words = html.texts(tokenizer, tokens)
    names = " and ".join(theme.owner(place)[0] for place in owners)
    state = f"of {names}" if owners else "free; may be found again" if tokens else "free"
    shapes = [f"<title>block {block}, {state}: {escape(' '.join(map(html.visible, words)))}</title>"]
    share = WIDE / max(len(owners), 1)
    for i, place in enumerate(owners):
        letter, color = theme.owner(place)
        shapes += [svg.box(x + share * i, y, share, HEAD, fill=color, stroke="none", radius=0),
                   svg.label(x + share * (i + 0.5) + 6 * (i == 0), y + HEAD / 2, letter, size=12, bold=True,
                             anchor="middle", color=theme.ink(color))]
    if owners:
        shapes.append(svg.label(x + 3, y + HEAD / 2, str(block), size=9, color=theme.ink(theme.owner(owners[0])[1])))
    else:
        shapes.append(svg.label(x + 3, y + HEAD / 2, f"{block} free" + (", kept" if tokens else ""), size=9.5,
                                color=theme.MUTED))
    room = int((WIDE - 5) / 5.6)
    for i in range(size):
        top = y + HEAD + 2 + LINE * i
        if i < len(words):
            new = bool(owners) and i >= old
            if new:
                shapes.append(svg.box(x + 1.5, top, WIDE - 3, LINE, fill=theme.YELLOW, stroke="none", radius=2))
            word = html.visible(words[i])
            shapes.append(svg.label(x + 4, top + LINE / 2, word if len(word) <= room else word[: room - 1] + "…",
                                    size=9.3, mono=True,
                                    color=theme.DARK if new else theme.TEXT if owners else theme.MUTED))
        elif owners:
            shapes.append(svg.line(x + 4, top + LINE - 3, x + WIDE - 4, top + LINE - 3, color=theme.RULE, width=1))
    shapes.append(svg.box(x, y, WIDE, high, stroke=theme.MUTED if owners else theme.RULE, dashed=not owners, radius=2))
    return f'<g{"" if owners else " opacity=" + chr(34) + ".75" + chr(34)}>' + "".join(shapes) + "</g>"


def _copy(source: tuple[float, float], target: tuple[float, float], high: float, block: int) -> list[str]:
    """Frames round a block and its copy, and a word below the copy."""
    frames = [svg.path([(x, y), (x + WIDE, y), (x + WIDE, y + high), (x, y + high), (x, y)], color=theme.VERMILLION,
                       width=2.5, dashed=dashed) for (x, y), dashed in ((source, True), (target, False))]
    return [*frames, svg.label(target[0], target[1] + high + 7, f"⧉ copy of {block}", size=9.5, bold=True,
                               color=theme.VERMILLION)]


# --- the tables ------------------------------------------------------------------------------------------------------

def _tables(shot: Shot, places: dict[str, int], tokenizer) -> tuple[list[str], float]:
    shapes, y = [svg.label(RIGHT, 9, "block tables", size=12, bold=True)], 22.0
    for table in shot.tables:
        shapes += _table(table, y, places[table.name], shot.block_size, tokenizer)
        y += ROW
    if not shot.tables:
        shapes.append(svg.label(RIGHT, y + 10, "nobody runs", size=11, color=theme.MUTED))
        y += ROW
    for who, blocks in shot.host:
        shapes += [svg.label(RIGHT, y + 8, "host memory", size=12, bold=True), *_letter(places[who], RIGHT, y + 17)]
        shapes += [svg.box(RIGHT + 24 + CELL * i, y + 17, CELL - 3, 17, fill=theme.owner(places[who])[1] + "55",
                           dashed=True) for i in range(blocks)]
        y += ROW + 12
    if shot.waiting:
        shapes.append(svg.label(RIGHT, y + 9, "waiting", size=12, bold=True))
        for i, who in enumerate(shot.waiting):
            shapes += _letter(places[who], RIGHT + 56 + 24 * i, y)
        y += 24
    return shapes, y


def _table(table: Table, y: float, place: int, size: int, tokenizer) -> list[str]:
    """An owner's row: a cell for each block with its number, filled as far as tokens go; below, the text's end."""
    color = theme.owner(place)[1]
    shapes = _letter(place, RIGHT, y)
    for i, block in enumerate(table.blocks):
        x, filled = RIGHT + 24 + CELL * i, min(1.0, (table.length - i * size) / size)
        shapes += [svg.box(x, y, (CELL - 3) * filled, 17, fill=color + "55", stroke="none", radius=1),
                   svg.box(x, y, CELL - 3, 17, text=str(block), size=11, radius=2)]
    end = html.texts(tokenizer, table.text[-4:])
    words = "…" + "".join(html.visible(word) for word in end[:-1])
    shapes += [svg.label(RIGHT + 24, y + 25, words[-22:], size=9.3, mono=True, color=theme.MUTED),
               svg.label(RIGHT + 24 + 5.7 * min(len(words), 22), y + 25,
                         "▸" + html.visible(end[-1]), size=9.3, mono=True, bold=True)]
    return shapes


def _letter(place: int, x: float, y: float) -> list[str]:
    letter, color = theme.owner(place)
    return [svg.box(x, y, 18, 17, fill=color, stroke="none", text=letter, size=12)]
