"""Exercises of chapter 01: the model, piece by piece."""

import torch

from minilm.lab.exercise import Exercise, agree, expect

ex = Exercise(
    "01.1",
    "RMSNorm",
    answer="rms_norm(x, weight, eps=1e-6)",
    task="scale each row x[..., d] to a root mean square of 1, then multiply by weight[d]",
    hints=(
        "Every row of d numbers is treated by itself. What single number says how large a row is?",
        "Divide each row by sqrt(mean(x^2) + eps), the mean taken over the last axis; then multiply by weight.",
        "x.pow(2).mean(dim=..., keepdim=True) keeps the axis so that it broadcasts; torch.rsqrt(y) is 1 / sqrt(y).",
    ),
)


def rms_norm(x, weight, eps=1e-6):
    """The reference. x[..., d], weight[d] -> [..., d]"""
    return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + eps) * weight


def _over_rows(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(dim=0, keepdim=True) + eps) * weight


def _over_all(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean() + eps) * weight


WRONG = {
    "you are probably dividing by the mean square; take its root": lambda x, w, eps=1e-6: (
        x / (x.pow(2).mean(-1, keepdim=True) + eps) * w
    ),
    "you are probably normalising over the wrong axis; each row is one of the last axis": _over_rows,
    "you are probably taking one mean over the whole tensor; each row has its own": _over_all,
    "you are probably subtracting the mean, as LayerNorm does; RMSNorm doesn't": lambda x, w, eps=1e-6: rms_norm(
        x - x.mean(-1, keepdim=True), w, eps
    ),
    "you are probably taking the sum of squares; take their mean": lambda x, w, eps=1e-6: (
        x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + eps) * w
    ),
    "the weight is missing: multiply each row by it": lambda x, w, eps=1e-6: rms_norm(x, torch.ones_like(w), eps),
}


@ex.check("matches the formula on rows of any number of axes", mistake="write sqrt(mean(x^2) + eps) out once more")
def _(answer):
    cases = [
        (torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0])),
        (torch.randn(3, 4), torch.randn(4)),
        (torch.randn(2, 3, 8), torch.randn(8)),
    ]
    agree(answer, rms_norm, cases, wrong=WRONG)


@ex.check("adds eps inside the root", mistake="the eps argument is not used as mean(x^2) + eps")
def _(answer):
    x, weight = torch.tensor([[0.01, -0.01]]), torch.ones(2)
    outside = x / (x.pow(2).mean(-1, keepdim=True).sqrt() + 0.5) * weight
    wrong = {"eps belongs inside the root, not after it": outside}
    expect(answer(x, weight, 0.5), rms_norm(x, weight, 0.5), wrong=wrong)


@ex.check("a row of zeros stays zero", mistake="without eps, zero divided by zero is NaN")
def _(answer):
    expect(answer(torch.zeros(1, 4), torch.ones(4)), torch.zeros(1, 4))


@ex.check("keeps the dtype", mistake="the result should have the dtype of x")
def _(answer):
    x, weight = torch.randn(2, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    expect(answer(x, weight), rms_norm(x, weight), tol=1e-12)
