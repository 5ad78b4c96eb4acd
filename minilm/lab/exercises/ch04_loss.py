"""Exercises of chapter 04: the loss of a text."""

from difflib import SequenceMatcher

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.expect import Failed
from minilm.lab.values import kind

ex3 = Exercise(
    "04.3",
    "The textual loss",
    answer="textual_loss(ours, full)",
    task="1 - F1 of the longest common subsequence of two token lists: 0 same, 1 nothing in common",
    hints=(
        "How much of a text survives in another, if words may be missing in between but not change places?",
        "Longest common subsequence: a table over all pairs of prefixes. Then 2 · LCS / (both lengths together) is F1.",
        "table[i][j] = table[i-1][j-1] + 1 if ours[i-1] == full[j-1] else max(table[i-1][j], table[i][j-1])",
    ),
)


def textual_loss(ours, full):
    """The reference: 1 - ROUGE-L. Two empty texts are the same."""
    return 1 - _f1(_lcs(ours, full), ours, full)


def _lcs(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if x == y else max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


def _f1(common, a, b):
    return 2 * common / (len(a) + len(b)) if a or b else 1.0


def _substring(a, b):
    return max((n for i in range(len(a)) for n in range(len(a) - i + 1)
                if any(b[j : j + n] == a[i : i + n] for j in range(len(b)))), default=0)


def _bag(a, b):
    return sum(min(a.count(x), b.count(x)) for x in set(a))


def _prefix(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _greedy(a, b):
    found, start = 0, 0
    for x in a:
        if x in b[start:]:
            found, start = found + 1, b.index(x, start) + 1
    return found


def _table(a, b, on_match, *, aliased=False, one=1):
    """A length by a table with a mistake. on_match(diagonal, up, left); one: -1 for a table without its empty edges."""
    rows, columns = len(a) + max(one, 0), len(b) + max(one, 0)
    table = [[0] * columns] * rows if aliased else [[0] * columns for _ in range(rows)]
    for i, x in enumerate(a, max(one, 0)):
        for j, y in enumerate(b, max(one, 0)):
            up, left = table[i - 1][j], table[i][j - 1]
            table[i][j] = on_match(table[i - 1][j - 1], up, left) if x == y else max(up, left)
    return table[-1][-1]


def _difflib(a, b):
    return sum(block.size for block in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks())


def _loss(common):
    return lambda a, b: 1 - _f1(common(a, b), a, b)


WRONG_3 = {
    "that is ROUGE-L itself, how alike they are; the loss is 1 minus it": lambda a, b: _f1(_lcs(a, b), a, b),
    "you are probably dividing by the length of `ours` alone (precision); F1 counts both lengths":
        lambda a, b: 1 - _lcs(a, b) / len(a),
    "you are probably dividing by the length of `full` alone (recall); F1 counts both lengths":
        lambda a, b: 1 - _lcs(a, b) / len(b),
    "you are probably dividing by the longer length; F1 is 2 · LCS / (both lengths together)":
        lambda a, b: 1 - _lcs(a, b) / max(len(a), len(b)),
    "the factor 2 is missing: F1 is 2 · LCS / (both lengths together)": lambda a, b: 1 - _lcs(a, b) / (len(a) + len(b)),
    "that is the longest common piece without gaps; a subsequence may skip tokens":
        lambda a, b: 1 - _f1(_substring(a, b), a, b),
    "you are counting common tokens in any order; a subsequence keeps the order":
        lambda a, b: 1 - _f1(_bag(a, b), a, b),
    "you compare position by position; one inserted token would spoil all that follows":
        lambda a, b: 1 - _f1(sum(x == y for x, y in zip(a, b, strict=False)), a, b),
    "you stop at the first difference; what agrees later counts, too": lambda a, b: 1 - _f1(_prefix(a, b), a, b),
    "you take the first match each time, which can spoil later ones: fill the table": (
        lambda a, b: 1 - _f1(_greedy(a, b), a, b)),
    "a match pairs two tokens once: 1 + the diagonal, the two prefixes without them; don't take the largest neighbour":
        _loss(lambda a, b: _table(a, b, lambda diagonal, up, left: 1 + max(diagonal, up, left))),
    "the diagonal of the row above has been overwritten: either [[0] * n] * m, which is one row m times, or a single "
    "row that doesn't keep the old value": _loss(lambda a, b: _table(a, b, lambda d, up, left: d + 1, aliased=True)),
    "the table needs a row and a column of zeros for the empty prefixes: without them index -1 reads the other end":
        _loss(lambda a, b: _table(a, b, lambda d, up, left: d + 1, one=0)),
    "the difflib module finds long blocks first, which is not the longest common subsequence: fill the table":
        _loss(_difflib),
    "the loop ends one too early: the last token of both is never compared": _loss(lambda a, b: _lcs(a[:-1], b[:-1])),
    "the loop ends one too early: the last token of `ours` is never compared": _loss(lambda a, b: _lcs(a[:-1], b)),
    "the loop ends one too early: the last token of `full` is never compared": _loss(lambda a, b: _lcs(a, b[:-1])),
    "the loop begins one too late: the first token of both is never compared": _loss(lambda a, b: _lcs(a[1:], b[1:])),
    "the loop begins one too late: the first token of `ours` is never compared": _loss(lambda a, b: _lcs(a[1:], b)),
    "the loop begins one too late: the first token of `full` is never compared": _loss(lambda a, b: _lcs(a, b[1:])),
    "that is the length of the common subsequence; the loss is 1 - F1": lambda a, b: _lcs(a, b),
}


@ex3.check("is 1 minus the F1 of the longest common subsequence", mistake="take [1, 2, 3, 4] and [1, 3, 5] by hand")
def _(answer):
    agree(answer, textual_loss, [([5], [5, 5]), ([5, 5], [5]), ([1, 2, 3, 4], [1, 3, 5]), ([2, 0, 2], [1, 0, 4, 2]),
                                 ([1, 2, 3, 4, 5], [6, 1, 3, 5]), ([6, 1, 2, 3, 7], [1, 8, 3, 9]),
                                 ([1, 2, 3], [2, 3, 1, 4, 5]), ([9, 1, 2, 3], [1, 2, 3, 9, 8]),
                                 ([1, 2, 3, 4, 5, 6, 7], [1, 8, 3, 4, 9, 6, 2]),
                                 ([1, 2, 3, 4, 5, 6], [0, 1, 2, 7, 4, 5, 6, 8])],
          wrong=WRONG_3)


@ex3.check("returns a plain number", mistake="the loss is a float")
def _(answer):
    got = answer([1, 2, 3, 4], [1, 3, 5])
    if not isinstance(got, (int, float)):
        raise Failed(f"the loss is a float; yours is {kind(got)}: .item() takes the number out")


@ex3.check("0 for the same text, 1 for another", mistake="the loss lies in [0, 1]")
def _(answer):
    agree(answer, textual_loss, [([5, 6, 7], [5, 6, 7]), ([5, 6], [7, 8, 9]), ([4], [4])], wrong=WRONG_3)


@ex3.check("an empty text has nothing in common, but with another empty one", mistake="mind the lengths 0")
def _(answer):
    agree(answer, textual_loss, [([], [1, 2]), ([1], [])])
    expect(answer([], []), 0.0, wrong={"two empty texts are the same: their loss is 0": 1.0})
