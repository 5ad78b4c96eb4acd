"""The KV cache: however a text is cut into passes, the logits are those of one pass over the whole."""
import functools

import pytest
import torch
from core_helpers import assert_clear_error, error_of, one_thread, random_ids, tiny_model  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import core

from minilm.cache import KVCache

LENGTH = 32                                                     # the tiny model's max_positions: up to the last one
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@functools.cache
def case(dtype: torch.dtype):
    """(model, ids[3, 32], the uncached logits)."""
    model, ids = tiny_model(dtype=dtype), random_ids(97, 3, LENGTH)
    with torch.no_grad():
        return model, ids, model(ids)


def in_chunks(model, cache, ids, sizes):
    return torch.cat([model(chunk, cache) for chunk in ids.split(sizes, dim=1)], dim=1)


def check_chunks(sizes=(5, 1, 7, 1, 1, 16, 1), dtype=torch.float64):
    """Cached equals uncached at every position, to the very last."""
    model, ids, want = case(dtype)
    got = in_chunks(model, KVCache(model.config, 3, dtype=dtype), ids, list(sizes))
    assert got.shape == want.shape and (got - want).abs().max() < TOLERANCE[dtype]


def check_truncate():
    """Tokens taken back leave no trace: the cache goes on as if they had never been read."""
    model, ids, want = case(torch.float64)
    cache = KVCache(model.config, 3, dtype=torch.float64)
    model(ids[:, :12], cache)
    for keep, wrong in ((12, 7), (9, 3), (0, 32), (0, 1)):
        before = ids[:, : keep]
        cache.truncate(min(keep, cache.length))
        model(before[:, cache.length :], cache) if cache.length < keep else None
        model(random_ids(97, 3, wrong, seed=keep + wrong), cache)
        cache.truncate(keep)
        assert cache.length == keep and cache.keys(0).shape[2] == keep
    got = in_chunks(model, cache, ids, [12, 1, 19])
    assert (got - want).abs().max() < 1e-10


def check_room():
    """The last position is usable; one past it is one clear error, before anything is written."""
    model, ids, want = case(torch.float32)
    cache = KVCache(model.config, 3)
    model(ids[:, :-1], cache)
    assert error_of(lambda: model(ids[:, -1:], cache)) is None
    held = cache.keys(1).clone()
    assert_clear_error(lambda: model(ids[:, :1], cache), ValueError, "32 tokens held", "1 new", "32 positions")
    assert cache.length == LENGTH and torch.equal(cache.keys(1), held)
    small = KVCache(model.config, 3, capacity=10)
    assert error_of(lambda: model(ids[:, :10], small)) is None
    assert_clear_error(lambda: model(ids[:, :2], small), ValueError, "10 positions")


CHECKS = {check.__name__: check for check in (check_chunks, check_truncate, check_room)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards the cache's one promise; see each check."""
    check()


@pytest.mark.parametrize("mutant", core.CACHE, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let a wrong cache pass."""
    case(torch.float32), case(torch.float64)                    # the right logits, before anything is broken
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[mutant.check]()


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, LENGTH - 1)), st.sampled_from(list(TOLERANCE)))
def test_any_chunks(cuts, dtype):
    """Guards a mask or a position that is right for some way of cutting a prompt only."""
    edges = [0, *sorted(cuts), LENGTH]
    check_chunks([b - a for a, b in zip(edges, edges[1:], strict=False)], dtype)


@pytest.mark.parametrize("shape", [{"num_kv_heads": 6}, {"num_heads": 8, "num_kv_heads": 1}, {"qk_norm": True}],
                         ids=str)
def test_other_groups(shape):
    """Guards query heads that meet the wrong key-value head in the cache."""
    model, ids = tiny_model(dtype=torch.float64, **shape), random_ids(97, 2, LENGTH)
    got = in_chunks(model, KVCache(model.config, 2, dtype=torch.float64), ids, [9, 1, 22])
    assert (got - model(ids)).abs().max() < 1e-10


def test_what_it_holds():
    """Guards `keys`, `values` and `num_bytes`, which lessons show: K heads, `length` tokens, 2·L·B·K·T·D numbers."""
    model, ids, _ = case(torch.float32)
    cache = KVCache(model.config, 3)
    assert (cache.length, cache.num_bytes) == (0, 0)
    model(ids[:, :11], cache)
    assert cache.keys(1).shape == cache.values(1).shape == (3, 2, 11, 8)
    assert cache.num_bytes == 2 * 2 * 3 * 2 * 11 * 8 * 4


@pytest.mark.parametrize(("call", "says"), [
    (lambda c: c.truncate(5), "cannot truncate a cache of 4 tokens to 5"), (lambda c: c.truncate(-1), "to -1"),
    (lambda c: c.begin(0), "empty"), (lambda c: KVCache(case(torch.float32)[0].config, capacity=0), "capacity"),
    (lambda c: KVCache(case(torch.float32)[0].config, capacity=33), "max_positions, 32")])
def test_bad_requests(call, says):
    """Guards a cache that grows past the model, or shrinks to nonsense."""
    model, ids, _ = case(torch.float32)
    cache = KVCache(model.config, 3)
    model(ids[:, :4], cache)
    assert_clear_error(lambda: call(cache), ValueError, says)
