"""Wrong answers to the exercises of chapter 04."""

import math
from difflib import SequenceMatcher

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


def squeezed(logits):
    best = logits.softmax(-1).topk(2).values
    return (best[..., :1] - best[..., 1:]).squeeze()


def first_axis(logits):
    b = logits.softmax(-1).topk(2).values
    return b[0] - b[1]


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


def floored(threshold, t, tau, horizon):
    return clip(0.9 * threshold + 0.1 * math.exp(-tau * t // horizon))


def floored_inside(threshold, t, tau, horizon):
    return clip(0.9 * threshold + 0.1 * math.exp(-(tau * t // horizon)))


def floored_share(threshold, t, tau, horizon):
    return clip(0.9 * threshold + 0.1 * math.exp(-tau * (t // horizon)))


def threshold_as_tensor(threshold, t, tau, horizon):
    return (0.9 * threshold + 0.1 * torch.exp(torch.tensor(-tau * t / horizon, dtype=torch.float64))).clamp(0, 1)


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


def largest_neighbour(ours, full):
    table = [[0] * (len(full) + 1) for _ in range(len(ours) + 1)]
    for i in range(1, len(ours) + 1):
        for j in range(1, len(full) + 1):
            best = max(table[i - 1][j], table[i][j - 1])
            table[i][j] = 1 + max(best, table[i - 1][j - 1]) if ours[i - 1] == full[j - 1] else best
    return 1 - f1(table[-1][-1], ours, full)


def in_table(table, ours, full, ends=(0, 0)):
    for i in range(1, len(ours) + 1 - ends[0]):
        for j in range(1, len(full) + 1 - ends[1]):
            if ours[i - 1] == full[j - 1]:
                table[i][j] = 1 + table[i - 1][j - 1]
            else:
                table[i][j] = max(table[i - 1][j], table[i][j - 1])
    return 1 - f1(table[len(ours) - ends[0]][len(full) - ends[1]], ours, full)


def fresh(ours, full):
    return [[0] * (len(full) + 1) for _ in range(len(ours) + 1)]


def aliased_rows(ours, full):
    return in_table([[0] * (len(full) + 1)] * (len(ours) + 1), ours, full)


def one_row(ours, full):
    row = [0] * (len(full) + 1)
    for a in ours:
        for j, b in enumerate(full, 1):
            row[j] = row[j - 1] + 1 if a == b else max(row[j], row[j - 1])
    return 1 - f1(row[-1], ours, full)


def by_difflib(ours, full):
    return 1 - SequenceMatcher(None, ours, full).ratio()


def ends_early(ours, full):
    return in_table(fresh(ours, full), ours, full, (1, 1)) if ours and full else 1.0 * (ours != full)


def ends_early_in_ours(ours, full):
    return in_table(fresh(ours, full), ours, full, (1, 0)) if ours and full else 1.0 * (ours != full)


def ends_early_in_full(ours, full):
    return in_table(fresh(ours, full), ours, full, (0, 1)) if ours and full else 1.0 * (ours != full)


def begins_late(ours, full):
    return 1 - f1(lcs(ours[1:], full[1:]), ours, full)


def no_empty_edges(ours, full):
    table = [[0] * len(full) for _ in ours]
    for i, a in enumerate(ours):
        for j, b in enumerate(full):
            table[i][j] = table[i - 1][j - 1] + 1 if a == b else max(table[i - 1][j], table[i][j - 1])
    return 1 - f1(table[-1][-1] if ours and full else 0, ours, full)


def loss_as_tensor(ours, full):
    return torch.tensor(1 - rouge(ours, full))


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


def zero_above(mean_loss, n, delta):
    return 0.0 if mean_loss > delta else math.exp(-2 * n * (delta - mean_loss) ** 2)


def zero_from_delta_on(mean_loss, n, delta):
    return math.exp(-2 * n * (delta - mean_loss) ** 2) if mean_loss < delta else 0.0


def squares_the_mean(mean_loss, n, delta):
    return math.exp(-2 * n * max(0, delta - mean_loss**2))


def squares_the_mean_too(mean_loss, n, delta):
    return math.exp(-2 * n * max(0, delta - mean_loss**2) ** 2)


def p_as_tensor(mean_loss, n, delta):
    return torch.exp(torch.tensor(-2.0 * n * max(0.0, delta - mean_loss) ** 2))


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


def last_if_last(losses, delta, epsilon, p_value):
    last = walk(losses.mean(0).tolist(), len(losses), delta, epsilon, p_value)
    return last if last else None


def index_as_float(losses, delta, epsilon, p_value):
    last = walk(losses.mean(0).tolist(), len(losses), delta, epsilon, p_value)
    return None if last is None else float(last)


def index_as_tensor(losses, delta, epsilon, p_value):
    last = walk(losses.mean(0).tolist(), len(losses), delta, epsilon, p_value)
    return None if last is None else torch.tensor(last)


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
        Mutant("squeeze", squeezed, "squeeze drops every axis of size 1"),
        Mutant("first axis", first_axis, "best[..., 0] - best[..., 1]"),
    ],
    "04.2": [
        Mutant("released", released, "the formula of the released code"),
        Mutant("no clip", no_clip, "must be clipped to [0, 1]"),
        Mutant("clips before", clips_before, "clip the sum, not the threshold"),
        Mutant("clips above only", clips_above, "below 0 counts as 0"),
        Mutant("clips below only", clips_below, "above 1 counts as 1"),
        Mutant("rises", rises, "the exponent needs a minus"),
        Mutant("no horizon", no_horizon, "not -tau · t"),
        Mutant("tau outside", tau_outside, "put tau into the exponent"),
        Mutant("parts swapped", swapped_parts, "0.9 and 0.1 are swapped"),
        Mutant("all decays", all_decays, "only the 0.1 does"),
        Mutant("one token on", one_token_on, "no t + 1"),
        Mutant("floor division", floored, "the division // drops the fraction"),
        Mutant("floor division inside", floored_inside, "the division // drops the fraction"),
        Mutant("floor division of the share", floored_share, "the division // drops the fraction"),
        Mutant("tensor for a float", threshold_as_tensor, "the threshold is a float"),
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
        Mutant("largest neighbour", largest_neighbour, "a match pairs two tokens once"),
        Mutant("aliased rows", aliased_rows, "the diagonal of the row above has been overwritten"),
        Mutant("one row", one_row, "the diagonal of the row above has been overwritten"),
        Mutant("difflib", by_difflib, "difflib module finds long blocks first"),
        Mutant("ends early", ends_early, "the last token of both is never compared"),
        Mutant("ends early in ours", ends_early_in_ours, "the last token of `ours` is never compared"),
        Mutant("ends early in full", ends_early_in_full, "the last token of `full` is never compared"),
        Mutant("begins late", begins_late, "the first token of both is never compared"),
        Mutant("no empty edges", no_empty_edges, "a row and a column of zeros"),
        Mutant("tensor for a float", loss_as_tensor, "the loss is a float"),
    ],
    "04.4": [
        Mutant("no n", no_n, "the number of examples n is missing"),
        Mutant("no max", no_max, "a square forgets the sign"),
        Mutant("swapped", swapped, "delta and the mean swapped"),
        Mutant("no 2", no_two_in_p, "the 2 is missing"),
        Mutant("no square", no_square, "the gap must be squared"),
        Mutant("no minus", no_minus, "the minus is missing"),
        Mutant("n squared", n_squared, "you square n, too"),
        Mutant("0 above delta", zero_above, "p = exp(0) = 1, not 0"),
        Mutant("0 from delta on", zero_from_delta_on, "p = exp(0) = 1, not 0"),
        Mutant("squares the mean", squares_the_mean, "you square the mean, not the gap"),
        Mutant("squares the mean, too", squares_the_mean_too, "you square the mean and the gap"),
        Mutant("tensor for a float", p_as_tensor, "the p-value is a float"),
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
        Mutant("delta for epsilon", delta_for_epsilon, "delta and epsilon swapped"),
        Mutant("strictly below", strictly_below, "p = epsilon passes"),
        Mutant("epsilon shared out", shared_out, "you share epsilon out"),
        Mutant("0 for none", zero_for_none, "nothing is certified here"),
        Mutant("from the boldest", from_the_boldest, "you begin with the boldest column"),
        Mutant("if last", last_if_last, "column 0 is false in `if last`"),
        Mutant("float index", index_as_float, "a plain int, or None"),
        Mutant("tensor index", index_as_tensor, "a plain int, or None"),
    ],
}
