"""Attention to a cache that lies in blocks anywhere in a pool: decode (one new token a row) and verify (several).

`block_tables[b, i]` names the block that holds keys i·block_size and on of sequence b (Kwon et al. 2023). The kernel is
the one of Flash-Decoding; it looks up where key j lies, and that is the only difference. Verify, the step that checks
drafts, is split like decode: its few query rows per sequence ride along in the same tile.
"""
import os

import torch
from torch import Tensor

from minilm.kernels import reference
from minilm.kernels.backend import check_device, check_heads, check_lengths, check_shape, check_tensors, launches
from minilm.kernels.split_kv import MOST_TREE_TOKENS, attend
from minilm.kernels.splits import check_split


def paged_attention(q: Tensor, k_cache: Tensor, v_cache: Tensor, block_tables: Tensor, lengths: Tensor, *,
                    num_splits: int | None = None, split_size: int | None = None, tree_mask: Tensor | None = None,
                    debug: bool | None = None) -> Tensor:
    """m new tokens a sequence: q[B, m, H, D], caches[blocks, block_size, K, D], block_tables[B, width] -> [B, m, H, D].

    lengths[B]: keys of each row, the m new ones counted; they are already in the cache. 0 gives a row of zeros.
    Each new token sees all older keys and, of the new ones, those up to itself; or those that tree_mask, bool [m, m] or
    [B, m, m], has in its row (m ≤ 64), as for a tree of drafts.
    num_splits, split_size: as in `flash_decoding`.
    debug: looks whether the tables stay inside the pool and the lengths inside the tables. That waits for the GPU, so
    it is off there unless asked for, here or by MINILM_KERNELS_DEBUG=1; on the CPU it is on.
    Raises ValueError or TypeError for shapes, dtypes, devices or head sizes that don't fit.
    """
    check_tensors(q=q, k_cache=k_cache, v_cache=v_cache)
    check_shape("q", q, "B m H D")
    B, m, H, D = q.shape
    check_shape("k_cache", k_cache, "blocks block_size K D", D=D)
    blocks, block_size, K, _ = k_cache.shape
    check_shape("v_cache", v_cache, "blocks block_size K D", blocks=blocks, block_size=block_size, K=K, D=D)
    check_heads(H, K, D)
    _check_tables(block_tables, B, q)
    check_lengths(lengths, B, 0, block_tables.shape[1] * block_size, q)
    check_split(num_splits, split_size)
    if tree_mask is not None:
        tree_mask = _check_tree(tree_mask, B, m, q)
    if debug is None:
        debug = q.device.type == "cpu" or os.environ.get("MINILM_KERNELS_DEBUG") == "1"
    if debug:
        check_blocks(block_tables, lengths, blocks, block_size, m)
    if not launches(q):
        return reference.paged_attention(q, k_cache, v_cache, block_tables, lengths, tree_mask=tree_mask)
    return attend(q, k_cache, v_cache, lengths, tables=block_tables, tree=tree_mask, num_splits=num_splits,
                  split_size=split_size)


def check_blocks(block_tables: Tensor, lengths: Tensor, num_blocks: int, block_size: int, m: int) -> None:
    """Every block that a row's length reaches lies in the pool; no length is beyond its table, or short of the m new.

    Table entries past a row's length may hold anything. Reads the tensors: on a GPU this waits.
    """
    tables, lengths = block_tables.cpu(), lengths.cpu().long()
    most = tables.shape[1] * block_size
    for b, length in enumerate(lengths.tolist()):
        if length > most or length < 0:
            raise ValueError(f"row {b} has length {length}, but its table of {tables.shape[1]} blocks of {block_size} "
                             f"holds {most} keys")
        if 0 < length < m:
            raise ValueError(f"row {b} has length {length}, but {m} new tokens: lengths count the new keys too")
    used = torch.arange(tables.shape[1]) * block_size < lengths[:, None]
    outside = used & ((tables < 0) | (tables >= num_blocks))
    if outside.any():
        b, i = outside.nonzero()[0].tolist()
        raise ValueError(f"block_tables[{b}, {i}] is {int(tables[b, i])}, but the pool has blocks 0 to "
                         f"{num_blocks - 1}")


def _check_tables(block_tables: Tensor, B: int, q: Tensor) -> None:
    if not isinstance(block_tables, Tensor) or block_tables.dtype not in (torch.int32, torch.int64):
        got = getattr(block_tables, "dtype", type(block_tables).__name__)
        raise TypeError(f"block_tables must be a tensor of int32 or int64, not {got}")
    check_shape("block_tables", block_tables, "B width", B=B)
    if block_tables.shape[1] == 0:
        raise ValueError("block_tables has no columns: a table needs room for one block at least")
    check_device("q", q, "block_tables", block_tables)


def _check_tree(tree_mask: Tensor, B: int, m: int, q: Tensor) -> Tensor:
    """The tree mask as [B, m, m], without a copy."""
    if not isinstance(tree_mask, Tensor) or tree_mask.dtype != torch.bool:
        got = getattr(tree_mask, "dtype", type(tree_mask).__name__)
        raise TypeError(f"tree_mask must be a bool tensor, not {got}")
    if tree_mask.shape not in ((m, m), (B, m, m)):
        raise ValueError(f"tree_mask must have shape [{m}, {m}] or [{B}, {m}, {m}]; it has {list(tree_mask.shape)}")
    if m > MOST_TREE_TOKENS:
        raise ValueError(f"a tree mask of {m} tokens: at most {MOST_TREE_TOKENS}")
    check_device("q", q, "tree_mask", tree_mask)
    return tree_mask.expand(B, m, m)
