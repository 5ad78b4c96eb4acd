"""Passes as CUDA graphs: the launches of a whole pass recorded once, and from then on sent to the GPU in one call.

A small model's pass is some hundred small kernels, and a GPU runs each faster than Python can ask for it. A graph holds
all of them, but with the addresses and shapes that it was recorded with. So everything stays in one place here: the
cache is memory that never moves, and what changes from pass to pass (ids, positions, which slots, who sees whom)
travels to fixed tensors before a replay. Shapes are rounded up to a few sizes, with a graph for each, recorded when it
is first needed; what pads them writes where nothing is kept and is seen by nobody.

`Captured(model)` decodes in place of the model, one text at a time, with any decoder. Without a GPU it runs the same
padded passes unrecorded: slower than the model itself, and a way to test them.
"""
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minilm.cache import Cache
from minilm.kernels.few_tokens import FewTokens
from minilm.model import GPT
from minilm.static_cache import WIDEST, WORDS, Layout, StaticCache

LEAST_REACH = 128       # slots: below this, a shorter attention saves nothing
PADDING = np.frombuffer(b"".join((1 << i).to_bytes(8 * WORDS, "little") for i in range(WIDEST)), np.int64)


def size_for(least: int) -> int:
    """The smallest of 1, 2, 3, 4, 6, 8, 12, 16, 24, ... that is at least `least`: at most half as much again."""
    power = 1 << (least - 1).bit_length()
    return power * 3 // 4 if power >= 4 and power * 3 // 4 >= least else power


def width_for(tokens: int) -> int:
    """How wide the pass for so many tokens is: finer steps than `size_for`'s where a step is a lot of work."""
    return size_for(tokens) if tokens <= 64 else -(-tokens // 16) * 16


def record_graph(run: Callable[[], Any], pool: Any) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Run once, so that libraries set themselves up, then again while the launches are written down: (graph, answer).

    pool: the memory that graphs share. The answer lies where every replay writes it.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        answer = run()
    return graph, answer


class Recorded:
    """One pass of `width` tokens that may see the first `reach` slots; to the model, the cache that it runs with.

    What changes comes in one row of whole numbers: ids[width], positions[width], the tokens held, the number of the
    pass; for a tree also who sees whom, [width, WORDS]. The number comes back: a row that was read may be written over.
    """

    def __init__(self, owner: "Captured", width: int, reach: int, tree: bool):
        self.model, self.memory, self.width, self.reach, self.tree = owner.model, owner.memory, width, reach, tree
        self.pool, device = owner.pool, owner.memory.device
        row = torch.zeros(2 * width + 2 + (width * WORDS if tree else 0), dtype=torch.int64)
        self.staged, self.back = (row, row[:0]) if self.pool is None else (row.pin_memory(), row[:1].pin_memory())
        self.numbers, self.number = self.staged.numpy(), self.back.numpy()  # the same memory: no launch
        self.passes, self.inputs = 0, row.to(device)
        self.slot = torch.arange(reach, device=device)
        self.bit = torch.arange(64, device=device)
        self.layers = FewTokens(self.model, self.memory, width) if owner.kernels else None
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, tokens: list[int], held: int, layout: Layout | None) -> Tensor:
        """hidden[width, d] after the tokens, in memory that the next pass writes over. layout: of a tree."""
        if self.graph is not None and self.number[0] != self.passes:
            torch.cuda.current_stream().synchronize()
        self.passes += 1
        T, width, numbers = len(tokens), self.width, self.numbers
        numbers[:T] = tokens
        numbers[T:width] = 0                                    # padding: token 0, where the text now ends
        numbers[width : width + T] = range(T) if layout is None else layout.depths
        numbers[width + T : 2 * width] = 0
        numbers[width : 2 * width] += held
        numbers[2 * width : 2 * width + 2] = held, self.passes
        if layout is not None:                                  # padding sees itself, or its softmax would be NaN
            sees = numbers[2 * width + 2 :]
            sees[: T * WORDS] = np.frombuffer(b"".join(layout.rows), np.int64)
            sees[T * WORDS :] = PADDING[T * WORDS : width * WORDS]
        if self.pool is None:
            self.states = self._run()
        else:
            if self.graph is None:
                self.graph, self.states = record_graph(self._run, self.pool)
            self.graph.replay()
        return self.states

    @torch.inference_mode()
    def _run(self) -> Tensor:
        """The pass itself: only work on the device, with nothing decided on the way."""
        width = self.width
        self.inputs.copy_(self.staged, non_blocking=True)
        if self.pool is not None:
            self.back.copy_(self.inputs[2 * width + 1 : 2 * width + 2], non_blocking=True)
        ids, self.positions = self.inputs[:width], self.inputs[width : 2 * width]
        held, words = self.inputs[2 * width : 2 * width + 1], self.inputs[2 * width + 2 :].view(width, -1)
        if self.layers is not None:
            return self.layers.hidden(ids, self.positions, held, words if self.tree else None)
        self.slots = held + self.slot[:width]
        sees = self._tree_sees(held, words) if self.tree else self.slot <= self.slots[:, None]      # (width, reach)
        bias = torch.zeros_like(sees, dtype=self.memory.dtype).masked_fill_(~sees, float("-inf"))
        groups = self.model.config.num_heads // self.model.config.num_kv_heads
        self.bias = bias.repeat(groups, 1)                                          # (H / K · width, reach)
        return self.model.hidden(ids[None], self)[0]

    def _tree_sees(self, held: Tensor, words: Tensor) -> Tensor:
        """[width, reach]: everything held; of the pass's own tokens those whose bit is set; nothing after them."""
        own = (words[:, :, None] >> self.bit & 1).view(self.width, -1).bool()
        columns = torch.cat((torch.ones_like(own[:, :1]), own), dim=1)             # held, own tokens, a bit that is 0
        return columns[:, (self.slot - held + 1).clamp(0, self.width + 1)]

    # --- what the model asks of a cache ---

    def begin(self, num_tokens: int) -> Tensor:
        return self.positions

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.memory[0, layer], self.memory[1, layer]                 # (1, K, slots, D)
        keys.index_copy_(2, self.slots, k)
        values.index_copy_(2, self.slots, v)
        B, H, T, D = q.shape
        packed = q.reshape(B, k.shape[1], -1, D)                # the queries that share a head, as rows of it
        y = F.scaled_dot_product_attention(packed, keys[:, :, : self.reach], values[:, :, : self.reach],
                                           attn_mask=self.bias)
        return y.reshape(B, H, T, D)

    def end(self, num_tokens: int) -> None:
        pass


class Captured:
    """A GPT whose passes over its own cache are CUDA graphs. Everything else is the model's, by the same names.

    It holds memory for one text: `new_cache` hands it out, and what was in it is gone. spare: room for the branches of
    trees, beside `capacity` tokens (default: the model's max_positions). capture: False runs the same passes without
    recording them, as it always is on a CPU. kernels: layers by the Triton kernels of `kernels.few_tokens` (default:
    on a GPU, where they know the model's shape), or by the model's own operations.
    """

    def __init__(self, model: GPT, *, capacity: int | None = None, spare: int = WIDEST, capture: bool | None = None,
                 kernels: bool | None = None):
        on_gpu = model.device.type == "cuda"
        if capture and not on_gpu:
            raise ValueError(f"passes are captured on a CUDA device; this model is on {model.device}")
        if kernels and not FewTokens.fits(model):
            raise ValueError("the kernels of few_tokens cannot run this model here: they need CUDA (or Triton's "
                             "interpreter), float32 or bfloat16, heads of 32, 64 or 128; no biases, no qk_norm")
        self.kernels = on_gpu and FewTokens.fits(model) if kernels is None else kernels
        if spare > WIDEST:
            raise ValueError(f"a tree has at most {WIDEST} tokens; spare is {spare}")
        self.model, c = model, model.config
        self.capacity, self.spare = c.max_positions if capacity is None else capacity, spare
        slots = size_for(self.capacity + spare + WIDEST)
        self.memory = torch.zeros((2, c.num_layers, 1, c.num_kv_heads, slots, c.head_size), dtype=model.dtype,
                                  device=model.device)          # zeros: a slot that nobody sees must hold numbers
        self.passes: dict[tuple[int, int, bool], Recorded] = {}
        self.pool = torch.cuda.graph_pool_handle() if on_gpu and capture is not False else None
        self._cache: StaticCache | None = None

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def new_cache(self, capacity: int | None = None, spare: int = 0) -> StaticCache:
        """An empty cache in this model's memory; the one before is void. Raises ValueError when it is too large."""
        capacity = self.capacity if capacity is None else capacity
        if capacity > self.capacity or spare > self.spare:
            raise ValueError(f"this model was captured with room for {self.capacity} tokens and {self.spare} of trees; "
                             f"asked for were {capacity} and {spare}: capture it with more")
        self._cache = StaticCache(self.config, self.memory, capacity, spare)
        return self._cache

    def read(self, tokens: list[int], cache: Cache) -> Tensor:
        """As `GPT.read`, hidden[T, d]. A cache of another make is served by the model as it is.

        Raises RuntimeError for a cache whose memory a newer one has taken, ValueError when the tokens don't fit.
        """
        if not isinstance(cache, StaticCache):
            return self.model.read(tokens, cache)
        if cache is not self._cache:
            raise RuntimeError("a captured model holds one text at a time, and new_cache() has been called since: "
                               "finish one text before the next, or use a second Captured(model)")
        T, held = len(tokens), cache.length
        layout = cache.take_layout(T)
        if layout is None and T > WIDEST:
            return torch.cat([self.read(tokens[i : i + WIDEST], cache) for i in range(0, T, WIDEST)])
        width = width_for(T)
        reach = self.memory.shape[-2] if self.kernels else max(LEAST_REACH, size_for(held + width))
        key = width, reach, layout is not None
        if key not in self.passes:
            self.passes[key] = Recorded(self, *key)
        states = self.passes[key](tokens, held, layout)[:T].clone()
        cache.end(T)
        return states

    def hidden(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """As `GPT.hidden`, for one text at a time when the cache is this model's own."""
        if not isinstance(cache, StaticCache):
            return self.model.hidden(ids, cache)
        if ids.dim() != 2 or len(ids) != 1:
            raise ValueError(f"a captured model reads one text at a time, ids[1, T]; got {list(ids.shape)}")
        return self.read(ids[0].tolist(), cache)[None]

    def __call__(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        return self.head(self.hidden(ids, cache))
