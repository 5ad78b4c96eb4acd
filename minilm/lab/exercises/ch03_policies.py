"""Exercises of chapter 03: what a policy looks at, entropy and patience."""

import math

import torch

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.expect import Failed
from minilm.lab.values import kind

# --- 03.1 -------------------------------------------------------------------------------------------------------------

ex1 = Exercise(
    "03.1",
    "Entropy",
    answer="entropy(logits)",
    task="-Σ p ln p of softmax(logits[..., V]), in nats, [...]; a probability of 0 adds 0",
    hints=(
        "Logits are no probabilities yet. And where p is 0: what does the computer make of p ln p, and what should it?",
        "p = softmax over the last axis; sum -p ln p over that axis; take care that 0 times -inf is NaN, not 0.",
        "torch.special.entr(p) is -p ln p, and 0 where p is 0; sum it over the last axis.",
    ),
)


def entropy(logits):
    """The reference. logits[..., V] -> [...]"""
    return torch.special.entr(logits.softmax(-1)).sum(-1)


def _over_all(x):
    return entropy(x).sum()


WRONG_1 = {
    "you are probably using log2, which gives bits; nats take the natural logarithm":
        lambda x: entropy(x) / math.log(2),
    "the sign is probably wrong: ln p is negative, so -Σ p ln p is 0 or more": lambda x: -entropy(x),
    "softmax and sum are probably over the wrong axis; each row of V logits is one of the last axis":
        lambda x: torch.special.entr(x.softmax(0)).sum(0),
    "softmax is probably over the wrong axis; the V probabilities of the last axis sum to 1":
        lambda x: torch.special.entr(x.softmax(0)).sum(-1),
    "softmax is missing: p are probabilities, logits are not": lambda x: torch.special.entr(x).sum(-1),
    "softmax is missing: p are probabilities; the logarithm of a logit at 0 or below is no number":
        lambda x: -(x * x.log()).sum(-1),
    "softmax is missing: p are probabilities; logits can be below 0": lambda x: -torch.xlogy(x, x).sum(-1),
    "you are probably summing over everything; each row of logits has an entropy of its own": _over_all,
    "you are probably taking the mean over the vocabulary; the entropy is a sum": lambda x: entropy(x) / x.shape[-1],
    "you are probably dividing by ln V; entropy in nats is not scaled to 1":
        lambda x: entropy(x) / math.log(x.shape[-1]),
    "you are probably multiplying p by the logits; it is the logarithm of p": lambda x: -(x.softmax(-1) * x).sum(-1),
    "the p before the logarithm is missing: -Σ p ln p": lambda x: -x.log_softmax(-1).sum(-1),
    "that is the perplexity, exp of the entropy": lambda x: entropy(x).exp(),
    "that is -ln of the largest probability; every token counts": lambda x: -x.log_softmax(-1).max(-1).values,
    "that is 1 - Σ p², which has no logarithm; the entropy has": lambda x: 1 - x.softmax(-1).pow(2).sum(-1),
}


@ex1.check("matches the formula, for one row or many", mistake="two equal logits have an entropy of ln 2 = 0.693")
def _(answer):
    agree(answer, entropy, [(torch.tensor([0.0, 0.0]),), (torch.tensor([1.0, 2.0, 0.5]),), (torch.randn(3, 4),),
                            (2 * torch.randn(2, 3, 5, dtype=torch.float64),)], wrong=WRONG_1)


@ex1.check("keeps a leading axis of size 1", mistake="one row in [1, V] is one entropy in [1]")
def _(answer):
    x = torch.randn(1, 4)
    expect(answer(x), entropy(x), wrong={
        "your squeeze drops every axis of size 1, the leading one too; sum(-1) alone already drops the last":
            entropy(x).squeeze()})


@ex1.check("large logits don't overflow", mistake="softmax subtracts the largest logit first, since exp(200) is inf")
def _(answer):
    x = torch.tensor([200.0, 199.0])
    expect(answer(x), entropy(x), wrong={
        "without care exp(200) is inf, and inf / inf NaN: softmax and log_softmax subtract the largest logit first":
            torch.tensor(torch.nan)})


@ex1.check("a probability of 0 adds 0", mistake="a certain token has an entropy of 0")
def _(answer):
    expect(answer(torch.tensor([0.0, -1e4, -2e4])), torch.tensor(0.0), wrong={
        "a probability that rounds to 0 gives 0 · ln 0, which is NaN; it must add 0": torch.tensor(torch.nan)})


@ex1.check("a cut token, with a logit of -inf, adds 0", mistake="what is cut has a probability of 0 and adds 0")
def _(answer):
    x = torch.tensor([[1.0, 1.0, -torch.inf], [3.0, -torch.inf, -torch.inf]])
    expect(answer(x), torch.tensor([math.log(2), 0.0]), wrong={
        "a cut token has a logit of -inf; 0 · (-inf) is NaN, and it must add 0": torch.full((2,), torch.nan)})


# --- 03.2 -------------------------------------------------------------------------------------------------------------

ex2 = Exercise(
    "03.2",
    "Patience",
    answer="leaves_at(named, patience)",
    task="the exit, from 1, at which `patience` exits in a row have named the same token as the one before; or None",
    hints=(
        "Which exit can be the first to agree with the one before it?",
        "Count agreements in a row. A change sets the count back to 0; the exit at which it reaches `patience` is it.",
        "for exit, token in enumerate(named, start=1): count = count + 1 if token == last else 0; ...; last = token",
    ),
)


def leaves_at(named, patience):
    """The reference: int or None"""
    return _walk(named, patience)


def _walk(named, patience, start=0, again=0, first=1, reset=True, never=None):
    count, last = start, named[0] if named else None
    for exit, token in enumerate(named, start=first):
        if exit > first:
            count = count + 1 if token == last else (again if reset else count)
        if count >= patience:
            return exit
        last = token
    return never(named) if never else None


def _like_the_first(named, patience):
    count = 0
    for exit, token in enumerate(named[1:], start=2):
        count = count + 1 if token == named[0] else 0
        if count >= patience:
            return exit
    return None


def _last_match(named, patience):
    count, found = 0, None
    for exit in range(2, len(named) + 1):
        count = count + 1 if named[exit - 1] == named[exit - 2] else 0
        found = exit if count >= patience else found
    return found


def _run_length(named, patience, enough):
    """The run's length, first token counted; looked at from the second exit on."""
    run = 1
    for exit in range(2, len(named) + 1):
        run = run + 1 if named[exit - 1] == named[exit - 2] else 1
        if enough(run, patience):
            return exit
    return None


def _seen_anywhere(named, patience):
    for exit in range(2, len(named) + 1):
        if named[: exit - 1].count(named[exit - 1]) >= patience:
            return exit
    return None


WRONG_2 = {
    "you are probably counting the first exit of a run as an agreement; it has none before it to agree with":
        lambda n, p: _walk(n, p, start=1, again=1),
    "you are probably counting how long the run is; a run of two tokens is one agreement: begin at 0":
        lambda n, p: _run_length(n, p, lambda run, p: run >= p),
    "you are probably counting how long the run is; a run of two tokens is one agreement: begin at 0, not 1":
        lambda n, p: _run_length(n, p, lambda run, p: run == p),
    "you return the last exit with enough agreements; the token leaves at the first": _last_match,
    "you are one exit late: when the count has reached `patience`, it is enough": lambda n, p: _walk(n, p + 1),
    "exits are counted from 1: the first is exit 1": lambda n, p: _walk(n, p, first=0),
    "a change must set the count back to 0: the agreements are in a row": lambda n, p: _walk(n, p, reset=False),
    "after a change the count is 0, not 1: the new token has been named once, and agreed on by none":
        lambda n, p: _walk(n, p, again=1),
    "compare with the exit just before, not with the first one": _like_the_first,
    "you are probably counting how often the token was named at all; only agreements in a row count": _seen_anywhere,
    "a token whose exits never agree for long enough does not leave at the last exit: return None":
        lambda n, p: _walk(n, p, never=len),
    "the last exit counts, too: look at it before you give up": lambda n, p: _walk(n[:-1], p),
    "return the number of the exit, not the token it names": lambda n, p: (
        None if _walk(n, p) is None else n[_walk(n, p) - 1]),
}


def _each(answer, cases):
    for named, patience in cases:
        expect(answer(list(named), patience), _walk(named, patience), wrong={
            message: (lambda f=f, n=named, p=patience: f(list(n), p)) for message, f in WRONG_2.items()})


@ex2.check("leaves when enough exits in a row agree with the one before", mistake="count agreements on paper")
def _(answer):
    agree(answer, leaves_at, [([7, 7, 7], 1), ([7, 8, 8, 9], 1), ([7, 7, 7, 7], 2), ([7, 8, 8, 8, 8], 2),
                              ([7, 8, 7, 7, 7, 9], 2), ([7, 7, 7, 7, 7, 7, 9], 3)], wrong=WRONG_2)


@ex2.check("a change starts the count anew", mistake="the agreements are in a row")
def _(answer):
    agree(answer, leaves_at, [([7, 7, 8, 8, 8], 2), ([4, 4, 6, 6, 6, 9, 9], 2), ([7, 7, 8, 7, 9, 9, 9, 9], 3),
                              ([4, 4, 4, 6, 4, 4, 5, 5, 5, 5], 3)], wrong=WRONG_2)


@ex2.check("never is None", mistake="without enough agreements there is no exit to name: None")
def _(answer):
    _each(answer, [([7, 8, 9], 1), ([7, 7], 2), ([7, 8, 8], 2), ([7], 1), ([], 1)])


@ex2.check("token 0 is a token like any other", mistake="the token before the first exit is none, not 0")
def _(answer):
    expect(answer([0, 3, 5, 5], 1), 4, wrong={
        "0 is a token: what was named before the first exit starts as None, not 0": 1})
    expect(answer([3, 0, 0, 6], 1), 3, wrong={"`if last` is false for token 0: compare with ==": None})


@ex2.check("tokens are compared by value", mistake="compare tokens with ==")
def _(answer):
    expect(answer([int(text) for text in ("700", "4097", "4097", "5")], 1), 3, wrong={
        "equal numbers need not be one object: compare tokens with ==, not with `is`": None})


@ex2.check("returns a plain int", mistake="the number of an exit is an int")
def _(answer):
    got = answer([7, 7, 8], 1)
    if type(got) is not int:
        raise Failed(f"the number of an exit is a plain int; yours is {kind(got)}")
