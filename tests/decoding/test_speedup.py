"""The theory of speculation against simulation, enumeration and its own special cases."""
import itertools
import random

import pytest
from core_helpers import assert_clear_error

from minilm.decoding.speedup import best_length, expected_tokens, ladder, rungs, walltime_factor


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("gamma", [0, 1, 4])
def test_expected_tokens_by_enumeration(alpha, gamma):
    """Over all 2^γ outcomes of the drafts' coins."""
    mean = 0.0
    for coins in itertools.product((0, 1), repeat=gamma):
        share = 1.0
        for coin in coins:
            share *= alpha if coin else 1 - alpha
        mean += share * (1 + (coins.index(0) if 0 in coins else gamma))
    assert expected_tokens(alpha, gamma) == pytest.approx(mean, abs=1e-12)
    assert ladder([alpha] * gamma) == pytest.approx(mean, abs=1e-12)


def test_the_ladder_of_a_log_is_its_mean():
    """Guards the wrong denominator: for drafts of one length the identity holds for any dependence, to rounding."""
    rng = random.Random(0)
    for gamma in (1, 3, 6):
        log, moods = [], []
        for _ in range(500):
            mood = rng.random()                                     # drafts of a round are alike: not independent
            accepted = next((i for i in range(gamma) if rng.random() > mood), gamma)
            log.append((gamma, accepted))
            moods.append(mood)
        mean = sum(1 + accepted for _, accepted in log) / len(log)
        assert ladder(rungs(log)) == pytest.approx(mean, abs=1e-9)
        if gamma > 1:
            alpha = sum(moods) / len(moods)                         # Leviathan's α = E[β], over all positions
            assert expected_tokens(alpha, gamma) < mean - 0.05, "alike drafts beat the i.i.d. formula"


def test_walltime_factor():
    """Leviathan et al. 2023, table 1's kind of numbers, and a slow-down where the draft costs too much."""
    assert walltime_factor(0.8, 5, 0.0) == pytest.approx(expected_tokens(0.8, 5))
    assert walltime_factor(0.8, 5, 0.05) == pytest.approx(3.68928 / 1.25)
    assert walltime_factor(0.2, 3, 0.3) < 1


def test_best_length_is_the_best_of_all():
    """No draft pays when it is dear; long ones pay when they are cheap and good; verification's own price counts."""
    flat = [1.0] * 12
    assert best_length(0.3, 0.9, flat) == 0
    assert best_length(0.95, 0.01, flat) == 11
    steep = [1 + 0.5 * i for i in range(12)]
    assert best_length(0.8, 0.05, steep) < best_length(0.8, 0.05, flat)


@pytest.mark.parametrize("call", [lambda: expected_tokens(1.1, 2), lambda: expected_tokens(float("nan"), 2),
                                  lambda: expected_tokens(0.5, -1), lambda: ladder([0.5, 2]),
                                  lambda: walltime_factor(0.5, 2, -1)])
def test_bad_input(call):
    assert_clear_error(call, ValueError, "; it is ")
