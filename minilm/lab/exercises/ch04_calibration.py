"""Exercises of chapter 04: from measured losses to a threshold that keeps a promise."""

import math

import torch

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.expect import Failed
from minilm.lab.values import kind

# --- 04.4 -------------------------------------------------------------------------------------------------------------

ex4 = Exercise(
    "04.4",
    "The p-value",
    answer="p_value(mean_loss, n, delta)",
    task="Hoeffding's exp(-2 · n · gap²), where gap = delta - mean_loss, or 0 where the mean is above delta",
    hints=(
        "The claim to refute is: the true mean loss is above delta. Does a measured mean above delta refute it?",
        "Only a mean below delta speaks against the claim: the gap is max(0, delta - mean). More examples "
        "make it stronger evidence.",
        "Two lines: gap = max(0, ...), then math.exp(...) of minus two, times the examples, times the squared gap.",
    ),
)


def p_value(mean_loss, n, delta):
    """The reference."""
    return math.exp(-2 * n * max(0.0, float(delta - mean_loss)) ** 2)


WRONG_4 = {
    "a mean above delta is no evidence for the threshold: the gap is 0, and p = exp(0) = 1, not 0":
        lambda m, n, d: 0.0 if m >= d else p_value(m, n, d),
    "you square the mean, not the gap: max(0, delta - mean) ** 2":
        lambda m, n, d: math.exp(-2 * n * max(0.0, d - m**2)),
    "you square the mean and the gap; square the gap alone":
        lambda m, n, d: math.exp(-2 * n * max(0.0, d - m**2) ** 2),
    "you subtract squares; subtract first, then square the gap":
        lambda m, n, d: math.exp(-2 * n * max(0.0, d**2 - m**2)),
    "the number of examples n is missing: more examples make the same gap more telling":
        lambda m, n, d: p_value(m, 1, d),
    "a square forgets the sign: a mean above delta is no evidence below it; the gap is max(0, delta - mean)":
        lambda m, n, d: math.exp(-2 * n * (d - m) ** 2),
    "you have delta and the mean swapped: what speaks for a safe threshold is a mean *below* delta":
        lambda m, n, d: p_value(d, n, m),
    "the 2 is missing: exp(-2 · n · gap²)": lambda m, n, d: math.exp(-n * max(0.0, d - m) ** 2),
    "the gap must be squared": lambda m, n, d: math.exp(-2 * n * max(0.0, d - m)),
    "the minus is missing: a p-value is at most 1": lambda m, n, d: math.exp(2 * n * max(0.0, d - m) ** 2),
    "you square n, too: exp(-2 · n · gap²)": lambda m, n, d: math.exp(-2 * (n * max(0.0, d - m)) ** 2),
    "you are probably dividing by n: more examples must make it smaller": lambda m, n, d: math.exp(
        -2 * max(0.0, d - m) ** 2 / n),
    "that is 1 minus the p-value: a small one speaks for the threshold": lambda m, n, d: 1 - p_value(m, n, d),
    "the exponential is missing": lambda m, n, d: -2 * n * max(0.0, d - m) ** 2,
}


def _each(answer, cases):
    for case in cases:
        expect(answer(*case), p_value(*case), wrong={
            message: (lambda f=f, case=case: f(*case)) for message, f in WRONG_4.items()})


@ex4.check("matches the formula below delta", mistake="write exp(-2 · n · (delta - mean)²) out once more")
def _(answer):
    agree(answer, p_value, [(0.3, 4, 0.7), (0.25, 6, 0.5), (0.0, 20, 0.3), (0.1, 30, 0.2)], wrong=WRONG_4)


@ex4.check("is 1 where the mean is not below delta", mistake="a mean above delta is no evidence: the gap is 0, p is 1")
def _(answer):
    _each(answer, [(0.3, 50, 0.2), (0.2, 50, 0.2), (0.9, 300, 0.1)])


@ex4.check("returns a plain number", mistake="the p-value is a float")
def _(answer):
    got = answer(0.3, 4, 0.7)
    if not isinstance(got, (int, float)):
        raise Failed(f"the p-value is a float; yours is {kind(got)}: math.exp gives one")


@ex4.check("falls with more examples", mistake="the same mean from more examples is worth more")
def _(answer):
    values = [float(answer(0.1, n, 0.2)) for n in (10, 40, 160)]
    assert values[0] > values[1] > values[2], f"10, 40 and 160 examples should give ever smaller p-values, not {values}"


# --- 04.5 -------------------------------------------------------------------------------------------------------------

ex5 = Exercise(
    "04.5",
    "The walk",
    answer="certified(losses, delta, epsilon, p_value)",
    task="for losses[n, m], columns safest first: index of the last column before the first with p > epsilon, or None",
    hints=(
        "A column is a threshold, a row an example. Which mean does p_value want, over which axis?",
        "Test column 0, then 1, and so on, each at level epsilon. The first that fails ends the walk.",
        "Before the loop last = None. Then for index, mean in enumerate(losses.mean(0).tolist()): break where the test "
        "fails; where it passes, what do you keep?",
    ),
)


def certified(losses, delta, epsilon, p_value):
    """The reference: int or None"""
    last = None
    for index, mean in enumerate(losses.mean(0).tolist()):
        if p_value(mean, len(losses), delta) > epsilon:
            break
        last = index
    return last


def _passes(losses, delta, epsilon, p):
    """Column by column, whether it passes."""
    return [p(mean, len(losses), delta) <= epsilon for mean in losses.mean(0).tolist()]


def _before_failure(passes):
    """Index of the last True before the first False, or None."""
    return (passes + [False]).index(False) - 1 if passes[0] else None


def _last_true(passes):
    return max((i for i, ok in enumerate(passes) if ok), default=None)


def _naive(losses, delta, epsilon, p):
    return [mean <= delta for mean in losses.mean(0).tolist()]


WRONG_5 = {
    "you go on after a failure: a later column that passes has had more than one chance to pass by luck; stop there":
        lambda l, d, e, p: _last_true(_passes(l, d, e, p)),
    "you return the first column that fails, or how many pass; the one before it is the last that is certified":
        lambda l, d, e, p: (_passes(l, d, e, p) + [False]).index(False),
    "you return the first column that passes, the safest; walk on while they pass":
        lambda l, d, e, p: _passes(l, d, e, p).index(True),
    "you compare the mean with delta: these examples may just be lucky; ask p_value":
        lambda l, d, e, p: _before_failure(_naive(l, d, e, p)),
    "you take the boldest column whose mean is at most delta: these examples may just be lucky; ask p_value":
        lambda l, d, e, p: _last_true(_naive(l, d, e, p)),
    "you share epsilon out among the columns; walking in a fixed order, each may be tested at epsilon itself":
        lambda l, d, e, p: _before_failure(_passes(l, d, e / l.shape[1], p)),
    "you stop one column too early": lambda l, d, e, p: max((_before_failure(_passes(l, d, e, p)) or 0) - 1, 0),
    "you walk from the boldest: begin with the safest, column 0": lambda l, d, e, p: (
        l.shape[1] - 1 - _before_failure(_passes(l, d, e, p)[::-1])),
}


def _table(ones, n=100):
    """losses[n, columns]: the given number of examples loses everything, the others nothing."""
    return (torch.arange(n)[:, None] < torch.tensor(ones)).float()[torch.randperm(n)]


def _walks(answer, ones):
    case = _table(ones), 0.2, 0.05, p_value
    expect(answer(*case), certified(*case), wrong={message: (lambda f=f: f(*case)) for message, f in WRONG_5.items()})


@ex5.check("asks about a column's mean over all examples", mistake="it is p_value(column mean, number of rows, delta)")
def _(answer):
    calls = []

    def spy(mean_loss, n, delta):
        calls.append((mean_loss, n, delta))
        return 0.0

    losses = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    answer(losses, 0.3, 0.05, spy)
    assert calls, "you never ask p_value: a mean of at most delta on these examples may just be luck"
    expect(calls[0], (0.25, 4, 0.3), wrong={
        "the number of examples is n, the rows; you give the number of columns": (0.25, 3, 0.3),
        "you take the mean over a row; a threshold is a column: mean(0)": (2 / 3, 4, 0.3),
        "you take the mean over a row, and the columns for n; a threshold is a column: mean(0)": (2 / 3, 3, 0.3),
        "you give the sum of the losses; p_value wants their mean": (1.0, 4, 0.3),
        "you give the mean of the whole table; each column is tested by itself": (0.5, 4, 0.3),
        "you have delta and epsilon swapped: p_value wants delta, and its answer is compared with epsilon":
            (0.25, 4, 0.05),
        "the order is p_value(mean_loss, n, delta)": (0.3, 4, 0.25),
        "the order is p_value(mean_loss, n, delta): n comes second": (0.25, 0.3, 4),
        "you begin with the boldest column; begin with the safest, column 0": (0.75, 4, 0.3)})


@ex5.check("walks while p is at most epsilon", mistake="each column in turn, at level epsilon, until the first failure")
def _(answer):
    _walks(answer, [0, 2, 5, 7, 12, 15, 30])
    _walks(answer, [0, 1, 5])


@ex5.check("the first failure ends the walk", mistake="what comes after a failure is not tested any more")
def _(answer):
    _walks(answer, [0, 5, 15, 3, 25, 2, 40])


@ex5.check("None when not even the safest passes", mistake="nothing certified is None, not a column that failed")
def _(answer):
    losses = _table([15, 2, 0])
    nothing = "nothing is certified here: None says so, and the full model is used"
    expect(answer(losses, 0.2, 0.05, p_value), None, wrong={
        next(iter(WRONG_5)): 2, nothing: 0, nothing + " ": -1,
        "you return a column that passes after one that failed": 1})


@ex5.check("p = epsilon passes", mistake="stop where p is greater than epsilon")
def _(answer):
    p = lambda mean_loss, n, delta: 0.05 if mean_loss < 0.5 else 1.0  # noqa: E731
    expect(answer(_table([0, 10, 60, 70]), 0.2, 0.05, p), 1, wrong={
        "a column with p = epsilon passes: stop where p is greater": None})


@ex5.check("column 0 alone is an answer", mistake="where only column 0 passes, the answer is 0")
def _(answer):
    losses = _table([0, 30, 5])
    got = answer(losses, 0.2, 0.05, p_value)
    expect(got, 0, wrong={
        "column 0 is false in `if last` and `last or None`: None is only for no column at all, so ask `is None`": None})
    if type(got) is not int:
        raise Failed(f"the index of a column is a plain int, or None; yours is {kind(got)}")
