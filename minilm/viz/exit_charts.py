"""Charts of early exit: scores over depth, how deep tokens go, quality against layers, the whole cost in parts."""
from collections.abc import Callable, Sequence

from minilm.bench.exit_cost import ExitCost
from minilm.viz import exits as seen
from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

PARTS = {"layers": theme.BLUE, "head": theme.GREY, "checks": theme.ORANGE, "projections": theme.PURPLE}
HATCHES = {"layers": "", "head": "..", "checks": "//", "projections": "xx"}
NAMES = {"entropy": "entropy, nats", "patience": "exits in a row that agree"}


def curves(readings: seen.Readings, measure: str, place: int, *, threshold: float | None = None,
           exits: Sequence[int] | None = None) -> str:
    """One token's score after every layer, thick, before those of all others, thin; below, what each exit names.

    A filled dot: the exit names what the full model names. With a threshold, its line and the exit (ringed) are drawn.
    """
    scores, L = readings.scores[measure], readings.num_layers
    width, top, height, left = theme.PIXELS, 26, 190, 44
    highest = max(float(scores.max()), threshold or 0, 1.0) if measure in NAMES else 1.0
    step = (width - left - 10) / L
    x = lambda layer: left + (layer - 0.5) * step  # noqa: E731
    y = lambda score: top + height * (1 - float(score) / highest)  # noqa: E731
    shapes = [svg.label(left, 10, f"{NAMES.get(measure, measure)}, after each layer", size=12, bold=True)]
    for tick in (0, highest / 2, highest):
        shapes.append(svg.line(left, y(tick), width - 10, y(tick), color=theme.RULE, width=0.8))
        shapes.append(svg.label(left - 6, y(tick), f"{tick:.2g}", size=10, anchor="end", color=theme.MUTED))
    shapes += [svg.path([(x(n + 1), y(scores[n, t])) for n in range(L)], color="#8884", width=1)
               for t in range(scores.shape[1]) if t != place]
    line = [(x(n + 1), y(scores[n, place])) for n in range(L)]
    shapes.append(svg.path(line, color=theme.BLUE, width=2.5))
    if threshold is not None:
        shapes.append(svg.line(left, y(threshold), width - 10, y(threshold), color=theme.VERMILLION, dashed=True))
        left_after = seen.exit_layers(readings, measure, threshold, exits)[place]
        at, side = (width - 12, "end") if left_after < 0.7 * L else (left + 6, "start")
        shapes.append(svg.label(at, y(threshold) - 8, f"threshold {threshold:g}", size=11, anchor=side,
                                color=theme.VERMILLION))
        shapes.append(svg.circle(*line[left_after - 1], 9, stroke=theme.VERMILLION, width=2))
    for n, (px, py) in enumerate(line):
        ok = bool(readings.agrees[n, place])
        shapes.append(svg.circle(px, py, 4, fill=theme.BLUE if ok else theme.LIGHT, stroke=theme.BLUE, width=1.5))
    shapes += _named(readings, place, x, top + height)
    return svg.drawing(width, top + height + 78, *shapes, title=f"{measure} of one token over depth")


def _named(readings: seen.Readings, place: int, x: Callable[[int], float], foot: float) -> list[str]:
    """Under the axis: the layers' numbers and, slanting down, what each names."""
    out = []
    for n in range(1, readings.num_layers + 1):
        out.append(svg.label(x(n), foot + 10, f"{n}", size=10, anchor="middle", color=theme.MUTED))
        ok = bool(readings.agrees[n - 1, place])
        word = html.visible(readings.texts[n - 1][place])[:8]
        out.append(seen.upright(x(n), foot + 20, word, bold=ok))
    return out


def histogram(depths: dict[str, Sequence[int]], num_layers: int) -> Chart:
    """How many tokens leave after how many layers: one panel a policy, its mean written in."""
    fig, axes = theme.figure(1, len(depths), height=2.4, sharey=True, squeeze=False)
    shares = [[list(layers).count(n) / len(layers) for n in range(1, num_layers + 1)] for layers in depths.values()]
    highest = max(map(max, shares))
    for ax, (name, layers), counts in zip(axes[0], depths.items(), shares, strict=True):
        ax.bar(range(1, num_layers + 1), counts, width=0.9, edgecolor="#777777", linewidth=0.4,
               color=[seen.depth_color(n, num_layers) for n in range(1, num_layers + 1)])
        mean = sum(layers) / len(layers)
        ax.axvline(mean, color=theme.DARK, linewidth=1, linestyle=(0, (4, 2)))
        side = {"dx": 4, "ha": "left"} if mean < 0.65 * num_layers else {"dx": -4, "ha": "right"}
        theme.label(ax, mean, highest * 1.1, f"mean {mean:.1f}", **side)
        ax.set(xlabel="layers run", xlim=(0, num_layers + 1), ylim=(0, highest * 1.2))
        theme.title(ax, name)
    axes[0][0].set_ylabel("share of tokens")
    return Chart(fig, f"exit depths under {len(depths)} policies")


def frontier(points: dict[str, Sequence[tuple[float, float]]], num_layers: int, *,
             ylabel: str = "same token as the full model", dots: dict[str, tuple[float, float]] | None = None,
             xlabel: str = "mean layers for a token") -> Chart:
    """Quality against layers: one line a policy over its thresholds. Up and to the left is better.

    points: (mean layers, quality) pairs.  dots: single ones, such as the oracle's or a published setting's.
    """
    fig, ax = theme.figure(height=3.4)
    for i, (name, pairs) in enumerate(points.items()):
        color, pairs = theme.CATEGORIES[i], sorted(pairs)
        ax.plot(*zip(*pairs, strict=True), **{**theme.ours(color), "marker": "osD^vP"[i % 6]}, label=name)
    for name, (layers, quality) in (dots or {}).items():
        ax.plot(layers, quality, "*", color=theme.DARK, markersize=11, zorder=4)
        side = {"dx": 8, "ha": "left"} if layers < 0.8 * num_layers else {"dx": -8, "ha": "right"}
        theme.label(ax, layers, quality, name, dy=-10, **side)
    ax.axhline(1, **theme.limit())
    ax.axvline(num_layers, **theme.limit())
    ax.set(xlabel=f"{xlabel} (of {num_layers})", ylabel=ylabel)
    ax.grid(axis="y")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    theme.title(ax, "Quality and depth")
    return Chart(fig, f"frontier of {len(points)} policies")


def cost_parts(costs: dict[str, ExitCost], *, full: ExitCost | None = None, unit: str = "bytes") -> Chart:
    """The whole cost of a token, stacked in its parts: one bar a policy.

    full: a run that never leaves; its layers and head are drawn as the line to beat. unit: "bytes" (MB read) or
    "flops" (million operations).
    """
    if unit not in ("bytes", "flops"):
        raise ValueError(f'unit is "bytes" or "flops"; it is {unit!r}')
    fig, ax = theme.figure(height=0.9 + 0.42 * len(costs))
    totals = [getattr(cost.total, unit) / 1e6 for cost in costs.values()]
    at = [0.0] * len(costs)
    for part, color in PARTS.items():
        size = [getattr(getattr(cost, part), unit) / 1e6 for cost in costs.values()]
        ax.barh(range(len(costs)), size, left=at, color=color, hatch=HATCHES[part], edgecolor="white", linewidth=0.6,
                height=0.68, label=part)
        for row, (start, wide) in enumerate(zip(at, size, strict=True)):
            if wide > 0.07 * max(totals):
                ax.text(start + wide / 2, row, f"{wide:.0f}", ha="center", va="center", fontsize=8,
                        color=theme.DARK, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85})
        at = [a + b for a, b in zip(at, size, strict=True)]
    for row, total in enumerate(totals):
        theme.label(ax, total, row, f"{total:.0f}", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    if full is not None:
        limit = (getattr(full.layers, unit) + getattr(full.head, unit)) / 1e6
        ax.axvline(limit, color=theme.DARK, linewidth=1.2, linestyle=(0, (4, 2)))
        theme.label(ax, limit, len(costs) - 0.35, f"without early exit {limit:.0f}", dx=4)
        ax.set_ylim(-0.6, len(costs) - 0.1)
    ax.set(yticks=range(len(costs)), yticklabels=list(costs), xlim=(0, 1.1 * max(totals)),
           xlabel="MB read for a token" if unit == "bytes" else "million operations for a token")
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9, borderaxespad=0.2,
              frameon=False)
    return Chart(fig, f"cost of a token in parts, {len(costs)} ways")
