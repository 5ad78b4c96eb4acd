"""Checking a Triton kernel: it is launched on memory with room behind it, where writing too much shows, harmlessly.

    x, out = memory(rows, row=12), empty(rows.shape)        # rows of 12 places, the rest of each is nobody's
    launch(answer, (len(rows),), x=x, out=out, x_row=12, N=8, TILE=8)
    out.rows()                                              # what was written, or Failed that says what was not
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from minilm.lab.expect import Failed
from minilm.lab.trial import Answer, LearnerError, learner_error
from minilm.lab.values import clip, show

ROOM = 4096  # numbers behind the last row
NOBODYS = 50.0  # what stands there, and behind a row that is shorter than its place
UNWRITTEN = -777.25  # what stands in an output before the launch

NO_TRITON = ("there is no Triton for this system, so a kernel can't be run here: do this exercise on Linux, or in a "
             "notebook of a cloud service")
NOT_JIT = "your kernel is a plain function: keep @triton.jit above its def"
TOO_LATE = ("Triton looks for a GPU: restart the kernel and run the first cell first, which sets TRITON_INTERPRET=1 "
            "before Triton is imported")
ADVICE = {  # a piece of an error that only Triton's authors understand -> what to do
    "'int' object is not iterable": "a tile or an address is no list; tl.load and tl.store in place of x[i], tl.max "
                                    "and tl.sum in place of Python's max and sum",
    "does not support item assignment": "an address is no list; tl.load and tl.store in place of x[i]",
    "has no attribute 'scalar'": "inside of a kernel take tl's functions; PyTorch's don't know tiles",
    "unsupported operand type(s) for @": "tl.dot multiplies two tiles",
    "arguments must be of type tl.constexpr": "a tile's size is known when the kernel is compiled; tl.arange(0, TILE), "
                                              "with TILE: tl.constexpr",
}


@dataclass
class Memory:
    """M rows of N numbers in one flat piece of memory, `row` places apart; a kernel gets the address of the first."""

    flat: Tensor
    shape: tuple[int, int]
    row: int

    def places(self) -> Tensor:
        """The rows' own places as a view, [M, N]."""
        return self.flat.as_strided(self.shape, (self.row, 1))

    def rows(self, unwritten: str = "", beyond: str = "") -> Tensor:
        """What a kernel wrote, [M, N]. Raises Failed where it left a place of the rows out, or wrote elsewhere.

        unwritten, beyond: what a learner who does that is probably doing.
        """
        written = self.flat != UNWRITTEN
        own = torch.zeros_like(written)
        own.as_strided(self.shape, (self.row, 1)).fill_(True)
        outside = (written & ~own).nonzero().flatten()
        if len(outside):
            count = f"{len(outside)} number{'s' * (len(outside) > 1)} outside of the output"
            raise Failed(beyond or "your kernel writes where it must not: mask the store",
                         [("written", f"{count}, the first at place {int(outside[0])}; its rows hold {self.shape[1]} "
                                      f"and begin {self.row} apart")])
        left = int((own & ~written).sum())
        if left:
            raise Failed(unwritten or "part of the output is never written",
                         [("written", f"{int(own.sum()) - left} of {int(own.sum())} numbers")])
        return self.places().clone()


def memory(values: Tensor, row: int | None = None) -> Memory:
    """values[N] or [M, N] laid out with rows `row` places apart (default: N) and nobody's numbers elsewhere."""
    values = values.reshape(-1, values.shape[-1])
    row = row or values.shape[1]
    flat = torch.full(((len(values) - 1) * row + values.shape[1] + ROOM,), NOBODYS, dtype=values.dtype)
    laid = Memory(flat, tuple(values.shape), row)
    laid.places().copy_(values)
    return laid


def empty(shape: tuple[int, ...], row: int | None = None, dtype: torch.dtype = torch.float32) -> Memory:
    """An output of that shape, [N] or [M, N], not written yet."""
    laid = memory(torch.full(shape, UNWRITTEN, dtype=dtype), row)
    laid.flat.fill_(UNWRITTEN)
    return laid


@dataclass
class Loads:
    """What a launch asked of memory, all programs together: loads, those of tiles without a mask, tl's names used."""

    count: int = 0
    unmasked: int = 0
    used: set[str] = field(default_factory=set)


def launch(answer: Answer, grid: tuple[int, ...], **arguments: Any) -> Loads | None:
    """Run the learner's kernel over the grid, all arguments by name; Memory stands for its address.

    Returns its loads, or None where they can't be counted: on a GPU, and in the grader's process. Raises LearnerError,
    in words, where it can't be launched at all, and Failed where it writes over what it is given to read.
    """
    told = [f"{name} = {show(value.places() if isinstance(value, Memory) else value, 100)}"
            for name, value in arguments.items() if not _unwritten(value)]
    answer.shown = clip(", ".join([*told, f"grid = {grid}"]), 300)
    names = _argument_names(answer, list(arguments))
    device = "cuda" if _compiled(answer) else "cpu"
    flats = {name: value.flat.to(device) if isinstance(value, Memory) else value for name, value in arguments.items()}
    given = {name: value.flat.clone() for name, value in arguments.items()
             if isinstance(value, Memory) and not _unwritten(value)}
    with _watched(answer, device) as loads:
        _run(answer, grid, [flats[name] for name in names])  # in order: by name they don't come back when graded
    if device != "cpu":
        for name, value in arguments.items():
            if isinstance(value, Memory):
                value.flat.copy_(flats[name])
    for name, before in given.items():
        if not torch.allclose(arguments[name].flat, before, rtol=0, atol=0, equal_nan=True):
            raise Failed(f"your kernel writes into {name}, which is there to be read", [("input", answer.shown)])
    return loads


def _run(answer: Answer, grid: tuple[int, ...], arguments: list) -> None:
    """Launch it; an error that is hard to read comes with advice."""
    try:
        answer[grid](*arguments)
    except Exception as error:
        if "active drivers" in str(error):
            raise LearnerError("error", TOO_LATE) from error
        told = error if isinstance(error, LearnerError) else learner_error(error, answer.function)
        advice = next((words for piece, words in ADVICE.items() if told and piece in told.message), "")
        if not advice:
            raise
        raise LearnerError(told.kind, f"{told.message}: {advice}") from error


@contextlib.contextmanager
def _watched(answer: Answer, device: str) -> Iterator[Loads | None]:
    """Count loads while the interpreter runs the kernel: to it, `tl` is then a stand-in that passes everything on."""
    kernel = getattr(answer.function, "fn", None) if device == "cpu" and not _is_remote(answer.function) else None
    space = getattr(kernel, "__globals__", None)
    names = [name for name, value in (space or {}).items() if getattr(value, "__name__", "") == "triton.language"]
    if not names:
        yield None
        return
    language, loads = space[names[0]], Loads()
    kept = "_triton_language_itself"  # the interpreter looks for the module among the kernel's globals
    space |= {name: _Language(language, loads) for name in names} | {kept: language}
    try:
        yield loads
    finally:
        space |= dict.fromkeys(names, language)
        del space[kept]


class _Language:
    """triton.language, its loads counted."""

    def __init__(self, language: Any, loads: Loads) -> None:
        self._language, self._loads = language, loads

    def __getattr__(self, name: str) -> Any:
        self._loads.used.add(name)
        return getattr(self._language, name)

    def load(self, pointer: Any, mask: Any = None, *args: Any, **kwargs: Any) -> Any:
        self._loads.count += 1
        self._loads.unmasked += mask is None and pointer.type.is_block()
        return self._language.load(pointer, mask, *args, **kwargs)


def _is_remote(function: Any) -> bool:
    return bool(getattr(type(function), "remote", False))


def _unwritten(value: Any) -> bool:
    return isinstance(value, Memory) and bool((value.flat == UNWRITTEN).all())


def _argument_names(answer: Answer, wanted: list[str]) -> list[str]:
    """What the kernel calls its arguments, in its order. Raises LearnerError when it is none or takes others."""
    try:
        names = list(answer.arg_names)
    except (AttributeError, LearnerError):
        from minilm.kernels.backend import triton

        raise LearnerError("error", NOT_JIT if triton.__version__ else NO_TRITON) from None
    if set(names) != set(wanted):
        raise LearnerError("error", f"your kernel takes ({', '.join(names)}); it should take ({', '.join(wanted)})")
    return names


def _compiled(answer: Answer) -> bool:
    """Whether the kernel runs on this machine's GPU, not in the interpreter."""
    kernel = answer.function
    if type(kernel).__name__ != "JITFunction" or not torch.cuda.is_available():
        return False
    if "raise NotImplementedError(" in kernel.src:  # the compiler would call it a syntax error
        raise LearnerError("stub", "not attempted")
    return True
