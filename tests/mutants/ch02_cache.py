"""Wrong answers to the exercises of chapter 02: the cache, its cost and its mask."""

import torch
import torch.nn.functional as F

from mutants import Mutant


def _attend(keys, values, q, scale=True, tiled=False, dim=-1):
    H, K = q.shape[0], keys.shape[0]
    big_k = keys.repeat(H // K, 1, 1) if tiled else keys.repeat_interleave(H // K, 0)
    big_v = values.repeat(H // K, 1, 1) if tiled else values.repeat_interleave(H // K, 0)
    scores = q[:, None] @ big_k.mT
    return (torch.softmax(scores / (q.shape[1] ** 0.5 if scale else 1), dim) @ big_v)[:, 0]


def _append(keys, values, k, v):
    return torch.cat((keys, k[:, None]), 1), torch.cat((values, v[:, None]), 1)


def attends_first(keys, values, q, k, v):
    y = _attend(keys, values, q)
    return y, *_append(keys, values, k, v)


def no_root(keys, values, q, k, v):
    keys, values = _append(keys, values, k, v)
    return _attend(keys, values, q, scale=False), keys, values


def softmax_over_heads(keys, values, q, k, v):
    keys, values = _append(keys, values, k, v)
    return _attend(keys, values, q, dim=0), keys, values


def softmax_over_one(keys, values, q, k, v):
    keys, values = _append(keys, values, k, v)
    return _attend(keys, values, q, dim=1), keys, values


def scores_from_values(keys, values, q, k, v):
    keys, values = _append(keys, values, k, v)
    return _attend(values, keys, q), keys, values


def k_into_values(keys, values, q, k, v):
    keys, values = _append(keys, values, v, k)
    return _attend(keys, values, q), keys, values


def causal_query(keys, values, q, k, v):
    keys, values = _append(keys, values, k, v)
    y = F.scaled_dot_product_attention(q[None, :, None], keys[None], values[None], is_causal=True, enable_gqa=True)
    return y[0, :, 0], keys, values


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


def weights_in_bytes_only(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    return batch * read_rate / (num_weights * bytes_per_number + 2 * batch * context * L * K * D)


def cache_in_bytes_only(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    return batch * read_rate / (num_weights + 2 * batch * context * L * K * D * bytes_per_number)


def seconds_per_token(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    return bytes_per_number * (num_weights + 2 * batch * context * L * K * D) / read_rate / batch


def weights_only(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    return batch * read_rate / (num_weights * bytes_per_number)


def top_left(new, held):
    return torch.tril(torch.ones(new, held + new, dtype=torch.bool))


def not_itself(new, held):
    return torch.arange(held + new)[None] < held + torch.arange(new)[:, None]


def one_too_high(new, held):
    return torch.ones(new, held + new, dtype=torch.bool).tril(held + 1)


def new_first(new, held):
    return torch.arange(held + new)[None].roll(-held, 1).le(torch.arange(held, held + new)[:, None])


def reversed_meaning(new, held):
    return torch.arange(held + new)[None] > held + torch.arange(new)[:, None]


def all_open(new, held):
    return torch.ones(new, held + new, dtype=torch.bool)


def new_only(new, held):
    return torch.ones(new, new, dtype=torch.bool).tril()


def as_floats(new, held):
    return torch.ones(new, held + new).tril(held)


MUTANTS = {
    "02.1": [
        Mutant("attends before appending", attends_first, "reads itself too"),
        Mutant("no square root of D", no_root, "square root of D"),
        Mutant("tiles the heads", tiles_heads, "repeat_interleave"),
        Mutant("softmax over the heads", softmax_over_heads, "softmax is probably over the wrong axis"),
        Mutant("softmax over one", softmax_over_one, "an axis of length 1"),
        Mutant("scores from the values", scores_from_values, "keys make the scores"),
        Mutant("k into values", k_into_values, "appending k to values and v to keys"),
        Mutant("is_causal with one query", causal_query, "is_causal=True with one query"),
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
        Mutant("cache in numbers", weights_in_bytes_only, "the cache is in bytes, too"),
        Mutant("weights in numbers", cache_in_bytes_only, "the weights are in bytes, too"),
        Mutant("seconds per token", seconds_per_token, "turn it over"),
        Mutant("weights only", weights_only, "the cache is missing"),
    ],
    "02.3": [
        Mutant("triangle at the top left", top_left, "starts at the top left"),
        Mutant("a token can't read itself", not_itself, "may read itself"),
        Mutant("sees the next token", one_too_high, "one too high"),
        Mutant("new tokens first", new_first, "your columns begin with the new ones"),
        Mutant("True means forbidden", reversed_meaning, "yours is the reverse"),
        Mutant("no triangle", all_open, "later ones of the same chunk"),
        Mutant("no old columns", new_only, "columns are missing"),
        Mutant("floats for booleans", as_floats, "dtype"),
    ],
}
