"""Wrong versions of the core, each a single change; the tests of the core must reject every one of them."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from minilm import sampling
from minilm.sampling import Sampling


@dataclass(frozen=True)
class Change:
    """One wrong version. check: the name of the check that must fail; owner.name is replaced by `value`."""

    says: str
    check: str
    owner: Any
    name: str
    value: Any

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if isinstance(self.owner, dict):
            monkeypatch.setitem(self.owner, self.name, self.value)
        else:
            monkeypatch.setattr(self.owner, self.name, self.value)

    def __str__(self) -> str:
        return self.says


# --- sampling ---

def probs_with(order: tuple[str, ...] = ("temperature", "top_k", "top_p"), *, extra: int = 0,
               multiply: bool = False) -> Callable:
    """Sampling.probs as it should be, but for one thing."""
    def probs(self, logits):
        for step in order:
            if step == "temperature":
                logits = logits * self.temperature if multiply else logits / self.temperature
            elif step == "top_k" and self.top_k:
                k = min(max(self.top_k + extra, 1), logits.shape[-1])
                logits = logits.masked_fill(logits < logits.topk(k).values[..., -1:], -torch.inf)
            elif step == "top_p" and self.top_p < 1:
                logits = sampling._nucleus(logits.softmax(-1), self.top_p).log()
        return logits.softmax(-1)
    return probs


def nucleus_with(keep: Callable, renormalise: bool = True) -> Callable:
    """keep(mass before a token, its mass, p) says which of the sorted tokens stay."""
    def nucleus(probs, top_p):
        ordered, ids = probs.sort(dim=-1, descending=True, stable=True)
        ordered = ordered.where(keep(ordered.cumsum(-1) - ordered, ordered, top_p), 0.0)
        kept = torch.zeros_like(probs).scatter_(-1, ids, ordered)
        return kept / kept.sum(-1, keepdim=True) if renormalise else kept
    return nucleus


def draw_with(right: bool = True, scale: bool = True) -> Callable:
    def draw(probs, uniform):
        cdf = probs.double().cumsum(-1)
        token = int(torch.searchsorted(cdf, uniform * cdf[-1] if scale else uniform, right=right))
        return min(token, len(cdf) - 1)
    return draw


def draw_in_float32(probs, uniform):
    cdf = probs.float().cumsum(-1)
    return int(torch.searchsorted(cdf, torch.tensor(uniform, dtype=torch.float32), right=True).clamp(max=len(cdf) - 1))


SAMPLING = [
    Change("top-p drops the token that crosses p", "check_nucleus_borders", sampling, "_nucleus",
           nucleus_with(lambda before, own, p: (before + own <= p) | (before == 0))),
    Change("top-p keeps one token too many", "check_nucleus_borders", sampling, "_nucleus",
           nucleus_with(lambda before, own, p: before <= p)),
    Change("top-p does not renormalise", "check_nucleus_borders", sampling, "_nucleus",
           nucleus_with(lambda before, own, p: before < p, renormalise=False)),
    Change("top-p drops every small token", "check_against_reference", sampling, "_nucleus",
           nucleus_with(lambda before, own, p: own >= 1 - p)),
    Change("top-k keeps one too many", "check_against_reference", Sampling, "probs", probs_with(extra=1)),
    Change("top-k keeps one too few", "check_against_reference", Sampling, "probs", probs_with(extra=-1)),
    Change("temperature multiplied", "check_against_reference", Sampling, "probs", probs_with(multiply=True)),
    Change("temperature last", "check_against_reference", Sampling, "probs",
           probs_with(("top_k", "top_p", "temperature"))),
    Change("top-p before top-k", "check_against_reference", Sampling, "probs",
           probs_with(("temperature", "top_p", "top_k"))),
    Change("a border goes to the token before", "check_draw_by_enumeration", sampling, "draw", draw_with(right=False)),
    Change("a draw of 0 takes a token of probability 0", "check_draw_never_takes_a_zero", sampling, "draw",
           draw_with(right=False)),
    Change("the last step falls on a token of probability 0", "check_draw_never_takes_a_zero", sampling, "draw",
           draw_in_float32),
    Change("the total is taken for 1", "check_draw_by_enumeration", sampling, "draw", draw_with(scale=False)),
]
