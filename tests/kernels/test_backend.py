"""Which way a call is computed: every machine, each in a Python of its own where how Triton was imported matters."""
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from core_helpers import assert_clear_error

from minilm import kernels

backend = importlib.import_module("minilm.kernels.backend")
ROOT = Path(__file__).resolve().parents[2]
CUDA = torch.cuda.is_available()
interpreted = pytest.mark.skipif(CUDA or not backend.triton.__version__, reason="the interpreter is for the CPU")


NO_TRITON = "import sys; sys.modules['triton'] = None"           # as where it is not installed: ImportError
TOO_LATE = "import os, triton; os.environ['TRITON_INTERPRET'] = '1'"
ASK = """
import sys
import minilm.kernels.{first}
import minilm.kernels
light = not {{'torch', 'triton'}} & set(sys.modules)
from minilm import kernels
from minilm.kernels import flash_attention, flash_decoding, merge, paged_attention, rms_norm, softmax
from minilm.kernels.softmax import softmax as same
import torch
from minilm.kernels.backend import why
x = torch.ones(2, 3, dtype=torch.{dtype})
print(kernels.backend(x), kernels.softmax(x).sum().item(), light, kernels.softmax is softmax is same, why(x), sep='|')
"""
MACHINES = {                                                                   # first lines, then ASK's; environment
    "interpreter": ("", ASK.format(first="softmax", dtype="float32"), {"TRITON_INTERPRET": "1"}),
    "plain": ("", ASK.replace("import minilm.kernels.{first}\n", "").format(dtype="bfloat16"), {}),
    "too late": (TOO_LATE, ASK.format(first="rms_norm", dtype="float32"), {}),
    "no triton": (NO_TRITON, ASK.format(first="flash_attention", dtype="bfloat16"), {}),
}


@pytest.fixture(scope="module")
def said():
    """What a fresh Python on each machine says: (backend, sum of two rows of softmax, light, same, why)."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    started = {machine: subprocess.Popen([sys.executable, "-c", f"{first}\n{ask}"], env=env | more, text=True,
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for machine, (first, ask, more) in MACHINES.items()}
    ended = {machine: (process.communicate(timeout=300), process.returncode) for machine, process in started.items()}

    def of(machine: str) -> list[str]:
        (out, err), code = ended[machine]
        assert code == 0, err
        return out.strip().split("|")

    return of


@interpreted
def test_interpreter_when_asked_for_in_time(said):
    name, total, _, same, why = said("interpreter")
    assert name == "interpreter" and float(total) == pytest.approx(2) and same == "True" and "line by line" in why


@interpreted
def test_too_late_is_said(said):
    """Guards half a Triton under the interpreter: its own functions were defined before the variable was set."""
    name, total, _, same, why = said("too late")
    assert name == "reference" and float(total) == pytest.approx(2) and same == "True" and "too late" in why


def test_no_triton(said):
    """Guards macOS, where there is none: all names import and work, bfloat16 too."""
    name, total, _, same, why = said("no triton")
    assert name == "reference" and float(total) == pytest.approx(2, rel=5e-3) and same == "True"
    assert "no Triton for this system" in why


def test_reference_without_the_variable(said):
    """Guards an interpreter that no one asked for, and a package whose import loads PyTorch."""
    name, total, light, same, why = said("plain")
    assert name == "reference" and float(total) == pytest.approx(2, rel=5e-3) and same == light == "True"
    assert "was not set before" in why or not backend.triton.__version__


def test_names_are_functions():
    """Guards `kernels.softmax` becoming the module of that name once someone imports it."""
    for name in ("softmax", "rms_norm", "flash_attention", "flash_decoding", "paged_attention", "packed_attention",
                 "merge", "backend"):
        assert callable(getattr(kernels, name)) and name in dir(kernels)
    with pytest.raises(AttributeError, match="no attribute 'soft'"):
        kernels.soft  # noqa: B018


@interpreted
def test_bfloat16_is_refused_under_the_interpreter():
    """Guards numbers that are wrong without a word; float64's own reference is named for those who want it."""
    q = torch.zeros(1, 2, 4, 32, dtype=torch.bfloat16)
    calls = [lambda: kernels.flash_attention(q, q, q, causal=True), lambda: kernels.softmax(q),
             lambda: kernels.rms_norm(q, q[0, 0, 0])]
    for call in calls:
        assert_clear_error(call, TypeError, "interpreter gets bfloat16 wrong", "use float32 or float16")


@pytest.mark.parametrize(("triton", "numpy", "refused"), [
    ("3.6.0", "2.4.0", True), ("3.6.0", "2.4.6", True), ("3.6.0", "2.5.0rc1", True), ("3.6.0", "3.0", True),
    ("3.6.0", "2.3.5", False), ("3.6.1+git12ab", "1.26.4", False), ("3.7.1", "2.4.6", False), ("3.9.0", "3.0", False),
    ("3.10.0", "2.4.0", False),
])
def test_the_pair_of_versions_that_fails(triton, numpy, refused, monkeypatch):
    """Guards a TypeError from inside Triton's interpreter, far from its cause."""
    assert backend.too_new(triton, numpy) == refused
    monkeypatch.setattr(backend, "backend", lambda tensor: "interpreter")
    monkeypatch.setattr(backend.triton, "__version__", triton)
    monkeypatch.setattr(backend.numpy, "__version__", numpy)
    call = lambda: backend.launches(torch.ones(1))                                              # noqa: E731
    if refused:
        assert_clear_error(call, RuntimeError, f"Triton {triton}", f"NumPy {numpy}", "numpy<2.4")
    else:
        assert call()


@pytest.mark.skipif(torch.cuda.device_count() > 0 or torch.backends.mps.is_available(), reason="a device is there")
def test_other_devices_fall_back():
    """Guards a kernel launched on tensors that Triton cannot reach."""
    assert kernels.backend(torch.empty(1, device="meta")) == "reference"


@pytest.mark.gpu
def test_on_a_gpu():
    assert kernels.backend(torch.ones(1, device="cuda")) == "triton"
    assert kernels.backend(torch.ones(1)) == "reference"
    assert "compiles" in backend.why(torch.ones(1, device="cuda"))
