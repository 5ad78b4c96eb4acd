"""Splitting one attention over many programs: how the parts become one again, and how many parts there should be.

A program that attends to some of the keys leaves a state: its output (normalised over those keys) and the log-sum-exp
of its scores. Two states merge into the state of both their keys; that is all that split-KV needs (Dao et al. 2023,
"Flash-Decoding"; the operator is Milakov & Gimelshein 2018, eq. 4, with an output carried along).

How many splits is a choice with two schools:

    the heuristic    enough programs to fill the chip, however many that takes: fast, but the same row is split in
                     another way in another batch, and sums in another order differ in their last bits
    the fixed size   splits of so many keys, wherever the row stands: bitwise the same whatever the batch around it;
                     long rows in a small batch may be split too little, short rows too much
"""
from functools import reduce

import torch
from torch import Tensor

from minilm.checks import check_count

State = tuple[Tensor, Tensor]       # (output[..., D], log-sum-exp[...], natural logarithm)


def merge(a: State, b: State) -> State:
    """The state of the keys of a and b together, from the states of each.

    Associative and commutative. (anything, -inf) is the identity: the state of no keys at all, whose output is ignored.
    """
    (out_a, lse_a), (out_b, lse_b) = a, b
    lse = torch.logaddexp(lse_a, lse_b)
    return _part(out_a, lse_a, lse) + _part(out_b, lse_b, lse), lse


def _part(out: Tensor, lse: Tensor, of: Tensor) -> Tensor:
    """A state's share of the merged output: out · exp(lse - of)."""
    weight = (lse - of).exp()[..., None]
    return torch.where(weight > 0, out * weight, 0)         # no key seen: weight 0, or nan if nowhere was one seen


def merge_all(outs: Tensor, lses: Tensor) -> State:
    """The state of all splits' keys, merged from the first on: outs[n, ..., D], lses[n, ...] -> (out, lse)."""
    return reduce(merge, zip(outs, lses, strict=True))


def fa2_num_splits(programs: int, processors: int, tiles: int, most: int = 128) -> int:
    """FlashAttention-2's rule: the fewest splits that fill their waves nearly as well as any number of splits could.

    programs: batch · heads · query blocks, the programs there would be without splits. processors: programs that run at
    once (FlashAttention-2 counts each multiprocessor twice). tiles: tiles of keys that can be shared out.
    With 48 programs on 108 multiprocessors: 2 splits fill 96 of 108, 0.89, and 3 splits 144 of 216, 0.67. So it says 2.
    """
    for name, number in (("programs", programs), ("processors", processors), ("tiles", tiles), ("most", most)):
        check_count(name, number, 1)
    if programs >= 0.8 * processors:
        return 1
    most = min(most, processors, tiles)
    # A number that shares out the tiles no better than the one before has empty splits: 64 by 11 or by 12 is 6 each
    worth = [n for n in range(1, most + 1) if n == 1 or _ceil(tiles, n) != _ceil(tiles, n - 1)]
    fill = {n: _fill(programs * n, processors) for n in worth}
    return next(n for n in worth if fill[n] >= 0.85 * max(fill.values()))


def choose_splits(programs: int, keys: int, processors: int, most_keys: int = 16384) -> int:
    """The kernels' own rule: as many splits as run at once, one to a multiprocessor, and none longer than `most_keys`.

    programs: as above. keys: that the longest row may have. One program with enough loads under way keeps its share of
    the memory busy, so a second wave, or a second program beside it, only adds states to merge.
    Measured on one H100, 8 key-value heads of 4096 keys: 16 splits, as here, 11.0 µs; 32, which FlashAttention-2's rule
    makes of two programs to a multiprocessor, 12.8 µs.
    """
    for name, number in (("programs", programs), ("keys", keys), ("processors", processors), ("most_keys", most_keys)):
        check_count(name, number, 1)
    return max(processors // programs, _ceil(keys, most_keys))


def _fill(programs: int, processors: int) -> float:
    """Share of the processors' time that is used when `programs` equal programs run in waves."""
    return programs / (_ceil(programs, processors) * processors)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def check_split(num_splits: int | None, split_size: int | None) -> None:
    """At most one of the two is given, and it is a whole number of at least 1."""
    if num_splits is not None and split_size is not None:
        raise ValueError("give num_splits or split_size, not both")
    for name, number in (("num_splits", num_splits), ("split_size", split_size)):
        if number is not None:
            check_count(name, number, 1)
