"""Sampling: probabilities against a slow plain-Python reference, draws by exact enumeration, and wrong versions."""
import math
import warnings

import numpy as np
import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import core

from minilm import sampling
from minilm.decoding import autoregressive
from minilm.sampling import Sampling

LAST = 1 - 2**-53                                               # the largest number below 1 that a draw can get
SETTINGS = [(1.0, 0, 1.0), (0.7, 0, 1.0), (2.5, 0, 1.0), (1.0, 1, 1.0), (1.0, 3, 1.0), (0.5, 5, 1.0), (1.0, 0, 0.9),
            (1.3, 0, 0.5), (1.0, 0, 0.05), (0.8, 6, 0.7), (1.7, 4, 0.95), (1.0, 40, 0.999), (3.0, 2, 0.6)]


def reference(logits: list[float], temperature: float, top_k: int, top_p: float) -> list[float]:
    """The definition, one number at a time: scale, keep the k largest (and ties of the last), keep the nucleus."""
    largest = max(logits)
    weights = [math.exp((x - largest) / temperature) for x in logits]
    if top_k:
        smallest_kept = sorted(logits, reverse=True)[min(top_k, len(logits)) - 1]
        weights = [w if x >= smallest_kept else 0.0 for w, x in zip(weights, logits, strict=True)]
    probs = [w / sum(weights) for w in weights]
    kept, mass = [0.0] * len(probs), 0.0
    for i in sorted(range(len(probs)), key=lambda i: (-probs[i], i)):
        if mass >= top_p and top_p < 1:
            break
        kept[i], mass = probs[i], mass + probs[i]
    return [p / sum(kept) for p in kept]


def check_against_reference():
    """Every setting on random logits with ties and a -inf; rows of a batch are independent."""
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(6, 11, generator=generator, dtype=torch.float64)
    logits[1, 3:6] = logits[1].max()                                            # ties at the top
    logits[2, :4] = logits[2].median()                                          # ties in the middle
    logits[3, 5] = -math.inf
    for temperature, top_k, top_p in SETTINGS:
        got = Sampling(temperature, top_k, top_p).probs(logits)
        want = torch.tensor([reference(row, temperature, top_k, top_p) for row in logits.tolist()], dtype=torch.float64)
        assert torch.allclose(got, want, rtol=0, atol=1e-12), (temperature, top_k, top_p)


def check_nucleus_borders():
    """Probabilities that binary fractions hold exactly, so that "reaches p" has no rounding to hide behind."""
    probs = torch.tensor([0.125, 0.5, 0.25, 0.125], dtype=torch.float64)
    for top_p, kept in [(0.1, [1]), (0.5, [1]), (0.5 + 1e-9, [1, 2]), (0.75, [1, 2]), (0.8, [1, 2, 0]),
                        (0.875, [1, 2, 0]), (0.9, [1, 2, 0, 3]), (1.0, [0, 1, 2, 3])]:
        got = Sampling(1.0, top_p=top_p).probs(probs.log())
        assert sorted(got.nonzero().flatten().tolist()) == sorted(kept), top_p
        assert torch.allclose(got[kept], probs[kept] / probs[kept].sum(), atol=1e-15), top_p


def check_draw_by_enumeration():
    """Walks a fine grid of uniforms: each token's share is its probability, exactly, in the tokens' order."""
    weights = [0, 3, 0, 0, 1, 8, 4, 0]                                          # of 16, zeros before, between, after
    probs = torch.tensor(weights, dtype=torch.float64) / 16
    drawn = [sampling.draw(probs, i / 64) for i in range(64)]
    assert [drawn.count(token) for token in range(8)] == [4 * w for w in weights]
    assert drawn == sorted(drawn)
    for first, token in [(0.0, 1), (3 / 16, 4), (4 / 16, 5), (12 / 16, 6)]:     # a border belongs to the next token
        assert sampling.draw(probs, first) == token
    assert sampling.draw(probs, LAST) == 6
    assert [sampling.draw(3 * probs, i / 64) for i in range(64)] == drawn       # not normalised: the same law


def check_draw_never_takes_a_zero():
    """At both ends of [0, 1), in float32 and float64, also where the sum of the probabilities is not quite 1."""
    generator = torch.Generator().manual_seed(2)
    for dtype in (torch.float32, torch.float64):
        for _ in range(200):
            probs = torch.rand(50, generator=generator, dtype=dtype) ** 8
            probs[torch.rand(50, generator=generator) < 0.5] = 0
            probs[:3], probs[-3:], probs[20] = 0, 0, 0.1
            probs = probs / probs.sum()
            for uniform in (0.0, 5e-324, 0.3, 0.999999, LAST):
                assert probs[sampling.draw(probs, uniform)] > 0


CHECKS = {check.__name__: check for check in (check_against_reference, check_nucleus_borders, check_draw_by_enumeration,
                                              check_draw_never_takes_a_zero)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards the law of sampling; see each check."""
    check()


@pytest.mark.parametrize("mutant", core.SAMPLING, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let a wrong sampler pass."""
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[mutant.check]()


@pytest.mark.filterwarnings("ignore:temperature is 0")          # greedy is one of the cases
@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4) | st.just(-math.inf), min_size=1, max_size=40).filter(
           lambda row: max(row) > -math.inf),
       st.sampled_from([0.0, 1e-300, 1e-30, 1e-3, 0.3, 1.0, 7.0, 1e30]), st.integers(0, 45),
       st.floats(1e-9, 1.0), st.sampled_from([torch.float32, torch.float64]))
def test_always_a_distribution(row, temperature, top_k, top_p, dtype):
    """Guards overflow and NaN: huge logits, -inf, extreme temperatures; a token ruled out stays ruled out."""
    logits = torch.tensor(row, dtype=dtype)
    probs = Sampling(temperature, top_k, top_p).probs(logits)
    assert probs.shape == logits.shape and probs.dtype == dtype
    assert (probs >= 0).all() and abs(probs.double().sum().item() - 1) < 1e-5
    assert (probs[logits == -math.inf] == 0).all()
    rounding = 1e-5 * max(temperature, 1e-9)                    # logits closer than that may count as tied
    assert logits[probs.argmax()] >= logits.max() - rounding


def test_greedy_is_one_hot_and_the_limit_of_low_temperatures():
    """Guards a division by temperature 0, and ties: the lowest id wins, as argmax has it."""
    logits = torch.tensor([[0.0, 2.0, 1.0, 2.0], [5.0, -1e4, 1e4, -math.inf]])
    assert Sampling().probs(logits).tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    assert Sampling().greedy and not Sampling(0.1).greedy
    distinct = torch.randn(5, 30)
    for temperature in (1e-5, 1e-40, 1e-300):                   # below float32's smallest number too
        assert torch.equal(Sampling(temperature).probs(distinct), Sampling().probs(distinct))


def test_uniform_is_in_float64_and_follows_the_generator():
    """Guards a uniform of 24 bits, which can't reach rare tokens, and one that ignores its generator."""
    a, b = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    ours = [sampling.uniform(a) for _ in range(100)]
    assert ours == [sampling.uniform(b) for _ in range(100)] and len(set(ours)) == 100
    assert all(0 <= u < 1 for u in ours) and any(u * 2**24 % 1 for u in ours)


def test_the_decoders_first_token_follows_the_distribution():
    """Guards a decoder that samples from something else. Chi-square over 1,200 seeds, 12 tokens kept.

    The seeds are fixed, so it never fails by chance; for fresh seeds a false alarm would come once in 10,000 runs
    (35.6 is the 0.9999 quantile of chi-square with 10 degrees of freedom; 37.4 with 11).
    """
    model, prompt, rule, draws = tiny_model(), [1, 2, 3], Sampling(2.0, top_k=12), 1200
    probs = rule.probs(model(torch.tensor([prompt]))[0, -1]).double()
    counts = torch.zeros_like(probs)
    for seed in range(draws):
        generator = torch.Generator().manual_seed(seed)
        counts[autoregressive(model, prompt, 1, sampling=rule, generator=generator).tokens[0]] += 1
    kept = probs > 0
    assert kept.sum() == 12 and counts[~kept].sum() == 0 and (draws * probs[kept]).min() > 5
    assert ((counts - draws * probs)[kept] ** 2 / (draws * probs[kept])).sum() < 37.4


@pytest.mark.parametrize(("options", "says"), [
    ({"temperature": -0.1}, "temperature must be 0 (greedy) or more"), ({"temperature": math.nan}, "it is nan"),
    ({"temperature": math.inf}, "finite"), ({"top_p": 0.0}, "top_p must lie in (0, 1]"), ({"top_p": 1.1}, "it is 1.1"),
    ({"top_p": -1.0}, "top_p"), ({"top_p": math.nan}, "top_p"), ({"top_k": -1}, "top_k must be 0 (off)"),
    ({"top_k": 2.5}, "it is 2.5"), ({"top_k": math.nan}, "it is nan")])
def test_bad_settings(options, says):
    """Guards a bad setting that is found only deep in a run, or never."""
    assert_clear_error(lambda: Sampling(**options), ValueError, says)


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p"])
@pytest.mark.parametrize("value", ["hot", "1", None, True, False, [1], 1j], ids=repr)
def test_settings_that_are_no_numbers(name, value):
    """Guards Python's own "not supported between instances of", and True taken for 1."""
    assert_clear_error(lambda: Sampling(**{name: value}), TypeError, f"{name} must be a number; it is {value!r}")


def test_numbers_of_numpy_are_numbers():
    """Guards settings that come out of an array."""
    assert Sampling(np.float32(0.5), np.int64(3), np.float64(0.9)) == Sampling(0.5, 3, 0.9)


@pytest.mark.parametrize("options", [{"top_p": 0.9}, {"top_k": 5}, {"top_k": 2, "top_p": 0.1}], ids=str)
def test_cuts_without_a_temperature_are_told(options):
    """Guards a run that is greedy while its author believes that it samples; told at the line that says Sampling."""
    with pytest.warns(UserWarning, match="temperature is 0, so this is greedy") as told:
        made = Sampling(**options)
    assert made.greedy and len(told) == 1 and told[0].filename == __file__


def test_told_once_in_a_loop():
    """Guards a warning at every step."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(5):
            Sampling(top_p=0.9)
    assert len(told) == 1


@pytest.mark.parametrize("made", [(), (0, 1), (1.0, 5, 0.9), (0.8, 0, 0.95)], ids=str)
def test_no_warning_where_nothing_is_ignored(made):
    """Guards noise: top_k=1 is greedy by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Sampling(*made)
