"""Wrong answers to 07.1: one Jacobi step."""

import torch

from mutants import Mutant


def agreeing(guess, renewed):
    for i, (old, new) in enumerate(zip(guess, renewed, strict=False)):
        if old != new:
            return i
    return min(len(guess), len(renewed))


def fed(last, guess):
    return [last, *guess[:-1]]


def right(best, last, guess):
    renewed = best(fed(last, guess))
    n = agreeing(guess, renewed) + 1
    return renewed[:n], renewed[n:]


def guess_alone(best, last, guess):
    renewed = best(guess)
    n = agreeing(guess, renewed) + 1
    return renewed[:n], renewed[n:]


def one_more_fed(best, last, guess):
    renewed = best([last, *guess])
    n = agreeing(guess, renewed) + 1
    return renewed[:n], renewed[n:]


def guesses_alone_are_certain(best, last, guess):
    renewed = best(fed(last, guess))
    n = agreeing(guess, renewed)
    return renewed[:n], renewed[n:]


def one_too_many(best, last, guess):
    renewed = best(fed(last, guess))
    n = agreeing(guess, renewed) + 2
    return renewed[:n], renewed[n:]


def one_a_step(best, last, guess):
    renewed = best(fed(last, guess))
    return renewed[:1], renewed[1:]


def counts_all_that_agree(best, last, guess):
    renewed = best(fed(last, guess))
    n = 1 + [a == b for a, b in zip(guess, renewed, strict=True)].count(True)
    return renewed[:n], renewed[n:]


def all_at_once(best, last, guess):
    return best(fed(last, guess)), []


def waits_for_the_whole(best, last, guess):
    renewed = best(fed(last, guess))
    return (renewed, []) if renewed == guess else ([], renewed)


def certain_from_the_guess(best, last, guess):
    renewed = best(fed(last, guess))
    n = agreeing(guess, renewed) + 1
    return guess[:n], renewed[n:]


def keeps_the_old_guess(best, last, guess):
    n = agreeing(guess, best(fed(last, guess))) + 1
    return best(fed(last, guess))[:n], guess[n:]


def rest_is_everything(best, last, guess):
    renewed = best(fed(last, guess))
    return renewed[: agreeing(guess, renewed) + 1], renewed


def rest_one_early(best, last, guess):
    renewed = best(fed(last, guess))
    n = agreeing(guess, renewed)
    return renewed[: n + 1], renewed[n:]


def token_by_token(best, last, guess):
    text = [last]
    while len(text) <= len(guess):
        text.append(best(text)[-1])
    return text[1:], []


def asks_twice(best, last, guess):
    n = agreeing(guess, best(fed(last, guess))) + 1
    return best(fed(last, guess))[:n], best(fed(last, guess))[n:]


def certain_alone(best, last, guess):
    return right(best, last, guess)[0]


def as_tensors(best, last, guess):
    return tuple(map(torch.tensor, right(best, last, guess)))


def of_tensors(best, last, guess):
    return tuple([torch.tensor(token) for token in part] for part in right(best, last, guess))


def changes_the_guess(best, last, guess):
    renewed = best(fed(last, guess))
    n = agreeing(guess, renewed) + 1
    guess[:] = renewed[n:]
    return renewed[:n], guess


MUTANTS = {
    "07.1": [
        Mutant("guess alone", guess_alone, "you feed the guess alone"),
        Mutant("one more fed", one_more_fed, "you feed the last guessed token, too"),
        Mutant("guesses alone are certain", guesses_alone_are_certain, "and so is the token after them"),
        Mutant("one too many", one_too_many, "one too many is called certain"),
        Mutant("one a step", one_a_step, "one token a step is what plain decoding gives"),
        Mutant("counts all that agree", counts_all_that_agree, "stop at the first difference"),
        Mutant("all at once", all_at_once, "all renewed tokens are called certain"),
        Mutant("waits for the whole", waits_for_the_whole, "you wait until the whole guess stands still"),
        Mutant("certain from the guess", certain_from_the_guess, "the last of yours is still the old guess"),
        Mutant("keeps the old guess", keeps_the_old_guess, "the next guess is the old one again"),
        Mutant("rest is everything", rest_is_everything, "the next guess still holds the certain tokens"),
        Mutant("rest one early", rest_one_early, "the next guess begins one place too early"),
        Mutant("token by token", token_by_token, "a step asks the model once, for all places"),
        Mutant("asks twice", asks_twice, "you call the model 3 times"),
        Mutant("certain alone", certain_alone, "your answer has 1 item; it should have 2"),
        Mutant("tensors for lists", as_tensors, "it should return a list"),
        Mutant("tensors for ints", of_tensors, "the certain tokens are plain ints"),
        Mutant("changes the guess", changes_the_guess, "changes its input guess in place"),
    ],
}
