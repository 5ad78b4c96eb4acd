"""Exercises of chapter 05: the rule that accepts or recovers one draft."""

import torch

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.exercises.ch05_shared import Part, float64, plain_number, residual, without

# --- 05.1 -------------------------------------------------------------------------------------------------------------

ex1 = Exercise(
    "05.1",
    "One draft",
    answer="judge_draft(p, q, token)",
    task="(acceptance probability of `token`, drawn from q; distribution[V] of the recovered token)",
    hints=(
        "Where the draft gives a token too often, some must be turned away. Where it gives a token too rarely, what is "
        "missing?",
        "Accept with p(x) / q(x), at most 1. What is missing is max(0, p - q), token by token; divide by its sum. If "
        "nothing is missing, no draft is ever rejected: then any distribution does, so give p.",
        "acceptance = min(1.0, float(p[token] / q[token])); residual = (p - q).clamp(min=0); total = residual.sum(); "
        "what is returned where total is 0?",
    ),
)


def judge_draft(p, q, token):
    """The reference: (float, tensor[V])"""
    return min(1.0, float(p[token] / q[token])), residual(p, q)


PAIRS = [                                                   # in eighths: exact in binary
    (float64([4, 4]) / 8, float64([2, 6]) / 8), (float64([5, 1, 2]) / 8, float64([2, 5, 1]) / 8),
    (float64([1, 4, 0, 3]) / 8, float64([3, 1, 2, 2]) / 8),
    (float64([2, 0, 3, 1, 2]) / 8, float64([1, 1, 1, 4, 1]) / 8),
]
CASES_1 = [(p, q, token) for p, q in PAIRS for token in range(len(p))]

WRONG_ACCEPTANCE = {
    "a probability is at most 1: where p(x) > q(x) the draft is always accepted": lambda p, q, t: float(p[t] / q[t]),
    "you have p and q swapped: a token that the draft gives too often, q > p, must sometimes be turned away":
        lambda p, q, t: min(1.0, float(q[t] / p[t])),
    "p(x) alone is for drafts that were chosen, q(x) = 1; this one was drawn from q: divide by q(x)":
        lambda p, q, t: float(p[t]),
    "min(p, q) is the chance to be drafted *and* accepted; given that x was drafted, divide by q(x)":
        lambda p, q, t: float(min(p[t], q[t])),
    "that is the chance to be rejected; return 1 minus it": lambda p, q, t: 1 - min(1.0, float(p[t] / q[t])),
    "a draft with p < q is accepted sometimes: with probability p / q, not never": lambda p, q, t: float(p[t] >= q[t]),
    "that is the chance that *some* draft is accepted, the sum of min(p, q); the question is this token's":
        lambda p, q, t: float(torch.minimum(p, q).sum()),
    "the larger of 1 and the ratio is never below 1: take the smaller": lambda p, q, t: max(1.0, float(p[t] / q[t])),
}


@ex1.check("accepts with p(x) / q(x), at most 1", mistake="min(1, p(x) / q(x)), for the drafted token x alone")
def _(answer):
    agree(Part(answer, ("acceptance", "recovered"), 0), lambda *case: judge_draft(*case)[0], CASES_1,
          wrong=WRONG_ACCEPTANCE)


def _normalised(x):
    return x / x.sum()


WRONG_RECOVERED = {
    "that is p itself: tokens that the draft brings often enough would then come too often; only what is missing, "
    "max(0, p - q), may be recovered": lambda p, q, t: p,
    "softmax is for logits: these are probabilities already, and softmax gives impossible tokens a share; divide by "
    "the sum": lambda p, q, t: (p - q).clamp(min=0).softmax(-1),
    "softmax of p - q gives every token a share; take max(0, p - q) and divide by its sum":
        lambda p, q, t: (p - q).softmax(-1),
    "that is max(0, q - p), what the draft gives too often; what is missing is max(0, p - q)":
        lambda p, q, t: _normalised((q - p).clamp(min=0)),
    "the residual does not sum to 1 yet: divide by its sum": lambda p, q, t: (p - q).clamp(min=0),
    "|p - q| counts what the draft gives too often, too: max(0, p - q)": lambda p, q, t: _normalised((p - q).abs()),
    "p without the rejected token is the rule for drafts that were chosen, q(x) = 1; after a draw from q, "
    "max(0, p - q)": lambda p, q, t: _normalised(without(p, t)),
    "negative probabilities: cut p - q off at 0": lambda p, q, t: p - q,
    "p - q sums to 0: cut it off at 0 before you divide by the sum": lambda p, q, t: _normalised(p - q),
    "divide by the sum of the residual, not by its largest entry":
        lambda p, q, t: (p - q).clamp(min=0) / (p - q).clamp(min=0).max(),
    "that is min(p, q), what the draft brings already; what is missing is the rest of p, max(0, p - q)":
        lambda p, q, t: _normalised(torch.minimum(p, q)),
    "that is q, what the draft gives; the recovered token makes up for what it lacks": lambda p, q, t: q,
    "the residual is a distribution, not its most probable token": lambda p, q, t: _normalised(
        ((p - q) == (p - q).max()).to(p.dtype)),
}


@ex1.check("recovers from what the draft lacks", mistake="max(0, p - q), divided by its sum")
def _(answer):
    agree(Part(answer, ("acceptance", "recovered"), 1), lambda *case: judge_draft(*case)[1], CASES_1,
          wrong=WRONG_RECOVERED)


@ex1.check("p = q: nothing is missing, and nothing is NaN", mistake="where the residual sums to 0, return p")
def _(answer):
    for p in (float64([4, 3, 1]) / 8, float64([0, 1])):
        token = 1
        acceptance, recovered = (Part(answer, ("acceptance", "recovered"), i)(p, p.clone(), token) for i in (0, 1))
        expect(acceptance, 1.0, mistake="p = q: every draft is accepted")
        expect(recovered, p, wrong={
            "p = q leaves nothing: 0 / 0 is NaN; where the residual sums to 0, return p": torch.full_like(p, torch.nan),
            "all zeros are no distribution, and no token can be drawn from them; where the residual sums to 0, "
            "return p": torch.zeros_like(p),
            "where the residual sums to 0, return p itself": torch.full_like(p, 1 / len(p))})


@ex1.check("disjoint: never accepted, recovered from all of p", mistake="p(x) = 0 means acceptance 0")
def _(answer):
    p, q = float64([0, 4, 0, 4]) / 8, float64([4, 0, 4, 0]) / 8
    for token in (0, 2):
        expect(answer(p, q, token), (0.0, p), wrong={
            "an impossible token, p(x) = 0, is never accepted: no small number in the ratio": (1.0, p)})


@ex1.check("a chosen draft, q one-hot", mistake="then p(x) / q(x) = p(x), and the residual is p without x")
def _(answer):
    p, q = float64([1, 5, 2]) / 8, float64([0, 1, 0])
    expect(answer(p, q, 1), (5 / 8, float64([1, 0, 2]) / 3), wrong={
        "q(x) = 0 of the *other* tokens needs no care: only the drafted token's ratio is asked for":
            lambda: (5 / 8, torch.full_like(p, torch.nan))})


@ex1.check("a plain number, and p's dtype", mistake="the acceptance is a float")
def _(answer):
    p, q = (float64(values) for values in ([0.6, 0.3, 0.1], [0.1, 0.7, 0.2]))
    acceptance, recovered = answer(p, q, 1)
    plain_number(acceptance, "the acceptance")
    expect(recovered, judge_draft(p, q, 1)[1], tol=1e-12, wrong={
        "the residual is cast to float32; keep p's dtype, here float64": judge_draft(p, q, 1)[1].float()})
