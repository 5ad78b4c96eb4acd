"""Exercises of chapter 07: one Jacobi step, and what of it is certain."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import plain_ints
from minilm.lab.expect import Failed
from minilm.lab.values import show

# --- 07.1 -------------------------------------------------------------------------------------------------------------

ex1 = Exercise(
    "07.1",
    "One Jacobi step",
    answer="jacobi_step(best, last, guess)",
    task="(tokens that are certain now, the next guess for the rest), from one call of best",
    hints=(
        "The first token of the renewed guess was named after the text alone. Could it ever change again? And the "
        "second, if the first had been guessed rightly?",
        "renewed = best([last, *guess[:-1]]). Count the places from the left where guess and renewed agree, up to the "
        "first difference; the renewed token at that place was named from right tokens, too.",
        "right = 0; while right < len(guess) and guess[right] == renewed[right]: right += 1. Certain are "
        "renewed[: right + 1], the next guess is renewed[right + 1 :].",
    ),
)


def jacobi_step(best, last, guess):
    """The reference: (list of int, list of int)"""
    return _step(best, last, guess)


def _leading(guess, renewed):
    """How many places agree, from the left, up to the first difference."""
    right = 0
    while right < min(len(guess), len(renewed)) and guess[right] == renewed[right]:
        right += 1
    return right


def _step(best, last, guess, *, feed=lambda last, guess: [last, *guess[:-1]], count=lambda g, r: _leading(g, r) + 1,
          certain=lambda g, r, n: r[:n], rest=lambda g, r, n: r[n:]):
    """The answer, but for one thing. count(guess, renewed): how many are certain."""
    renewed = best(feed(last, guess))
    n = count(guess, renewed)
    return certain(guess, renewed, n), rest(guess, renewed, n)


def _one_by_one(best, last, guess):
    text = [last]
    for _ in guess:
        text.append(best(text)[-1])
    return text[1:], []


def _given(**change):
    return lambda *case: _step(*case, **change)


WRONG_1 = {
    "you feed the guess alone: the token at place i is named after place i - 1, so feed [last, *guess[:-1]]":
        _given(feed=lambda last, guess: guess),
    "you feed the last guessed token, too: what it leads to lies outside the block; m tokens in, m renewed":
        _given(feed=lambda last, guess: [last, *guess]),
    "the guesses that were right are certain, and so is the token after them: it was named from right tokens alone":
        _given(count=_leading),
    "one too many is called certain: what follows the first difference was named from a wrong token":
        _given(count=lambda g, r: _leading(g, r) + 2),
    "one token a step is what plain decoding gives: a right guess makes the token after it certain, too":
        _given(count=lambda g, r: 1),
    "stop at the first difference: a token that stayed the same after a wrong one is right by chance at best":
        _given(count=lambda g, r: sum(a == b for a, b in zip(g, r, strict=False)) + 1),
    "all renewed tokens are called certain; those after the first difference were named from a wrong guess":
        _given(count=lambda g, r: len(g)),
    "you wait until the whole guess stands still; its beginning is certain long before":
        _given(count=lambda g, r: len(g) if g == r else 0),
    "the certain tokens are the renewed ones; the last of yours is still the old guess":
        _given(certain=lambda g, r, n: g[:n]),
    "the next guess is the old one again; it should be the renewed one": _given(rest=lambda g, r, n: g[n:]),
    "the next guess still holds the certain tokens; it is for the places after them": _given(
        rest=lambda g, r, n: r),
    "the next guess begins one place too early": _given(rest=lambda g, r, n: r[n - 1 :]),
    "that is the finished text, token after token; a step asks the model once, for all places": _one_by_one,
}


def sum_so_far(tokens):
    """A toy model: after each token, the last digit of the sum of all up to it."""
    return [sum(tokens[: i + 1]) % 10 for i in range(len(tokens))]


def twice_plus_one(tokens):
    """Another, that looks at the last token alone."""
    return [(2 * token + 1) % 10 for token in tokens]


STEPS = [(sum_so_far, 1, guess) for guess in (
    [5], [1], [1, 2], [1, 5], [5, 2], [1, 2, 4], [1, 2, 9], [1, 2, 9, 9], [1, 9, 4, 8], [6, 2, 4, 8, 6],
    [1, 2, 4, 8, 6, 2], [1, 2, 4, 3, 6, 2])] + [(twice_plus_one, 0, guess) for guess in (
        [9, 9, 9, 9], [1, 4, 9, 9], [1, 3, 4, 9, 9], [1, 3, 7, 5, 1])]


@ex1.check("what is certain, and the next guess", mistake="renewed up to and with the first difference is certain; the "
           "rest of it is the next guess")
def _(answer):
    agree(answer, jacobi_step, STEPS, wrong=WRONG_1)


@ex1.check("one call of the model", mistake="best names a token after each token it is given: one call is enough")
def _(answer):
    calls = []

    def counting(tokens):
        calls.append(list(tokens))
        return sum_so_far(tokens)

    answer(counting, 1, [1, 2, 9, 9])
    if len(calls) != 1:
        raise Failed(f"you call the model {len(calls)} times; best names a token after each token it is given, so one "
                     "call is enough")
    if calls[0] != [1, 1, 2, 9]:
        raise Failed(f"you feed {calls[0]}; the text's last token and the guess but its last one are [1, 1, 2, 9]")


@ex1.check("plain ints", mistake="two lists of ints")
def _(answer):
    certain, rest = answer(sum_so_far, 1, [1, 9, 4, 8])
    plain_ints(certain, "the certain tokens")
    plain_ints(rest, "guesses")


@ex1.check("m steps at most, and the greedy text", mistake="each step makes one token certain at least")
def _(answer):
    for best, last, guess in STEPS:
        text, left = [], list(guess)
        for _ in guess:
            if left:
                certain, left = answer(best, [last, *text][-1] if best is twice_plus_one else sum([last, *text]), left)
                text, left = [*text, *certain], list(left)
        want = _one_by_one(best, last, guess)[0]
        if left or text != want:
            raise Failed(f"after {len(guess)} steps from {show(guess)} the text is {show(text)}, and {show(left)} is "
                         f"left; it should be {show(want)}, and nothing left")
