"""Wrong answers to the exercises of chapter 02."""

import torch
import torch.nn.functional as F

from mutants import Mutant

# --- 02.1


def _attend(keys, values, q, scale=True, tiled=False):
    H, K = q.shape[0], keys.shape[0]
    big_k = keys.repeat(H // K, 1, 1) if tiled else keys.repeat_interleave(H // K, 0)
    big_v = values.repeat(H // K, 1, 1) if tiled else values.repeat_interleave(H // K, 0)
    scores = (big_k @ q[:, :, None])[..., 0]
    return (torch.softmax(scores / (q.shape[1] ** 0.5 if scale else 1), -1)[:, None] @ big_v)[:, 0]


def _append(keys, values, k, v):
    return torch.cat((keys, k[:, None]), 1), torch.cat((values, v[:, None]), 1)


def attends_first(keys, values, q, k, v):
    y = _attend(keys, values, q)
    return y, *_append(keys, values, k, v)


def no_root(keys, values, q, k, v):
    keys, values = _append(keys, values, k, v)
    return _attend(keys, values, q, scale=False), keys, values


def tiles_heads(keys, values, q, k, v):
    keys, values = _append(keys, values, k, v)
    return _attend(keys, values, q, tiled=True), keys, values


def puts_in_front(keys, values, q, k, v):
    keys, values = torch.cat((k[:, None], keys), 1), torch.cat((v[:, None], values), 1)
    return _attend(keys, values, q), keys, values


def forgets_to_keep(keys, values, q, k, v):
    return _attend(*_append(keys, values, k, v), q), keys, values


def overwrites_the_last(keys, values, q, k, v):
    keys, values = keys.clone(), values.clone()
    keys[:, -1], values[:, -1] = k, v
    return _attend(keys, values, q), keys, values


# --- 02.2


def no_factor_2(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    return batch * read_rate / (bytes_per_number * (num_weights + batch * context * L * K * D))


def shares_the_cache(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    return batch * read_rate / (bytes_per_number * (num_weights + 2 * context * L * K * D))


def weights_per_text(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    return read_rate / (bytes_per_number * (num_weights + 2 * context * L * K * D))


def passes_per_second(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    return read_rate / (bytes_per_number * (num_weights + 2 * batch * context * L * K * D))


def numbers_not_bytes(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    return batch * read_rate / (num_weights + 2 * batch * context * L * K * D)


def weights_only(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    return batch * read_rate / (num_weights * bytes_per_number)


# --- 02.3


def top_left(new, held):
    return torch.tril(torch.ones(new, held + new, dtype=torch.bool))


def not_itself(new, held):
    return torch.arange(held + new)[None] < held + torch.arange(new)[:, None]


def reversed_meaning(new, held):
    return torch.arange(held + new)[None] > held + torch.arange(new)[:, None]


def all_open(new, held):
    return torch.ones(new, held + new, dtype=torch.bool)


def new_only(new, held):
    return torch.ones(new, new, dtype=torch.bool).tril()


def as_floats(new, held):
    return torch.ones(new, held + new).tril(held)


# --- 02.4


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


# --- 02.5


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


def threshold_each(probs, top_p):
    kept = probs * (probs >= min(top_p, probs.max().item()))
    return kept / kept.sum()


# --- 02.6


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


def equal_pieces(probs, uniform):
    return int(uniform * len(probs))


# --- 02.7


def feeds_everything(step, prompt, max_new_tokens, eos=None):
    ids = list(prompt)
    while len(ids) - len(prompt) < max_new_tokens:
        ids.append(step(ids))
        if ids[-1] == eos:
            break
    return ids[len(prompt):]


def drops_eos(step, prompt, max_new_tokens, eos=None):
    new, feed = [], prompt
    while len(new) < max_new_tokens and (token := step(feed)) != eos:
        new.append(token)
        feed = [token]
    return new


def with_prompt(step, prompt, max_new_tokens, eos=None):
    ids, feed = list(prompt), prompt
    for _ in range(max_new_tokens):
        feed = [step(feed)]
        ids += feed
        if feed[0] == eos:
            break
    return ids


def never_stops(step, prompt, max_new_tokens, eos=None):
    new, feed = [], prompt
    for _ in range(max_new_tokens):
        feed = [step(feed)]
        new += feed
    return new


def if_eos(step, prompt, max_new_tokens, eos=None):
    new, feed = [], prompt
    for _ in range(max_new_tokens):
        feed = [step(feed)]
        new += feed
        if eos and feed[0] == eos:
            break
    return new


def pass_first(step, prompt, max_new_tokens, eos=None):
    new = [step(prompt)]
    while len(new) < max_new_tokens and new[-1] != eos:
        new.append(step(new[-1:]))
    return new


def one_pass_more(step, prompt, max_new_tokens, eos=None):
    new, token = [], step(prompt)
    while len(new) < max_new_tokens:
        new.append(token)
        if token == eos:
            break
        token = step([token])
    return new


MUTANTS = {
    "02.1": [
        Mutant("attends before appending", attends_first, "reads itself too"),
        Mutant("no square root of D", no_root, "square root of D"),
        Mutant("tiles the heads", tiles_heads, "repeat_interleave"),
        Mutant("puts the new one in front", puts_in_front, "append it behind"),
        Mutant("returns the old cache", forgets_to_keep, "next token will miss this one"),
        Mutant("overwrites the last slot", overwrites_the_last, "grows by one"),
    ],
    "02.2": [
        Mutant("forgets keys or values", no_factor_2, "factor 2 is missing"),
        Mutant("one cache for the batch", shares_the_cache, "each text has its own"),
        Mutant("weights for each text", weights_per_text, "a batch shares one read"),
        Mutant("passes per second", passes_per_second, "passes per second"),
        Mutant("numbers for bytes", numbers_not_bytes, "the rate is in bytes"),
        Mutant("weights only", weights_only, "the cache is missing"),
    ],
    "02.3": [
        Mutant("triangle at the top left", top_left, "starts at the top left"),
        Mutant("a token can't read itself", not_itself, "may read itself"),
        Mutant("True means forbidden", reversed_meaning, "yours is the reverse"),
        Mutant("no triangle", all_open, "later ones of the same chunk"),
        Mutant("no old columns", new_only, "columns are missing"),
        Mutant("floats for booleans", as_floats, "dtype"),
    ],
    "02.4": [
        Mutant("multiplies by the temperature", multiplies, "multiplying by the temperature"),
        Mutant("does not sum to 1", not_renormalised, "sum to 1 again"),
        Mutant("cut logits become 0", zero_logit, "0 is an ordinary logit"),
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
        Mutant("a threshold for each", threshold_each, "their sum that counts"),
    ],
    "02.6": [
        Mutant("at least in place of greater", at_least, "greater"),
        Mutant("the most probable", most_probable, "most probable token"),
        Mutant("walks from the most probable", sorted_walk, "walk by id"),
        Mutant("clamps to the last token", clamps_to_the_last, "scale uniform by the total"),
        Mutant("sum without the token", exclusive_sum, "one token too far"),
        Mutant("equal pieces", equal_pieces, "equal pieces"),
    ],
    "02.7": [
        Mutant("feeds everything each time", feeds_everything, "the whole text each time"),
        Mutant("drops the end token", drops_eos, "append it, then stop"),
        Mutant("returns the prompt too", with_prompt, "without the prompt"),
        Mutant("never stops", never_stops, "don't stop at the end token"),
        Mutant("if eos", if_eos, "`if eos` is false"),
        Mutant("a pass before the limit", pass_first, "before you look at the limit"),
        Mutant("one pass more", one_pass_more, "throw away"),
    ],
}
