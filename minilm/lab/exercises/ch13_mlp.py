"""Exercise 13.2: a gated MLP from the pieces that the ranks hold."""

import torch
import torch.nn.functional as F

from minilm.lab.exercise import Exercise, agree

ex2 = Exercise(
    "13.2",
    "An MLP in pieces",
    answer="split_mlp(x, gate_ups, downs, bias)",
    task="x[T, d] through the pieces of every rank; return what the all-reduce gives, with the bias, [T, d]",
    hints=(
        "What can a rank work out with its own gate_up and its own down alone? Of what shape is it?",
        "A rank's gate_up has its gate rows first, then its up rows. down(silu(gate) · up) with its own columns has "
        "the whole width d, but is a summand. The bias belongs to the sum, not to a summand.",
        "total = 0; for each rank: gate, up = (x @ gate_up.T).chunk(2, -1); total = total + (F.silu(gate) * up) @ "
        "down.T; return total + bias.",
    ),
)


def split_mlp(x, gate_ups, downs, bias):
    """The reference."""
    return sum(_summands(x, gate_ups, downs)) + bias


def _summands(x, gate_ups, downs, act=lambda gate, up: F.silu(gate) * up):
    return [act(*(x @ gate_up.T).chunk(2, dim=-1)) @ down.T for gate_up, down in zip(gate_ups, downs, strict=True)]


def _late(x, gate_ups, downs, bias):
    """Gates and ups of all ranks added, where they should stand side by side."""
    gate, up = sum(x @ gate_up.T for gate_up in gate_ups).chunk(2, dim=-1)
    return sum((F.silu(gate) * up) @ down.T for down in downs) + bias


def _plain(x, gate_ups, downs, bias):
    """The pieces put together as they lie: gate 0, up 0, gate 1, up 1, ... and cut in the middle."""
    gate, up = (x @ torch.cat(gate_ups).T).chunk(2, dim=-1)
    return (F.silu(gate) * up) @ torch.cat(downs, dim=1).T + bias


WRONG = {
    "the bias is missing": lambda x, g, d, b: sum(_summands(x, g, d)),
    "the bias is added once, to the sum; yours is added on every rank, as each would do that has it":
        lambda x, g, d, b: sum(_summands(x, g, d)) + len(g) * b,
    "the summands are added up, not averaged: each rank has other columns, not another opinion":
        lambda x, g, d, b: sum(_summands(x, g, d)) / len(g) + b,
    "that is rank 0's summand alone: what the ranks have must be added": lambda x, g, d, b: _summands(x, g, d)[0] + b,
    "summands are added, not put side by side: every one has the whole width": lambda x, g, d, b: torch.cat(
        _summands(x, g, d), dim=-1),
    "a rank's first rows are its gates, through silu; its ups are multiplied as they are; yours has them exchanged":
        lambda x, g, d, b: sum(_summands(x, g, d, lambda gate, up: gate * F.silu(up))) + b,
    "the gates of different ranks are different columns: they must not be added up before silu": _late,
    "put together as they lie, the pieces are gate, up, gate, up: cut in the middle that is no gate and no up. Let "
    "each rank split its own": _plain,
    "silu is missing: silu(gate) · up": lambda x, g, d, b: sum(_summands(x, g, d, lambda gate, up: gate * up)) + b,
    "silu goes over the gate alone, before the product": lambda x, g, d, b: sum(
        _summands(x, g, d, lambda gate, up: F.silu(gate * up))) + b,
}


def _case(ranks, tokens, width, columns, seed, bias=1.0):
    rng = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64)  # noqa: E731
    return (draw(tokens, width), [draw(2 * columns, width) for _ in range(ranks)],
            [draw(width, columns) for _ in range(ranks)], bias * draw(width))


@ex2.check("one rank", mistake="down(silu(gate) · up)")
def _(answer):
    agree(answer, split_mlp, [_case(1, 1, 2, 1, 0, bias=0.0), _case(1, 3, 4, 6, 1, bias=0.0)], wrong=WRONG)


@ex2.check("several ranks", mistake="each rank's down(silu(gate) · up), added up, and the bias once")
def _(answer):
    agree(answer, split_mlp, [_case(2, 1, 2, 2, 2), _case(2, 5, 8, 6, 3), _case(3, 2, 4, 4, 4), _case(8, 1, 16, 2, 5)],
          wrong=WRONG)
