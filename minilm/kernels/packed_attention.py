"""Attention of many texts at once whose tokens lie one after another, each text among itself: no padding, one launch.

Pieces of prompts have all lengths. As a batch they would be padded to the longest; one after another they need only
two numbers a query: the first key of its text, and the last one it sees. A program takes some neighbouring queries of
one text and one head, and walks the text's keys as in `flash_attention`, whose steps it borrows. The keys of a text lie
in one piece too; what follows them belongs to the next text, and is masked.
"""
from itertools import pairwise

import torch
from torch import Tensor

from minilm.kernels import reference
from minilm.kernels.backend import check_device, check_heads, check_shape, check_tensors, launches, tl, triton
from minilm.kernels.flash_attention import described, fold_tiles, tile_of, tiles_for
from minilm.kernels.softmax import LOG2_E


class Packing:
    """Who sees what, and how it is shared out: query t sees keys first[t] to last[t].

    first, last: whole numbers [T] on the host; queries that start at the same key, one after another, are a text's.
    first = -1: this query is nobody's, and its answer is left alone.  like: queries or keys as they will come, for
    device, dtype and head size.
    """

    def __init__(self, first: Tensor, last: Tensor, like: Tensor):
        if first.shape != last.shape or first.dim() != 1 or first.dtype.is_floating_point or not len(first):
            raise ValueError(f"first and last must be whole numbers of shape [T], T at least 1; they are {first.dtype} "
                             f"of {list(first.shape)} and {last.dtype} of {list(last.shape)}")
        self.rows = tiles_for(like)[0]
        cuts = [0, *((first.diff() != 0).nonzero()[:, 0] + 1).tolist(), len(first)]
        tiles = [(top, min(top + self.rows, stop)) for start, stop in pairwise(cuts) if first[start] >= 0
                 for top in range(start, stop, self.rows)]
        seen = (last - first).tolist()
        tiles.sort(key=lambda tile: -seen[tile[1] - 1])                         # those with the most keys go first
        self.tiles = torch.tensor(tiles, dtype=torch.int32).view(-1, 2).to(like.device)     # from a row to before a row
        self.first, self.last = (numbers.int().to(like.device) for numbers in (first, last))


@triton.jit(do_not_specialize=["H", "GROUP"])
def packed_attention_kernel(q, k, v, out, tiles, first, last, scale, H, GROUP, D: tl.constexpr,
                            ROWS: tl.constexpr, TILE: tl.constexpr, HEAD: tl.constexpr, PRECISION: tl.constexpr):
    """Up to ROWS queries of one text and one head; q, k, v: tensor descriptors of [1, heads, tokens, D]."""
    tile, head = tl.program_id(0) // H, tl.program_id(0) % H
    top, stop = tl.load(tiles + 2 * tile), tl.load(tiles + 2 * tile + 1)
    rows = top + tl.arange(0, ROWS)
    ours = rows < stop                                              # behind them stands another text
    start = tl.load(first + top)
    last_seen = tl.load(last + rows, mask=ours, other=-1)
    end = tl.max(last_seen, 0) + 1                                  # seen by some of these queries; by all of them
    full = tl.min(tl.where(ours, last_seen, end), 0) + 1
    full = start + tl.maximum(full - start, 0) // TILE * TILE

    acc = tl.zeros((ROWS, HEAD), tl.float32)
    m = tl.full((ROWS,), float("-inf"), tl.float32)
    l = tl.zeros((ROWS,), tl.float32)
    these = tile_of(q, 0, head, top, ROWS, HEAD)
    acc, m, l = fold_tiles(acc, m, l, these, k, v, 0, head // GROUP, start, full, end, last_seen, scale,
                           False, True, TILE, HEAD, PRECISION)
    acc, m, l = fold_tiles(acc, m, l, these, k, v, 0, head // GROUP, full, end, end, last_seen, scale,
                           True, True, TILE, HEAD, PRECISION)
    acc = acc / tl.where(l == 0.0, 1.0, l)[:, None]                 # l = 0: a query that sees no key gets zeros
    d = tl.arange(0, HEAD)
    to = out + (rows.to(tl.int64) * H + head)[:, None] * D + d[None, :]
    tl.store(to, acc.to(these.dtype), mask=ours[:, None] & (d < D)[None, :])


def packed_attention(q: Tensor, k: Tensor, v: Tensor, packing: Packing, *, out: Tensor | None = None) -> Tensor:
    """Each text's new tokens among its own keys: q[T, H, D], k and v[S, K, D] -> [T, H, D], scaled by 1/sqrt(D).

    Query head h reads key-value head h // (H/K). out[T, H, D], contiguous: where the answer goes, but for queries that
    are nobody's; zeros for those unless given. Any other strides; no gradients.
    Raises ValueError or TypeError when shapes, dtypes or devices don't match; numbers in `packing` are not looked at.
    """
    check_tensors(q=q, k=k, v=v, **({} if out is None else {"out": out}))
    check_shape("q", q, "T H D", T=len(packing.first))
    T, H, D = q.shape
    check_shape("k", k, "S K D", D=D)
    S, K = k.shape[:2]
    check_shape("v", v, "S K D", S=S, K=K, D=D)
    check_heads(H, K, D)
    check_device("q", q, "the packing", packing.first)
    if out is not None:
        check_shape("out", out, "T H D", T=T, H=H, D=D)
        if not out.is_contiguous():
            raise ValueError(f"out must be contiguous; its strides are {out.stride()}")
    if not launches(q):
        return reference.packed_attention(q, k, v, packing, out=out)
    out = torch.zeros(T, H, D, dtype=q.dtype, device=q.device) if out is None else out
    if not len(packing.tiles):
        return out
    _, tile, warps, stages = tiles_for(q)
    head, rows = triton.next_power_of_2(D), packing.rows
    by_head = [x.transpose(0, 1)[None] for x in (q, k, v)]                      # (1, heads, tokens, D)
    with torch.cuda.device_of(q):                                               # Triton launches on the current GPU
        packed_attention_kernel[(len(packing.tiles) * H,)](
            *(described(x, size, head) for x, size in zip(by_head, (rows, tile, tile), strict=True)), out,
            packing.tiles, packing.first, packing.last, D**-0.5 * LOG2_E.value, H, H // K, D=D, ROWS=rows, TILE=tile,
            HEAD=head, PRECISION="ieee" if q.dtype == torch.float32 else "tf32", num_warps=warps, num_stages=stages)
    return out
