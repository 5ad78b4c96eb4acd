"""The exact law of an acceptance rule: every outcome with its probability, by following all paths that chance can take.

A rule compares its uniforms with thresholds. Here a uniform is an interval instead of a number; a comparison that the
interval does not decide splits it, and both halves are followed. No sampling, no error but rounding.
"""
import itertools
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from minilm.sampling import Sampling


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
    """`sampling.draw` for a Chance; -1, which is no token, where there is nothing to draw from."""
    probs = probs.double()
    cdf = (probs.cumsum(-1) / probs.sum()).tolist()
    possible = probs.nonzero().flatten().tolist()
    for token in possible[:-1]:
        if uniform < cdf[token]:
            return token
    return possible[-1] if possible else -1


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


# --- a small language, so that laws of whole texts can be compared ---

Language = dict[tuple[int, ...], Tensor]            # text -> probabilities [V] of what follows


def language(vocab: int, depth: int, sampling: Sampling, seed: int) -> Language:
    """A random language model: probabilities [V] after every text of up to `depth` tokens."""
    generator = torch.Generator().manual_seed(seed)
    return {text: sampling.probs(2 * torch.randn(vocab, generator=generator, dtype=torch.float64))
            for length in range(depth + 1) for text in itertools.product(range(vocab), repeat=length)}


def completed(laws: Counter, p: Language, length: int) -> Counter:
    """The law of the first `length` tokens when shorter outcomes go on as the target would."""
    out: Counter = Counter()
    for start, probability in laws.items():
        texts = {start: probability}
        for _ in range(length - len(start)):
            texts = {(*text, x): chance * share for text, chance in texts.items()
                     for x, share in (enumerate(p[text].tolist()) if text in p else [(-1, 1.0)]) if share}
        for text, chance in texts.items():
            out[text] += chance
    return out


def total_variation(got: Counter, p: Language, length: int) -> float:
    """Half the sum of all differences between a law of texts and the target's own; NaN counts as all wrong."""
    got, target = completed(got, p, length), completed(Counter({(): 1.0}), p, length)
    return sum(_size(got[text] - target[text]) for text in {*got, *target}) / 2


def _size(difference: float) -> float:
    return abs(difference) if difference == difference else 1.0


def output_law(rule: Callable, p: Language, q: Language, n: int) -> Counter:
    """The law of rule(p[n + 1, V], q[n, V], drafted, uniforms) over all drafts of n tokens from q and all chance."""
    out: Counter = Counter()
    drafts = {(): 1.0}
    for _ in range(n):
        drafts = {(*text, x): chance * share for text, chance in drafts.items()
                  for x, share in enumerate(q[text].tolist()) if share}
    for drafted, chance in drafts.items():
        ps, qs = (torch.stack([m[drafted[:i]] for i in range(k)]) for m, k in ((p, n + 1), (q, n)))
        for outcome, share in law(lambda u, ps=ps, qs=qs, d=drafted: rule(ps, qs, d, u), n + 1).items():
            out[outcome] += chance * share
    return out
