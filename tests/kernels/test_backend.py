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


def said(code: str, **environment: str) -> str:
    """What a fresh Python prints. TRITON_INTERPRET is unset there unless given."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **environment}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ASK = """
import torch
from minilm import kernels
from minilm.kernels.backend import why
x = torch.ones(2, 3)
print(kernels.backend(x), '|', why(x), '|', kernels.softmax(x).sum().item())
"""
NO_TRITON = """
import sys
sys.modules['triton'] = None            # as where it is not installed: import raises ImportError
"""
ALL_MODULES = """
from minilm.kernels import flash_attention, flash_decoding, merge, paged_attention, rms_norm, softmax
"""


@interpreted
def test_interpreter_when_asked_for_in_time():
    backend_name, why, total = said(ASK, TRITON_INTERPRET="1").split(" | ")
    assert backend_name == "interpreter" and "line by line" in why and float(total) == pytest.approx(2)


def test_reference_without_the_variable():
    backend_name, why, total = said(ASK).split(" | ")
    assert backend_name == "reference" and "not set before" in why or not backend.triton.__version__
    assert float(total) == pytest.approx(2)


@interpreted
def test_too_late_is_said():
    """Guards half a Triton under the interpreter: its own functions were defined before the variable was set."""
    code = "import triton, os\nos.environ['TRITON_INTERPRET'] = '1'\n" + ASK
    backend_name, why, total = said(code).split(" | ")
    assert backend_name == "reference" and "too late" in why and float(total) == pytest.approx(2)


def test_no_triton():
    """Guards macOS, where there is none: all names import and work."""
    backend_name, why, total = said(NO_TRITON + ALL_MODULES + ASK).split(" | ")
    assert backend_name == "reference" and "no Triton for this system" in why and float(total) == pytest.approx(2)
    assert said(NO_TRITON + ALL_MODULES + ASK, TRITON_INTERPRET="1").startswith("reference")


def test_importing_the_package_is_light():
    assert said("import sys, minilm.kernels; print({'torch', 'triton'} & set(sys.modules))") == "set()"


def test_names_are_functions_whichever_way_they_are_imported():
    """Guards `kernels.softmax` becoming the module of that name once someone imports it."""
    code = "from minilm.kernels.softmax import softmax\nfrom minilm import kernels\n" \
           "import minilm.kernels.rms_norm\nprint(kernels.softmax is softmax, callable(kernels.rms_norm))"
    assert said(code) == "True True"
    for name in ("softmax", "rms_norm", "flash_attention", "backend"):
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


def test_bfloat16_works_in_plain_pytorch():
    q = "torch.ones(1, 2, 4, 32, dtype=torch.bfloat16)"
    assert said(f"import torch\nfrom minilm import kernels\nq = {q}\n"
                "print(kernels.flash_attention(q, q, q, causal=True).float().mean().item())") == "1.0"


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
