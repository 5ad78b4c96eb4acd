"""Exercises of chapter 07: the pool that keeps the n-grams that Jacobi steps make."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import plain_ints
from minilm.lab.expect import Failed
from minilm.lab.values import kind, show

# --- 07.2 -------------------------------------------------------------------------------------------------------------

ex2 = Exercise(
    "07.2",
    "The n-gram pool",
    answer="remember(pool, ngram, size)",
    task="put an n-gram into the pool, in place: under its first token the rest, the latest first, at most `size`",
    hints=(
        "Two n-grams that begin alike: which is the better guess, and which goes when there is room for one? And what "
        "has happened when the model makes one that is in the pool already?",
        "pool[first] is a list, the latest first. An n-gram that is there already moves to the front; a new one is "
        "put there, and what stands past `size` falls off the end.",
        "first, rest = ngram[0], tuple(ngram[1:]); known = pool.setdefault(first, []); take rest out if it is in "
        "known; known.insert(0, rest); del known[size:].",
    ),
)


def remember(pool, ngram, size):
    """The reference: changes pool, {first token: [rest, ...]}."""
    _remember(pool, ngram, size)


def _remember(pool, ngram, size, *, key=lambda ngram: ngram[0], rest=lambda ngram: tuple(ngram[1:]), again="move",
              most=lambda size: size, put=lambda known, tail: known.insert(0, tail), drop=None):
    """The answer, but for one thing. again: "move" what is known to the front, let it "stay", or put it "twice"."""
    known, tail = pool.setdefault(key(ngram), []), rest(ngram)
    if tail in known and again == "stay":
        return
    if tail in known and again == "move":
        known.remove(tail)
    put(known, tail)
    if drop:
        drop(pool, known, most(size))
    del known[max(most(size), 0) :]


def _evicts_first(pool, ngram, size):
    """The mistake of making room before asking whether the n-gram is known."""
    known, tail = pool.setdefault(ngram[0], []), tuple(ngram[1:])
    if len(known) == size:
        known.pop()
    if tail in known:
        known.remove(tail)
    known.insert(0, tail)


def _refuses(pool, ngram, size):
    known, tail = pool.setdefault(ngram[0], []), tuple(ngram[1:])
    if tail in known:
        known.remove(tail)
    if len(known) < size:
        known.insert(0, tail)


def _least_made(pool, ngram, size):
    """The mistake of a queue: known ones keep their place, the first that came goes first."""
    _remember(pool, ngram, size, again="stay")


def _empties(pool, known, size):
    if len(known) > size:
        del known[1:]


def _oldest_first(pool, ngram, size):
    """Right, but for the order within a list."""
    known, tail = pool.setdefault(ngram[0], []), tuple(ngram[1:])
    if tail in known:
        known.remove(tail)
    known.append(tail)
    del known[: max(len(known) - size, 0)]


def _whole_pool(pool, ngram, size):
    """The mistake of one size for all first tokens together: some other list loses its oldest."""
    _remember(pool, ngram, size)
    while sum(map(len, pool.values())) > size:
        next(known for known in pool.values() if known).pop()


def _room_for_all(pool, ngram, size):
    """The same mistake; the list at hand loses its oldest, and where it has none the new one."""
    _remember(pool, ngram, 10**6)
    while sum(map(len, pool.values())) > size:
        pool[ngram[0]].pop()


def _by_second(pool, ngram, size):
    """The mistake of one n-gram for each second token."""
    known, tail = pool.setdefault(ngram[0], []), tuple(ngram[1:])
    known[:] = [tail, *(one for one in known if one[0] != tail[0])][:size]


WRONG_2 = {
    "what is made again is the latest: move it to the front; the one not made for longest goes, not the one that came "
    "first": _least_made,
    "the same n-gram stands in the pool twice, and takes the place of another one":
        lambda *c: _remember(*c, again="twice"),
    "an n-gram that is known takes no new place: yours drops another one for it": _evicts_first,
    "when the list is full the one not made for longest goes; yours refuses the new one": _refuses,
    "the latest comes first; yours begins with the oldest": _oldest_first,
    "the latest comes first, and the oldest goes: yours drops the new one": lambda *c: _remember(
        *c, put=lambda known, tail: known.append(tail)),
    "one n-gram too many is kept: `size` of them, no more": lambda *c: _remember(*c, most=lambda size: size + 1),
    "one n-gram too few is kept": lambda *c: _remember(*c, most=lambda size: size - 1),
    "nothing is ever dropped: keep at most `size` for each first token": lambda *c: _remember(
        *c, most=lambda size: 10**6),
    "a full list loses one n-gram, the one not made for longest; yours loses all but the new one": lambda *c: _remember(
        *c, drop=_empties),
    "`size` counts the n-grams of *one* first token; yours counts the whole pool": _whole_pool,
    "`size` is for each first token on its own; yours makes room for the n-grams of others, too": _room_for_all,
    "the first token is the key: keep what follows it, N - 1 tokens": lambda *c: _remember(*c, rest=tuple),
    "the key is the *first* token, the one that the text ends with; yours is the last of the n-gram":
        lambda *c: _remember(*c, key=lambda ngram: ngram[-1]),
    "what is kept under the first token is all the rest of the n-gram; yours keeps one token of it": lambda *c:
        _remember(*c, rest=lambda ngram: tuple(ngram[1:2])),
    "two n-grams that differ at their end are two guesses, though they begin alike": _by_second,
}
POOLS = [
    ([(1, 2)], 1), ([(1, 2, 3)], 2), ([(1, 2), (1, 3)], 1), ([(1, 2), (1, 3)], 2), ([(1, 2), (1, 2)], 2),
    ([(1, 2), (4, 3)], 1), ([(1, 2), (1, 3), (1, 2)], 2), ([(1, 2, 3), (1, 2, 4)], 2),
    ([(1, 2), (1, 3), (1, 4)], 2), ([(1, 2), (1, 3), (1, 2), (1, 4)], 2), ([(1, 2), (1, 3), (1, 3), (1, 2)], 2),
    ([(1, 2, 3), (2, 3, 4), (1, 5, 6), (3, 4, 1), (1, 2, 3), (2, 7, 7)], 2),
    ([(1, 2), (1, 3), (1, 4), (1, 5)], 1), ([(1, 2), (1, 3), (1, 4), (1, 5), (1, 3)], 3),
    ([(5, n % 4) for n in (1, 2, 3, 1, 6, 7, 4, 5, 9)], 3),
]


class _Pool:
    """The answer as a function of all n-grams: the pool that they leave."""

    def __init__(self, answer):
        self.answer, self.shown = answer, ""

    def __call__(self, ngrams, size):
        pool = {}
        self.shown = f"into an empty pool, in turn: {show(ngrams)}, size = {size}"
        for ngram in ngrams:
            got = self.answer(pool, ngram, size)
            if not pool and size and isinstance(got, dict):
                raise Failed("you return a pool, and leave the one you were given as it was: change `pool` itself")
        for first, known in pool.items():
            if not isinstance(known, (list, tuple)):
                raise Failed(f"pool[{show(first)}] is a list of tuples, the latest first; yours is {kind(known)}")
            for rest in known:
                if not isinstance(rest, (list, tuple)):
                    raise Failed(f"pool[{show(first)}] is a list of tuples; yours holds {kind(rest)}")
                plain_ints([first, *rest], "tokens")
        return {first: known for first, known in pool.items() if known}


def _after(function):
    """The pool that a function leaves."""
    return lambda *case: _Pool(function)(*case)


@ex2.check("the latest first, at most `size` under a first token", mistake="known ones move to the front, the one at "
           "the end falls off", mutates=True)
def _(answer):
    agree(_Pool(answer), _after(remember), POOLS, wrong={text: _after(f) for text, f in WRONG_2.items()})


@ex2.check("a pool of size 0 keeps nothing", mistake="with size 0 no n-gram stays", mutates=True)
def _(answer):
    left = _Pool(answer)([(1, 2), (1, 3)], 0)
    if left:
        raise Failed(f"with size 0 no n-gram stays; yours holds {show(left)}")


@ex2.check("the n-gram given stays as it was", mistake="read it; change the pool alone", mutates=True)
def _(answer):
    ngram = [1, 2, 3]
    answer({}, ngram, 2)
    if ngram != [1, 2, 3]:
        raise Failed("you change the n-gram itself; others read it, too: ngram[1:] makes a new list")
