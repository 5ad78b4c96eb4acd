"""Idle and busy multiprocessors of one decode step, with and without splits: a column each, time running down.

    launch = multiprocessors.Launch([4096] * 2, kv_heads=8, splits=4)
    multiprocessors.view(launch)
    widgets.explorer(lambda batch, context_2_to_the, splits: multiprocessors.view(
        multiprocessors.Launch([2**context_2_to_the] * batch, splits=splits)), batch=(1, 64, 1), ...)

The model behind it: a multiprocessor reads at most its share of the memory's rate, one program at a time, and a program
takes as long as its keys and values take to be read. No launch, no merge: those are measured, not drawn.
"""
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.text import counted
from minilm.viz import html, svg, theme
from minilm.viz.roofline import duration

LEFT, TOP, HIGH = 34, 6, 200         # pixels: where the columns begin, and how high the plot is
MOST = 4096                          # programs that are drawn


@dataclass(frozen=True)
class Program:
    """One program: which row of the batch and which of its splits, where and when it runs (seconds)."""

    row: int
    split: int
    processor: int
    start: float
    stop: float


@dataclass(frozen=True)
class Launch:
    """lengths: keys of each row. splits: pieces of each row; or split_size: keys in a piece, wherever it stands.

    key_bytes: of one key and its value, in one key-value head. rate: bytes/s of the memory.
    """

    lengths: Sequence[int]
    kv_heads: int = 8
    splits: int = 1
    split_size: int = 0
    processors: int = 132
    key_bytes: int = 2 * 128 * 2
    rate: float = 3.0e12

    def __post_init__(self) -> None:
        least = min(len(self.lengths), self.kv_heads, self.splits, self.processors)
        if least < 1 or self.split_size < 0 or min(self.lengths) < 1:
            raise ValueError("give rows of at least one key, and at least one key-value head, split and multiprocessor")

    def pieces(self) -> list[tuple[int, int, int]]:
        """(row, split, keys) of every program that has keys, in the order of the grid."""
        found = []
        for row, length in enumerate(self.lengths):
            size = self.split_size or -(-length // self.splits)
            keys = [min(size, length - first) for first in range(0, length, size)]
            found += [(row, split, n) for _ in range(self.kv_heads) for split, n in enumerate(keys)]
        return found

    def programs(self) -> list[Program]:
        """Where and when each runs: the next program goes to the multiprocessor that is free first."""
        free = [(0.0, p) for p in range(self.processors)]
        second = self.key_bytes / (self.rate / self.processors)     # a key's
        ran = []
        for row, split, keys in self.pieces():
            start, processor = heapq.heappop(free)
            ran.append(Program(row, split, processor, start, start + keys * second))
            heapq.heappush(free, (ran[-1].stop, processor))
        return ran


@dataclass(frozen=True)
class Summary:
    """seconds: of the slowest multiprocessor. busy: share of all multiprocessors' time. used: how many ever work."""

    programs: int
    used: int
    seconds: float
    busy: float


def summary(launch: Launch) -> Summary:
    """What the picture shows, in numbers."""
    ran = launch.programs()
    end = max(program.stop for program in ran)
    work = sum(program.stop - program.start for program in ran)
    return Summary(len(ran), len({program.processor for program in ran}), end, work / (end * launch.processors))


def view(launch: Launch, *, against: float | None = None, caption: bool = True) -> str:
    """The launch as columns. against: seconds of another launch, whose end is marked if it comes later, in the same
    scale. caption=False: another picture beside it explains the marks."""
    told, ran = summary(launch), launch.programs()
    if told.programs > MOST:
        return html.card(_told(launch, told), caption=f"{told.programs:,} programs: more than can be drawn.")
    wide, scale = (theme.PIXELS - LEFT) / launch.processors, HIGH / max(against or 0.0, told.seconds)
    bottom = TOP + told.seconds * scale
    shapes = [f'<rect x="{LEFT}" y="{TOP}" width="{theme.PIXELS - LEFT}" height="{bottom - TOP:.1f}" '
              f'style="fill:{theme.RULE}"/>',
              svg.label(LEFT - 5, TOP + 7, "0", size=10.5, anchor="end", color=theme.MUTED),
              svg.line(LEFT, bottom, theme.PIXELS, bottom, color=theme.VERMILLION),
              svg.label(LEFT, bottom + 10, f"done after {duration(told.seconds)}", size=11.5, bold=True)]
    if against and against * scale > told.seconds * scale + 30:
        end = TOP + against * scale
        shapes += [svg.line(LEFT, end, theme.PIXELS, end, dashed=True),
                   svg.label(theme.PIXELS, end - 10, f"the other ends here, after {duration(against)}", size=11.5,
                             anchor="end", color=theme.MUTED)]
    for kind in sorted({_shade(launch, program) for program in ran}):
        mine = [program for program in ran if _shade(launch, program) == kind]
        shapes.append(_columns(mine, wide, scale, *_color(kind)))
    letters = {}
    for program in ran:                                             # a letter where a row begins
        letters.setdefault(program.row, program)
    if len(launch.lengths) <= 26 and wide > 4:
        shapes += [svg.label(LEFT + program.processor * wide + 1, TOP + program.start * scale + 9,
                             theme.owner(row)[0], size=11, bold=True, color=theme.ink(theme.owner(row)[1]))
                   for row, program in letters.items() if (program.stop - program.start) * scale > 14]
    idle = launch.processors - told.used
    if idle * wide > 60:
        shapes.append(svg.label(theme.PIXELS - idle * wide / 2, TOP + (bottom - TOP) / 2, f"{idle} idle", size=13,
                                anchor="middle"))
    drawn = svg.drawing(theme.PIXELS, TOP + HIGH + 24, *shapes, title="busy multiprocessors")
    return html.card(_told(launch, told) + drawn, caption=_caption(launch) if caption else "")


def _columns(programs: Sequence[Program], wide: float, scale: float, color: str, opacity: float) -> str:
    """All programs of one colour as one path; a gap of 0.6 pixels tells neighbours apart."""
    gap = 0.6 if wide > 2.5 else 0
    d = "".join(f"M{LEFT + p.processor * wide:.1f} {TOP + p.start * scale:.1f}h{wide - gap:.1f}"
                f"v{max((p.stop - p.start) * scale - gap, 0.4):.1f}h-{wide - gap:.1f}z" for p in programs)
    return f'<path d="{d}" style="fill:{color};fill-opacity:{opacity}"/>'


def _shade(launch: Launch, program: Program) -> tuple[int, int]:
    """(owner's colour, light or dark): neighbouring splits of a row are told apart by lightness."""
    return program.row % 7, program.split % 2


def _color(kind: tuple[int, int]) -> tuple[str, float]:
    return theme.owner(kind[0])[1], 0.6 if kind[1] else 1.0


def _told(launch: Launch, told: Summary) -> str:
    keys = sorted(set(launch.lengths))
    rows = f"{counted(len(launch.lengths), 'row')} of {keys[0]:,}" + (f" to {keys[-1]:,}" if len(keys) > 1 else "")
    how = (f"splits of {launch.split_size:,} keys" if launch.split_size else
           counted(launch.splits, "split") + " a row")
    where = f"on {told.used} of {launch.processors} multiprocessors"
    if told.programs > launch.processors and len(keys) == 1:
        where = f"in {-(-told.programs // launch.processors)} waves {where}"
    return (f'<div style="font:13px {theme.FONT};margin-bottom:4px">{rows} keys × {launch.kv_heads} key-value heads, '
            f"{how}: <b>{told.programs:,} programs</b> {where}, <b>{told.busy:.0%} busy</b></div>")


def _caption(launch: Launch) -> str:
    return (f"A column is a multiprocessor, a box a program, its height the time to read its keys and values at a "
            f"{launch.processors}th of {launch.rate / 1e12:.1f} TB/s. A colour is a row of the batch; its splits are "
            f"light and dark by turns. Grey: idle.")
