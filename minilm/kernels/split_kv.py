"""The kernel of chapter 11: attention of a few new tokens to a long cache, each sequence split over many programs.

One program takes one key-value head of one sequence, one of its splits, and all the query rows that read this head:
the `group` query heads that share it, of every new token. So keys and values are read once, whatever the number of
rows; `tl.dot` wants 16 rows at least, and the rows that are missing are zeros. Each program walks over its keys tile
by tile with the online softmax of chapter 10 and leaves a state: its output, normalised, and the log-sum-exp of its
scores (base 2). States merge as `splits.merge` says, in one of two places: the program that arrives last, counted by
an atomic, merges in the same launch; or a second small kernel does.

Contiguous and paged caches differ in one line: where key j lies.
"""
import math

import torch
from torch import Tensor

from minilm.kernels.backend import tl, triton
from minilm.kernels.splits import fa2_num_splits

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:                                         # no Triton: the reference computes
    gdc_launch_dependents = gdc_wait = None

MOST_TREE_TOKENS = 64                                       # what one token sees of the others is 64 bits


@triton.jit
def merge_states(states, lses, slot, splits, r, R, D: tl.constexpr, HEAD: tl.constexpr, CHUNK: tl.constexpr):
    """The rows r of `splits` states, stored from `slot` on, as one: [rows, HEAD].

    CHUNK splits at a time are read at once. The order depends on `splits` alone: the same states give the same bits.
    """
    d = tl.arange(0, HEAD)
    top = tl.full(r.shape, float("-inf"), tl.float32)       # the largest log-sum-exp so far
    total = tl.zeros(r.shape, tl.float32)
    merged = tl.zeros([r.shape[0], HEAD], tl.float32)
    for start in range(0, splits, CHUNK):
        s = start + tl.arange(0, CHUNK)
        place = (slot + s)[:, None] * R + r[None, :]                                       # [CHUNK, rows]
        there = (s < splits)[:, None] & (r < R)[None, :]
        lse = tl.load(lses + place, mask=there, other=float("-inf"), cache_modifier=".cg")
        state = tl.load(states + place[:, :, None] * D + d[None, None, :],
                        mask=there[:, :, None] & (d < D)[None, None, :], other=0.0, cache_modifier=".cg")
        new = tl.maximum(top, tl.max(lse, 0))
        base = tl.where(new == float("-inf"), 0.0, new)     # nothing seen yet: any base but -inf, which would give NaN
        weight = tl.exp2(lse - base[None, :])
        before = tl.exp2(top - base)
        merged = merged * before[:, None] + tl.sum(weight[:, :, None] * state, 0)
        total = total * before + tl.sum(weight, 0)
        top = new
    return merged / tl.where(total > 0, total, 1.0)[:, None]


@triton.jit
def split_of(length, num_splits, TILE: tl.constexpr, SPLIT_SIZE: tl.constexpr):
    """(keys in a split, splits that hold any key; at least 1) of a sequence."""
    if SPLIT_SIZE:
        size = SPLIT_SIZE                                   # the same whatever the batch
    else:
        size = tl.maximum(tl.cdiv(tl.cdiv(length, num_splits), TILE) * TILE, TILE)
    return size, tl.maximum(tl.cdiv(length, size), 1)


@triton.jit(do_not_specialize=["num_splits", "table_row", "tree_row", "tree_token", "tree_other"])
def attend_splits(
    q, k, v, out, states, lses, arrived, tables, lengths, tree, scale, num_splits,
    q_row, q_token, q_head, k_row, k_token, k_head, v_row, v_token, v_head, table_row, tree_row, tree_token, tree_other,
    M: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr,                  # new tokens, query heads to a key head, size
    ROWS: tl.constexpr, HEAD: tl.constexpr, TILE: tl.constexpr,             # the tile: query rows, head size, keys
    PAGE: tl.constexpr, SPLIT_SIZE: tl.constexpr, TREE: tl.constexpr,       # 0: contiguous; by number; a chain
    MERGE: tl.constexpr, NARROW: tl.constexpr, CHUNK: tl.constexpr, PDL: tl.constexpr, PREFETCH: tl.constexpr, EVICT: tl.constexpr,
):
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    R: tl.constexpr = M * GROUP                             # query rows of one key-value head
    BLOCKS: tl.constexpr = (R + ROWS - 1) // ROWS
    head, block = tl.program_id(0) // BLOCKS, tl.program_id(0) % BLOCKS
    split, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    kv_heads = tl.num_programs(0) // BLOCKS
    length = tl.load(lengths + b).to(tl.int32)
    size, splits = split_of(length, num_splits, TILE, SPLIT_SIZE)
    if split >= splits:
        return
    first = split * size
    last = tl.minimum(first + size, length)

    # row r is query head `head * GROUP + r % GROUP` of new token r // GROUP
    r = block * ROWS + tl.arange(0, ROWS)
    d = tl.arange(0, HEAD)
    token = r // GROUP
    q_at = q + b * q_row + token * q_token + (head * GROUP + r % GROUP) * q_head
    query = tl.load(q_at[:, None] + d[None, :], mask=(r < R)[:, None] & (d < D)[None, :], other=0.0)
    if TREE:                                                # what new token sees: bit p for new token p
        p = tl.arange(0, 64)
        sees = tl.load(tree + b * tree_row + token[:, None] * tree_token + p[None, :] * tree_other,
                       mask=(r < R)[:, None] & (p < M)[None, :], other=0)
        sees = tl.sum((sees != 0).to(tl.int64) << p[None, :], 1)
    k += head.to(tl.int64) * k_head
    v += head.to(tl.int64) * v_head
    if PAGE:
        tables += b * table_row
    else:
        k += b * k_row + first.to(tl.int64) * k_token
        v += b * v_row + first.to(tl.int64) * v_token

    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, HEAD], tl.float32)
    if PREFETCH:
        j = first + tl.arange(0, TILE)
        page = tl.load(tables + j // PAGE, mask=j < last, other=0)
    for start in range(first, last, TILE):
        j = start + tl.arange(0, TILE)                      # keys
        inside = j < last
        if PAGE:
            if not PREFETCH:
                page = tl.load(tables + j // PAGE, mask=inside, other=0)
            k_at = page.to(tl.int64) * k_row + (j % PAGE) * k_token
            v_at = page.to(tl.int64) * v_row + (j % PAGE) * v_token
            if PREFETCH:
                page = tl.load(tables + (j + TILE) // PAGE, mask=j + TILE < last, other=0)
        else:
            k_at = (j - first) * k_token
            v_at = (j - first) * v_token
        there = inside[:, None] & (d < D)[None, :]
        key = tl.load(k + k_at[:, None] + d[None, :], mask=there, other=0.0, eviction_policy=EVICT)
        score = tl.dot(query, key.T, input_precision="ieee") * scale        # [ROWS, TILE], base 2
        new = j[None, :] - (length - M)                     # which of the new tokens key j is; below 0: an older one
        if TREE:
            visible = (new < 0) | (((sees[:, None] >> tl.maximum(new, 0).to(tl.int64)) & 1) != 0)
        else:
            visible = new <= token[:, None]
        score = tl.where(visible & inside[None, :], score, float("-inf"))
        # online softmax
        highest = tl.maximum(top, tl.max(score, 1))
        base = tl.where(highest == float("-inf"), 0.0, highest)
        weight = tl.exp2(score - base[:, None])
        before = tl.exp2(top - base)
        value = tl.load(v + v_at[:, None] + d[None, :], mask=there, other=0.0, eviction_policy=EVICT)
        acc = acc * before[:, None] + tl.dot(weight.to(value.dtype), value, input_precision="ieee")
        total = total * before + tl.sum(weight, 1)
        top = highest

    some = tl.where(total > 0, total, 1.0)
    acc = acc / some[:, None]                               # zeros where no key was seen
    out += b * M * GROUP * kv_heads * D                     # [m, H, D] of this sequence
    if splits == 1 and MERGE < 2:
        out_at = out + (token * GROUP * kv_heads + head * GROUP + r % GROUP)[:, None] * D + d[None, :]
        tl.store(out_at, acc.to(out.dtype.element_ty), mask=(r < R)[:, None] & (d < D)[None, :])
        return
    slot = (b * kv_heads + head) * num_splits
    place = (slot + split) * R + r
    tl.store(states + place[:, None] * D + d[None, :], acc, mask=(r < R)[:, None] & (d < D)[None, :])
    tl.store(lses + place, top + tl.log2(some), mask=r < R)
    if MERGE == 1:
        tl.debug_barrier()                                  # all threads have stored before one of them tells
        counter = arrived + b * tl.num_programs(0) + tl.program_id(0)
        if tl.atomic_add(counter, 1, sem="acq_rel") == splits - 1:
            tl.store(counter, 0)                            # for the next launch
            row = block * ROWS + tl.arange(0, NARROW)
            merged = merge_states(states, lses, slot, splits, row, R, D, HEAD, CHUNK)
            out_at = out + (row // GROUP * GROUP * kv_heads + head * GROUP + row % GROUP)[:, None] * D + d[None, :]
            tl.store(out_at, merged.to(out.dtype.element_ty), mask=(row < R)[:, None] & (d < D)[None, :])


@triton.jit(do_not_specialize=["num_splits"])
def merge_splits(
    out, states, lses, lengths, num_splits,
    M: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, HEAD: tl.constexpr, TILE: tl.constexpr,
    SPLIT_SIZE: tl.constexpr, CHUNK: tl.constexpr, PDL: tl.constexpr,
):
    """The second launch: one program merges one row."""
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    R: tl.constexpr = M * GROUP
    r = tl.program_id(0) + tl.arange(0, 1)
    head, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    kv_heads = tl.num_programs(1)
    d = tl.arange(0, HEAD)
    size, splits = split_of(tl.load(lengths + b), num_splits, TILE, SPLIT_SIZE)
    merged = merge_states(states, lses, (b * kv_heads + head) * num_splits, splits, r, R, D, HEAD, CHUNK)
    out_at = out + ((b * M + r // GROUP) * GROUP * kv_heads + head * GROUP + r % GROUP)[:, None] * D + d[None, :]
    tl.store(out_at, merged.to(out.dtype.element_ty), mask=(d < D)[None, :])


def attend(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, *, tables: Tensor | None = None, tree: Tensor | None = None,
           num_splits: int | None = None, split_size: int | None = None, tile: int | None = None) -> Tensor:
    """Launches the kernel: q[B, m, H, D], k and v [B, K, S, D], or [blocks, block_size, K, D] with tables -> [B, m, H, D].

    Sizes of the launch come from shapes, never from numbers on the device; so it can be captured in a CUDA graph.
    """
    B, m, H, D = q.shape
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    if tables is None:
        K, S, page = k.shape[1], k.shape[2], 0
        k_strides, v_strides = ((x.stride(0), x.stride(2), x.stride(1)) for x in (k, v))
    else:
        K, page = k.shape[2], k.shape[1]
        S = tables.shape[1] * page
        k_strides, v_strides = (x.stride()[:3] for x in (k, v))
    rows = m * (H // K)                                     # query rows of one key-value head
    ROWS, HEAD = min(max(triton.next_power_of_2(rows), 16), 64), triton.next_power_of_2(D)
    TILE = tile or 64
    if split_size:
        num_splits = -(-S // split_size)
    elif not num_splits:
        num_splits = fa2_num_splits(B * K, 132, -(-S // TILE))
    groups = -(-rows // ROWS) * K                           # programs of one sequence and split
    out = torch.empty(B, m, H, D, dtype=q.dtype, device=q.device)
    states = torch.empty(B * K * num_splits * rows * D, dtype=torch.float32, device=q.device)
    lses = torch.empty(B * K * num_splits * rows, dtype=torch.float32, device=q.device)
    arrived = torch.zeros(B * groups, dtype=torch.int32, device=q.device)
    NARROW = min(ROWS, triton.next_power_of_2(rows))
    attend_splits[groups, num_splits, B](
        q, k, v, out, states, lses, arrived, lengths if tables is None else tables, lengths,
        q if tree is None else tree.view(torch.uint8), math.log2(math.e) / math.sqrt(D), num_splits,
        *q.stride()[:3], *k_strides, *v_strides, 0 if tables is None else tables.stride(0),
        *((0, 0, 0) if tree is None else tree.stride()),
        M=m, GROUP=H // K, D=D, ROWS=ROWS, HEAD=HEAD, TILE=TILE, PAGE=page, SPLIT_SIZE=split_size or 0,
        TREE=tree is not None, MERGE=1, NARROW=NARROW, CHUNK=max(8192 // (NARROW * HEAD), 1), PDL=False,
        PREFETCH=bool(page), EVICT="", num_warps=4, num_stages=3)
    return out
