"""The running maximum and the running sum along a row, tile by tile: the bridge from softmax to FlashAttention.

    steps = running.walk(logits, 4)
    widgets.player(running.frames(logits, steps), label="tile")
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.viz import html, svg, theme

NOW, OLD, CORRECTED, ADDED = theme.YELLOW, theme.SKY, theme.BLUE, theme.ORANGE
LEFT, TOP, PLOT, METER = 66, 14, 150, 206       # pixels: where the bars begin, the plot's top and height, the sum's top


@dataclass(frozen=True)
class Step:
    """One tile: from (m_before, l_before) to (m, l). factor: exp(m_before - m). added: sum of the tile's exp(x - m)."""

    start: int
    stop: int
    m_before: float
    l_before: float
    m: float
    l: float
    factor: float
    added: float


def walk(row: Sequence[float], tile: int) -> list[Step]:
    """The online softmax of Milakov & Gimelshein 2018, algorithm 3, a tile at a time. Raises ValueError if empty."""
    if not len(row) or tile < 1:
        raise ValueError("give a row of at least one number, and a tile of at least one")
    steps, m, l = [], -math.inf, 0.0
    for start in range(0, len(row), tile):
        part = row[start: start + tile]
        m_new = max(m, *part)
        factor, added = math.exp(m - m_new), sum(math.exp(x - m_new) for x in part)
        steps.append(Step(start, start + len(part), m, l, m_new, l * factor + added, factor, added))
        m, l = m_new, steps[-1].l
    return steps


def frames(row: Sequence[float], steps: Sequence[Step]) -> list[str]:
    """A picture for each tile."""
    return [frame(row, steps, number) for number in range(len(steps))]


def frame(row: Sequence[float], steps: Sequence[Step], number: int) -> str:
    """After tile `number`: the row with its maximum so far; below, the sum: corrected, then added to."""
    if not 0 <= number < len(steps):
        raise ValueError(f"there are tiles 0 to {len(steps) - 1}, not {number}")
    step = steps[number]
    shapes = [*_row(row, step), *_meter(step, max(max(s.l, s.l_before) for s in steps))]
    drawn = svg.drawing(theme.PIXELS, METER + 78, *shapes, title="running maximum and sum")
    return html.card(_told(step, number, len(steps)) + drawn)


def _row(row: Sequence[float], step: Step) -> list[str]:
    """Bars of the logits; what was read, what is read now, what is to come; the maximum as a line."""
    low, high = min(0.0, *row), max(0.0, *row)
    wide = (theme.PIXELS - LEFT - 70) / len(row)
    at = lambda value: TOP + PLOT * (high - value) / ((high - low) or 1.0)      # noqa: E731
    shapes = [svg.label(LEFT - 8, at(0), "0", size=11, anchor="end", color=theme.MUTED),
              svg.line(LEFT, at(0), LEFT + wide * len(row), at(0), color=theme.RULE, width=1)]
    for i, value in enumerate(row):
        now, read = step.start <= i < step.stop, i < step.start
        y = min(at(value), at(0))
        state = "in this tile" if now else "read before" if read else "not read yet"
        shapes.append(f"<g><title>x[{i}] = {value:.2f}, {state}</title>"
                      + svg.box(LEFT + wide * i + 1, y, wide - 2, max(abs(at(value) - at(0)), 1.5), radius=1,
                                fill=NOW if now else theme.GREY if read else "none", dashed=not (now or read)) + "</g>")
    x0, x1 = LEFT + wide * step.start, LEFT + wide * step.stop
    shapes += [svg.line(x0 + 1, TOP + PLOT + 8, x1 - 1, TOP + PLOT + 8, color=theme.MUTED, width=2.5),
               svg.label((x0 + x1) / 2, TOP + PLOT + 19, "this tile", size=11, anchor="middle")]
    y, right = at(step.m), LEFT + wide * len(row)
    if -math.inf < step.m_before < step.m:
        old = at(step.m_before)
        shapes += [svg.line(LEFT, old, right, old, dashed=True),
                   svg.label(right + 6, max(old, y + 14), f"old m {step.m_before:.2f}", size=11.5, color=theme.MUTED)]
    return [*shapes, svg.line(LEFT, y, right, y, color=theme.VERMILLION),
            svg.label(right + 6, y, f"m {step.m:.2f}", size=11.5, bold=True)]


def _meter(step: Step, most: float) -> list[str]:
    """Two bars on one scale: l as it was, and l now in its two parts."""
    pixels = (theme.PIXELS - LEFT - 160) / most
    kept = step.l_before * step.factor
    shapes = [svg.label(LEFT - 8, METER + 10, "l before", size=11.5, anchor="end"),
              svg.label(LEFT - 8, METER + 42, "l now", size=11.5, anchor="end", bold=True)]
    if step.l_before:
        shapes.append(svg.box(LEFT, METER, step.l_before * pixels, 20, fill=OLD, radius=0, dashed=True))
    shapes.append(svg.label(LEFT + step.l_before * pixels + 6, METER + 10, f"{step.l_before:.3f}", size=11.5))
    if kept * pixels > 0.5:
        shapes.append(svg.box(LEFT, METER + 32, kept * pixels, 20, fill=CORRECTED, radius=0,
                              text="× " + _small(step.factor) if kept * pixels > 60 else "", size=11))
        if step.factor < 1:
            shapes.append(svg.line(LEFT + step.l_before * pixels, METER + 20, LEFT + kept * pixels, METER + 32,
                                   dashed=True, width=1))
    shapes.append(svg.box(LEFT + kept * pixels, METER + 32, max(step.added * pixels, 1), 20, fill=ADDED, radius=0,
                          text="+ tile" if step.added * pixels > 44 else "", size=11))
    shapes.append(svg.label(LEFT + step.l * pixels + 6, METER + 42, f"{kept:.3f} + {step.added:.3f} = {step.l:.3f}",
                            size=11.5, bold=True))
    return shapes


def _told(step: Step, number: int, count: int) -> str:
    """The step in one line."""
    if step.m_before == -math.inf:
        says = "the first tile: nothing to correct"
    elif step.factor < 1:
        says = (f"m rises from {step.m_before:.2f} to {step.m:.2f}: what was summed is multiplied by "
                f"exp({step.m_before:.2f} − {step.m:.2f}) = {_small(step.factor)}")
    else:
        says = f"m stays {step.m:.2f}: nothing to correct"
    return f'<div style="font:13px {theme.FONT}"><b>tile {number + 1} of {count}</b> {says}</div>'


def _small(factor: float) -> str:
    return f"{factor:.3f}" if factor >= 0.001 else f"{factor:.0e}"
