"""Paged attention for a decode step in one launch: shared out over the chip, and merged by the last to arrive.

The kernel of chapter 11 (`split_kv`) with two changes that a step as a whole wants. The programs that share a head's
keys leave their states, and the last of them merges, where chapter 11 has a second launch. And it lets the next kernel
onto the chip at once: that one asks for weights while this one waits for keys. Its tiles are small, for the same end.
"""
import math

import torch
from torch import Tensor

from minilm.kernels.backend import tl, triton
from minilm.kernels.chip import processors, shared_memory
from minilm.kernels.few_rows import gdc_launch_dependents, gdc_wait
from minilm.kernels.split_kv import output_row, take_in, tree_bits

TILE_BYTES = 32768                      # of keys; as many of values
LEAST = 2                               # tiles for each program, where several share a head's keys: merging costs


@triton.jit(do_not_specialize=["splits", "table_width", "tree_row", "tree_token", "tree_other"])
def attend_kernel(q, keys, values, out, states, lses, arrivals, tables, lengths, tree, scale, splits, table_width,
                  tree_row, tree_token, tree_other, M: tl.constexpr, GROUP: tl.constexpr, K: tl.constexpr,
                  D: tl.constexpr, ROWS: tl.constexpr, SOME: tl.constexpr, CHUNK: tl.constexpr, TILE: tl.constexpr,
                  LEAST: tl.constexpr, PAGE: tl.constexpr, TREE: tl.constexpr, PLACE: tl.constexpr,
                  OVERLAP: tl.constexpr):
    """Query rows of one key-value head of one sequence over some of the tiles of its keys; see `split_kv`.

    At most `splits` programs share these, LEAST tiles or more for each. SOME: rows that the merge holds, CHUNK splits
    of them at a time.
    """
    R: tl.constexpr = M * GROUP
    BLOCKS: tl.constexpr = (R + ROWS - 1) // ROWS
    head, block = tl.program_id(0) // BLOCKS, tl.program_id(0) % BLOCKS
    split, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    length = tl.load(lengths + b).to(tl.int32)
    tables += b * table_width
    j = split * TILE + tl.arange(0, TILE)                   # the first tile's blocks: need not wait for length
    page = tl.load(tables + j // PAGE, mask=j < table_width * PAGE, other=0).to(PLACE)
    used = tl.minimum(tl.maximum(tl.cdiv(length, TILE * LEAST), 1), splits)
    if split >= used:
        return
    r, d = block * ROWS + tl.arange(0, ROWS), tl.arange(0, D)
    token, real = r // GROUP, r < R
    query = tl.load(q + output_row(b, head, K, r, M, GROUP)[:, None] * D + d[None, :], mask=real[:, None], other=0.0)
    if TREE:
        sees = tree_bits(tree + b * tree_row, token, tree_token, tree_other, real, M)
    keys += head * D
    values += head * D
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, D], tl.float32)
    step = used * TILE
    for start in range(split * TILE, length, step):
        j = start + tl.arange(0, TILE)
        inside = j < length
        at = ((page * PAGE + j % PAGE) * (K * D))[:, None] + d[None, :]
        page = tl.load(tables + (j + step) // PAGE, mask=j + step < length, other=0).to(PLACE)      # of the next tile
        key = tl.load(keys + at, mask=inside[:, None], other=0.0)
        score = tl.dot(query, key.T, input_precision="ieee") * scale
        new = j[None, :] - (length - M)
        if TREE:
            visible = (new < 0) | (((sees[:, None] >> tl.maximum(new, 0).to(tl.int64)) & 1) != 0)
        else:
            visible = new <= token[:, None]
        score = tl.where(visible & inside[None, :], score, float("-inf"))
        value = tl.load(values + at, mask=inside[:, None], other=0.0)
        top, total, acc = take_in(score, value, top, total, acc)

    some = tl.where(total > 0, total, 1.0)
    acc = acc / some[:, None]                               # zeros where no key was seen
    if used == 1:
        to = out + output_row(b, head, K, r, M, GROUP)[:, None] * D + d[None, :]
        tl.store(to, acc.to(out.dtype.element_ty), mask=real[:, None])
        return
    first = (b * K + head) * splits * R                     # of this head's states
    tl.store(states + (first + split * R + r)[:, None] * D + d[None, :], acc, mask=real[:, None])
    tl.store(lses + first + split * R + r, top + tl.log2(some), mask=real)
    tl.debug_barrier()                                      # all threads have stored before one of them says so
    place = arrivals + (b * K + head) * BLOCKS + block
    if tl.atomic_add(place, 1, sem="acq_rel") < used - 1:
        return
    tl.store(place, 0)                                      # for the next launch
    r = block * ROWS + tl.arange(0, SOME)
    top = tl.full([SOME], float("-inf"), tl.float32)
    total = tl.zeros([SOME], tl.float32)
    merged = tl.zeros([SOME, D], tl.float32)
    for start in range(0, used, CHUNK):
        s = start + tl.arange(0, CHUNK)
        at = first + s[:, None] * R + r[None, :]
        there = (s < used)[:, None] & (r < R)[None, :]
        lse = tl.load(lses + at, mask=there, other=float("-inf"), cache_modifier=".cg")
        state = tl.load(states + at[:, :, None] * D + d[None, None, :], mask=there[:, :, None], other=0.0,
                        cache_modifier=".cg")
        highest = tl.maximum(top, tl.max(lse, 0))
        base = tl.where(highest == float("-inf"), 0.0, highest)
        share, before = tl.exp2(lse - base[None, :]), tl.exp2(top - base)
        merged = merged * before[:, None] + tl.sum(share[:, :, None] * state, 0)
        total = total * before + tl.sum(share, 0)
        top = highest
    merged = merged / tl.where(total > 0, total, 1.0)[:, None]
    to = out + output_row(b, head, K, r, M, GROUP)[:, None] * D + d[None, :]
    tl.store(to, merged.to(out.dtype.element_ty), mask=(r < R)[:, None])


class StepAttention:
    """How the launches of one step look, from its shapes: q[B · m, H, D], a layer's pool, tables[B, width].

    arrivals: zeros, int32, `counters` of them at least; zeros again after every launch.
    """

    def __init__(self, q: Tensor, pool: Tensor, tables: Tensor, arrivals: Tensor, overlap: dict,
                 num_splits: int | None = None):
        (rows, H, D), (_, page, K, _), (B, width) = q.shape, pool.shape, tables.shape
        rows = rows // B * (H // K)                         # query rows of one key-value head
        held = min(max(triton.next_power_of_2(rows), 16), 64)
        some = min(held, triton.next_power_of_2(rows))
        tile = max(16, TILE_BYTES // (D * q.element_size()))
        while q.is_cuda and 4 * tile * D * q.element_size() > 0.8 * shared_memory(q.device):
            tile //= 2
        groups = K * triton.cdiv(rows, held)
        fill = num_splits or max(1, processors(q.device) // (B * groups))
        self.splits = min(fill, triton.cdiv(width * page, tile * LEAST))
        self.grid, self.arrivals, self.overlap = (groups, self.splits, B), arrivals, overlap
        self.states = torch.empty(B, K, self.splits, rows, D, dtype=torch.float32, device=q.device)
        self.lses = torch.empty(B, K, self.splits, rows, dtype=torch.float32, device=q.device)
        self.scale, self.width = math.log2(math.e) / math.sqrt(D), width
        self.constants = dict(
            M=len(q) // B, GROUP=H // K, K=K, D=D, ROWS=held, SOME=some, CHUNK=max(1, 8192 // (some * D)), TILE=tile,
            LEAST=LEAST, PAGE=page, PLACE=tl.int64 if pool.numel() >= 2**31 else tl.int32, OVERLAP=bool(overlap),
            num_warps=4, num_stages=3)

    @staticmethod
    def counters(most_rows: int, num_heads: int, num_kv_heads: int) -> int:
        """How many programs' arrivals are counted apart, in a step of so many rows."""
        return most_rows * num_kv_heads * (num_heads // num_kv_heads // 64 + 1)

    def __call__(self, q: Tensor, keys: Tensor, values: Tensor, out: Tensor, tables: Tensor, lengths: Tensor,
                 tree: Tensor | None) -> None:
        """out[B · m, H, D] = attention of q to the pools. tree[B, m, m] bool, or None."""
        mask, strides = (q, (0, 0, 0)) if tree is None else (tree.view(torch.uint8), tree.stride())
        attend_kernel[self.grid](
            q, keys, values, out, self.states, self.lses, self.arrivals, tables, lengths, mask, self.scale, self.splits,
            self.width, *strides, **self.constants, TREE=tree is not None, **self.overlap)
