"""One row's accumulator, tile by tile: the sum of exp(score - m) · value, shrunk whenever m rises, divided at the end.

    steps = rescaled.walk(scores, values, 4)            # scores[S], values[S][D]
    widgets.player(rescaled.frames(scores, steps), label="tile")
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.viz import html, running, svg, theme

OLD, KEPT, NOW = theme.SKY, theme.BLUE, theme.ORANGE
LEFT, TOP, HALF = 66, 26, 66        # pixels: where the bars begin, the plot's top, and from its middle to an edge


@dataclass(frozen=True)
class Step:
    """One tile: the accumulator before it, corrected (before · factor), and with the tile's values added."""

    sums: running.Step
    before: tuple[float, ...]
    kept: tuple[float, ...]
    now: tuple[float, ...]


def walk(scores: Sequence[float], values: Sequence[Sequence[float]], tile: int) -> list[Step]:
    """FlashAttention-2, algorithm 1, lines 8 to 10, for one query. Raises ValueError for empty or unequal lengths."""
    if len(scores) != len(values):
        raise ValueError(f"{len(scores)} scores but {len(values)} values: give a value for each score")
    steps, acc = [], [0.0] * len(values[0]) if values else []
    for s in running.walk(scores, tile):
        kept = [a * s.factor for a in acc]
        weights = [math.exp(score - s.m) for score in scores[s.start: s.stop]]
        now = [a + sum(w * v[d] for w, v in zip(weights, values[s.start: s.stop], strict=True))
               for d, a in enumerate(kept)]
        steps.append(Step(s, tuple(acc), tuple(kept), tuple(now)))
        acc = now
    return steps


def answer(steps: Sequence[Step]) -> list[float]:
    """acc / l after the last tile: the one division."""
    return [a / steps[-1].sums.l for a in steps[-1].now]


def frames(scores: Sequence[float], steps: Sequence[Step]) -> list[str]:
    """A picture for each tile, and one for the division."""
    return [frame(scores, steps, number) for number in range(len(steps) + 1)]


def frame(scores: Sequence[float], steps: Sequence[Step], number: int) -> str:
    """After tile `number`: m and l above, the accumulator below; number = len(steps): divided by l."""
    if not 0 <= number <= len(steps):
        raise ValueError(f"there are frames 0 to {len(steps)}, not {number}")
    sums = [step.sums for step in steps]
    most = max(abs(a) for step in steps for a in (*step.before, *step.now)) or 1.0
    ended = number == len(steps)
    step = steps[-1] if ended else steps[number]
    shapes = [svg.label(0, 10, "the accumulator" if not ended else "the answer: accumulator / l", size=12.5, bold=True),
              svg.label(LEFT - 8, TOP + HALF, "0", size=11, anchor="end", color=theme.MUTED),
              svg.line(LEFT, TOP + HALF, theme.PIXELS - 70, TOP + HALF, color=theme.RULE, width=1)]
    wide = (theme.PIXELS - 70 - LEFT) / len(step.now)
    for d, (before, kept, now) in enumerate(zip(step.before, step.kept, step.now, strict=True)):
        bars = ([(now, OLD, True, "acc"), (now / step.sums.l, theme.GREEN, False, "acc / l")] if ended else
                [(before, OLD, True, "before"), (kept, KEPT, False, "corrected"), (now, NOW, False, "with this tile")])
        shapes += _bars(bars, LEFT + d * wide, wide, most, f"dimension {d}")
    drawn = svg.drawing(theme.PIXELS, TOP + 2 * HALF + 26, *shapes, title="accumulator of one row")
    factor = f"× {step.sums.factor:.3f}" if number else "the first tile: nothing to correct"
    says = (f"one division by l = {step.sums.l:.3f}, after all tiles" if ended else
            f"every number of it is corrected by the same factor as l, {factor}" if number else factor)
    return html.card(running.frame(scores, sums, min(number, len(steps) - 1)) + drawn + _key(ended), caption=says)


def _bars(bars: Sequence[tuple[float, str, bool, str]], x: float, wide: float, most: float, name: str) -> list[str]:
    """The bars of one dimension, side by side, and its value below."""
    each = (wide - 12) / len(bars)
    shapes = []
    for i, (value, color, dashed, said) in enumerate(bars):
        high = max(abs(value) / most * HALF, 1.0)
        y = TOP + HALF - (high if value > 0 else 0)
        shapes.append(f"<g><title>{name}, {said}: {value:.3f}</title>"
                      + svg.box(x + 6 + i * each, y, each - 2, high, fill=color, radius=1, dashed=dashed) + "</g>")
    return [*shapes, svg.label(x + wide / 2, TOP + 2 * HALF + 14, f"{bars[-1][0]:.2f}", size=11, anchor="middle",
                               bold=True)]


def _key(ended: bool) -> str:
    def one(color: str, words: str, dashed: bool = False) -> str:
        line = "dashed" if dashed else "solid"
        return (f'<span><span style="display:inline-block;width:16px;height:11px;background:{color};border:1px {line} '
                f'{theme.MUTED}"></span> {words}</span>')
    pieces = ([one(OLD, "accumulator", True), one(theme.GREEN, "divided by l")] if ended else
              [one(OLD, "before this tile", True), one(KEPT, "corrected"), one(NOW, "with this tile's values")])
    return (f'<div style="display:flex;gap:16px;font:12px {theme.FONT};color:{theme.MUTED}">' + "".join(pieces)
            + "</div>")
