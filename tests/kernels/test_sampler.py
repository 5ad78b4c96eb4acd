"""The sampler's one launch against `minilm.sampling` in float64, token by token, given the same uniform numbers."""
import pytest
import torch
from kernel_helpers import DEVICE, quiet, randn, wrong_versions
from mutants import kernels_sampler as mutants

from minilm.kernels import reference, sampler
from minilm.sampling import Sampling

LONG = sampler.LONGEST_TILE + 100                           # two tiles


def numbers(values, dtype=torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, device=DEVICE)


def drawn(logits: torch.Tensor, sampling: list[tuple[float, int, float]], uniforms: list[float]) -> list[int]:
    t, k, p = zip(*sampling, strict=True)
    return sampler.sample(logits, numbers(t), numbers(k, torch.int64), numbers(p), numbers(uniforms)).tolist()


def wanted(logits: torch.Tensor, sampling: list[tuple[float, int, float]], uniforms: list[float]) -> list[int]:
    t, k, p = zip(*sampling, strict=True)
    return reference.sample(logits.double(), numbers(t), numbers(k, torch.int64), numbers(p),
                            numbers(uniforms)).tolist()


def check_draws():
    """Every cut alone and together. Uniforms lie clear of the boundaries: 1e-3 at least, so no rounding decides."""
    logits = randn(5, LONG, dtype=torch.float16, seed=1) * 4
    logits[:, -3:] += 8                                     # some of the likely ones in the second tile
    kinds = [(0.0, 0, 1.0), (1.0, 0, 1.0), (0.7, 5, 1.0), (1.3, 0, 0.8), (2.0, 9, 0.6)]
    uniforms = clear(logits, kinds)
    assert drawn(logits, kinds, uniforms) == wanted(logits, kinds, uniforms)


def clear(logits, kinds) -> list[float]:
    """For each row the middle of its widest step of the CDF but the first token's."""
    uniforms = []
    for row, (t, k, p) in zip(logits.double(), kinds, strict=True):
        if t == 0:
            uniforms.append(0.5)
            continue
        probs = Sampling(t, int(k), p).probs(row).cpu()
        steps = probs.clone()
        steps[probs.argmax()] = 0                           # the second largest: another token than the greedy one
        place = int(steps.argmax())
        assert steps[place] > 2e-3
        uniforms.append(float(probs.cumsum(0)[place] - probs[place] / 2))
    return uniforms


def check_every_step():
    """One row's whole CDF: a uniform number in the middle of each step gives its token, both ends those of the ends."""
    probs = torch.tensor([0.0, 0.25, 0.125, 0.0, 0.125, 0.5, 0.0], dtype=torch.float64)
    logits = probs.log().float().to(DEVICE).expand(6, -1)
    uniforms = [0.0, 0.2, 0.3, 0.45, 0.75, 1 - 2**-53]
    assert drawn(logits, [(1.0, 0, 1.0)] * 6, uniforms) == [1, 1, 2, 4, 5, 5]


def check_cuts():
    """Masses of 1, 0.82, 0.67, 0.55, 0.45: the last one that each cut keeps, and that p counts what k keeps."""
    logits = torch.full((4, 20), float("-inf"), device=DEVICE)
    logits[:, 10:15] = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2])
    kinds = [(1.0, 3, 1.0), (1.0, 0, 0.5), (1.0, 3, 0.7), (1.0, 5, 1.0)]
    assert drawn(logits, kinds, [0.99] * 4) == [12, 11, 11, 14] == wanted(logits, kinds, [0.99] * 4)


def check_ties():
    """Five equal logits. All that tie with the k-th stay; of those that p cuts through, the first ones, in both tiles.

    With p: four of the five stay, then come the larger ones; the uniform number meets the first of these early on.
    Last: a uniform number on a boundary gives the token after it, where all masses are 1.
    """
    logits = torch.full((3, LONG), float("-inf"), device=DEVICE)
    logits[:, [3, 5, 900, LONG - 6, LONG - 4]] = 0.0
    logits[:2, [LONG - 3, LONG - 1]] = 1.0
    kinds, uniforms = [(1.0, 3, 1.0), (1.0, 0, 0.9), (1.0, 0, 1.0)], [0.05, 0.461, 0.2]
    assert drawn(logits, kinds, uniforms) == [3, LONG - 3, 5] == wanted(logits, kinds, uniforms)


def check_half():
    """float16's fewer bits: negative, positive, minus zero, and numbers that differ in the last bit only."""
    logits = torch.tensor([[-1.0, -1.0009765625, -1.001953125, -8.0], [-0.0, 0.0, -2.0, 0.0],
                           [1.0, 1.0009765625, 1.001953125, 0.99951171875]], dtype=torch.float16, device=DEVICE)
    kinds, uniforms = [(1.0, 2, 1.0), (1.0, 0, 0.5), (1.0, 2, 1.0)], [0.75, 0.2, 0.1]
    assert drawn(logits, kinds, uniforms) == [1, 0, 1] == wanted(logits, kinds, uniforms)


def check_greedy():
    """Equal logits in two tiles: the smallest number. Also far apart, and negative infinity."""
    logits = torch.full((3, LONG), float("-inf"), device=DEVICE)
    logits[0, [8200, 8, 40]] = 3.0                          # 8 and 8200 meet in one lane
    logits[1, LONG - 1] = -1e30
    logits[2] = torch.linspace(-5e4, 5e4, LONG)
    assert drawn(logits, [(0.0, 0, 1.0)] * 3, [0.9] * 3) == [8, LONG - 1, LONG - 1]


CHECKS = {check.__name__: check for check in (check_draws, check_every_step, check_cuts, check_ties, check_half,
                                              check_greedy)}


@quiet
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_tokens(check):
    check()


@wrong_versions
@quiet
@pytest.mark.parametrize("mutant", mutants.SAMPLER, ids=str)
def test_wrong_versions(mutant, monkeypatch):
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[mutant.check]()


def test_tiny_temperature():
    """Guards a division that overflows: nearly greedy, not nan."""
    logits = torch.tensor([[1.0, 3.0, 2.0]], device=DEVICE)
    assert drawn(logits, [(1e-40, 0, 1.0)], [0.5]) == [1]


def test_a_slice_of_logits():
    """Rows that lie apart, and columns that do."""
    wide = randn(2, 100, seed=3)
    kinds, uniforms = [(0.0, 0, 1.0)] * 2, [0.0] * 2
    for logits in (wide[:, 10:60], wide[:, ::2]):
        assert drawn(logits, kinds, uniforms) == logits.argmax(-1).tolist()


@pytest.mark.parametrize("change, says", [
    ({"logits": torch.zeros(3)}, "logits must have shape"),
    ({"logits": torch.zeros(2, 4).double()}, "logits is float64"),
    ({"temperature": torch.zeros(2, dtype=torch.int64)}, "temperature must be a tensor of float32 or float64"),
    ({"temperature": [0, 0]}, "temperature must be a tensor of float32 or float64, not list"),
    ({"temperature": torch.tensor([-1.0, 0])}, "temperature must be 0 or more, and finite; it is"),
    ({"temperature": torch.tensor([float("nan"), 0])}, "temperature must be 0 or more"),
    ({"top_k": torch.tensor([-1, 0])}, "top_k must be 0 or more"),
    ({"top_k": torch.zeros(2)}, "top_k must be a tensor of int32 or int64"),
    ({"top_p": torch.tensor([0.0, 1.0])}, "top_p must be above 0 and at most 1"),
    ({"top_p": torch.ones(3)}, r"top_p must have shape \[B=2\]"),
    ({"uniforms": torch.ones(2)}, "uniforms must be from 0 up to 1, without 1")])
def test_bad_input(change, says):
    fine = {"logits": torch.zeros(2, 4), "temperature": torch.zeros(2), "top_k": torch.zeros(2, dtype=torch.int64),
            "top_p": torch.ones(2), "uniforms": torch.zeros(2)}
    with pytest.raises((ValueError, TypeError), match=says):
        sampler.sample(**fine | change)
