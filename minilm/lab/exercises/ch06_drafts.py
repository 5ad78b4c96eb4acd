"""Exercise 06.1: drafts that come from the text itself."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import plain_ints

ex1 = Exercise(
    "06.1",
    "Prompt lookup",
    answer="lookup(text, num_tokens, ngram)",
    task="up to num_tokens tokens that followed the latest earlier occurrence of the text's end, longest n-gram first",
    hints=(
        "The text ends in `... the small map`. Where did `the small map` stand before, and what came after it? And if "
        "it never did, where did `small map`?",
        "For n = ngram, ngram - 1, ..., 1: compare text[-n:] with text[start : start + n], from the latest start "
        "to 0. The latest start is the one that leaves at least one token after the match.",
        "for start in range(len(text) - n - 1, -1, -1): if it matches, found = text[start + n : start + n + "
        "num_tokens]; return it if it has num_tokens, else remember the longest found so far.",
    ),
)


def lookup(text, num_tokens, ngram):
    """The reference: list of int"""
    return _lookup(text, num_tokens, ngram)


def _lookup(text, num_tokens, ngram, *, sizes=None, starts=lambda last: range(last, -1, -1), skip=0, none=None,
            short_too=False):
    """The answer, but for one thing. sizes(ngram): which n, in order; starts(last): where to look; skip: how far after
    the match the draft begins; short_too: the first match serves, however short."""
    most = min(ngram, len(text) - 1)
    for n in sizes(most) if sizes else range(most, 0, -1):
        best = []
        for start in starts(len(text) - n - 1):
            if text[start : start + n] == text[len(text) - n :]:
                found = text[start + n + skip : start + n + skip + num_tokens]
                if len(found) > len(best):
                    best = found
                if len(best) == num_tokens or (short_too and best):
                    break
        if best:
            return best
    return [] if none is None else none(text)


def _longest_of_all(text, num_tokens, ngram):
    """The mistake of taking the longest draft of all n-grams, not of the longest n-gram found."""
    return max((_lookup(text, num_tokens, n, sizes=lambda most: [most]) for n in range(ngram, 0, -1)), key=len)


def _apart(text, num_tokens, ngram):
    """The mistake of allowing no overlap with the end."""
    for n in range(min(ngram, len(text) - 1), 0, -1):
        found = _lookup(text, num_tokens, n, sizes=lambda most: [most],
                        starts=lambda last, n=n: range(last + 1 - n, -1, -1))
        if found:
            return found
    return []


def _full_only(text, num_tokens, ngram):
    """The mistake of passing over matches with fewer than num_tokens tokens after them."""
    for n in range(min(ngram, len(text) - 1), 0, -1):
        found = _lookup(text, num_tokens, n, sizes=lambda most: [most])
        if len(found) == num_tokens:
            return found
    return []


WRONG_1 = {
    "the end of the text matches itself, and nothing follows it: look for *earlier* occurrences": lambda *c: _lookup(
        *c, starts=lambda last: range(last + 1, -1, -1), short_too=True) if _ends_only(*c) else [],
    "you take the first occurrence; the latest is the better guess": lambda *c: _lookup(*c, starts=lambda last: range(
        last + 1)),
    "a longer n-gram is the better guess, even where fewer tokens follow it: at the first n that is found, draft":
        _longest_of_all,
    "the occurrence may overlap the end of the text, as in 4 4 4 4; it is only not the end itself": _apart,
    "where no occurrence has num_tokens tokens after it, take the one with the most": _full_only,
    "the shortest n-gram first, or the last token alone: begin with `ngram` tokens, the better guess":
        lambda *c: _lookup(*c, sizes=lambda most: range(1, most + 1)),
    "when `ngram` tokens stood nowhere, try one token less, down to one": lambda *c: _lookup(
        *c, sizes=lambda most: [most]),
    "n-grams of one token count, too: n goes down to 1": lambda *c: _lookup(*c, sizes=lambda most: range(most, 1, -1)),
    "the draft is what comes *after* the match; yours begins with the match itself": lambda t, k, n: _itself(t, k, n),
    "one token is skipped: the draft begins right after the match, at start + n": lambda *c: _lookup(*c, skip=1),
    "the draft begins one too early: at start + n, after the match": lambda *c: _lookup(*c, skip=-1),
    "near the end of the text few tokens follow the match: an earlier one with more of them is better":
        lambda *c: _lookup(*c, short_too=True),
    "no earlier occurrence, no draft: return []": lambda *c: _lookup(*c, none=lambda text: text[-1:]),
    "at most num_tokens tokens": lambda t, k, n: _lookup(t, len(t), n),
    "the latest possible start leaves one token after the match, len(text) - n - 1; yours ends one too early":
        lambda *c: _lookup(*c, starts=lambda last: range(last - 1, -1, -1)),
    "the first tokens of the text are never looked at: start goes down to 0": lambda *c: _lookup(
        *c, starts=lambda last: range(last, 0, -1)),
}


def _ends_only(text, num_tokens, ngram):
    return not _lookup(text, num_tokens, ngram)


def _itself(text, num_tokens, ngram):
    for n in range(min(ngram, len(text) - 1), 0, -1):
        for start in range(len(text) - n - 1, -1, -1):
            if text[start : start + n] == text[-n:]:
                return text[start : start + num_tokens]
    return []


@ex1.check("copies what followed the latest longest match", mistake="longest n-gram first, then the latest occurrence")
def _(answer):
    agree(answer, lookup, [
        ([1, 2, 1], 1, 1), ([5, 1, 2, 3, 9, 1], 2, 1), ([1, 2, 3, 1, 4, 5, 1], 2, 1), ([1, 2, 3, 4, 1, 2], 2, 2),
        ([1, 2, 5, 6, 3, 2, 7, 8, 1, 2], 2, 2), ([1, 2, 5, 6, 3, 2, 7, 8, 4, 2], 2, 2), ([4, 3, 2, 7, 8, 6, 2], 2, 3),
        ([1, 2, 3, 9, 8, 1, 2, 3, 7, 6, 4, 2, 3], 2, 2), ([9, 1, 2, 3, 5, 6, 7, 2, 3, 8, 8, 8, 1, 2, 3], 3, 3),
        ([6, 2, 3, 4, 5, 7, 8, 1, 3, 9, 9, 9, 9, 2, 3], 4, 3)], wrong=WRONG_1)


@ex1.check("no match, no draft", mistake="return [] when not even the last token stood in the text before")
def _(answer):
    agree(answer, lookup, [([1, 2, 3], 4, 2), ([7], 3, 2), ([5, 5, 6], 2, 3)], wrong=WRONG_1)


@ex1.check("near the end prefer a match that fills the draft", mistake="the latest with num_tokens after it; if "
           "there is none, the one with the most")
def _(answer):
    agree(answer, lookup, [([4, 4, 4, 4], 2, 1), ([1, 2, 1, 2, 1, 2], 3, 2), ([3, 1, 2, 8, 9, 1, 2, 1], 3, 1),
                           ([1, 2, 1], 5, 1), ([5, 4, 7, 4, 4, 4], 2, 2), ([2, 7, 8, 9, 1, 2, 1, 2], 3, 2)],
          wrong=WRONG_1)


@ex1.check("a list of plain ints", mistake="a slice of the text is a list already")
def _(answer):
    plain_ints(answer([1, 2, 3, 4, 1, 2], 2, 2), "drafts")
