"""The `minilm` command: one line a subcommand here, each in a module of its own that is imported when it is used.

Such a module has `add_arguments(parser)` and `run(args) -> int`, the exit status.
"""
from __future__ import annotations

import argparse
import importlib
import sys
import traceback

COMMANDS = {
    "lab": ("minilm.setup", "open the course in JupyterLab"),
    "race": ("minilm.race", "one prompt, every decoder: a live table of speed and of what was kept"),
    "bench": ("minilm.bench", "measure on this machine, beside peers and limits"),
    "grade": ("minilm.lab.grade", "grade a folder of submissions into a file of scores"),
    "release": ("minilm.lab.release", "make exercises/ from solutions/"),
    "fetch": ("minilm.pretrained", "get a pretrained model, and say how to bring it by hand"),
    "doctor": ("minilm.doctor", "say what is present, what is missing, what to do"),
}
USAGE_ERROR, INTERRUPTED = 2, 130
_EXPECTED = (ValueError, TypeError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError,
             PermissionError, ConnectionError, TimeoutError)


class MissingCommand(RuntimeError):
    """The module behind a subcommand, or a package that it needs, is not there."""


def load_command(name: str):
    """Imports the module behind a subcommand; MissingCommand says what is absent."""
    module = COMMANDS[name][0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "minilm":
            raise MissingCommand(f"minilm {name} is not in this version of minilm (no module {error.name})") from error
        raise MissingCommand(f"minilm {name} needs the package {error.name!r}: run `make lab` once, "
                             "or pip install -r requirements.lock") from error


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser: one line for every subcommand, and options for the `chosen` one alone, so that --help is instant."""
    from minilm import __version__
    parser = argparse.ArgumentParser(prog="minilm", description="Efficient LLM inference: the course's command line.")
    parser.add_argument("--version", action="version", version=f"minilm {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (_, line) in COMMANDS.items():
        command = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        if name == chosen:
            load_command(name).add_arguments(command)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand. An error that the user can put right is one line and status 2; --debug shows all of it."""
    argv = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    try:
        parser = build_parser(chosen)
        args = parser.parse_args(argv)
        if args.command is None:
            parser.print_help()
            return 0
        return load_command(args.command).run(args) or 0
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `minilm doctor | head`
        sys.stderr.close()
        return 0
    except Exception as error:
        if "--debug" in argv:
            traceback.print_exc()
            return USAGE_ERROR
        if not is_expected(error):
            raise
        print(f"minilm: {one_line(error)}", file=sys.stderr)
        return USAGE_ERROR


def is_expected(error: Exception) -> bool:
    """Whether the error tells the user what to do: bad input, files, the network, or an error class of minilm's own."""
    return isinstance(error, (*_EXPECTED, MissingCommand)) or type(error).__module__.split(".")[0] == "minilm"


def one_line(error: Exception) -> str:
    """The error's message without line breaks; its class's name when it has none."""
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
