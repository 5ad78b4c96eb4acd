"""The roofline: how fast a pass ran, against how fast this machine lets it run (Williams et al. 2009).

Arithmetic intensity (FLOP per byte moved) to the right, FLOP/s upwards, both on log scales. The slanted line is the
memory's read rate, the flat one the matrix rate; no pass can lie above them.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.bench.cost import Cost
from minilm.bench.limits import Limits
from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

LEFT, RIGHT, TOP, BOTTOM = 66, 700, 16, 300      # the plot inside the SVG view, pixels
WIDTH, HEIGHT = 740, 348
MARKERS = {"prefill": "s", "decode": "o"}


@dataclass(frozen=True)
class Point:
    """One measured pass. name: short, beside the dot.  role: "prefill" or "decode".  seconds: of the whole pass."""

    name: str
    role: str
    cost: Cost
    seconds: float

    @property
    def flops_per_second(self) -> float:
        return self.cost.flops / self.seconds


def of_roof(limits: Limits, point: Point) -> float:
    """Share of what the roof allows at the point's intensity, 0 to 1."""
    return point.flops_per_second / limits.attainable(point.cost.intensity)


def chart(limits: Limits, points: Sequence[Point], *, title: str = "") -> Chart:
    """The roof in grey, measured points on it: prefill as blue squares, decode as purple dots."""
    fig, ax = theme.figure(height=4.0)
    xs = [p.cost.intensity for p in points]
    low, high = min(0.25, *xs) / 1.5, max(4 * limits.ridge, *xs) * 2
    ax.plot([low, limits.ridge, high], [limits.attainable(x) for x in (low, limits.ridge, high)], **theme.limit())
    ax.plot([limits.ridge] * 2, [1e3, limits.flops_per_second], color="#9A9A9A", linewidth=1, linestyle=":", zorder=1)
    for role, marker in MARKERS.items():
        mine = [p for p in points if p.role == role]
        color = theme.readable(theme.role(role).color)
        style = theme.ours(color) | {"marker": marker, "linewidth": 1, "markersize": 6}
        ax.plot([p.cost.intensity for p in mine], [p.flops_per_second for p in mine], **style)
        for i, p in enumerate(mine):
            text = p.name if i else f"{role}, {p.name}"             # the first says what the line is
            above = _above(p, [other for other in points if other.role != role], role == "decode" and i > 0)
            theme.label(ax, p.cost.intensity, p.flops_per_second, text, color, dx=3 if above else 6,
                        dy=10 if above else -9, ha="right" if above else "left", fontsize=8)
    ax.set(xscale="log", yscale="log", xlim=(low, high), xlabel="arithmetic intensity (FLOP per byte moved)",
           ylabel="FLOP/s", ylim=(min(p.flops_per_second for p in points) / 3, limits.flops_per_second * 2.2))
    ax.yaxis.set_major_formatter(lambda v, _: short(v))
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.minorticks_off()
    theme.label(ax, high, limits.flops_per_second, f"the roof: multiplies {short(limits.flops_per_second)}FLOP/s",
                theme.GREY, dx=-2, dy=7, ha="right")
    foot = ax.get_ylim()[0]
    theme.label(ax, limits.ridge, foot, f"ridge: {limits.ridge:.1f}", theme.GREY, dx=5, dy=8)
    _slanted(fig, ax, limits, low)
    theme.title(ax, title or f"The roofline of {limits.name}")
    return Chart(fig, f"roofline with {len(points)} points")


def _above(point: Point, others: Sequence[Point], default: bool) -> bool:
    """Whether a point's name goes over it: where the other line runs near, to the side that is away from it."""
    line = sorted((math.log(p.cost.intensity), math.log(p.flops_per_second)) for p in others)
    x, y = math.log(point.cost.intensity), math.log(point.flops_per_second)
    for (x0, y0), (x1, y1) in zip(line, line[1:], strict=False):
        if x0 <= x < x1:
            return y > y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return default


def _slanted(fig, ax, limits: Limits, low: float) -> None:
    """Write the read rate along the slanted line."""
    fig.draw_without_rendering()
    x0, x1 = low * 1.1, limits.ridge
    (ax0, ay0), (ax1, ay1) = ax.transData.transform([(x0, limits.attainable(x0)), (x1, limits.attainable(x1))])
    theme.label(ax, x0, limits.attainable(x0), f"the roof: reads {short(limits.bytes_per_second)}B/s", theme.GREY, dx=2,
                dy=8, rotation=math.degrees(math.atan2(ay1 - ay0, ax1 - ax0)), rotation_mode="anchor")


def view(limits: Limits, cost: Cost, role: str, *, name: str = "", note: str = "") -> str:
    """Where one pass lies on the roof, from its cost alone, as SVG; and in words, what bounds it and how long it takes.

    name: what to call the pass. note: a line under the words.
    """
    axes = _Axes(limits, cost)
    ridge, roof = limits.ridge, limits.attainable(cost.intensity)
    corner = axes.at(ridge, limits.flops_per_second)
    shapes = [*axes.grid(), svg.path([axes.at(axes.x0, limits.attainable(axes.x0)), corner,
                                      axes.at(axes.x1, limits.flops_per_second)], color="#9A9A9A", width=2.5),
              svg.line(*corner, corner[0], BOTTOM, color="#9A9A9A", width=1, dashed=True),
              svg.label(corner[0] + 5, BOTTOM - 10, f"ridge {ridge:,.4g}", size=11, color=theme.MUTED),
              *_roof_names(limits, axes, corner)]
    color, (x, y) = theme.role(role).color, axes.at(cost.intensity, roof)
    shapes += [svg.line(x, y, x, BOTTOM, color=color, width=1.5), svg.circle(x, y, 7, fill=color, stroke=theme.DARK)]
    flat = cost.intensity > ridge
    shapes.append(svg.label(min(x, RIGHT - 80) if flat else x + 13, y - 17 if flat else y + 14, name or role, size=13,
                            bold=True, anchor="middle" if flat else "start"))
    words = html.table([_words(limits, cost)], ["work", "moved", "intensity", "by arithmetic", "by memory", "at least",
                                                "bound by"], caption=note)
    return html.card(html.stack(svg.drawing(WIDTH, HEIGHT, *shapes, title="roofline"), words))


def _roof_names(limits: Limits, axes: "_Axes", corner: tuple[float, float]) -> list[str]:
    """What the lines of the roof are: the read rate beside the slanted one, the matrix rate beside the flat one."""
    half = (axes.x0 * limits.ridge) ** 0.5                           # the middle of the slanted line, on a log scale
    x, y = axes.at(half, limits.attainable(half))
    reads, multiplies = short(limits.bytes_per_second), short(limits.flops_per_second)
    return [svg.label(x - 10, y - 8, f"the roof: reads {reads}B/s", size=12, color=theme.MUTED, anchor="end"),
            svg.label(corner[0] - 16, corner[1] - 2, f"the roof: multiplies {multiplies}FLOP/s", size=12,
                      color=theme.MUTED, anchor="end")]


def _words(limits: Limits, cost: Cost) -> list[str]:
    arithmetic, memory = cost.flops / limits.flops_per_second, cost.bytes / limits.bytes_per_second
    return [f"{short(cost.flops)}FLOP", f"{short(cost.bytes)}B", f"{cost.intensity:,.3g} FLOP/B", duration(arithmetic),
            duration(memory), html.cell(duration(max(arithmetic, memory)), bold=True, mono=False),
            html.cell("memory" if memory > arithmetic else "arithmetic", bold=True, mono=False)]


class _Axes:
    """Log-log coordinates of the SVG view: fixed for a machine, so that the dot moves and not the roof."""

    def __init__(self, limits: Limits, cost: Cost):
        self.x0, self.x1 = min(0.2, cost.intensity / 2), max(limits.ridge * 16, cost.intensity * 1.6)
        self.y0, self.y1 = limits.attainable(min(0.2, limits.ridge / 2)) / 3, limits.flops_per_second * 3

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = math.log(x / self.x0) / math.log(self.x1 / self.x0)
        up = math.log(y / self.y0) / math.log(self.y1 / self.y0)
        return LEFT + across * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP)

    def grid(self) -> list[str]:
        shapes = [svg.line(LEFT, BOTTOM, RIGHT, BOTTOM), svg.line(LEFT, TOP, LEFT, BOTTOM)]
        for x in _decades(self.x0, self.x1):
            px = self.at(x, self.y0)[0]
            shapes += [svg.line(px, BOTTOM, px, BOTTOM + 4), svg.label(px, BOTTOM + 14, f"{x:g}", size=11,
                                                                       color=theme.MUTED, anchor="middle")]
        for y in _decades(self.y0, self.y1):
            py = self.at(self.x0, y)[1]
            shapes += [svg.line(LEFT - 4, py, LEFT, py), svg.line(LEFT, py, RIGHT, py, color=theme.RULE, width=0.5),
                       svg.label(LEFT - 8, py, short(y), size=11, color=theme.MUTED, anchor="end")]
        middle = (LEFT + RIGHT) / 2
        return [*shapes, svg.label(middle, HEIGHT - 14, "arithmetic intensity (FLOP per byte moved)", size=12,
                                   color=theme.MUTED, anchor="middle"),
                svg.label(LEFT + 6, TOP, "FLOP/s", size=12, color=theme.MUTED)]


def _decades(low: float, high: float) -> list[float]:
    return [10.0 ** e for e in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def short(number: float) -> str:
    """1.2e12 -> "1.2 T", 45e6 -> "45 M": three digits and the unit's prefix."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.3g} "


def duration(seconds: float) -> str:
    """0.0123 -> "12.3 ms"."""
    for size, unit in ((1, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
