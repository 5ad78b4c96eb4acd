"""Exercises of chapter 04: a measure of confidence, and a threshold that decays."""

import math

import torch

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.expect import Failed
from minilm.lab.values import kind

# --- 04.1 -------------------------------------------------------------------------------------------------------------

ex1 = Exercise(
    "04.1",
    "Softmax response",
    answer="softmax_response(logits)",
    task="the largest probability of softmax(logits[..., V]) minus the second largest, [...]",
    hints=(
        "Two tokens at 0.45 each: is that sure? Which two numbers tell?",
        "Softmax over the last axis first, then the two largest probabilities of each row, then their difference.",
        "best = logits.softmax(-1).topk(2, dim=-1).values is [..., 2], the largest first.",
    ),
)


def softmax_response(logits):
    """The reference. logits[..., V] -> [...]"""
    best = logits.softmax(-1).topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


def _top(x, dim=-1):
    return x.topk(2, dim=dim).values


WRONG_1 = {
    "that is the largest probability alone; two tokens at 0.45 each are no sure thing: subtract the second":
        lambda x: x.softmax(-1).max(-1).values,
    "you are probably dividing; the confidence is the difference of the two, which stays in [0, 1]":
        lambda x: _top(x.softmax(-1))[..., 0] / _top(x.softmax(-1))[..., 1],
    "that is the second over the first; it is a difference, not a ratio":
        lambda x: _top(x.softmax(-1))[..., 1] / _top(x.softmax(-1))[..., 0],
    "you are probably subtracting logits; make them probabilities first: softmax":
        lambda x: _top(x)[..., 0] - _top(x)[..., 1],
    "you are probably subtracting logarithms of probabilities; use the probabilities":
        lambda x: _top(x.log_softmax(-1))[..., 0] - _top(x.log_softmax(-1))[..., 1] + 0 * x.sum(-1),
    "the sign is wrong: the larger minus the smaller": lambda x: -softmax_response(x),
    "you are probably subtracting the smallest probability; it is the second largest":
        lambda x: x.softmax(-1).max(-1).values - x.softmax(-1).min(-1).values,
    "those are the two least probable: sort in descending order, or take the end of the sorted row":
        lambda x: x.softmax(-1).sort(-1).values[..., 1] - x.softmax(-1).sort(-1).values[..., 0],
    "you are taking the first two tokens of the vocabulary; take the two most probable":
        lambda x: (x.softmax(-1)[..., 0] - x.softmax(-1)[..., 1]).abs(),
    "softmax is probably over the wrong axis; the V probabilities of the last axis sum to 1":
        lambda x: _top(x.softmax(0))[..., 0] - _top(x.softmax(0))[..., 1],
    "you are probably working over the first axis; each row of V logits is one of the last":
        lambda x: _top(x.softmax(0), 0)[0] - _top(x.softmax(0), 0)[1],
    "the two largest lie along the last axis, best[..., 0] - best[..., 1]; best[0] - best[1] is for one row alone":
        lambda x: _top(x.softmax(-1))[0] - _top(x.softmax(-1))[1],
    "that is how unsure it is; the confidence is 1 minus this": lambda x: 1 - softmax_response(x),
    "that is the largest minus all others together; subtract the second alone":
        lambda x: 2 * x.softmax(-1).max(-1).values - 1,
}


@ex1.check("first minus second, for one row or many", mistake="with probabilities 0.2, 0.5, 0.3 it is 0.2")
def _(answer):
    agree(answer, softmax_response, [(torch.tensor([0.2, 0.5, 0.3]).log(),), (torch.tensor([2.0, -1.0, 0.5, 3.0]),),
                                     (torch.randn(3, 5),), (torch.randn(4, 3, 6, dtype=torch.float64),)], wrong=WRONG_1)


@ex1.check("keeps a leading axis of size 1", mistake="one row in [1, V] is one confidence in [1]")
def _(answer):
    x = torch.tensor([[2.0, -1.0, 0.5, 3.0]])
    expect(answer(x), softmax_response(x), wrong={
        "your squeeze drops every axis of size 1, the leading one too; [..., 0] drops the last alone":
            softmax_response(x).squeeze()})


@ex1.check("a tie is no confidence at all", mistake="two equal largest probabilities: 0")
def _(answer):
    expect(answer(torch.tensor([3.0, 1.0, 3.0])), torch.tensor(0.0), wrong={
        "you are probably dropping the tied token: second largest means second in the sorted row":
            lambda: (lambda p: p[0] - p[1])(torch.tensor([3.0, 1.0, 3.0]).softmax(-1))})


@ex1.check("large logits don't overflow", mistake="softmax subtracts the largest logit first, since exp(300) is inf")
def _(answer):
    expect(answer(torch.tensor([300.0, 299.0, 0.0])), softmax_response(torch.tensor([300.0, 299.0, 0.0])), wrong={
        "without care exp(300) is inf, and inf / inf NaN: softmax subtracts the largest logit first":
            torch.tensor(torch.nan)})


# --- 04.2 -------------------------------------------------------------------------------------------------------------

ex2 = Exercise(
    "04.2",
    "The decaying threshold",
    answer="decayed(threshold, t, tau, horizon)",
    task="CALM's eq. 5: 0.9 · threshold + 0.1 · exp(-tau · t / horizon), clipped to [0, 1]",
    hints=(
        "Where in a text does a wrong token cost most? So where should the threshold be highest?",
        "Compute the sum first and clip it afterwards, from both sides. t / horizon is the share of the text written.",
        "value = 0.9 * threshold + 0.1 * math.exp(...); min(max(value, ...), ...)",
    ),
)


def decayed(threshold, t, tau, horizon):
    """The reference."""
    return min(max(_sum(threshold, t, tau, horizon), 0.0), 1.0)


def _sum(threshold, t, tau, horizon, kept=0.9, fade=0.1):
    return kept * threshold + fade * math.exp(-tau * t / horizon)


def _clip(value):
    return min(max(value, 0.0), 1.0)


WRONG_2 = {
    "that is the formula of the released code, which multiplies; the paper adds: 0.9 λ + 0.1 exp(...)":
        lambda s, t, tau, n: _clip(s * (0.9 + 0.1 * math.exp(-tau * t / n))),
    "the exponent needs a minus: the threshold falls along the text":
        lambda s, t, tau, n: _clip(_sum(s, t, -tau, n)),
    "the length is missing, against which t counts: the exponent is -tau · t / horizon, not -tau · t":
        lambda s, t, tau, n: _clip(_sum(s, t, tau, 1)),
    "the exponent has t and horizon swapped": lambda s, t, tau, n: _clip(_sum(s, n, tau, max(t, 1e-9))),
    "put tau into the exponent: exp(-tau · t / horizon)":
        lambda s, t, tau, n: _clip(0.9 * s + 0.1 * tau * math.exp(-t / n)),
    "the exponent lacks tau": lambda s, t, tau, n: _clip(_sum(s, t, 1, n)),
    "0.9 and 0.1 are swapped: most of it is the threshold itself":
        lambda s, t, tau, n: _clip(_sum(s, t, tau, n, 0.1, 0.9)),
    "you let all of it decay; only the 0.1 does": lambda s, t, tau, n: _clip((0.9 * s + 0.1) * math.exp(-tau * t / n)),
    "the threshold is scaled by 0.9 before the fade is added": lambda s, t, tau, n: _clip(
        s + 0.1 * math.exp(-tau * t / n)),
    "the division // drops the fraction, so that all of t / horizon may be lost: write /":
        lambda s, t, tau, n: _clip(0.9 * s + 0.1 * math.exp(-tau * t // n)),
    "the division // drops the fraction, so that -tau · t / horizon is rounded: write /":
        lambda s, t, tau, n: _clip(0.9 * s + 0.1 * math.exp(-(tau * t // n))),
    "the division // drops the fraction, so that t / horizon is 0 all along: write /":
        lambda s, t, tau, n: _clip(0.9 * s + 0.1 * math.exp(-tau * (t // n))),
    "the first new token has t = 0: no t + 1": lambda s, t, tau, n: _clip(_sum(s, t + 1, tau, n)),
    "the result must be clipped to [0, 1], from both sides": _sum,
    "clip the sum, not the threshold that goes into it": lambda s, t, tau, n: _sum(_clip(s), t, tau, n),
    "below 0 counts as 0: clip from both sides": lambda s, t, tau, n: min(_sum(s, t, tau, n), 1.0),
    "above 1 counts as 1: clip from both sides": lambda s, t, tau, n: max(_sum(s, t, tau, n), 0.0),
}


@ex2.check("falls along the text", mistake="write 0.9 · threshold + 0.1 · exp(-tau · t / horizon) out once more")
def _(answer):
    agree(answer, decayed, [(0.8, 9, 3.0, 20), (0.5, 3, 2.0, 7), (0.95, 37, 3.0, 41), (0.8, 0, 4.0, 20)],
          wrong=WRONG_2)


@ex2.check("is clipped to [0, 1], even for a threshold outside", mistake="clip the sum from both sides")
def _(answer):
    agree(answer, decayed, [(-0.5, 1, 4.0, 10), (1.2, 5, 4.0, 10), (-0.3, 2, 4.0, 10), (-0.05, 1, 4.0, 10),
                            (1.05, 5, 4.0, 10)], wrong=WRONG_2)


@ex2.check("returns a plain number", mistake="the threshold is a float")
def _(answer):
    got = answer(0.8, 3, 4.0, 20)
    if not isinstance(got, (int, float)):
        raise Failed(f"the threshold is a float; yours is {kind(got)}: .item() takes the number out")


@ex2.check("tau 0 does not fall", mistake="with tau 0 the exponential is 1 everywhere")
def _(answer):
    agree(answer, decayed, [(0.6, 0, 0.0, 10), (0.6, 9, 0.0, 10)], wrong=WRONG_2)
