"""Exercises of chapter 07: a trie of all that was read, and what it says to come next."""

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.exercises.ch05_shared import plain_ints
from minilm.lab.expect import Failed
from minilm.lab.values import kind, show

# --- 07.5 -------------------------------------------------------------------------------------------------------------

ex5 = Exercise(
    "07.5",
    "A trie that drafts",
    answer="NgramTrie(longest)",
    task="insert(tokens), 7 of the lines: count every n-gram up to `longest`; retrieve(text, match, reach), the others:"
         " what followed most often",
    hints=(
        "Which n-grams begin at a text's third token? And which node says how often `the cat` was seen: one that lies "
        "on the way to `the cat ate`, too?",
        "A node is [how often, seen last, children]; children is a dict from token to node, as self.root is. To "
        "insert, walk down from the root once for each start, and count every node on the way. To retrieve, walk "
        "down along the text's last n tokens, then go on to the child of the highest count.",
        "insert: for start in ...: self.time += 1; children = self.root; for token in tokens[start : start + longest]: "
        "node = children.setdefault(token, [0, 0, {}]); node[0] += 1; node[1] = self.time; children = node[2]. "
        "retrieve: for n in range(min(match, len(text)), 0, -1): walk text[-n:]; if it ends at children: "
        "max(children, key=lambda token: children[token][:2]), and on, `reach` times.",
    ),
    points=2,
)


def _count(texts, longest, *, starts=range, whole=False, ends=False, last=lambda before, time: time):
    """Every n-gram as {tuple: [how often, seen last]}, but for one thing. starts(number of tokens): where n-grams
    begin; whole: only those of `longest` tokens; ends: only the longest from each start count."""
    seen, time = {}, 0
    for text in texts:
        for start in starts(len(text)):
            time += 1
            if whole and start + longest > len(text):
                continue
            most = min(longest, len(text) - start)
            for n in range(1, most + 1):
                entry = seen.setdefault(tuple(text[start : start + n]), [0, 0])
                entry[0] += not ends or n == most
                entry[1] = last(entry[1], time)
    return seen


def _ask(seen, text, match, reach, *, sizes=lambda most: range(most, 0, -1), empty_too=False, with_match=False,
         key=lambda entry, token: entry, most=lambda reach: reach, none=lambda seen, text: []):
    """What follows the text's end, but for one thing. key(entry, token): the largest is taken."""
    for n in sizes(min(match, len(text))):
        at = tuple(text[len(text) - n :])
        if _children(seen, at) or (empty_too and at in seen):
            break
    else:
        return none(seen, text)
    found = list(at) if with_match else []
    while _children(seen, at) and len(found) < most(reach):
        at = (*at, max(_children(seen, at), key=lambda token: key(seen[(*at, token)], token)))
        found.append(at[-1])
    return found


def _children(seen, at):
    """Tokens that were seen after the n-gram, in the order first seen."""
    return [gram[-1] for gram in seen if len(gram) == len(at) + 1 and gram[:-1] == at]


def continuation(texts, longest, text, match, reach):
    """The reference: what a trie says after it read the texts."""
    return _ask(_count(texts, longest), text, match, reach)


def _counts(**change):
    return lambda texts, longest, *asked: _ask(_count(texts, longest, **change), *asked)


def _asks(**change):
    return lambda texts, longest, *asked: _ask(_count(texts, longest), *asked, **change)


def _joined(texts, longest, *asked):
    return continuation([[token for text in texts for token in text]], longest, *asked)


def _longer(by):
    return lambda texts, longest, *asked: continuation(texts, longest + by, *asked)


def _skips(texts, longest, text, match, reach):
    """The mistake of passing over a token that is not there, instead of giving this match up."""
    seen = _count(texts, longest)
    for n in range(min(match, len(text)), 0, -1):
        at = ()
        for token in text[-n:]:
            at = (*at, token) if (*at, token) in seen else at
        if _children(seen, at):
            break
    else:
        return []
    found = []
    while _children(seen, at) and len(found) < reach:
        at = (*at, max(_children(seen, at), key=lambda token: seen[(*at, token)]))
        found.append(at[-1])
    return found


def _starts_apart(texts, longest, *asked):
    """The mistake of cutting the text into pieces: n-grams from every `longest`-th token."""
    return _ask(_count(texts, longest, starts=lambda n: range(0, n, longest)), *asked)


def _looks_up_again(texts, longest, text, match, reach):
    """The mistake of matching the end anew after each token, so that the draft leaves the n-gram."""
    seen, found = _count(texts, longest), []
    while len(found) < reach:
        following = _ask(seen, [*text, *found], match, 1)
        if not following:
            break
        found += following
    return found


def _most_common(seen, text):
    alone = [gram for gram in seen if len(gram) == 1]
    return [max(alone, key=seen.get)[0]] if alone else []


WRONG_5 = {
    "only n-grams from the text's first token are there: one begins at every token": _counts(
        starts=lambda n: range(min(n, 1))),
    "n-grams begin at every token; yours begin `longest` tokens apart": _starts_apart,
    "near its end a text's n-grams are shorter than `longest`; they count, too": _counts(whole=True),
    "every node on the way is seen, too: yours counts only where each n-gram ends": _counts(ends=True),
    "you take what was seen last; count how often, and take that first": _asks(key=lambda entry, token: entry[1]),
    "you take what was seen first; first of all what was seen most often": _asks(key=lambda entry, token: 0),
    "you take what was seen most seldom": _asks(key=lambda entry, token: -entry[0]),
    "of tokens seen equally often take the one seen last; yours was seen first": _asks(
        key=lambda entry, token: entry[0]),
    "of tokens seen equally often take the one seen last, not the smaller one": _asks(
        key=lambda entry, token: (entry[0], -token)),
    "of tokens seen equally often take the one seen last, not the larger one": _asks(
        key=lambda entry, token: (entry[0], token)),
    "seen last is the time of the last time, not of the first": _counts(last=lambda before, time: before or time),
    "no n-gram reaches from one text into the next: each insert begins anew": _joined,
    "insert adds to what is there; yours forgets the texts before": lambda texts, *more: continuation(
        texts[-1:], *more),
    "n-grams have `longest` tokens; yours have one more": _longer(1),
    "n-grams have up to `longest` tokens; yours have one less": _longer(-1),
    "the longest end that matches is the best guess: begin with the last `match` tokens; you begin with one, or look "
    "that up alone": _asks(sizes=lambda most: range(1, most + 1)),
    "when the last `match` tokens are not there, try one less, down to one": _asks(sizes=lambda most: [most] * (
        most > 0)),
    "an end that stood there with nothing after it has nothing to say; try a shorter one": _asks(empty_too=True),
    "a token that is not there ends the walk: this end does not match; yours passes over it": _skips,
    "what comes *after* the match is the draft; yours begins with the match": lambda t, longest, text, match, reach:
        _ask(_count(t, longest), text, match, reach + match, with_match=True),
    "the matched tokens stand in the text already; the draft is what comes after them": lambda t, longest, text, match,
        reach: _ask(_count(t, longest), text, match, reach, with_match=True)[:reach],
    "go on down from the match, to the end of the n-gram; yours looks the end up again after each token":
        _looks_up_again,
    "one token only; go on from it, `reach` tokens in all": _asks(most=lambda reach: min(reach, 1)),
    "at most `reach` tokens": _asks(most=lambda reach: 10**6),
    "where nothing matches there is no draft: return []": _asks(none=_most_common),
}
ASKED = [
    ([], 2, [1], 1, 1), ([[1, 2]], 2, [1], 1, 1), ([[1, 2]], 2, [3], 1, 1), ([[1, 2, 3]], 3, [2], 1, 2),
    ([[1, 2, 1]], 2, [2, 1], 2, 1), ([[1, 2, 3, 4]], 3, [1], 1, 4), ([[1, 2, 3, 4]], 4, [1], 1, 2),
    ([[1, 2, 1, 3, 1, 2]], 2, [1], 1, 1), ([[1, 3, 1, 2]], 2, [1], 1, 1), ([[1, 2, 1, 3]], 2, [1], 1, 1),
    ([[1, 2], [1, 3], [1, 2], [1, 3]], 2, [1], 1, 1), ([[1, 2], [3, 4]], 3, [2], 1, 1),
    ([[1, 2], [1, 2], [1, 3]], 2, [1], 1, 1), ([[1, 3], [1, 2], [1, 2], [1, 3]], 2, [1], 1, 1),
    ([[1, 2, 5], [1, 2, 6], [1, 3]], 3, [1], 1, 1), ([[1, 2], [4, 3]], 2, [1], 1, 1),
    ([[1, 2, 3], [4, 2, 5], [4, 2, 5]], 3, [1, 2], 2, 1), ([[1, 2, 3], [4, 2, 5], [4, 2, 5]], 3, [6, 2], 2, 1),
    ([[1, 2, 5], [3, 2]], 3, [3, 2], 2, 1), ([[1, 2, 3]], 3, [1, 7, 2], 3, 1), ([[7, 1, 2, 3]], 4, [7, 9, 1], 3, 2),
    ([[5, 1, 9, 5, 2, 9, 5, 1]], 3, [5], 1, 2), ([[1, 2, 1, 4, 1, 2]], 3, [1, 4, 1], 3, 2),
    ([[1, 2, 3, 1, 2, 4, 1, 2, 3]], 4, [9, 1], 2, 3), ([[3, 1, 4, 1, 5], [1, 5, 9, 2, 6], [5, 3, 1, 5, 9]], 4, [3, 1],
                                                         2, 2),
    ([[2, 1, 2, 3, 2, 1, 2, 4, 2, 1, 2, 3, 2, 1]], 5, [4, 2, 1], 2, 3),
    ([[1, 2, 3, 4, 5, 1, 2, 3, 5, 4]], 3, [1, 2, 3], 3, 2),
]


def _new(answer, longest):
    """A trie of the learner's; Failed when it lacks a method."""
    trie = answer(longest)
    for method in ("insert(tokens)", "retrieve(text, match, reach)"):
        if not hasattr(trie, method.split("(")[0]):
            raise Failed(f"your class has no method {method}")
    return trie


class _Trie:
    """The answer as a function: a new trie, the texts inserted, then asked."""

    def __init__(self, answer):
        self.answer, self.shown = answer, ""

    def __call__(self, texts, longest, text, match, reach):
        self.shown = (f"NgramTrie({longest}); insert each of {show(texts)}; "
                      f"retrieve({show(text)}, match={match}, reach={reach})")
        trie = _new(self.answer, longest)
        for one in texts:
            trie.insert(list(one))
        return trie.retrieve(list(text), match, reach)


@ex5.check("each trie learns for itself", mistake="what one trie was told another must not know")
def _(answer):
    one, other = _new(answer, 3), _new(answer, 3)
    one.insert([1, 2, 3])
    expect(other.retrieve([1], 1, 1), [], wrong={
        "two tries share what they learnt: make the dict in __init__, for each its own": [2]})


@ex5.check("what followed the longest end most often", mistake="count every n-gram; the longest end that something "
           "followed; then the child seen most often, of equals the one seen last")
def _(answer):
    agree(_Trie(answer), continuation, ASKED, wrong=WRONG_5)


@ex5.check("plain ints", mistake="a list of ints")
def _(answer):
    got = _Trie(answer)(*ASKED[3])
    plain_ints(got, "drafts")
    if not isinstance(got, list):
        raise Failed(f"return a list; yours is {kind(got)}")


@ex5.check("learns on, and asking changes nothing", mistake="insert adds to what is there, retrieve only reads")
def _(answer):
    trie, texts = _new(answer, 3), []
    for text in ([1, 2, 3], [1, 4, 5], [1, 4, 6], [1, 4, 6]):
        trie.insert(list(text))
        texts.append(text)
        for asked in ([1], [7], [1]):
            got, want = list(trie.retrieve(list(asked), 2, 2)), continuation(texts, 3, asked, 2, 2)
            if got != want:
                raise Failed("asked again, or after another insert, the answer is wrong: retrieve only reads, insert "
                             "adds to what is there", [("input", f"{show(texts)} inserted, {show(asked)} asked"),
                                                       ("got", show(got)), ("expected", show(want))])


@ex5.check("asking plants nothing", mistake="retrieve only reads: walk with `in` or get, not with setdefault")
def _(answer):
    trie = _new(answer, 4)
    trie.insert([1, 2, 3])
    trie.retrieve([1, 2, 3, 9], 4, 2)
    got = list(trie.retrieve([1, 2, 3], 4, 2))
    if got:
        raise Failed("retrieve only reads; yours leaves nodes for what was asked, seen 0 times: walk with `in` or get, "
                     "not with setdefault", [("input", "[1, 2, 3] inserted; [1, 2, 3, 9] asked, then [1, 2, 3]"),
                                             ("got", show(got)), ("expected", show([]))])


@ex5.check("what is given stays as it was", mistake="read the tokens; don't pop from them")
def _(answer):
    trie, tokens, text = _new(answer, 3), [1, 2, 3], [5, 1]
    trie.insert(tokens)
    trie.retrieve(text, 2, 2)
    if (tokens, text) != ([1, 2, 3], [5, 1]):
        raise Failed("you change the list you are given; work on a copy of it")
