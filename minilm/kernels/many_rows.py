"""A pass of a model over many rows, pieces of prompts or wide decode steps: eight launches a layer, and attention.

From some 64 rows on the products are work for cuBLAS, which is hard to beat at it. What lies between them only moves
numbers, and as PyTorch's modules it moves them through memory some twenty times a layer. Here every number that a
product made is read once, and what the next one wants is written once:

    rms_norm            the residual addition, and the norm of the sum
    rotate_and_store    queries and keys turned; keys and values to their slots in the pool
    swiglu              silu(gate) · up

The caller attends: it knows which rows are whose. Letters: T rows, H query heads, K key-value heads, D head size.
"""
from collections.abc import Callable

import torch
from torch import Tensor

from minilm.kernels import reference
from minilm.kernels.backend import DTYPES, check_device, check_shape, check_tensors, launches, tl, triton
from minilm.kernels.rms_norm import LONGEST_ROW, rms_norm
from minilm.kernels.softmax import rows_of
from minilm.model import GPT

COLUMNS = 2048                                              # of a row of gate and up, for a program


@triton.jit
def turn(x, to, cos, sin, HEADS: tl.constexpr, HALF: tl.constexpr, MOST: tl.constexpr, PAIRS: tl.constexpr,
         TURNED: tl.constexpr):
    """HEADS heads of one row, x[HEADS, 2 · HALF], by the angles whose cos and sin are [PAIRS].

    TURNED: else they go as they are.  MOST ≥ HEADS, PAIRS ≥ HALF: powers of 2.
    """
    heads, pairs = tl.arange(0, MOST), tl.arange(0, PAIRS)
    real = (heads < HEADS)[:, None] & (pairs < HALF)[None, :]
    at = heads[:, None] * (2 * HALF) + pairs[None, :]
    low = tl.load(x + at, mask=real, other=0.0)
    high = tl.load(x + at + HALF, mask=real, other=0.0)
    if TURNED:
        first, second = low.to(tl.float32), high.to(tl.float32)
        low = (first * cos[None, :] - second * sin[None, :]).to(low.dtype)
        high = (second * cos[None, :] + first * sin[None, :]).to(high.dtype)
    tl.store(to + at, low, mask=real)
    tl.store(to + at + HALF, high, mask=real)


@triton.jit
def rotate_and_store_kernel(qkv, cos, sin, positions, slots, q, keys, values, row_size, H: tl.constexpr,
                            K: tl.constexpr, HALF: tl.constexpr, MOST_H: tl.constexpr, MOST_K: tl.constexpr,
                            PAIRS: tl.constexpr):
    """One row: its queries to q[T, H, D], its keys and values to its slot of their pools [slots, K, D]."""
    row, D = tl.program_id(0).to(tl.int64), 2 * HALF
    position, slot = tl.load(positions + row), tl.load(slots + row)
    pairs = tl.arange(0, PAIRS)
    c = tl.load(cos + position * HALF + pairs, mask=pairs < HALF, other=0.0)
    s = tl.load(sin + position * HALF + pairs, mask=pairs < HALF, other=0.0)
    qkv += row * row_size
    turn(qkv, q + row * (H * D), c, s, H, HALF, MOST_H, PAIRS, True)
    turn(qkv + H * D, keys + slot * (K * D), c, s, K, HALF, MOST_K, PAIRS, True)
    turn(qkv + (H + K) * D, values + slot * (K * D), c, s, K, HALF, MOST_K, PAIRS, False)


def rotate_and_store(qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, slots: Tensor, keys: Tensor,
                     values: Tensor) -> Tensor:
    """qkv[T, (H + 2K) · D] -> its queries, turned, [T, H, D]; its keys, turned, and its values go to the pools.

    keys, values: contiguous [blocks, block_size, K, D]; row t goes to slots[t] = block · block_size + place in it.
    cos, sin: float32 [most positions, D/2], row t takes those of positions[t]. positions and slots [T] are int64, and
    not looked at. Raises ValueError or TypeError when shapes, dtypes or devices don't match.
    """
    check_tensors(qkv=qkv, keys=keys, values=values)
    check_shape("keys", keys, "blocks block_size K D")
    K, D = keys.shape[2:]
    H = qkv.shape[-1] // D - 2 * K
    if qkv.dim() != 2 or qkv.shape[1] % D or D % 2 or H < 1:
        raise ValueError(f"qkv must have shape [T, (H + 2K) · D] with K={K}, D={D} even; it has {list(qkv.shape)}")
    if values.shape != keys.shape or not (keys.is_contiguous() and values.is_contiguous()):
        raise ValueError(f"keys and values must be contiguous and of one shape; they are {list(keys.shape)} and "
                         f"{list(values.shape)}")
    for name, numbers in (("positions", positions), ("slots", slots)):
        check_shape(name, numbers, "T", T=len(qkv))
        check_device("qkv", qkv, name, numbers)
        if numbers.dtype != torch.int64:
            raise TypeError(f"{name} must be int64; they are {numbers.dtype}")
    for name, table in (("cos", cos), ("sin", sin)):
        check_shape(name, table, "positions half", half=D // 2)
        check_device("qkv", qkv, name, table)
    if not launches(qkv):
        return reference.rotate_and_store(qkv, cos, sin, positions, slots, keys, values)
    rows, q = rows_of(qkv), torch.empty(len(qkv), H, D, dtype=qkv.dtype, device=qkv.device)
    with torch.cuda.device_of(qkv):                         # Triton launches on the current GPU
        rotate_and_store_kernel[(len(qkv),)](
            rows, cos.contiguous(), sin.contiguous(), positions.contiguous(), slots.contiguous(), q, keys, values,
            rows.stride(0), H=H, K=K, HALF=D // 2, MOST_H=triton.next_power_of_2(H),
            MOST_K=triton.next_power_of_2(K), PAIRS=triton.next_power_of_2(D // 2), num_warps=4)
    return q


@triton.jit
def swiglu_kernel(x, out, row_size, W, COLUMNS: tl.constexpr):
    """Some columns of one row of out[T, W]."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < W
    gate = tl.load(x + row * row_size + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + row * row_size + W + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * W + columns, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=inside)


def swiglu(gate_up: Tensor) -> Tensor:
    """gate_up[..., 2W], gate's W numbers and then up's -> silu(gate) · up, [..., W], rounded once.

    Raises ValueError or TypeError when it is empty, of another dtype, or has rows of an odd number of numbers.
    """
    check_tensors(gate_up=gate_up)
    if gate_up.shape[-1] % 2:
        raise ValueError(f"rows of gate and up hold an even number of numbers; these hold {gate_up.shape[-1]}")
    if not launches(gate_up):
        return reference.swiglu(gate_up)
    rows, W = rows_of(gate_up), gate_up.shape[-1] // 2
    out = torch.empty(*gate_up.shape[:-1], W, dtype=gate_up.dtype, device=gate_up.device)
    columns = min(COLUMNS, triton.next_power_of_2(W))
    with torch.cuda.device_of(gate_up):                     # Triton launches on the current GPU
        swiglu_kernel[len(rows), triton.cdiv(W, columns)](rows, out, rows.stride(0), W, COLUMNS=columns, num_warps=4)
    return out


class ManyRows:
    """A model's layers by these kernels; the hidden state stays in the model's dtype. Captures into a CUDA graph.

    Raises ValueError where the kernels cannot run the model; see `fits`.
    """

    def __init__(self, model: GPT):
        if not self.fits(model):
            raise ValueError("these kernels cannot run this model here: they need float32, float16 or bfloat16, a GPU "
                             "with Triton (or its interpreter), no qk norm")
        self.model, c = model, model.config
        places = torch.arange(c.max_positions, device=model.device)
        exact = torch.promote_types(model.dtype, torch.float32)
        self.cos, self.sin = (table[:, c.head_size // 2 :].contiguous()         # the upper half: sin unsigned
                              for table in model.rotary(places, exact))

    @staticmethod
    def fits(model: GPT) -> bool:
        """Whether these kernels can run the model: its shape, its dtype, and a device that kernels are launched on."""
        c = model.config
        return (not c.qk_norm and c.width <= LONGEST_ROW and model.dtype in DTYPES and model.ranks == 1
                and launches(model.embedding.weight))

    def hidden(self, ids: Tensor, positions: Tensor, slots: Tensor, keys: list[Tensor], values: list[Tensor],
               attend: Callable[[int, Tensor], Tensor]) -> Tensor:
        """ids[T], positions[T], slots[T], int64 -> the last layer's output [T, d].

        keys, values: each layer's pool [blocks, block_size, K, D].  attend(layer, q[T, H, D]) -> [T, H, D], contiguous:
        asked when the layer's keys and values are in their slots.
        """
        eps, x, y = self.model.config.norm_eps, self.model.embed(ids[None])[0], None
        for i, layer in enumerate(self.model.layers):
            attention, mlp, weight = layer.attention, layer.mlp, layer.attention_norm.weight
            normed, x = (rms_norm(x, weight, eps), x) if y is None else rms_norm(y, weight, eps, residual=x)
            q = rotate_and_store(attention.qkv(normed), self.cos, self.sin, positions, slots, keys[i], values[i])
            y = attention.out(attend(i, q).flatten(1))
            normed, x = rms_norm(y, layer.mlp_norm.weight, eps, residual=x)
            y = mlp.down(swiglu(mlp.gate_up(normed)))
        return x + y
