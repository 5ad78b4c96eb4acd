"""Exercises of chapter 02: a KV cache, what it costs, and its mask."""

import torch
import torch.nn.functional as F

from minilm.lab.exercise import Exercise, agree, expect

# --- 02.1 -------------------------------------------------------------------------------------------------------------

ex1 = Exercise(
    "02.1",
    "Append and attend",
    answer="append_and_attend(keys, values, q, k, v)",
    task="append a new token's k, v[K, D] to keys, values[K, S, D]; attend with q[H, D]; return (y, keys, values)",
    hints=(
        "The new token reads itself too. So what must happen first: appending, or attending?",
        "Concatenate along the token axis; give each key-value head to H/K query heads; then softmax(q·k / √D)·v.",
        "keys = torch.cat((keys, k[:, None]), dim=1); big = keys.repeat_interleave(H // K, dim=0) is [H, S + 1, D]; "
        "torch.einsum('hd,hsd->hs', q, big) / D**0.5 are the scores.",
    ),
)


def append_and_attend(keys, values, q, k, v):
    """The reference. keys, values[K, S, D], q[H, D], k, v[K, D] -> (y[H, D], keys, values[K, S + 1, D])"""
    keys, values = torch.cat((keys, k[:, None]), dim=1), torch.cat((values, v[:, None]), dim=1)
    return _attend(keys, values, q), keys, values


def _attend(keys, values, q, scale=True, tiled=False, axis=-1):
    group = q.shape[0] // keys.shape[0]
    spread = (lambda x: x.repeat(group, 1, 1)) if tiled else (lambda x: x.repeat_interleave(group, dim=0))
    scores = torch.einsum("hd,hsd->hs", q, spread(keys)) / (q.shape[-1] ** 0.5 if scale else 1)
    return torch.einsum("hs,hsd->hd", scores.softmax(axis), spread(values))


def _variant(**change):
    def wrong(keys, values, q, k, v):
        _, keys, values = append_and_attend(keys, values, q, k, v)
        return _attend(keys, values, q, **change), keys, values

    return wrong


def _old_only(keys, values, q, k, v):
    _, new_keys, new_values = append_and_attend(keys, values, q, k, v)
    return _attend(keys, values, q), new_keys, new_values


def _in_front(keys, values, q, k, v):
    keys, values = torch.cat((k[:, None], keys), dim=1), torch.cat((v[:, None], values), dim=1)
    return _attend(keys, values, q), keys, values


def _not_kept(keys, values, q, k, v):
    return append_and_attend(keys, values, q, k, v)[0], keys, values


def _crossed(keys, values, q, k, v):
    y, values, keys = append_and_attend(values, keys, q, v, k)
    return y, keys, values


def _summed(keys, values, q, k, v):
    _, keys, values = append_and_attend(keys, values, q, k, v)
    return values.sum(dim=1).repeat_interleave(q.shape[0] // k.shape[0], dim=0), keys, values


def _causal_of_one(keys, values, q, k, v):
    _, keys, values = append_and_attend(keys, values, q, k, v)
    return values[:, 0].repeat_interleave(q.shape[0] // k.shape[0], dim=0), keys, values


def _overwrites(keys, values, q, k, v):
    keys, values = keys.clone(), values.clone()
    keys[:, -1], values[:, -1] = k, v
    return _attend(keys, values, q), keys, values


WRONG_1 = {
    "you are probably overwriting the last token; the cache grows by one": _overwrites,
    "you are probably attending before appending: the new token reads itself too": _old_only,
    "you are probably not dividing the scores by the square root of D": _variant(scale=False),
    "you are probably grouping heads as 0 1 0 1; key-value head 0 serves the first H/K query heads: repeat_interleave":
        _variant(tiled=True),
    "softmax is probably over the wrong axis: the weights of each head's S + 1 tokens sum to 1": _variant(axis=0),
    "softmax is probably over an axis of length 1, so each weight is 1; it goes over the tokens": _summed,
    "keys and values are probably swapped: keys make the scores, values are summed": _crossed,
    "you are probably appending k to values and v to keys": lambda keys, values, q, k, v: append_and_attend(
        keys, values, q, v, k),
    "is_causal=True with one query lets it read the first token alone; the newest reads all: no mask": _causal_of_one,
    "you are probably putting the new token in front; append it behind the old ones": _in_front,
    "you are probably returning the old keys and values: the next token will miss this one": _not_kept,
}


def _cache_case(K, S, D, H):
    return (torch.randn(K, S, D), torch.randn(K, S, D), torch.randn(H, D), torch.randn(K, D), torch.randn(K, D))


@ex1.check("attends to the old tokens and to itself", mistake="write softmax(q·k / √D)·v out once more")
def _(answer):
    agree(answer, append_and_attend, [_cache_case(2, 3, 4, 2), _cache_case(2, 5, 4, 4), _cache_case(1, 7, 8, 3)],
          wrong=WRONG_1)


@ex1.check("starts from an empty cache", mistake="with no old token, the new one reads itself alone: y is its value")
def _(answer):
    agree(answer, append_and_attend, [_cache_case(2, 0, 4, 4)], wrong=WRONG_1)


@ex1.check("adds up to causal attention over the whole text", mistake="token by token must equal one pass over all")
def _(answer):
    q, k, v = torch.randn(4, 6, 8), torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    keys = values = torch.empty(2, 0, 8)
    rows = []
    for t in range(6):
        y, keys, values = answer(keys, values, q[:, t], k[:, t], v[:, t])
        rows.append(y)
    want = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)[0]
    expect(torch.stack(rows, dim=1), want)


# --- 02.2 -------------------------------------------------------------------------------------------------------------

ex2 = Exercise(
    "02.2",
    "The read limit",
    answer="read_limit(num_weights, L, K, D, context, batch, bytes_per_number, read_rate)",
    task="the most new tokens per second, if a pass reads all weights once and each text's keys and values once",
    hints=(
        "What is read in one pass? What of it is shared by the texts of a batch, and what belongs to one text?",
        "A pass reads weights + batch · context · (bytes of a token), and gives `batch` new tokens.",
        "A token's cache is 2 · L · K · D numbers. Everything is in numbers until you multiply by bytes_per_number.",
    ),
)


def read_limit(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    """The reference: tokens per second."""
    numbers = num_weights + batch * context * 2 * L * K * D
    return batch * read_rate / (numbers * bytes_per_number)


WRONG_2 = {
    "a token leaves a key and a value: the factor 2 is missing": lambda N, L, K, D, c, b, s, r: (
        b * r / ((N + b * c * L * K * D) * s)),
    "you are probably reading one cache for the whole batch; each text has its own": lambda N, L, K, D, c, b, s, r: (
        b * r / ((N + c * 2 * L * K * D) * s)),
    "you are probably reading the weights once for each text; a batch shares one read": lambda N, L, K, D, c, b, s, r: (
        b * r / (b * (N + c * 2 * L * K * D) * s)),
    "you are probably giving passes per second; a pass makes one new token for each text": (
        lambda N, L, K, D, c, b, s, r: r / ((N + b * c * 2 * L * K * D) * s)),
    "you are probably counting numbers; the rate is in bytes": lambda N, L, K, D, c, b, s, r: (
        b * r / (N + b * c * 2 * L * K * D)),
    "the cache is in bytes, too: only the weights are multiplied by bytes_per_number": lambda N, L, K, D, c, b, s, r: (
        b * r / (N * s + b * c * 2 * L * K * D)),
    "the weights are in bytes, too: only the cache is multiplied by bytes_per_number": lambda N, L, K, D, c, b, s, r: (
        b * r / (N + b * c * 2 * L * K * D * s)),
    "that is seconds per token; turn it over": lambda N, L, K, D, c, b, s, r: (
        (N + b * c * 2 * L * K * D) * s / (b * r)),
    "the cache is missing: with a long context it is most of what is read": lambda N, L, K, D, c, b, s, r: (
        b * r / (N * s)),
}


@ex2.check("counts weights and caches in bytes", mistake="write down what one pass reads, in bytes, term by term")
def _(answer):
    cases = [(1000.0, 2, 1, 4, 0, 1, 4, 8000.0), (1000.0, 2, 1, 4, 10, 3, 4, 9000.0),
             (8e9, 32, 8, 128, 4096, 16, 2, 3e12)]
    agree(answer, read_limit, cases, wrong=WRONG_2)


@ex2.check("batching stops paying when caches are most of it", mistake="double the batch: what grows, what stays?")
def _(answer):
    short = answer(8e9, 32, 8, 128, 16, 64, 2, 3e12) / answer(8e9, 32, 8, 128, 16, 1, 2, 3e12)
    long = answer(8e9, 32, 8, 128, 131_072, 64, 2, 3e12) / answer(8e9, 32, 8, 128, 131_072, 1, 2, 3e12)
    assert short > 60, f"with 16 tokens of context a batch of 64 should give about 63 times as much, not {short:.1f}"
    assert long < 3, f"with 131,072 tokens of context a batch of 64 should give less than 3 times, not {long:.1f}"


# --- 02.3 -------------------------------------------------------------------------------------------------------------

ex3 = Exercise(
    "02.3",
    "The mask of a chunk",
    answer="chunk_mask(new, held)",
    task="bool[new, held + new]: True where new token i may read token j; the `held` old tokens come first",
    hints=(
        "New token 0 stands at position `held`. Which positions may it read?",
        "All old ones and itself: new token i reads columns 0 to held + i.",
        "torch.ones(new, held + new, dtype=torch.bool).tril(...) keeps what is on or below a diagonal; which one?",
    ),
)


def chunk_mask(new, held):
    """The reference: bool[new, held + new]"""
    return torch.ones(new, held + new, dtype=torch.bool).tril(held)


WRONG_3 = {
    "your triangle starts at the top left; new token 0 stands behind `held` old ones: move the diagonal":
        lambda n, h: torch.ones(n, h + n, dtype=torch.bool).tril(),
    "a token may read itself: your diagonal is one too low": lambda n, h: torch.ones(n, h + n).bool().tril(h - 1),
    "your diagonal is one too high: token i sees token i + 1": lambda n, h: torch.ones(n, h + n).bool().tril(h + 1),
    "the old tokens come first: your columns begin with the new ones": lambda n, h: torch.cat(
        (chunk_mask(n, 0), torch.ones(n, h, dtype=torch.bool)), dim=1),
    "True should mean may read; yours is the reverse": lambda n, h: ~chunk_mask(n, h),
    "new tokens see later ones of the same chunk; only the old ones are open to all":
        lambda n, h: torch.ones(n, h + n, dtype=torch.bool),
    "the old tokens' columns are missing: the mask has held + new of them": lambda n, h: chunk_mask(n, 0),
}


@ex3.check("lets token i read the old ones and the new up to itself", mistake="draw the case of 3 new, 2 held on paper")
def _(answer):
    for new, held in ((3, 2), (2, 4), (4, 1)):
        expect(answer(new, held), chunk_mask(new, held),
               wrong={message: (lambda f=f, n=new, h=held: f(n, h)) for message, f in WRONG_3.items()})


@ex3.check("is the plain triangle when nothing is held", mistake="with held = 0 this is ordinary causal attention")
def _(answer):
    expect(answer(3, 0), chunk_mask(3, 0))


@ex3.check("one new token reads everything", mistake="decode is a chunk of one")
def _(answer):
    expect(answer(1, 5), torch.ones(1, 6, dtype=torch.bool))
