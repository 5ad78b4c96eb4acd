"""Wrong answers to 07.2: the n-gram pool."""

import torch

from mutants import Mutant


def known_of(pool, ngram):
    return pool.setdefault(ngram[0], []), tuple(ngram[1:])


def queue(pool, ngram, size):
    known, rest = known_of(pool, ngram)
    if rest not in known:
        known.insert(0, rest)
        del known[size:]


def twice(pool, ngram, size):
    known, rest = known_of(pool, ngram)
    known.insert(0, rest)
    del known[size:]


def room_first(pool, ngram, size):
    known, rest = known_of(pool, ngram)
    if known and len(known) >= size:
        known.pop()
    if rest in known:
        known.remove(rest)
    known.insert(0, rest)


def refuses(pool, ngram, size):
    known, rest = known_of(pool, ngram)
    if rest in known:
        known.remove(rest)
    if len(known) < size:
        known.insert(0, rest)


def oldest_first(pool, ngram, size):
    known, rest = known_of(pool, ngram)
    if rest in known:
        known.remove(rest)
    known.append(rest)
    if len(known) > size:
        known.pop(0)


def drops_the_new(pool, ngram, size):
    known, rest = known_of(pool, ngram)
    if rest in known:
        known.remove(rest)
    known.append(rest)
    del known[size:]


def one_more(pool, ngram, size):
    known, rest = known_of(pool, ngram)
    if rest in known:
        known.remove(rest)
    known.insert(0, rest)
    del known[size + 1 :]


def one_less(pool, ngram, size):
    known, rest = known_of(pool, ngram)
    if rest in known:
        known.remove(rest)
    known.insert(0, rest)
    while len(known) >= size:
        known.pop()


def no_limit(pool, ngram, size):
    known, rest = known_of(pool, ngram)
    if rest in known:
        known.remove(rest)
    known.insert(0, rest)


def empties(pool, ngram, size):
    known, rest = known_of(pool, ngram)
    if rest in known:
        known.remove(rest)
    elif len(known) >= size:
        known.clear()
    known.insert(0, rest)


def whole_pool(pool, ngram, size):
    no_limit(pool, ngram, size)
    while sum(len(known) for known in pool.values()) > size:
        next(known for known in pool.values() if known).pop()


def room_for_all(pool, ngram, size):
    no_limit(pool, ngram, size)
    if sum(len(known) for known in pool.values()) > size:
        pool[ngram[0]].pop()


def with_the_first(pool, ngram, size):
    known = pool.setdefault(ngram[0], [])
    if tuple(ngram) in known:
        known.remove(tuple(ngram))
    known.insert(0, tuple(ngram))
    del known[size:]


def by_the_last(pool, ngram, size):
    known, rest = pool.setdefault(ngram[-1], []), tuple(ngram[1:])
    if rest in known:
        known.remove(rest)
    known.insert(0, rest)
    del known[size:]


def next_token_alone(pool, ngram, size):
    no_limit(pool, ngram[:2], size)
    del pool[ngram[0]][size:]


def one_for_a_second_token(pool, ngram, size):
    rest = tuple(ngram[1:])
    others = [known for known in pool.get(ngram[0], []) if known[0] != rest[0]]
    pool[ngram[0]] = [rest, *others][:size]


def returns_a_new_one(pool, ngram, size):
    known = [rest for rest in pool.get(ngram[0], []) if rest != tuple(ngram[1:])]
    return pool | {ngram[0]: [tuple(ngram[1:]), *known][:size]}


def a_set(pool, ngram, size):
    pool.setdefault(ngram[0], set()).add(tuple(ngram[1:]))


def of_texts(pool, ngram, size):
    pool.setdefault(ngram[0], []).insert(0, " ".join(map(str, ngram[1:])))


def of_tensors(pool, ngram, size):
    pool.setdefault(ngram[0], []).insert(0, tuple(map(torch.tensor, ngram[1:])))


def keeps_one_at_least(pool, ngram, size):
    no_limit(pool, ngram, size)
    if len(pool[ngram[0]]) > max(size, 1):
        pool[ngram[0]].pop()


def pops_the_ngram(pool, ngram, size):
    rest = list(ngram)
    if isinstance(ngram, list):
        ngram.pop(0)
    no_limit(pool, rest, size)
    del pool[rest[0]][size:]


MUTANTS = {
    "07.2": [
        Mutant("a queue", queue, "what is made again is the latest"),
        Mutant("twice", twice, "the same n-gram stands in the pool twice"),
        Mutant("room first", room_first, "an n-gram that is known takes no new place"),
        Mutant("refuses", refuses, "yours refuses the new one"),
        Mutant("oldest first", oldest_first, "yours begins with the oldest"),
        Mutant("drops the new", drops_the_new, "yours drops the new one"),
        Mutant("one more", one_more, "one n-gram too many is kept"),
        Mutant("one less", one_less, "one n-gram too few is kept"),
        Mutant("no limit", no_limit, "nothing is ever dropped"),
        Mutant("empties", empties, "yours loses all but the new one"),
        Mutant("whole pool", whole_pool, "yours counts the whole pool"),
        Mutant("room for all", room_for_all, "yours makes room for the n-grams of others"),
        Mutant("with the first", with_the_first, "the first token is the key: keep what follows it"),
        Mutant("by the last", by_the_last, "yours is the last of the n-gram"),
        Mutant("next token alone", next_token_alone, "yours keeps one token of it"),
        Mutant("one for a second token", one_for_a_second_token, "though they begin alike"),
        Mutant("returns a new one", returns_a_new_one, "leave the one you were given as it was"),
        Mutant("a set", a_set, "yours is a set"),
        Mutant("of texts", of_texts, "is a list of tuples; yours holds a str"),
        Mutant("tensors for ints", of_tensors, "tokens are plain ints"),
        Mutant("keeps one at least", keeps_one_at_least, "with size 0 no n-gram stays"),
        Mutant("pops the n-gram", pops_the_ngram, "you change the n-gram itself"),
    ],
}
