"""Run an exercise's checks on an answer: on copies, with a time limit, and with every error told kindly."""

from __future__ import annotations

import inspect
import linecache
import os
import re
from collections.abc import Callable
from typing import Any

from minilm.lab.exercise import Check, Exercise
from minilm.lab.expect import Failed
from minilm.lab.result import Outcome, Result
from minilm.lab.steady import CheckTimeout, steady_state, time_limit
from minilm.lab.values import clip, copied, difference, kind, show

_LAB = os.path.dirname(os.path.abspath(__file__))
_CELL = ("<ipython-input", "<answer", "<string>")


class LearnerError(Exception):
    """The learner's code failed; kind is 'stub' or 'error', message one line for the learner."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Answer:
    """The learner's function as a check sees it: it gets copies, and what it got is kept for the message."""

    def __init__(self, function: Callable, signature: str, *, copies: bool = True) -> None:
        self.function = function
        self.copies = copies
        self.signature = signature
        self.calls = 0
        self.shown = ""
        self.changed = ""
        self.shown_when_changed = ""
        self.returned: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        names = argument_names(self.signature, self.function, len(args))
        self.shown = describe_input(names, args, kwargs)
        problem = arity_problem(self.function, args, kwargs, self.signature)
        if problem:
            raise LearnerError("error", problem)
        given, given_named = (copied(args), copied(kwargs)) if self.copies else (args, kwargs)
        self.returned = self.function(*given, **given_named)
        if self.copies and not self.changed:
            pairs = [*zip(names, args, given, strict=False), *((k, kwargs[k], given_named[k]) for k in kwargs)]
            self.changed = next((name for name, old, new in pairs if _differs(new, old)), "")
            self.shown_when_changed = self.shown if self.changed else ""
        return self.returned

    def __getattr__(self, name: str) -> Any:  # a class may be asked for its attributes
        return getattr(self.function, name)

    def __getitem__(self, grid: tuple) -> Callable:
        """A Triton kernel over a grid, to be launched on the arguments themselves (`minilm.lab.kernel` does it)."""
        def launched(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return self.function[grid](*args, **kwargs)

        return launched


def _differs(new: Any, old: Any) -> bool:
    return new is not old and difference(new, old, tol=0) is not None


def parameter_names(signature: str) -> list[str]:
    """Names from "rms_norm(x, weight, eps=1e-6)"."""
    inside = signature.partition("(")[2].rpartition(")")[0]
    return [part.split("=")[0].split(":")[0].strip(" *") for part in inside.split(",") if part.strip(" */")]


def argument_names(signature: str, function: Callable, count: int) -> list[str]:
    """What to call `count` arguments: as the signature does; for a class, whose signature is its name, as its own
    __init__ does; else by number."""
    names = parameter_names(signature)
    if "(" not in signature:
        try:
            own = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            own = ()
        names = [one.name for one in own if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return names + [f"argument {i + 1}" for i in range(len(names), count)]


def describe_input(names: list[str], args: tuple, kwargs: dict) -> str:
    """x = [1, 2], eps = 1e-06"""
    pairs = [*zip(names, args, strict=False), *kwargs.items()]
    return clip(", ".join(f"{name} = {show(value, 100)}" for name, value in pairs), 300)


def arity_problem(function: Callable, args: tuple, kwargs: dict, signature: str) -> str | None:
    """A line when function can't be called with these arguments."""
    try:
        own = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        own.bind(*args, **kwargs)
    except TypeError:
        if "(" not in signature:  # a class, whose signature is its name
            count = len(args) + len(kwargs)
            return f"your class takes {own}; it should take {count} argument" + "s" * (count != 1)
        return f"your function takes {own}; it should take {signature[signature.find('('):]}"
    return None


def run_exercise(exercise: Exercise, function: Any) -> Result:
    """All checks of an exercise on a learner's answer. Never raises for what the learner did."""
    if function is NotImplemented or function is None or not callable(function):
        message = f"give the function itself, check({exercise.id!r}, {exercise.name}), without calling it"
        return Result(exercise.id, exercise.title, "failed", (), f"{message}; this is {kind(function)}")
    outcomes: list[Outcome] = []
    for number, check in enumerate(exercise.checks):
        outcome = run_check(check, function, exercise.answer)
        if outcome.state == "stub":
            return Result(exercise.id, exercise.title, "not attempted", (), exercise.task)
        outcomes.append(outcome)
        if outcome.state == "timeout":
            outcomes[-1] = outcome.but(state="fails")
            outcomes += [Outcome(later.name, "not run") for later in exercise.checks[number + 1 :]]
            break
    state = "solved" if all(outcome.state == "holds" for outcome in outcomes) else "failed"
    return Result(exercise.id, exercise.title, state, tuple(outcomes))


def run_check(check: Check, function: Callable, signature: str) -> Outcome:
    """One check. Its outcome's state is holds, fails, stub (a NotImplementedError of the learner's) or timeout."""
    answer = Answer(function, signature, copies=not check.mutates)
    try:
        with steady_state(), time_limit(check.seconds):
            check.run(answer)
    except Failed as failed:
        facts = failed.facts
        if answer.shown and not any(label == "input" for label, _ in facts):
            facts = [("input", answer.shown), *facts]
        return Outcome(check.name, "fails", failed.message or check.mistake or "the values differ", tuple(facts))
    except CheckTimeout:
        message = f"your code ran longer than {check.seconds:g} seconds: is there an endless loop?"
        return Outcome(check.name, "timeout", message, _input(answer))
    except LearnerError as error:
        return Outcome(check.name, "stub" if error.kind == "stub" else "fails", error.message, _input(answer))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return _explain(check, error, answer)
    if answer.changed:
        message = f"your function changes its input {answer.changed} in place; work on a copy instead"
        return Outcome(check.name, "fails", message, (("input", answer.shown_when_changed),))
    return Outcome(check.name, "holds")


def _input(answer: Answer) -> tuple:
    return (("input", answer.shown),) if answer.shown else ()


def _explain(check: Check, error: BaseException, answer: Answer) -> Outcome:
    """An exception that came out of a check: the learner's, an assertion, or a check tripping over its result."""
    told = learner_error(error, answer.function)
    if told is not None:
        return Outcome(check.name, "stub" if told.kind == "stub" else "fails", told.message, _input(answer))
    if isinstance(error, AssertionError):
        message = clip(str(error), 300) or check.mistake or "this does not hold"
        return Outcome(check.name, "fails", message, _input(answer))
    if answer.calls:
        message = f"the check could not use what your function returned: {kind(answer.returned)}"
        return Outcome(check.name, "fails", message, (*_input(answer), ("got", show(answer.returned))))
    what = f"{type(error).__name__}: {clip(str(error), 120)}"
    message = f"the check itself failed ({what}); this is our mistake, please report it"
    return Outcome(check.name, "fails", message)


def learner_error(error: BaseException, function: Any) -> LearnerError | None:
    """The error as one line with the learner's line number, or None if no line of the learner's was involved."""
    if type(error).__name__ == "InterpreterError" and error.__cause__ is not None:
        error = error.__cause__  # Triton's interpreter wraps what a kernel raised
    home = _home(function)
    steps, trace = [], error.__traceback__
    while trace is not None:
        steps.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    own = [i for i, (filename, _) in enumerate(steps) if _is_learners(filename, home)]
    if not own:
        return None
    filename, line = steps[own[-1]]
    source = linecache.getline(filename, line).strip()
    raised_here = own[-1] == len(steps) - 1
    stub_line = not source or re.search(r"\braise\s+NotImplementedError", source)  # torch raises it too
    if isinstance(error, NotImplementedError) and raised_here and stub_line:
        return LearnerError("stub", "not attempted")
    text = re.sub(r"0x[0-9a-fA-F]{6,}", "0x...", str(error)).strip().split("\n")[0]
    what = type(error).__name__ + (f": {clip(text, 160)}" if text else "")
    at = f", line {line} of the cell" + (f" (`{clip(source, 80)}`)" if source else "")
    return LearnerError("error", f"your code raised {what}{at}")


def _home(function: Any) -> str | None:
    """The file or cell in which the learner's function or class was written."""
    if getattr(type(function), "remote", False):
        return None  # runs elsewhere; its errors arrive as LearnerError
    if f"{type(function).__module__} {getattr(function, '__module__', '')}".find("triton.") >= 0:
        function = getattr(function, "fn", None)  # a kernel; a kernel over a grid is Triton's own function
    function = inspect.unwrap(function) if callable(function) else function
    function = getattr(function, "__func__", getattr(function, "func", function))
    if isinstance(function, type):
        members = (getattr(member, "__code__", None) for member in vars(function).values())
        return next((code.co_filename for code in members if code), None)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return code.co_filename if code else None


def _is_learners(filename: str, home: str | None) -> bool:
    if filename == home:
        return True
    return filename.startswith(_CELL) or "ipykernel_" in filename
