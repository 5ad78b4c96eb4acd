"""The process that runs a learner's code: it holds no checks and no expected values, only calls what it is told to.

Messages in are pickles from the grader, out are plain values (wire.py). Once learners' code ran, trust nothing here.
"""

from __future__ import annotations
import __future__

import builtins
import linecache
import os
import sys
import types
from typing import Any

from minilm.lab import sandbox, wire
from minilm.lab.trial import arity_problem, learner_error
from minilm.lab.values import copied, difference


def main() -> None:
    """Serve the grader on what were stdin and stdout, which the learner's code then finds empty."""
    held = sandbox.shut_in()
    inward, outward = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    import torch

    torch.set_num_threads(1)
    torch.ones(2, requires_grad=True).sum().backward()  # start what torch starts lazily, before the limits
    channel = Channel(inward, outward)
    limits = channel.receive()
    held["limits"] = sandbox.limit(**limits, namespaced=held["processes"])
    channel.send({"ready": held})
    while True:
        channel.serve_one()


class Channel:
    """The learner's end: serves requests, and calls back for functions that stayed with the grader."""

    def __init__(self, inward: int, outward: int) -> None:
        self.inward, self.outward = inward, outward
        self.module = types.ModuleType("answers")
        sys.modules["answers"] = self.module            # a dataclass looks up the module that it stands in
        self.space: dict[str, Any] = self.module.__dict__
        self.handles: list[Any] = []
        self.pieces = 0

    def receive(self) -> Any:
        try:
            return wire.Receiver(wire.read_frame(self.inward), self.resolve).load()
        except wire.WireError:
            os._exit(0)

    def send(self, message: dict) -> None:
        try:
            data = wire.encode(message, self.handle)
        except (wire.Unsendable, RecursionError, ValueError, RuntimeError) as error:
            data = wire.encode({"error": "error", "type": "TypeError", "text": f"the answer can't be read: {error}"})
        wire.write_frame(self.outward, data)

    def handle(self, value: Any) -> list:
        """Keep an object that has no plain form, and name it."""
        self.handles.append(value)
        return ["handle", len(self.handles) - 1, type(value).__name__, callable(value)]

    def resolve(self, kind: str, value: Any) -> Any:
        if kind == "theirs":
            return self.handles[value]
        if kind == "generator":
            import torch

            generator = torch.Generator()
            generator.set_state(value)
            return generator
        return Ours(self, value)

    def serve_one(self) -> Any:
        """Do one request. Returns ("result", value) when the grader answers a call back, else None."""
        request = self.receive()
        if "result" in request or "raise" in request:
            return request
        function = request.get("function")
        try:
            reply = getattr(self, "do_" + request["do"])(request)
        except BaseException as error:
            told = learner_error(error, function if function is not None else self.serve_one)
            text = told.message if told else f"your code raised {type(error).__name__}: {str(error)[:200]}"
            reply = {"error": told.kind if told else "error", "type": type(error).__name__, "text": text}
        self.send(reply)
        return None

    def do_run(self, request: dict) -> dict:
        """Run a piece of the notebook, under a name of its own: Triton reads a kernel's source when it first runs.

        With a `file`, its path: a whole file, run as Python would. A piece's annotations stay text, for they may name
        what a cell that is not graded defines.
        """
        name, source, file = f"<answer {request['name']}, piece {self.pieces}>", request["source"], request.get("file")
        self.pieces += 1
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        if file is not None:
            self.space["__file__"] = file
        flags = 0 if file is not None else __future__.annotations.compiler_flag
        exec(compile(source, name, "exec", flags=flags, dont_inherit=True), self.space)
        return {"value": None}

    def do_lookup(self, request: dict) -> dict:
        """The learner's function by its name."""
        if request["name"] not in self.space:
            return {"value": None}
        return {"value": self.space[request["name"]]}

    def do_call(self, request: dict) -> dict:
        """Call a function of theirs; sends back what it returned and which arguments it changed."""
        function, args, kwargs = request["function"], request["args"], request["kwargs"]
        problem = arity_problem(function, args, kwargs, request["signature"]) if request["signature"] else None
        if problem:
            return {"error": "error", "type": "TypeError", "text": problem}
        before = [snapshot(arg) for arg in args]
        value = function(*args, **kwargs)
        after = [(i, snapshot(arg)) for i, arg in enumerate(args)]
        changed = [[i, new] for i, new in after if new is not None and difference(new, before[i], tol=0) is not None]
        return {"value": value, "changed": changed}

    def do_get(self, request: dict) -> dict:
        return {"value": getattr(request["function"], request["name"])}

    def do_item(self, request: dict) -> dict:
        return {"value": request["function"][request["key"]]}

    def do_length(self, request: dict) -> dict:
        return {"value": len(request["function"])}

    def do_next(self, request: dict) -> dict:
        """Up to 1000 items of an iterator, and whether there may be more."""
        items = []
        for item in request["function"]:
            items.append(item)
            if len(items) == 1000:
                break
        return {"value": items}

    def call_back(self, number: int, name: str | None, args: tuple, kwargs: dict) -> Any:
        """Call a function that stayed with the grader, serving its own requests meanwhile."""
        self.send({"ours": number, "name": name, "args": list(args), "kwargs": kwargs})
        while True:
            reply = self.serve_one()
            if reply is None:
                continue
            if "raise" in reply:
                kind = getattr(builtins, reply["raise"], RuntimeError)
                raise (kind if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError)(reply["text"])
            return reply["result"]


class Ours:
    """Stands for a function or object of the exercise's; calls and public attributes go to the grader."""

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel, self._number = channel, number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._channel.call_back(self._number, None, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._channel.call_back(self._number, name, (), {})


def snapshot(arg: Any) -> Any:
    """What can be seen of an argument, to tell whether it changed: plain values, or an object's plain attributes."""
    import torch

    if isinstance(arg, (Ours, torch.nn.Module)) or callable(arg):
        return None
    if isinstance(arg, torch.Generator):
        return {"generator": arg.get_state()}
    if _is_plain(arg):
        return {"plain": copied(arg)} if isinstance(arg, (list, dict, set, tuple)) or hasattr(arg, "shape") else None
    state = {key: copied(value) for key, value in getattr(arg, "__dict__", {}).items() if _is_plain(value)}
    return {"state": state} if state else None


def _is_plain(value: Any) -> bool:
    try:
        wire._tree(value, [], None, 0)
        return True
    except Exception:
        return False


if __name__ == "__main__":
    sys.exit(main())
