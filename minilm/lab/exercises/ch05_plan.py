"""Exercises of chapter 05: what speculation should bring, from a log and from measured times."""

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.exercises.ch05_shared import Part, plain_int, plain_number
from minilm.lab.expect import Failed

ex3 = Exercise(
    "05.3",
    "The ladder",
    answer="plan(log, draft_seconds, verify_seconds)",
    task="(acceptance of draft 1, 2, ..., tokens of a round for 0, 1, 2, ... drafts, the best number of drafts)",
    hints=(
        "Draft 3 is only ever looked at in rounds that accepted drafts 1 and 2. What share of *those* accepts it?",
        "A round reaches draft i with the product of the acceptances before it. Each draft adds the chance that it is "
        "accepted to the one token that every round gives. Then divide tokens by seconds.",
        "came = [(n, a) for n, a in log if n >= i and a >= i - 1]; alpha = share of them with a >= i (0 if none came); "
        "reach *= alpha; tokens.append(tokens[-1] + reach). A round of g drafts takes g · draft_seconds + "
        "verify_seconds[g].",
    ),
)
NAMES = ("acceptances", "tokens", "best")


def plan(log, draft_seconds, verify_seconds):
    """The reference: (list, list, int)"""
    return _plan(log, draft_seconds, verify_seconds)


def _acceptance(log, i):
    came = [accepted for drafted, accepted in log if drafted >= i and accepted >= i - 1]
    return sum(accepted >= i for accepted in came) / len(came) if came else 0.0


def _ladder(alphas, start=1.0):
    tokens, reach = [start], 1.0
    for alpha in alphas:
        reach *= alpha
        tokens.append(tokens[-1] + reach)
    return tokens


def _plan(log, draft, verify, *, acceptance=_acceptance, tokens=_ladder, seconds=None, first=0, rate=None):
    """The answer, but for one thing. seconds(g) of a round; first: the fewest drafts; rate(tokens, seconds)."""
    alphas = [acceptance(log, i) for i in range(1, len(verify))]
    made = tokens(alphas)
    seconds = seconds or (lambda g: g * draft + verify[g])
    rate = rate or (lambda t, s: t / s)
    rates = [rate(made[g], seconds(g)) for g in range(first, len(verify))]
    return alphas, made, first + rates.index(max(rates))


def _mean(log, _):
    """One acceptance for all places: accepted drafts over judged ones."""
    judged = sum(min(accepted + 1, drafted) for drafted, accepted in log)
    return sum(accepted for _, accepted in log) / judged


def _of_long(log, i):
    """Judge by the rounds that drafted i, whether they came to it or not."""
    drafted = [a for n, a in log if n >= i]
    return sum(a >= i for a in drafted) / len(drafted) if drafted else 0.0


def _short_too(log, i):
    """The mistake of counting rounds that drafted fewer than i tokens as rejecting draft i."""
    came = [a for _, a in log if a >= i - 1]
    return sum(a >= i for a in came) / len(came) if came else 0.0


WRONG_ALPHAS = {
    "you divide by all rounds; draft i is judged only in the rounds that accepted those before it":
        lambda log, i: sum(a >= i for _, a in log) / len(log),
    "you divide by all rounds that drafted i tokens; draft i is judged only where those before it passed": _of_long,
    "a round that drafted fewer than i tokens says nothing about draft i: leave it out": _short_too,
    "you count the rounds that accepted exactly i; those that accepted more accepted draft i, too":
        lambda log, i: sum(a == i for n, a in log if n >= i) / max(1, sum(n >= i and a >= i - 1 for n, a in log)),
    "that is one rate for all places, accepted over judged; each place has its own": _mean,
    "that is accepted over drafted, the same for all places; drafts after a rejection were never judged":
        lambda log, i: sum(a for _, a in log) / sum(n for n, _ in log),
    "you are one place late: the first is the acceptance of draft 1": lambda log, i: _acceptance(log, i + 1),
}
TIMES = (0.1, [1.0, 1.0, 1.1, 1.1])
LOGS = [[(2, 0), (2, 1), (2, 2), (2, 2)], [(3, 0), (3, 3), (3, 1), (3, 3), (3, 2), (3, 3)],
        [(3, 3), (1, 1), (3, 1), (2, 2), (3, 0), (3, 3), (2, 0), (3, 2)],
        [(5, 5), (5, 0), (4, 2), (5, 3), (5, 1), (2, 2), (5, 5), (5, 4), (3, 3), (5, 0), (1, 0)]]
CASES = [(log, 0.1, [1.0] * (n + 1)) for log, n in zip(LOGS, (2, 3, 3, 5), strict=True)]


@ex3.check("the acceptance of each place", mistake="among the rounds that came to draft i, the share that accepted it")
def _(answer):
    agree(Part(answer, NAMES, 0), lambda *case: plan(*case)[0], CASES, wrong={
        message: (lambda log, d, v, f=f: _plan(log, d, v, acceptance=f)[0]) for message, f in WRONG_ALPHAS.items()},
        tol=1e-6)


@ex3.check("a place where no round came", mistake="no round came to draft i: its acceptance is 0")
def _(answer):
    case = ([(3, 0), (3, 1), (2, 1)], 0.1, [1.0] * 5)
    expect(Part(answer, NAMES, 0)(*case), plan(*case)[0], wrong={
        "one acceptance for every possible draft, len(verify_seconds) - 1 of them, also where no round came: 0":
            plan(*case)[0][:2], "as before: one acceptance for every possible draft": plan(*case)[0][:3],
        "one acceptance too many: verify_seconds[g] is the time for g drafts, so there are len(verify_seconds) - 1":
            [*plan(*case)[0], 0.0]})


def _iid(alphas):
    """Leviathan's formula with the mean of the acceptances."""
    a = sum(alphas) / len(alphas)
    return [sum(a**k for k in range(g + 1)) for g in range(len(alphas) + 1)]


WRONG_TOKENS = {
    "every round gives one token of the target's own, recovered or bonus: begin with 1":
        lambda alphas: _ladder(alphas, start=0.0),
    "you add the acceptances themselves; draft i counts only if all before it were accepted: add the product":
        lambda alphas: [1.0 + sum(alphas[:g]) for g in range(len(alphas) + 1)],
    "that is Leviathan's formula with one mean acceptance; these places differ: multiply their own":
        _iid,
    "you raise one acceptance to the power of its place; multiply those of all places up to it":
        lambda alphas: [1.0 + sum(a**k for k, a in enumerate(alphas[:g], 1)) for g in range(len(alphas) + 1)],
    "that is the chance that all drafts are accepted; add these chances up, from 1":
        lambda alphas: [1.0, *(b - a for a, b in zip(_ladder(alphas), _ladder(alphas)[1:], strict=False))],
    "the tokens for no draft at all, 1, come first": lambda alphas: _ladder(alphas)[1:],
    "one more token for each draft is what you get if all are accepted":
        lambda alphas: [1.0 + g for g in range(len(alphas) + 1)],
}


@ex3.check("tokens of a round: 1 and a sum of products", mistake="1 + α₁ + α₁α₂ + ..., up to the number of drafts")
def _(answer):
    agree(Part(answer, NAMES, 1), lambda *case: plan(*case)[1], CASES, wrong={
        message: (lambda log, d, v, f=f: f(plan(log, d, v)[0])) for message, f in WRONG_TOKENS.items()}, tol=1e-6)


@ex3.check("the ladder is the measured mean", mistake="with drafts of one length the ladder equals the log's own mean")
def _(answer):
    log = LOGS[1]
    got, measured = Part(answer, NAMES, 1)(log, *TIMES)[-1], sum(a + 1 for _, a in log) / len(log)
    if abs(got - measured) > 1e-6:
        raise Failed(f"the rounds of this log gave {measured:.4f} tokens on average, and your ladder says {got:.4f}")


def _best(**change):
    return lambda log, d, v: _plan(log, d, v, **change)[2]


def _first_peak(log, draft, verify):
    """The mistake of stopping where one more draft first brings no gain."""
    tokens, g = _plan(log, draft, verify)[1], 0
    rates = [tokens[g] / (g * draft + verify[g]) for g in range(len(verify))]
    while g + 1 < len(rates) and rates[g + 1] > rates[g]:
        g += 1
    return g


WRONG_BEST = {
    "you take the most tokens; more drafts always give more. What counts is tokens per second":
        lambda log, d, v: _best(rate=lambda t, s: t)(log, d, v),
    "the drafts cost nothing in your count: a round of g drafts takes g · draft_seconds + verify_seconds[g]":
        lambda log, d, v: _best(seconds=lambda g: v[g])(log, d, v),
    "you count one draft pass; g drafts are g passes": lambda log, d, v: _best(seconds=lambda g: d + v[g])(log, d, v),
    "a pass over g + 1 tokens takes verify_seconds[g], which may be more than verify_seconds[0]":
        lambda log, d, v: _best(seconds=lambda g: g * d + v[0])(log, d, v),
    "verify_seconds[g] is for g drafts: the text's last token and g drafts, g + 1 tokens":
        lambda log, d, v: _best(seconds=lambda g: g * d + v[max(g - 1, 0)])(log, d, v),
    "you stop where one more draft first brings no gain; a pass may get dearer in steps, so look at all lengths":
        _first_peak,
    "no draft at all is a choice, too: 0 where speculation slows decoding down": _best(first=1),
    "you minimise; the best has the most tokens per second": _best(rate=lambda t, s: -t / s),
    "that is the fastest round; what counts is tokens per second": _best(rate=lambda t, s: -s),
    "you are probably one too high: index 0 of the tokens is for no draft":
        lambda log, d, v: _best()(log, d, v) + 1,
}


@ex3.check("the best number of drafts", mistake="the largest tokens[g] / (g · draft_seconds + verify_seconds[g])")
def _(answer):
    steep, flat = [(4, a) for a in (0, 1, 1, 2, 4)], [(4, a) for a in (3, 4, 4, 4, 2)]
    agree(Part(answer, NAMES, 2), lambda *case: plan(*case)[2], [
        (steep, 0.15, [1.0, 1.0, 1.02, 1.04, 1.05]), (steep, 0.05, [1.0, 1.0, 1.3, 1.9, 2.2]),
        (flat, 0.3, [1.0, 1.05, 1.1, 1.9, 2.6]), (flat, 0.02, [1.0, 1.4, 1.5, 1.6, 2.9]),
        (steep, 1.2, [1.0, 1.0, 1.1, 1.1, 1.2]), (flat, 0.6, [1.0, 1.1, 1.1, 1.2, 1.2]),
        (flat, 0.1, [1.0, 1.1, 1.8, 1.8, 1.8]), (flat, 0.1, [1.0, 2.0, 2.0, 2.0, 2.1]),
        (flat, 0.15, [1.0, 1.01, 1.02, 1.03, 1.5, 2.0]), (flat, 0.05, [1.0, 1.01, 1.02, 1.03, 1.1])], wrong=WRONG_BEST)


@ex3.check("plain numbers", mistake="lists of floats, and an int")
def _(answer):
    alphas, tokens, best = answer(LOGS[1], *TIMES)
    for value in (*alphas, *tokens):
        plain_number(value, "an acceptance or a number of tokens")
    plain_int(best, "the best number of drafts")
