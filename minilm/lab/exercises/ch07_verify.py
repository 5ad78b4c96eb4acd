"""Exercises of chapter 07: the choice among the n-grams that a pass verified."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import plain_int

# --- 07.4 -------------------------------------------------------------------------------------------------------------

ex4 = Exercise(
    "07.4",
    "Verifying n-grams",
    answer="verify_ngrams(guesses, first, best)",
    task="(index of the guess that is right for longest, how many of its tokens are right, the token after them)",
    hints=(
        "What did the model itself want after the text? And after a guess's first token, if that was right?",
        "Guess g's token 0 is judged by `first`, its token k by best[g][k - 1], up to the first that differs. The "
        "token that the model wants there comes free.",
        "wanted = [first, *best[g]] has one item more than guesses[g]; right = 0; while right < len(guess) and "
        "guess[right] == wanted[right]: right += 1; keep (g, right, wanted[right]) if right is larger than the best.",
    ),
)


def verify_ngrams(guesses, first, best):
    """The reference: (int, int, int)"""
    return _verify(guesses, first, best)


def _run(guess, wanted):
    right = 0
    while right < len(guess) and guess[right] == wanted[right]:
        right += 1
    return right


def _verify(guesses, first, best, *, run=_run, wanted=lambda first, row: [first, *row], better=lambda new, old:
            new > old, token=lambda first, row, right: [first, *row][right], none=-1, row=lambda best, g: best[g]):
    """The answer, but for one thing. run(guess, wanted): how many are right; better(new, old): which is taken."""
    found = (none, 0, first)
    for g, guess in enumerate(guesses):
        right = run(guess, wanted(first, row(best, g)))
        if right and better(right, found[1]):
            found = (g, right, token(first, row(best, g), right))
    return found


def _but(**change):
    return lambda *case: _verify(*case, **change)


def _first_good(guesses, first, best):
    for g, guess in enumerate(guesses):
        right = _run(guess, [first, *best[g]])
        if right:
            return g, right, [first, *best[g]][right]
    return -1, 0, first


WRONG_4 = {
    "a guess's token is judged by what the model wanted *before* it: token 0 by `first`, token k by best[g][k - 1]":
        _but(wanted=lambda first, row: [*row, -1]),
    "you take the first guess that begins rightly; a later one may be right for longer": _first_good,
    "only guesses that are right to the end are taken; a right beginning is worth having, too": _but(
        run=lambda guess, wanted: len(guess) if _run(guess, wanted) == len(guess) else 0),
    "a guess may be right to its very end; yours never looks at its last token": _but(
        run=lambda guess, wanted: min(_run(guess, wanted), len(guess) - 1)),
    "stop at the first wrong token: what agrees after it was judged after a wrong text": _but(
        run=lambda guess, wanted: sum(a == b for a, b in zip(guess, wanted, strict=False))),
    "of guesses that are right for equally long take the first; yours is the last": _but(
        better=lambda new, old: new >= old),
    "you take the guess that is right for shortest": _but(better=lambda new, old: new < (old or 10**6)),
    "the token after them is what the model wanted there; you give the end of the row, as if all were right": _but(
        token=lambda first, row, right: row[-1]),
    "the token after them is what the model wanted after the last right one; yours was wanted before it": _but(
        token=lambda first, row, right: [first, *row][right - 1]),
    "the token after them is what the model wanted after the last right one; yours is one too late": _but(
        token=lambda first, row, right: [*row, row[-1]][right]),
    "the token after them follows the right ones; `first` follows the text alone": _but(
        token=lambda first, row, right: first),
    "where no guess begins rightly none is taken: index -1, 0 right, and `first`": _but(none=0),
    "guess g is judged by its own row, best[g]; yours looks at row 0 for all": _but(row=lambda best, g: best[0]),
    "only the first guess is looked at": lambda guesses, first, best: _verify(guesses[:1], first, best),
    "you count one token only; go on while the guess is right": _but(run=lambda guess, wanted: min(
        _run(guess, wanted), 1)),
    "you count the right tokens with the one after them; it is no guess": lambda *c: (
        _verify(*c)[0], _verify(*c)[1] + 1, _verify(*c)[2]),
}
VERIFIED = [
    ([], 7, []), ([[7]], 7, [[8]]), ([[6]], 7, [[8]]), ([[6], [7]], 7, [[9], [8]]), ([[7, 8]], 7, [[8, 9]]),
    ([[7, 8]], 7, [[5, 9]]), ([[6, 8]], 7, [[8, 9]]), ([[7, 5], [7, 8]], 7, [[8, 4], [8, 9]]),
    ([[7, 5], [7, 6]], 7, [[8, 4], [8, 3]]), ([[6, 8], [5, 9]], 7, [[8, 4], [9, 3]]),
    ([[7, 5, 3, 2]], 7, [[8, 3, 4, 6]]), ([[7, 5, 3], [7, 8, 4], [6, 8, 9]], 7, [[8, 3, 2], [8, 9, 1], [8, 9, 5]]),
    ([[6, 7, 9], [7, 4, 9], [7, 8, 9], [7, 8, 2]], 7, [[7, 9, 4], [8, 9, 1], [8, 9, 6], [8, 9, 3]]),
    ([[7, 8, 4, 5], [7, 8, 9, 3], [7, 8, 9, 2]], 7, [[8, 9, 5, 6], [8, 9, 1, 4], [8, 9, 1, 5]]),
]


@ex4.check("the longest right guess, and the token after it", mistake="up to the first token that the model did not "
           "want; of equals the first guess")
def _(answer):
    agree(answer, verify_ngrams, VERIFIED, wrong=WRONG_4)


@ex4.check("plain ints", mistake="three ints")
def _(answer):
    for case in VERIFIED[:1] + VERIFIED[4:6]:
        for value, what in zip(answer(*case), ("the index", "the number of right tokens", "the token after them"),
                               strict=True):
            plain_int(value, what)
