"""Techniques alone and in pairs: what a recorded run of `minilm bench combinations` measured, the model's word beside.

All functions take that record (`record.read("cpu_combinations")`); speed-ups are ratios to plain decoding of one text.
A pair is held against the better of its two round by round, and the median of these ratios judges: what disturbs a
round disturbs both.
"""
import statistics
from collections.abc import Sequence
from html import escape

from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

NOISE = 0.05            # a pair counts as hurting or helping from 5 % on


def cell(measured: dict, a: str, b: str) -> dict:
    """What was recorded of a pair, in either order (a technique with itself: alone). Raises ValueError if nothing."""
    for found in measured["cells"]:
        if {found["a"], found["b"]} == {a, b}:
            return found
    raise ValueError(f"no cell for {a!r} with {b!r}; there are {', '.join(measured['techniques'])}")


def alone(measured: dict, name: str) -> float:
    """A technique's own speed-up."""
    return cell(measured, name, name)["speed_up"]


def against_best(measured: dict, a: str, b: str) -> list[float]:
    """The pair's speed over that of the better of its two alone, in each round."""
    best = max(a, b, key=lambda name: alone(measured, name))
    return [pair / one for pair, one in zip(cell(measured, a, b)["ratios"], cell(measured, best, best)["ratios"],
                                            strict=True)]


def verdict(measured: dict, a: str, b: str) -> str:
    """"hurts" (slower than the better of the two), "no more" (about as fast), "adds" (faster than the better), or
    "multiplies" (at least their product, less 5 %)."""
    one, other, pair = (cell(measured, *names)["ratios"] for names in ((a, a), (b, b), (a, b)))
    gain = statistics.median(against_best(measured, a, b))
    of_product = statistics.median(p / (x * y) for p, x, y in zip(pair, one, other, strict=True))
    if gain < 1 - NOISE:
        return "hurts"
    if min(alone(measured, a), alone(measured, b)) > 1 + NOISE and of_product >= 1 - NOISE:
        return "multiplies"
    return "adds" if gain > 1 + NOISE else "no more"


SIGNS = {"hurts": "▼ hurts", "no more": "= no more", "adds": "▲ adds", "multiplies": "× multiplies"}


def heat_map(measured: dict) -> Chart:
    """Alone on the diagonal, pairs below it: measured, and small under it the model's prediction.

    Colour and sign say how the pair stands to the better of its two; hatched: it was not run, and why it was not is a
    line in `reasons`.
    """
    import matplotlib
    from matplotlib.patches import Rectangle

    names = measured["techniques"]
    fig, ax = theme.figure(height=0.62 * len(names) + 0.9)
    numbers = {reason: i for i, reason in enumerate(reasons(measured), 1)}
    with matplotlib.rc_context(theme.RC):
        for row, a in enumerate(names):
            for column, b in enumerate(names[: row + 1]):
                found = cell(measured, a, b)
                if found["reason"] is not None:
                    ax.add_patch(Rectangle((column, row), 1, 1, facecolor="#F7F7F7", edgecolor="#E4E4E4", hatch="////",
                                           linewidth=0))
                    ax.text(column + 0.5, row + 0.5, f"{numbers[found['reason']]}", ha="center", va="center",
                            fontsize=8.5, color="#555555",
                            bbox={"facecolor": "#F7F7F7", "edgecolor": "none", "pad": 1.5})
                else:
                    _measured(ax, measured, found, row, column, a == b)
        for line in range(len(names) + 1):
            ax.plot([0, min(line + 1, len(names))], [line, line], color="white", linewidth=1.5)
            ax.plot([line, line], [max(line - 1, 0), len(names)], color="white", linewidth=1.5)
    ax.set(xlim=(0, len(names)), ylim=(len(names), 0), xticks=[i + 0.5 for i in range(len(names))],
           yticks=[i + 0.5 for i in range(len(names))])
    ax.set_xticklabels([name.replace(" ", "\n").replace("-s", "-\ns") for name in names], fontsize=8.5)
    ax.set_yticklabels(names)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    corner = ("big: measured, × plain decoding of one text;  small: the model's\n"
              "framed: alone\n"
              "blue ▲  faster than the better of the two alone\n"
              "blue ×  as fast as their product: they multiply\n"
              "grey =  no faster than the better one\n"
              "orange ▼  slower than the better one: the pair hurts\n"
              "(signs and colours: both in the same round, the median)\n"
              "hatched: not run, for the reason with that number")
    ax.text(len(names) * 0.42, 0.04, corner, ha="left", va="top", fontsize=8.3, color="#444444", linespacing=1.45)
    where = measured["machine"].get("gpu") or measured["machine"].get("processor", "")
    theme.title(ax, f"{measured['model']}, {measured['dtype']}, {where}: alone and in pairs")
    return Chart(fig, f"speed-up of {len(names)} techniques and their pairs")


def _measured(ax, measured: dict, found: dict, row: int, column: int, diagonal: bool) -> None:
    from matplotlib.patches import Rectangle

    speed = found["speed_up"]
    sign, tone = "", 0.0
    if diagonal:
        tone = max(-1.0, min(1.0, (speed - 1) / 2.5))
    else:
        gain = statistics.median(against_best(measured, found["a"], found["b"]))
        tone = max(-1.0, min(1.0, (gain - 1) * 1.6))
        sign = SIGNS[verdict(measured, found["a"], found["b"])][0] + " "
    color = theme.diverging(tone) if abs(tone) > 0.08 else "#F0F0F0"
    ax.add_patch(Rectangle((column, row), 1, 1, facecolor=color, linewidth=0))
    if diagonal:
        ax.add_patch(Rectangle((column + 0.035, row + 0.045), 0.93, 0.91, fill=False, edgecolor=theme.DARK,
                               linewidth=1.3, zorder=4))
    ink = theme.ink(color)
    ax.text(column + 0.5, row + 0.4, f"{sign}{speed:.2f}", ha="center", va="center", fontsize=10.5, color=ink,
            fontweight="bold")
    said = "no model" if found["predicted"] is None else f"model {found['predicted']:.2f}"
    ax.text(column + 0.5, row + 0.74, said, ha="center", va="center", fontsize=7.4,
            color=ink)


def reasons(measured: dict) -> list[str]:
    """Why pairs were not run, each reason once."""
    return list(dict.fromkeys(found["reason"] for found in measured["cells"] if found["reason"] is not None))


def hurting(measured: dict) -> list[tuple[str, str, list[float]]]:
    """(a, b, the pair's speed over the better one's in each round) of each pair that hurts, the worst first."""
    names = [(found["a"], found["b"]) for found in run_pairs(measured)]
    found = [(a, b, against_best(measured, a, b)) for a, b in names if verdict(measured, a, b) == "hurts"]
    return sorted(found, key=lambda one: statistics.median(one[2]))


def foreseen(measured: dict) -> list[tuple[str, str, float, float]]:
    """(a, b, predicted, measured) of each pair that the model tells of: its speed over that of the better one alone."""
    found = []
    for pair in run_pairs(measured):
        a, b = pair["a"], pair["b"]
        best = cell(measured, *[max(a, b, key=lambda name: alone(measured, name))] * 2)
        if pair["predicted"] is not None and best["predicted"] is not None:
            found.append((a, b, pair["predicted"] / best["predicted"], statistics.median(against_best(measured, a, b))))
    return found


def run_pairs(measured: dict) -> list[dict]:
    """The cells of pairs that were run."""
    return [found for found in measured["cells"] if found["a"] != found["b"] and found["reason"] is None]


# --- one pair --------------------------------------------------------------------------------------------------------

def pair(measured: dict, a: str, b: str) -> str:
    """Bars for one pair: each alone, what their product would be, what the model said, what was measured."""
    found = cell(measured, a, b)
    said = [] if found["predicted"] is None else [("the model said", found["predicted"], theme.BLUE, True)]
    if a == b:
        return html.card(_bars([*said, (f"{a}, alone", found["speed_up"], theme.BLUE, False)]),
                         title=f"{a}{_binds(found)}")
    if found["reason"] is not None:
        why = f'<div style="font:13px/1.5 {theme.FONT};min-height:150px">not run: {escape(found["reason"])}</div>'
        return html.card(why, title=f"{a} with {b}")
    one, other = alone(measured, a), alone(measured, b)
    bars = [(f"{a}, alone", one, theme.GREY, False), (f"{b}, alone", other, theme.GREY, False),
            ("if they multiplied", one * other, theme.GREY, True),
            *said, ("together, measured", found["speed_up"], theme.BLUE, False)]
    return html.card(_bars(bars), title=f"{a} with {b}: {SIGNS[verdict(measured, a, b)]}{_binds(found)}")


def _binds(found: dict) -> str:
    """What sets the pace of a pass, in words, if the model knows."""
    if found["binds"] is None:
        return ""
    said = {"weights": "reading the weights", "KV": "reading keys and values", "FLOPs": "arithmetic",
            "launches": "starting operations"}.get(found["binds"], str(found["binds"]))
    return f"; {said} sets the pace"


def _bars(bars: Sequence[tuple[str, float, str, bool]]) -> str:
    left, row = 190, 28
    scale = (theme.PIXELS - left - 60) / max(max(value for _, value, _, _ in bars), 1.0)
    shapes = [svg.line(left + scale, 0, left + scale, row * len(bars) + 2, color=theme.MUTED, width=1, dashed=True),
              svg.label(left + scale, row * len(bars) + 11, "1: plain decoding", size=10.5, anchor="middle",
                        color=theme.MUTED)]
    for i, (name, value, color, dashed) in enumerate(bars):
        y = row * i + 4
        shapes += [svg.label(left - 8, y + 9, name, size=12, anchor="end"),
                   svg.box(left, y, scale * value, 18, fill=color + "30" if dashed else color, stroke=color,
                           dashed=dashed, radius=1),
                   svg.label(left + scale * value + 6, y + 9, f"{value:.2f}", size=12, bold=True)]
    return svg.drawing(theme.PIXELS, row * len(bars) + 20, *shapes, title="speed-ups")
