"""Early exit: a token leaves the model after the first layer at which a policy is satisfied, and skips the rest.

One loop runs layer by layer and asks an exit policy after each layer that may be an exit. Here are the policies that
came first, entropy (BranchyNet, Teerapittayanon et al. 2016; DeeBERT, Xin et al. 2020) and patience (PABEE, Zhou et
al. 2020); those of CALM are in `calm`.

What a skipped layer still owes is its keys and values: later tokens may run deeper and attend there. As in CALM
(Schuster et al. 2022), the token's last hidden state stands in for the states it never had, and each skipped
layer projects it with its own weights: `ExitCache` does so when a deeper token first needs it, for all waiting ones.
"""
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from minilm.cache import KVCache
from minilm.checks import check_count
from minilm.generation import Generation, Pass, Recorder, check_request
from minilm.model import GPT
from minilm.sampling import Sampling, choose


class Look:
    """What a policy may look at after a layer.

    layer: how many layers have run.  hidden[d]: the state after it.  before[d]: the state after the layer before.
    logits[V]: what the model would say here; computed when first asked for, at the price of a vocabulary product.
    """

    def __init__(self, layer: int, hidden: Tensor, before: Tensor, exit_head: Callable[[int, Tensor], Tensor]):
        self.layer, self.hidden, self.before, self._exit_head = layer, hidden, before, exit_head

    @cached_property
    def logits(self) -> Tensor:
        return self._exit_head(self.layer, self.hidden)

    @property
    def paid(self) -> bool:
        """Whether the logits were computed."""
        return "logits" in self.__dict__


class ExitPolicy(Protocol):
    """When to leave. `begin` comes before a token's first layer, then `score` and `leaves` after each exit layer."""

    def begin(self, t: int) -> None: ...                # t: which new token is being made, from 0
    def score(self, look: Look) -> float: ...           # what the policy sees there
    def leaves(self, score: float) -> bool: ...         # whether that is enough


def entropy(logits: Tensor) -> Tensor:
    """-Σ p ln p of softmax(logits[..., V]), in nats, [...]; a probability of 0 adds 0."""
    return torch.special.entr(logits.softmax(-1)).sum(-1)


def check_number(name: str, value: float) -> None:
    """Raise one clear error for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number; it is {value!r}")


@dataclass
class Entropy:
    """Leave when the entropy of the exit's distribution, in nats, falls below `threshold`. 0 never leaves."""

    threshold: float

    def __post_init__(self):
        check_number("an entropy threshold", self.threshold)
        if not 0 <= self.threshold < math.inf:
            raise ValueError(f"an entropy threshold is 0 nats (never leave) or more, finite; it is {self.threshold}")

    def begin(self, t: int) -> None:
        pass

    def score(self, look: Look) -> float:
        return entropy(look.logits).item()

    def leaves(self, score: float) -> bool:
        return score < self.threshold


@dataclass
class Patience:
    """Leave when `patience` exits in a row have named the same token as the exit before them (PABEE, §3.2)."""

    patience: int
    _last: int | None = field(default=None, init=False, repr=False)
    _count: int = field(default=0, init=False, repr=False)

    def __post_init__(self):
        check_count("patience", self.patience, 1)

    def begin(self, t: int) -> None:
        self._last, self._count = None, 0

    def score(self, look: Look) -> int:
        named = int(look.logits.argmax())
        self._count = self._count + 1 if named == self._last else 0
        self._last = named
        return self._count

    def leaves(self, score: float) -> bool:
        return score >= self.patience


class ExitCache(KVCache):
    """A KV cache for tokens that skip layers; batch 1.

    After a token left, layers below its exit hold its keys and values; the others learn of it in `catch_up`, from its
    last hidden state. A layer's tokens are thus always a prefix of the text, `filled[layer]` long.
    skipped: "hidden", CALM's rule, or "projected": copy the exit layer's keys and values as they are, which CALM
    found to be much worse (§3.3.1) and which is here to show why.
    """

    def __init__(self, model: GPT, capacity: int, skipped: str = "hidden"):
        if skipped not in ("hidden", "projected"):
            raise ValueError(f'skipped is "hidden" (project the copied state) or "projected"; it is {skipped!r}')
        super().__init__(model.config, capacity=capacity, dtype=model.dtype, device=model.device)
        self.model, self.skipped = model, skipped
        self.states = torch.empty(capacity, model.config.width, dtype=model.dtype, device=model.device)
        self.depth = [model.config.num_layers] * capacity           # layers that each token ran
        self.filled = [0] * model.config.num_layers

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.catch_up(layer)                    # has nothing left to do after `descend`; any other pass may need it
        self.filled[layer] = self.length + k.shape[2]
        return super().attend(layer, q, k, v)

    def leave(self, layers: int, state: Tensor) -> None:
        """The token being fed has run `layers` layers and stops with `state`[d]."""
        self.states[self.length] = state
        self.depth[self.length] = layers
        self.end(1)

    def catch_up(self, layer: int) -> int:
        """Give the layer the keys and values of all tokens that skipped it. Returns their number."""
        start, end = self.filled[layer], self.length
        if start == end:
            return 0
        if self.skipped == "hidden":
            block = self.model.layers[layer]
            x = block.attention_norm(self.states[None, start:end])                  # (1, T, d)
            rope = self.model.rotary(torch.arange(start, end, device=x.device), x.dtype)
            self.write(layer, start, *block.attention.keys_values(x, rope))
        else:
            for t in range(start, end):
                ran = self.depth[t] - 1
                self.write(layer, t, self._keys[ran][:, :, t : t + 1], self._values[ran][:, :, t : t + 1])
        self.filled[layer] = end
        return end - start

    def truncate(self, length: int) -> None:
        super().truncate(length)
        self.filled = [min(tokens, length) for tokens in self.filled]
        self.depth[length:] = [len(self.filled)] * (self.capacity - length)


@dataclass
class ExitPass(Pass):
    """One pass: how deep it went and what that took.

    layers: layers run.  scores: what the policy saw, one entry per check.  head_products: times that a hidden state met
    the vocabulary matrix.  projected: for each layer run, how many skipped tokens caught up there.
    """

    layers: int = 0
    scores: tuple[float, ...] = ()
    head_products: int = 1
    projected: tuple[int, ...] = ()


def check_exits(num_layers: int, exits: Sequence[int] | None) -> tuple[int, ...]:
    """The layers after which a token may leave, in order; None means every layer but the last."""
    if exits is None:
        return tuple(range(1, num_layers))
    if not isinstance(exits, Sequence) or isinstance(exits, str):
        raise TypeError(f"exits is a list of layers, such as [4, 8]; it is {exits!r}")
    for layer in exits:
        if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer < num_layers:
            raise ValueError(f"there is no exit {layer!r}: exits are numbers of layers run, from 1 to {num_layers - 1} "
                             f"(after {num_layers} the model is done)")
    if not exits or len(set(exits)) < len(exits):
        raise ValueError(f"exits must be one or more different layers; they are {list(exits)}")
    return tuple(sorted(exits))


def descend(model: GPT, token: int, t: int, cache: ExitCache, policy: ExitPolicy, exits: Sequence[int],
            exit_head: Callable[[int, Tensor], Tensor]) -> tuple[Tensor, dict]:
    """Feed one token, layer by layer, until the policy lets it go. Returns (logits[V], what `ExitPass` tells)."""
    policy.begin(t)
    x = model.embed(torch.tensor([[token]], device=model.device))                   # (1, 1, d)
    rope = model.rotary(cache.begin(1), x.dtype)
    scores, projected, head_products = [], [], 0
    for layer, block in enumerate(model.layers):
        projected.append(cache.catch_up(layer))
        before, x = x, block(x, rope, cache, layer)
        if layer + 1 in exits:
            look = Look(layer + 1, x[0, 0], before[0, 0], exit_head)
            scores.append(policy.score(look))
            leaves = policy.leaves(scores[-1])
            head_products += look.paid
            if leaves:
                head_products += not look.paid
                cache.leave(layer + 1, look.hidden)
                return look.logits, {"layers": layer + 1, "scores": tuple(scores), "projected": tuple(projected),
                                     "head_products": head_products}
    cache.end(1)
    return model.head(x[0, 0]), {"layers": len(model.layers), "scores": tuple(scores), "projected": tuple(projected),
                                 "head_products": head_products + 1}


@torch.inference_mode()
def early_exit(model: GPT, prompt: list[int], max_new_tokens: int, policy: ExitPolicy, *,
               exits: Sequence[int] | None = None, lens: Callable[[int, Tensor], Tensor] | None = None,
               skipped: str = "hidden", sampling: Sampling = Sampling(), eos: int | None = None,
               generator: torch.Generator | None = None) -> Generation:
    """Continue `prompt`; each new token after the first runs only as many layers as `policy` asks for.

    exits: after which layers the policy is asked (default: all but the last); each costs what the policy costs.
    lens: (layer, hidden[d]) -> hidden[d], brings a middle state to where the head can read it (default: as it is).
    skipped: see `ExitCache`. The prompt runs whole, so the first new token does too. The trace holds `ExitPass`es.
    Raises TypeError or ValueError, before any work, on a request or on exits that can't be.
    """
    check_request(model, prompt, max_new_tokens)
    exits = check_exits(model.config.num_layers, exits)
    exit_head = (lambda layer, x: model.head(x)) if lens is None else (lambda layer, x: model.head(lens(layer, x)))
    out = Recorder(prompt, max_new_tokens, eos)
    cache = ExitCache(model, len(prompt) + max_new_tokens, skipped)
    if not out.done:
        logits = model.head(model.hidden(torch.tensor([prompt], device=model.device), cache)[0, -1])
        whole = {"layers": model.config.num_layers, "projected": (0,) * model.config.num_layers}
        out.emit(len(prompt), 0, [choose(logits, sampling, generator)], ExitPass, **whole)
    while not out.done:
        context = cache.length
        logits, told = descend(model, out.tokens[-1], len(out.tokens), cache, policy, exits, exit_head)
        out.emit(1, context, [choose(logits, sampling, generator)], ExitPass, **told)
    return out.finish()
