"""Wrong answers that people really give, by chapter; tests/test_mutants.py runs each against the checks."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A wrong answer. name: what is wrong with it; expect: a fragment of the message that is meant for it.

    counted: only its loads tell, which the interpreter counts and a GPU doesn't.
    """

    name: str
    function: Callable
    expect: str
    counted: bool = False
