"""Where a runner works: its end of the pipe, in a process of its own. It keeps the model and counts what it sees.

The learner's code runs in the same process, so nothing said here is proof. What is: answers are compared with the full
model's and timed on the other side, on prompts that were never asked before.
"""
from collections.abc import Callable
from typing import Any

import torch

import minilm
from minilm.bench.contestants import REGISTRY, Course
from minilm.capstone.entry import ROLES
from minilm.decoding import early_exit
from minilm.decoding.speculative import speculative
from minilm.generation import Generation
from minilm.lab.trial import arity_problem, learner_error

POLICY, PROPOSER = ("begin", "score", "leaves"), ("start", "propose", "verify")


class Stall:
    """One model, and what runs on it. `seen` counts the tokens that its first layer was given, `passes` how often its
    last one ran."""

    def __init__(self, name: str) -> None:
        self.model, self.tokenizer = minilm.load(name)
        self.seen = self.passes = 0
        self.model.layers[0].register_forward_pre_hook(self._count)
        self.model.layers[-1].register_forward_pre_hook(self._count_pass)
        self.weights = self._sums()
        self.course = Course(self.model, self.tokenizer, [0], 1)
        self.decode: Callable | None = None
        self.written: Any = None

    def _count(self, layer: torch.nn.Module, given: tuple) -> None:
        self.seen += given[0].shape[0] * given[0].shape[1]                                  # (B, T, d)

    def _count_pass(self, layer: torch.nn.Module, given: tuple) -> None:
        self.passes += 1                            # through all layers: a draft or an exit by a few of them is none

    def _sums(self) -> dict[str, float]:
        with torch.inference_mode():
            return {name: float(weight.double().sum()) for name, weight in self.model.named_parameters()}

    def echo(self, prompt: list[int], count: int) -> dict:
        """An answer that takes no time, to measure what the pipe takes."""
        return {"made": [0] * count}

    def house(self, name: str, prompt: list[int], count: int) -> dict:
        """Run one of the package's contestants."""
        self.course.prompt, self.course.max_new_tokens = prompt, count
        return {"made": REGISTRY[name].run(self.course).tokens}

    def enter(self, role: str, function: Any, exits: Any) -> dict:
        """Take in what the learner wrote; says {"failed": why} if it can't be."""
        self.written = function
        given = (self.model, [0], 1) if role == "decode" else (self.model,)
        if not callable(function):
            return {"failed": f"{role} is {type(function).__name__}, not a function"}
        if problem := arity_problem(function, given, {}, ROLES[role]):
            return {"failed": problem.replace("your function", role)}
        if role == "decode":
            self.decode = function
            return {}
        try:
            part = function(self.model)
        except BaseException as error:
            return {"failed": told(error, function)}
        if missing := [name for name in (POLICY if role == "policy" else PROPOSER)
                       if not callable(getattr(part, name, None))]:
            return {"failed": f"{role}(model) returned a {type(part).__name__}, which has no {', '.join(missing)}"}
        self.decode = self._with_policy(part, exits) if role == "policy" else (
            lambda model, prompt, count: speculative(model, prompt, count, part))
        return {}

    def _with_policy(self, policy: Any, exits: Any) -> Callable:
        lens = self.course.lens
        if exits is None and lens is not None:
            exits = lens.exits
        return lambda model, prompt, count: early_exit(model, prompt, count, policy, exits=exits, lens=lens)

    def mine(self, prompt: list[int], count: int) -> dict:
        """Run the learner's decoder; {"made": what it returned} or {"failed": its error in one line}."""
        try:
            made = self.decode(self.model, list(prompt), count)
            return {"made": made.tokens if isinstance(made, Generation) else made}
        except BaseException as error:
            return {"failed": told(error, self.written)}

    def audit(self) -> dict:
        """What was counted since the last time, and what should not have changed; asked outside of the timed part."""
        counted = {"seen": self.seen, "passes": self.passes, "threads": torch.get_num_threads(),
                   "weights": self._sums() == self.weights}
        self.seen = self.passes = 0
        return counted


def told(error: BaseException, written: Any) -> str:
    """An error as one line, with the learner's own line in it where one was involved."""
    known = learner_error(error, written)
    if known is not None:
        return "it is not written yet" if known.kind == "stub" else known.message.removeprefix("your code ")
    return f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"
