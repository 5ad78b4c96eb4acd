"""Exercises of chapter 05: the rule that accepts or recovers one draft, and a whole draft."""

import torch

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.exercises.ch05_shared import Part, grid, plain_ints, plain_number, same_law
from minilm.sampling import draw

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
    residual = (p - q).clamp(min=0)
    total = residual.sum()
    return min(1.0, float(p[token] / q[token])), residual / total if total > 0 else p


def _half(values):
    return torch.tensor(values, dtype=torch.float64)


PAIRS = [                                                   # in eighths: exact in binary
    (_half([4, 4]) / 8, _half([2, 6]) / 8), (_half([5, 1, 2]) / 8, _half([2, 5, 1]) / 8),
    (_half([1, 4, 0, 3]) / 8, _half([3, 1, 2, 2]) / 8), (_half([2, 0, 3, 1, 2]) / 8, _half([1, 1, 1, 4, 1]) / 8),
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


def _without(p, token):
    rest = p.clone()
    rest[token] = 0
    return rest


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
    "max(0, p - q)": lambda p, q, t: _normalised(_without(p, t)),
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
    for p in (_half([4, 3, 1]) / 8, _half([0, 1])):
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
    p, q = _half([0, 4, 0, 4]) / 8, _half([4, 0, 4, 0]) / 8
    for token in (0, 2):
        expect(answer(p, q, token), (0.0, p), wrong={
            "an impossible token, p(x) = 0, is never accepted: no small number in the ratio": (1.0, p)})


@ex1.check("a chosen draft, q one-hot", mistake="then p(x) / q(x) = p(x), and the residual is p without x")
def _(answer):
    p, q = _half([1, 5, 2]) / 8, _half([0, 1, 0])
    expect(answer(p, q, 1), (5 / 8, _half([1, 0, 2]) / 3), wrong={
        "q(x) = 0 of the *other* tokens needs no care: only the drafted token's ratio is asked for":
            lambda: (5 / 8, torch.full_like(p, torch.nan))})


@ex1.check("a plain number, and p's dtype", mistake="the acceptance is a float")
def _(answer):
    p, q = (_half(values) for values in ([0.6, 0.3, 0.1], [0.1, 0.7, 0.2]))
    acceptance, recovered = answer(p, q, 1)
    plain_number(acceptance, "the acceptance")
    expect(recovered, judge_draft(p, q, 1)[1], tol=1e-12, wrong={
        "the residual is cast to float32; keep p's dtype, here float64": judge_draft(p, q, 1)[1].float()})


# --- 05.2 -------------------------------------------------------------------------------------------------------------

ex2 = Exercise(
    "05.2",
    "A whole draft",
    answer="rejection_sample(p, q, drafted, uniforms)",
    task="accepted drafts, then the recovered or the bonus token; p[n+1, V], q[n, V], drafted[n], uniforms[n+1]",
    hints=(
        "Go through the drafts in order. What happens at the first that is not accepted, and what if there is none?",
        "Draft i is accepted if uniforms[i] lies below its acceptance. The first rejected one is replaced by a token "
        "drawn with uniforms[n] from the recovered distribution of its place, and the round ends. If all were "
        "accepted, draw a bonus token from p[n].",
        "for i, token in enumerate(drafted): acceptance, recovered = judge_draft(p[i], q[i], token); if uniforms[i] >= "
        "acceptance, return drafted[:i] and one draw. What is returned after the loop?",
    ),
    points=2,
)


def rejection_sample(p, q, drafted, uniforms):
    """The reference: list of int"""
    return _walk(p, q, drafted, uniforms)


def _walk(p, q, drafted, uniforms, *, passes=lambda u, ratio: u < ratio, recover=None, at=lambda i, n: i,
          with_u=lambda i, n: n, row=lambda i: i, bonus=lambda p, u: [draw(p[-1], u)], end=None):
    """The answer, but for one thing. passes(u, ratio); recover(p, q, token) -> weights[V]; at(i, n): whose uniform
    decides draft i; with_u(i, n): whose draws the recovered token; row(i): of p for draft i; end(i): how many drafts
    stay before the recovered one."""
    n = len(drafted)
    recover = recover or (lambda p, q, token: judge_draft(p, q, token)[1])
    for i, token in enumerate(drafted):
        here = p[row(i)]
        if not passes(uniforms[at(i, n)], float(here[token] / q[i, token])):
            return list(drafted[: i if end is None else end(i)]) + [draw(recover(here, q[i], token),
                                                                        uniforms[with_u(i, n)])]
    return list(drafted) + bonus(p, uniforms[n])


def _goes_on(p, q, drafted, uniforms):
    """The mistake of putting a recovered token in and going on with the drafts after it."""
    out = []
    for i, token in enumerate(drafted):
        rejected = uniforms[i] >= float(p[i, token] / q[i, token])
        out.append(draw(judge_draft(p[i], q[i], token)[1], uniforms[-1]) if rejected else token)
    return out + [draw(p[-1], uniforms[-1])]


def _only_accepted(p, q, drafted, uniforms):
    """The mistake of leaving rejected drafts out and keeping those after them."""
    kept = [x for i, x in enumerate(drafted) if uniforms[i] < float(p[i, x] / q[i, x])]
    return kept + [draw(p[-1], uniforms[-1])]


def _bonus_always(p, q, drafted, uniforms):
    """The mistake of a bonus token after a recovered one."""
    out = _walk(p, q, drafted, uniforms)
    return out if len(out) > len(drafted) else out + [draw(p[-1], uniforms[-1])]


def _given(change):
    return lambda *case: _walk(*case, **change)


WRONG_2 = {
    "the bonus token is missing: when all drafts are accepted, the pass has one more distribution, p[n]; draw from it":
        _given({"bonus": lambda p, u: []}),
    "the bonus token comes from p[n], the last row, what follows the last draft; yours is drawn from p[n-1]":
        _given({"bonus": lambda p, u: [draw(p[-2], u)]}),
    "the bonus token is drawn from p[n] with uniforms[n]; yours is its most probable token":
        _given({"bonus": lambda p, u: [int(p[-1].argmax())]}),
    "the recovered token is drawn from p itself; draw it from what the draft lacks, max(0, p - q)":
        _given({"recover": lambda p, q, t: p}),
    "the residual goes through a softmax; it is made of probabilities: divide by its sum":
        _given({"recover": lambda p, q, t: (p - q).clamp(min=0).softmax(-1)}),
    "the recovered token is drawn from max(0, q - p), what the draft gives too often; it is max(0, p - q)":
        _given({"recover": lambda p, q, t: (q - p).clamp(min=0)}),
    "the recovered token is drawn from p without the rejected one; right for chosen drafts alone: max(0, p - q)":
        _given({"recover": lambda p, q, t: _without(p, t)}),
    "the recovered token is the most probable of the residual; draw it with uniforms[n]": _given(
        {"recover": lambda p, q, t: torch.nn.functional.one_hot((p - q).argmax(), len(p)).double()}),
    "the same uniform decides every draft: uniforms[i] decides draft i": _given({"at": lambda i, n: 0}),
    "the uniforms are shifted: uniforms[i] decides draft i, the last draws the last token":
        _given({"at": lambda i, n: i + 1}),
    "the uniform that rejected the draft also draws the recovered token: it is large, or it would not have rejected; "
    "use uniforms[n], which nobody has looked at": _given({"with_u": lambda i, n: i}),
    "the recovered token is drawn with the next draft's uniform; uniforms[n] draws it":
        _given({"with_u": lambda i, n: i + 1}),
    "row i of p judges draft i: p[0] is what the target says where the first draft stands": _given(
        {"row": lambda i: i + 1}),
    "a rejected draft goes; yours stays, with the recovered token after it": _given({"end": lambda i: i + 1}),
    "after a rejection nothing may follow the recovered token: the later drafts were made after a token that is gone":
        _goes_on,
    "you drop the rejected draft and keep those after it: they were made after a token that is gone": _only_accepted,
    "a bonus token is for a round in which all were accepted; after a recovered token the round ends": _bonus_always,
    "the recovered token is missing: the rejecting pass knows what to put in the draft's place":
        lambda p, q, d, u: (lambda out: out if len(out) > len(d) else out[:-1])(_walk(p, q, d, u)),
    "accept where the uniform lies *below* p/q, so that a draft passes with probability p/q":
        _given({"passes": lambda u, ratio: u > ratio}),
    "no chance is left: a draft with p < q is accepted with probability p/q, so compare the uniform with it":
        _given({"passes": lambda u, ratio: ratio >= 1}),
    "only the new token comes back; return the accepted drafts before it, too":
        lambda p, q, d, u: _walk(p, q, d, u)[-1:],
}

Q2 = torch.stack([_half([2, 5, 1]) / 8, _half([4, 2, 2]) / 8])
P2 = torch.stack([_half([5, 1, 2]) / 8, _half([1, 4, 3]) / 8, _half([2, 2, 4]) / 8])

Q3, P3 = torch.cat([Q2, _half([[1, 6, 1]]) / 8]), torch.cat([P2[:2], _half([[3, 1, 4], [4, 1, 3]]) / 8])


@ex2.check("all accepted: the drafts and a bonus token", mistake="after the loop: drafted, and a draw from p[n]")
def _(answer):
    agree(answer, rejection_sample, [
        (P2[:2], Q2[:1], [1], [0.1, 0.15]), (P2[:2], Q2[:1], [0], [0.9, 0.3]),
        (P2[1:], Q2[1:], [1], [0.2, 0.9]), (P2, Q2, [0, 1], [0.4, 0.9, 0.1]),
        (P2, Q2, [2, 2], [0.7, 0.4, 0.3]), (P2, Q2, [0, 0], [0.9, 0.2, 0.6])], wrong=WRONG_2)


@ex2.check("the first rejection ends the round", mistake="drafts before it, one recovered token, nothing after it")
def _(answer):
    agree(answer, rejection_sample, [
        (P2[:2], Q2[:1], [1], [0.9, 0.7]), (P2[:2], Q2[:1], [1], [0.3, 0.8]), (P2[:2], Q2[:1], [1], [0.3, 0.73]),
        (P2, Q2, [1, 1], [0.4, 0.5, 0.6]),
        (P2, Q2, [0, 0], [0.1, 0.6, 0.9]), (P2, Q2, [0, 0], [0.1, 0.9, 0.1]), (P2, Q2, [1, 0], [0.1, 0.9, 0.5]),
        (P2, Q2, [1, 0], [0.6, 0.1, 0.95]), (P3, Q3, [1, 0, 2], [0.5, 0.8, 0.1, 0.3]),
        (P3, Q3, [0, 0, 2], [0.9, 0.35, 0.9, 0.1]), (P3, Q3, [0, 0, 1], [0.5, 0.1, 0.7, 0.95])], wrong=WRONG_2)


@ex2.check("u = 0 lets no impossible token through", mistake="accept where u < p/q, not u <= p/q")
def _(answer):
    p, q = torch.stack([_half([0, 4, 4]) / 8, _half([0, 8, 0]) / 8]), _half([[4, 2, 2]]) / 8
    expect(answer(p, q, [0], [0.0, 0.7]), [2], wrong={
        "u = 0 <= 0 / q accepts a token that the target never says; a uniform may be exactly 0, so accept where "
        "u < p/q": [0, 1]})
    expect(answer(p, q, [0], [0.5, 0.0]), [1], wrong={
        "u = 0 draws a token of probability 0; `draw` takes the first token whose cumulative sum *exceeds* u": [0]})
    expect(answer(p, q, [1], [0.9, 0.0]), [1, 1], wrong={
        "u = 0 draws a token of probability 0; `draw` takes the first token whose cumulative sum *exceeds* u": [1, 0]})


@ex2.check("p = q accepts everything", mistake="p/q is 1 and every uniform lies below it")
def _(answer):
    p = torch.stack([Q2[0], Q2[1], P2[0]])
    expect(answer(p, Q2, [1, 0], [0.999, 0.999, 0.1]), [1, 0, 0])


@ex2.check("plain ints", mistake="return a list of ints")
def _(answer):
    for uniforms in ([0.1, 0.1, 0.6], [0.9, 0.1, 0.6]):
        plain_ints(answer(P2, Q2, [1, 0], uniforms), "tokens")


def _law(rule, p, q, cells):
    """{(first, second token): share} over all drafts and all uniforms; short rounds are continued by the target."""
    law, V = {}, p.shape[-1]
    for token in range(V):
        weight = float(q[0, token]) / cells**2
        for uniforms in grid(cells, 2) if weight else ():
            out = rule(p, q, [token], list(uniforms))
            for second, share in [(out[1], 1.0)] if len(out) > 1 else enumerate(p[1].tolist()):
                law[(out[0], second)] = law.get((out[0], second), 0.0) + weight * share
    return law


@ex2.check("the law is the target's, exactly", mistake="over all drafts and all chances, the tokens must come as often "
           "as the target says them: draft by draft the rule is wrong somewhere")
def _(answer):
    for first, second, q, cells in [([6, 2, 4], [3, 3, 6], [3, 6, 3], 12), ([0, 6, 6], [12, 0, 0], [6, 3, 3], 4)]:
        p = _half([first, second]) / 12
        want = {(a, b): float(p[0, a] * p[1, b]) for a in range(3) for b in range(3)}
        same_law(_law(answer, p, _half([q]) / 12, cells), want, "")
