"""Shared by the tests of early exit: policies by the clock, and a slow oracle that runs every layer for every token."""
import decimal
import functools
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from core_helpers import tiny_model
from torch import Tensor

from minilm.cache import KVCache

ee = importlib.import_module("minilm.decoding.early_exit")     # `minilm.decoding.early_exit` is also a function's name

LAYERS, VOCAB, ROOM = 6, 97, 32                                 # of the tiny models here
PROMPT = [5, 17, 3, 88, 41]
SHAPES = {"3:1": {}, "1:1": {"num_kv_heads": 6}, "6:1": {"num_kv_heads": 1}, "qk_norm": {"qk_norm": True},
          "qkv_bias": {"qkv_bias": True}, "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
          "llama3": {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                      "high_freq_factor": 4.0, "original_max_position_embeddings": 16}},
          "all": {"qk_norm": True, "qkv_bias": True, "tie_embeddings": False}}


def deep_model(dtype: torch.dtype = torch.float64, **changes):
    """Of the first few seeds, the one whose greedy text varies most in how sure each layer is."""
    return tiny_model(3, dtype, num_layers=LAYERS, **changes)


@dataclass
class Script:
    """Token t leaves after depths[t] layers, unless that is all of them. Never looks at the logits."""

    depths: list[int]
    depth = 0

    def begin(self, t: int) -> None:
        self.depth = self.depths[t]

    def score(self, look) -> int:
        return look.layer

    def leaves(self, score: float) -> bool:
        return score == self.depth


class Oracle:
    """Runs EVERY layer for every token, by the model's own blocks and the plain cache, and throws away what a token
    that has left would have become: its state stays as it is, so deeper layers store the keys and values of the copy.

    skipped="projected" writes the exit layer's keys and values over the deeper ones instead.
    """

    def __init__(self, model, prompt: list[int], skipped: str = "hidden", lens: Callable | None = None):
        self.model, self.skipped, self.lens = model, skipped, lens or (lambda layer, x: x)
        self.cache = KVCache(model.config, dtype=model.dtype)
        self.logits = model(torch.tensor([prompt]), self.cache)[0, -1]

    def feed(self, token: int, leaves: Callable[[int, Tensor, Tensor], bool]) -> tuple[Tensor, int]:
        """leaves(layer, x[d], before[d]) after each layer but the last. Returns (logits[V], layers that counted)."""
        model, cache, depth = self.model, self.cache, None
        x = model.embed(torch.tensor([[token]]))
        rope = model.rotary(cache.begin(1), x.dtype)
        for layer, block in enumerate(model.layers, 1):
            after = block(x, rope, cache, layer - 1)
            if depth is None:
                before, x = x, after
                if layer < len(model.layers) and leaves(layer, x[0, 0], before[0, 0]):
                    depth = layer
        here = cache.length
        if depth is not None and self.skipped == "projected":
            for layer in range(depth, len(model.layers)):
                cache._keys[layer][:, :, here] = cache._keys[depth - 1][:, :, here]
                cache._values[layer][:, :, here] = cache._values[depth - 1][:, :, here]
        cache.end(1)
        if depth is None:
            return model.head(x[0, 0]), len(model.layers)
        return model.head(self.lens(depth, x[0, 0])), depth


def generate(model, prompt: list[int], new: int, leaves: Callable[[int, int, Tensor, Tensor], bool], *,
                  exits=None, **how) -> tuple[list[int], list[int]]:
    """Greedy tokens and each one's depth; leaves(t, layer, x[d], before[d])."""
    oracle = Oracle(model, prompt, **how)
    exits = range(1, len(model.layers)) if exits is None else exits
    tokens, depths = [int(oracle.logits.argmax())], [len(model.layers)]
    for t in range(1, new):
        logits, depth = oracle.feed(tokens[-1], lambda layer, x, before, t=t: layer in exits
                                    and leaves(t, layer, x, before))
        tokens.append(int(logits.argmax()))
        depths.append(depth)
    return tokens, depths


def near(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> bool:
    """False on NaN, too."""
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance)


def depths_of(generation) -> list[int]:
    return [step.layers for step in generation.trace]


def quantile(share: float, model, never, exits=None) -> float:
    """The score below which `share` of the scores lie, of a policy that never leaves: a threshold that divides."""
    trace = ee.early_exit(model, PROMPT, ROOM - len(PROMPT), never, exits=exits).trace
    seen = sorted(score for step in trace for score in step.scores)
    return seen[int(share * len(seen))]


def look_at(logits, layer=1):
    return ee.Look(layer, torch.zeros(2), torch.zeros(2), lambda layer, x: torch.tensor(logits, dtype=torch.float64))


def logit_rows() -> list[list[float]]:
    """Random logits, a tie at the top, all equal, probabilities that underflow to 0, tokens ruled out."""
    random = (3 * torch.randn(30, 11, generator=torch.Generator().manual_seed(4), dtype=torch.float64)).tolist()
    random[1][3] = random[1][7] = max(random[1])
    return random + [[0.5] * 11, [0.0] + [-2000.0] * 10, [4e3, 4e3] + [-4e3] * 9, [1.0, 0.0] + [-math.inf] * 9]


# --- the rules, one number at a time ---

def entropy(logits: list[float]) -> float:
    weights = [math.exp(x - max(logits)) for x in logits]
    probs = [w / math.fsum(weights) for w in weights]
    return -math.fsum(p * math.log(p) for p in probs if p > 0)


def patience(named: list[int], enough: int) -> int | None:
    """The first exit, from 0, at which it and the `enough` exits before it all name one token."""
    for i in range(enough, len(named)):
        if all(token == named[i] for token in named[i - enough : i]):
            return i
    return None


def response(logits: list[float]) -> float:
    weights = sorted((math.exp(x - max(logits)) for x in logits), reverse=True)
    return (weights[0] - weights[1]) / math.fsum(weights)


def saturation(x: list[float], before: list[float]) -> float:
    dot = math.fsum(a * b for a, b in zip(x, before, strict=True))
    return max(dot / (math.hypot(*x) * math.hypot(*before)), 0.0)


@functools.cache
def p_value(losses: Fraction, n: int, delta: Fraction) -> float:
    """Hoeffding-Bentkus for a sum of `losses` over n examples: the binomial in exact fractions, powers in 60 digits.
    Hoeffding-Chernoff as a product: (δ/m)^(nm) · ((1-δ)/(1-m))^(n(1-m)), 1 where m >= δ."""
    count = -(-losses.numerator // losses.denominator)
    cdf = sum(math.comb(n, i) * delta**i * (1 - delta) ** (n - i) for i in range(min(count, n) + 1))
    with decimal.localcontext(prec=60):
        exact = lambda x: decimal.Decimal(x.numerator) / decimal.Decimal(x.denominator)     # noqa: E731
        m = losses / n
        hoeffding = decimal.Decimal(1) if m >= delta else (
            (exact(delta / m) ** exact(losses) if m else 1) * exact((1 - delta) / (1 - m)) ** exact(n - losses))
        return float(min(hoeffding, decimal.Decimal(1).exp() * exact(cdf), decimal.Decimal(1)))
