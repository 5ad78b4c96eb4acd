"""Exercise 12.1: what a pass takes, and what takes most of it."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import Part, plain_number
from minilm.lab.expect import Failed

ex1 = Exercise(
    "12.1",
    "What a pass takes",
    answer="step_time(batch, tokens, context, model, machine)",
    task='(seconds of a pass, what takes most of them: "weights", "KV", "FLOPs" or "launches")',
    hints=(
        "Four things take time: reading the weights, reading keys and values, multiplying, launching. Which of them "
        "grow with the batch, with the tokens, with the context? Which two run side by side?",
        "Weights are read once for everybody, while every new token of every row meets every parameter in a "
        "multiplication and an addition: the longer of the two counts. A row's keys and values are read once for all "
        "its new tokens; launches are as many as ever: both come on top.",
        "weights = parameters · bytes / bandwidth; flops = 2 · parameters · batch · tokens / rate; kv = batch · "
        "context · kv · bytes / bandwidth; launches = launches · launch; max(weights, flops) + kv + launches, and the "
        "name of the largest of the four.",
    ),
)
NAMES_1 = ("seconds", "what takes most")


def step_time(batch, tokens, context, model, machine):
    """The reference: (float, str)"""
    return _step(batch, tokens, context, model, machine)


def _step(batch, tokens, context, model, machine, *, weights=lambda batch, tokens: 1, kv=lambda batch, tokens: batch,
          width=lambda size: (size, size), per=2, products=lambda batch, tokens: batch * tokens,
          launches=lambda batch, tokens: 1, join=lambda w, k, f, l: max(w, f) + k + l, name=max):
    """The answer, each of its steps open to change."""
    of_weights, of_kv = width(model["bytes"])
    times = {"weights": weights(batch, tokens) * model["parameters"] * of_weights / machine["bandwidth"],
             "KV": kv(batch, tokens) * context * model["kv"] * of_kv / machine["bandwidth"],
             "FLOPs": per * model["parameters"] * products(batch, tokens) / machine["rate"],
             "launches": launches(batch, tokens) * model["launches"] * machine["launch"]}
    return float(join(*times.values())), name(times, key=times.get)


def _but_1(**change):
    return lambda *case: _step(*case, **change)


WRONG_1 = {
    "reading the weights and multiplying by them run side by side: the longer of the two counts, not their sum":
        _but_1(join=lambda w, k, f, l: w + k + f + l),
    "only weights and products run side by side; keys and values and launches come on top of the longer one": _but_1(
        join=lambda w, k, f, l: max(w, k, f, l)),
    "launches come on top: each takes its time before anything moves": _but_1(
        join=lambda w, k, f, l: max(max(w, f) + k, l)),
    "keys and values come on top of the longer of weights and products, not on top of the weights alone": _but_1(
        join=lambda w, k, f, l: max(w + k, f) + l),
    "of reading the weights and multiplying the longer one is waited for, not the shorter": _but_1(
        join=lambda w, k, f, l: min(w, f) + k + l),
    "the weights are read once a pass, whatever the batch: that is what a batch is for": _but_1(
        weights=lambda batch, tokens: batch),
    "the weights are read once a pass, for all of its tokens": _but_1(weights=lambda batch, tokens: tokens),
    "each row has keys and values of its own: batch · context of them are read": _but_1(kv=lambda batch, tokens: 1),
    "a row's keys and values are read once for all of its new tokens": _but_1(kv=lambda batch, tokens: batch * tokens),
    "KV is what the cache holds, `context` tokens of each row, and not context + tokens: the new tokens' keys and "
    "values are made in this pass, not read": lambda batch, tokens, context, *of: _step(
        batch, tokens, context + tokens, *of),
    "keys and values are read, too, besides the weights": _but_1(kv=lambda batch, tokens: 0),
    "memory gives bytes a second, not numbers: multiply by model['bytes']": _but_1(width=lambda size: (1, 1)),
    "keys and values are of model['bytes'] bytes each, like the weights": _but_1(width=lambda size: (size, 1)),
    "the weights are of model['bytes'] bytes each, like keys and values": _but_1(width=lambda size: (1, size)),
    "a token meets each parameter in a multiplication and an addition: 2 FLOP": _but_1(per=1),
    "every new token of a row is computed, not only one": _but_1(products=lambda batch, tokens: batch),
    "every row of the batch is computed": _but_1(products=lambda batch, tokens: tokens),
    "a launch serves the whole batch: their number does not grow with it": _but_1(
        launches=lambda batch, tokens: batch),
    "a launch serves all tokens: their number does not grow with them": _but_1(launches=lambda batch, tokens: tokens),
    "launches take time, too: launches · launch": _but_1(launches=lambda batch, tokens: 0),
    "what is multiplied counts where it takes longer than reading: 2 · parameters · batch · tokens / rate": _but_1(
        products=lambda batch, tokens: 0),
}

SMALL = {"parameters": 100, "bytes": 2, "kv": 4, "launches": 3}
LARGE = {"parameters": 1000, "bytes": 4, "kv": 10, "launches": 5}
SLOW_MEMORY = {"bandwidth": 50, "rate": 10_000, "launch": 0.01}
SLOW_RATE = {"bandwidth": 5000, "rate": 500, "launch": 0.01}
SLOW_LAUNCH = {"bandwidth": 5000, "rate": 10_000, "launch": 0.5}


def _part(answer, index):
    return Part(answer, NAMES_1, index)


def _named(answer):
    """Its second part, which must be one of the four names, letter by letter."""
    name, exact = _part(answer, 1), ("weights", "KV", "FLOPs", "launches")

    def takes_most(*case):
        got = name(*case)
        if got not in exact:
            raise Failed(f'what takes most is one of "weights", "KV", "FLOPs" and "launches", spelled so; yours is '
                         f"{got!r}")
        return got
    return takes_most


def _agree_1(answer, cases):
    wrong = {message: (lambda *case, f=f: f(*case)[0]) for message, f in WRONG_1.items()}
    agree(_part(answer, 0), lambda *case: step_time(*case)[0], cases, wrong=wrong, tol=1e-7)


@ex1.check("one text, one token", mistake="max(weights, FLOPs) + KV + launches")
def _(answer):
    _agree_1(answer, [(1, 1, 0, SMALL, SLOW_MEMORY), (1, 1, 0, SMALL, SLOW_RATE), (1, 1, 10, SMALL, SLOW_MEMORY),
                      (1, 1, 10, SMALL, SLOW_LAUNCH), (1, 1, 25, LARGE, SLOW_RATE)])


@ex1.check("a batch", mistake="weights once; keys and values, and products, for each row")
def _(answer):
    _agree_1(answer, [(4, 1, 0, SMALL, SLOW_MEMORY), (4, 1, 0, SMALL, SLOW_RATE), (4, 1, 25, SMALL, SLOW_MEMORY),
                      (3, 1, 20, LARGE, SLOW_LAUNCH)])


@ex1.check("several tokens a row", mistake="weights, keys and values once; products for each token")
def _(answer):
    _agree_1(answer, [(1, 3, 0, SMALL, SLOW_MEMORY), (1, 3, 10, SMALL, SLOW_RATE), (2, 5, 40, LARGE, SLOW_MEMORY),
                      (3, 5, 20, LARGE, SLOW_RATE), (2, 3, 5, SMALL, SLOW_LAUNCH)])


@ex1.check("what takes most", mistake="the name of the largest of the four")
def _(answer):
    cases = [(1, 1, 0, SMALL, machine) for machine in (SLOW_MEMORY, SLOW_RATE, SLOW_LAUNCH)]
    balanced = {"bandwidth": 1000, "rate": 4000, "launch": 0.05}
    cases += [(batch, tokens, context, SMALL, balanced)
              for batch, tokens, context in ((1, 1, 10), (2, 1, 10), (2, 4, 10), (30, 4, 10), (4, 1, 90), (4, 9, 90))]
    agree(_named(answer), lambda *case: step_time(*case)[1], cases, wrong={
        "that takes least: which of the four takes most?": lambda *case: _but_1(name=min)(*case)[1]})


@ex1.check("plain numbers", mistake="a float and a name")
def _(answer):
    plain_number(_part(answer, 0)(2, 1, 5, SMALL, SLOW_MEMORY), "the seconds")
