"""Exercises of chapter 08: blocks taken when they are needed."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import plain_int, plain_ints
from minilm.lab.values import show

# --- 08.3 -------------------------------------------------------------------------------------------------------------

ex3 = Exercise(
    "08.3",
    "Append, with room",
    answer="append(table, pool, count)",
    task="let the table hold `count` tokens more, with the blocks that it takes; True, or False if they don't fit",
    hints=(
        "Blocks of 4: how many does a text of 4 tokens take? Of 5? And how many has the table already?",
        "How many blocks the new length takes, rounded up, less those that the table has: if more than are free, "
        "return False and touch nothing. Else take that many from the front of the line.",
        "needed = -(-(table['length'] + count) // pool['size']) - len(table['blocks']); for each: block = "
        "pool['free'].pop(0); pool['references'][block] = 1; table['blocks'].append(block).",
    ),
)


def append(table, pool, count):
    """The reference: changes table and pool."""
    return _append(table, pool, count)


def _up(tokens, size):
    return -(-tokens // size)


def _append(table, pool, count, *, needed=lambda length, count, have, size: _up(length + count, size) - have,
            fits=lambda needed, free: needed <= free, take=lambda free: free.pop(0), mark=1, grow=lambda count: count,
            answers=(True, False)):
    """The answer, but for one thing."""
    more = needed(table["length"], count, len(table["blocks"]), pool["size"])
    if not fits(more, len(pool["free"])):
        return answers[1]
    for _ in range(more):
        block = take(pool["free"])
        if mark:
            pool["references"][block] = mark
        table["blocks"].append(block)
    table["length"] += grow(count)
    return answers[0]


def _but(**change):
    return lambda *case: _append(*case, **change)


def _as_far_as_it_goes(table, pool, count):
    room = (len(table["blocks"]) + len(pool["free"])) * pool["size"]
    fits = table["length"] + count <= room
    _append(table, pool, min(count, room - table["length"]), grow=lambda n: n * fits)
    return fits


def _takes_what_there_is(table, pool, count):
    """The mistake of one token after the other, until there is no block."""
    return all(_append(table, pool, 1) for _ in range(count))


def _adds_references(table, pool, count):
    before = len(table["blocks"])
    done = _append(table, pool, count, mark=0)
    for block in table["blocks"][before:]:
        pool["references"][block] += 2
    return done


WRONG_3 = {
    "a block is taken too early: a last block that is just full needs no other one until the next token comes": _but(
        needed=lambda n, c, have, size: (n + c) // size + 1 - have),
    "a block is taken too late: the token after a full block needs a new one, and has no place": _but(
        needed=lambda n, c, have, size: (n + c) // size - have),
    "the last block has room: count the blocks for the whole new length, rounded up, and take what is missing": _but(
        needed=lambda n, c, have, size: _up(c, size)),
    "several tokens may need several blocks, or none; yours takes one at most": _but(
        needed=lambda n, c, have, size: min(1, _up(n + c, size) - have)),
    "one block holds `size` tokens; yours takes one for every token": _but(needed=lambda n, c, have, size: c),
    "the table may have room beyond its tokens already: take what is missing to the blocks that it *has*": _but(
        needed=lambda n, c, have, size: _up(n + c, size) - _up(n, size)),
    "all or nothing: when too few are free, the table and the pool stay as they were": _as_far_as_it_goes,
    "all or nothing: count first, for when too few are free, nothing may change; yours begins with those there are":
        _takes_what_there_is,
    "as many as are free are enough; yours wants one more": _but(fits=lambda needed, free: needed < free or not needed),
    "when too few blocks are free, return False and change nothing; yours counts all tokens as fitting": lambda t, p, c:
        _append(t, p, c, needed=lambda n, c, have, size: min(_up(n + c, size) - have, len(p["free"]))),
    "a block that is taken has one reference: this table's": _but(mark=0),
    "a block that is taken has one reference; yours has two": _adds_references,
    "the table's length grows by count": _but(grow=lambda count: 0),
    "the front of the line comes first: it was free for longest": _but(take=lambda free: free.pop()),
    "a block that is taken is free no longer": _but(take=lambda free: free[0]),
    "True says that the tokens fit": _but(answers=(False, True)),
    "True if the tokens fit, False if they don't; is a `return` missing?": _but(answers=(None, None)),
    "True if the tokens fit, False if they don't: your function returns nothing when they fit": _but(
        answers=(None, False)),
    "True if the tokens fit, False if they don't: your function returns nothing when they don't": _but(
        answers=(True, None)),
}


class _Appends:
    """The answer as a function of several calls: what each returned, and the books afterwards."""

    def __init__(self, answer):
        self.answer, self.shown = answer, ""

    def __call__(self, size, free, blocks, length, counts):
        most = max([-1, *free, *blocks]) + 1
        table = {"blocks": list(blocks), "length": length}
        pool = {"size": size, "free": list(free), "references": [int(block in blocks) for block in range(most)]}
        said = []
        for count in counts:
            self.shown = f"table = {table}, pool = {pool}, count = {count}"
            said.append(self.answer(table, pool, count))
        if len(counts) > 1:
            self.shown = (f"size {size}, free {show(free)}, a table with blocks {show(blocks)} and {length} tokens; "
                          f"one after the other {', '.join(map(str, counts))} more")
        plain_ints(table["blocks"], "the table's blocks")
        plain_int(table["length"], "the table's length")
        return {"returned": said if len(said) > 1 else said[0], "blocks": table["blocks"], "length": table["length"],
                "free": pool["free"], "references": pool["references"]}


APPENDS = [
    (4, [0], [], 0, [1]), (4, [0, 1], [], 0, [4]), (4, [0, 1], [], 0, [5]), (4, [1, 2], [0], 3, [1]),
    (4, [1, 2], [0], 4, [1]), (4, [1, 2], [0], 2, [1]), (4, [2, 1], [0], 4, [1]), (4, [1, 2, 3], [0], 2, [7]),
    (4, [], [0], 4, [1]), (4, [], [0], 3, [1]), (4, [1], [0], 4, [5]), (4, [1], [0], 4, [4]),
    (4, [3, 1], [2, 0], 3, [2]), (4, [3, 1], [2, 0], 3, [6]), (4, [3, 1], [2, 0], 8, [0]),
    (1, [5, 2, 3], [4], 1, [1, 1]), (4, [6, 1, 4, 3], [], 0, [3, 1, 1, 3, 1, 9, 7]), (3, [4, 2, 0, 1], [], 0, [2] * 7),
]


@ex3.check("takes a block when one is needed, and not before", mistake="round the new length up to blocks, and take "
           "what the table lacks", mutates=True)
def _(answer):
    agree(_Appends(answer), _Appends(append), APPENDS, wrong={text: _Appends(f) for text, f in WRONG_3.items()})
