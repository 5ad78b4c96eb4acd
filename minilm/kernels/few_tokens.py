"""A layer for a few tokens of one text in five launches, where PyTorch's own operations take some twenty.

A small model's pass is bound by its launches: on a GPU each kernel costs a microsecond or two before it computes
anything. So each of these does all that lies between two points where everybody must wait for everybody:

    qkv         RMSNorm, queries, keys and values, their rotation; keys and values go to their slots in the cache
    attend      softmax(q kᵀ) v over some of the slots; several programs share a head's slots (flash decoding)
    out         merges what these found, multiplies by the output matrix, adds to the hidden state
    gate_up     RMSNorm, gate and up, silu(gate) · up
    down        multiplies by the down matrix, adds to the hidden state

RMSNorm needs no pass of its own: its scale is one number a row, and (x · g · scale) Wᵀ = scale · ((x · g) Wᵀ), so the
sum of squares is taken on the way. Letters: T tokens, H query heads, K key-value heads, D head size, d width.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from minilm.kernels.backend import launches, tl, triton
from minilm.model import GPT

ROWS, COLUMNS, SLOTS, WARPS = 16, 32, 64, 4     # tiles: tokens, outputs, slots of the cache
# What a product sums over at a time, and how many programs share a head's slots: the fastest of those tried on an H100.
DEPTH_AND_SPLITS = {torch.float32: (64, 4), torch.bfloat16: (128, 2)}
PRECISION = tl.constexpr("tf32x3")              # of float32 products: three of tensor cores, as exact as one in float32


@triton.jit
def two_products(x, gain, weight, tokens, first, second, width, eps, last, DEPTH: tl.constexpr,
                 ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """RMSNorm(x[tokens]) times two sets of rows of weight[n, width], transposed. From `last` on `first` counts as 0."""
    a = tl.zeros((ROWS, COLUMNS), tl.float32)
    b = tl.zeros((ROWS, COLUMNS), tl.float32)
    squares = tl.zeros((ROWS,), tl.float32)
    for start in range(0, width, DEPTH):
        k = start + tl.arange(0, DEPTH)
        inside = k < width
        part = tl.load(x + tokens[:, None] * width + k[None, :], mask=inside[None, :], other=0.0)
        wide = part.to(tl.float32)
        squares += tl.sum(wide * wide, 1)
        part = part * tl.load(gain + k, mask=inside, other=0.0)[None, :]
        inside = inside[:, None] & (first < last)[None, :]
        w = tl.load(weight + first[None, :] * width + k[:, None], mask=inside, other=0.0)
        a = tl.dot(part, w, a, input_precision=PRECISION)
        w = tl.load(weight + second[None, :] * width + k[:, None], mask=inside, other=0.0)
        b = tl.dot(part, w, b, input_precision=PRECISION)
    scale = 1.0 / tl.sqrt(squares / width + eps)
    return a * scale[:, None], b * scale[:, None]


@triton.jit
def qkv_kernel(x, gain, weight, cos, sin, positions, held, q, keys, values, eps, T, width, head_stride,
               H: tl.constexpr, K: tl.constexpr, HALF: tl.constexpr, DEPTH: tl.constexpr, ROWS: tl.constexpr):
    """One head, of queries, keys or values, for ROWS tokens: its two halves, which rotation mixes."""
    head, D = tl.program_id(0), 2 * HALF
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    tokens, real = tl.minimum(rows, T - 1), (rows < T)[:, None]
    half = tl.arange(0, HALF)
    low, high = two_products(x, gain, weight, tokens, head * D + half, head * D + HALF + half, width, eps,
                             (H + 2 * K) * D, DEPTH, ROWS, HALF)
    slots = tl.load(held) + tokens
    if head < H + K:
        where = tl.load(positions + tokens)[:, None] * D + half[None, :]
        c, s = tl.load(cos + where).to(tl.float32), tl.load(sin + where + HALF).to(tl.float32)
        low, high = low * c - high * s, high * c + low * s
    if head < H:
        to = q + (tokens * H + head)[:, None] * D + half[None, :]
    elif head < H + K:
        to = keys + (head - H) * head_stride + slots[:, None] * D + half[None, :]
    else:
        to = values + (head - H - K) * head_stride + slots[:, None] * D + half[None, :]
    tl.store(to, low.to(q.dtype.element_ty), mask=real)
    tl.store(to + HALF, high.to(q.dtype.element_ty), mask=real)


@triton.jit
def attend_kernel(q, keys, values, held, words, found, tops, totals, scale, T, head_stride, K: tl.constexpr,
                  GROUP: tl.constexpr, D: tl.constexpr, WORDS: tl.constexpr, ROWS: tl.constexpr, SLOTS: tl.constexpr,
                  SPLITS: tl.constexpr):
    """ROWS queries of one key-value head over one share of the slots: their unscaled sum, its largest score and total.

    WORDS: 64-bit words that say which of the pass's own tokens a token sees; 0: those up to itself.
    """
    head, split = tl.program_id(0), tl.program_id(2)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    real = rows < T * GROUP
    rows = tl.minimum(rows, T * GROUP - 1)
    tokens, d = rows // GROUP, tl.arange(0, D)
    place = tokens * (K * GROUP) + head * GROUP + rows % GROUP
    query = tl.load(q + place[:, None] * D + d[None, :])
    before = tl.load(held).to(tl.int32)
    end = before + T
    share = tl.cdiv(tl.cdiv(end, SPLITS), SLOTS) * SLOTS
    stop = tl.minimum((split + 1) * share, end)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sums = tl.zeros((ROWS, D), tl.float32)
    for start in range(split * share, stop, SLOTS):
        slot = start + tl.arange(0, SLOTS)
        own, there = slot - before, slot < stop
        key = tl.load(keys + head * head_stride + slot[None, :] * D + d[:, None], mask=there[None, :], other=0.0)
        scores = tl.dot(query, key, input_precision=PRECISION) * scale
        scores = tl.where(there[None, :], scores, float("-inf"))
        if start + SLOTS > before:                                      # some are the pass's own; others, all see
            if WORDS:
                bit = tl.maximum(own, 0)
                word = tl.load(words + tokens[:, None] * WORDS + (bit // 64)[None, :], mask=there[None, :], other=0)
                sees = (own < 0)[None, :] | (((word >> (bit % 64)[None, :].to(tl.int64)) & 1) != 0)
            else:
                sees = own[None, :] <= tokens[:, None]
            scores = tl.where(sees, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        safe = tl.where(higher == float("-inf"), 0.0, higher)           # nothing seen yet: no -inf - -inf
        p, fade = tl.exp(scores - safe[:, None]), tl.exp(top - safe)
        total = total * fade + tl.sum(p, 1)
        value = tl.load(values + head * head_stride + slot[:, None] * D + d[None, :], mask=there[:, None], other=0.0)
        sums = sums * fade[:, None] + tl.dot(p.to(value.dtype), value, input_precision=PRECISION)
        top = higher
    place += split * T * K * GROUP
    tl.store(found + place[:, None] * D + d[None, :], sums, mask=real[:, None])
    tl.store(tops + place, top, mask=real)
    tl.store(totals + place, total, mask=real)


@triton.jit
def out_kernel(found, tops, totals, weight, x, T, width, H: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr,
               ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """x[T, width] += attention's merged output [T, H · D] times weight[width, H · D], transposed, one tile of it."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    tokens, real, d = tl.minimum(rows, T - 1), rows < T, tl.arange(0, D)
    acc = tl.zeros((ROWS, COLUMNS), tl.float32)
    for head in range(H):
        place = tokens * H + head
        top = tl.load(tops + place)
        for split in tl.static_range(1, SPLITS):
            top = tl.maximum(top, tl.load(tops + split * T * H + place))
        y = tl.zeros((ROWS, D), tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        for split in tl.static_range(SPLITS):
            at = split * T * H + place
            weigh = tl.exp(tl.load(tops + at) - top)
            y += weigh[:, None] * tl.load(found + at[:, None] * D + d[None, :])
            total += weigh * tl.load(totals + at)
        w = tl.load(weight + columns[None, :] * (H * D) + head * D + d[:, None], mask=(columns < width)[None, :],
                    other=0.0)
        acc = tl.dot((y / total[:, None]).to(w.dtype), w, acc, input_precision=PRECISION)
    where = x + tokens[:, None] * width + columns[None, :]
    real = real[:, None] & (columns < width)[None, :]
    tl.store(where, (tl.load(where, mask=real, other=0.0) + acc).to(x.dtype.element_ty), mask=real)


@triton.jit
def gate_up_kernel(x, gain, weight, h, eps, T, width, wide, DEPTH: tl.constexpr, ROWS: tl.constexpr,
                   COLUMNS: tl.constexpr):
    """h[T, wide] = silu(gate) · up of RMSNorm(x), weight[2 · wide, width] being gate's rows and then up's; one tile."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    tokens = tl.minimum(rows, T - 1)
    gate, up = two_products(x, gain, weight, tokens, columns, wide + columns, width, eps, wide, DEPTH, ROWS, COLUMNS)
    tl.store(h + tokens[:, None] * wide + columns[None, :], (gate * tl.sigmoid(gate) * up).to(h.dtype.element_ty),
             mask=(rows < T)[:, None] & (columns < wide)[None, :])


@triton.jit
def down_kernel(h, weight, x, T, wide, width, DEPTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """x[T, width] += h[T, wide] times weight[width, wide], transposed; one tile of it."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    tokens = tl.minimum(rows, T - 1)
    acc = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, wide, DEPTH):
        k = start + tl.arange(0, DEPTH)
        part = tl.load(h + tokens[:, None] * wide + k[None, :], mask=(k < wide)[None, :], other=0.0)
        w = tl.load(weight + columns[None, :] * wide + k[:, None],
                    mask=(k < wide)[:, None] & (columns < width)[None, :], other=0.0)
        acc = tl.dot(part, w, acc, input_precision=PRECISION)
    where = x + tokens[:, None] * width + columns[None, :]
    real = (rows < T)[:, None] & (columns < width)[None, :]
    tl.store(where, (tl.load(where, mask=real, other=0.0) + acc).to(x.dtype.element_ty), mask=real)


class FewTokens:
    """A model's layers by these kernels, for passes of `T` tokens over memory[2, L, 1, K, slots, D]."""

    def __init__(self, model: GPT, memory: Tensor, T: int):
        c, device, dtype = model.config, memory.device, model.dtype
        self.model, self.memory, self.T = model, memory, T
        self.depth, self.splits = DEPTH_AND_SPLITS[dtype]
        places = torch.arange(c.max_positions, device=device)
        self.cos, self.sin = (table.contiguous() for table in model.rotary(places, dtype))
        make = lambda *shape, dtype=dtype: torch.empty(shape, dtype=dtype, device=device)           # noqa: E731
        self.q, self.h = make(T, c.num_heads, c.head_size), make(T, c.mlp_width)
        self.found = make(self.splits, T, c.num_heads, c.head_size, dtype=torch.float32)
        self.tops, self.totals = (make(self.splits, T, c.num_heads, dtype=torch.float32) for _ in range(2))

    @staticmethod
    def fits(model: GPT) -> bool:
        """Whether these kernels can run the model: its shape, its dtype, and a device that kernels are launched on."""
        c = model.config
        power = c.head_size & (c.head_size - 1) == 0 and 32 <= c.head_size <= 128
        return (power and not c.qkv_bias and not c.qk_norm and model.dtype in DEPTH_AND_SPLITS
                and model.ranks == 1 and launches(model.embedding.weight))

    def hidden(self, ids: Tensor, positions: Tensor, held: Tensor, words: Tensor | None) -> Tensor:
        """ids[T], positions[T], held[1] tokens before them -> the last layer's output [T, d].

        words[T, n], int64: bit j of a token's n · 64 says that it sees token j of these; None: it sees those up to it.
        Keys and values go to the slots after those held. All numbers are int64.
        """
        c, T = self.model.config, self.T
        x = F.embedding(ids, self.model.embedding.weight)
        blocks, stride = triton.cdiv(T, ROWS), self.memory.stride(3)
        group, tree = c.num_heads // c.num_kv_heads, 0 if words is None else words.shape[1]
        for keys, values, layer in zip(self.memory[0], self.memory[1], self.model.layers, strict=True):
            a, mlp, eps = layer.attention, layer.mlp, c.norm_eps
            qkv_kernel[(c.num_heads + 2 * c.num_kv_heads, blocks)](
                x, layer.attention_norm.weight, a.qkv.weight, self.cos, self.sin, positions, held, self.q, keys, values,
                eps, T, c.width, stride, H=c.num_heads, K=c.num_kv_heads, HALF=c.head_size // 2, DEPTH=self.depth,
                ROWS=ROWS, num_warps=WARPS)
            attend_kernel[(c.num_kv_heads, triton.cdiv(T * group, ROWS), self.splits)](
                self.q, keys, values, held, ids if words is None else words, self.found, self.tops, self.totals,
                c.head_size**-0.5, T, stride, K=c.num_kv_heads, GROUP=group, D=c.head_size, WORDS=tree, ROWS=ROWS,
                SLOTS=SLOTS, SPLITS=self.splits, num_warps=WARPS)
            out_kernel[(triton.cdiv(c.width, COLUMNS), blocks)](
                self.found, self.tops, self.totals, a.out.weight, x, T, c.width, H=c.num_heads, D=c.head_size,
                SPLITS=self.splits, ROWS=ROWS, COLUMNS=COLUMNS, num_warps=WARPS)
            gate_up_kernel[(triton.cdiv(c.mlp_width, COLUMNS), blocks)](
                x, layer.mlp_norm.weight, mlp.gate_up.weight, self.h, eps, T, c.width, c.mlp_width, DEPTH=self.depth,
                ROWS=ROWS, COLUMNS=COLUMNS, num_warps=WARPS)
            down_kernel[(triton.cdiv(c.width, COLUMNS), blocks)](
                self.h, mlp.down.weight, x, T, c.mlp_width, c.width, DEPTH=self.depth, ROWS=ROWS, COLUMNS=COLUMNS,
                num_warps=WARPS)
        return x
