"""Exercises of chapter 08: full blocks that later texts find again."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import plain_ints
from minilm.lab.expect import Failed
from minilm.lab.values import kind, show

# --- 08.5 -------------------------------------------------------------------------------------------------------------

ex5 = Exercise(
    "08.5",
    "Blocks found again",
    answer="PrefixCache",
    task="a memory of full blocks: keys(tokens) chained by parent, remember(blocks, tokens, accepted), find(tokens)",
    hints=(
        "Two texts hold the same 4 tokens in their second block, and different ones before. Are the keys and values in "
        "that block the same? And how must a block's key be made, so that it tells?",
        "keys: for every full block, digest(key of the block before it, its tokens). remember: the keys of the first "
        "`accepted` tokens alone, each for its block, where none is known. find: from the first block on, up to the "
        "first one that is not known; one token at least stays to be computed.",
        "keys: for end in range(size, len(tokens) + 1, size): keys.append(digest(keys[-1] if keys else None, "
        "tokens[end - size : end])). remember: zip(self.keys(tokens[:accepted]), blocks) and setdefault. find: "
        "self.keys(tokens[:-1]), and break at the first that is missing.",
    ),
    points=2,
)


def digest(parent, tokens):
    """A key that one can read: all tokens up to here, block by block."""
    return f"{'' if parent is None else parent}[{' '.join(map(str, tokens))}]"


class PrefixCache:
    """The reference, but for the functions that a subclass changes."""

    def __init__(self, size, digest):
        self.size, self.digest, self.blocks = size, digest, {}

    def forget(self, block):
        self.blocks = {key: known for key, known in self.blocks.items() if known != block}

    def parent(self, keys):
        return keys[-1] if keys else None

    def last(self, tokens):
        return len(tokens) + 1

    def keys(self, tokens):
        keys = []
        for end in range(self.size, self.last(tokens), self.size):
            keys.append(self.digest(self.parent(keys), tokens[end - self.size : end]))
        return keys

    def hashed(self, tokens, accepted):
        return tokens[:accepted]

    def put(self, key, block):
        self.blocks.setdefault(key, block)

    def remember(self, blocks, tokens, accepted):
        for key, block in zip(self.keys(self.hashed(tokens, accepted)), blocks, strict=False):
            self.put(key, block)

    def asked(self, tokens):
        return tokens[:-1]

    def gap(self, found):
        return True

    def give(self, found, keys):
        return found

    def find(self, tokens):
        found, keys = [], self.keys(self.asked(tokens))
        for key in keys:
            if key in self.blocks:
                found.append(self.blocks[key])
            elif self.gap(found):
                break
        return self.give(found, keys)


def _but(**change):
    return type("Wrong", (PrefixCache,), change)


def _without_parent(self, keys):
    return None


def _last_parent_kept(self, tokens):
    """The mistake of the last key of all for the parent of a partial block, too."""
    size = self.size
    keys = PrefixCache.keys(self, tokens)
    rest = tokens[len(keys) * size :]
    return keys + [self.digest(self.parent(keys), rest)] * bool(rest)


def _from_the_start(self, tokens):
    return [self.digest(None, tokens[:end]) for end in range(self.size, len(tokens) + 1, self.size)]


def _chain_with_all(self, tokens):
    keys = []
    for end in range(self.size, len(tokens) + 1, self.size):
        keys.append(self.digest(self.parent(keys), tokens[:end]))
    return keys


def _steps_by_one(self, tokens):
    keys = []
    for start in range(len(tokens) - self.size + 1):
        keys.append(self.digest(self.parent(keys), tokens[start : start + self.size]))
    return keys


WRONG_KEYS = {
    "a block's key must tell all that came before it: the key of the block before is `parent`; yours forgets it":
        _but(parent=_without_parent),
    "the parent is the block *before*; yours is always the first one": _but(
        parent=lambda self, keys: keys[0] if keys else None),
    "only *full* blocks have a key: a partial one will still change": _but(keys=_last_parent_kept),
    "the last block is full, too, and needs a key: the text may end where a block ends": _but(
        last=lambda self, tokens: len(tokens)),
    "digest takes the key before and the block's *own* tokens; what came before is in the parent already": _but(
        keys=_chain_with_all),
    "digest takes the key before and the block's own tokens; yours digests the text from its start each time": _but(
        keys=_from_the_start),
    "blocks lie side by side: go on by `size` tokens, not by one": _but(keys=_steps_by_one),
    "the first block has no parent: None": _but(parent=lambda self, keys: keys[-1] if keys else 0),
    "one key for each full block; yours is the last one's alone": _but(
        keys=lambda self, tokens: PrefixCache.keys(self, tokens)[-1:]),
}
KEYS = [([1, 2], 2), ([1], 2), ([], 2), ([1, 2, 3], 2), ([1, 2, 3, 4], 2), ([1, 2, 1, 2, 3], 2), ([5, 6, 7], 1),
        ([1, 2, 3, 4, 5, 6, 7], 3), ([1, 2, 3, 4, 5, 6, 7, 8], 2), ([9, 9, 9, 9, 9, 9], 2)]


class _Keys:
    """keys(tokens) of a new cache, as a function."""

    def __init__(self, answer):
        self.answer, self.shown = answer, ""

    def __call__(self, tokens, size):
        self.shown = f"keys({show(tokens)}), blocks of {size}"
        got = self.answer(size, digest).keys(list(tokens))
        return list(got) if isinstance(got, (list, tuple)) else got


@ex5.check("a key for each full block, chained by parent", mistake="digest(key of the block before, the block's own "
           "tokens), for each full block")
def _(answer):
    agree(_Keys(answer), _Keys(PrefixCache), KEYS, wrong={text: _Keys(cls) for text, cls in WRONG_KEYS.items()})


# A learner's mistake in keys would show in find again, so these go on without caring how the keys came about.
WRONG_FIND = {
    "a draft may still be rejected, and other tokens be written in its place: remember blocks of the first `accepted` "
    "tokens only": _but(hashed=lambda self, tokens, accepted: tokens),
    "a block with a single draft in it is not final: it must be full of accepted tokens": _but(
        hashed=lambda self, tokens, accepted: tokens[: -(-accepted // self.size) * self.size]),
    "`accepted` counts tokens; the block that they just fill is final, too": _but(
        hashed=lambda self, tokens, accepted: tokens[: max(accepted - 1, 0)]),
    "two blocks with the same content: keep the first, to which others may point": _but(
        put=lambda self, key, block: self.blocks.update({key: block})),
    "one token at least must stay to be computed, or the model says nothing of what comes next: of a text that is "
    "known to its end, leave the last block out": _but(asked=lambda self, tokens: tokens),
    "stop at the first block that is not known: what comes after it has no keys and values before it": _but(
        gap=lambda self, found: False),
    "only the text's last block may be left out, for the token to be computed; yours leaves out more": _but(
        asked=lambda self, tokens: tokens[: -self.size]),
    "only the text's last block may be left out, and only where the text ends with it; yours always leaves one out":
        _but(asked=lambda self, tokens: tokens, give=lambda self, found, keys: found[:-1]),
    "find returns the blocks, not their keys": _but(give=lambda self, found, keys: keys[: len(found)]),
    "find returns the list of blocks, not their number": _but(give=lambda self, found, keys: len(found)),
    "find returns all blocks from the first on, as far as they are known; yours is the last one alone": _but(
        give=lambda self, found, keys: found[-1:]),
    "find returns all blocks from the first on, as far as they are known; yours is the first one alone": _but(
        give=lambda self, found, keys: found[:1]),
    "find returns blocks that are remembered; yours gives what is not there": _but(
        give=lambda self, found, keys: [self.blocks.get(key) for key in keys]),
}
A, B = [1, 2, 3, 4, 5, 6, 7], [1, 2, 9, 9, 5, 6, 7]
FINDS = [
    ([], [1, 2, 3]), ([([7], [1, 2], 2)], [1, 2, 3]), ([([7], [1, 2], 2)], [1, 2]), ([([7], [1, 2], 2)], [3, 2, 1]),
    ([([7], [1, 2], 1)], [1, 2, 3]), ([([7], [1, 2, 3], 3)], [1, 2, 3, 4, 5]), ([([7, 4], [1, 2, 3, 4], 3)], A),
    ([([7, 4], [1, 2, 3, 4], 2)], A), ([([7, 4], [1, 2, 3, 4], 4)], A), ([([7, 4], [1, 2, 3, 4], 4)], [1, 2, 3, 4]),
    ([([7, 4, 5], [1, 2, 3, 4, 5, 6], 4)], A), ([([7, 4, 5], A[:6], 6)], B), ([([7, 4, 5, 6], A, 7)], A),
    ([([7, 4], [1, 2, 3, 4], 4), ([0, 2], [1, 2, 3, 4], 4)], A), ([([7, 4], [1, 2, 3, 4], 4), ([0, 2], B, 4)], B),
    ([([7, 4, 5], A[:6], 6)], [3, 4, 5, 6, 7]), ([([7, 4, 5, 8], A[:6], 5)], A), ([([7], [1, 2], 2)], []),
    ([([7, 4, 5], A, 0)], A), ([([7, 4, 5], A[:6], 6), 7], A), ([([7, 4, 5], A[:6], 6), 4], A),
    ([([3, 8, 5, 6], [4, 4] * 4, 8)], [4] * 7), ([([3, 8, 5, 6], [4, 4] * 4, 8)], [4] * 9),
]


class _Finds:
    """find(tokens) after several texts were remembered, as a function."""

    def __init__(self, answer):
        self.answer, self.shown = answer, ""

    def __call__(self, remembered, tokens):
        cache = self.answer(2, digest)
        calls = []
        for one in remembered:
            if isinstance(one, int):
                cache.forget(one)
                calls.append(f"forget({one})")
            else:
                blocks, text, accepted = one
                cache.remember(list(blocks), list(text), accepted)
                calls.append(f"remember({show(blocks)}, {show(text)}, {accepted})")
        if any(isinstance(key, int) for key in cache.blocks):
            raise Failed("self.blocks is {key: block}, as forget needs it; yours is the other way round",
                         [("input", ", ".join(calls) + ", blocks of 2"), ("self.blocks", show(cache.blocks))])
        self.shown = ", ".join([*calls, f"find({show(tokens)})"]) + ", blocks of 2"
        return cache.find(list(tokens))


@ex5.check("finds the longest known beginning of final tokens", mistake="remember full blocks of accepted tokens; find "
           "them from the first on, up to a gap")
def _(answer):
    agree(_Finds(answer), _Finds(PrefixCache), FINDS, wrong={text: _Finds(cls) for text, cls in WRONG_FIND.items()})


@ex5.check("the blocks are plain ints", mistake="a list of ints")
def _(answer):
    plain_ints(_Finds(answer)([([7, 4], [1, 2, 3, 4], 4)], A), "the blocks found")


@ex5.check("asking changes nothing", mistake="find only looks")
def _(answer):
    cache = answer(2, digest)
    cache.remember([7, 4], [1, 2, 3, 4], 4)
    first = cache.find(list(B)), cache.find(list(A)), cache.find(list(B)), cache.find(list(A))
    if first[:2] != first[2:] or answer(2, digest).find(list(A)):
        raise Failed("find remembers something, or two caches share one memory; yours returns "
                     f"{show(first[0])} and then {show(first[2])}")


@ex5.check("any digest will do", mistake="use the digest that is given")
def _(answer):
    def numbers(parent, tokens):
        return hash((-1 if parent is None else parent, *tokens))

    cache = answer(2, numbers)
    cache.remember([7, 4], [1, 2, 3, 4], 4)
    found = cache.find(list(A))
    if not isinstance(found, list) or found != [7, 4]:
        raise Failed(f"another digest, made of numbers: find should give [7, 4]; yours gives "
                     f"{show(found) if isinstance(found, list) else kind(found)}")
