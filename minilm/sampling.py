"""From logits to probabilities to a token: temperature, top-k, top-p, and one draw by inverse CDF."""
import numbers
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The default, temperature 0, is greedy.

    temperature: logits are divided by it; 0 puts all probability on the largest logit.
    top_k: keep the k most probable tokens and all that tie with the k-th; 0 keeps all (Fan et al. 2018).
    top_p: keep the fewest most probable tokens that together reach p (nucleus sampling, Holtzman et al. 2020, §3.1).
    The three apply in that order, and what is kept is made to sum to 1 again. At temperature 0 nothing is left for
    top_k and top_p to cut: the largest logit wins whatever they say. That draws a UserWarning, since who sets them
    mostly means to sample: `Sampling(top_p=0.9)` is greedy, `Sampling(1.0, top_p=0.9)` samples.
    Raises TypeError for what is no number, ValueError for a number out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        for name in ("temperature", "top_k", "top_p"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise TypeError(f"{name} must be a number; it is {value!r}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be 0 (greedy) or more, and finite; it is {self.temperature}")
        if not isinstance(self.top_k, numbers.Integral) or self.top_k < 0:
            raise ValueError(f"top_k must be 0 (off) or a positive whole number; it is {self.top_k!r}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1]; it is {self.top_p}")
        if self.greedy and (self.top_k > 1 or self.top_p < 1):
            warnings.warn("temperature is 0, so this is greedy, and top_k and top_p change nothing; to sample, give a "
                          "temperature above 0, such as 1.0", UserWarning, stacklevel=3)    # 3: who wrote Sampling(...)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def probs(self, logits: Tensor) -> Tensor:
        """logits[..., V] -> probabilities[..., V] that sum to 1; one-hot at temperature 0 (ties: the lowest id)."""
        if self.greedy:
            winner = logits.argmax(-1, keepdim=True)
            return torch.zeros_like(logits).scatter_(-1, winner, 1.0)
        temperature = max(self.temperature, torch.finfo(logits.dtype).tiny)      # below it, float32 would read 0
        scaled = (logits - logits.amax(-1, keepdim=True)) / temperature         # the largest is 0: no overflow
        if 0 < self.top_k < logits.shape[-1]:
            smallest_kept = scaled.topk(self.top_k, dim=-1).values[..., -1:]
            scaled = scaled.masked_fill(scaled < smallest_kept, float("-inf"))
        probs = torch.softmax(scaled, -1)
        return probs if self.top_p == 1 else _nucleus(probs, self.top_p)


def _nucleus(probs: Tensor, top_p: float) -> Tensor:
    """Zero all but the smallest set of most probable tokens whose mass reaches top_p, and renormalise."""
    ordered, ids = probs.sort(dim=-1, descending=True, stable=True)
    mass_before = ordered.cumsum(-1) - ordered                  # the token that crosses p is kept: its mass before < p
    ordered = ordered.masked_fill(mass_before >= top_p, 0.0)
    kept = torch.zeros_like(probs).scatter_(-1, ids, ordered)
    return kept / kept.sum(-1, keepdim=True)


def draw(probs: Tensor, uniform: float) -> int:
    """The token of probs[V] at which the cumulative sum passes `uniform`, a number in [0, 1): inverse CDF.

    A token of probability 0 is never drawn, even at uniform = 0. probs need not be normalised.
    """
    cdf = probs.double().cumsum(-1)
    token = int(torch.searchsorted(cdf, uniform * cdf[-1], right=True))
    if token < len(cdf):
        return token
    return int(probs.nonzero()[-1])                             # rounding put uniform · total on the last step


def uniform(generator: torch.Generator | None = None) -> float:
    """A number in [0, 1), in float64, from the generator (or PyTorch's global one)."""
    device = generator.device if generator is not None else "cpu"
    return torch.rand((), dtype=torch.float64, generator=generator, device=device).item()


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator | None = None) -> int:
    """The next token after logits[V]: the largest when greedy, else one draw from `sampling.probs(logits)`."""
    if sampling.greedy:
        return int(logits.argmax())
    return draw(sampling.probs(logits), uniform(generator))
