"""Wrong answers to the exercises of chapter 04."""

import math

import torch

from mutants import Mutant

# --- 04.1: softmax response ---


def top1(logits):
    return logits.softmax(-1).amax(-1)


def ratio(logits):
    p = logits.softmax(-1).topk(2).values
    return p[..., 0] / p[..., 1]


def of_logits(logits):
    best = logits.topk(2).values
    return best[..., 0] - best[..., 1]


def of_log_probs(logits):
    best = logits.log_softmax(-1).topk(2).values
    return best[..., 0] - best[..., 1]


def negative(logits):
    p = logits.softmax(-1).sort(-1).values
    return p[..., -2] - p[..., -1]


def minus_smallest(logits):
    p = logits.softmax(-1)
    return p.amax(-1) - p.amin(-1)


def ascending(logits):
    p = logits.softmax(-1).sort(-1).values
    return p[..., 1] - p[..., 0]


def softmax_over_rows(logits):
    p = logits.softmax(0).topk(2, dim=-1).values
    return p[..., 0] - p[..., 1]


def over_rows(logits):
    p = logits.softmax(0).topk(2, dim=0).values
    return p[0] - p[1]


def by_exp(logits):
    p = (logits.exp() / logits.exp().sum(-1, keepdim=True)).topk(2).values
    return p[..., 0] - p[..., 1]


def drops_the_tie(logits):
    p = logits.softmax(-1)
    best = p.amax(-1, keepdim=True)
    return best[..., 0] - p.where(p < best, torch.zeros_like(p)).amax(-1)


# --- 04.2: the decaying threshold ---


def fade(t, tau, horizon):
    return math.exp(-tau * t / horizon)


def clip(value):
    return max(0.0, min(1.0, value))


def released(threshold, t, tau, horizon):
    return clip(threshold * (0.9 + 0.1 * fade(t, tau, horizon)))


def no_clip(threshold, t, tau, horizon):
    return 0.9 * threshold + 0.1 * fade(t, tau, horizon)


def clips_before(threshold, t, tau, horizon):
    return 0.9 * clip(threshold) + 0.1 * fade(t, tau, horizon)


def clips_above(threshold, t, tau, horizon):
    return min(1.0, no_clip(threshold, t, tau, horizon))


def clips_below(threshold, t, tau, horizon):
    return max(0.0, no_clip(threshold, t, tau, horizon))


def rises(threshold, t, tau, horizon):
    return clip(0.9 * threshold + 0.1 / fade(t, tau, horizon))


def no_horizon(threshold, t, tau, horizon):
    return clip(0.9 * threshold + 0.1 * math.exp(-tau * t))


def tau_outside(threshold, t, tau, horizon):
    return clip(0.9 * threshold + 0.1 * tau * math.exp(-t / horizon))


def swapped_parts(threshold, t, tau, horizon):
    return clip(0.1 * threshold + 0.9 * fade(t, tau, horizon))


def all_decays(threshold, t, tau, horizon):
    return clip((0.9 * threshold + 0.1) * fade(t, tau, horizon))


def one_token_on(threshold, t, tau, horizon):
    return clip(0.9 * threshold + 0.1 * fade(t + 1, tau, horizon))


# --- 04.3: the textual loss ---


def lcs(a, b):
    row = [0] * (len(b) + 1)
    for x in a:
        above = row[:]
        for j, y in enumerate(b):
            row[j + 1] = above[j] + 1 if x == y else max(above[j + 1], row[j])
    return row[-1]


def f1(common, a, b):
    return 2 * common / (len(a) + len(b)) if a or b else 1.0


def rouge(ours, full):
    return f1(lcs(ours, full), ours, full)


def precision(ours, full):
    return 1 - lcs(ours, full) / len(ours)


def recall(ours, full):
    return 1 - lcs(ours, full) / len(full)


def longer_length(ours, full):
    return 1 - lcs(ours, full) / max(len(ours), len(full))


def no_two(ours, full):
    return 1 - lcs(ours, full) / (len(ours) + len(full))


def common_piece(ours, full):
    best = 0
    for i in range(len(ours)):
        for j in range(len(full)):
            n = 0
            while i + n < len(ours) and j + n < len(full) and ours[i + n] == full[j + n]:
                n += 1
            best = max(best, n)
    return 1 - f1(best, ours, full)


def any_order(ours, full):
    left, common = list(full), 0
    for token in ours:
        if token in left:
            left.remove(token)
            common += 1
    return 1 - f1(common, ours, full)


def by_position(ours, full):
    return 1 - f1(sum(a == b for a, b in zip(ours, full, strict=False)), ours, full)


def common_prefix(ours, full):
    n = 0
    while n < min(len(ours), len(full)) and ours[n] == full[n]:
        n += 1
    return 1 - f1(n, ours, full)


def divides_by_zero(ours, full):
    return 1 - 2 * lcs(ours, full) / max(len(ours) + len(full), 1)


# --- 04.4: the p-value ---


def no_n(mean_loss, n, delta):
    return math.exp(-2 * max(0, delta - mean_loss) ** 2)


def no_max(mean_loss, n, delta):
    return math.exp(-2 * n * (delta - mean_loss) ** 2)


def swapped(mean_loss, n, delta):
    return math.exp(-2 * n * max(0, mean_loss - delta) ** 2)


def no_two_in_p(mean_loss, n, delta):
    return math.exp(-n * max(0, delta - mean_loss) ** 2)


def no_square(mean_loss, n, delta):
    return math.exp(-2 * n * max(0, delta - mean_loss))


def no_minus(mean_loss, n, delta):
    return math.exp(2 * n * max(0, delta - mean_loss) ** 2)


def n_squared(mean_loss, n, delta):
    return math.exp(-2 * (n * max(0, delta - mean_loss)) ** 2)


# --- 04.5: the walk ---


def goes_on(losses, delta, epsilon, p_value):
    last = None
    for i, mean in enumerate(losses.mean(0).tolist()):
        if p_value(mean, len(losses), delta) <= epsilon:
            last = i
    return last


def first_failing(losses, delta, epsilon, p_value):
    for i, mean in enumerate(losses.mean(0).tolist()):
        if p_value(mean, len(losses), delta) > epsilon:
            return i


def first_passing(losses, delta, epsilon, p_value):
    for i, mean in enumerate(losses.mean(0).tolist()):
        if p_value(mean, len(losses), delta) <= epsilon:
            return i


def naive(losses, delta, epsilon, p_value):
    fine = [i for i, mean in enumerate(losses.mean(0).tolist()) if mean <= delta]
    return fine[-1] if fine else None


def asks_but_compares_means(losses, delta, epsilon, p_value):
    last = None
    for i, mean in enumerate(losses.mean(0).tolist()):
        p_value(mean, len(losses), delta)
        if mean > delta:
            break
        last = i
    return last


def walk(means, n, delta, epsilon, p_value, strict=False, none=None):
    last = none
    for i, mean in enumerate(means):
        p = p_value(mean, n, delta)
        if p > epsilon or (strict and p == epsilon):
            break
        last = i
    return last


def over_rows_mean(losses, delta, epsilon, p_value):
    return walk(losses.mean(1).tolist(), len(losses), delta, epsilon, p_value)


def columns_for_n(losses, delta, epsilon, p_value):
    return walk(losses.mean(0).tolist(), losses.shape[1], delta, epsilon, p_value)


def sums(losses, delta, epsilon, p_value):
    return walk(losses.sum(0).tolist(), len(losses), delta, epsilon, p_value)


def delta_for_epsilon(losses, delta, epsilon, p_value):
    return walk(losses.mean(0).tolist(), len(losses), epsilon, delta, p_value)


def strictly_below(losses, delta, epsilon, p_value):
    return walk(losses.mean(0).tolist(), len(losses), delta, epsilon, p_value, strict=True)


def shared_out(losses, delta, epsilon, p_value):
    return walk(losses.mean(0).tolist(), len(losses), delta, epsilon / losses.shape[1], p_value)


def zero_for_none(losses, delta, epsilon, p_value):
    return walk(losses.mean(0).tolist(), len(losses), delta, epsilon, p_value, none=0)


def from_the_boldest(losses, delta, epsilon, p_value):
    for i in range(losses.shape[1] - 1, -1, -1):
        if p_value(losses[:, i].mean().item(), len(losses), delta) <= epsilon:
            return i


MUTANTS = {
    "04.1": [
        Mutant("the largest alone", top1, "that is the largest probability alone"),
        Mutant("ratio", ratio, "the confidence is the difference of the two"),
        Mutant("of logits", of_logits, "you are probably subtracting logits"),
        Mutant("negative", negative, "the sign is wrong"),
        Mutant("minus the smallest", minus_smallest, "it is the second largest"),
        Mutant("ascending", ascending, "those are the two least probable"),
        Mutant("softmax over rows", softmax_over_rows, "softmax is probably over the wrong axis"),
        Mutant("over rows", over_rows, "working over the first axis"),
        Mutant("exp overflows", by_exp, "exp(300) is inf"),
        Mutant("drops the tie", drops_the_tie, "dropping the tied token"),
    ],
    "04.2": [
        Mutant("released", released, "the formula of the released code"),
        Mutant("no clip", no_clip, "must be clipped to [0, 1]"),
        Mutant("clips before", clips_before, "clip the sum, not the threshold"),
        Mutant("clips above only", clips_above, "below 0 counts as 0"),
        Mutant("clips below only", clips_below, "above 1 counts as 1"),
        Mutant("rises", rises, "the exponent needs a minus"),
        Mutant("no horizon", no_horizon, "not -tau · t"),
        Mutant("tau outside", tau_outside, "tau belongs into the exponent"),
        Mutant("parts swapped", swapped_parts, "0.9 and 0.1 are swapped"),
        Mutant("all decays", all_decays, "only the 0.1 does"),
        Mutant("one token on", one_token_on, "t starts at 0"),
    ],
    "04.3": [
        Mutant("ROUGE-L itself", rouge, "that is ROUGE-L itself"),
        Mutant("precision", precision, "(precision)"),
        Mutant("recall", recall, "(recall)"),
        Mutant("the longer length", longer_length, "dividing by the longer length"),
        Mutant("no 2", no_two, "the factor 2 is missing"),
        Mutant("common piece", common_piece, "the longest common piece without gaps"),
        Mutant("any order", any_order, "in any order"),
        Mutant("by position", by_position, "position by position"),
        Mutant("common prefix", common_prefix, "you stop at the first difference"),
        Mutant("two empty texts", divides_by_zero, "two empty texts are the same"),
    ],
    "04.4": [
        Mutant("no n", no_n, "n is missing"),
        Mutant("no max", no_max, "a square forgets the sign"),
        Mutant("swapped", swapped, "delta and the mean are swapped"),
        Mutant("no 2", no_two_in_p, "the 2 is missing"),
        Mutant("no square", no_square, "the gap must be squared"),
        Mutant("no minus", no_minus, "the minus is missing"),
        Mutant("n squared", n_squared, "you square n, too"),
    ],
    "04.5": [
        Mutant("goes on after a failure", goes_on, "you go on after a failure"),
        Mutant("the first failing", first_failing, "you return the first column that fails"),
        Mutant("the first passing", first_passing, "you return the first column that passes"),
        Mutant("the naive rule", naive, "you never ask p_value"),
        Mutant("compares means", asks_but_compares_means, "you compare the mean with delta"),
        Mutant("means of rows", over_rows_mean, "you take the mean over a row"),
        Mutant("columns for n", columns_for_n, "you give the number of columns"),
        Mutant("sums", sums, "you give the sum of the losses"),
        Mutant("delta for epsilon", delta_for_epsilon, "delta and epsilon are swapped"),
        Mutant("strictly below", strictly_below, "p = epsilon passes"),
        Mutant("epsilon shared out", shared_out, "you share epsilon out"),
        Mutant("0 for none", zero_for_none, "nothing is certified here"),
        Mutant("from the boldest", from_the_boldest, "you begin with the boldest column"),
    ],
}
