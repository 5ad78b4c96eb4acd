"""FlashAttention-2, forward (Dao 2023, algorithm 1): exact attention, no T × S scores in memory.

A program owns some query rows of one head and walks the keys tile by tile. It keeps three things per row, in registers:

    m     the largest score so far
    l     the sum of exp(score - m) so far
    acc   the sum of exp(score - m) · value so far: the answer, but for a division by l

A tile with a larger score moves m; what was summed against the old m is then worth exp(m - m_new) of it. The division
by l waits until the end. Scores are kept in units of log 2, so that exp is the chip's exp2.

Tiles that every row of the program sees whole need no mask; only those at the diagonal and at the end of the keys do.
They get a loop of their own, so that the long one does nothing but multiply and exponentiate.
"""
import torch
from torch import Tensor

from minilm.kernels import reference
from minilm.kernels.backend import (
    TensorDescriptor,
    check_heads,
    check_lengths,
    check_shape,
    check_tensors,
    launches,
    tl,
    triton,
)
from minilm.kernels.softmax import LOG2_E


@triton.jit
def tile_of(x, row, head, start, SIZE: tl.constexpr, HEAD: tl.constexpr):
    """Tokens `start` to start + SIZE of one head, (SIZE, HEAD): zeros past the tensor's last token and past D."""
    return tl.reshape(x.load([row, head, start, 0]), (SIZE, HEAD))


@triton.jit
def fold_tiles(acc, m, l, these, k, v, row, kv_head, first, last, n, last_seen, scale, MASKED: tl.constexpr,
               RAGGED: tl.constexpr, TILE: tl.constexpr, HEAD: tl.constexpr, PRECISION: tl.constexpr):
    """Take keys `first` up to `last` into the running (acc, m, l). With MASKED, query i sees none past last_seen[i]."""
    for start in range(first, last, TILE):
        keys = tile_of(k, row, kv_head, start, TILE, HEAD)
        scores = tl.dot(these, keys.T, input_precision=PRECISION)                           # (ROWS, TILE)
        if MASKED:
            places = start + tl.arange(0, TILE)
            scores = tl.where(places[None, :] <= last_seen[:, None], scores * scale, float("-inf"))
            m_new = tl.maximum(m, tl.max(scores, 1))
            shift = tl.where(m_new == float("-inf"), 0.0, m_new)    # a query that sees nothing yet: -inf + inf is nan
            p = tl.exp2(scores - shift[:, None])
            shrink = tl.exp2(m - shift)
        else:
            m_new = tl.maximum(m, tl.max(scores, 1) * scale)
            p = tl.exp2(scores * scale - m_new[:, None])
            shrink = tl.exp2(m - m_new)
        l = l * shrink + tl.sum(p, 1)
        acc = acc * shrink[:, None]
        values = tile_of(v, row, kv_head, start, TILE, HEAD)
        if MASKED and RAGGED:                                       # past a row's end lies anything, and 0 · nan is nan
            values = tl.where((places < n)[:, None], values, 0.0).to(these.dtype)
        acc = tl.dot(p.to(these.dtype), values, acc, input_precision=PRECISION)
        m = m_new
    return acc, m, l


@triton.jit(do_not_specialize=["T", "S", "H", "GROUP"])             # else each kind of length is compiled anew
def flash_attention_kernel(
    q, k, v, out, lengths, scale, T, S, H, GROUP, CAUSAL: tl.constexpr, RAGGED: tl.constexpr,
    ROWS: tl.constexpr, TILE: tl.constexpr, HEAD: tl.constexpr, PRECISION: tl.constexpr,
):
    """ROWS queries of one head against all the keys that they see.

    q, k, v and out are tensor descriptors: on Hopper one instruction of one thread fetches a whole tile (TMA).
    HEAD is the head size, rounded up to a power of 2; GROUP query heads share a key-value head.
    """
    top = (tl.num_programs(1) - 1 - tl.program_id(1)) * ROWS        # the last queries see the most keys: they go first
    row = tl.program_id(0) // H
    head = tl.program_id(0) % H
    kv_head = head // GROUP
    n = tl.load(lengths + row).to(tl.int32) if RAGGED else S

    end, full = n, n                                                # seen by some of these queries; by all of them
    last_seen = tl.full((ROWS,), n - 1, tl.int32)
    if CAUSAL:                                                      # the queries are the last T of the n tokens
        last_seen = n - T + top + tl.arange(0, ROWS)
        end = tl.minimum(n, n - T + top + ROWS)
        full = tl.maximum(n - T + top + 1, 0)
    full = full // TILE * TILE

    acc = tl.zeros((ROWS, HEAD), tl.float32)
    m = tl.full((ROWS,), float("-inf"), tl.float32)
    l = tl.zeros((ROWS,), tl.float32)
    these = tile_of(q, row, head, top, ROWS, HEAD)
    acc, m, l = fold_tiles(acc, m, l, these, k, v, row, kv_head, 0, full, n, last_seen, scale,
                           False, RAGGED, TILE, HEAD, PRECISION)
    acc, m, l = fold_tiles(acc, m, l, these, k, v, row, kv_head, full, end, n, last_seen, scale,
                           True, RAGGED, TILE, HEAD, PRECISION)
    acc = acc / tl.where(l == 0.0, 1.0, l)[:, None]                 # l = 0: a query that sees no key gets zeros
    out.store([row, head, top, 0], tl.reshape(acc.to(these.dtype), (1, 1, ROWS, HEAD)))


def flash_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float | None = None,
                    lengths: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ · scale) v: q[B, H, T, D], k and v[B, K, S, D] -> [B, H, T, D].

    Query head h reads key-value head h // (H/K). D is a multiple of 16 from 16 to 256; scale is 1/sqrt(D) unless given.
    lengths[B] (int32 or int64, 1 to S): how many of each row's keys count; all unless given. Causal: the T queries are
    the last T of those, after a cached prefix of lengths[b] - T; one that would stand before the first gets zeros.
    Any strides; no gradients. Raises ValueError or TypeError when shapes, dtypes or devices don't match.
    """
    check(q, k, v, causal, scale, lengths)
    if not launches(q):
        return reference.attention(q, k, v, causal=causal, scale=scale, lengths=lengths)
    B, H, T, D = q.shape
    K, S = k.shape[1:3]
    scale = (D**-0.5 if scale is None else scale) * LOG2_E.value
    rows, tile, warps, stages = tiles_for(q)
    head = triton.next_power_of_2(D)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    with torch.cuda.device_of(q):                       # Triton launches on the current GPU
        flash_attention_kernel[B * H, triton.cdiv(T, rows)](
            described(q, rows, head), described(k, tile, head), described(v, tile, head), described(out, rows, head),
            None if lengths is None else lengths.contiguous(), scale, T, S, H, H // K,
            CAUSAL=causal, RAGGED=lengths is not None, ROWS=rows, TILE=tile, HEAD=head,
            PRECISION="ieee" if q.dtype == torch.float32 else "tf32", num_warps=warps, num_stages=stages)
    return out


def tiles_for(q: Tensor) -> tuple[int, int, int, int]:
    """(queries a program, keys a tile, warps, tiles in flight), as measured to be best on an H100.

    Other GPUs have less shared memory or fewer registers, and the interpreter is to meet many borders: small tiles.
    """
    D = q.shape[-1]
    if not q.is_cuda:
        return 32, 32, 4, 1
    if torch.cuda.get_device_capability(q.device)[0] not in (9, 10):
        return (64, 32, 4, 2) if D * q.element_size() <= 256 else (32, 16, 4, 1)
    if q.dtype == torch.float32:
        return (64, 32, 4, 2) if D <= 64 else (32, 32, 4, 1)
    if D <= 64:
        return 64, 128, 4, 2
    return (128, 64, 4, 2) if D <= 128 else (128, 64, 8, 2)


def described(x: Tensor, size: int, head: int) -> "TensorDescriptor":
    """x[B, heads, tokens, D] as the hardware fetches it: `size` tokens of one head at a time, `head` ≥ D numbers each.

    What the hardware cannot follow is copied first: it takes addresses and strides that are multiples of 16 bytes.
    """
    steps = [x.data_ptr(), *(stride * x.element_size() for stride in x.stride()[:3])]
    if x.stride(3) != 1 or x.stride(2) == 0 or any(step % 16 for step in steps):
        x = x.clone(memory_format=torch.contiguous_format)
    return TensorDescriptor(x, list(x.shape), list(x.stride()), [1, 1, size, head])


def check(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float | None, lengths: Tensor | None) -> None:
    """Raises ValueError or TypeError unless these can attend."""
    check_tensors(q=q, k=k, v=v)
    check_shape("q", q, "B H T D")
    B, H, T, D = q.shape
    check_shape("k", k, "B K S D", B=B, D=D)
    K, S = k.shape[1:3]
    check_shape("v", v, "B K S D", B=B, K=K, S=S, D=D)
    check_heads(H, K, D)
    if lengths is not None:
        check_lengths(lengths, B, 1, S, beside=q)
    if scale is not None and not 0 < scale < float("inf"):          # the largest score must stay the largest, scaled
        raise ValueError(f"scale must be a positive number; it is {scale}")
    if causal and T > S:
        raise ValueError(f"{T} queries cannot be the last of {S} keys: when causal, T must be at most S")
