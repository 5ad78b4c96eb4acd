"""Other ways to run the decode step of `big_decode`, at their best: PyTorch under CUDA graphs, plain and compiled, and
`transformers` with its static cache, which compiles its forward pass and records it itself.

Keys and values of the first two fill their static cache to its end, so that attention needs no mask and takes PyTorch's
fastest kernel. `transformers` is timed as its user meets it: the time of `generate` for many tokens less that for one.
"""
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from minilm.bench.contestants import twin
from minilm.model import GPT


class StaticCache:
    """keys, values: each layer's [B, K, S, D]; the new token goes to the last place. To the model: a cache."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], position: int):
        self.keys, self.values = keys, values
        self.place = torch.tensor([position], device=keys[0].device)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.keys[layer].index_copy_(2, self.place, k), self.values[layer].index_copy_(2, self.place, v)
        return F.scaled_dot_product_attention(q, keys, values, enable_gqa=True)


class PyTorch:
    """The GPT itself, with PyTorch's own kernels."""

    def __init__(self, model: GPT, state):
        self.model, self.ids = model, state.ids[:, None]
        self.cache = StaticCache([k.clone() for k in state.keys], [v.clone() for v in state.values], state.position)

    def logits(self) -> Tensor:
        x = F.embedding(self.ids, self.model.embedding.weight)
        rope = self.model.rotary(self.cache.place, x.dtype)
        for i, block in enumerate(self.model.layers):
            x = block(x, rope, self.cache, i)
        return self.model.head(x)[:, 0]

    def tokens(self) -> Tensor:
        return self.logits().argmax(-1)


class Compiled(PyTorch):
    """The same through torch.compile, all layers in one piece."""

    def __init__(self, model: GPT, state):
        super().__init__(model, state)
        torch._dynamo.reset()
        self.logits = torch.compile(super().logits, fullgraph=True, dynamic=False)
        self.tokens = lambda: self.logits().argmax(-1)


class Transformers:
    """`generate` with cache_implementation="static", on the same weights; each token of it one pass."""

    NEW = 33

    def __init__(self, model: GPT, state):
        self.model, self.state = twin(model), state
        ids = torch.randint(model.config.vocab_size, (state.batch, state.position), device=model.device)
        self.ids = ids
        for count in (self.NEW, 1, self.NEW):                   # compiles, records
            self._generate(count)

    def logits(self) -> Tensor:
        """Without its static cache: the keys and values of the state in a plain one."""
        from transformers import DynamicCache
        cache, last = DynamicCache(), self.state.position
        for i, (k, v) in enumerate(zip(self.state.keys, self.state.values, strict=True)):
            cache.update(k[:, :, :last], v[:, :, :last], i)
        return self.model(self.state.ids[:, None], past_key_values=cache).logits[:, -1]

    def _generate(self, new_tokens: int) -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        out = self.model.generate(self.ids, attention_mask=torch.ones_like(self.ids), do_sample=False, pad_token_id=0,
                                  max_new_tokens=new_tokens, min_new_tokens=new_tokens, cache_implementation="static")
        torch.cuda.synchronize()
        if out.shape[1] != self.ids.shape[1] + new_tokens:
            raise RuntimeError(f"transformers stopped after {out.shape[1] - self.ids.shape[1]} tokens")
        return time.perf_counter() - started

    def seconds(self) -> float:
        """Of a decode step, from the difference of two calls."""
        return float(f"{(self._generate(self.NEW) - self._generate(1)) / (self.NEW - 1):.5g}")


PEERS: dict[str, Callable] = {"pytorch": PyTorch, "compiled": Compiled, "transformers": Transformers}
