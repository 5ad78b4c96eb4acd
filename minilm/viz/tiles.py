"""Which program of a Triton kernel touches which places of memory: lanes above, memory below, masked lanes told apart.

    programs = tiles.vector(19, 8)                      # ceil(19 / 8) programs, one tile of 8 lanes each
    widgets.player(tiles.frames(programs), label="program")
    tiles.rows(3, 5, 8, row=7)                          # a program a row: 5 numbers, rows begin 7 places apart

A program has a colour and a letter, as owners of blocks have in lesson 08.
"""
from dataclasses import dataclass
from html import escape

from minilm.text import counted
from minilm.viz import html, svg, theme

WRONG = theme.VERMILLION
LEFT, LANES, MEMORY, HIGH = 66, 26, 84, 26      # pixels: where the cells begin, the two rows' tops, a cell's height


@dataclass(frozen=True)
class Program:
    """One program: lanes 0 to tile - 1 stand at places start, start + 1, ...; the first `count` of them are inside."""

    number: int
    start: int
    tile: int
    count: int

    def inside(self) -> range:
        """The places that are this program's to read and to write."""
        return range(self.start, self.start + self.count)


@dataclass(frozen=True)
class Launch:
    """All programs of a launch over flat memory. rows: each row's places; what lies elsewhere is nobody's here."""

    programs: tuple[Program, ...]
    rows: tuple[range, ...]
    offsets: str            # how a program finds its places, as in the kernel: "p · 8 + lane"
    mask: str               # "offsets < 19"

    @property
    def places(self) -> int:
        """How much memory to draw: all that some lane stands at."""
        return max(max(p.start + p.tile for p in self.programs), max(row.stop for row in self.rows))


def vector(N: int, tile: int) -> Launch:
    """A vector of N numbers in tiles. Raises ValueError where Triton would: a tile is a power of two."""
    _check(tile, N=N)
    programs = tuple(Program(p, p * tile, tile, min(tile, N - p * tile)) for p in range(-(-N // tile)))
    return Launch(programs, (range(N),), f"p · {tile} + lane", f"offsets < {N}")


def rows(M: int, N: int, tile: int, row: int | None = None) -> Launch:
    """M rows of N numbers, `row` places apart (default N), one program a row."""
    row = N if row is None else row
    _check(tile, M=M, N=N)
    if tile < N or row < N:
        raise ValueError(f"a row of {N} numbers needs a tile and a distance of at least {N}, not {tile} and {row}")
    programs = tuple(Program(p, p * row, tile, N) for p in range(M))
    return Launch(programs, tuple(range(p * row, p * row + N) for p in range(M)), f"p · {row} + lane", f"lane < {N}")


def _check(tile: int, **sizes: int) -> None:
    if tile < 1 or tile & (tile - 1):
        raise ValueError(f"a tile has a power of two lanes, not {tile}")
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")


def frames(launch: Launch, *, masked: bool = True) -> list[str]:
    """A picture for each program. masked=False: the kernel without its mask, which touches what is not its own."""
    return [frame(launch, number, masked=masked) for number in range(len(launch.programs))]


def frame(launch: Launch, number: int, *, masked: bool = True) -> str:
    """Program `number` at work; what those before it wrote stands in memory (on a GPU they run side by side)."""
    if not 0 <= number < len(launch.programs):
        raise ValueError(f"the grid has programs 0 to {len(launch.programs) - 1}, not {number}")
    program = launch.programs[number]
    wide = min(30.0, (theme.PIXELS - LEFT - 2) / launch.places)
    shapes = [svg.label(LEFT - 8, LANES + HIGH / 2, "lanes", size=12, anchor="end", bold=True),
              svg.label(LEFT - 8, MEMORY + HIGH / 2, "memory", size=12, anchor="end", bold=True)]
    for place in range(launch.places):
        shapes.append(_place(launch, place, number, wide, masked))
    shapes += [_lane(launch, program, lane, wide, masked) for lane in range(program.tile)]
    if len(launch.rows) > 1:
        shapes += [svg.label(LEFT + wide * (row.start + len(row) / 2), MEMORY + HIGH + 22, f"row {i}", size=11,
                             anchor="middle", color=theme.MUTED) for i, row in enumerate(launch.rows)]
    drawn = svg.drawing(theme.PIXELS, MEMORY + HIGH + 32, *shapes, title="lanes of a program over memory")
    return html.card(_told(launch, program, masked) + drawn + _key(masked))


def _lane(launch: Launch, program: Program, lane: int, wide: float, masked: bool) -> str:
    """One lane above its place, with the line down that a load or store takes."""
    letter, color = theme.owner(program.number)
    place, inside = program.start + lane, lane < program.count
    x = LEFT + wide * place
    told = "inside" if inside else "masked: neither loads nor stores" if masked else "outside, and not masked"
    touches = inside or not masked
    fill = color if inside else "none" if masked else WRONG
    shapes = [svg.box(x + 1, LANES, wide - 2, HIGH, fill=fill, dashed=not inside, radius=2,
                      text=str(lane) if inside else "✗" if masked else "!", size=min(12, wide * 0.48))]
    if touches:
        shapes.append(svg.arrow(x + wide / 2, LANES + HIGH + 2, x + wide / 2, MEMORY - 3, width=1.3,
                                color=color if inside else WRONG))
    return f"<g><title>program {letter}, lane {lane}, place {place}: {told}</title>{''.join(shapes)}</g>"


def _place(launch: Launch, place: int, number: int, wide: float, masked: bool) -> str:
    """One place of memory: who has written it by now, or that it is nobody's."""
    x = LEFT + wide * place
    mine = any(place in row for row in launch.rows)
    owner = next((p.number for p in launch.programs[: number + 1] if place in p.inside()), None)
    harmed = not masked and place not in launch.programs[number].inside() and (
        launch.programs[number].start <= place < launch.programs[number].start + launch.programs[number].tile)
    if harmed:
        fill, text = WRONG + "66", "!"
    elif owner is not None:
        letter, color = theme.owner(owner)
        fill, text = (color if owner == number else color + "66"), letter
    else:
        fill, text = ("none", "") if mine else (theme.RULE, "")
    size = min(12, wide * 0.48)
    number_below = place % (1 if wide > 19 else 4) == 0
    said = "another's" if not mine else "not written yet" if owner is None else f"written by {theme.owner(owner)[0]}"
    return (f"<g><title>place {place}: {said}</title>"
            + svg.box(x, MEMORY, wide, HIGH, fill=fill, dashed=not mine, radius=0,
                      stroke=theme.MUTED if mine else theme.RULE)
            + svg.label(x + wide / 2, MEMORY + HIGH / 2, text, size=size, anchor="middle",
                        color=theme.ink(fill) if len(fill) == 7 else theme.TEXT)
            + (svg.label(x + wide / 2, MEMORY + HIGH + 9, str(place), size=min(10, wide * 0.45), anchor="middle",
                         color=theme.MUTED) if number_below else "") + "</g>")


def _told(launch: Launch, program: Program, masked: bool) -> str:
    """The program in one line: its places, and how many lanes the mask switches off."""
    letter, color = theme.owner(program.number)
    off = program.tile - program.count
    last = program.start + program.tile - 1
    badge = (f'<span style="background:{color};color:{theme.ink(color)};border-radius:3px;padding:0 5px">'
             f"{letter}</span>")
    if not off:
        rest = "all inside"
    elif masked:
        rest = f"mask {escape(launch.mask)} switches {counted(off, 'lane')} off"
    else:
        rest = f"no mask: {counted(off, 'lane')} outside of what is its own"
    return (f'<div style="font:13px {theme.FONT}">{badge} <b>program p = {program.number}</b> of '
            f"{len(launch.programs)}: offsets = {escape(launch.offsets)} = {program.start} … {last} "
            f'<span style="color:{theme.MUTED if masked or not off else theme.readable(WRONG)}">{rest}</span></div>')


def _key(masked: bool) -> str:
    def one(style: str, mark: str, words: str) -> str:
        box = f"display:inline-block;min-width:20px;text-align:center;border-radius:2px;font:11px/16px {theme.FONT}"
        return f'<span><span style="{box};{style}">{mark}</span> {words}</span>'
    dark = f"background:{theme.BLUE};color:{theme.ink(theme.BLUE)};border:1px solid {theme.MUTED}"
    off = (one(f"border:1px dashed {theme.MUTED}", "✗", "lane switched off by the mask") if masked else
           one(f"background:{WRONG};color:{theme.ink(WRONG)};border:1px dashed {theme.MUTED}", "!",
               "lane where it must not be"))
    return (f'<div style="display:flex;flex-wrap:wrap;gap:4px 16px;font:12px {theme.FONT};color:{theme.MUTED}">'
            + one(dark, "3", "lane that loads and stores") + off
            + one(f"background:{theme.BLUE}66;border:1px solid {theme.MUTED}", "A", "written by program A")
            + one(f"background:{theme.RULE};border:1px dashed {theme.RULE}", "&nbsp;", "another's memory") + "</div>")
