"""The lean pass is the model's own, number by number; what it can't do the model does."""
import dataclasses

import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from mutants import combined as mutants

from minilm import lean
from minilm.lean import Lean
from minilm.model import GPT

TEXT = [3, 96, 0, 41, 41, 7, 12, 88, 2, 60, 5]
SHAPES = ({}, {"tie_embeddings": False, "norm_eps": 1e-2}, {"num_heads": 4, "num_kv_heads": 4, "width": 32},
          {"num_kv_heads": 1, "rope_theta": 100.0, "num_layers": 3})


def check_pass():
    """States, logits and cache after each token, alone and three at a time, also after a way back; float64, 1e-10."""
    rows, lean.ONE_THREAD = lean.ONE_THREAD, 24 * 40                           # a head of several blocks
    try:
        for shape in SHAPES:
            model = tiny_model(dtype=torch.float64, **shape)
            fast = Lean(model)
            cache, own = fast.new_cache(20), model.new_cache(20)
            for feed, back in (TEXT[:4], 4), (TEXT[4:5], 5), (TEXT[5:8], 6), (TEXT[6:8], 8), (TEXT[8:], 11):
                states, right = fast.read(feed, cache), model.read(feed, own)
                assert cache.length == own.length
                assert (states - right).abs().max() < 1e-10
                assert (fast.head(states[-1]) - model.head(right[-1])).abs().max() < 1e-10
                for layer in range(model.config.num_layers):
                    assert (cache.keys(layer) - own.keys(layer)).abs().max() < 1e-10
                    assert (cache.values(layer) - own.values(layer)).abs().max() < 1e-10
                cache.truncate(back)
                own.truncate(back)
    finally:
        lean.ONE_THREAD = rows


def check_falls_back():
    """Branches of a tree and caches of another make are the model's own affair."""
    model = tiny_model(dtype=torch.float64)
    fast = Lean(model)
    for cache, parents in (fast.new_cache(20, 8), [-1, -1]), (model.new_cache(20, 8), None):
        own = model.new_cache(20, 8)
        for other in (cache, own):
            model.read(TEXT, other)
            if parents:
                other.branch(parents)
        assert (fast.read([4, 9], cache) - model.read([4, 9], own)).abs().max() < 1e-10


def test_the_pass_is_the_models():
    """Guards a wrong position, mask, head or norm."""
    check_pass()


def test_falls_back():
    """Guards branches read as a chain."""
    check_falls_back()


def test_float32():
    """Guards float64 numbers on the way, which would cost twice the time."""
    model = tiny_model()
    fast, cache = Lean(model), model.new_cache()
    states = fast.read(TEXT[:2], fast.new_cache())
    assert states.dtype == fast.head(states[0]).dtype == torch.float32
    assert (states - model.read(TEXT[:2], cache)).abs().max() < 1e-5


def test_it_is_the_model_otherwise():
    """Guards a wrapper that lacks what decoders ask of a model."""
    model = tiny_model()
    fast = Lean(model)
    assert fast.config is model.config and fast.num_parameters() == model.num_parameters()
    states = fast.read(TEXT, fast.new_cache())
    assert torch.equal(fast.head(states), model.head(states))


@pytest.mark.parametrize("mutant", mutants.LEAN_PASS, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards a check that a wrong version passes."""
    mutant.apply(monkeypatch)
    with pytest.raises((AssertionError, IndexError)):
        {"check_pass": check_pass, "check_falls_back": check_falls_back}[mutant.check]()


def test_bad_input():
    """Guards a wrong answer where an error is due: past the end, outside the vocabulary, a model of another kind."""
    fast = Lean(tiny_model())
    cache = fast.new_cache(4)
    fast.read(TEXT[:4], cache)
    assert_clear_error(lambda: fast.read([1], cache), ValueError, "do not fit into 4 positions")
    assert_clear_error(lambda: fast.read([97], fast.new_cache()), ValueError, "outside the vocabulary of 97")
    assert_clear_error(lambda: fast.read([-1], fast.new_cache()), ValueError, "outside the vocabulary of 97")
    for model in (tiny_model(qk_norm=True), tiny_model(qkv_bias=True), tiny_model(dtype=torch.bfloat16)):
        assert not Lean.fits(model)
        assert_clear_error(lambda model=model: Lean(model), ValueError, "without biases and qk_norm")
    meta = GPT(dataclasses.replace(tiny_model().config)).to("meta")
    assert_clear_error(lambda: Lean(meta), ValueError, "on meta")
