"""Charts of speculation: speed-up by draft length, the ladder against one α, laws of rules, temperature."""
from collections.abc import Sequence

import torch

from minilm.decoding.speedup import expected_tokens, ladder, walltime_factor
from minilm.sampling import Sampling
from minilm.viz import accept_bars, svg, theme
from minilm.viz.picture import Chart


def by_length(theory: dict[str, Sequence[float]], measured: dict[str, Sequence[tuple[int, float]]], *,
              ylabel: str = "times plain decoding") -> Chart:
    """Speed-up against draft length: theory[name][γ - 1] as dashed lines, measured (γ, speed-up) as dots on a line."""
    fig, ax = theme.figure(height=3.6)
    for i, (name, values) in enumerate(theory.items()):
        dashes = {"linestyle": ((0, (4, 2)), (0, (1, 1.4)))[i % 2]}
        ax.plot(range(1, len(values) + 1), values, **{**theme.paper(theme.CATEGORIES[i + 1]), **dashes}, label=name)
    for i, (name, points) in enumerate(measured.items()):
        style = {**theme.ours(theme.CATEGORIES[3 * i]), "marker": "os"[i % 2]}
        ax.plot(*zip(*points, strict=True), **style, label=name)
    longest = max([len(v) for v in theory.values()] + [g for points in measured.values() for g, _ in points])
    ax.axhline(1, **theme.limit())
    theme.label(ax, longest + 0.3, 1, "plain decoding", theme.GREY)
    ax.set(xlabel="draft length γ", ylabel=ylabel, xticks=range(1, longest + 1), xlim=(0.6, longest + 0.3))
    ax.set_ylim(bottom=0)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    ax.grid(axis="y")
    theme.title(ax, "Longer drafts pay until they don't")
    return Chart(fig, f"speed-up by draft length, {len(theory)} predictions, {len(measured)} measurements")


def ladder_chart(rungs: Sequence[float], alpha: float) -> Chart:
    """Left: how often draft i is accepted if those before it were. Right: tokens of a round, by ladder and by one α."""
    n = len(rungs)
    fig, (left, right) = theme.figure(1, 2, height=2.9)
    left.bar(range(1, n + 1), rungs, color=theme.GREEN, width=0.7)
    for i, share in enumerate(rungs, start=1):
        left.text(i, 0.03, f"{share:.2f}", ha="center", fontsize=9)
    left.axhline(alpha, **theme.paper(theme.DARK))
    theme.label(left, n + 0.6, alpha, f"α = {alpha:.2f}", dx=3)
    left.set(xlabel="draft i of a round", ylabel="accepted, if those before were", ylim=(0, 1.12), xlim=(0.4, n + 0.6),
             xticks=range(1, n + 1))
    theme.title(left, "The rungs")
    lengths = range(n + 1)
    right.plot(lengths, [ladder(rungs[:k]) for k in lengths], **theme.ours(theme.GREEN))
    right.plot(lengths, [expected_tokens(alpha, k) for k in lengths], **theme.paper(theme.DARK))
    ends = {"ladder": (ladder(rungs), theme.GREEN), "one α": (expected_tokens(alpha, n), theme.DARK)}
    above = max(ends, key=lambda name: ends[name][0])
    for name, (value, color) in ends.items():
        theme.label(right, n, value, f"{name} {value:.2f}", color, dy=6 if name == above else -6)
    right.set(xlabel="drafts i that count", ylabel="tokens of a round", xticks=lengths, ylim=(0.8, None))
    right.grid(axis="y")
    theme.title(right, "Their sum")
    return Chart(fig, f"ladder of {n} rungs")


def laws(target: Sequence[float], rules: dict[str, Sequence[float]], names: Sequence[str]) -> Chart:
    """The law of one token under each rule: bars, with the target's law as ticks, and the distance written in."""
    fig, axes = theme.figure(1, len(rules), height=2.1, sharey=True, squeeze=False)
    for ax, (rule, law) in zip(axes[0], rules.items(), strict=True):
        away = sum(abs(a - b) for a, b in zip(law, target, strict=True)) / 2
        ax.bar(range(len(law)), law, width=0.72, color=theme.GREEN if away < 1e-9 else theme.VERMILLION,
               hatch="" if away < 1e-9 else "//", edgecolor="white", linewidth=0)
        for x, share in enumerate(target):
            ax.plot([x - 0.45, x + 0.45], [share, share], color=theme.DARK, linewidth=2)
        ax.set_xticks(range(len(law)), names)
        ax.set_title(f"{rule}\n" + ("exact" if away < 1e-9 else f"{away:.3f} away"), loc="left", fontsize=9)
        ax.tick_params(axis="x", length=0)
    axes[0][0].set_ylabel("probability")
    return Chart(fig, f"laws of {len(rules)} rules")


# --- temperature -----------------------------------------------------------------------------------------------------

TEMPERATURES = tuple(round(0.1 * i, 1) for i in range(0, 21))
CURVES = {"draft at the same": theme.BLUE, "draft at 1": theme.PURPLE,
          "draft greedy": theme.ORANGE}
MARKERS = dict(zip(CURVES, "osD", strict=True))


def curves(pairs: Sequence[accept_bars.Pair], temperatures: Sequence[float] = TEMPERATURES) -> dict[str, list[float]]:
    """Expected acceptance, the mean of Σ min(p, q) over all places, at each of the target's temperatures."""
    drafts = {"draft at the same": None, "draft at 1": Sampling(1.0), "draft greedy": Sampling(0.0)}
    return {name: [torch.cat([accept_bars.acceptance(pair, Sampling(t), how) for pair in pairs]).mean().item()
                   for t in temperatures] for name, how in drafts.items()}


def temperature_view(pairs: Sequence[accept_bars.Pair], found: dict[str, list[float]], temperature: float, gamma: int,
                     *, temperatures: Sequence[float] = TEMPERATURES) -> str:
    """The curves with a cursor at `temperature`; right, how many places have which acceptance there, and the words."""
    at = min(range(len(temperatures)), key=lambda i: abs(temperatures[i] - temperature))
    left, top, wide, high, most = 40, 24, 330, 190, max(temperatures)
    x, y = (lambda t: left + wide * t / most), (lambda share: top + high * (1 - share))
    shapes = [svg.label(left, 9, "expected acceptance", size=12, bold=True)]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        shapes += [svg.line(left, y(tick), left + wide, y(tick), color=theme.RULE, width=0.8),
                   svg.label(left - 6, y(tick), f"{tick:g}", size=10, anchor="end", color=theme.MUTED)]
    for tick in (0, 0.5, 1, 1.5, 2):
        shapes.append(svg.label(x(tick), top + high + 12, f"{tick:g}", size=10, anchor="middle", color=theme.MUTED))
    shapes += [svg.label(left + wide / 2, top + high + 28, "temperature of the target", size=11, anchor="middle"),
               svg.line(x(temperatures[at]), top, x(temperatures[at]), top + high, color=theme.MUTED, dashed=True)]
    for row, (name, values) in enumerate(found.items()):
        color = CURVES[name]
        points = [(x(t), y(v)) for t, v in zip(temperatures, values, strict=True)]
        shapes.append(svg.path(points, color=color, width=2.2))
        shapes += [_dot(MARKERS[name], x(temperatures[at]), y(values[at]), color),
                   _dot(MARKERS[name], 412, 172 + 22 * row, color),
                   svg.label(422, 172 + 22 * row, f"{name}: {values[at]:.2f}, "
                             f"{expected_tokens(min(values[at], 1.0), gamma):.2f} tokens a round", size=11.5)]
    shapes += _places(torch.cat([accept_bars.acceptance(pair, Sampling(temperatures[at])) for pair in pairs]), 410, top)
    return svg.drawing(theme.PIXELS + 20, top + high + 40, *shapes, title="acceptance by temperature")


def _dot(marker: str, x: float, y: float, color: str) -> str:
    if marker == "o":
        return svg.circle(x, y, 5, fill=color, stroke=theme.LIGHT)
    if marker == "s":
        return svg.box(x - 4.5, y - 4.5, 9, 9, fill=color, stroke=theme.LIGHT, radius=0)
    corners = f"{x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f} {x - 6:.1f},{y:.1f}"
    return f'<polygon points="{corners}" style="fill:{color};stroke:{theme.LIGHT}"/>'


def _places(share: torch.Tensor, left: float, top: float) -> list[str]:
    """A histogram of β over all places, ten bins."""
    counts = torch.histc(share.clamp(0, 1), bins=10, min=0, max=1).tolist()
    wide, high, most = 28, 82, max(counts)
    shapes = [svg.label(left, 9, f"acceptance at each of {len(share)} places, both drawn", size=12, bold=True)]
    for i, count in enumerate(counts):
        h = high * count / most
        shapes.append(svg.box(left + i * wide, top + 14 + high - h, wide - 3, h, stroke="none", radius=1,
                              fill=theme.confidence((i + 0.5) / 10)))
        if count:
            shapes.append(svg.label(left + i * wide + wide / 2 - 1, top + 6 + high - h, f"{count:.0f}", size=10,
                                    anchor="middle", color=theme.MUTED))
    shapes += [svg.line(left, top + 14 + high, left + 10 * wide, top + 14 + high, color=theme.RULE)]
    shapes += [svg.label(left + 5 * wide * t, top + high + 24, f"{t / 2:g}", size=10, anchor="middle",
                         color=theme.MUTED) for t in (0, 1, 2)]
    return shapes


def temperature_chart(found: dict[str, list[float]], temperatures: Sequence[float] = TEMPERATURES) -> Chart:
    """The curves, still."""
    fig, ax = theme.figure(height=2.8)
    for name, values in found.items():
        ax.plot(temperatures, values, color=CURVES[name], marker=MARKERS[name], markersize=4, linewidth=2)
        theme.label(ax, temperatures[-1], values[-1], name, CURVES[name])
    ax.set(xlabel="temperature of the target", ylabel="expected acceptance", ylim=(0, 1.02),
           xlim=(-0.03, 1.62 * max(temperatures)), xticks=[0, 0.5, 1, 1.5, 2])
    ax.grid(axis="y")
    theme.title(ax, "How often a draft is accepted, by temperature")
    return Chart(fig, "acceptance by temperature")


def theory_view(alpha: float, c: float, *, longest: int = 16) -> str:
    """Leviathan et al.'s speed-up for γ = 0 to `longest` at one α and c: dots on a curve, the best one ringed."""
    values = [walltime_factor(alpha, gamma, c) for gamma in range(longest + 1)]
    best = max(range(longest + 1), key=values.__getitem__)
    left, top, wide, high = 44, 26, theme.PIXELS - 70, 170
    most = max(2.0, 1.15 * max(values))
    x, y = (lambda gamma: left + wide * gamma / longest), (lambda value: top + high * (1 - value / most))
    told = (f"the best draft length is {best}: {values[best]:.2f} times plain decoding" if best else
            "no draft pays: whatever the length, slower than plain decoding")
    shapes = [svg.label(left, 10, f"α = {alpha:.2f}, c = {c:.2f}: {told}", size=13, bold=True)]
    step = max(1, round(most / 4))
    for tick in range(0, int(most) + 1, step):
        shapes += [svg.line(left, y(tick), left + wide, y(tick), color=theme.RULE, width=0.8),
                   svg.label(left - 8, y(tick), f"{tick}×", size=11, anchor="end", color=theme.MUTED)]
    shapes += [svg.line(left, y(1), left + wide, y(1), color=theme.MUTED, width=1.6),
               svg.label(left + wide, y(1) + 10, "plain decoding", size=11, anchor="end", color=theme.MUTED),
               svg.path([(x(gamma), y(value)) for gamma, value in enumerate(values)], color=theme.BLUE, width=2.2)]
    shapes += [svg.circle(x(gamma), y(value), 3.5, fill=theme.BLUE if value >= 1 else theme.LIGHT, stroke=theme.BLUE,
                          width=1.5) for gamma, value in enumerate(values)]
    shapes.append(svg.circle(x(best), y(values[best]), 8, stroke=theme.VERMILLION, width=2.2))
    shapes += [svg.label(x(gamma), top + high + 13, f"{gamma}", size=11, anchor="middle", color=theme.MUTED)
               for gamma in range(0, longest + 1, 2)]
    shapes.append(svg.label(left + wide / 2, top + high + 30, "draft length γ", size=12, anchor="middle"))
    return svg.drawing(theme.PIXELS, top + high + 42, *shapes, title="speed-up by draft length")
