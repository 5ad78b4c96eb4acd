"""Exercise 11.2: split-KV attention, its pieces as states."""

import math

import torch

from minilm.lab.exercise import Exercise, agree

ex2 = Exercise(
    "11.2",
    "Split-KV attention",
    answer="split_attention(q, k, v, lengths, num_splits)",
    task="(outs[n, B, H, D], lses[n, B, H]): the states of n equal pieces of each row's own keys, some of them empty",
    hints=(
        "Row b has lengths[b] keys. How many has each of its pieces, if the last may be shorter? With 5 keys in 4 "
        "splits: 2, 2, 1 and none.",
        "size = ceil(length / num_splits); split i has the keys from i · size to (i + 1) · size, none past length. All "
        "the H / K query heads of a group read key-value head h // (H / K): view(K, H // K, D). Begin with outs of "
        "zeros and lses of -inf, and leave them where a split is empty.",
        "scores = q[b].view(K, H // K, D) @ k[b, :, first:last].mT * D**-0.5; lse = scores.logsumexp(-1); "
        "out = (scores - lse[..., None]).exp() @ v[b, :, first:last]; both go back to H heads with view.",
    ),
)


def split_attention(q, k, v, lengths, num_splits):
    """The reference."""
    return _split(q, k, v, lengths, num_splits)


def _split(q, k, v, lengths, n, *, size=lambda length, n, S: -(-length // n),
           end=lambda last, length: min(last, length), scale=lambda D: D**-0.5, group=None,
           empty=(0.0, -math.inf), lse_of=lambda s: s.logsumexp(-1),
           out_of=lambda s, lse, v: (s - lse[..., None]).exp() @ v):
    """The answer, each of its steps open to change."""
    (B, H, D), (K, S) = q.shape, k.shape[1:3]
    heads = group(H, K) if group else [h // (H // K) for h in range(H)]
    outs = torch.full((n, B, H, D), empty[0], dtype=q.dtype)
    lses = torch.full((n, B, H), empty[1], dtype=q.dtype)
    for b, length in enumerate(lengths.tolist()):
        piece = size(length, n, S)
        for i in range(n):
            first, last = i * piece, end((i + 1) * piece, length)
            if first >= last:
                continue
            scores = (k[b, heads, first:last] @ q[b, :, :, None])[..., 0] * scale(D)             # (H, keys)
            lse = scores.logsumexp(-1)
            outs[i, b] = out_of(scores[:, None], lse[:, None], v[b, heads, first:last])[:, 0]
            lses[i, b] = lse_of(scores)
    return outs, lses


def _but_2(**change):
    return lambda q, k, v, lengths, n: _split(q, k, v, lengths, n, **change)


def _last_takes_the_rest(q, k, v, lengths, n):
    """Pieces of length // n keys, and what is left over goes to the last."""
    B, H, D = q.shape
    outs, lses = torch.zeros(n, B, H, D, dtype=q.dtype), torch.full((n, B, H), -math.inf, dtype=q.dtype)
    for b, length in enumerate(lengths.tolist()):
        for i in range(n):
            first, last = length // n * i, length if i == n - 1 else length // n * (i + 1)
            if first < last:
                piece = torch.tensor([last - first])
                outs[i, b], lses[i, b] = (x[0, 0] for x in _split(q[b : b + 1], k[b : b + 1, :, first:last],
                                                                  v[b : b + 1, :, first:last], piece, 1))
    return outs, lses


def _evenly(q, k, v, lengths, n):
    """As evenly as can be: 7 keys in 3 splits are 3, 2, 2."""
    outs, lses = _split(q, k, v, lengths * 0, n)
    for b, length in enumerate(lengths.tolist()):
        for i, keys in enumerate(torch.arange(length).tensor_split(n)):
            if len(keys):
                outs[i, b], lses[i, b] = (x[0, 0] for x in _split(q[b : b + 1], k[b : b + 1, :, keys],
                                                                  v[b : b + 1, :, keys], torch.tensor([len(keys)]), 1))
    return outs, lses


def _weight_zero(q, k, v, lengths, n):
    """All of S is multiplied, with weight 0 past the length."""
    outs, lses = _split(q, k, v, lengths, n)
    outs[:, v.isnan().flatten(1).any(1)] = math.nan
    return outs, lses


WRONG_2 = {
    "lengths are not looked at: row b has lengths[b] keys, not S": lambda q, k, v, lengths, n: _split(
        q, k, v, torch.full_like(lengths, k.shape[2]), n),
    "that shares the keys out as evenly as can be, 7 in 3 splits as 3, 2, 2; ceil(7 / 3) = 3 each makes it 3, 3, 1":
        _evenly,
    "what stands past the length is multiplied with weight 0, and 0 · NaN is NaN: take k[..., first:last, :] alone":
        _weight_zero,
    "splits are shares of each row's own length; yours are shares of S, so that short rows have all keys in the first":
        _but_2(size=lambda length, n, S: -(-S // n)),
    "length // num_splits keys in a split leave the last ones out: round up": _but_2(
        size=lambda length, n, S: length // n),
    "round up: each split has ceil(length / num_splits) keys and the last what is left; yours gives the last the rest":
        _last_takes_the_rest,
    "keys past the row's length take part: what stands there is nobody's": _but_2(
        end=lambda last, length: last),
    "the last key is missing": _but_2(end=lambda last, length: min(last, length - 1)),
    "scores are divided by √D": _but_2(scale=lambda D: 1.0),
    "scores are divided by √D, not by D": _but_2(scale=lambda D: 1.0 / D),
    "query heads h = 0 .. H/K - 1 read key-value head 0, the next ones head 1: h // (H / K); yours is h % K": _but_2(
        group=lambda H, K: [h % K for h in range(H)]),
    "all query heads read key-value head 0": _but_2(group=lambda H, K: [0] * H),
    "the sums are stored, not their logarithms: lse = scores.logsumexp(-1)": _but_2(
        lse_of=lambda s: s.exp().sum(-1)),
    "that lse is the largest score only; it is the log of the sum of all exp(score)": _but_2(
        lse_of=lambda s: s.amax(-1)),
    "your lse is measured against the largest score; add it again: logsumexp": _but_2(
        lse_of=lambda s: s.logsumexp(-1) - s.amax(-1)),
    "the outputs are not divided by their sum: a state's out is an attention of its own, softmax(scores) @ v": _but_2(
        out_of=lambda s, lse, v: s.exp() @ v),
    "an empty split's lse must be -inf; with 0 it weighs as much as a key with score 0": _but_2(empty=(0.0, 0.0)),
    "an empty split must not leave NaN: zeros, and lse = -inf": _but_2(empty=(math.nan, -math.inf)),
}


def _case_2(lengths, S, K, G, D, num_splits, seed, dtype=torch.float64, beyond=9.0):
    """Past each row's length stand `beyond`s."""
    chance = torch.Generator().manual_seed(seed)
    q = torch.randn(len(lengths), K * G, D, generator=chance, dtype=torch.float64)
    k, v = torch.randn(2, len(lengths), K, S, D, generator=chance, dtype=torch.float64)
    for b, length in enumerate(lengths):
        k[b, :, length:] = v[b, :, length:] = beyond
    return q.to(dtype), k.to(dtype), v.to(dtype), torch.tensor(lengths), num_splits


@ex2.check("one row in equal splits", mistake="softmax of each piece's scores / √D, and their logsumexp")
def _(answer):
    agree(answer, split_attention, [_case_2([2], 2, 1, 1, 2, 1, 0), _case_2([4], 4, 1, 1, 2, 2, 1),
                                    _case_2([6], 6, 1, 2, 4, 3, 2)], wrong=WRONG_2)


@ex2.check("groups of query heads", mistake="head h reads key-value head h // (H / K)")
def _(answer):
    agree(answer, split_attention, [_case_2([4], 4, 2, 2, 2, 2, 3), _case_2([6], 6, 3, 2, 4, 2, 4)], wrong=WRONG_2)


@ex2.check("ragged rows", mistake="size = ceil(length / num_splits) for each row, and nothing past its length")
def _(answer):
    agree(answer, split_attention, [_case_2([3, 6], 6, 1, 1, 2, 2, 5), _case_2([7, 5, 8], 8, 2, 2, 4, 3, 6),
                                    _case_2([17, 9], 20, 2, 3, 4, 4, 7)], wrong=WRONG_2)


@ex2.check("empty splits and empty rows", mistake="zeros and -inf where there is no key")
def _(answer):
    agree(answer, split_attention, [_case_2([1], 4, 1, 1, 2, 2, 8), _case_2([0, 5], 6, 1, 2, 2, 4, 9),
                                    _case_2([9, 2, 0], 12, 2, 2, 4, 7, 10)], wrong=WRONG_2)


@ex2.check("nobody else's numbers", mistake="what stands past a row's length must not be read, not even with weight 0")
def _(answer):
    agree(answer, split_attention, [_case_2([3], 5, 1, 1, 2, 2, 11, torch.float32, math.nan),
                                    _case_2([0, 7], 9, 2, 2, 4, 3, 12, torch.float32, math.nan)], wrong=WRONG_2)
