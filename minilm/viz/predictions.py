"""A cost model beside what was measured: the scatter with its band, and speculation's curve over the batch.

A point is a dict as `minilm bench combinations` records it: technique, shape, batch, gamma, alpha, label, measured,
predicted (speed-ups over plain decoding).
"""
from collections.abc import Callable, Mapping, Sequence

from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

BAND = 0.2
MARKS = {"speculation": ("o", theme.BLUE), "early exit": ("s", theme.ORANGE), "batching": ("^", theme.GREEN)}
OTHER = ("P", theme.VERMILLION)
LEFT, RIGHT, TOP, BOTTOM = 56, 690, 26, 250         # the curve's plot, pixels


def error(point: Mapping) -> float:
    """predicted / measured - 1."""
    return point["predicted"] / point["measured"] - 1


def within(points: Sequence[Mapping], band: float = BAND) -> int:
    """How many predictions lie within `band` of what was measured."""
    return sum(abs(error(point)) <= band for point in points)


def scatter(points: Sequence[Mapping], *, title: str = "Predicted and measured", named: int = 3) -> Chart:
    """Measured to the right, predicted upwards, both logarithmic; the band of ±20 %; slow-downs dotted.

    Batching, whose ratios are far larger, has a panel of its own. named: how many of the points furthest from their
    prediction are numbered and told.
    """
    if not points:
        raise ValueError("there are no points: the recorded run has none")
    panels = [[p for p in points if (p["technique"] == "batching") is batching] for batching in (False, True)]
    panels = [panel for panel in panels if panel]
    fig, axes = theme.figure(1, len(panels), height=4.3, width_ratios=[2.1, 1][: len(panels)], squeeze=False)
    worst = sorted(points, key=lambda p: -abs(error(p)))[:named]
    for ax, panel in zip(axes[0], panels, strict=True):
        _panel(ax, panel, worst)
    axes[0][0].set_ylabel("predicted (times plain decoding)")
    told = [f"{i}  {p['label']}: {error(p):+.0%}" for i, p in enumerate(worst, 1)]
    axes[0][0].text(0.98, 0.03, "\n".join([f"grey: within {BAND:.0%}", "furthest off:", *told]),
                    transform=axes[0][0].transAxes, ha="right",
                    va="bottom", fontsize=8.2, color="#444444", linespacing=1.4)
    axes[0][0].set_xlabel("measured (times plain decoding)")
    theme.title(axes[0][0], title)
    return Chart(fig, f"predicted against measured, {len(points)} points")


def _panel(ax, points: Sequence[Mapping], worst: Sequence[Mapping]) -> None:
    values = [value for point in points for value in (point["measured"], point["predicted"])]
    low, high = min(values) * 0.85, max(values) * 1.2
    ax.fill_between([low, high], [low * (1 - BAND), high * (1 - BAND)], [low * (1 + BAND), high * (1 + BAND)],
                    color="#EFEFEF", linewidth=0, zorder=0)
    ax.plot([low, high], [low, high], **theme.limit())
    if low < 1:
        ax.fill_between([low, 1], [low] * 2, [1, 1], facecolor="none", edgecolor="#C9C9C9", hatch="...",
                        linewidth=0, zorder=0)
        theme.label(ax, low, 1, "slow-downs missed", theme.GREY, dx=4, dy=8, fontsize=8.2)
        theme.label(ax, 1, low, "slow-downs foreseen", theme.GREY, dx=-5, dy=9, ha="right", fontsize=8.2)
        ax.axvline(1, color="#9A9A9A", linewidth=1, linestyle=":", zorder=1)
        ax.axhline(1, color="#9A9A9A", linewidth=1, linestyle=":", zorder=1)
    for technique in dict.fromkeys([*MARKS, *(point["technique"] for point in points)]):
        mark, color = MARKS.get(technique, OTHER)
        mine = [point for point in points if point["technique"] == technique]
        if mine:
            ax.plot([p["measured"] for p in mine], [p["predicted"] for p in mine], linestyle="", marker=mark,
                    color=color, markersize=6.5, markeredgecolor="white", markeredgewidth=0.6, zorder=3,
                    label=f"{technique} ({len(mine)})")
    for i, point in enumerate(worst, 1):
        if point in points:
            theme.label(ax, point["measured"], point["predicted"], str(i), dx=0, dy=9 if error(point) > 0 else -9,
                        ha="center", fontsize=9, fontweight="bold")
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel="measured")
    ticks = [tick for tick in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200) if low < tick < high]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(_fixed(ticks))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_locator(_fixed([]))
    ax.legend(loc="upper left", fontsize=8.5, handletextpad=0.3, frameon=False)


def _fixed(ticks: Sequence[float]):
    from matplotlib.ticker import FixedLocator

    return FixedLocator(ticks)


def curve(speed_up: Callable[[int], float], batches: Sequence[int], chosen: int, *, points: Sequence[Mapping] = (),
          best: Mapping[int, int] | None = None, about: str = "") -> str:
    """Speculation over the batch: the predicted line, measured dots, and one batch read out.

    speed_up(batch): predicted.  points: measured ones that belong to this line.  best[batch]: the number of drafts that
    the model would choose there (0: none), written below.  about: a line over the plot.
    """
    values = {batch: speed_up(batch) for batch in batches}
    top = max([1.6, *values.values(), *(p["measured"] for p in points)]) * 1.1
    at = lambda batch: LEFT + (RIGHT - LEFT) * batches.index(batch) / (len(batches) - 1)        # noqa: E731
    up = lambda value: BOTTOM - (BOTTOM - TOP) * value / top                                    # noqa: E731
    shapes = [svg.box(LEFT, up(1), RIGHT - LEFT, BOTTOM - up(1), fill=theme.VERMILLION + "1C", stroke="none", radius=0),
              svg.label(LEFT + 8, BOTTOM - 10, "slower than without drafts", size=11, color=theme.MUTED),
              svg.line(LEFT, up(1), RIGHT, up(1), color=theme.MUTED, width=1.2, dashed=True),
              svg.line(LEFT, BOTTOM, RIGHT, BOTTOM), svg.line(LEFT, TOP, LEFT, BOTTOM),
              svg.label(LEFT, TOP - 13, "times plain decoding at the same batch", size=11, color=theme.MUTED)]
    for value in range(int(top) + 1):
        shapes += [svg.line(LEFT - 4, up(value), LEFT, up(value)),
                   svg.label(LEFT - 8, up(value), str(value), size=11, anchor="end", color=theme.MUTED)]
    for batch in batches:
        shapes.append(svg.label(at(batch), BOTTOM + 13, str(batch), size=11, anchor="middle", color=theme.MUTED,
                                bold=batch == chosen))
        if best:
            shapes.append(svg.label(at(batch), BOTTOM + 43, str(best[batch]) if best[batch] else "none", size=11,
                                    anchor="middle", bold=batch == chosen))
    shapes.append(svg.label(LEFT - 8, BOTTOM + 13, "batch", size=11, anchor="end", color=theme.MUTED))
    if best:
        shapes += [svg.label(LEFT - 8, BOTTOM + 43, "best γ", size=11, anchor="end", color=theme.MUTED)]
    shapes.append(svg.path([(at(batch), up(values[batch])) for batch in batches], color=theme.BLUE, width=2.5))
    for point in points:
        if point["batch"] in values:
            shapes.append(f"<g><title>measured {point['measured']:.2f}</title>"
                          + svg.circle(at(point["batch"]), up(point["measured"]), 5, fill=theme.ORANGE,
                                       stroke=theme.DARK) + "</g>")
    x, y = at(chosen), up(values[chosen])
    pays = "pays" if values[chosen] > 1.005 else "does not pay"
    shapes += [svg.line(x, y, x, BOTTOM, color=theme.BLUE, width=1.2),
               svg.circle(x, y, 6, fill=theme.BLUE, stroke="#FFFFFF", width=1.5),
               svg.label(RIGHT, TOP - 13, f"batch {chosen}: × {values[chosen]:.2f}: {pays}", size=13, bold=True,
                         anchor="end")]
    key = "line: predicted" + ("; orange dots: measured" if points else "; not measured for these")
    return html.card(svg.drawing(theme.PIXELS, BOTTOM + (58 if best else 26), *shapes, title="speed-up over the batch"),
                     title=about, caption=key)


def shares(limits: Mapping[str, Mapping[int, float]], *, title: str) -> Chart:
    """Share of the read limit by batch size, a group of bars for each batch: {who: {batch: share}}.

    The first one is ours, filled; the others are paler.
    """
    names = list(limits)
    batches = sorted({batch for found in limits.values() for batch in found})
    fig, ax = theme.figure(height=3.3)
    wide = 0.8 / len(names)
    for i, name in enumerate(names):
        color = theme.CATEGORIES[i]
        for place, batch in enumerate(batches):
            if batch not in limits[name]:
                continue
            x, share = place - 0.4 + wide * (i + 0.5), limits[name][batch]
            ax.bar(x, share, width=wide * 0.92, color=color, alpha=1 if i == 0 else 0.55,
                   label=name if place == 0 else None)
            theme.label(ax, x, share, f"{share:.2f}", "white" if i == 0 else theme.DARK, dx=0, dy=-7, ha="center",
                        fontsize=7.5)
    ax.axhline(1, **theme.limit())
    ax.set(xticks=range(len(batches)), xticklabels=[f"batch {batch}" for batch in batches], ylim=(0, 1.28),
           ylabel="share of the read limit")
    ax.legend(loc="upper center", ncols=len(names), fontsize=8.5, frameon=False)
    theme.title(ax, title)
    return Chart(fig, f"share of the read limit at {len(batches)} batch sizes")


def throughput(rows: Sequence[Mapping]) -> str:
    """Tokens/s of each way to serve the same requests, a group of bars for each model; what failed says so.

    rows: {"model", "name", "tokens_per_second" | "failed"}; the first of each model is ours.
    """
    left, high = 250, 26
    shapes, y = [], 4.0
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        most = max((row["tokens_per_second"] for row in mine if "failed" not in row), default=1.0)
        shapes.append(svg.label(0, y + 8, model, size=13, bold=True))
        y += 20
        for i, row in enumerate(mine):
            shapes.append(svg.label(left - 8, y + 9, row["name"], size=11.5, anchor="end"))
            if "failed" in row:
                shapes.append(svg.label(left, y + 9, "did not run", size=11.5, color=theme.MUTED))
            else:
                rate = row["tokens_per_second"]
                wide = (theme.PIXELS - left - 140) * rate / most
                color = theme.BLUE if i == 0 else theme.GREY
                ours = mine[0].get("tokens_per_second")
                times = f"   engine × {ours / rate:.2f}" if i and ours else ""
                shapes += [svg.box(left, y, wide, 18, fill=color, stroke="none", radius=1),
                           svg.label(left + wide + 6, y + 9, f"{rate:,.0f} tokens/s{times}", size=11.5, bold=i == 0)]
            y += high
        y += 8
    return html.card(svg.drawing(theme.PIXELS, y, *shapes, title="tokens a second"))
