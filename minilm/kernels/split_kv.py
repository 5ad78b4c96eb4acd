"""The kernel of chapter 11: attention of a few new tokens to a long cache, each sequence split over many programs.

One program takes one key-value head of one sequence, one of its splits, and all the query rows that read this head:
its group of query heads, of every new token. So keys and values are read once, whatever the number of rows; `tl.dot`
wants 16 rows at least, and those that are missing are zeros. A program walks over its keys tile by tile with the online
softmax of chapter 10 and leaves a state: its output, normalised, and the log-sum-exp of its scores, in base 2. A second
small kernel merges the states of a row, as `splits.merge` does.

Contiguous and paged caches differ in one place: where key j lies.
"""
import math

import torch
from torch import Tensor

from minilm.kernels.backend import tl, triton
from minilm.kernels.chip import can_overlap, processors, shared_memory
from minilm.kernels.splits import choose_splits

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:                                         # no Triton: the reference computes
    gdc_launch_dependents = gdc_wait = None

# Keys of a paged row that are not worth splitting: the merge would be one launch more. Measured on one H100 in whole
# steps of Llama-3-8B's shape, batch 1, with 512 tokens held: 5.36 ms, and 5.43 ms split over 16 programs a head.
SHORT = 512
MOST_TREE_TOKENS = 64                                       # what one token sees of the others is 64 bits


@triton.jit
def output_row(b, head, kv_heads, r, M: tl.constexpr, GROUP: tl.constexpr):
    """Which row of out[B · M · H, D] row r of a key-value head is: query head `head * GROUP + r % GROUP` of new token
    `r // GROUP`."""
    return (b * M + r // GROUP) * kv_heads * GROUP + head * GROUP + r % GROUP


@triton.jit
def tree_bits(at, token, tree_token, tree_other, real, M: tl.constexpr):
    """What new tokens `token` see of the others: bit p is new token p. at: the sequence's tree mask."""
    p = tl.arange(0, 64)
    sees = tl.load(at + token[:, None] * tree_token + p[None, :] * tree_other,
                   mask=real[:, None] & (p < M)[None, :], other=0)
    return tl.sum((sees != 0).to(tl.int64) << p[None, :], 1)


@triton.jit
def take_in(score, value, top, total, acc):
    """Online softmax: one more tile of scores[ROWS, TILE], in base 2, and of values[TILE, HEAD].

    top: largest score so far. total: sum of 2^(score - top). acc[ROWS, HEAD]: the values, so weighted.
    """
    highest = tl.maximum(top, tl.max(score, 1))
    base = tl.where(highest == float("-inf"), 0.0, highest)         # nothing seen yet: -inf - -inf would be nan
    weight = tl.exp2(score - base[:, None])
    before = tl.exp2(top - base)
    acc = acc * before[:, None] + tl.dot(weight.to(value.dtype), value, input_precision="ieee")
    return highest, total * before + tl.sum(weight, 1), acc


@triton.jit(do_not_specialize=["num_splits", "table_width", "table_row", "tree_row", "tree_token", "tree_other"])
def attend_splits(
    q, k, v, out, states, lses, tables, lengths, tree, scale, num_splits,
    q_row, q_token, q_head, k_row, k_token, k_head, v_row, v_token, v_head,         # strides; a row of a cache is a
    table_width, table_row, tree_row, tree_token, tree_other,                       # sequence, or a block
    M: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr,      # new tokens; query heads to a key-value head; head size
    ROWS: tl.constexpr, HEAD: tl.constexpr, TILE: tl.constexpr,         # of a tile: query rows, head size, keys
    PAGE: tl.constexpr, SPLIT_SIZE: tl.constexpr,               # of a block; of a split. 0: contiguous; by number
    TREE: tl.constexpr, WHOLE: tl.constexpr,                    # is there a tree mask? is there one split only?
    ALIKE: tl.constexpr, PLACE: tl.constexpr,                   # do v's keys lie as k's do? integer for places there
    OVERLAP: tl.constexpr,                                      # see below
):
    if OVERLAP:
        gdc_wait()                                          # until what the last kernel wrote is there
        gdc_launch_dependents()                             # the next kernel may take its place on the chip, and wait
    R: tl.constexpr = M * GROUP                             # query rows of one key-value head
    BLOCKS: tl.constexpr = (R + ROWS - 1) // ROWS
    head, block = tl.program_id(0) // BLOCKS, tl.program_id(0) % BLOCKS
    split, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    kv_heads = tl.num_programs(0) // BLOCKS
    length = tl.load(lengths + b).to(tl.int32)
    if SPLIT_SIZE:                                          # so many keys in a piece, whatever the batch
        first, step = split * SPLIT_SIZE, TILE
        last = tl.minimum(first + SPLIT_SIZE, length)
        if split > 0 and first >= length:                   # nothing to do, and the merge will not look here
            return
    else:                                                   # every num_splits-th tile: all splits walk side by side
        first, step, last = split * TILE, num_splits * TILE, length

    r = block * ROWS + tl.arange(0, ROWS)
    d = tl.arange(0, HEAD)
    token = r // GROUP
    real = (r < R)[:, None] & (d < D)[None, :]              # the rest of the tile is padding
    q_at = q + b * q_row + token * q_token + (head * GROUP + r % GROUP) * q_head
    query = tl.load(q_at[:, None] + d[None, :], mask=real, other=0.0)
    if TREE:
        sees = tree_bits(tree + b * tree_row, token, tree_token, tree_other, r < R, M)
    k += head.to(tl.int64) * k_head
    v += head.to(tl.int64) * v_head
    if PAGE:                                                # the first tile's blocks: need not wait for length
        tables += b * table_row
        j = first + tl.arange(0, TILE)
        page = tl.load(tables + j // PAGE, mask=j < table_width * PAGE, other=0).to(PLACE)
    else:
        k += b * k_row
        v += b * v_row

    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, HEAD], tl.float32)
    for start in range(first, last, step):
        j = start + tl.arange(0, TILE)                      # keys
        inside = j < last
        if PAGE:
            k_at = page * k_row + (j % PAGE) * k_token
            v_at = k_at if ALIKE else page * v_row + (j % PAGE) * v_token
            page = tl.load(tables + (j + step) // PAGE, mask=j + step < last, other=0).to(PLACE)    # of the next tile
        else:
            k_at = j.to(PLACE) * k_token
            v_at = k_at if ALIKE else j.to(PLACE) * v_token
        there = inside[:, None] & (d < D)[None, :]
        key = tl.load(k + k_at[:, None] + d[None, :], mask=there, other=0.0)
        score = tl.dot(query, key.T, input_precision="ieee") * scale            # [ROWS, TILE], base 2
        new = j[None, :] - (length - M)                     # key j's number among the new tokens; below 0: an older one
        if TREE:
            visible = (new < 0) | (((sees[:, None] >> tl.maximum(new, 0).to(tl.int64)) & 1) != 0)
        else:
            visible = new <= token[:, None]
        score = tl.where(visible & inside[None, :], score, float("-inf"))
        value = tl.load(v + v_at[:, None] + d[None, :], mask=there, other=0.0)
        top, total, acc = take_in(score, value, top, total, acc)

    some = tl.where(total > 0, total, 1.0)
    acc = acc / some[:, None]                               # zeros where no key was seen
    if WHOLE:
        out_at = out + output_row(b, head, kv_heads, r, M, GROUP)[:, None] * D + d[None, :]
        tl.store(out_at, acc.to(out.dtype.element_ty), mask=real)
    else:
        place = ((b * kv_heads + head) * num_splits + split) * R + r
        tl.store(states + place[:, None] * D + d[None, :], acc, mask=real)
        tl.store(lses + place, top + tl.log2(some), mask=r < R)


@triton.jit(do_not_specialize=["num_splits"])
def merge_splits(
    out, states, lses, lengths, num_splits,
    M: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, HEAD: tl.constexpr,
    SPLIT_SIZE: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr, OVERLAP: tl.constexpr,
):
    """One program merges the states of ROWS rows of one key-value head, CHUNK splits at a time.

    The order depends on how many splits the row's own length fills, and on nothing else in the batch.
    """
    if OVERLAP:
        gdc_launch_dependents()                             # whoever comes waits for this one to end
        gdc_wait()
    R: tl.constexpr = M * GROUP
    head, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    kv_heads = tl.num_programs(1)
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d = tl.arange(0, HEAD)
    splits = num_splits                                     # those without keys have left a log-sum-exp of -inf
    if SPLIT_SIZE:
        splits = tl.maximum(tl.cdiv(tl.load(lengths + b).to(tl.int32), SPLIT_SIZE), 1)
    top = tl.full([ROWS], float("-inf"), tl.float32)        # the largest log-sum-exp so far, sum of 2^(lse - top)
    total = tl.zeros([ROWS], tl.float32)
    merged = tl.zeros([ROWS, HEAD], tl.float32)
    for start in range(0, splits, CHUNK):
        s = start + tl.arange(0, CHUNK)
        place = ((b * kv_heads + head) * num_splits + s[:, None]) * R + r[None, :]                  # [CHUNK, ROWS]
        there = (s < splits)[:, None] & (r < R)[None, :]
        lse = tl.load(lses + place, mask=there, other=float("-inf"))
        state = tl.load(states + place[:, :, None] * D + d[None, None, :],
                        mask=there[:, :, None] & (d < D)[None, None, :], other=0.0)
        highest = tl.maximum(top, tl.max(lse, 0))
        base = tl.where(highest == float("-inf"), 0.0, highest)
        share = tl.exp2(lse - base[None, :])
        before = tl.exp2(top - base)
        merged = merged * before[:, None] + tl.sum(share[:, :, None] * state, 0)
        total = total * before + tl.sum(share, 0)
        top = highest
    merged = merged / tl.where(total > 0, total, 1.0)[:, None]
    out_at = out + output_row(b, head, kv_heads, r, M, GROUP)[:, None] * D + d[None, :]
    tl.store(out_at, merged.to(out.dtype.element_ty), mask=(r < R)[:, None] & (d < D)[None, :])


def attend(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, *, tables: Tensor | None = None,
           tree: Tensor | None = None, num_splits: int | None = None, split_size: int | None = None,
           tile: int | None = None) -> Tensor:
    """Launches the kernels: q[B, m, H, D], k and v[B, K, S, D] -> [B, m, H, D].

    With tables[B, width], k and v are a pool [blocks, block_size, K, D]. tree[B, m, m] bool: who of the new sees whom.
    Everything about the launch comes from shapes, nothing from numbers on the device: a CUDA graph can capture it.
    """
    B, m, H, D = q.shape
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    cache, K, S, shape = _where_keys_lie(k, v, tables)
    rows = m * (H // K)                                     # query rows of one key-value head
    ROWS, HEAD = min(max(triton.next_power_of_2(rows), 16), 64), triton.next_power_of_2(D)
    blocks = -(-rows // ROWS)
    if split_size:
        num_splits = -(-S // split_size)
    elif not num_splits:
        short = tables is not None and S <= SHORT
        num_splits = 1 if short else choose_splits(B * K * blocks, S, processors(q.device))
    whole, fixed = num_splits == 1, bool(split_size)
    TILE, stages = (tile, 3) if tile else tile_of(
        shape["PAGE"], ROWS, HEAD * q.element_size(), 0 if fixed else S // num_splits,
        B * K * blocks if whole else 0, q.device)
    out = torch.empty(B, m, H, D, dtype=q.dtype, device=q.device)
    states = out if whole else torch.empty(B, K, num_splits, rows, D, dtype=torch.float32, device=q.device)
    lses = out if whole else torch.empty(B, K, num_splits, rows, dtype=torch.float32, device=q.device)
    mask, mask_strides = (q, (0, 0, 0)) if tree is None else (tree.view(torch.uint8), tree.stride())
    overlap = {"launch_pdl": True} if can_overlap(q.device) else {}
    both = dict(M=m, GROUP=H // K, D=D, HEAD=HEAD, SPLIT_SIZE=split_size or 0, OVERLAP=bool(overlap))
    attend_splits[K * blocks, num_splits, B](
        q, k, v, out, states, lses, lengths if tables is None else tables, lengths, mask,
        math.log2(math.e) / math.sqrt(D), num_splits, *q.stride()[:3], *cache, *mask_strides, **both, **shape,
        ROWS=ROWS, TILE=TILE, TREE=tree is not None, WHOLE=whole, num_warps=4, num_stages=stages, **overlap)
    if not whole:
        ROWS, CHUNK, warps = merge_tile(rows * B * K, fixed)
        merge_splits[-(-rows // ROWS), K, B](out, states, lses, lengths, num_splits, **both, ROWS=ROWS, CHUNK=CHUNK,
                                             num_warps=warps, **overlap)
    return out


def _where_keys_lie(k: Tensor, v: Tensor, tables: Tensor | None) -> tuple:
    """(strides of k, of v, of the tables; K; S; and what the kernel is compiled for).

    PAGE: block size, 0 for none. ALIKE: v's strides are k's. PLACE: an integer type that holds any place.
    """
    if tables is None:
        K, S = k.shape[1:3]
        strides = [(x.stride(0), x.stride(2), x.stride(1)) for x in (k, v)]
        reach = S * max(k.stride(2), v.stride(2))           # within one head
        table, page = (0, 0), 0
    else:
        if tables.stride(1) != 1:
            raise ValueError("block_tables must hold each row's entries side by side: call .contiguous()")
        page, K = k.shape[1:3]
        S = tables.shape[1] * page
        strides = [x.stride()[:3] for x in (k, v)]
        reach = max(sum(n * stride for n, stride in zip(x.shape, x.stride(), strict=True)) for x in (k, v))
        table = (tables.shape[1], tables.stride(0))
    compiled = {"PAGE": page, "ALIKE": strides[0] == strides[1], "PLACE": tl.int64 if reach >= 2**31 else tl.int32}
    return (*strides[0], *strides[1], *table), K, S, compiled


def tile_of(page: int, rows: int, row_bytes: int, keys: int, whole: int, device: torch.device) -> tuple[int, int]:
    """(keys in a tile, stages of the load pipeline), tuned on an H100; for short paged rows in whole steps of models.

    keys: that a split has, on average; 0 for a fixed split size, whose tile must depend on nothing else.
    whole: programs, where each has a whole row; 0 where rows are split.
    """
    if row_bytes > 256:                                     # float32, or heads of 256: shared memory is short
        tile, stages = 32, 3
    elif not keys or not page and not whole:
        tile, stages = 64, 3
    elif whole and rows <= 16:                              # many short rows: little memory each, several at a time
        many = whole > processors(device) * (1 if page and keys <= 256 else 3)
        small = page and keys <= SHORT and row_bytes <= 128             # 2 stages: 4 to 6 % of a small model's step
        tile, stages = (64, 2) if many and keys <= (1024 if page else 512) else (128, 2 if small else 3)
    else:
        tile, stages = (128, 3) if page and keys > 256 else (64, 3)
    while device.type == "cuda" and 2 * (stages - 1) * tile * row_bytes > 0.8 * shared_memory(device):
        tile //= 2
    return tile, stages


def merge_tile(rows: int, fixed: bool) -> tuple[int, int, int]:
    """(rows of a program of the merge, splits read at once, warps), for so many rows in all."""
    return (1, 16, 1) if rows <= 1024 or fixed else (4, 16, 4)
