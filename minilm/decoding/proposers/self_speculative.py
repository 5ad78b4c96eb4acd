"""Self-speculation (LayerSkip, Elhoushi et al. 2024): the target's own first layers draft, the others verify.

The first layers run once for each token: verification takes up their states and fills in the layers above, so a draft
costs no second model, no second cache and no work done twice.
"""
import torch
from torch import Tensor

from minilm.cache import KVCache
from minilm.checks import check_count
from minilm.decoding.speculative import Draft
from minilm.model import GPT
from minilm.sampling import Sampling, draw, uniform


class SelfSpeculative:
    """Draft `num_tokens` tokens with the first `exit_layer` layers and the model's own head."""

    def __init__(self, exit_layer: int, num_tokens: int = 4):
        check_count("exit_layer", exit_layer, 1)
        check_count("num_tokens", num_tokens, 1)
        self.exit_layer, self.num_tokens = exit_layer, num_tokens

    def start(self, model: GPT, cache: KVCache) -> None:
        if self.exit_layer >= model.config.num_layers:
            raise ValueError(f"exit_layer must be below the model's {model.config.num_layers} layers; it is "
                             f"{self.exit_layer}")
        self.model, self.cache = model, cache
        self.states: list[Tensor] = []                          # each (1, 1, d): what the drafting layers left

    def propose(self, text: list[int], limit: int, hidden: Tensor, sampling: Sampling,
                generator: torch.Generator | None) -> Draft:
        start, tokens, probs = self.cache.length, [], []
        self.states, feed = [], text[-1]
        for _ in range(min(self.num_tokens, limit)):
            logits = self.model.head(self._first_layers(feed)[0, 0])
            if sampling.greedy:
                feed = int(logits.argmax())                     # no law to remember
            else:
                q = sampling.probs(logits)
                feed = draw(q, uniform(generator))
                probs.append(q)
            tokens.append(feed)
        self.cache.truncate(start)                              # verification fills the same slots of the layers above
        return Draft(tokens, torch.stack(probs) if probs else None)

    def _first_layers(self, token: int) -> Tensor:
        """One token through the drafting layers, whose keys and values go into the target's cache."""
        x = self.model.embed(torch.tensor([[token]], device=self.model.device))
        rope = self.model.rotary(self.cache.begin(1), x.dtype)
        for layer in range(self.exit_layer):
            x = self.model.layers[layer](x, rope, self.cache, layer)
        self.cache.end(1)
        self.states.append(x)
        return x

    def verify(self, model: GPT, cache: KVCache, ids: list[int]) -> Tensor:
        start = cache.length
        cache.length += len(self.states)                        # their keys and values are in the first layers
        for token in ids[len(self.states):]:                    # the last draft, which the drafting did not feed
            self._first_layers(token)
        cache.truncate(start)
        x = torch.cat(self.states, dim=1)                       # (1, n + 1, d)
        self.states = []
        rope = model.rotary(cache.begin(x.shape[1]), x.dtype)
        for layer in range(self.exit_layer, model.config.num_layers):
            x = model.layers[layer](x, rope, cache, layer)
        cache.end(x.shape[1])
        return x[0]
