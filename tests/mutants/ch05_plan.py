"""Wrong answers to 05.3: the ladder and the best draft length."""

import itertools

import numpy
import torch

from mutants import Mutant


def alpha_of(log, i):
    came = [a for n, a in log if n >= i and a >= i - 1]
    return sum(a >= i for a in came) / len(came) if came else 0.0


def right(log, draft_seconds, verify_seconds, alpha=alpha_of):
    alphas = [alpha(log, i) for i in range(1, len(verify_seconds))]
    tokens = [1.0]
    for product in itertools.accumulate(alphas, lambda x, y: x * y):
        tokens.append(tokens[-1] + product)
    return alphas, tokens, best_of(tokens, lambda g: g * draft_seconds + verify_seconds[g])


def best_of(tokens, seconds, first=0):
    return max(range(first, len(tokens)), key=lambda g: tokens[g] / seconds(g))


def over_all_rounds(log, d, v):
    return right(log, d, v, lambda log, i: sum(a >= i for _, a in log) / len(log))


def over_long_rounds(log, d, v):
    def alpha(log, i):
        long = [a for n, a in log if n >= i]
        return sum(a >= i for a in long) / len(long) if long else 0.0
    return right(log, d, v, alpha)


def short_rounds_reject(log, d, v):
    def alpha(log, i):
        came = [a for n, a in log if a >= i - 1]
        return sum(a >= i for a in came) / len(came) if came else 0.0
    return right(log, d, v, alpha)


def exactly_i(log, d, v):
    def alpha(log, i):
        came = [a for n, a in log if n >= i and a >= i - 1]
        return sum(a == i for a in came) / len(came) if came else 0.0
    return right(log, d, v, alpha)


def one_rate(log, d, v):
    rate = sum(a for _, a in log) / sum(min(a + 1, n) for n, a in log)
    return right(log, d, v, lambda log, i: rate)


def accepted_over_drafted(log, d, v):
    rate = sum(a for _, a in log) / sum(n for n, _ in log)
    return right(log, d, v, lambda log, i: rate)


def one_late(log, d, v):
    return right(log, d, v, lambda log, i: alpha_of(log, i + 1))


def divides_by_zero(log, d, v):
    def alpha(log, i):
        came = [a for n, a in log if n >= i and a >= i - 1]
        return sum(a >= i for a in came) / len(came)
    return right(log, d, v, alpha)


def stops_where_none_came(log, d, v):
    alphas, tokens, best = right(log, d, v)
    deepest = max(a for _, a in log) + 1
    return alphas[:deepest], tokens[: deepest + 1], best


def no_own_token(log, d, v):
    alphas, tokens, best = right(log, d, v)
    return alphas, [t - 1 for t in tokens], best


def adds_the_rates(log, d, v):
    alphas, _, best = right(log, d, v)
    return alphas, [1 + sum(alphas[:g]) for g in range(len(alphas) + 1)], best


def closed_form(log, d, v):
    alphas, _, best = right(log, d, v)
    a = sum(alphas) / len(alphas)
    return alphas, [(1 - a ** (g + 1)) / (1 - a) for g in range(len(alphas) + 1)], best


def powers(log, d, v):
    alphas, _, best = right(log, d, v)
    return alphas, [1 + sum(a**k for k, a in enumerate(alphas[:g], 1)) for g in range(len(alphas) + 1)], best


def products_alone(log, d, v):
    alphas, _, best = right(log, d, v)
    return alphas, [1.0, *itertools.accumulate(alphas, lambda x, y: x * y)], best


def without_zero_drafts(log, d, v):
    alphas, tokens, best = right(log, d, v)
    return alphas, tokens[1:], best


def most_tokens(log, d, v):
    alphas, tokens, _ = right(log, d, v)
    return alphas, tokens, tokens.index(max(tokens))


def free_drafts(log, d, v):
    alphas, tokens, _ = right(log, d, v)
    return alphas, tokens, best_of(tokens, lambda g: v[g])


def one_draft_pass(log, d, v):
    alphas, tokens, _ = right(log, d, v)
    return alphas, tokens, best_of(tokens, lambda g: d + v[g])


def flat_verification(log, d, v):
    alphas, tokens, _ = right(log, d, v)
    return alphas, tokens, best_of(tokens, lambda g: g * d + v[0])


def verification_of_one_fewer(log, d, v):
    alphas, tokens, _ = right(log, d, v)
    return alphas, tokens, best_of(tokens, lambda g: g * d + v[max(0, g - 1)])


def never_none(log, d, v):
    alphas, tokens, _ = right(log, d, v)
    return alphas, tokens, best_of(tokens, lambda g: g * d + v[g], first=1)


def first_peak(log, d, v):
    alphas, tokens, _ = right(log, d, v)
    speed = [t / (g * d + v[g]) for g, t in enumerate(tokens)]
    return alphas, tokens, next((g for g in range(len(v) - 1) if speed[g + 1] <= speed[g]), len(v) - 1)


def slowest(log, d, v):
    alphas, tokens, _ = right(log, d, v)
    return alphas, tokens, min(range(len(tokens)), key=lambda g: tokens[g] / (g * d + v[g]))


def best_as_float(log, d, v):
    alphas, tokens, best = right(log, d, v)
    return alphas, tokens, float(best)


def best_by_numpy(log, d, v):
    alphas, tokens, best = right(log, d, v)
    return alphas, tokens, numpy.int64(best)


def tokens_as_tensors(log, d, v):
    alphas, tokens, best = right(log, d, v)
    return alphas, [torch.tensor(t, dtype=torch.float64) for t in tokens], best


MUTANTS = {
    "05.3": [
        Mutant("over all rounds", over_all_rounds, "you divide by all rounds; draft i is judged only"),
        Mutant("over long rounds", over_long_rounds, "draft i is judged only"),
        Mutant("short rounds reject", short_rounds_reject, "drafted fewer than i tokens says nothing"),
        Mutant("exactly i", exactly_i, "you count the rounds that accepted exactly i"),
        Mutant("one rate", one_rate, "that is one rate for all places, accepted over judged"),
        Mutant("accepted over drafted", accepted_over_drafted, "that is accepted over drafted"),
        Mutant("one late", one_late, "you are one place late"),
        Mutant("divides by zero", divides_by_zero, "ZeroDivisionError"),
        Mutant("stops early", stops_where_none_came, "one acceptance for every possible draft"),
        Mutant("no own token", no_own_token, "begin with 1"),
        Mutant("adds the rates", adds_the_rates, "you add the acceptances themselves"),
        Mutant("closed form", closed_form, "that is Leviathan's formula with one mean acceptance"),
        Mutant("powers", powers, "you raise one acceptance to the power of its place"),
        Mutant("products alone", products_alone, "that is the chance that all drafts are accepted"),
        Mutant("without zero drafts", without_zero_drafts, "the tokens for no draft at all, 1, come first"),
        Mutant("most tokens", most_tokens, "you take the most tokens"),
        Mutant("free drafts", free_drafts, "the drafts cost nothing in your count"),
        Mutant("one draft pass", one_draft_pass, "you count one draft pass"),
        Mutant("flat verification", flat_verification, "a pass over g + 1 tokens takes verify_seconds[g]"),
        Mutant("verification of one fewer", verification_of_one_fewer, "verify_seconds[g] is for g drafts"),
        Mutant("never none", never_none, "no draft at all is a choice, too"),
        Mutant("first peak", first_peak, "you stop where one more draft first brings no gain"),
        Mutant("slowest", slowest, "you minimise"),
        Mutant("float for an int", best_as_float, "the best number of drafts is a plain int"),
        Mutant("NumPy for an int", best_by_numpy, "the best number of drafts is a plain int"),
        Mutant("tensors for numbers", tokens_as_tensors, "is a plain number"),
    ],
}
