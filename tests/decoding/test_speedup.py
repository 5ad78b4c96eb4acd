"""The theory of speculation against simulation, enumeration and its own special cases."""
import itertools
import random

import pytest
from core_helpers import assert_clear_error
from mutants import speculative_loop as mutants

from minilm.decoding import speedup


def near(a: float, b: float, tolerance: float = 1e-12) -> bool:
    return abs(a - b) <= tolerance


def check_expected_tokens():
    """Over all 2^γ outcomes of the drafts' coins."""
    for alpha, gamma in itertools.product((0.0, 0.3, 0.8, 1.0), (0, 1, 4)):
        mean = 0.0
        for coins in itertools.product((0, 1), repeat=gamma):
            share = 1.0
            for coin in coins:
                share *= alpha if coin else 1 - alpha
            mean += share * (1 + (coins.index(0) if 0 in coins else gamma))
        assert near(speedup.expected_tokens(alpha, gamma), mean)
        assert near(speedup.ladder([alpha] * gamma), mean)


def check_ladder():
    """Guards the wrong denominator: for drafts of one length the ladder of a log is its mean, for any dependence."""
    rng = random.Random(0)
    for gamma in (1, 3, 6):
        log, moods = [], []
        for _ in range(500):
            mood = rng.random()                                     # drafts of a round are alike: not independent
            accepted = next((i for i in range(gamma) if rng.random() > mood), gamma)
            log.append((gamma, accepted))
            moods.append(mood)
        mean = sum(1 + accepted for _, accepted in log) / len(log)
        assert near(speedup.ladder(speedup.rungs(log)), mean, 1e-9)
        if gamma > 1:
            alpha = sum(moods) / len(moods)                         # Leviathan's α = E[β], over all positions
            assert speedup.expected_tokens(alpha, gamma) < mean - 0.05, "alike drafts beat the i.i.d. formula"


def check_rungs():
    """By hand, drafts of several lengths: a round that drafted too few tokens says nothing of the later ones."""
    log = [(3, 3), (3, 1), (1, 1), (2, 0), (0, 0)]
    rungs = speedup.rungs(log)
    assert len(rungs) == 3 and near(rungs[0], 3 / 4) and near(rungs[1], 1 / 2) and near(rungs[2], 1.0)
    assert speedup.rungs([]) == [] and speedup.rungs([(4, 0), (4, 0)]) == [0.0]


def check_walltime_factor():
    """Leviathan et al. 2023, table 1's kind of numbers, and a slow-down where the draft costs too much."""
    assert near(speedup.walltime_factor(0.8, 5, 0.0), speedup.expected_tokens(0.8, 5))
    assert near(speedup.walltime_factor(0.8, 5, 0.05), 3.68928 / 1.25, 1e-6)
    assert speedup.walltime_factor(0.2, 3, 0.3) < 1


def check_best_length():
    """No draft pays when it is dear; long ones pay when they are cheap and good; verification's own price counts."""
    flat, steep = [1.0] * 12, [1 + 0.5 * i for i in range(12)]
    assert speedup.best_length(0.3, 0.9, flat) == 0
    assert speedup.best_length(0.95, 0.01, flat) == 11
    assert speedup.best_length(0.8, 0.05, steep) < speedup.best_length(0.8, 0.05, flat)
    for alpha, seconds, verify in itertools.product((0.2, 0.6, 0.9), (0.02, 0.2, 0.5), (flat, steep)):
        rates = [speedup.expected_tokens(alpha, n) / (n * seconds + verify[n]) for n in range(12)]
        assert rates[speedup.best_length(alpha, seconds, verify)] == max(rates)


def check_bad_input():
    for call in (lambda: speedup.expected_tokens(1.1, 2), lambda: speedup.expected_tokens(float("nan"), 2),
                 lambda: speedup.expected_tokens(0.5, -1), lambda: speedup.ladder([0.5, 2]),
                 lambda: speedup.walltime_factor(0.5, 2, -1)):
        assert_clear_error(call, ValueError, "; it is ")


CHECKS = {check.__name__: check for check in (
    check_expected_tokens, check_ladder, check_rungs, check_walltime_factor, check_best_length, check_bad_input)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards the formulas; see each check."""
    check()


@pytest.mark.parametrize("mutant", mutants.SPEEDUP, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let a wrong formula pass."""
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[mutant.check]()
