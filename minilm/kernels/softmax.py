"""Softmax of every row, in one pass over memory where a row fits into a tile, in two where it does not.

A program takes a few rows into registers, does there all that softmax needs, and writes the answer: every number is
read once and written once. The steps one by one in PyTorch (max, subtract, exp, sum, divide) move it eight times.

A row longer than a tile is walked with a running maximum m and a running sum l. When a tile raises the maximum, the sum
so far was measured against the old one, and exp(m - m_new) corrects it (Milakov & Gimelshein 2018, algorithm 3). The
same step, with a third thing carried along, is FlashAttention.
"""
import torch
from torch import Tensor

from minilm.kernels import reference
from minilm.kernels.backend import check_tensors, launches, tl, triton

LOG2_E = tl.constexpr(1.4426950408889634)   # exp(x) = 2^(x · log2 e), and powers of 2 are what the chip computes
LONGEST_TILE = 32768                        # numbers of a row that one program holds; a longer row is walked
WALKING_TILE = 32768


@triton.jit(do_not_specialize=["num_rows"])
def softmax_kernel(x, out, x_row, num_rows, N, ROWS: tl.constexpr, TILE: tl.constexpr):
    """ROWS rows of N ≤ TILE numbers, in one piece."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    rows = tl.minimum(rows, num_rows - 1)                                       # past the end: the last row once more
    columns = tl.arange(0, TILE)
    inside = columns[None, :] < N
    tile = tl.load(x + rows[:, None] * x_row + columns[None, :], mask=inside, other=float("-inf"))
    tile = tile.to(tl.float32) * LOG2_E
    e = tl.exp2(tile - tl.max(tile, 1)[:, None])                                # outside the row: 2^-inf = 0
    tl.store(out + rows[:, None] * N + columns[None, :],
             (e / tl.sum(e, 1)[:, None]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def online_softmax_kernel(x, out, x_row, N, TILE: tl.constexpr):
    """One row of any length: walked once for its maximum m and sum l, once more for the answer.

    The second walk finds the row in the cache, if it is asked to keep the row and to let the answer pass through.
    """
    row = tl.program_id(0).to(tl.int64)
    x += row * x_row
    out += row * N
    columns = tl.arange(0, TILE)
    m = tl.full((), float("-inf"), tl.float32)
    l = tl.full((), 0.0, tl.float32)
    for start in range(0, N, TILE):
        tile = tl.load(x + start + columns, mask=start + columns < N, other=float("-inf"),
                       eviction_policy="evict_last").to(tl.float32) * LOG2_E
        m_new = tl.maximum(m, tl.max(tile, 0))
        shift = tl.where(m_new == float("-inf"), 0.0, m_new)                    # nothing finite yet: -inf + inf is nan
        l = l * tl.exp2(m - shift) + tl.sum(tl.exp2(tile - shift), 0)
        m = m_new
    for start in range(0, N, TILE):
        inside = start + columns < N
        tile = tl.load(x + start + columns, mask=inside, eviction_policy="evict_first").to(tl.float32) * LOG2_E
        tl.store(out + start + columns, (tl.exp2(tile - m) / l).to(out.dtype.element_ty), mask=inside,
                 cache_modifier=".cs")


def softmax(x: Tensor) -> Tensor:
    """x[..., N] -> the same shape, every row positive with sum 1. float32, float16 or bfloat16; sums in float32.

    Raises ValueError or TypeError when x is empty or of another dtype.
    """
    check_tensors(x=x)
    if not launches(x):
        return reference.softmax(x)
    rows = rows_of(x)
    num_rows, N = rows.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    with torch.cuda.device_of(x):                                               # Triton launches on the current GPU
        if N > LONGEST_TILE:
            online_softmax_kernel[(num_rows,)](rows, out, rows.stride(0), N, TILE=WALKING_TILE, num_warps=32)
        else:
            tile, at_once, warps = tile_for(rows)
            softmax_kernel[(triton.cdiv(num_rows, at_once),)](rows, out, rows.stride(0), num_rows, N, ROWS=at_once,
                                                              TILE=tile, num_warps=warps)
    return out


def rows_of(x: Tensor) -> Tensor:
    """x[..., N] as [rows, N] whose numbers stand side by side: a view where that can be, else a copy."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def tile_for(rows: Tensor) -> tuple[int, int, int]:
    """(tile, rows a program takes, warps) for rows[n, N]: 8192 numbers a program, fewer where some would have none."""
    n, N = rows.shape
    tile = triton.next_power_of_2(N)
    at_once = max(1, 8192 // tile)
    while rows.is_cuda and at_once > 1 and n < 512 * at_once:
        at_once //= 2
    return tile, at_once, min(max(tile * at_once // 1024, 4), 32)
