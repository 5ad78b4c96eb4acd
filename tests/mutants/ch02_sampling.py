"""Wrong answers to the exercises of chapter 02: from logits to a token."""

import torch
import torch.nn.functional as F

from mutants import Mutant


def multiplies(logits, temperature, top_k=0):
    if temperature == 0:
        return F.one_hot(logits.argmax(), len(logits)).float()
    x = logits * temperature
    if top_k:
        x = x.masked_fill(x < x.topk(top_k).values[-1], float("-inf"))
    return x.softmax(-1)


def not_renormalised(logits, temperature, top_k=0):
    if temperature == 0:
        return F.one_hot(logits.argmax(), len(logits)).float()
    p = (logits / temperature).softmax(-1)
    return p if not top_k else p * (p >= p.topk(min(top_k, len(p))).values[-1])


def zero_logit(logits, temperature, top_k=0):
    x = logits / max(temperature, 1e-6)
    if top_k:
        x = torch.where(x < x.topk(min(top_k, len(x))).values[-1], torch.zeros_like(x), x)
    return x.softmax(-1)


def zero_after_subtracting(logits, temperature, top_k=0):
    return zero_logit(logits - logits.max(), temperature, top_k)


def cuts_the_kth(logits, temperature, top_k=0):
    if temperature == 0:
        return F.one_hot(logits.argmax(), len(logits)).float()
    x = (logits - logits.max()) / temperature
    if 0 < top_k < len(x):
        x[x <= x.topk(top_k).values[-1]] = float("-inf")
    return x.softmax(-1)


def cuts_ties(logits, temperature, top_k=0):
    if temperature == 0:
        return F.one_hot(logits.argmax(), len(logits)).to(logits.dtype)
    x = (logits - logits.max()) / temperature
    if 0 < top_k < len(x):
        x = x.masked_fill(x <= x.sort(descending=True).values[top_k], float("-inf"))
    return x.softmax(-1)


def ignores_top_k(logits, temperature, top_k=0):
    return asks_for_too_many(logits, temperature)


def ignores_temperature(logits, temperature, top_k=0):
    return asks_for_too_many(logits, 1.0, top_k)


def first_ids(logits, temperature, top_k=0):
    p = asks_for_too_many(logits, temperature)
    kept = torch.where(torch.arange(len(p)) < (top_k or len(p)), p, 0.0)
    return kept / kept.sum()


def keeps_one_more(logits, temperature, top_k=0):
    x = (logits - logits.max()) / max(temperature, 1e-30)
    if top_k:
        x = x.masked_fill(x < x.sort(descending=True).values[min(top_k, len(x) - 1)], float("-inf"))
    return x.softmax(-1)


def divides_by_zero(logits, temperature, top_k=0):
    x = logits / temperature
    if top_k:
        x = x.masked_fill(x < x.topk(min(top_k, len(x))).values[-1], float("-inf"))
    return x.softmax(-1)


def overflows(logits, temperature, top_k=0):
    if temperature == 0:
        return F.one_hot(logits.argmax(), len(logits)).float()
    return divides_by_zero(logits, temperature, top_k)


def asks_for_too_many(logits, temperature, top_k=0):
    if temperature == 0:
        return F.one_hot(logits.argmax(), len(logits)).float()
    x = (logits - logits.max()) / temperature
    if top_k:
        x = x.masked_fill(x < x.topk(top_k).values[-1], float("-inf"))
    return x.softmax(-1)


def drops_the_crossing(probs, top_p):
    ordered, ids = probs.sort(descending=True)
    kept = ordered * (ordered.cumsum(0) <= top_p)
    return torch.zeros_like(probs).scatter(0, ids, kept / kept.sum())


def one_too_many(probs, top_p):
    ordered, ids = probs.sort(descending=True)
    kept = ordered * (ordered.cumsum(0) - ordered <= top_p)
    return torch.zeros_like(probs).scatter(0, ids, kept / kept.sum())


def no_new_sum(probs, top_p):
    ordered, ids = probs.sort(descending=True)
    return torch.zeros_like(probs).scatter(0, ids, ordered * (ordered.cumsum(0) - ordered < top_p))


def stays_sorted(probs, top_p):
    ordered = probs.sort(descending=True).values
    kept = ordered * (ordered.cumsum(0) - ordered < top_p)
    return kept / kept.sum()


def no_sort(probs, top_p):
    kept = probs * (probs.cumsum(0) - probs < top_p)
    return kept / kept.sum()


def ascending(probs, top_p):
    ordered, ids = torch.sort(probs)
    kept = ordered * (ordered.cumsum(0) - ordered < top_p)
    return torch.zeros_like(probs).scatter(0, ids, kept / kept.sum())


def gathers(probs, top_p):
    return stays_sorted(probs, top_p).gather(0, probs.argsort(descending=True))


def min_p(probs, top_p):
    kept = torch.where(probs < top_p * probs.max(), 0.0, probs)
    return kept / kept.sum()


def drops_and_does_not_scale(probs, top_p):
    ordered, ids = probs.sort(descending=True)
    return torch.zeros_like(probs).scatter(0, ids, ordered * (ordered.cumsum(0) <= top_p))


def threshold_each(probs, top_p):
    kept = probs * (probs >= min(top_p, probs.max().item()))
    return kept / kept.sum()


def at_least(probs, uniform):
    return int((probs.cumsum(0) >= uniform).nonzero()[0])


def most_probable(probs, uniform):
    return int(probs.argmax())


def sorted_walk(probs, uniform):
    ordered, ids = probs.sort(descending=True)
    return int(ids[(ordered.cumsum(0) > uniform).nonzero()[0]])


def clamps_to_the_last(probs, uniform):
    return min(int(torch.searchsorted(probs.cumsum(0), uniform, right=True)), len(probs) - 1)


def exclusive_sum(probs, uniform):
    return int((probs.cumsum(0) - probs > uniform).nonzero()[0]) if uniform < 0.7 else len(probs) - 1


def _right(probs, uniform):
    sums = probs.double().cumsum(0)
    return torch.searchsorted(sums, uniform * sums[-1].item(), right=True)


def one_before(probs, uniform):
    return max(0, int(_right(probs, uniform)) - 1)


def own_randomness(probs, uniform):
    return int(torch.multinomial(probs, 1))


def equal_pieces(probs, uniform):
    return int(uniform * len(probs))


MUTANTS = {
    "02.4": [
        Mutant("multiplies by the temperature", multiplies, "multiplying by the temperature"),
        Mutant("does not sum to 1", not_renormalised, "sum to 1 again"),
        Mutant("cut logits become 0", zero_logit, "0 is an ordinary logit"),
        Mutant("cut logits become the largest", zero_after_subtracting, "once the largest is subtracted"),
        Mutant("cuts the k-th too", cuts_the_kth, "you cut the k-th largest, too"),
        Mutant("cuts all that tie", cuts_ties, "a tie must not cut both"),
        Mutant("ignores top_k", ignores_top_k, "ignoring top_k"),
        Mutant("ignores the temperature", ignores_temperature, "ignoring the temperature"),
        Mutant("keeps the first ids", first_ids, "the first k ids"),
        Mutant("keeps k + 1", keeps_one_more, "one token too many"),
        Mutant("divides by zero", divides_by_zero, "needs a branch of its own"),
        Mutant("overflows", overflows, "subtract the largest logit"),
        Mutant("asks topk for too many", asks_for_too_many, "your code raised RuntimeError"),
    ],
    "02.5": [
        Mutant("drops the token that crosses", drops_the_crossing, "drop the token that crosses"),
        Mutant("keeps one too many", one_too_many, "one token too many"),
        Mutant("does not sum to 1", no_new_sum, "sum to 1 again"),
        Mutant("stays in sorted order", stays_sorted, "sorted order"),
        Mutant("does not sort", no_sort, "sort by probability first"),
        Mutant("ascending order", ascending, "in ascending order"),
        Mutant("gathers", gathers, "sort once more"),
        Mutant("min-p", min_p, "that is min-p"),
        Mutant("drops the crossing, no new sum", drops_and_does_not_scale, "crosses top_p, and what is kept"),
        Mutant("a threshold for each", threshold_each, "their sum that counts"),
    ],
    "02.6": [
        Mutant("at least in place of greater", at_least, "greater"),
        Mutant("the most probable", most_probable, "most probable token"),
        Mutant("walks from the most probable", sorted_walk, "walk by id"),
        Mutant("clamps to the last token", clamps_to_the_last, "scale uniform by the total"),
        Mutant("sum without the token", exclusive_sum, "one token too far"),
        Mutant("one token early", one_before, "one token too early"),
        Mutant("randomness of its own", own_randomness, "randomness of its own; use the uniform given"),
        Mutant("a tensor", lambda p, u: _right(p, u), "it should return an int"),
        Mutant("a NumPy integer", lambda p, u: _right(p, u).numpy()[()], "it should return an int"),
        Mutant("equal pieces", equal_pieces, "equal pieces"),
    ],
}
