"""Paged decode and verify against float64: the kernel itself, interpreted on the CPU (compiled where there is a GPU).

Each `check_...` can be run on its own; `mutants.kernels_decoding` names the check that each wrong version must fail.
"""
import importlib
import itertools

import pytest
import torch
from decode_cases import deal, error, oracle, random_trees, tensors, unwritten_is_nan  # noqa: F401
from kernel_helpers import DEVICE, the_tests_of
from mutants import kernels_decoding as mutants

from minilm import kernels
from minilm.kernels import reference

split_kv = importlib.import_module("minilm.kernels.split_kv")
BOUND = {torch.float32: 1e-5, torch.float16: 2e-3}
# (block size, new tokens, query heads to a key-value head, head size, dtype)
CASES = [(1, 1, 4, 32, torch.float32), (4, 2, 2, 64, torch.float32), (16, 3, 7, 32, torch.float32),
         (32, 4, 1, 128, torch.float32), (16, 5, 3, 80, torch.float32), (4, 6, 8, 32, torch.float32),
         (1, 7, 2, 96, torch.float32), (16, 8, 4, 64, torch.float32), (16, 1, 7, 128, torch.float16),
         (4, 8, 8, 32, torch.float16), (32, 5, 4, 96, torch.float16), (1, 3, 3, 80, torch.float16)]


def case(block_size, m, group, D, dtype=torch.float32, lengths=(17, 77), kv_heads=2, scale=1.0):
    """(q, k_cache, v_cache, tables, lengths, k, v): rows dealt to random blocks of a pool of nan."""
    S = -(-max(lengths) // block_size) * block_size
    q, k, v = tensors(len(lengths), m, kv_heads, group, D, S, dtype, DEVICE, scale)
    lengths = torch.tensor(lengths, dtype=torch.int32, device=DEVICE)
    return q, *deal(k, v, lengths, block_size), lengths, k, v


def run(q, k_cache, v_cache, tables, lengths, tree=None, tile=16, **options):
    """The kernel with tiles of 16 keys, so that short rows have many."""
    if tree is not None:
        tree = tree.to(DEVICE).expand(q.shape[0], -1, -1)
    return split_kv.attend(q, k_cache, v_cache, lengths, tables=tables, tree=tree, tile=tile, **options)


def check_cases(cases=CASES):
    """Every block size, 1 to 8 new tokens, groups and head sizes, lengths at the edges of blocks; chains and trees."""
    for i, (size, m, group, D, dtype) in enumerate(cases):
        torch.manual_seed(i)
        lengths = (max(size, m), 40 + i) if i % 2 else (max(size - 1, m), size + m)
        q, *cache, lengths, k, v = case(size, m, group, D, dtype, lengths, kv_heads=2 if m * group < 8 else 1)
        trees = [None, random_trees(2, m)] if dtype == torch.float32 else [random_trees(1, m)[0]]
        for tree, options in zip(trees, itertools.cycle([{"num_splits": 3}, {"split_size": 32}])):
            out = run(q, *cache, lengths, tree, tile=32, **options)
            assert error(out, oracle(q, k, v, lengths, tree)) <= BOUND[dtype], (size, m, group, D, dtype, tree, options)


def check_number_of_splits():
    """Verify under a tree: the answer is the same for any number of splits. The new tokens lie in one, or in two."""
    torch.manual_seed(0)
    q, *cache, lengths, k, v = case(4, 5, 2, 32, lengths=(34, 130), kv_heads=1)
    tree = random_trees(2, 5)
    whole = run(q, *cache, lengths, tree, num_splits=1)
    assert error(whole, oracle(q, k, v, lengths, tree)) <= 1e-5
    for options in ({"split_size": 33}, {"num_splits": 2}, {"split_size": 32}, {"num_splits": 9}, {"num_splits": 64}):
        assert error(run(q, *cache, lengths, tree, **options), whole.double()) <= 2e-6, options


def check_early_tokens_see_nothing_of_the_last_split():
    """The split that holds only new keys is masked whole for the first new token: no nan, no share."""
    q, *cache, lengths, k, v = case(16, 8, 2, 32, lengths=(36,), kv_heads=1)
    for options in ({"split_size": 32}, {"split_size": 30}, {"num_splits": 3}):
        assert error(run(q, *cache, lengths, **options), oracle(q, k, v, lengths)) <= 1e-5, options


def check_only_new_tokens():
    """Rows that hold nothing but the new tokens, rows that hold nothing at all, and both beside a long one."""
    tree = random_trees(3, 4)
    q, *cache, lengths, k, v = case(4, 4, 2, 32, lengths=(4, 0, 50))
    for mask in (None, tree):
        out = run(q, *cache, lengths, mask, num_splits=2)
        assert error(out, oracle(q, k, v, lengths, mask)) <= 1e-5 and not out[1].any()


def check_many_rows():
    """More query rows than a tile holds: 9 new tokens of 8 heads; and the 64 tokens of the largest tree."""
    q, *cache, lengths, k, v = case(16, 9, 8, 32, lengths=(41,), kv_heads=1)
    assert error(run(q, *cache, lengths, num_splits=2), oracle(q, k, v, lengths)) <= 1e-5
    q, *cache, lengths, k, v = case(16, 64, 1, 32, lengths=(70,), kv_heads=1)
    tree = random_trees(1, 64)
    assert error(run(q, *cache, lengths, tree, tile=32, num_splits=1), oracle(q, k, v, lengths, tree)) <= 1e-5


def check_large_scores():
    """Scores of ±1e4, in verify: no overflow, no nan."""
    for dtype in (torch.float32, torch.float16):
        q, *cache, lengths, k, v = case(16, 3, 2, 64, dtype, lengths=(77,), scale=700.0, kv_heads=1)
        q = q.clamp(-2000, 2000)
        assert (q[0, 0, 0].double() @ k[0, 0].double().T / 8).abs().max() > 500
        assert error(run(q, *cache, lengths, num_splits=3), oracle(q, k, v, lengths)) <= BOUND[dtype], dtype


CHECKS = {check.__name__: check for check in (
    check_cases, check_number_of_splits, check_early_tokens_see_nothing_of_the_last_split, check_only_new_tokens,
    check_many_rows, check_large_scores)}
test_check_holds, test_mutant_is_rejected = the_tests_of(CHECKS, mutants.PAGED)


@pytest.mark.parametrize("tree", [False, True])
def test_the_function(tree):
    """Guards the way from the public name to the kernel, and the reference beside it."""
    q, k_cache, v_cache, tables, lengths, k, v = case(16, 3, 4, 80, lengths=(20, 66))
    tree = random_trees(2, 3).to(DEVICE) if tree else None
    exact = oracle(q, k, v, lengths, tree)
    out = kernels.paged_attention(q, k_cache, v_cache, tables, lengths, tree_mask=tree)
    assert error(out, exact) <= 1e-5
    out = reference.paged_attention(q.double(), k_cache, v_cache, tables, lengths, tree_mask=tree)
    assert error(out, exact) <= 1e-12


def test_short_rows_take_one_launch(monkeypatch):
    """Guards a merge of rows that are not worth splitting; a row with room for one block more is split."""
    monkeypatch.setattr(split_kv, "SHORT", 32)
    monkeypatch.setattr(split_kv, "choose_splits", lambda *_: 2)
    monkeypatch.setattr(split_kv, "merge_splits", None)
    q, *cache, lengths, k, v = case(16, 1, 2, 32, lengths=(20, 32))
    assert error(run(q, *cache, lengths), oracle(q, k, v, lengths)) <= 1e-5
    q, *cache, lengths, _, _ = case(16, 1, 2, 32, lengths=(20, 33))
    with pytest.raises(TypeError, match="not subscriptable"):
        run(q, *cache, lengths)


def test_bad_input_is_refused():
    """Guards a launch that reads past its tensors, or past the pool."""
    q, k, v, tables, lengths, *_ = case(4, 3, 2, 32, lengths=(20, 8))
    outside, negative = tables.clone(), tables.clone()
    outside[0, 2], negative[1, 1] = len(k), -1
    tree = torch.ones(3, 3, dtype=torch.bool, device=DEVICE).tril()
    refuse = [
        ((q[0], k, v, tables, lengths), {}, ValueError, "q must have shape"),
        ((q, k[..., :16], v, tables, lengths), {}, ValueError, "k_cache must have shape"),
        ((q, k, v[1:], tables, lengths), {}, ValueError, "v_cache must have shape"),
        ((q, k, v, tables[:1], lengths), {}, ValueError, "block_tables must have shape"),
        ((q, k, v, tables[:, :0], lengths), {}, ValueError, "no columns"),
        ((q, k, v, tables.float(), lengths), {}, TypeError, "block_tables must be a tensor of int32"),
        ((q, k, v, tables, lengths[:1]), {}, ValueError, "lengths must have shape"),
        ((q, k, v, tables.to("meta"), lengths), {}, ValueError, "move them to one device"),
        ((q[:, :, :3], k, v, tables, lengths), {}, ValueError, "evenly"),
        ((q, k, v, tables, lengths), {"tree_mask": tree[:2]}, ValueError, r"tree_mask must have shape \[3, 3\]"),
        ((q, k, v, tables, lengths), {"tree_mask": tree.float()}, TypeError, "bool"),
        ((q, k, v, tables, lengths), {"num_splits": 2, "split_size": 16}, ValueError, "not both"),
        ((q, k, v, outside, lengths), {"debug": True}, ValueError, rf"block_tables\[0, 2\] is {len(k)}, but the pool"),
        ((q, k, v, negative, lengths), {"debug": True}, ValueError, r"block_tables\[1, 1\] is -1, but the pool"),
        ((q, k, v, tables[:, :4], lengths), {"debug": True}, ValueError, "length"),
        ((q, k, v, tables, lengths - 6), {"debug": True}, ValueError, "row 1 has length 2, but 3 new tokens"),
    ]
    for arguments, options, kind, message in refuse:
        with pytest.raises(kind, match=message):
            kernels.paged_attention(*arguments, **options)


def test_debug_by_environment(monkeypatch):
    """Guards a debug mode that cannot be switched on from outside; past a row's length a table may hold anything."""
    q, k, v, tables, lengths, *_ = case(4, 1, 2, 32, lengths=(20, 8))
    monkeypatch.setenv("MINILM_KERNELS_DEBUG", "1")
    tables[1, 2:] = 10**6
    kernels.paged_attention(q, k, v, tables, lengths)
    tables[1, 1] = 10**6
    with pytest.raises(ValueError, match="the pool has blocks 0 to"):
        kernels.paged_attention(q, k, v, tables, lengths)


def test_largest_tree():
    """Guards bits that run out in silence."""
    q, k, v, tables, lengths, *_ = case(16, 65, 1, 32, lengths=(70,))
    with pytest.raises(ValueError, match="at most 64"):
        kernels.paged_attention(q, k, v, tables, lengths, tree_mask=torch.eye(65, dtype=torch.bool, device=DEVICE))
