"""`minilm doctor` on machines it is not run on: each finding from given facts, the exit status from the findings."""
import argparse
import hashlib
import json

import pytest

from minilm import doctor, setup
from minilm.doctor import MISSING, OK, WARN, Finding

NO_GPU = {"cuda": None, "gpus": []}


def state_and_text(findings):
    (finding,) = findings
    assert bool(finding.do) == (finding.state != OK), "a finding that is not ok says what to do, and only that one"
    return finding.state, f"{finding.what} -> {finding.do}"


@pytest.mark.parametrize(("version", "state"), [((3, 11, 0), OK), ((3, 13, 2), OK), ((3, 10, 9), MISSING)])
def test_python(version, state):
    assert state_and_text(doctor.check_python(version))[0] == state


def test_absent_packages_are_named():
    found = {"torch": "2.13.0"}
    state, text = state_and_text(doctor.check_packages("Packages", ("torch", "rich"), state=MISSING, find=found.get))
    assert state == MISSING and "rich" in text and "torch" not in text and "make lab" in text
    state, text = state_and_text(doctor.check_packages("Packages", ("torch",), state=MISSING, find=found.get))
    assert state == OK and "torch 2.13.0" in text


@pytest.mark.parametrize(("probe", "driver", "state", "text"), [
    (NO_GPU, False, OK, "no GPU: everything runs on CPU, kernels through Triton's interpreter"),
    (NO_GPU, True, WARN, "torch is its CPU build"),
    ({"cuda": "13.0", "gpus": []}, True, WARN, "finds no device"),
    ({"cuda": "13.0", "gpus": []}, False, OK, "no GPU"),
    ({"cuda": "13.0", "gpus": [["NVIDIA T4", 15.8]]}, True, OK, "NVIDIA T4 (16 GB), CUDA 13.0"),
    (None, True, MISSING, "does not start"),
])
def test_gpu(probe, driver, state, text):
    found, said = state_and_text(doctor.check_gpu(probe, has_driver=driver))
    assert found == state and text in said


@pytest.mark.parametrize(("system", "triton", "numpy", "interpret", "gpu", "state", "text"), [
    ("Linux", "3.7.1", "2.4.6", None, False, OK, "runs in its interpreter"),
    ("Linux", "3.7.1", "2.4.6", None, True, OK, "compiles for the GPU"),
    ("Linux", "3.7.1", "2.4.6", "1", True, WARN, "unset TRITON_INTERPRET"),
    ("Linux", "3.6.0", "2.4.0", "1", False, WARN, "crashes on some loops"),
    ("Linux", "3.6.0", "2.3.5", "1", False, OK, "triton 3.6.0"),
    ("Linux", None, "2.4.6", None, False, MISSING, "not installed"),
    ("Darwin", None, "2.4.6", None, False, WARN, "no build for Darwin"),
    ("Windows", None, "2.4.6", None, False, WARN, "WSL 2"),
])
def test_triton(system, triton, numpy, interpret, gpu, state, text):
    """Guards among others the pair triton 3.6 with NumPy 2.4, which crashes far from its cause."""
    found, said = state_and_text(doctor.check_triton(system, triton, numpy, interpret=interpret, gpu=gpu))
    assert found == state and text in said


def test_version_numbers():
    assert doctor.number("2.13.0+cpu") == (2, 13, 0)
    assert doctor.number("2.10.0") > doctor.number("2.4.6")
    assert doctor.number("3.7.1rc1") == (3, 7)


def test_the_real_model_is_hashed(tmp_path, monkeypatch):
    """Guards a truncated file reported as fine because it is there."""
    assert state_and_text(doctor.check_model(None))[0] == WARN
    file = tmp_path / setup.MODEL_FILE
    file.write_bytes(b"truncated")
    state, text = state_and_text(doctor.check_model(file))
    assert state == WARN and "SHA-256 differs" in text
    monkeypatch.setattr(setup, "MODEL_SHA256", hashlib.sha256(b"truncated").hexdigest())
    assert state_and_text(doctor.check_model(file))[0] == OK


def test_bundled_models(tmp_path):
    state, text = state_and_text(doctor.check_checkpoints(tmp_path))
    assert state == MISSING and "minilm-14m, minilm-1m" in text
    for name in doctor.BUNDLED:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    assert state_and_text(doctor.check_checkpoints(tmp_path))[0] == OK


def test_a_small_machine_is_warned():
    assert [finding.state for finding in doctor.check_machine(8, 16.0, 100.0)] == [OK, OK]
    assert [finding.state for finding in doctor.check_machine(2, 2.0, 1.0)] == [WARN, WARN]
    assert [finding.state for finding in doctor.check_machine(1, None, 100.0)] == [OK, OK]


@pytest.mark.parametrize(("states", "status", "last"), [
    ([OK, OK], 0, "Ready."), ([OK, WARN], 0, "Ready. 1 thing could be better."), ([WARN, MISSING], 1, "1 missing"),
])
def test_exit_status_and_last_line(monkeypatch, capsys, states, status, last):
    """Guards a doctor that is content where something needed is missing."""
    findings = [Finding("thing", state, "as it is", "" if state == OK else "mend it") for state in states]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    assert doctor.run(argparse.Namespace(json=False)) == status
    assert capsys.readouterr().out.splitlines()[-1].startswith(last)


def test_json_of_this_machine(capsys):
    """The real examination, as a program would read it."""
    doctor.run(argparse.Namespace(json=True))
    findings = json.loads(capsys.readouterr().out)
    assert [set(finding) for finding in findings] == [{"name", "state", "what", "do"}] * len(findings)
    names = [finding["name"] for finding in findings]
    assert {"Python", "GPU", "Triton", "Real model", "Bundled models", "Disk"} <= set(names)
    assert len(names) == len(set(names))
