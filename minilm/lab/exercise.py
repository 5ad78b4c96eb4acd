"""What an exercise is: an id, a task, three hints, and named checks that know the likely mistakes.

The modules of a chapter, `minilm/lab/exercises/chNN_part.py`, define them; AUTHORING.md shows how.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from minilm.lab.expect import agree, expect

__all__ = ["Check", "Exercise", "LabError", "agree", "chapters", "exercises", "expect", "find"]

_REGISTRY: dict[str, Exercise] = {}


class LabError(ValueError):
    """Bad input to the workshop; a notebook shows its one line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this
        return [str(self)]


@dataclass(frozen=True)
class Check:
    """One named property of a right answer. `run(answer)` raises when it does not hold."""

    name: str
    run: Callable
    mistake: str
    seconds: float
    mutates: bool


@dataclass
class Exercise:
    """An exercise and its checks.

    id: "NN.k". title: a few words. answer: the signature the learner fills in, "rms_norm(x, weight, eps=1e-6)", or just
    the name for a class. task: one line, what to write; the stub's NotImplementedError says it. hints: nudge, idea,
    nearly code. points: what the exercise is worth when graded.
    Raises ValueError on a malformed or duplicate id, or when there are not three hints.
    """

    id: str
    title: str
    answer: str
    task: str
    hints: Sequence[str]
    points: float = 1
    checks: list[Check] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d\d\.\d+", self.id):
            raise ValueError(f"exercise id {self.id!r}: write it as '01.2', chapter and number")
        if isinstance(self.hints, str) or len(self.hints) != 3:
            raise ValueError(f"exercise {self.id}: give three hints: nudge, idea, nearly code")
        if "\n" in self.task:
            raise ValueError(f"exercise {self.id}: the task is one line")
        if _LOADING and self.id in _REGISTRY:
            raise ValueError(f"exercise {self.id} is defined twice")
        if _LOADING:
            _REGISTRY[self.id] = self

    @property
    def name(self) -> str:
        """The name the learner's function or class must have."""
        return self.answer.split("(")[0].strip()

    @property
    def grade_id(self) -> str:
        """nbgrader's id of the answer cell; the test cell's is this + '_check'."""
        return "ex_" + self.id.replace(".", "_")

    def check(self, name: str, *, mistake: str = "", seconds: float = 10.0, mutates: bool = False) -> Callable:
        """Decorate a function of the learner's answer as one check.

        name: what holds, as a phrase ("keeps the shape"). mistake: what a learner who fails it is probably doing.
        seconds: time limit. mutates: the answer is meant to change its arguments, and gets them instead of copies.
        """

        def register(run: Callable) -> Callable:
            self.checks.append(Check(name, run, mistake, seconds, mutates))
            return run

        return register


_LOADING: list[str] = []  # chapters being imported; exercises made elsewhere (tests) stay out of the registry


def chapters() -> list[str]:
    """Chapters that have exercises, as two digits: ["01", "02"]."""
    return sorted({name[2:4] for name in _modules(r"\d\d")} | {id[:2] for id in _REGISTRY})


def _modules(chapter: str) -> list[str]:
    """Names of a chapter's modules: ch01, or its parts such as ch01_layers."""
    from minilm.lab import exercises as package

    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in names if re.fullmatch(rf"ch{chapter}(_\w+)?", name))


def exercises(chapter: str) -> list[Exercise]:
    """The exercises of chapter "01", in order."""
    _load(chapter)
    found = [ex for ex in _REGISTRY.values() if ex.id.startswith(chapter + ".")]
    return sorted(found, key=lambda ex: int(ex.id.split(".")[1]))


def find(id: str) -> Exercise:
    """The exercise with this id. Raises LabError that names the known ones."""
    if not isinstance(id, str) or not re.fullmatch(r"\d\d\.\d+", id):
        raise LabError(f"no exercise {id!r}: an id is a string such as '01.2', chapter and number")
    chapter = id.split(".")[0]
    if chapter not in chapters():
        raise LabError(f"no exercise {id}: the chapters with exercises are {', '.join(chapters())}")
    known = exercises(chapter)
    for ex in known:
        if ex.id == id:
            return ex
    raise LabError(f"no exercise {id}: chapter {chapter} has " + ", ".join(f"{ex.id} {ex.title}" for ex in known))


def _load(chapter: str) -> None:
    if any(id.startswith(chapter + ".") for id in _REGISTRY):
        return
    with registering(chapter):
        for name in _modules(chapter):
            sys.modules.pop(f"minilm.lab.exercises.{name}", None)  # an import outside of this registered nothing
            importlib.import_module(f"minilm.lab.exercises.{name}")


@contextlib.contextmanager
def registering(chapter: str) -> Iterator[None]:
    """Exercises made within it can be found by id; all of the chapter's or, after an error, none."""
    _LOADING.append(chapter)
    try:
        yield
    except BaseException:
        forget(chapter)
        raise
    finally:
        _LOADING.pop()


def forget(chapter: str) -> None:
    """Take a chapter out of the registry."""
    for id in [id for id in _REGISTRY if id.startswith(chapter + ".")]:
        del _REGISTRY[id]
