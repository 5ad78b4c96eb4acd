"""RMSNorm against float64, alone and with the residual addition before it."""
import importlib

import pytest
import torch
import torch.nn.functional as F
from core_helpers import assert_clear_error
from kernel_helpers import DEVICE, SHORT, assert_close, randn, the_tests_of
from mutants import kernels_flash as wrong

from minilm.kernels import reference

rn = importlib.import_module("minilm.kernels.rms_norm")


def judge(x, weight=None, eps=1e-5, residual=None):
    weight = 1 + 0.3 * randn(x.shape[-1], dtype=x.dtype, seed=9) if weight is None else weight
    more = None if residual is None else residual.double()
    got = rn.rms_norm(x, weight, eps, residual=residual)
    want = reference.rms_norm(x.double(), weight.double(), eps, residual=more)
    for mine, right in zip(*(((a,) if residual is None else a) for a in (got, want)), strict=True):
        assert_close(mine, right, x.dtype, f"at {list(x.shape)}")


def check_norm():
    for shape in ((1, 1), (3, 17), (130, 15), (2, 5, 130), (129, 33)):
        judge(0.5 + randn(*shape))


def check_small():
    """Where eps is as large as the numbers."""
    judge(1e-3 * randn(3, 77))
    judge(1e-3 * randn(3, 77), eps=1e-6)


def check_residual():
    judge(randn(3, 77), residual=1 + randn(3, 77, seed=5))
    judge(randn(2, 65, 20), residual=randn(2, 65, 20, seed=5))


def check_strides():
    judge(randn(5, 40)[:, 3:20], residual=randn(5, 17, seed=5))
    judge(randn(5, 17), residual=randn(5, 40, seed=5)[:, 3:20])
    judge(randn(17, 5).t(), weight=randn(34, seed=9)[::2])


def check_half():
    """Squares pass float16's largest number, 65504: they must be summed in float32."""
    judge(1000 * randn(3, 77, dtype=torch.float16))


CHECKS = {name: check for name, check in list(globals().items()) if name.startswith("check_")}
test_check_holds, test_mutant_is_rejected = the_tests_of(CHECKS, wrong.NORM, says="relative error")


@pytest.mark.parametrize("N", [1, 15, 16, 17, 77, 130, 576, 4096, 8193])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_grid(N, dtype):
    judge(randn(3, N, dtype=dtype))
    judge(randn(3, N, dtype=dtype), residual=randn(3, N, dtype=dtype, seed=5))


def test_agrees_with_pytorch():
    """Guards a reference and a kernel that share a mistake."""
    x, weight = randn(7, 77), randn(77, seed=9)
    torch.testing.assert_close(rn.rms_norm(x, weight, 1e-6), F.rms_norm(x, (77,), weight, 1e-6))
    torch.testing.assert_close(reference.rms_norm(x, weight, 1e-6), F.rms_norm(x, (77,), weight, 1e-6))


def test_inputs_are_left_alone():
    x, residual = randn(3, 17), randn(3, 17, seed=5)
    before = x.clone(), residual.clone()
    rn.rms_norm(x, randn(17), residual=residual)
    assert torch.equal(x, before[0]) and torch.equal(residual, before[1])


@pytest.mark.parametrize(("call", "kind", "says"), [
    (lambda: rn.rms_norm(randn(3, 8), randn(9)), ValueError, "weight must have shape [N=8]; it has [9]"),
    (lambda: rn.rms_norm(randn(3, 8), randn(1, 8)), ValueError, "weight must have shape [N=8]"),
    (lambda: rn.rms_norm(randn(3, 8), randn(8), residual=randn(8)), ValueError, "residual must have x's shape [3, 8]"),
    (lambda: rn.rms_norm(randn(3, 8), randn(8).half()), TypeError, "x is float32, weight is float16: give one dtype"),
    (lambda: rn.rms_norm(randn(3, 8), randn(8).to("meta")), ValueError, "weight on meta: move them to one device"),
    (lambda: rn.rms_norm(randn(0, 8), randn(8)), ValueError, "x is empty, of shape [0, 8]"),
    (lambda: rn.rms_norm(randn(1, 32769), randn(32769)), ValueError, "32769 numbers are too long: at most 32768"),
    (lambda: rn.rms_norm(randn(3, 8).long(), randn(8)), TypeError, "x is int64"),
])
def test_bad_input(call, kind, says):
    assert_clear_error(call, kind, says)


def test_reference_backend_gives_the_same(monkeypatch):
    """Guards a machine without Triton."""
    monkeypatch.setattr(rn, "launches", lambda x: False)
    for check in CHECKS.values():
        check()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", SHORT.values(), ids=SHORT)
@pytest.mark.parametrize("N", [128, 1000, 4096, 16384, 32768])
def test_real_sizes(N, dtype):
    """Guards tiles and warps that only a GPU uses."""
    rows = max(4, 2**22 // N)
    judge(randn(rows, N, dtype=dtype))
    judge(randn(rows, N, dtype=dtype), residual=randn(rows, N, dtype=dtype, seed=5))
    assert DEVICE == "cuda"
