"""Ranges in pyproject.toml, pins in requirements.lock and environment.yml agree; CI, Makefile, licence hold."""
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FILES = ("pyproject.toml", "requirements.lock", "environment.yml")
SYSTEMS = [{"sys_platform": name, "python_version": python, "python_full_version": python + ".4", "extra": ""}
           for name in ("linux", "darwin", "win32") for python in ("3.11", "3.12", "3.13", "3.14")]
LOCAL_BUILDS = ("nvidia-", "cuda-")  # torch pins its own; in the lock they would force CUDA on everyone


def declared(root: Path) -> list[Requirement]:
    """Every dependency of pyproject.toml, extras included."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(line) for group in (project["dependencies"], *extras) for line in group]


def locked(root: Path) -> dict[str, list[Requirement]]:
    """The lock's pins by name."""
    pins: dict[str, list[Requirement]] = {}
    for line in (root / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def applies(requirement: Requirement, system: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(system)


def disagreements(root: Path) -> list[str]:
    """What pyproject.toml, requirements.lock and environment.yml in `root` don't agree on, a line each."""
    pins, wrong = locked(root), []
    for name, lines in pins.items():
        if name.startswith(LOCAL_BUILDS):
            wrong.append(f"{name}: torch pins it; it has no place in the lock")
        for pin in lines:
            if not re.fullmatch(r"==[0-9][^,*+]*", str(pin.specifier)):
                wrong.append(f"{pin}: not an exact pin of a public version")
    for need in declared(root):
        for system in SYSTEMS:
            where = f"{need.name} on {system['sys_platform']}, Python {system['python_version']}"
            found = [pin for pin in pins.get(canonicalize_name(need.name), []) if applies(pin, system)]
            if len(found) != applies(need, system):
                wrong.append(f"{where}: {len(found)} pins, {int(applies(need, system))} expected")
            for pin in found:
                version = str(pin.specifier).removeprefix("==")
                if not need.specifier.contains(version, prereleases=True):
                    wrong.append(f"{where}: pin {version} is outside {need.specifier}")
    return wrong + environment_disagreements(root)


def environment_disagreements(root: Path) -> list[str]:
    """What is wrong with environment.yml: it must take the lock and this package, on a Python that both allow."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    plain = [entry for entry in listed if isinstance(entry, str)]
    through_pip = [line for entry in listed if isinstance(entry, dict) for line in entry.get("pip", [])]
    wrong = []
    if through_pip != ["-r requirements.lock", "-e ."]:
        wrong.append(f"environment.yml: pip installs {through_pip}, not the lock and this package")
    pythons = [entry.partition("=")[2].strip("=") for entry in plain if entry.startswith("python=")]
    if len(pythons) != 1 or not SpecifierSet(project["requires-python"]).contains(pythons[0] + ".9"):
        wrong.append(f"environment.yml: Python {pythons} is not inside {project['requires-python']}")
    if "pip" not in plain or any(not re.fullmatch(r"pip|python=[\d.]+", entry) for entry in plain):
        wrong.append(f"environment.yml: conda may bring pip and python only, not {plain}")
    return wrong


def test_ranges_lock_and_environment_agree():
    """Guards a version changed in one of the three and forgotten in the others."""
    assert disagreements(ROOT) == []


@pytest.mark.parametrize(("file", "before", "after", "complaint"), [
    ("pyproject.toml", '"torch>=2.11,<3"', '"torch>=2.99,<3"', "torch on linux, Python 3.11: pin .* outside"),
    ("pyproject.toml", '"rich>=', '"absent-thing>=1", "rich>=', "absent-thing on .*: 0 pins, 1 expected"),
    ("pyproject.toml", "; sys_platform == 'linux'", "", "triton on darwin.*: 0 pins, 1 expected"),
    ("requirements.lock", "triton==3.7.1 ; sys_platform == 'linux'", "triton==3.7.1", "on win32.*: 1 pins, 0 exp"),
    ("requirements.lock", "numpy==", "numpy>=", "numpy>=.*: not an exact pin"),
    ("requirements.lock", "torch==2.13.0", "torch==2.13.0+cpu", "torch==.*: not an exact pin of a public version"),
    ("requirements.lock", "torch==2.13.0", "torch==2.13.0\nnvidia-cublas==13.1.1.3", "nvidia-cublas: torch pins it"),
    ("requirements.lock", "gguf==", "gguf==0.0.", "gguf on .* outside"),
    ("environment.yml", "python=3.12", "python=3.10", "Python .* not inside"),
    ("environment.yml", "-r requirements.lock", "torch", "pip installs"),
    ("environment.yml", "  - pip\n", "  - pip\n  - numpy=1.26\n", "conda may bring"),
])
def test_a_disagreement_is_seen(tmp_path, file, before, after, complaint):
    """The check above can fail: each perturbed copy is refused, for the reason meant."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert before in text
    (tmp_path / file).write_text(text.replace(before, after, 1), encoding="utf-8")
    assert re.search(complaint, "\n".join(disagreements(tmp_path)))


def test_the_lock_names_no_index():
    """Guards a lock that works only where its author's package index is."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|--index|--find-links|--extra|\.whl|@", text)


def test_torch_comes_with_the_triton_that_its_cuda_build_asks_for():
    """Guards a lock whose triton would be replaced, or refused, when torch's CUDA build is installed."""
    pins = locked(ROOT)
    assert [str(pin.specifier) for pin in pins["torch"] + pins["triton"]] == ["==2.13.0", "==3.7.1"]


def test_the_version_is_told_once():
    """Guards a release whose package and metadata disagree."""
    import minilm
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == minilm.__version__


def test_licence():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "END OF TERMS" in text and "Copyright 2026 the minilm authors" in text
    assert len(text) > 11_000


def test_every_make_target_is_one_line():
    """Guards logic in the Makefile, which Windows users would not get."""
    recipes: dict[str, int] = {}
    target = ""
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines():
        if line.startswith("\t"):
            recipes[target] += 1
        elif re.match(r"[a-z]+:", line):
            target = line.split(":")[0]
            recipes[target] = 0
    assert {"lab", "test"} <= recipes.keys() and set(recipes.values()) == {1}


def test_workflow_covers_the_systems_and_runs_the_one_command():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    assert {name.split("-")[0] for name in job["strategy"]["matrix"]["os"]} == {"ubuntu", "macos", "windows"}
    assert {"3.11", "3.13"} <= set(job["strategy"]["matrix"]["python"])
    assert "python -m minilm.setup test" in [step.get("run") for step in job["steps"]]


@pytest.mark.skipif(sys.platform == "win32", reason="the script is for Linux and macOS; Windows runs the same command")
def test_ci_script_calls_make_test_and_passes_its_status_on(tmp_path):
    """Guards a script that is green when `make test` is red."""
    (tmp_path / "make").write_text('#!/bin/sh\necho "make $*"\nexit 7\n')
    (tmp_path / "make").chmod(0o755)
    done = subprocess.run(["bash", str(ROOT / ".ci/run")], env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (7, "make test")
