"""Shared by the tests of the kernels: where they run, and how wrong they may be."""
from collections.abc import Callable, Sequence

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"         # compiled there; under Triton's interpreter here
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 5e-3}
wrong_versions = pytest.mark.skipif(DEVICE == "cuda", reason="wrong versions are tried under the interpreter")
quiet = pytest.mark.filterwarnings("ignore::RuntimeWarning")     # the interpreter's NumPy, on overflow and inf - inf
SHORT = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """The same numbers on every machine: drawn on the CPU."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def error(got: torch.Tensor, want: torch.Tensor) -> float:
    """The worst row's |got - want| / |want| (2-norms along the last axis). A row of zeros must be met exactly."""
    got, want = got.double(), want.double()
    assert got.shape == want.shape, f"shape {list(got.shape)}, not {list(want.shape)}"
    apart, size = (got - want).norm(dim=-1), want.norm(dim=-1)
    return torch.where(apart == 0, 0.0, apart / size).nan_to_num(nan=torch.inf).max().item()


def assert_close(got: torch.Tensor, want: torch.Tensor, dtype: torch.dtype, what: str = "") -> None:
    """`want` is float64's answer, `got` that of a kernel in `dtype`."""
    assert got.dtype == dtype
    wrong = error(got, want)
    assert wrong <= TOLERANCE[dtype], f"relative error {wrong:.2g} > {TOLERANCE[dtype]:.0e} {what}"


def the_tests_of(checks: dict[str, Callable[[], None]], wrong: Sequence,
                 says: str | None = None) -> tuple[Callable, Callable]:
    """The two tests that every kernel has: each check holds, and each wrong version fails the check it names.

    says: what the failure's message must match, if anything.
    """
    @pytest.mark.parametrize("check", checks.values(), ids=checks)
    def check_holds(check):
        """Guards what the check says."""
        check()

    @wrong_versions
    @quiet
    @pytest.mark.parametrize("mutant", wrong, ids=str)
    def mutant_is_rejected(mutant, monkeypatch):
        """Guards checks that let a wrong version pass; memory that it leaves unwritten holds nan, not an old answer."""
        mutant.apply(monkeypatch)
        torch.use_deterministic_algorithms(True, warn_only=True)        # then `torch.empty` fills what it gives
        try:
            with pytest.raises(AssertionError, match=says):
                checks[mutant.check]()
        finally:
            torch.use_deterministic_algorithms(False)
    return check_holds, mutant_is_rejected
