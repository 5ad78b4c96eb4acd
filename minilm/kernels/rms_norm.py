"""RMSNorm of every row, with the residual addition before it in the same pass when asked.

A transformer block does x = x + y and then norm(x). Apart, the sum is written by one kernel and read again by the next;
together it stays in registers: two reads and two writes a number, not three and two.
"""
import torch
from torch import Tensor

from minilm.kernels import reference
from minilm.kernels.backend import check_shape, check_tensors, launches, tl, triton
from minilm.kernels.softmax import rows_of, tile_for

LONGEST_ROW = 32768                     # a row is held by one program


@triton.jit(do_not_specialize=["num_rows"])
def rms_norm_kernel(x, residual, weight, out, total, x_row, residual_row, num_rows, N, eps,
                    ADD: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr):
    """ROWS rows of N ≤ TILE numbers. With ADD, total = x + residual is what is normed, and is written too."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, TILE)
    inside = (rows[:, None] < num_rows) & (columns[None, :] < N)
    place = rows[:, None] * N + columns[None, :]
    tile = tl.load(x + rows[:, None] * x_row + columns[None, :], mask=inside, other=0.0).to(tl.float32)
    if ADD:
        more = tl.load(residual + rows[:, None] * residual_row + columns[None, :], mask=inside, other=0.0)
        tile += more.to(tl.float32)
        tl.store(total + place, tile.to(total.dtype.element_ty), mask=inside)
    scale = tl.rsqrt(tl.sum(tile * tile, 1) / N + eps)              # N, not TILE: the padding is no part of the mean
    w = tl.load(weight + columns, mask=columns < N, other=0.0).to(tl.float32)
    tl.store(out + place, (tile * scale[:, None] * w[None, :]).to(out.dtype.element_ty), mask=inside)


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5, *, residual: Tensor | None = None):
    """x[..., N] / sqrt(mean(x²) + eps) · weight[N]; given a residual like x, (norm of x + residual, x + residual).

    Means in float32, whatever the dtype. Raises ValueError or TypeError when shapes, dtypes or devices don't match.
    """
    others = {} if residual is None else {"residual": residual}
    check_tensors(x=x, weight=weight, **others)
    N = x.shape[-1]
    check_shape("weight", weight, "N", N=N)
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"residual must have x's shape {list(x.shape)}; it has {list(residual.shape)}")
    if N > LONGEST_ROW:
        raise ValueError(f"rows of {N} numbers are too long: at most {LONGEST_ROW}")
    if not launches(x):
        return reference.rms_norm(x, weight, eps, residual=residual)
    rows = rows_of(x)
    more = rows if residual is None else rows_of(residual)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    total = out if residual is None else torch.empty_like(out)
    tile, at_once, warps = tile_for(rows)
    with torch.cuda.device_of(x):                               # Triton launches on the current GPU
        rms_norm_kernel[(triton.cdiv(len(rows), at_once),)](
            rows, more, weight.contiguous(), out, total, rows.stride(0), more.stride(0), len(rows), N, eps,
            ADD=residual is not None, ROWS=at_once, TILE=tile, num_warps=warps)
    return out if residual is None else (out, total)
