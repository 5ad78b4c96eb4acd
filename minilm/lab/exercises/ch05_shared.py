"""What the checks of chapters 05 and 06 share: parts of an answer, plain types, laws by enumeration."""

from itertools import product

import torch

from minilm.lab.expect import Failed
from minilm.lab.values import kind


class Part:
    """One of the things that an answer returns, as an answer of its own; its input stays at hand for the message."""

    def __init__(self, answer, names, index):
        self.answer, self.names, self.index = answer, names, index

    def __call__(self, *args):
        got = self.answer(*args)
        if not isinstance(got, (tuple, list)) or len(got) != len(self.names):
            missing = "; is a `return` missing?" if got is None else ""
            raise Failed(f"return {len(self.names)} things: {', '.join(self.names)}; your function returns {kind(got)}"
                         f"{missing}")
        return got[self.index]

    @property
    def shown(self):
        return self.answer.shown


def plain_int(value, what):
    """Raise Failed when value is not an int of Python's own."""
    if type(value) is not int:
        raise Failed(f"{what} is a plain int; yours is {kind(value)}: int(...) makes one")


def plain_ints(values, what):
    """Raise Failed when values is not a list of Python's own ints."""
    if not isinstance(values, (list, tuple)):
        raise Failed(f"{what} are a list of plain ints; yours is {kind(values)}")
    for value in values:
        if type(value) is not int:
            raise Failed(f"{what} are plain ints; yours holds {kind(value)}: int(...) makes one")


def plain_number(value, what):
    """Raise Failed when value is not a float or int of Python's own."""
    if type(value) not in (int, float):
        raise Failed(f"{what} is a plain number; yours is {kind(value)}: float(...) or .item() makes one")


def grid(cells, numbers):
    """All tuples of `numbers` uniforms, each in the middle of one of `cells` equal cells of [0, 1).

    A rule whose thresholds lie on the cells' edges does the same everywhere in a cell, so each tuple stands for
    1 / cells ** numbers of all chance, exactly.
    """
    return product([(cell + 0.5) / cells for cell in range(cells)], repeat=numbers)


def same_law(got, want, mistake):
    """Raise Failed when two laws, {outcome: probability}, differ by more than rounding."""
    apart = sum(abs(got.get(key, 0.0) - want.get(key, 0.0)) for key in {*got, *want}) / 2
    if apart > 1e-9:
        key = max({*got, *want}, key=lambda key: abs(got.get(key, 0.0) - want.get(key, 0.0)))
        raise Failed(mistake, [("distance", f"{apart:.4f} in total variation; it should be 0"),
                               (f"share of {list(key)}", f"{got.get(key, 0.0):.4f}; the target's is "
                                                         f"{want.get(key, 0.0):.4f}")])


def float64(values):
    """A float64 tensor."""
    return torch.tensor(values, dtype=torch.float64)


def residual(p, q):
    """max(0, p - q) made to sum to 1; p itself where p = q."""
    missing = (p - q).clamp(min=0)
    return missing / missing.sum() if missing.sum() > 0 else p


def without(p, token):
    """p with one token's weight 0."""
    rest = p.clone()
    rest[token] = 0
    return rest
