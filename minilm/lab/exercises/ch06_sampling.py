"""Exercises of chapter 06: the rule that samples from a tree."""

import torch

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.exercises.ch05_shared import grid, plain_ints, same_law
from minilm.sampling import draw

# --- 06.4 -------------------------------------------------------------------------------------------------------------

ex4 = Exercise(
    "06.4",
    "Sampling from a tree",
    answer="sample_tree(p, tokens, parents, uniforms)",
    task="indices of the accepted nodes, then one token drawn: siblings in turn, a rejected one zeroed out of p",
    hints=(
        "The first sibling has p = 0.5 and was rejected. How likely is the second, with p = 0.3, *now*?",
        "0.3 of the 0.5 that is left: set p of a rejected token to 0, and divide by what remains. If no child is left, "
        "draw the last token from the rest. If one is accepted, go on from its own row.",
        "p_here = p[node + 1].clone(); for each child in order: share = p_here[token] / p_here.sum(); accept if "
        "uniforms[child] < share, else p_here[token] = 0. for ... else: return path + [draw(p_here, uniforms[-1])].",
    ),
    points=2,
)


def sample_tree(p, tokens, parents, uniforms):
    """The reference: list of int"""
    return _descend(p, tokens, parents, uniforms)


def _descend(p, tokens, parents, uniforms, *, share=lambda here, token: float(here[token] / here.sum()), zero=True,
             passes=lambda u, s: u < s, which=lambda child, depth: child, row=lambda node: node + 1, tries=None,
             rest=lambda here, full: here, kept=lambda child: child):
    """The answer, but for one thing. share(p here, token); which(child, depth): the uniform asked; row(node): of p;
    tries: how many siblings are tried; rest(p here, p of the node): what the last token is drawn from."""
    node, path, depth = -1, [], 0
    while True:
        full = p[row(node)].clone()
        here = full.clone()
        for child in [i for i, parent in enumerate(parents) if parent == node][:tries]:
            if passes(uniforms[which(child, depth)], share(here, tokens[child])):
                node, depth = child, depth + 1
                path.append(kept(child))
                break
            if zero:
                here[tokens[child]] = 0.0
        else:
            return [*path, draw(rest(here, full), uniforms[-1])]


def _given(**change):
    return lambda *case: _descend(*case, **change)


def _last_by(p, tokens, parents, uniforms):
    """The mistake of the next uniform in the row for the last token."""
    *path, _ = _descend(p, tokens, parents, uniforms)
    return _descend(p, tokens, parents, [*uniforms[:-1], uniforms[len(path)]])


def _remembers(p, tokens, parents, uniforms):
    """The mistake of keeping rejected tokens at weight 0 further down."""
    left, node, path = p.clone(), -1, []
    while True:
        for child in [i for i, parent in enumerate(parents) if parent == node]:
            here = left[node + 1]
            if uniforms[child] < float(here[tokens[child]] / here.sum()):
                node = child
                path.append(child)
                break
            left[:, tokens[child]] = 0.0
        else:
            return [*path, draw(left[node + 1], uniforms[-1])]


WRONG_4 = {
    "after a rejected sibling the rest must be made to sum to 1 again: the next one's share is p(x) / what is left":
        _given(share=lambda here, token: float(here[token])),
    "a rejected sibling must be zeroed: it can't be the token any more, and the others share what it leaves":
        _given(zero=False),
    "the last token is drawn from p as it was; the rejected siblings must not come back: draw from what is left":
        _given(rest=lambda here, full: full),
    "the same uniform decides all siblings: uniforms[i] decides node i": _given(which=lambda child, depth: 0),
    "one uniform for each level: siblings would share it; uniforms[i] decides node i":
        _given(which=lambda child, depth: depth),
    "the last token is drawn with uniforms[-1], which decides no node": lambda *c: _last_by(*c),
    "a token rejected among one node's children may well come later: each node begins with its whole row of p":
        lambda *c: _remembers(*c),
    "row i + 1 of p is what the target says after node i, row 0 after the text": _given(row=lambda node: max(node, 0)),
    "accept where the uniform lies *below* the share": _given(passes=lambda u, s: u > s),
    "only the first child is tried: after its rejection comes its sibling": _given(tries=1),
    "no chance is left: a node of share 0.4 is accepted in 4 of 10 cases": _given(passes=lambda u, s: s >= 0.5),
    "the last token is the most probable of the rest; draw it with uniforms[-1]":
        _given(rest=lambda here, full: torch.nn.functional.one_hot(here.argmax(), len(here)).double()),
    "the last token is missing: where no child is accepted, draw one from the rest": lambda *c: _descend(*c)[:-1],
    "indices of the accepted nodes; yours are their tokens": lambda p, t, q, u: _descend(
        p, t, q, u, kept=lambda child: t[child]),
}


def _rows(*rows):
    return torch.tensor(rows, dtype=torch.float64) / 8


P4 = _rows([4, 2, 1, 1], [1, 4, 2, 1], [2, 2, 2, 2], [1, 1, 5, 1], [3, 1, 2, 2], [2, 1, 1, 4])
CASES_4 = [
    (P4[:2], [0], [-1], [0.3, 0.7]), (P4[:2], [0], [-1], [0.7, 0.3]), (P4[:3], [0, 1], [-1, -1], [0.6, 0.4, 0.6]),
    (P4[:3], [0, 1], [-1, -1], [0.6, 0.8, 0.1]), (P4[:3], [0, 1], [-1, -1], [0.9, 0.55, 0.9]),
    (P4[:3], [1, 0], [-1, -1], [0.3, 0.6, 0.9]), (P4[:3], [0, 1], [-1, 0], [0.2, 0.3, 0.9]),
    (P4[:4], [0, 1, 2], [-1, -1, -1], [0.6, 0.7, 0.45, 0.3]), (P4[:4], [0, 1, 2], [-1, -1, 0], [0.2, 0.9, 0.24, 0.8]),
    (P4[:5], [0, 1, 2, 1], [-1, -1, 0, 0], [0.4, 0.1, 0.9, 0.6, 0.5]),
    (P4, [0, 1, 2, 1, 3], [-1, -1, 1, 1, 0], [0.7, 0.4, 0.3, 0.2, 0.1, 0.6]),
    (P4, [0, 1, 2, 1, 3], [-1, -1, 1, 1, 0], [0.7, 0.45, 0.1, 0.9, 0.9, 0.95]),
]


@ex4.check("siblings in turn, down the tree", mistake="accept by the share of what is left, else zero it")
def _(answer):
    agree(answer, sample_tree, CASES_4, wrong=WRONG_4)


@ex4.check("u = 0 lets no impossible token through", mistake="accept where u < share, not u <= share")
def _(answer):
    p = _rows([0, 5, 3], [8, 0, 0])
    expect(answer(p, [0], [-1], [0.0, 0.1]), [1], wrong={
        "u = 0 <= 0 accepts a token that the target never says: accept where u < share": [0, 0]})


@ex4.check("all siblings rejected but the sure one", mistake="the last token that is left has a share of 1")
def _(answer):
    p = _rows([3, 5, 0], [8, 0, 0], [0, 0, 8])
    expect(answer(p, [0, 1], [-1, -1], [0.9, 0.999, 0.4]), [1, 2])


@ex4.check("plain ints", mistake="a list of ints")
def _(answer):
    for case in CASES_4[:3]:
        plain_ints(answer(*case), "indices and tokens")


@ex4.check("the law is the target's, exactly", mistake="over all chances the tokens must come as often as the target "
           "says them: somewhere on the way the rule is wrong")
def _(answer):
    p = torch.tensor([[4, 2, 2], [2, 4, 2], [0, 4, 4], [6, 2, 0]], dtype=torch.float64) / 8
    for tokens, parents in [([0, 1], [-1, -1]), ([0, 1], [-1, 0]), ([0, 1, 2], [-1, 0, 0]), ([0, 1, 2], [-1, -1, -1])]:
        n, law, want = len(tokens), {}, {}
        after = {(): 0} | {(tokens[i],): i + 1 for i in range(n) if parents[i] < 0}
        for uniforms in grid(4, n + 1):
            *path, last = answer(p[: n + 1], tokens, parents, list(uniforms))
            text = tuple(tokens[i] for i in path) + (last,)
            law[text[:2]] = law.get(text[:2], 0.0) + 0.25 ** (n + 1)
        for a in range(3):                                  # the first token's law, and the second's where it is asked
            if (a,) in after:
                want |= {(a, b): float(p[0, a] * p[after[(a,)], b]) for b in range(3)}
            else:
                want[(a,)] = float(p[0, a])
        same_law(law, want, "")
