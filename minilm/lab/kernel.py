"""Checking a Triton kernel: it is launched on memory with room behind it, where writing too much shows, harmlessly.

    x, out = memory(rows, row=12), empty(rows.shape)        # rows of 12 places, the rest of each is nobody's
    launch(answer, (len(rows),), x=x, out=out, x_row=12, N=8, TILE=8)
    out.rows()                                              # what was written, or Failed that says what was not
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minilm.lab.expect import Failed
from minilm.lab.trial import Answer, LearnerError
from minilm.lab.values import clip, show

ROOM = 4096  # numbers behind the last row
NOBODYS = 50.0  # what stands there, and behind a row that is shorter than its place
UNWRITTEN = -777.25  # what stands in an output before the launch

NO_TRITON = ("there is no Triton for this system, so a kernel can't be run here: do this exercise on Linux, or in a "
             "notebook of a cloud service")
NOT_JIT = "your kernel is a plain function: keep @triton.jit above its def"
TOO_LATE = ("Triton looks for a GPU: restart the kernel and run the first cell first, which sets TRITON_INTERPRET=1 "
            "before Triton is imported")


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


def launch(answer: Answer, grid: tuple[int, ...], **arguments: Any) -> None:
    """Run the learner's kernel over the grid, all arguments by name; Memory stands for its address.

    Raises LearnerError, in words, where it can't be launched at all.
    """
    told = [f"{name} = {show(value.places() if isinstance(value, Memory) else value, 100)}"
            for name, value in arguments.items() if not _unwritten(value)]
    answer.shown = clip(", ".join([*told, f"grid = {grid}"]), 300)
    names = _argument_names(answer, list(arguments))
    device = "cuda" if _compiled(answer) else "cpu"
    flats = {name: value.flat.to(device) if isinstance(value, Memory) else value for name, value in arguments.items()}
    try:
        answer[grid](*(flats[name] for name in names))  # in order: what is given by name doesn't come back when graded
    except RuntimeError as error:
        if "active drivers" in str(error):
            raise LearnerError("error", TOO_LATE) from error
        raise
    if device != "cpu":
        for name, value in arguments.items():
            if isinstance(value, Memory):
                value.flat.copy_(flats[name])


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
