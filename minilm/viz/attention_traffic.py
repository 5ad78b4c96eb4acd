"""Bytes that attention moves: scores written and read, kernel by kernel, against tiles that never leave the chip.

    widgets.explorer(lambda length: attention_traffic.view(2**length), length=(9, 17, 12))
"""
from dataclasses import dataclass

from minilm.text import counted
from minilm.viz import html, svg, theme
from minilm.viz.roofline import duration, short

READ, WRITTEN, KEPT = theme.BLUE, theme.ORANGE, theme.SKY
LEFT, ROW, BAR = 170, 27, 18


@dataclass(frozen=True)
class Sweep:
    """One kernel, or one way to count it. In numbers; cached: reads that a cache may answer in place of memory."""

    name: str
    read: int
    written: int
    cached: int = 0

    @property
    def moved(self) -> int:
        return self.read + self.cached + self.written


def naive(T: int, D: int) -> list[Sweep]:
    """One head, no mask (FlashAttention, algorithm 0): scores to memory, softmax there and back, times the values."""
    return [Sweep("scores = q kᵀ", 2 * T * D, T * T), Sweep("p = softmax(scores)", T * T, T * T),
            Sweep("p v", T * T + T * D, T * D)]


def tiled(T: int, D: int, rows: int) -> Sweep:
    """One head in one kernel: `rows` queries a program, each program reads all keys and values.

    The first program's reads must come from memory; those of the others may be answered by the cache.
    """
    programs = -(-T // rows)
    return Sweep("all at once", 3 * T * D, T * D, cached=(programs - 1) * 2 * T * D)


def intensity(T: int, D: int, numbers: int, size: int = 2) -> float:
    """FLOP a byte: 4 T² D, for two products of T × T × D multiplications and additions, over what is moved."""
    return 4 * T * T * D / (numbers * size)


def view(T: int, D: int = 128, rows: int = 128, heads: int = 32, size: int = 2, rate: float = 3.0e12) -> str:
    """Bars for both ways. size: bytes a number. rate: bytes/s of the memory."""
    if min(T, D, rows, heads) < 1:
        raise ValueError(f"T, D, rows and heads must be at least 1, not {T}, {D}, {rows}, {heads}")
    plain, one = naive(T, D), tiled(T, D, rows)
    total = sum(sweep.moved for sweep in plain)
    pixels = (theme.PIXELS - LEFT) / max(*(sweep.moved for sweep in plain), one.moved)
    weight = heads * size                                               # bytes for each number of one head
    shapes = [*_head(6, "naive: 3 kernels", total, T, D, weight, size, rate)]
    y = 22.0
    for sweep in plain:
        shapes.append(_bar(sweep, y, pixels, weight))
        y += ROW
    name = f"tiled: 1 kernel, {counted(-(-T // rows), 'program')} a head"
    shapes += _head(y + 14, name, one.read + one.written, T, D, weight, size, rate)
    y += 30
    shapes.append(_bar(one, y, pixels, weight))
    asked = intensity(T, D, one.moved, size)
    caption = (f"{heads} heads of {D}, {T:,} tokens, {size} bytes a number, no mask. One head's scores alone: "
               f"{short(T * T * size)}B, all heads': {short(T * T * weight)}B. If no cache helped "
               f"and all programs' reads counted, tiled would move {short(one.moved * weight)}B, {asked:.0f} FLOP a "
               f"byte. Times at {rate / 1e12:.1f} TB/s, an H100's measured copy rate; its ridge is at some "
               "270 FLOP a byte.")
    return html.card(_key() + svg.drawing(theme.PIXELS, y + ROW, *shapes, title="bytes moved by attention"),
                     caption=caption)


def _head(y: float, name: str, moved: int, T: int, D: int, weight: int, size: int, rate: float) -> list[str]:
    """A way's name, and what it costs."""
    cost = (f"{short(moved * weight)}B, {intensity(T, D, moved, size):,.0f} FLOP a byte, at least "
            f"{duration(moved * weight / rate)}")
    return [svg.label(0, y, name, size=13, bold=True),
            svg.label(theme.PIXELS, y, cost, size=13, anchor="end", bold=True)]


def _bar(sweep: Sweep, y: float, pixels: float, weight: int) -> str:
    """What is read, read again through the cache, and written."""
    shapes, x = [svg.label(LEFT - 8, y + BAR / 2, sweep.name, size=11.5, anchor="end", mono=True)], float(LEFT)
    for count, color, mark, said in ((sweep.read, READ, "→", "read"), (sweep.written, WRITTEN, "←", "written"),
                                     (sweep.cached, KEPT, "⟳", "read again, from the cache if it is there")):
        wide = count * pixels
        if wide < 0.4:
            continue
        text = f"{mark} {short(count * weight)}B"
        shapes.append(f"<g><title>{sweep.name}: {short(count * weight)}B {said}</title>"
                      + svg.box(x, y, wide, BAR, fill=color, stroke=theme.MUTED, radius=0, dashed=color == KEPT,
                                text=text if len(text) * 6.6 < wide else "", size=11) + "</g>")
        x += wide
    return "".join(shapes)


def _key() -> str:
    def one(color: str, mark: str, words: str) -> str:
        style = (f"display:inline-block;min-width:20px;text-align:center;background:{color};color:{theme.ink(color)};"
                 f"border-radius:2px;font:11px/16px {theme.FONT}")
        return f'<span><span style="{style}">{mark}</span> {words}</span>'
    return (f'<div style="display:flex;flex-wrap:wrap;gap:4px 16px;font:12px {theme.FONT};color:{theme.MUTED};'
            'margin-bottom:4px">' + one(READ, "→", "read from memory") + one(WRITTEN, "←", "written to memory")
            + one(KEPT, "⟳", "the same keys and values, read by the other programs") + "</div>")
