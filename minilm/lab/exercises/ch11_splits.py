"""Exercise 11.3: how many splits, so that the chip is full, or so that a row does not depend on its neighbours."""

from minilm.lab.exercise import Exercise, agree

ex3 = Exercise(
    "11.3",
    "How many splits",
    answer="count_splits(lengths, kv_heads, processors, tile, split_size=None)",
    task="splits of each row: ceil(length / split_size), at least 1; or one number for all that fills the last wave",
    hints=(
        "With a split size each row is on its own. Without: how many programs are there before any split? With n "
        "splits each, how many waves do they take, and which share of all the places in those waves is used?",
        "fill(n) = programs · n / (waves · processors), waves = ceil(programs · n / processors). Keep the n from 1 to "
        "min(tiles, processors) that really shorten a split: ceil(tiles / n) < ceil(tiles / (n - 1)). Of these the "
        "smallest whose fill is at least 0.85 of the best. And 1 from 0.8 · processors programs on.",
        "tiles = ceil(max(lengths) / tile); worth = [n for n in range(1, min(tiles, processors) + 1) if n == 1 or "
        "ceil(tiles / n) != ceil(tiles / (n - 1))]; best = max(fill(n) for n in worth); next(n for n in worth if "
        "fill(n) >= 0.85 * best).",
    ),
)


def count_splits(lengths, kv_heads, processors, tile, split_size=None):
    """The reference."""
    return _count(lengths, kv_heads, processors, tile, split_size)


def _ceil(a, b):
    return -(-a // b)


def _count(lengths, kv_heads, processors, tile, split_size=None, *, fixed=lambda n, size: max(1, _ceil(n, size)),
           programs=lambda rows, heads: rows * heads, enough=lambda p, places: p >= 0.8 * places,
           worth=lambda n, tiles: n == 1 or _ceil(tiles, n) != _ceil(tiles, n - 1),
           most=min, choose=lambda fill, worth: next(n for n in worth if fill(n) >= 0.85 * max(map(fill, worth))),
           fill=lambda p, places: p / (_ceil(p, places) * places), longest=max):
    """The answer, each of its steps open to change."""
    if split_size is not None:
        return [fixed(length, split_size) for length in lengths]
    first = programs(len(lengths), kv_heads)
    if enough(first, processors):
        return [1] * len(lengths)
    tiles = _ceil(longest(lengths), tile)
    found = [n for n in range(1, most(tiles, processors) + 1) if worth(n, tiles)]
    return [choose(lambda n: fill(first * n, processors), found)] * len(lengths)


def _but(**change):
    return lambda *given: _count(*given, **change)


WRONG = {
    "with a split size each row is cut by its own length; yours takes the longest row's number for all":
        lambda lengths, heads, places, tile, size=None: _count(lengths, heads, places, tile) if size is None else
        [max(1, _ceil(max(lengths), size))] * len(lengths),
    "a last piece that is not full is a split, too: round up": _but(fixed=lambda n, size: max(1, n // size)),
    "a row without keys still has one split: at least 1": _but(fixed=lambda n, size: _ceil(n, size)),
    "split_size is not looked at: with it the number does not depend on the other rows":
        lambda lengths, heads, places, tile, size=None: _count(lengths, heads, places, tile),
    "programs = rows · key-value heads; yours counts the rows only": _but(programs=lambda rows, heads: rows),
    "programs = rows · key-value heads; yours counts the heads only": _but(programs=lambda rows, heads: heads),
    "from 0.8 · processors programs on nothing is split: 1": _but(enough=lambda p, places: False),
    "0.8 · processors programs are enough already: yours waits until there is one for every processor": _but(
        enough=lambda p, places: p >= places),
    "that is the fullest of all; the smallest number that fills its waves at least 0.85 times as well has less to "
    "merge": _but(choose=lambda fill, worth: max(worth, key=lambda n: (fill(n), -n))),
    "0.85 times the best fill there is, not a fill of 0.85": _but(
        choose=lambda fill, worth: next((n for n in worth if fill(n) >= 0.85), worth[-1])),
    "a number that makes the longest split no shorter than the number before is no choice: with 10 tiles, 6 splits "
    "have up to 2 as 5 have": _but(worth=lambda n, tiles: True),
    "no more splits than tiles: the rest of them would be empty": _but(most=lambda tiles, places: places,
                                                                      worth=lambda n, tiles: True),
    "waves are whole: programs / processors, rounded up; yours has no last wave": _but(
        fill=lambda p, places: min(1.0, p / places)),
    "that fills one wave and no more, which may be far from full: two or three waves may be fuller": _but(
        choose=lambda fill, worth: max((n for n in worth if fill(n) >= fill(1) * n * 0.999), default=1)),
    "tiles of the longest row: the shortest one's leave it too long": _but(longest=min),
    "tiles of the longest row, not of all rows together": _but(longest=sum),
    "tiles of the longest row, not of the mean": _but(longest=lambda lengths: sum(lengths) // len(lengths)),
    "without a split size there is one number for all rows; yours differ":
        lambda lengths, heads, places, tile, size=None: _count(lengths, heads, places, tile, size) if size else
        [_count([n], heads * len(lengths), places, tile)[0] for n in lengths],
    "no more splits than processors: n goes up to min(tiles, processors)": _but(most=lambda tiles, places: tiles),
}


@ex3.check("a fixed size", mistake="ceil(length / split_size) for each row, at least 1")
def _(answer):
    agree(answer, count_splits, [([4], 1, 4, 1, 4), ([5], 1, 4, 1, 4), ([8, 3], 2, 4, 2, 4),
                                 ([0, 9, 64], 2, 132, 16, 8), ([1000] * 40, 8, 132, 64, 512)], wrong=WRONG)


@ex3.check("enough programs", mistake="1 where rows · key-value heads reach 0.8 · processors")
def _(answer):
    agree(answer, count_splits, [([64], 4, 4, 1), ([64] * 2, 2, 5, 1), ([64] * 9, 9, 100, 1),
                                 ([4096] * 16, 8, 132, 64)], wrong=WRONG)


@ex3.check("FlashAttention-2's example", mistake="48 programs on 108 processors: 2 splits fill 0.89, 3 fill 0.67")
def _(answer):
    agree(answer, count_splits, [([4096] * 6, 8, 108, 128), ([1024] * 48, 1, 108, 128)], wrong=WRONG)


@ex3.check("waves and tiles", mistake="the smallest n that is worth it and fills at least 0.85 of the best")
def _(answer):
    agree(answer, count_splits, [([8], 1, 4, 4), ([10], 3, 10, 1), ([10], 3, 20, 1), ([8192], 8, 132, 128),
                                 ([8192] * 5, 8, 132, 128), ([100, 2000], 8, 132, 64), ([300] * 9, 8, 132, 64),
                                 ([640], 4, 132, 64), ([700] * 7, 7, 64, 16), ([1280], 1, 132, 128), ([16], 7, 10, 1),
                                 ([3000] * 2, 9, 100, 64), ([4], 2, 3, 1)], wrong=WRONG)
    assert all(type(n) is int for n in answer([640], 4, 132, 64)), "splits are counted: ints, by // and not by /"
