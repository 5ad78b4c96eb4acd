"""Wrong answers to 05.1: the rule for one draft."""

import torch

from mutants import Mutant

# --- 05.1: one draft ---


def right(p, q, token):
    residual = (p - q).clamp(min=0)
    total = residual.sum()
    return min(1.0, float(p[token] / q[token])), residual / total if total > 0 else p


def not_capped(p, q, token):
    return float(p[token] / q[token]), right(p, q, token)[1]


def ratio_upside_down(p, q, token):
    return min(1.0, float(q[token] / p[token])), right(p, q, token)[1]


def p_alone(p, q, token):
    return float(p[token]), right(p, q, token)[1]


def min_of_both(p, q, token):
    return float(min(p[token], q[token])), right(p, q, token)[1]


def rejection_probability(p, q, token):
    return 1 - right(p, q, token)[0], right(p, q, token)[1]


def never_where_below(p, q, token):
    return 1.0 if p[token] >= q[token] else 0.0, right(p, q, token)[1]


def overall_rate(p, q, token):
    return float(torch.minimum(p, q).sum()), right(p, q, token)[1]


def recovers_p(p, q, token):
    return right(p, q, token)[0], p


def softmax_residual(p, q, token):
    return right(p, q, token)[0], torch.softmax((p - q).clamp(min=0), dim=-1)


def softmax_difference(p, q, token):
    return right(p, q, token)[0], torch.softmax(p - q, dim=-1)


def residual_upside_down(p, q, token):
    residual = torch.relu(q - p)
    return right(p, q, token)[0], residual / residual.sum()


def not_normalised(p, q, token):
    return right(p, q, token)[0], torch.relu(p - q)


def absolute(p, q, token):
    residual = (p - q).abs()
    return right(p, q, token)[0], residual / residual.sum()


def without_the_token(p, q, token):
    rest = p.clone()
    rest[token] = 0
    return right(p, q, token)[0], rest / rest.sum()


def not_clamped(p, q, token):
    return right(p, q, token)[0], p - q


def not_clamped_normalised(p, q, token):
    return right(p, q, token)[0], (p - q) / (p - q).sum()


def by_the_largest(p, q, token):
    residual = torch.relu(p - q)
    return right(p, q, token)[0], residual / residual.max()


def nan_when_equal(p, q, token):
    residual = torch.relu(p - q)
    return right(p, q, token)[0], residual / residual.sum()


def zeros_when_equal(p, q, token):
    residual = torch.relu(p - q)
    return right(p, q, token)[0], residual / residual.sum().clamp(min=1e-12)


def small_number_in_ratio(p, q, token):
    return min(1.0, float((p[token] + 1e-3) / (q[token] + 1e-3))), right(p, q, token)[1]


def recovered_alone(p, q, token):
    return right(p, q, token)[1]


def acceptance_as_tensor(p, q, token):
    return torch.clamp(p[token] / q[token], max=1.0), right(p, q, token)[1]


def recovered_as_float32(p, q, token):
    return right(p, q, token)[0], right(p, q, token)[1].float()


def recovered_as_list(p, q, token):
    return right(p, q, token)[0], right(p, q, token)[1].tolist()


MUTANTS = {
    "05.1": [
        Mutant("not capped", not_capped, "a probability is at most 1"),
        Mutant("q / p", ratio_upside_down, "you have p and q swapped"),
        Mutant("p alone", p_alone, "p(x) alone is for drafts that were chosen"),
        Mutant("min(p, q)", min_of_both, "the chance to be drafted *and* accepted"),
        Mutant("rejection probability", rejection_probability, "that is the chance to be rejected"),
        Mutant("never where below", never_where_below, "accepted sometimes: with probability p / q"),
        Mutant("overall rate", overall_rate, "*some* draft is accepted"),
        Mutant("recovers p", recovers_p, "that is p itself"),
        Mutant("softmax of the residual", softmax_residual, "softmax is for logits"),
        Mutant("softmax of p - q", softmax_difference, "softmax of p - q"),
        Mutant("max(0, q - p)", residual_upside_down, "that is max(0, q - p)"),
        Mutant("not normalised", not_normalised, "does not sum to 1 yet"),
        Mutant("absolute", absolute, "|p - q| counts"),
        Mutant("p without the token", without_the_token, "p without the rejected token is the rule for drafts that"),
        Mutant("not clamped", not_clamped, "negative probabilities"),
        Mutant("divided by 0", not_clamped_normalised, "p - q sums to 0"),
        Mutant("by the largest", by_the_largest, "not by its largest entry"),
        Mutant("NaN when equal", nan_when_equal, "p = q leaves nothing: 0 / 0 is NaN"),
        Mutant("zeros when equal", zeros_when_equal, "all zeros are no distribution"),
        Mutant("smoothed ratio", small_number_in_ratio, "min(1, p(x) / q(x)), for the drafted token x alone"),
        Mutant("one thing", recovered_alone, "return 2 things: acceptance, recovered"),
        Mutant("tensor for a number", acceptance_as_tensor, "the acceptance is a plain number"),
        Mutant("float32", recovered_as_float32, "your answer has dtype float32; it should be float64"),
        Mutant("list for a tensor", recovered_as_list, "your function returns a list; it should return a tensor"),
    ],
}
