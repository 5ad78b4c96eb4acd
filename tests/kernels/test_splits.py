"""The merge operator and the two ways to choose splits."""
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_helpers import the_tests_of
from mutants import kernels_decoding as mutants

from minilm.kernels import splits
from minilm.kernels.splits import choose_splits, fa2_num_splits, merge, merge_all

LSE = st.one_of(st.floats(-2e4, 2e4), st.just(-math.inf))
STATES = st.lists(st.tuples(st.lists(st.floats(-100, 100), min_size=3, max_size=3), LSE), min_size=3, max_size=3)


def state(out, lse):
    return torch.tensor(out, dtype=torch.float64), torch.tensor(lse, dtype=torch.float64)


def same(a, b) -> bool:
    return all(torch.allclose(x, y, rtol=1e-12, atol=1e-10) for x, y in zip(a, b, strict=True))


@settings(max_examples=300, deadline=None)
@given(STATES)
def test_merge_is_associative_and_commutative(states):
    """Guards a merge whose answer depends on which split comes first."""
    a, b, c = (state(*s) for s in states)
    assert same(merge(merge(a, b), c), merge(a, merge(b, c)))
    assert same(merge(a, b), merge(b, a))


@settings(max_examples=100, deadline=None)
@given(STATES, st.sampled_from([0.0, math.nan, math.inf]))
def test_merge_has_an_identity(states, garbage):
    """Guards an empty split that counts, whatever its output holds."""
    a = state(*states[0])
    empty = state([garbage] * 3, -math.inf)
    for merged in (merge(a, empty), merge(empty, a)):
        assert torch.equal(merged[1], a[1])
        assert torch.equal(merged[0], a[0] if a[1] > -math.inf else torch.zeros(3, dtype=torch.float64))


def check_empty():
    """Two states without keys are one, and their outputs, whatever they are, count for nothing."""
    out, lse = splits.merge(*[state([math.nan] * 3, -math.inf)] * 2)
    assert torch.equal(out, torch.zeros(3, dtype=torch.float64)) and lse == -math.inf


def check_merge():
    """Any way to cut the keys gives the attention to all of them, cuts of nothing too, with scores up to ±1e4."""
    torch.manual_seed(0)
    for scale, cuts in itertools.product((1, 1e4), ([0, 130], [0, 1, 130], [0, 0, 17, 17, 64, 130, 130])):
        scores, values = scale * torch.randn(4, 130, dtype=torch.float64), torch.randn(130, 8, dtype=torch.float64)
        outs, lses = [], []
        for first, last in itertools.pairwise(cuts):
            part = scores[:, first:last]
            outs.append(part.softmax(-1) @ values[first:last])
            lses.append(part.logsumexp(-1) if last > first else torch.full((4,), -math.inf, dtype=torch.float64))
        for order in (range(len(outs)), range(len(outs))[::-1]):
            out, lse = merge_all(torch.stack([outs[i] for i in order]), torch.stack([lses[i] for i in order]))
            assert (out - scores.softmax(-1) @ values).abs().max() < 1e-12
            assert (lse - scores.logsumexp(-1)).abs().max() < 1e-11 * scale


CHECKS = {check.__name__: check for check in (check_empty, check_merge)}
test_check_holds, test_mutant_is_rejected = the_tests_of(CHECKS, mutants.MERGE)


def port_of_fa2(blocks: int, processors: int, tiles: int, most: int) -> int:
    """num_splits_heuristic of FlashAttention-2 statement by statement, in its number types."""
    if np.float32(blocks) >= np.float32(0.8) * np.float32(processors):
        return 1
    most = min(most, processors, tiles)
    efficiency, best = [], np.float32(0)

    def eligible(n):
        return n == 1 or -(-tiles // n) != -(-tiles // (n - 1))

    for n in range(1, most + 1):
        waves = np.float32(blocks * n) / np.float32(processors)
        efficiency.append(waves / np.ceil(waves) if eligible(n) else np.float32(0))
        best = max(best, efficiency[-1])
    for n in range(1, most + 1):
        if eligible(n) and float(efficiency[n - 1]) >= 0.85 * float(best):
            return n
    return 1


# (programs without splits, processors, tiles, splits): what `port_of_fa2` says, written out to be read
TABLE = [
    (48, 108, 64, 2), (1, 108, 64, 64), (1, 108, 8, 8), (1, 108, 1, 1), (8, 108, 64, 13), (8, 108, 512, 12),
    (8, 216, 512, 23), (16, 108, 64, 6), (32, 108, 64, 3), (64, 108, 64, 3), (80, 108, 64, 4), (86, 108, 64, 5),
    (87, 108, 64, 1), (108, 108, 64, 1), (1000, 108, 64, 1), (8, 132, 32, 16), (8, 264, 32, 32), (8, 264, 2048, 29),
    (64, 264, 512, 4), (211, 264, 512, 5), (212, 264, 512, 1), (40, 132, 16, 3), (1, 264, 1024, 114),
    (12, 132, 100, 9),
]


@pytest.mark.parametrize(("programs", "processors", "tiles", "splits"), TABLE)
def test_fa2_table(programs, processors, tiles, splits):
    """Guards a rule that is only nearly FlashAttention-2's."""
    assert port_of_fa2(programs, processors, tiles, 128) == splits
    assert fa2_num_splits(programs, processors, tiles) == splits


def test_fa2_rule_everywhere():
    """Guards the cases that no table lists. Left out: n that fill 0.85 of the best exactly, which rounding decides."""
    for programs, processors, tiles, most in itertools.product(
            (*range(1, 40), 48, 64, 85, 86, 87, 96, 105, 106, 128, 211, 212), (80, 108, 132, 216, 264),
            (1, 2, 3, 7, 8, 16, 31, 64, 100), (8, 128)):
        fills = [splits._fill(programs * n, processors) for n in range(1, min(most, processors, tiles) + 1)
                 if n == 1 or -(-tiles // n) != -(-tiles // (n - 1))]
        if any(abs(fill - 0.85 * max(fills)) < 1e-6 for fill in fills):
            continue
        expected = port_of_fa2(programs, processors, tiles, most)
        assert fa2_num_splits(programs, processors, tiles, most) == expected, (programs, processors, tiles, most)


@pytest.mark.parametrize(("programs", "keys", "processors", "expected"), [
    (8, 4096, 132, 16), (8, 131072, 132, 16), (64, 32768, 132, 2), (66, 100, 132, 2), (67, 100, 132, 1),
    (1, 64, 132, 132),
    (512, 1024, 132, 1), (512, 16384, 132, 1), (512, 16385, 132, 2), (512, 131072, 132, 8), (64, 131072, 132, 8)])
def test_choose_splits(programs, keys, processors, expected):
    """Guards a second wave where one is enough, and one program left alone with a very long row."""
    assert choose_splits(programs, keys, processors) == expected


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2"])
def test_bad_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="whole number of at least 1"):
        fa2_num_splits(bad, 108, 64)
    with pytest.raises(ValueError, match="whole number of at least 1"):
        choose_splits(8, 4096, bad)
    with pytest.raises(ValueError, match="whole number of at least 1"):
        splits.check_split(bad, None)
    with pytest.raises(ValueError, match="not both"):
        splits.check_split(2, 64)
