"""Wrong answers to 07.4: verifying n-grams."""

import numpy
import torch

from mutants import Mutant


def length(guess, wanted):
    n = 0
    for token, want in zip(guess, wanted, strict=False):
        if token != want:
            break
        n += 1
    return n


def right(guesses, first, best):
    lengths = [length(guess, [first, *row]) for guess, row in zip(guesses, best, strict=True)]
    if not any(lengths):
        return -1, 0, first
    g = lengths.index(max(lengths))
    return g, lengths[g], [first, *best[g]][lengths[g]]


def row_after(guesses, first, best):
    lengths = [length(guess, row) for guess, row in zip(guesses, best, strict=True)]
    if not any(lengths):
        return -1, 0, first
    g = lengths.index(max(lengths))
    return g, lengths[g], [first, *best[g]][lengths[g]]


def first_good(guesses, first, best):
    for g, guess in enumerate(guesses):
        if guess[0] == first:
            n = length(guess, [first, *best[g]])
            return g, n, [first, *best[g]][n]
    return -1, 0, first


def whole_alone(guesses, first, best):
    for g, guess in enumerate(guesses):
        if length(guess, [first, *best[g]]) == len(guess):
            return g, len(guess), best[g][-1]
    return -1, 0, first


def counts_all(guesses, first, best):
    lengths = [sum(a == b for a, b in zip(guess, [first, *row], strict=False)) for guess, row in zip(
        guesses, best, strict=True)]
    if not any(lengths):
        return -1, 0, first
    g = lengths.index(max(lengths))
    return g, lengths[g], [first, *best[g]][lengths[g]]


def last_of_equals(guesses, first, best):
    found = -1, 0, first
    for g, guess in enumerate(guesses):
        n = length(guess, [first, *best[g]])
        if n and n >= found[1]:
            found = g, n, [first, *best[g]][n]
    return found


def end_of_the_row(guesses, first, best):
    g, n, token = right(guesses, first, best)
    return g, n, best[g][-1] if n else token


def one_before(guesses, first, best):
    g, n, token = right(guesses, first, best)
    return g, n, [first, *best[g]][n - 1] if n else token


def one_late(guesses, first, best):
    g, n, token = right(guesses, first, best)
    return g, n, best[g][min(n, len(best[g]) - 1)] if n else token


def all_but_the_last(guesses, first, best):
    lengths = [min(length(guess, [first, *row]), len(guess) - 1) for guess, row in zip(guesses, best, strict=True)]
    if not any(lengths):
        return -1, 0, first
    g = lengths.index(max(lengths))
    return g, lengths[g], [first, *best[g]][lengths[g]]


def first_for_all(guesses, first, best):
    g, n, _ = right(guesses, first, best)
    return g, n, first


def zero_for_none(guesses, first, best):
    g, n, token = right(guesses, first, best)
    return max(g, 0), n, token


def row_zero(guesses, first, best):
    return right(guesses, first, [best[0]] * len(guesses)) if guesses else right(guesses, first, best)


def first_guess_alone(guesses, first, best):
    return right(guesses[:1], first, best[:1])


def one_token(guesses, first, best):
    g, n, token = right(guesses, first, best)
    return g, min(n, 1), best[g][0] if n else token


def counts_the_free_one(guesses, first, best):
    g, n, token = right(guesses, first, best)
    return g, n + 1, token


def needs_a_guess(guesses, first, best):
    lengths = [length(guess, [first, *row]) for guess, row in zip(guesses, best, strict=True)]
    g = lengths.index(max(lengths))
    return (g, lengths[g], [first, *best[g]][lengths[g]]) if lengths[g] else (-1, 0, first)


def runs_past_the_end(guesses, first, best):
    found = -1, 0, first
    for g, guess in enumerate(guesses):
        n = 0
        while guess[n] == [first, *best[g]][n]:
            n += 1
        if n > found[1]:
            found = g, n, [first, *best[g]][n]
    return found


def none_for_none(guesses, first, best):
    g, n, token = right(guesses, first, best)
    return (g, n, token) if n else None


def tokens_for_the_number(guesses, first, best):
    g, n, token = right(guesses, first, best)
    return g, guesses[g][:n] if n else [], token


def by_numpy(guesses, first, best):
    return tuple(numpy.int64(value) for value in right(guesses, first, best))


def by_tensors(guesses, first, best):
    g, n, token = right(guesses, first, best)
    return g, n, torch.tensor(token)


MUTANTS = {
    "07.4": [
        Mutant("row after", row_after, "a guess's token is judged by what the model wanted *before* it"),
        Mutant("first good", first_good, "you take the first guess that begins rightly"),
        Mutant("whole alone", whole_alone, "a right beginning is worth having, too"),
        Mutant("counts all", counts_all, "stop at the first wrong token"),
        Mutant("last of equals", last_of_equals, "yours is the last"),
        Mutant("end of the row", end_of_the_row, "you give the end of the row"),
        Mutant("one before", one_before, "yours was wanted before it"),
        Mutant("one late", one_late, "yours is one too late"),
        Mutant("all but the last", all_but_the_last, "yours never looks at its last token"),
        Mutant("first for all", first_for_all, "`first` follows the text alone"),
        Mutant("0 for none", zero_for_none, "where no guess begins rightly none is taken"),
        Mutant("row 0", row_zero, "yours looks at row 0 for all"),
        Mutant("first guess alone", first_guess_alone, "only the first guess is looked at"),
        Mutant("one token", one_token, "you count one token only"),
        Mutant("counts the free one", counts_the_free_one, "it is no guess"),
        Mutant("needs a guess", needs_a_guess, "your code raised ValueError"),
        Mutant("runs past the end", runs_past_the_end, "your code raised IndexError"),
        Mutant("None for none", none_for_none, "your function returns None"),
        Mutant("tokens for the number", tokens_for_the_number, "your function returns a list; it should return an int"),
        Mutant("NumPy for ints", by_numpy, "the index is a plain int"),
        Mutant("a tensor for an int", by_tensors, "the token after them is a plain int"),
    ],
}
