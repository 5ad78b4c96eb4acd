"""Softmax against float64: rows that fit into a tile, and rows that are walked."""
import importlib

import pytest
import torch
from core_helpers import assert_clear_error
from kernel_helpers import DEVICE, SHORT, assert_close, error, quiet, randn, the_tests_of
from mutants import kernels_flash as wrong

from minilm.kernels import reference

sm = importlib.import_module("minilm.kernels.softmax")
WALKED = sm.LONGEST_TILE + 1


def judge(x):
    got = sm.softmax(x)
    assert_close(got, reference.softmax(x.double()), x.dtype, f"at {list(x.shape)}")
    assert got.is_contiguous()


def check_short_rows():
    """Several rows a program, the last program with some to spare."""
    for shape in ((1, 1), (3, 17), (130, 15), (2, 5, 130), (129, 33)):
        judge(3 * randn(*shape))


def check_long_rows():
    """Walked: the maximum grows from tile to tile, shrinks, and stands in the rest."""
    x = randn(3, WALKED) + torch.linspace(0, 9, WALKED, device=DEVICE)
    x[1] = x[1].flip(0)
    x[2, -1] = 20
    judge(x)


def check_large():
    """±1e4, in one tile and walked."""
    judge(1e4 * randn(4, 77))
    judge(1e4 * randn(2, WALKED))


def check_minus_infinity():
    """What is masked by -inf gets 0, also where a whole tile is."""
    x = randn(2, 2 * sm.WALKING_TILE + 100)
    assert x.shape[1] > sm.LONGEST_TILE
    x[0, : sm.WALKING_TILE] = -torch.inf
    x[1, 5:] = -torch.inf
    judge(x)
    judge(randn(2, 16).where(torch.arange(16, device=DEVICE) > 7, -torch.inf))


def check_strides():
    judge(randn(5, 40)[:, 3:20])
    judge(randn(5, 40).t())
    judge(randn(2, 3, 40)[:, 1])
    judge(randn(4, WALKED + 9)[::2, 5:])


CHECKS = {name: check for name, check in list(globals().items()) if name.startswith("check_")}
test_check_holds, test_mutant_is_rejected = the_tests_of(CHECKS, wrong.SOFTMAX, says="relative error")


@pytest.mark.parametrize("N", [1, 15, 16, 17, 77, 130, 1000, 8192, WALKED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_grid(N, dtype):
    judge(2 * randn(3, N, dtype=dtype))


@quiet
def test_a_row_of_minus_infinity_is_nan_as_in_pytorch():
    """Guards a row without a maximum being given some made-up distribution."""
    x = torch.full((2, 5), -torch.inf, device=DEVICE)
    x[1] = 0
    got = sm.softmax(x)
    assert got[0].isnan().all() and got[1].eq(0.2).all()


def test_bad_input():
    assert_clear_error(lambda: sm.softmax([1.0]), TypeError, "x must be a tensor, not list")
    assert_clear_error(lambda: sm.softmax(torch.zeros(3, 0)), ValueError, "x is empty, of shape [3, 0]")
    assert_clear_error(lambda: sm.softmax(torch.zeros(3).double()), TypeError, "x is float64", "kernels.reference")
    assert_clear_error(lambda: sm.softmax(torch.tensor(1.0)), ValueError, "x must have at least one axis")


def test_reference_backend_gives_the_same(monkeypatch):
    """Guards a machine without Triton."""
    monkeypatch.setattr(sm, "launches", lambda x: False)
    for check in (check_short_rows, check_large):
        check()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", SHORT.values(), ids=SHORT)
@pytest.mark.parametrize("N", [64, 1000, 4096, 32000, 128256, 1_000_000])
def test_real_sizes(N, dtype):
    """Guards tiles and warps that only a GPU uses."""
    judge(3 * randn(max(4, 2**22 // N), N, dtype=dtype))


@pytest.mark.gpu
def test_far_addresses():
    """Guards offsets that pass 2^31 numbers."""
    x = torch.zeros(2**17 + 8, 2**14, device=DEVICE, dtype=torch.float16)
    x[-1, 0] = 5
    assert error(sm.softmax(x)[-2:], reference.softmax(x[-2:].double())) < 2e-3
