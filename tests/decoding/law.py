"""The exact law of an acceptance rule: every outcome with its probability, by following all paths that chance can take.

A rule compares its uniforms with thresholds. Here a uniform is an interval instead of a number; a comparison that the
interval does not decide splits it, and both halves are followed. No sampling, no error but rounding.
"""
from collections import Counter
from collections.abc import Callable, Sequence

from torch import Tensor


class Chance:
    """A number in [low, high) of which no more is known. Comparisons ask the walk which way to go."""

    def __init__(self, walk: "Walk", scale: float = 1.0, cell: list[float] | None = None):
        self.walk, self.scale, self.cell = walk, scale, cell or [0.0, 1.0]

    def __mul__(self, factor) -> "Chance":
        return Chance(self.walk, self.scale * float(factor), self.cell)

    __rmul__ = __mul__

    def __lt__(self, bound) -> bool:
        bound, (low, high) = float(bound), self.cell
        if self.scale == 0:
            return 0 < bound
        bound /= self.scale
        if bound >= high or bound <= low:
            return bound >= high
        below = self.walk.choose((bound - low) / (high - low))
        self.cell[0 if not below else 1] = bound
        return below

    def __ge__(self, bound) -> bool:
        return not self < bound

    def __le__(self, bound) -> bool:                # a single point has no probability ... unless it is the only one
        return self < bound or (self.cell[0] == 0 and float(bound) == 0 and self.scale == 0)

    def __gt__(self, bound) -> bool:
        return not self <= bound


class Walk:
    """One path through all choices: replays `ahead`, then takes the first way and notes what is left to try."""

    def __init__(self, ahead: list[bool]):
        self.ahead, self.taken, self.probability, self.open = ahead, [], 1.0, []

    def choose(self, share: float) -> bool:
        way = self.ahead[len(self.taken)] if len(self.taken) < len(self.ahead) else True
        if len(self.taken) >= len(self.ahead):
            self.open.append([*self.taken, False])
        self.taken.append(way)
        self.probability *= share if way else 1 - share
        return way


def draw(probs: Tensor, uniform: Chance) -> int:
    """`sampling.draw` for a Chance."""
    probs = probs.double()
    cdf = (probs.cumsum(-1) / probs.sum()).tolist()
    possible = probs.nonzero().flatten().tolist()
    for token in possible[:-1]:
        if uniform < cdf[token]:
            return token
    return possible[-1]


def law(rule: Callable[[list[Chance]], Sequence[int]], uniforms: int) -> Counter:
    """{outcome: probability} of rule(uniforms), a tuple of ints each."""
    return law_of(lambda fresh: rule([fresh() for _ in range(uniforms)]))


def law_of(run: Callable[[Callable[[], Chance]], Sequence[int]]) -> Counter:
    """{outcome: probability} of run(fresh), which calls fresh() for each uniform that it needs."""
    outcomes: Counter = Counter()
    paths = [[]]
    while paths:
        walk = Walk(paths.pop())
        outcome = run(lambda walk=walk: Chance(walk))
        outcomes[tuple(outcome)] += walk.probability
        paths += walk.open
    return outcomes
