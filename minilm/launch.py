"""What the two commands do once the environment stands: open JupyterLab, or run the checks. Standard library only."""
from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from pathlib import Path

from minilm.setup import ROOT, VENV, SetupError, Steps, venv_python

LANES = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile"]  # a file of tests at a time on each core
CELL_TIMEOUT = 300  # seconds: a dead kernel is seen only when this runs out
NBGRADER = ("formgrader", "validate_assignment", "assignment_list", "course_list")  # its server extensions
_HAS_CUDA = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"


def environment(venv: Path = VENV) -> dict[str, str]:
    """Variables for what runs in `.venv`: its programs first, UTF-8, and Triton's interpreter where there is no GPU."""
    env = dict(os.environ, PYTHONUTF8="1", VIRTUAL_ENV=str(venv))
    env["PATH"] = os.pathsep.join([str(venv_python(venv).parent), env.get("PATH", "")])
    if "TRITON_INTERPRET" not in env and sys.platform == "linux":
        # before the first import of triton, which `transformers` does too: a notebook's first cell may be too late
        if subprocess.run([str(venv_python(venv)), "-c", _HAS_CUDA], capture_output=True).returncode:
            env["TRITON_INTERPRET"] = "1"
    return env


# JupyterLab ----------------------------------------------------------------------------------------------------------

def can_browse(env: dict[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether opening a browser window here would reach the user."""
    if env.get("SSH_CONNECTION") or env.get("SSH_TTY"):
        return False
    if platform.startswith("linux") and not (env.get("DISPLAY") or env.get("WAYLAND_DISPLAY")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def free_port(wanted: int | None = None, first: int = 8888) -> int:
    """`wanted` if it is free (SetupError if not), else the first free port of the hundred from `first`."""
    for port in [wanted] if wanted else range(first, first + 100):
        with socket.socket() as probe:
            if os.name != "nt":  # on Windows this option would let two servers share a port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except (OSError, OverflowError):
                continue
    raise SetupError(f"port {wanted} cannot be used: it is taken, or not one that you may open. Try --port {first}"
                     if wanted else f"no free port from {first} to {first + 99}; give one with --port")


def start_page(root: Path = ROOT) -> str:
    """The first notebook's page in JupyterLab, or the folder's while there is none."""
    lessons = sorted((root / "notebooks").glob("[0-9]*.ipynb"))
    if lessons:
        return f"/lab/tree/notebooks/{lessons[0].name}"
    return "/lab/tree/notebooks" if (root / "notebooks").is_dir() else "/lab"


def lab_command(port: int, page: str, *, browser: bool, root: Path = ROOT, venv: Path = VENV) -> list[str]:
    """JupyterLab for this machine only, quiet, at the given port and page."""
    command = [str(venv_python(venv)), "-m", "jupyterlab", f"--ServerApp.root_dir={root}", f"--ServerApp.port={port}",
               "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1", f"--LabApp.default_url={page}",
               "--LabApp.extension_manager=readonly", "--LabApp.news_url=None", "--Application.log_level=WARN",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--ServerApp.answer_yes=True"]
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in containers; Jupyter refuses root otherwise
        command.append("--allow-root")
    return command


def quiet_defaults(venv: Path = VENV) -> None:
    """Turns JupyterLab's news off, as a default of this environment; the user's own settings still win."""
    folder = venv / "share" / "jupyter" / "lab" / "settings"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "overrides.json").exists():
        settings = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
        (folder / "overrides.json").write_text(json.dumps(settings, indent=2) + "\n")


def learner_config(venv: Path = VENV) -> Path:
    """A Jupyter configuration folder without nbgrader's menus and panels, which are the instructor's (`--teach`)."""
    folder = venv / "share" / "minilm" / "jupyter"
    extensions = {f"nbgrader.server_extensions.{name}": False for name in NBGRADER}
    files = {"labconfig/page_config.json": {"disabledExtensions": {"@jupyter/nbgrader": True}},
             "jupyter_server_config.d/learner.json": {"ServerApp": {"jpserver_extensions": extensions}}}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    return folder


def _announce(server: subprocess.Popen, port: int, address: str, opens: bool) -> None:
    """Waits until the server answers, then prints its address."""
    while server.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    else:
        return
    lead = "Your browser opens at" if opens else "Open this address in a browser:"
    print(f"\n      {lead}\n      {address}\n", flush=True)
    if os.environ.get("SSH_CONNECTION"):
        print(f"      You are on a remote machine; on your own, first run:\n      ssh -L {port}:127.0.0.1:{port} "
              f"{os.environ.get('USER', 'you')}@{socket.gethostname()}\n", flush=True)
    print("      Ctrl-C here stops JupyterLab.", flush=True)


def open_lab(steps: Steps, port: int | None = None, *, browser: bool = True, teach: bool = False) -> int:
    """Runs JupyterLab until it is stopped; returns its exit status."""
    opens = browser and can_browse()
    port, page, token = free_port(port), start_page(), secrets.token_hex(16)
    steps.start("JupyterLab" + ("" if opens or not browser else " (no browser here: open the address yourself)"))
    quiet_defaults()
    env = dict(environment(), JUPYTER_TOKEN=token)  # not on the command line, where other users could read it
    if not teach:
        config = (str(learner_config()), env.get("JUPYTER_CONFIG_PATH"))
        env["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, config))
    server = subprocess.Popen(lab_command(port, page, browser=opens), cwd=ROOT, env=env)
    address = f"http://127.0.0.1:{port}{page}?token={token}"
    threading.Thread(target=_announce, args=(server, port, address, opens), daemon=True).start()
    # Ctrl-C reaches the server itself, which shuts its kernels down; a request to end is passed on to it.
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        status = server.wait()
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    return 0 if status in (0, -signal.SIGINT, -signal.SIGTERM) else status


# the checks ----------------------------------------------------------------------------------------------------------

def checks(root: Path = ROOT, venv: Path = VENV) -> list[tuple[str, list[str]]]:
    """What must pass, as (title, command). The package's tests come last, so that pytest's summary ends the output."""
    python = str(venv_python(venv))
    plan = [("Style: ruff", [python, "-m", "ruff", "check", "."])]
    for folder in ("notebooks", "solutions"):
        if any((root / folder).glob("*.ipynb")):
            plan.append((f"Notebooks: {folder}/, executed and compared with their stored outputs",
                         [python, "-m", "pytest", "--nbval", "--nbval-current-env", "--nbval-sanitize-with",
                          "tests/nbval_sanitize.cfg", "--nbval-cell-timeout", str(CELL_TIMEOUT), f"{folder}/"]))
    return [*plan, ("Tests: tests/", [python, "-m", "pytest", *LANES, "tests/"])]


def count_checks() -> int:
    """How many steps `run_checks` takes."""
    return len(checks())


def run_checks(steps: Steps) -> int:
    """Runs every check, also after one that fails; returns 0 when all passed and 1 otherwise."""
    env, failed = environment(), []
    plan = checks()
    for title, command in plan:
        steps.start(title)
        if subprocess.run(command, cwd=ROOT, env=env).returncode:
            failed.append(title)
        if (title, command) != plan[-1]:
            steps.done("failed" if title in failed else "passed")
    if failed:
        print("\nFailed: " + "; ".join(failed), file=sys.stderr, flush=True)
    return 1 if failed else 0
