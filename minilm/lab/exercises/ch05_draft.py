"""Exercises of chapter 05: the rule for a whole draft."""

import torch

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.exercises.ch05_shared import float64, grid, plain_ints, residual, same_law, without
from minilm.sampling import draw

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
    recover = recover or (lambda p, q, token: residual(p, q))
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
        out.append(draw(residual(p[i], q[i]), uniforms[-1]) if rejected else token)
    return out + [draw(p[-1], uniforms[-1])]


def _cumulative(p, q, drafted, uniforms):
    """The mistake of judging draft i by the product of the acceptances up to it."""
    reach = 1.0
    for i, token in enumerate(drafted):
        reach *= min(1.0, float(p[i, token] / q[i, token]))
        if uniforms[i] >= reach:
            return list(drafted[:i]) + [draw(residual(p[i], q[i]), uniforms[-1])]
    return list(drafted) + [draw(p[-1], uniforms[-1])]


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
        _given({"recover": lambda p, q, t: without(p, t)}),
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
    "draft i is judged by its own p/q; you multiply the acceptances of the drafts before it in, which were decided "
    "already": _cumulative,
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

Q2 = torch.stack([float64([2, 5, 1]) / 8, float64([4, 2, 2]) / 8])
P2 = torch.stack([float64([5, 1, 2]) / 8, float64([1, 4, 3]) / 8, float64([2, 2, 4]) / 8])

Q3, P3 = torch.cat([Q2, float64([[1, 6, 1]]) / 8]), torch.cat([P2[:2], float64([[3, 1, 4], [4, 1, 3]]) / 8])


@ex2.check("all accepted: the drafts and a bonus token", mistake="after the loop: drafted, and a draw from p[n]")
def _(answer):
    agree(answer, rejection_sample, [
        (P2[:2], Q2[:1], [1], [0.1, 0.15]), (P2[:2], Q2[:1], [0], [0.9, 0.3]),
        (P2[1:], Q2[1:], [1], [0.2, 0.9]), (P2, Q2, [0, 1], [0.4, 0.9, 0.1]),
        (P2, Q2, [1, 2], [0.1, 0.7, 0.3]), (P2, Q2, [1, 0], [0.15, 0.2, 0.8]), (P2, Q2, [2, 2], [0.7, 0.4, 0.3]),
        (P2, Q2, [0, 0], [0.9, 0.2, 0.6])], wrong=WRONG_2)


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
    p, q = torch.stack([float64([0, 4, 4]) / 8, float64([0, 8, 0]) / 8]), float64([[4, 2, 2]]) / 8
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
        p = float64([first, second]) / 12
        want = {(a, b): float(p[0, a] * p[1, b]) for a in range(3) for b in range(3)}
        same_law(_law(answer, p, float64([q]) / 12, cells), want, "")
