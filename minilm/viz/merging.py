"""Splitting attention and merging it again, as masses in a plane: a state is a point, its output, that weighs exp(lse).

    walk = merging.walk(scores, values, [3, 3, 3, 0])           # values: points (x, y); keys of each split
    widgets.player(merging.frames(walk), label="step")

A split's output is the centre of mass of its values, each as heavy as exp(score); merging two states is the centre of
mass of two. So the order can't matter, and a state that weighs nothing changes nothing.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from minilm.viz import html, svg, theme

LEFT, TOP, WIDE, HIGH = 4, 8, 340, 270      # pixels: the plane
TABLE = LEFT + WIDE + 20                # where the states' list begins


@dataclass(frozen=True)
class State:
    """What a program leaves behind. keys: those it saw. out: (x, y), of no meaning where lse is -inf."""

    name: str
    keys: tuple[int, ...]
    out: tuple[float, float]
    lse: float


@dataclass(frozen=True)
class Walk:
    """scores[n], values[n] and the states there are after each step: first each split, then one merge a step."""

    scores: tuple[float, ...]
    values: tuple[tuple[float, float], ...]
    splits: int
    steps: tuple[tuple[State, ...], ...]


def state(name: str, keys: Sequence[int], scores: Sequence[float], values: Sequence[tuple[float, float]]) -> State:
    """Attention over these keys alone: the weighted mean of their values, and the log of the weights' sum."""
    if not keys:
        return State(name, (), (0.0, 0.0), -math.inf)
    top = max(scores[key] for key in keys)
    weights = {key: math.exp(scores[key] - top) for key in keys}
    total = sum(weights.values())
    out = tuple(sum(weight * values[key][axis] for key, weight in weights.items()) / total for axis in (0, 1))
    return State(name, tuple(keys), out, top + math.log(total))


def merge(a: State, b: State) -> State:
    """The state of both states' keys: the centre of two masses."""
    name, keys = a.name + b.name, a.keys + b.keys
    top = max(a.lse, b.lse)
    if top == -math.inf:
        return State(name, keys, (0.0, 0.0), top)
    weights = [math.exp(s.lse - top) for s in (a, b)]
    out = tuple(sum(w * s.out[axis] for w, s in zip(weights, (a, b), strict=True)) / sum(weights) for axis in (0, 1))
    return State(name, keys, out, top + math.log(sum(weights)))


def walk(scores: Sequence[float], values: Sequence[tuple[float, float]], sizes: Sequence[int]) -> Walk:
    """Splits of so many keys, 0 allowed, then merges of neighbours, pair by pair, until one is left."""
    if not scores or len(scores) != len(values) or sum(sizes) != len(scores) or len(sizes) > 26 or min(sizes) < 0:
        raise ValueError("give as many values as scores, at least one, and the sizes of up to 26 splits of them all")
    ends = list(accumulate(sizes))
    states = [state(chr(ord("A") + i), range(end - size, end), scores, values)
              for i, (size, end) in enumerate(zip(sizes, ends, strict=True))]
    steps = [tuple(states[: i + 1]) for i in range(len(sizes))]
    while len(states) > 1:
        for at in range(len(states) // 2):
            states = [*states[:at], merge(states[at], states[at + 1]), *states[at + 2:]]
            steps.append(tuple(states))
    return Walk(tuple(scores), tuple(values), len(sizes), tuple(steps))


def frames(walk: Walk) -> list[str]:
    """A picture for each step."""
    return [frame(walk, number) for number in range(len(walk.steps))]


def frame(walk: Walk, number: int) -> str:
    """After step `number`: the plane at the left, the states that there are at the right."""
    if not 0 <= number < len(walk.steps):
        raise ValueError(f"there are steps 0 to {len(walk.steps) - 1}, not {number}")
    now = walk.steps[number]
    before = walk.steps[number - 1] if number else ()
    new = next(s for s in now if s not in before)
    parts = [s for s in before if s not in now]
    drawn = svg.drawing(theme.PIXELS, TOP + HIGH + 12, *_plane(walk, now, new, parts), *_list(now, new, parts),
                        title="states and their merge")
    return html.card(_told(walk, new, parts, number) + drawn, caption="Dots: the values of single keys, as large as "
                     "exp(score). Squares: states, as large as exp(lse), where their output is.")


def _plane(walk: Walk, now: Sequence[State], new: State, parts: Sequence[State]) -> list[str]:
    at = _scale(walk.values)
    most = max(s.lse for s in walk.steps[-1])
    shapes = [svg.box(LEFT, TOP, WIDE, HIGH, stroke=theme.RULE)]
    owner = {key: i for i, s in enumerate(walk.steps[walk.splits - 1]) for key in s.keys}
    seen = {key for s in now for key in s.keys}
    for key, (score, value) in enumerate(zip(walk.scores, walk.values, strict=True)):
        x, y = at(value)
        color = theme.owner(owner[key])[1] + ("" if key in seen else "33")
        radius = max(1.5, 26 * math.exp((score - most) / 2))
        shapes.append(f"<g><title>key {key}: score {score:.2f}, split {theme.owner(owner[key])[0]}</title>"
                      + svg.circle(x, y, radius, fill=color, stroke="none") + "</g>")
    for part in parts:
        if part.lse > -math.inf and new.lse > -math.inf:
            shapes.append(svg.line(*at(part.out), *at(new.out), color=theme.MUTED, width=2))
    for s in (*parts, *now):
        if s.lse == -math.inf:
            continue
        (x, y), half = at(s.out), max(8.0, 22 * math.exp((s.lse - most) / 2))
        gone = s in parts
        shapes.append(svg.box(x - half, y - half, 2 * half, 2 * half, dashed=gone, radius=2, size=12,
                              fill="none" if gone else _color(s), text="" if gone else s.name))
        if gone:
            shapes.append(svg.label(x, y, s.name, size=12, anchor="middle", color=theme.MUTED))
    return shapes


def _list(now: Sequence[State], new: State, parts: Sequence[State]) -> list[str]:
    heads = ((0, "state"), (76, "keys"), (136, "lse"), (182, "mass"), (234, "output"))
    shapes = [svg.label(TABLE + x, TOP + 8, word, size=12, bold=True) for x, word in heads]
    y = TOP + 32
    for s in sorted((*now, *parts), key=lambda s: s.name):
        gone = s in parts
        color = theme.MUTED if gone else theme.TEXT
        if not gone:
            shapes.append(svg.box(TABLE, y - 9, 66, 18, fill=_color(s), text=s.name, size=11.5))
        else:
            shapes.append(svg.box(TABLE, y - 9, 66, 18, dashed=True, text=s.name, size=11.5))
        empty = s.lse == -math.inf
        keys = f"{s.keys[0]} to {s.keys[-1]}" if s.keys else "none"
        words = (keys, "−∞" if empty else f"{s.lse:.2f}", "0" if empty else f"{math.exp(s.lse):.2f}",
                 "any" if empty else f"({s.out[0]:.2f}, {s.out[1]:.2f})")
        shapes += [svg.label(TABLE + x, y, word, size=12, color=color, bold=s is new and not gone)
                   for (x, _), word in zip(heads[1:], words, strict=True)]
        y += 24
    return shapes


def _scale(values: Sequence[tuple[float, float]]):
    """From a point to pixels: all values inside and in the middle, the same scale both ways."""
    spans = [[extreme(value[axis] for value in values) for extreme in (min, max)] for axis in (0, 1)]
    zoom = min((room - 70) / ((high - low) or 1.0) for room, (low, high) in zip((WIDE, HIGH), spans, strict=True))
    middle = [(low + high) / 2 for low, high in spans]
    return lambda point: (LEFT + WIDE / 2 + zoom * (point[0] - middle[0]),
                          TOP + HIGH / 2 - zoom * (point[1] - middle[1]))


def _color(s: State) -> str:
    """A split's own colour; grey for what was merged."""
    return theme.owner(ord(s.name) - ord("A"))[1] if len(s.name) == 1 else "#C8CCD0"


def _told(walk: Walk, new: State, parts: Sequence[State], number: int) -> str:
    if number < walk.splits:
        keys = f"keys {new.keys[0]} to {new.keys[-1]}" if new.keys else "no keys at all: lse is −∞, its mass 0"
        says = f"split {new.name} has {keys}"
    elif -math.inf in (parts[0].lse, parts[1].lse):
        says = f"merge {parts[0].name} and {parts[1].name}: one weighs nothing, and nothing moves"
    else:
        share = math.exp(parts[1].lse - new.lse)
        says = (f"merge {parts[0].name} and {parts[1].name}: {share:.0%} of the way from {parts[0].name} to "
                f"{parts[1].name}, since {parts[1].name} has {share:.0%} of the mass")
    if number == len(walk.steps) - 1:
        says += ". That is the whole attention"
    return f'<div style="font:13px {theme.FONT};margin-bottom:4px"><b>step {number + 1}</b> {says}</div>'
