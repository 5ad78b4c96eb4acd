"""Bytes that a softmax of rows moves, pass by pass: the five kernels of the naive way, and the fused one.

    widgets.explorer(lambda power: row_traffic.view(2**power), power=(6, 17, 12))
"""
from dataclasses import dataclass

from minilm.viz import html, svg, theme
from minilm.viz.roofline import duration, short

READ, WRITTEN = theme.BLUE, theme.ORANGE
LEFT, ROW, BAR = 118, 27, 18


@dataclass(frozen=True)
class Sweep:
    """One pass over memory. read, written: in numbers, not bytes."""

    name: str
    read: int
    written: int

    @property
    def moved(self) -> int:
        return self.read + self.written


def naive(M: int, N: int) -> list[Sweep]:
    """Softmax of M rows of N numbers, an operation a kernel: each reads what the one before it wrote."""
    return [Sweep("m = max(x)", M * N, M), Sweep("d = x - m", M * N + M, M * N), Sweep("e = exp(d)", M * N, M * N),
            Sweep("l = sum(e)", M * N, M), Sweep("e / l", M * N + M, M * N)]


def fused(M: int, N: int, longest: int | None = None) -> list[Sweep]:
    """The same in one kernel; a row beyond the `longest` tile (the package's) is walked for m and l, then read."""
    from minilm.kernels.softmax import LONGEST_TILE

    if N <= (longest or LONGEST_TILE):
        return [Sweep("all at once", M * N, M * N)]
    return [Sweep("m, l by tiles", M * N, 0), Sweep("exp(x - m) / l", M * N, M * N)]


def moved(sweeps: list[Sweep], size: int = 1) -> int:
    """Bytes in all, numbers of `size` bytes."""
    return size * sum(sweep.moved for sweep in sweeps)


def view(N: int, M: int = 4096, size: int = 2, rate: float = 3.0e12) -> str:
    """Bars for both ways, of M rows of N numbers. size: bytes a number.  rate: bytes/s of the memory."""
    ways = {"naive": naive(M, N), "fused": fused(M, N)}
    longest = max(sweep.moved for sweep in ways["naive"])
    shapes, y = [], 4.0
    for name, sweeps in ways.items():
        total = moved(sweeps, size)
        shapes.append(svg.label(0, y + 8, f"{name}: {len(sweeps)} kernel{'s' * (len(sweeps) > 1)}" if name == "naive"
                                else f"fused: 1 kernel, the row read {'once' if len(sweeps) == 1 else 'twice'}",
                                size=13, bold=True))
        shapes.append(svg.label(theme.PIXELS, y + 8, f"{short(total)}B, at least {duration(total / rate)}", size=13,
                                anchor="end", bold=True))
        y += 20
        for sweep in sweeps:
            shapes.append(_bar(sweep, y, (theme.PIXELS - LEFT) / longest, size))
            y += ROW
        y += 10
    ratio = moved(ways["naive"]) / moved(ways["fused"])
    caption = (f"{M:,} rows of {N:,} numbers of {size} bytes: fused moves {ratio:.1f} times less. Times at "
               f"{rate / 1e12:.1f} TB/s, an H100's measured copy rate.")
    if moved(ways["fused"], size) < 50e6:
        caption += (" So small a matrix may stay in the chip's 50 MB cache between kernels: then launches cost more "
                    "than bytes.")
    return html.card(_key() + svg.drawing(theme.PIXELS, y, *shapes, title="bytes moved by softmax"), caption=caption)


def _bar(sweep: Sweep, y: float, pixels: float, size: int) -> str:
    """What a pass reads, then what it writes."""
    shapes, x = [svg.label(LEFT - 8, y + BAR / 2, sweep.name, size=11.5, anchor="end", mono=True)], float(LEFT)
    for count, color, mark, said in ((sweep.read, READ, "→", "read"), (sweep.written, WRITTEN, "←", "written")):
        wide = count * pixels
        if wide < 0.4:
            continue
        text = f"{mark} {short(count * size)}B"
        fits = len(text) * 6.6 < wide
        shapes.append(f"<g><title>{sweep.name}: {short(count * size)}B {said}</title>"
                      + svg.box(x, y, wide, BAR, fill=color, stroke=theme.MUTED, radius=0, text=text if fits else "",
                                size=11) + "</g>")
        x += wide
    return "".join(shapes)


def _key() -> str:
    def one(color: str, mark: str, words: str) -> str:
        style = (f"display:inline-block;min-width:20px;text-align:center;background:{color};color:{theme.ink(color)};"
                 f"border-radius:2px;font:11px/16px {theme.FONT}")
        return f'<span><span style="{style}">{mark}</span> {words}</span>'
    return (f'<div style="display:flex;gap:16px;font:12px {theme.FONT};color:{theme.MUTED};margin-bottom:4px">'
            + one(READ, "→", "read from memory") + one(WRITTEN, "←", "written to memory") + "</div>")
