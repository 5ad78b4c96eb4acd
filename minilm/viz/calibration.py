"""A promise about early exit, seen: the walk down the thresholds, and what becomes of 500 such promises.

`walk` tells every step of the fixed-sequence test of `decoding.calm.calibrate`; `frames` and `walk_chart` draw it.
`resample` repeats a calibration on examples drawn anew, where the truth is known, and `kept_chart` counts how often the
promise was broken, by the test and by the naive rule.
"""
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minilm.decoding.calm import hb_p_value
from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

TEST, NAIVE = "learn then test", "naive: mean ≤ δ"
STYLE = {TEST: (theme.BLUE, ""), NAIVE: (theme.ORANGE, "////")}
LOWEST_P = 1e-6                                  # the foot of the p-values' axis
TICKS = {0: "1", 2: "1e-2", 4: "1e-4", 6: "≤ 1e-6"}
WHITE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
LEFT, RIGHT, TOP, BOTTOM, GAP = 46, 720, 34, 218, 64


# --- the walk --------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Step:
    """One threshold's test. mean: the mean loss seen there.  p: its Hoeffding-Bentkus p-value."""

    threshold: float
    mean: float
    p: float
    passed: bool


def walk(losses: Tensor, thresholds: Sequence[float], delta: float, epsilon: float) -> list[Step]:
    """The tests in order, up to and with the first that fails: those before it are certified."""
    steps = []
    for threshold, mean in zip(thresholds, losses.mean(0).tolist(), strict=True):
        p = hb_p_value(mean, len(losses), delta)
        steps.append(Step(threshold, mean, p, p <= epsilon))
        if not steps[-1].passed:
            break
    return steps


def largest_mean(n: int, delta: float, epsilon: float) -> float:
    """The largest mean loss of n examples that still certifies δ at level ε; below 0 (-1.0) when not even 0 does."""
    if hb_p_value(0.0, n, delta) > epsilon:
        return -1.0
    low, high = 0.0, delta
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if hb_p_value(middle, n, delta) <= epsilon else (low, middle)
    return low


def frames(steps: Sequence[Step], thresholds: Sequence[float], n: int, delta: float,
           epsilon: float) -> Callable[[int], str]:
    """For `widgets.player` with length=len(steps): frame i shows the tests up to the i-th, and says what came of it."""
    return lambda i: _frame(steps, thresholds, n, delta, epsilon, i)


def _frame(steps: Sequence[Step], thresholds: Sequence[float], n: int, delta: float, epsilon: float, now: int) -> str:
    half = (RIGHT - LEFT - GAP) / 2
    top = max(1.6 * delta, 1.15 * max(step.mean for step in steps))
    means = _Panel(LEFT, half, thresholds, lambda mean: mean / top)
    ps = _Panel(LEFT + half + GAP, half, thresholds,
                lambda p: 1 - math.log10(max(p, LOWEST_P)) / math.log10(LOWEST_P))
    shapes = [*means.axes("mean loss", [(0, "0"), (delta, f"δ {delta:g}")]), *means.limit(delta),
              *ps.axes("p-value", [(10.0**-k, TICKS[k]) for k in TICKS]),
              *ps.limit(epsilon, f"ε {epsilon:g}")]
    for i, step in enumerate(steps[: now + 1]):
        shapes += [means.dot(i, step.mean, step.passed, i == now), ps.dot(i, step.p, step.passed, i == now)]
    picture = svg.drawing(RIGHT + 20, BOTTOM + 62, *shapes, title="the walk down the thresholds")
    return html.card(picture + _verdict(steps, now, n, delta, epsilon))


def _verdict(steps: Sequence[Step], now: int, n: int, delta: float, epsilon: float) -> str:
    """The step in words."""
    step, last = steps[now], now == len(steps) - 1
    seen = (f"Threshold <b>{step.threshold:g}</b>: mean loss {step.mean:.3f} over {n} examples. If the true mean were "
            f"above {delta:g}, so small a mean would have a probability of at most <b>{step.p:.2g}</b>: ")
    if step.passed:
        told = f"below {epsilon:g}, certified. " + ("No threshold is left: this one is returned." if last else
                                                    "Take the next, bolder one.")
    elif now:
        told = f"above {epsilon:g}. Stop here; <b>{steps[now - 1].threshold:g}</b>, the one before, is returned."
    else:
        told = f"above {epsilon:g}. Nothing is certified: the full model is returned."
    return f'<div style="font:13px/1.5 {theme.FONT};color:{theme.TEXT};max-width:{RIGHT}px">{seen}{told}</div>'


class _Panel:
    """One of the two plots of a frame: thresholds across, safest at the left; `up` maps a value to 0 (foot) .. 1."""

    def __init__(self, x: float, width: float, thresholds: Sequence[float], up: Callable[[float], float]):
        self.x, self.width, self.thresholds, self.up = x, width, thresholds, up

    def at(self, i: int, value: float) -> tuple[float, float]:
        share = (i + 0.5) / len(self.thresholds)
        return self.x + share * self.width, BOTTOM - min(max(self.up(value), 0), 1) * (BOTTOM - TOP)

    def axes(self, name: str, ticks: Sequence[tuple[float, str]]) -> list[str]:
        shapes = [svg.label(self.x, 12, name, bold=True),
                  svg.line(self.x, BOTTOM, self.x + self.width, BOTTOM),
                  svg.label(self.x + self.width / 2, BOTTOM + 48, "threshold, from the safest to the boldest", size=12,
                            color=theme.MUTED, anchor="middle")]
        for i, threshold in enumerate(self.thresholds):
            x, _ = self.at(i, 0)
            shapes.append(svg.label(x, BOTTOM + 14 + 13 * (i % 2), f"{threshold:g}", size=11, color=theme.MUTED,
                                    anchor="middle"))
        for value, text in ticks:
            shapes.append(svg.label(self.x - 6, self.at(0, value)[1], text, size=11, color=theme.MUTED, anchor="end"))
        return shapes

    def limit(self, value: float, text: str = "") -> list[str]:
        _, y = self.at(0, value)
        shapes = [svg.line(self.x, y, self.x + self.width, y, color="#9A9A9A", dashed=True)]
        if text:
            shapes.append(svg.label(self.x + 4, y - 9, text, size=11, color=theme.MUTED))
        return shapes

    def dot(self, i: int, value: float, passed: bool, current: bool) -> str:
        x, y = self.at(i, value)
        role = theme.role("accepted" if passed else "rejected")
        ring = svg.circle(x, y, 12, stroke=theme.DARK, fill=theme.YELLOW, width=1) if current else ""
        stem = svg.line(x, BOTTOM, x, y, color=role.color, width=1.5)
        return stem + ring + svg.circle(x, y, 8, fill=role.color, stroke="none") + svg.label(
            x, y, role.mark, size=11, color=theme.LIGHT, anchor="middle", bold=True)


def walk_chart(walks: dict[str, list[Step]], delta: float, epsilon: float, n: int) -> Chart:
    """The walks of several measures side by side: the mean loss at each threshold tried, to the one that stops it."""
    fig, axes = theme.figure(1, len(walks), height=2.9, sharey=True)
    for ax, (name, steps) in zip([axes] if len(walks) == 1 else axes, walks.items(), strict=True):
        for role in ("accepted", "rejected"):
            mine = [(i, step) for i, step in enumerate(steps) if step.passed == (role == "accepted")]
            ax.plot([i for i, _ in mine], [step.mean for _, step in mine], color=theme.role(role).color, linestyle="",
                    marker="o" if role == "accepted" else "X", markersize=7, zorder=3, clip_on=False)
        ax.axhline(delta, **theme.limit())
        ax.axhline(largest_mean(n, delta, epsilon), **theme.limit() | {"linestyle": ":"})
        ax.set_xticks(range(len(steps)), [f"{step.threshold:g}" for step in steps], rotation=60)
        ax.set(xlabel="threshold", ylim=(0, 1.6 * delta), xlim=(-0.6, max(len(steps) - 0.4, 3.6)))
        ax.set_title(name, fontsize=9, loc="left")
    first = axes if len(walks) == 1 else axes[0]
    first.set_ylabel("mean loss")
    theme.label(first, -0.6, delta, f"δ = {delta:g}", theme.GREY, dx=2, dy=7)
    theme.label(first, -0.6, largest_mean(n, delta, epsilon), "passes up to here", theme.GREY, dx=2, dy=7)
    return Chart(fig, f"walks of {len(walks)} measures")


# --- many calibrations -----------------------------------------------------------------------------------------------

def resample(losses: Tensor, delta: float, epsilon: float | None, rounds: int = 500, seed: int = 0) -> list[int]:
    """Calibrate `rounds` times, each on as many examples drawn anew from `losses`[n, m], with replacement.

    The recorded examples are then the whole truth. epsilon: the level of the test; None is the naive rule, which walks
    on while the mean seen is at most δ. Returns how many thresholds passed in each round; 0 means the full model.
    """
    n = len(losses)
    most = delta if epsilon is None else largest_mean(n, delta, epsilon)
    generator = torch.Generator().manual_seed(seed)
    passed = []
    for _ in range(rounds):
        drawn = losses[torch.randint(n, (n,), generator=generator)]
        fine = (drawn.mean(0) <= most + 1e-12).tolist()                      # 1e-12: a sum's rounding error
        passed.append(fine.index(False) if False in fine else len(fine))
    return passed


def true_risks(losses: Tensor, passed: Sequence[int]) -> list[float]:
    """The true mean loss of what each calibration returned: of its last threshold passed, or 0 for the full model."""
    truth = [0.0, *losses.mean(0).tolist()]
    return [truth[k] for k in passed]


def broken(risks: Sequence[float], delta: float) -> float:
    """The share of calibrations whose true risk is above δ."""
    return sum(risk > delta for risk in risks) / len(risks)


def kept_chart(risks: dict[str, Sequence[float]], delta: float, epsilon: float) -> Chart:
    """Where the true risk of each calibration came to lie, one row a rule; right of δ the promise is broken.

    risks: for each rule (`TEST`, `NAIVE`), the true risk of every calibration.
    """
    fig, axes = theme.figure(len(risks), 1, height=1.55 * len(risks) + 0.5, sharex=True)
    most = max(1.35 * delta, 1.08 * max(max(some) for some in risks.values()))
    for ax, (name, some) in zip(axes, risks.items(), strict=True):
        color, hatch = STYLE[name]
        values = sorted(set(some))
        heights = [100 * some.count(value) / len(some) for value in values]
        bars = ax.bar(values, heights, width=most / 60, color=color, hatch=hatch, edgecolor=theme.LIGHT, zorder=3)
        for bar, value, height in zip(bars, values, heights, strict=True):
            if height >= 1:
                theme.label(ax, value, height, f"{height:.0f} %", color, dx=0, dy=8, ha="center", bbox=WHITE)
            bar.set_label("broken" if value > delta else "kept")
        ax.axvspan(delta, most, color=theme.VERMILLION, alpha=0.10, zorder=0)
        ax.axvline(delta, **theme.limit())
        ax.set(ylim=(0, 118), ylabel="% of calibrations", xlim=(0, most), yticks=(0, 50, 100))
        allowed = f", promised at most {epsilon:.0%}" if name == TEST else ", promises nothing"
        theme.title(ax, f"{name}: broken in {100 * broken(some, delta):.1f} %{allowed}")
        theme.label(ax, delta, 104, f"δ = {delta:g}", theme.GREY)
    axes[-1].set_xlabel("true mean loss of the threshold returned")
    return Chart(fig, f"{len(next(iter(risks.values())))} calibrations, {len(risks)} rules")


def promise_chart(deltas: Sequence[float], shares: dict[str, Sequence[float]], epsilon: float, rounds: int) -> Chart:
    """How often the promise was broken, for every δ one might ask for, by both rules; ε as a grey line."""
    fig, ax = theme.figure(height=2.9)
    for name, values in shares.items():
        color = STYLE[name][0]
        ax.plot(deltas, [100 * v for v in values], **theme.ours(color) | {"marker": "o" if name == TEST else "s"})
        top = max(range(len(values)), key=values.__getitem__)
        theme.label(ax, deltas[top], 100 * values[top], name, color, dx=6, dy=5 if name == NAIVE else 9)
    ax.axhline(100 * epsilon, **theme.limit())
    allowed = 100 * (epsilon + 3 * math.sqrt(epsilon * (1 - epsilon) / rounds))
    ax.axhline(allowed, **theme.limit() | {"linestyle": ":"})
    theme.label(ax, deltas[-1], 100 * epsilon, f"ε = {epsilon:g}", theme.GREY, dx=4)
    theme.label(ax, deltas[-1], allowed, "+ 3 standard errors", theme.GREY, dx=4, dy=5)
    ax.set(xlabel="δ, the loss that was promised", ylabel="% of calibrations that broke it", ylim=(-1, None),
           xlim=(deltas[0], deltas[-1]))
    return Chart(fig, f"broken promises at {len(deltas)} values of δ")
