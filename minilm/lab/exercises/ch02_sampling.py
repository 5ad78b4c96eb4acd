"""Exercises of chapter 02: from logits to a token."""

import torch
import torch.nn.functional as F

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.values import difference, kind

# --- 02.4 -------------------------------------------------------------------------------------------------------------

ex4 = Exercise(
    "02.4",
    "Temperature and top-k",
    answer="shape_logits(logits, temperature, top_k=0)",
    task="logits[V] -> probabilities[V]: divide by temperature (0: one-hot of the largest), keep top_k (0: all)",
    hints=(
        "What should a token that is cut have as a probability, and what as a logit, so that softmax gives it that?",
        "Divide; put -inf where the logit is below the k-th largest; softmax. Temperature 0 needs its own branch.",
        "logits.topk(k).values[-1] is the k-th largest; masked_fill(logits < it, float('-inf')); else a 1 at argmax.",
    ),
)


def shape_logits(logits, temperature, top_k=0):
    """The reference: logits[V] -> probabilities[V]"""
    if temperature == 0:
        return F.one_hot(logits.argmax(), len(logits)).to(logits.dtype)
    scaled = (logits - logits.max()) / temperature
    if top_k:
        scaled = scaled.masked_fill(scaled < scaled.topk(min(top_k, len(scaled))).values[-1], float("-inf"))
    return scaled.softmax(-1)


def _keep(x, k, fill):
    return x.masked_fill(x < x.topk(min(k, len(x))).values[-1], fill) if k else x


WRONG_4 = {
    "you are probably multiplying by the temperature; divide": lambda x, t, k=0: shape_logits(x * t * t, t, k) if t else
        shape_logits(x, 0),
    "what is kept does not sum to 1 again: cut before the softmax, or divide by the sum": lambda x, t, k=0: _keep(
        shape_logits(x, t), k if t else 0, 0.0),
    "a cut token's logit should become -inf; 0 is an ordinary logit": lambda x, t, k=0: _keep(
        x / t, k, 0.0).softmax(-1),
    "a cut token's logit should become -inf; once the largest is subtracted, 0 is the largest": lambda x, t, k=0: _keep(
        (x - x.max()) / t, k, 0.0).softmax(-1),
    "you cut the k-th largest, too: mask what is smaller than it (<), not what equals it (<=)": (
        lambda x, t, k=0: shape_logits(x, t, k - 1 if k else 0)),
    "you keep one token too many": lambda x, t, k=0: shape_logits(x, t, k + 1 if k else 0),
    "you are probably ignoring top_k": lambda x, t, k=0: shape_logits(x, t),
    "you are probably ignoring the temperature": lambda x, t, k=0: shape_logits(x, 1.0, k),
    "you are probably keeping the first k ids; keep the k largest": lambda x, t, k=0: (x / t).masked_fill(
        torch.arange(len(x)) >= (k or len(x)), float("-inf")).softmax(-1),
}


@ex4.check("scales, cuts and sums to 1", mistake="write divide, cut, softmax out once more, in this order")
def _(answer):
    x = torch.tensor([1.0, 3.0, 2.0, -1.0])
    cases = [(x, 1.0, 0), (x, 0.5, 0), (x, 2.0, 2), (torch.randn(9), 0.7, 3), (torch.randn(50), 1.3, 10),
             (x.double(), 0.5, 2)]
    agree(answer, shape_logits, cases, wrong=WRONG_4)


@ex4.check("where tokens tie with the k-th largest, keeps k or all of them",
           mistake="a tie must not cut both: at least top_k tokens stay")
def _(answer):
    x = torch.tensor([2.0, 1.0, 1.0, 0.0])
    right = [x.masked_fill(torch.tensor(cut), float("-inf")).softmax(-1)
             for cut in ([False] * 3 + [True], [False, False, True, True], [False, True, False, True])]
    got = answer(x, 1.0, 2)
    expect(got, next((want for want in right if difference(got, want) is None), right[0]))


@ex4.check("temperature 0 is greedy", mistake="logits / 0 is inf or NaN: give temperature 0 its own branch")
def _(answer):
    x = torch.tensor([1.0, -2.0, 3.0, 0.5])
    got = answer(x, 0.0)
    assert not torch.isnan(got).any(), "logits / 0 gives NaN: temperature 0 needs a branch of its own"
    expect(got, torch.tensor([0.0, 0.0, 1.0, 0.0]))
    expect(answer(x, 0.0, 3), torch.tensor([0.0, 0.0, 1.0, 0.0]))


@ex4.check("top_k larger than the vocabulary keeps all", mistake="topk asks for at most V: take the smaller of the two")
def _(answer):
    x = torch.tensor([1.0, 2.0, 0.0])
    expect(answer(x, 1.0, 10), x.softmax(-1))


@ex4.check("a tiny temperature does not overflow", mistake="subtract the largest logit before you divide")
def _(answer):
    expect(answer(torch.tensor([60.0, 59.0, -80.0]), 1e-38), torch.tensor([1.0, 0.0, 0.0]),
           wrong={"60 / 1e-38 is inf, and inf - inf NaN: subtract the largest logit before you divide":
                  lambda: (torch.tensor([60.0, 59.0, -80.0]) / 1e-38).softmax(-1)})


# --- 02.5 -------------------------------------------------------------------------------------------------------------

ex5 = Exercise(
    "02.5",
    "The nucleus",
    answer="nucleus(probs, top_p)",
    task="probs[V] -> probs[V]: keep the fewest most probable tokens whose mass reaches top_p, zero the rest, sum to 1",
    hints=(
        "Sort. Whether a token stays depends on the mass of the ones *before* it. On what exactly?",
        "A token stays while the mass before it is still below top_p; so the one that crosses top_p stays.",
        "ordered, ids = probs.sort(descending=True); before = ordered.cumsum(0) - ordered; put what stays back with "
        "torch.zeros_like(probs).scatter(0, ids, ...) and divide by the sum.",
    ),
)


def nucleus(probs, top_p):
    """The reference: probs[V] -> probs[V]"""
    return _nucleus(probs, lambda ordered: ordered.cumsum(0) - ordered < top_p)


def _nucleus(probs, stays, back=True, scale=True, sort=True):
    ordered, ids = probs.sort(descending=True, stable=True) if sort else (probs, torch.arange(len(probs)))
    kept = ordered * stays(ordered)
    kept = kept / kept.sum() if scale else kept
    return torch.zeros_like(probs).scatter(0, ids, kept) if back else kept


def _ascending(probs, top_p):
    ordered, ids = probs.sort(stable=True)
    kept = ordered * (ordered.cumsum(0) - ordered < top_p)
    return torch.zeros_like(probs).scatter(0, ids, kept / kept.sum())


ONE_TOO_MANY = "you keep one token too many: where the mass before a token has reached top_p, it goes"
WRONG_5 = {
    "you drop the token that crosses top_p; without it the mass does not reach top_p": lambda p, t: _nucleus(
        p, lambda o: o.cumsum(0) <= t),
    "you drop the token that crosses top_p, and what is kept does not sum to 1": lambda p, t: _nucleus(
        p, lambda o: o.cumsum(0) <= t, scale=False),
    ONE_TOO_MANY: lambda p, t: _nucleus(p, lambda o: o.cumsum(0) - o <= t),
    "what is kept does not sum to 1 again": lambda p, t: _nucleus(p, lambda o: o.cumsum(0) - o < t, scale=False),
    "your answer is in sorted order; put each probability back at its token's id": lambda p, t: _nucleus(
        p, lambda o: o.cumsum(0) - o < t, back=False),
    "you walk through the tokens by id; sort by probability first": lambda p, t: _nucleus(
        p, lambda o: o.cumsum(0) - o < t, sort=False),
    "you are probably sorting in ascending order: sort(descending=True)": _ascending,
    "gather(0, ids) and kept[ids] sort once more; scatter(0, ids, kept) puts each back at its id": lambda p, t: (
        _nucleus(p, lambda o: o.cumsum(0) - o < t, back=False)[p.sort(descending=True, stable=True).indices]),
    "that is min-p: it keeps what reaches top_p times the largest; a nucleus adds up until it reaches top_p": (
        lambda p, t: p * (p >= t * p.max()) / (p * (p >= t * p.max())).sum()),
    "you are probably keeping tokens with a probability above top_p; it is their sum that counts": lambda p, t: (
        p * (p >= min(t, p.max())) / (p * (p >= min(t, p.max()))).sum()),
}


@ex5.check("keeps the fewest that reach top_p", mistake="take [0.2, 0.5, 0.3] and top_p = 0.6 by hand")
def _(answer):
    p = torch.tensor([0.2, 0.5, 0.3])
    cases = [(p, 0.6), (p, 0.9), (torch.randn(20).softmax(-1), 0.5), (torch.randn(100).softmax(-1), 0.8)]
    agree(answer, nucleus, cases, wrong=WRONG_5)


@ex5.check("keeps one token where top_p is below the largest", mistake="at least one token must stay")
def _(answer):
    got = answer(torch.tensor([0.1, 0.7, 0.2]), 0.05)
    assert not torch.isnan(got).any(), "you drop the token that crosses top_p: here that is all, and 0 / 0 is NaN"
    expect(got, torch.tensor([0.0, 1.0, 0.0]))


@ex5.check("stops where top_p is reached exactly", mistake="0.5 has reached 0.5: the second token goes")
def _(answer):
    expect(answer(torch.tensor([0.25, 0.5, 0.25]), 0.5), torch.tensor([0.0, 1.0, 0.0]),
           wrong={ONE_TOO_MANY: lambda: WRONG_5[ONE_TOO_MANY](torch.tensor([0.25, 0.5, 0.25]), 0.5)})


# --- 02.6 -------------------------------------------------------------------------------------------------------------

ex6 = Exercise(
    "02.6",
    "The draw",
    answer="draw(probs, uniform)",
    task="the int token of probs[V] on whose piece of [0, 1) the number `uniform` falls, pieces in order of the ids",
    hints=(
        "Token t owns from the sum of all before it up to the sum with it. Which end belongs to it?",
        "The first token whose cumulative sum is greater than uniform. Equal is not enough: a token of probability 0 "
        "ends where it starts.",
        "torch.searchsorted(cdf, uniform, right=True); float sums may end at 0.9999999: multiply uniform by cdf[-1].",
    ),
)


def draw(probs, uniform):
    """The reference: the first token whose cumulative sum exceeds uniform · total."""
    cdf = probs.double().cumsum(0)
    token = int(torch.searchsorted(cdf, uniform * cdf[-1].item(), right=True))
    return token if token < len(cdf) else int(probs.nonzero()[-1])


WRONG_6 = {
    "you take the first token whose sum is at least `uniform`; at uniform = 0 that can have probability 0: greater": (
        lambda p, u: int((p.cumsum(0) >= u).nonzero()[0])),
    "you are probably taking the most probable token; `uniform` decides": lambda p, u: int(p.argmax()),
    "you are probably walking from the most probable down; walk by id": lambda p, u: int(
        p.sort(descending=True, stable=True).indices[draw(p.sort(descending=True).values, u)]),
    "you are cutting 0 to 1 into equal pieces; a token's piece is as long as its probability": lambda p, u: int(
        u * len(p)),
    "you are one token too far: the sum includes the token itself": lambda p, u: draw(p, u) + 1,
    "you are one token too early: the sum includes the token itself": lambda p, u: max(draw(p, u) - 1, 0),
}


@ex6.check("the same uniform number draws the same token")
def _(answer):
    p = torch.full((4,), 0.25)
    first = answer(p, 0.3)
    for _ in range(20):
        assert difference(answer(p, 0.3), first) is None, "your draw has randomness of its own; use the uniform given"


@ex6.check("follows the cumulative sum", mistake="take [0.2, 0.5, 0.3] by hand: 0 to 0.2 is token 0, up to 0.7 token 1")
def _(answer):
    p = torch.tensor([0.2, 0.5, 0.3])
    cases = [(p, 0.1), (p, 0.3), (p, 0.69), (p, 0.71), (p, 0.99), (torch.randn(30).softmax(-1), 0.45)]
    agree(answer, draw, cases, wrong=WRONG_6)


@ex6.check("never draws a token of probability 0", mistake="a cut token owns nothing, not even its edge")
def _(answer):
    greater = next(iter(WRONG_6))
    p = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0])
    for u, want in ((0.0, 1), (0.5, 3), (0.25, 1)):
        expect(answer(p, u), want, wrong={greater: lambda u=u: WRONG_6[greater](p, u)})


@ex6.check("returns a plain int")
def _(answer):
    got = answer(torch.tensor([0.2, 0.5, 0.3]), 0.3)
    assert type(got) is int, f"your function returns {kind(got)}; it should return an int: int(...) makes one"


@ex6.check("survives sums that end below 1", mistake="the total may be 0.9999999: scale `uniform` by it")
def _(answer):
    p = torch.tensor([0.3, 0.3, 0.3, 0.0999, 0.0])
    message = "the sum ends below 1, and uniform fell onto a token of probability 0: scale uniform by the total"
    expect(answer(p, 0.99995), 3, wrong={message: 4, message + " ": 5})


@ex6.check("draws each token as often as its probability says", mistake="one uniform number, one token")
def _(answer):
    p = torch.tensor([0.1, 0.0, 0.6, 0.3])
    counts = torch.bincount(torch.tensor([answer(p, (i + 0.5) / 1000) for i in range(1000)]), minlength=4)
    expect(counts.tolist(), [100, 0, 600, 300])
