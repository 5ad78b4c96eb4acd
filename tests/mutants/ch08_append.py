"""Wrong answers to 08.3: append, with room."""

import math

from mutants import Mutant


def grow(table, pool, needed, count):
    if needed > len(pool["free"]):
        return False
    for _ in range(needed):
        block = pool["free"].pop(0)
        pool["references"][block] = 1
        table["blocks"].append(block)
    table["length"] += count
    return True


def by(needed):
    """An answer from a function (length, count, blocks, size) -> how many blocks are needed."""
    return lambda table, pool, count: grow(
        table, pool, needed(table["length"], count, len(table["blocks"]), pool["size"]), count)


def right(table, pool, count):
    return by(lambda n, c, have, size: math.ceil((n + c) / size) - have)(table, pool, count)


def half(table, pool, count):
    size = pool["size"]
    while len(table["blocks"]) * size < table["length"] + count:
        if not pool["free"]:
            return False
        block = pool["free"].pop(0)
        pool["references"][block] = 1
        table["blocks"].append(block)
    table["length"] += count
    return True


def wants_one_more(table, pool, count):
    needed = math.ceil((table["length"] + count) / pool["size"]) - len(table["blocks"])
    return False if needed > 0 and needed >= len(pool["free"]) else grow(table, pool, needed, count)


def no_reference(table, pool, count):
    before = list(pool["references"])
    fits = right(table, pool, count)
    pool["references"][:] = before
    return fits


def two_references(table, pool, count):
    have = len(table["blocks"])
    fits = right(table, pool, count)
    for block in table["blocks"][have:]:
        pool["references"][block] += 1
    return fits


def length_stays(table, pool, count):
    before = table["length"]
    fits = right(table, pool, count)
    table["length"] = before
    return fits


def from_the_end(table, pool, count):
    pool["free"].reverse()
    fits = right(table, pool, count)
    pool["free"].reverse()
    return fits


def still_free(table, pool, count):
    free, have = list(pool["free"]), len(table["blocks"])
    needed = math.ceil((table["length"] + count) / pool["size"]) - have
    if needed > len(free):
        return False
    for _ in range(needed):
        block = pool["free"][0]
        pool["references"][block] = 1
        table["blocks"].append(block)
    table["length"] += count
    return True


def one_by_one(table, pool, count):
    for _ in range(count):
        if table["length"] == len(table["blocks"]) * pool["size"]:
            if not pool["free"]:
                return False
            table["blocks"].append(pool["free"].pop(0))
            pool["references"][table["blocks"][-1]] = 1
        table["length"] += 1
    return True


def silent(table, pool, count):
    right(table, pool, count)


def silent_when_it_fits(table, pool, count):
    if not right(table, pool, count):
        return False


def silent_when_it_does_not(table, pool, count):
    if right(table, pool, count):
        return True


def the_other_way(table, pool, count):
    return not right(table, pool, count)


def counts_what_fits_not(table, pool, count):
    needed = math.ceil((table["length"] + count) / pool["size"]) - len(table["blocks"])
    enough = needed <= len(pool["free"])
    grow(table, pool, min(needed, len(pool["free"])), count)
    return True if enough else True


MUTANTS = {
    "08.3": [
        Mutant("too early", by(lambda n, c, have, size: (n + c) // size + 1 - have), "a block is taken too early"),
        Mutant("too late", by(lambda n, c, have, size: (n + c) // size - have), "a block is taken too late"),
        Mutant("blocks for the new ones", by(lambda n, c, have, size: math.ceil(c / size)), "the last block has room"),
        Mutant("one at most", by(lambda n, c, have, size: int(math.ceil((n + c) / size) > have)),
               "yours takes one at most"),
        Mutant("one a token", by(lambda n, c, have, size: c), "yours takes one for every token"),
        Mutant("forgets its room", by(lambda n, c, have, size: math.ceil((n + c) / size) - math.ceil(n / size)),
               "the table may have room beyond its tokens"),
        Mutant("half done", half, "all or nothing"),
        Mutant("one by one", one_by_one, "yours begins with those there are"),
        Mutant("wants one more", wants_one_more, "as many as are free are enough"),
        Mutant("counts tokens without a place", counts_what_fits_not, "yours counts all tokens as fitting"),
        Mutant("no reference", no_reference, "a block that is taken has one reference: this table's"),
        Mutant("two references", two_references, "yours has two"),
        Mutant("length stays", length_stays, "the table's length grows by count"),
        Mutant("from the end", from_the_end, "the front of the line comes first"),
        Mutant("still free", still_free, "a block that is taken is free no longer"),
        Mutant("the other way", the_other_way, "True says that the tokens fit"),
        Mutant("silent", silent, "is a `return` missing?"),
        Mutant("silent when it fits", silent_when_it_fits, "returns nothing when they fit"),
        Mutant("silent when it does not", silent_when_it_does_not, "returns nothing when they don't"),
    ],
}
