"""The `minilm` command: instant help, commands loaded when used, errors in one line."""
import subprocess
import sys
import types

import pytest

from minilm import cli


@pytest.fixture
def command(monkeypatch):
    """Puts a function in the place of `minilm doctor`."""
    def install(run):
        module = types.ModuleType("fake")
        module.add_arguments = lambda parser: parser.add_argument("--level", type=int, default=1)
        module.run = run
        monkeypatch.setattr(cli, "load_command", lambda name: module)
    return install


def test_help_loads_no_command_and_no_torch():
    """Guards a `minilm --help` that takes seconds."""
    code = ("import sys, minilm.cli;\ntry: minilm.cli.main(['--help'])\nexcept SystemExit: pass\n"
            "print(sorted(m for m in sys.modules if m in ('torch', 'rich', 'minilm.setup', 'minilm.race')))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in cli.COMMANDS)


def test_options_reach_the_command_and_its_status_comes_back(command):
    command(lambda args: args.level)
    assert cli.main(["doctor", "--level", "3"]) == 3
    command(lambda args: None)
    assert cli.main(["doctor"]) == 0


def test_no_command_prints_the_help(capsys):
    assert cli.main([]) == 0
    assert "doctor" in capsys.readouterr().out


class OwnError(RuntimeError):
    """Stands for an exception class of the package."""


OwnError.__module__ = "minilm.somewhere"


@pytest.mark.parametrize("error", [ValueError("bad\n  input"), FileNotFoundError("bad input"), OwnError("bad input")])
def test_an_error_the_user_can_mend_is_one_line(command, capsys, error):
    def fail(args):
        raise error
    command(fail)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "minilm: bad input\n"


@pytest.mark.parametrize("argv", [["--debug", "doctor"], ["doctor", "--debug"]])
def test_debug_shows_the_traceback(command, capsys, argv):
    def fail(args):
        raise ValueError("bad input")
    command(fail)
    assert cli.main(argv) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_not_dressed_up_as_bad_input(command):
    def fail(args):
        raise ZeroDivisionError
    command(fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


def test_interrupt(command, capsys):
    def fail(args):
        raise KeyboardInterrupt
    command(fail)
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr().err == "\nStopped.\n"


@pytest.mark.parametrize(("module", "line"), [
    ("minilm.no_such_module", "is not in this version of minilm"),
    ("no_such_package", "needs the package 'no_such_package'"),
])
def test_a_missing_module_is_told_plainly(monkeypatch, capsys, module, line):
    monkeypatch.setitem(cli.COMMANDS, "race", (module, "a race"))
    assert cli.main(["race"]) == 2
    assert line in capsys.readouterr().err


def test_an_unknown_command_lists_the_known(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["rase"])
    assert "race" in capsys.readouterr().err


def test_every_command_has_one_short_line():
    assert list(cli.COMMANDS) == ["lab", "race", "bench", "grade", "release", "fetch", "doctor"]
    assert all(module.startswith("minilm.") and 0 < len(line) < 80 for module, line in cli.COMMANDS.values())
