"""Exercise 05.5: the loop of rounds."""

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.exercises.ch05_shared import plain_ints
from minilm.lab.expect import Failed

ex5 = Exercise(
    "05.5",
    "The loop",
    answer="speculate(target, draft, prompt, max_new_tokens, num_drafts, eos)",
    task="greedy: draft, verify, commit until max_new_tokens or eos; return the new tokens",
    hints=(
        "A round gives the accepted drafts and one token of the target's. How many drafts can still be of use when 3 "
        "tokens of room are left? When 1 is?",
        "best = target(text, drafted) holds the target's own token in the place of each draft, and one after the last. "
        "Count drafts while drafted[i] == best[i]; the round's tokens are these and best[that count].",
        "while len(new) < max_new_tokens: room = max_new_tokens - len(new); drafted = draft(prompt + new, "
        "min(num_drafts, room - 1)); ...; append token by token, and return at eos.",
    ),
    points=2,
)


def speculate(target, draft, prompt, max_new_tokens, num_drafts, eos):
    """The reference: list of new tokens"""
    return _loop(target, draft, prompt, max_new_tokens, num_drafts, eos)


def _accepted(drafted, best):
    return next((i for i, x in enumerate(drafted) if x != best[i]), len(drafted))


def _first_part(drafted, best):
    accepted = _accepted(drafted, best)
    return drafted[:accepted] + [best[accepted]]


def _loop(target, draft, prompt, limit, num_drafts, eos, *, tokens=_first_part, room=lambda n, left: min(n, left - 1),
          stop=lambda out, drafted, eos: eos in out, cut=True, ends=lambda out, eos: out[: out.index(eos) + 1],
          start=()):
    """The answer, but for one thing. tokens(drafted, best) of a round; room(num_drafts, left); stop(out, drafted, eos);
    ends(out, eos): the round's tokens when it stops; cut: at the limit."""
    new = []
    while len(new) < limit:
        text = list(prompt) + new
        drafted = draft(text, room(num_drafts, limit - len(new)))
        out = tokens(drafted, target(text, drafted))
        if not out:
            raise Failed("no token in a round: an endless loop")
        if stop(out, drafted, eos):
            return new + (ends(out, eos) if eos in out else out)
        new += out
    return new[:limit] if cut else new


def _scene(own, wrong=(), length=4):
    """(target, draft) over a scripted text: own[i] is the target's token at place i; the draft is wrong at `wrong`."""
    def target(text, drafted):
        at = len(text)
        return [own[i] if i < len(own) else 0 for i in range(at, at + len(drafted) + 1)]

    def draft(text, n):
        return [60 + i if i in wrong else own[i] if i < len(own) else 0 for i in range(len(text), len(text) + n)]

    return target, draft


def _case(own, wrong, new, num_drafts, eos=None):
    target, draft = _scene([1, 2, *own], wrong)
    return target, draft, [1, 2], new, num_drafts, eos


WRONG_5 = {
    "the bonus is missing: when all drafts are accepted, best has one more token": lambda *c: _loop(
        *c, tokens=lambda d, b: _first_part(d, b) if _accepted(d, b) < len(d) or not d else d),
    "rejected drafts are kept: stop at the first that differs from the target's token": lambda *c: _loop(
        *c, tokens=lambda d, b: d + b[-1:]),
    "after a rejection comes best[number accepted]; you take the last of best, which follows drafts that are gone":
        lambda *c: _loop(*c, tokens=lambda d, b: d[: _accepted(d, b)] + b[-1:]),
    "you skip the draft that differs and keep those after it: they were made after a token that is gone":
        lambda *c: _loop(*c, tokens=lambda d, b: [x for x, y in zip(d, b, strict=False) if x == y] + b[-1:]),
    "you count all drafts that agree; only those before the first difference count": lambda *c: _loop(
        *c, tokens=lambda d, b: (lambda n: d[:n] + [b[n]])(sum(x == y for x, y in zip(d, b, strict=False)))),
    "the rejected draft itself is kept: put the target's token in its place": lambda *c: _loop(
        *c, tokens=lambda d, b: d[: _accepted(d, b) + 1] + (b[-1:] if _accepted(d, b) == len(d) else [])),
    "both the rejected draft and the target's token are kept: the draft goes": lambda *c: _loop(
        *c, tokens=lambda d, b: d[: _accepted(d, b) + 1] + [b[_accepted(d, b)]]),
    "too many tokens: the last round may bring more than there is room for": lambda *c: _loop(
        *c, room=lambda n, left: n, cut=False),
    "too many tokens: with room for r, ask for r - 1 drafts, since the target adds one of its own": lambda *c: _loop(
        *c, room=lambda n, left: min(n, left), cut=False),
    "new tokens only: the prompt does not come back": lambda *c: list(c[2]) + _loop(*c),
}
WRONG_EOS = {
    "the end token inside the accepted drafts is overlooked: what comes after it must go":
        lambda *c: _loop(*c, stop=lambda out, d, e: out[-1] == e),
    "the loop stops at the end token, but what the round brought after it is still there":
        lambda *c: _loop(*c, ends=lambda out, e: out),
    "the end token belongs to the answer: keep it": lambda *c: _loop(*c, ends=lambda out, e: out[: out.index(e)]),
    "the end token may be 0, which Python takes for false: ask `eos is not None`, or compare at once": lambda *c: _loop(
        *c, stop=lambda out, d, e: bool(e) and e in out),
    "an end token in the prompt ends nothing, as after an earlier turn of a chat: look at the new tokens":
        lambda *c: [] if c[5] in c[2] else _loop(*c),
    "the end token never stops the loop": lambda *c: _loop(*c, stop=lambda *_: False),
    "an end token among *rejected* drafts was never said: look at the tokens that are kept":
        lambda *c: _loop(*c, stop=lambda out, d, e: e in d or e in out),
    "an end token as recovered or bonus token counts, too": lambda *c: _loop(
        *c, stop=lambda out, d, e: e in out[:-1]),
}
OWN = list(range(3, 40))


@ex5.check("gives the target's own tokens", mistake="accepted drafts, then the target's token; again from there")
def _(answer):
    agree(answer, speculate, [
        _case(OWN, (), 1, 2), _case(OWN, (2,), 2, 1), _case(OWN, (), 3, 2), _case(OWN, (3,), 4, 3),
        _case(OWN, (4, 5, 9), 9, 3), _case(OWN, range(2, 40), 5, 2), _case(OWN, (3, 8, 9, 15), 16, 4),
        _case(OWN, (), 12, 5)], wrong=WRONG_5)


@ex5.check("stops at the end token, wherever it comes", mistake="the first end token among the kept tokens is the last")
def _(answer):
    ending = [3, 4, 99, 6, 7, 8, 9, 10, 11, 12]
    cases = [_case(ending, (), 8, 4, 99), _case(ending, (), 8, 2, 99), _case(ending, (4,), 8, 4, 99),
             _case(ending, (), 8, 1, 99), _case(ending, (3,), 8, 2, 99), _case(OWN, (3,), 8, 3, 63),
             _case([3, 99, 5, 99, 7, 8], (), 5, 5, 99), _case(ending, (4,), 6, 3, 2),
             _case([3, 4, 0, 6, 7, 8, 9], (), 7, 2, 0)]
    agree(answer, speculate, cases, wrong=WRONG_EOS | WRONG_5)


def _rounds(answer):
    """(new tokens so far, drafts) of each pass of the target, for 14 tokens in rounds of up to 4 drafts."""
    target, draft = _scene([1, 2, *OWN], (4, 10))
    starts = []

    def spy(text, drafted):
        starts.append((len(text) - 2, len(drafted)))
        return target(text, drafted)

    answer(spy, draft, [1, 2], 14, 4, None)
    return starts


@ex5.check("one target pass a round, and no round in vain", mistake="the target looks at all drafts at once")
def _(answer):
    expect(_rounds(answer), _rounds(speculate), wrong={message: (lambda f=f: _rounds(f)) for message, f in {
        **{key: WRONG_5[key] for key in WRONG_5 if "bonus is missing" in key},
        "no draft is ever accepted, each round gives one token: best[i] is the target's token in the place of draft i":
            lambda *c: _loop(*c, tokens=lambda d, b: b[:1]),
        "only the accepted drafts are used: the target's own token after them is free, take it": lambda *c: _loop(
            *c, tokens=lambda d, b: d[: _accepted(d, b)] or b[:1])}.items()},
        mistake="the target runs once a round, over all its drafts, and the next round goes on from what this one gave")


@ex5.check("asks for no more drafts than there is room", mistake="the target adds a token: draft at most room - 1")
def _(answer):
    target, draft = _scene([1, 2, *OWN], (4,))
    asked = []

    def spy(text, n):
        asked.append((len(text) - 2, n))
        return draft(text, n)

    answer(target, spy, [1, 2], 9, 4, None)
    for new, n in asked:
        if n > 9 - new - 1:
            raise Failed(f"with {new} of 9 tokens there is room for {9 - new}: the target gives one of them anyway, so "
                         f"at most {9 - new - 1} drafts are of use; you ask for {n}")
        if n < 0:
            raise Failed(f"you ask for {n} drafts; with no room, ask for 0")
    expect([n for _, n in asked[:2]], [4, 4], mistake="ask for num_drafts drafts in each round while there is room")


@ex5.check("no tokens wanted, no work", mistake="with max_new_tokens = 0 nothing runs")
def _(answer):
    def never(*_):
        raise Failed("max_new_tokens is 0, and yet a model runs")

    expect(answer(never, never, [1, 2], 0, 4, None), [])


@ex5.check("a draft may give fewer", mistake="use len(drafted), not num_drafts: a draft may come out shorter, or empty")
def _(answer):
    target, draft = _scene([1, 2, *OWN], (4,))
    expect(answer(target, lambda text, n: draft(text, n)[: len(text) % 3], [1, 2], 7, 4, None), OWN[:7])


@ex5.check("plain ints", mistake="return a list of ints")
def _(answer):
    plain_ints(answer(*_case(OWN, (4,), 6, 3)), "tokens")
