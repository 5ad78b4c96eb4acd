"""The grader's end: a learner's function that looks like any other but runs in a shut-in process of its own."""

from __future__ import annotations

import builtins
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from minilm.lab import wire
from minilm.lab.expect import Failed
from minilm.lab.steady import CheckTimeout, time_limit
from minilm.lab.trial import LearnerError
from minilm.lab.values import clip, is_array, is_tensor

_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from minilm.lab.worker import main; main()"
_LONGEST = 60.0  # seconds for one request, whatever the check allows
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH")
_CATCHABLE = {"ValueError", "TypeError", "KeyError", "IndexError", "RuntimeError", "ZeroDivisionError", "LookupError",
              "AssertionError", "AttributeError", "OverflowError", "NotImplementedError", "ArithmeticError"}


class Session:
    """One learner's process. Use it as a context manager; `held` says which walls stand."""

    def __init__(self, *, cpu_seconds: int = 120, memory_bytes: int = 4 << 30, start_seconds: float = 60) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="minilm-grade-")
        self.kept: list[Any] = []
        self.broken = ""
        self.raised: BaseException | None = None
        self.process = self._start()
        try:
            with time_limit(start_seconds):
                self._send({"cpu_seconds": cpu_seconds, "memory_bytes": memory_bytes})
                self.held = self._receive()["ready"]
        except (CheckTimeout, wire.WireError, KeyError, TypeError, OSError) as error:
            self.close()
            raise RuntimeError(f"the process for learners' code did not start ({type(error).__name__})") from error

    def _start(self) -> subprocess.Popen:
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        environment |= {"HOME": self.folder.name, "TMPDIR": self.folder.name, "OMP_NUM_THREADS": "1",
                        "HF_HUB_OFFLINE": "1", "TRITON_INTERPRET": "1", "MPLBACKEND": "agg"}
        root = str(Path(__file__).resolve().parents[2])
        return subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _BOOT, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env=environment, cwd=self.folder.name, start_new_session=os.name == "posix",
            bufsize=0,
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the process and all it started."""
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self.folder.cleanup()

    # ---- what a grader asks ----

    def run(self, source: str, name: str, seconds: float) -> None:
        """Run a piece of the learner's notebook. Raises LearnerError or CheckTimeout."""
        with time_limit(seconds):
            self.ask({"do": "run", "source": source, "name": name})

    def function(self, name: str, signature: str) -> Any:
        """The learner's function or class of that name, or None."""
        with time_limit(10):
            found = self.ask({"do": "lookup", "name": name})
        if isinstance(found, Remote):
            object.__setattr__(found, "signature", signature)
        return found

    def ask(self, request: dict) -> Any:
        """Send a request and serve calls back until its answer is there."""
        if self.broken:
            raise LearnerError("error", self.broken)
        guard = threading.Timer(_LONGEST, self.process.kill)  # for threads and systems without an alarm signal
        guard.daemon = True
        guard.start()
        try:
            self._send(request)
            while "ours" in (reply := self._receive()):
                self._answer_call(reply)
        except (wire.WireError, OSError, KeyError, TypeError, ValueError) as error:
            self.broken = "your code ended the process, used too much memory or time, or sent something unreadable"
            raise LearnerError("error", self.broken) from error
        except CheckTimeout:
            self.broken = "your code ran past the time limit"
            raise
        finally:
            guard.cancel()
        return self._result(request, reply)

    def _result(self, request: dict, reply: dict) -> Any:
        raised, self.raised = self.raised, None
        if raised is not None:
            raise raised
        if "error" in reply:
            raise _as_exception(str(reply["error"]), str(reply.get("type")), clip(str(reply.get("text")), 400))
        for index, new in reply.get("changed", ()):
            _write_back(request["args"][index], new)
        return reply["value"]

    def _answer_call(self, call: dict) -> None:
        """The learner's code calls one of our functions, or reads a public attribute of one of our objects."""
        ours, name = self.kept[int(call["ours"])], call["name"]
        try:
            if name is None:
                self._send({"result": ours(*call["args"], **call["kwargs"])})
            elif isinstance(name, str) and not name.startswith("_"):
                self._send({"result": getattr(ours, name)})
            else:
                self._send({"raise": "AttributeError", "text": "private"})
        except (Failed, AssertionError) as error:
            self.raised = self.raised or error  # counts even if the learner's code swallows it
            self._send({"raise": "RuntimeError", "text": clip(str(error))})
        except LearnerError:
            raise
        except Exception as error:
            self._send({"raise": type(error).__name__, "text": clip(str(error))})

    def _send(self, message: dict) -> None:
        data = wire.pack(message, self._keep, _handle_of)
        wire.write_frame(self.process.stdin.fileno(), data)

    def _receive(self) -> dict:
        reply = wire.decode(wire.read_frame(self.process.stdout.fileno()), self._remote)
        if not isinstance(reply, dict):
            raise wire.WireError("a malformed answer")
        return reply

    def _keep(self, value: Any) -> int:
        self.kept.append(value)
        return len(self.kept) - 1

    def _remote(self, number: int, name: str, is_callable: bool) -> Remote:
        return (RemoteFunction if is_callable else Remote)(self, number, name)


class Remote:
    """An object in the learner's process: attributes, items, length and iteration are asked for over the pipe."""

    remote = True

    def __init__(self, session: Session, number: int, name: str) -> None:
        self.session, self.number, self.kind, self.signature = session, number, name, ""

    def _ask(self, do: str, **more: Any) -> Any:
        return self.session.ask({"do": do, "function": self, **more})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("get", name=name)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", key=key)

    def __len__(self) -> int:
        length = self._ask("length")
        return length if isinstance(length, int) and length >= 0 else 0

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(self._ask("next"))

    def __repr__(self) -> str:
        return f"<{self.kind}>"


class RemoteFunction(Remote):
    """A function, class or callable object of the learner's."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask("call", args=args, kwargs=kwargs, signature=self.signature)


def _handle_of(value: Any) -> int | None:
    return value.number if isinstance(value, Remote) else None


def _as_exception(kind: str, type_name: str, text: str) -> LearnerError:
    """LearnerError, also of the learner's own exception class if that is a plain one, so that a check may expect it."""
    error = LearnerError
    if kind != "stub" and type_name in _CATCHABLE:
        error = type("LearnerError", (LearnerError, getattr(builtins, type_name)), {})
    return error("stub" if kind == "stub" else "error", text)


def _write_back(arg: Any, new: dict) -> None:
    """Put what the learner's function did to its argument into ours."""
    if "generator" in new and hasattr(arg, "set_state"):
        arg.set_state(new["generator"])
    elif "plain" in new:
        _overwrite(arg, new["plain"])
    elif "state" in new:
        for key, value in new["state"].items():
            if key in vars(arg) and not callable(vars(arg)[key]):
                object.__setattr__(arg, key, value)


def _overwrite(arg: Any, value: Any) -> None:
    if is_tensor(arg) and is_tensor(value):
        arg.data = value.to(arg.dtype)
    elif is_array(arg) and arg.shape == getattr(value, "shape", None):
        arg[...] = value
    elif isinstance(arg, list):
        arg[:] = value
    elif isinstance(arg, (dict, set)):
        arg.clear()
        arg.update(value)
    elif isinstance(arg, tuple):
        for mine, theirs in zip(arg, value, strict=False):
            _overwrite(mine, theirs)
