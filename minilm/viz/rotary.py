"""Rotary positions seen: every pair of a head's numbers is a clock hand that turns as the token moves on."""
import math
from collections.abc import Sequence

from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

QUERY, KEY = theme.BLUE, theme.ORANGE


def score(frequencies: Sequence[float], query_position: int, key_position: int) -> float:
    """q·k / pairs when query and key are the same unit hands before rotation: the mean of cos(distance · frequency)."""
    return sum(math.cos((query_position - key_position) * f) for f in frequencies) / len(frequencies)


def dials(frequencies: Sequence[float], query_position: int, key_position: int, *, columns: int = 8) -> str:
    """One dial a pair: where the query's hand (blue, solid) and the key's (orange, dashed) point at their positions.

    frequencies: radians per position of each pair shown. Both hands start at 3 o'clock at position 0. The bar under a
    dial is cos(angle between them): that pair's share of the dot product.
    """
    step, radius = 86, 30
    shapes = []
    for i, frequency in enumerate(frequencies):
        x, y = step * (i % columns) + 44, 100 * (i // columns) + 44
        shapes.append(svg.circle(x, y, radius, stroke=theme.RULE, width=1.5))
        for position, color, dashed in ((key_position, KEY, True), (query_position, QUERY, False)):
            angle = position * frequency
            tip = (x + 0.92 * radius * math.cos(angle), y - 0.92 * radius * math.sin(angle))
            shapes += [svg.line(x, y, *tip, color=color, width=3, dashed=dashed),
                       svg.circle(*tip, 3, fill=color, stroke=color)]
        share = math.cos((query_position - key_position) * frequency)
        middle, top = x, y + radius + 10
        shapes += [svg.line(middle - 24, top, middle + 24, top, color=theme.RULE, width=7),
                   svg.line(middle, top, middle + 24 * share, top, color=theme.GREEN if share > 0 else theme.VERMILLION,
                            width=7),
                   svg.label(x, top + 12, f"{share:+.2f}", size=10, anchor="middle", color=theme.MUTED)]
    rows = math.ceil(len(frequencies) / columns)
    return svg.drawing(step * columns, 100 * rows + 10, *shapes, title="rotary pairs as dials")


def view(frequencies: Sequence[float], query_position: int, key_position: int, *, shown: int = 8) -> str:
    """`dials` for `shown` pairs, fastest first, the fast ones more densely, and the dot product over all pairs."""
    pick = [round((i / (shown - 1)) ** 1.6 * (len(frequencies) - 1)) for i in range(shown)]     # more of the fast ones
    distance = query_position - key_position
    total = score(frequencies, query_position, key_position)
    names = _named("query", QUERY, "solid", query_position) + _named("key", KEY, "dashed", key_position)
    words = (f'<div style="font:13px {theme.FONT};margin-bottom:6px">{names}distance <b>{distance}</b>, '
             f"mean over all {len(frequencies)} pairs <b>{total:+.4f}</b></div>")
    numbers = ", ".join(str(i + 1) for i in pick)
    return html.card(words + dials([frequencies[i] for i in pick], query_position, key_position),
                     caption=f"Pairs {numbers} of {len(frequencies)}, fastest first. Under each dial: the cosine "
                             "between its two hands, which is its share of the dot product.")


def _named(name: str, color: str, line: str, position: int) -> str:
    return (f'<span style="color:{theme.TEXT};margin-right:18px"><span style="border-bottom:3px {line} {color}">{name}'
            f"</span> at position <b>{position}</b></span>")


def chart(frequencies: Sequence[float], *, furthest: int = 256) -> Chart:
    """Left: the wave length of each pair. Right: the dot product of two equal vectors against their distance."""
    fig, (left, right) = theme.figure(1, 2, height=2.7)
    pairs = range(1, len(frequencies) + 1)
    left.plot(pairs, [2 * math.pi / f for f in frequencies], **theme.ours() | {"markersize": 3})
    left.set_yscale("log")
    theme.title(left, "How far until a pair has turned once")
    left.set_xlabel("pair")
    left.set_ylabel("positions a turn")
    distances = range(furthest + 1)
    right.plot(distances, [score(frequencies, d, 0) for d in distances], **theme.ours(theme.GREEN) | {"marker": ""})
    right.axhline(0, **theme.limit())
    theme.title(right, "What a plain match is worth")
    right.set_xlabel("distance, positions")
    right.set_ylabel("mean over pairs of\ncos(distance · frequency)")
    return Chart(fig, f"rotary waves of {len(frequencies)} pairs")
