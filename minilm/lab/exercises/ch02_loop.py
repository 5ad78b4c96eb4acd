"""Exercises of chapter 02: the decode loop."""

from minilm.lab.exercise import Exercise, expect
from minilm.lab.expect import Failed
from minilm.lab.values import kind

# --- 02.7 -------------------------------------------------------------------------------------------------------------

ex7 = Exercise(
    "02.7",
    "The decode loop",
    answer="decode(step, prompt, max_new_tokens, eos=None)",
    task="call step(list of ints) -> next token: the prompt first, then the newest; stop at the limit or after eos",
    hints=(
        "step remembers all that it was fed: it has a cache. What must you feed it the second time?",
        "Feed the prompt, then only the newest token. Check the limit before a pass and the end token after it.",
        "new, feed = [], prompt; while len(new) < max_new_tokens: token = step(feed); append it; ...; feed = [token]",
    ),
)


def decode(step, prompt, max_new_tokens, eos=None):
    """The reference: the new tokens, with eos as the last one if it came."""
    new, feed = [], prompt
    while len(new) < max_new_tokens:
        token = step(feed)
        new.append(token)
        if token == eos:
            break
        feed = [token]
    return new


def _scripted(script):
    """A step that says `script` and notes what it was fed."""
    fed = []

    def step(feed):
        if not isinstance(feed, (list, tuple)):
            raise Failed(f"step takes a list of ints, and you feed it {kind(feed)}: feed [token], a list of one")
        fed.append(list(feed))
        return script[len(fed) - 1]

    return step, fed


@ex7.check("returns the new tokens", mistake="collect what step returns, one token a pass")
def _(answer):
    step, _ = _scripted([7, 8, 9, 10, 11])
    expect(answer(step, [1, 2], 3), [7, 8, 9], wrong={
        "return the new tokens only, without the prompt": [1, 2, 7, 8, 9],
        "a pass's token is lost: step takes the whole prompt in one pass, not token by token": [8, 9, 10],
        "you stop one token too early": [7, 8], "you go one token past max_new_tokens": [7, 8, 9, 10]})


@ex7.check("feeds the prompt once, then one token a pass", mistake="the cache holds the rest: feed the newest token")
def _(answer):
    step, fed = _scripted([7, 8, 9, 10])
    answer(step, [1, 2], 3)
    expect(fed, [[1, 2], [7], [8]], wrong={
        "you feed the whole text each time; the cache would hold it twice": [[1, 2], [1, 2, 7], [1, 2, 7, 8]],
        "you make a pass whose token you throw away": [[1, 2], [7], [8], [9]],
        "you feed the prompt again and again; after the first pass feed the newest token": [[1, 2]] * 3})


@ex7.check("stops after the end token, which is kept", mistake="look at each token when it comes")
def _(answer):
    step, fed = _scripted([7, 5, 8, 9, 10])
    expect(answer(step, [1, 2], 4, 5), [7, 5], wrong={
        "the end token is part of the answer: append it, then stop": [7],
        "you don't stop at the end token": [7, 5, 8, 9]})
    assert len(fed) == 2, f"after the end token no pass is needed; you made {len(fed)} passes where 2 are enough"


@ex7.check("an end token in the prompt does not stop it", mistake="only new tokens can end the answer")
def _(answer):
    step, _ = _scripted([7, 8, 9])
    expect(answer(step, [5, 1, 5], 2, 5), [7, 8],
           wrong={"the prompt's end token stops you; look at new tokens only": []})


@ex7.check("eos=None never stops, and 0 can be the end token", mistake="compare with ==; None equals no token")
def _(answer):
    step, _ = _scripted([0, 7, 0, 8])
    expect(answer(step, [1], 3), [0, 7, 0])
    step, _ = _scripted([7, 0, 8])
    expect(answer(step, [1], 3, 0), [7, 0],
           wrong={"`if eos` is false for the end token 0: ask `eos is not None`, or just compare with ==": [7, 0, 8]})


@ex7.check("nothing to do for max_new_tokens 0", mistake="check the limit before the pass")
def _(answer):
    step, fed = _scripted([7, 8])
    expect(answer(step, [1, 2], 0), [], wrong={"you make a pass before you look at the limit": [7]})
    assert not fed, "max_new_tokens is 0, yet you made a pass: check the limit first"
