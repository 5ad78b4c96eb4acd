"""One matrix product, done the way that a CPU does it fast when there are only a few rows.

Decoding multiplies one row (or, when verifying drafts, a handful) by every weight matrix of the model. That is bound
by reading the weights, yet the usual call, x @ Wᵀ, reads them far below the memory's rate on many CPUs: its kernel
for "tall and thin" is tuned for many rows. Asking for the same product as (W @ xᵀ)ᵀ, with at least two columns so
that the library does not fall back to its matrix-vector routine, reads them faster: on the two cores recorded in
bench/results/cpu_few_rows.json, 1.7 to 2.6 times for one row. `minilm bench linear` measures both on your machine.
"""
import torch.nn.functional as F
from torch import Tensor, nn

FEW_ROWS = 16  # above this many rows the library's own kernel is as good or better


class Linear(nn.Linear):
    """y[..., n] = x[..., m] Wᵀ + b, with W[n, m]: `torch.nn.Linear`, faster for a few rows on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x[..., m] times weight[n, m]ᵀ plus bias[n] -> [..., n], by whichever routine is faster for so many rows."""
    rows = x.numel() // x.shape[-1]
    if rows > FEW_ROWS or x.device.type != "cpu":
        return F.linear(x, weight, bias)
    return few_rows(x, weight, bias)


def few_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x[..., m] times weight[n, m]ᵀ plus bias[n], as (W xᵀ)ᵀ -> [..., n]. Meant for at most `FEW_ROWS` rows."""
    rows = x.reshape(-1, x.shape[-1])                               # (rows, m)
    count = len(rows)
    if count == 1:
        rows = rows.expand(2, -1)                                   # a matrix, not a vector: the faster routine
    # Each row of x must lie in one piece, or the library takes a slow path; so must each row of the answer, for the
    # next product. Copying a few rows costs nothing beside reading W.
    y = (weight @ rows.contiguous().t()).t()[:count].contiguous()   # (rows, n)
    y = y.view(*x.shape[:-1], -1)
    return y if bias is None else y + bias
