"""Wrong answers to 11.3: how many splits."""
import math

from mutants import Mutant


def count(lengths, kv_heads, processors, tile, split_size, *, fixed=None, first=None, share=0.8, worth=True, best=False,
          absolute=False):
    if split_size is not None:
        return fixed(lengths, split_size) if fixed else [max(1, math.ceil(n / split_size)) for n in lengths]
    programs = len(lengths) if first == "rows" else len(lengths) * kv_heads
    if programs >= share * processors:
        return [1] * len(lengths)
    tiles = math.ceil(max(lengths) / tile)
    fill = {n: programs * n / (math.ceil(programs * n / processors) * processors)
            for n in range(1, min(tiles, processors) + 1)
            if not worth or n == 1 or math.ceil(tiles / n) != math.ceil(tiles / (n - 1))}
    if best:
        return [max(fill, key=lambda n: (fill[n], -n))] * len(lengths)
    bound = 0.85 if absolute else 0.85 * max(fill.values())
    return [next((n for n in fill if fill[n] >= bound), max(fill))] * len(lengths)


def longest_for_all(lengths, kv_heads, processors, tile, split_size=None):
    return count(lengths, kv_heads, processors, tile, split_size,
                 fixed=lambda ns, size: [max(1, math.ceil(max(ns) / size))] * len(ns))


def floor_of_sizes(lengths, kv_heads, processors, tile, split_size=None):
    return count(lengths, kv_heads, processors, tile, split_size,
                 fixed=lambda ns, size: [max(1, n // size) for n in ns])


def none_at_all(lengths, kv_heads, processors, tile, split_size=None):
    return count(lengths, kv_heads, processors, tile, split_size,
                 fixed=lambda ns, size: [math.ceil(n / size) for n in ns])


def rows_only(lengths, kv_heads, processors, tile, split_size=None):
    return count(lengths, kv_heads, processors, tile, split_size, first="rows")


def always_splits(lengths, kv_heads, processors, tile, split_size=None):
    return count(lengths, kv_heads, processors, tile, split_size, share=math.inf)


def fullest(lengths, kv_heads, processors, tile, split_size=None):
    return count(lengths, kv_heads, processors, tile, split_size, best=True)


def absolute(lengths, kv_heads, processors, tile, split_size=None):
    return count(lengths, kv_heads, processors, tile, split_size, absolute=True)


def any_number(lengths, kv_heads, processors, tile, split_size=None):
    return count(lengths, kv_heads, processors, tile, split_size, worth=False)


def right_count(lengths, kv_heads, processors, tile, split_size=None, longest=max, most=min):
    up = lambda a, b: -(-a // b)                                                            # noqa: E731
    if split_size is not None:
        return [max(1, up(n, split_size)) for n in lengths]
    programs, tiles = len(lengths) * kv_heads, up(longest(lengths), tile)
    if programs >= 0.8 * processors:
        return [1] * len(lengths)
    found = [n for n in range(1, most(tiles, processors) + 1) if n == 1 or up(tiles, n) != up(tiles, n - 1)]
    fill = {n: programs * n / (up(programs * n, processors) * processors) for n in found}
    return [next(n for n in found if fill[n] >= 0.85 * max(fill.values()))] * len(lengths)


def beyond_processors(lengths, kv_heads, processors, tile, split_size=None):
    return right_count(lengths, kv_heads, processors, tile, split_size, most=lambda tiles, places: tiles)


def all_rows_tiles(lengths, kv_heads, processors, tile, split_size=None):
    return right_count(lengths, kv_heads, processors, tile, split_size, longest=sum)


def each_its_own(lengths, kv_heads, processors, tile, split_size=None):
    return [right_count([n], kv_heads if split_size else kv_heads * len(lengths), processors, tile, split_size)[0]
            for n in lengths]


def floats(lengths, kv_heads, processors, tile, split_size=None):
    return [float(n) for n in right_count(lengths, kv_heads, processors, tile, split_size)]


MUTANTS = {
    "11.3": [
        Mutant("the longest row's number", longest_for_all, "the longest row's number for all"),
        Mutant("rounds down", floor_of_sizes, "round up"),
        Mutant("0 splits", none_at_all, "at least 1"),
        Mutant("rows only", rows_only, "yours counts the rows only"),
        Mutant("always splits", always_splits, "nothing is split"),
        Mutant("the fullest", fullest, "the fullest of all"),
        Mutant("0.85 itself", absolute, "not a fill of 0.85"),
        Mutant("any number", any_number, "is no choice"),
        Mutant("beyond the processors", beyond_processors, "no more splits than processors"),
        Mutant("a number for each row", each_its_own, "one number for all rows; yours differ"),
        Mutant("tiles of all rows", all_rows_tiles, "not of all rows together"),
        Mutant("floats", floats, "ints, by // and not by /"),
    ],
}
