"""Exercises 12.1 and 12.2: what a pass takes and what binds it, and what drafts bring to a batch."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import Part, plain_number

# --- 12.1 -------------------------------------------------------------------------------------------------------------

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
    "keys and values are read after the products have begun to wait: they come on top of the longer one": _but_1(
        join=lambda w, k, f, l: max(w + k, f) + l),
    "of reading the weights and multiplying the longer one is waited for, not the shorter": _but_1(
        join=lambda w, k, f, l: min(w, f) + k + l),
    "the weights are read once a pass, whatever the batch: that is what a batch is for": _but_1(
        weights=lambda batch, tokens: batch),
    "the weights are read once a pass, for all of its tokens": _but_1(weights=lambda batch, tokens: tokens),
    "each row has keys and values of its own: batch · context of them are read": _but_1(kv=lambda batch, tokens: 1),
    "a row's keys and values are read once for all of its new tokens": _but_1(kv=lambda batch, tokens: batch * tokens),
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
    agree(_part(answer, 1), lambda *case: step_time(*case)[1], cases, wrong={
        "that takes least: which of the four takes most?": lambda *case: _but_1(name=min)(*case)[1]})


@ex1.check("plain numbers", mistake="a float and a name")
def _(answer):
    plain_number(_part(answer, 0)(2, 1, 5, SMALL, SLOW_MEMORY), "the seconds")


# --- 12.2 -------------------------------------------------------------------------------------------------------------

ex2 = Exercise(
    "12.2",
    "Drafts in a batch",
    answer="speed_up(alpha, gamma, batch, target, draft)",
    task="tokens a second with gamma drafts a row over tokens a second without; below 1 where drafts slow down",
    hints=(
        "What does one round give a row, and what does it take? Every row of the batch gets its own tokens, but all "
        "share the passes: the draft's and the one that verifies.",
        "A round gives each row 1 + α + α² + ... + α^γ tokens. It takes γ passes of the draft over one token a row, "
        "one after another, and one pass of the target over γ + 1 tokens a row. Plain decoding gives one token in a "
        "pass over one.",
        "tokens = sum(alpha**i for i in range(gamma + 1)); round = gamma * draft(batch, 1) + target(batch, gamma + 1); "
        "tokens / round divided by 1 / target(batch, 1).",
    ),
)


def speed_up(alpha, gamma, batch, target, draft):
    """The reference."""
    return _speed(alpha, gamma, batch, target, draft)


def _tokens(alpha, gamma, batch):
    return sum(alpha**i for i in range(gamma + 1))


def _speed(alpha, gamma, batch, target, draft, *, tokens=_tokens,
           verify=lambda target, batch, gamma: target(batch, gamma + 1),
           drafts=lambda draft, batch, gamma: gamma * draft(batch, 1),
           plain=lambda target, batch: target(batch, 1)):
    """The answer, each of its steps open to change."""
    return tokens(alpha, gamma, batch) * plain(target, batch) / (
        drafts(draft, batch, gamma) + verify(target, batch, gamma))


def _but_2(**change):
    return lambda *case: _speed(*case, **change)


def _closed(alpha, gamma, batch):
    return (1 - alpha**(gamma + 1)) / (1 - alpha) if alpha < 1 else 0.0


WRONG_2 = {
    "a pass over γ + 1 tokens a row takes target(batch, γ + 1): in a batch that is more than target(batch, 1)": _but_2(
        verify=lambda target, batch, gamma: target(batch, 1)),
    "the pass that verifies reads the row's last token and γ drafts: γ + 1 tokens": _but_2(
        verify=lambda target, batch, gamma: target(batch, gamma)),
    "all rows are verified in one pass of the batch: target(batch, γ + 1)": _but_2(
        verify=lambda target, batch, gamma: target(1, gamma + 1)),
    "γ + 1 tokens of one row share its keys and values: target(batch, γ + 1), not target(batch · (γ + 1), 1)": _but_2(
        verify=lambda target, batch, gamma: target(batch * (gamma + 1), 1)),
    "the target reads the γ + 1 tokens in one pass, not in γ + 1 of them": _but_2(
        verify=lambda target, batch, gamma: (gamma + 1) * target(batch, 1)),
    "every round gives one token of the target's own besides the drafts: begin with 1": _but_2(
        tokens=lambda a, g, b: _tokens(a, g, b) - 1),
    "draft i counts only if all before it were accepted: α^i, not α for each": _but_2(
        tokens=lambda a, g, b: 1 + a * g),
    "not all drafts are accepted: 1 + α + α² + ... + α^γ": _but_2(tokens=lambda a, g, b: g + 1),
    "rows don't wait for each other: each takes the tokens that it accepted, whatever the others did": _but_2(
        tokens=lambda a, g, b: sum(a ** (i * b) for i in range(g + 1))),
    "the sum goes up to α^γ: γ drafts, all accepted, make γ + 1 tokens": _but_2(
        tokens=lambda a, g, b: _tokens(a, g - 1, b) if g else 1.0),
    "where every draft is accepted, (1 - α^(γ+1)) / (1 - α) is 0 / 0; the sum is γ + 1": _but_2(tokens=_closed),
    "drafts are made one after another: γ passes of the draft": _but_2(
        drafts=lambda draft, batch, gamma: draft(batch, 1)),
    "a draft continues the one before it: γ passes over one token each, not one over γ": _but_2(
        drafts=lambda draft, batch, gamma: draft(batch, gamma) if gamma else 0.0),
    "all rows draft: a pass of the draft is over the batch, too": _but_2(
        drafts=lambda draft, batch, gamma: gamma * draft(1, 1)),
    "γ drafts take γ passes; the last one's continuation is the target's own": _but_2(
        drafts=lambda draft, batch, gamma: (gamma + 1) * draft(batch, 1)),
    "drafting takes time, too": _but_2(drafts=lambda draft, batch, gamma: 0.0),
    "both sides serve the same batch: plain decoding takes target(batch, 1)": _but_2(
        plain=lambda target, batch: target(1, 1)),
    "all rows gain alike, and so do those without drafts: the batch cancels out": lambda a, g, batch, t, d: batch
    * speed_up(a, g, batch, t, d),
    "that is the time with drafts over the time without: turn it over": lambda *case: 1 / speed_up(*case),
    "that is tokens of a round over its time; divide by those of plain decoding, 1 / target(batch, 1)":
        lambda a, g, batch, t, d: speed_up(a, g, batch, t, d) / t(batch, 1),
}


def _flat(batch, tokens):
    """A pass that takes the same whatever it reads: what Leviathan's formula is for."""
    return 1.0


def _little(batch, tokens):
    return 0.08 + 0.02 * tokens


def _target(batch, tokens):
    """Weights, contexts, products."""
    return max(4.0 + 0.25 * batch, 0.5 * batch * tokens)


def _draft(batch, tokens):
    return max(0.5 + 0.05 * batch, 0.04 * batch * tokens)


def _steep(batch, tokens):
    return 1.0 + 0.5 * batch * tokens + 0.25 * batch


@ex2.check("one text", mistake="Leviathan's formula: tokens of a round over γ draft passes and one of the target")
def _(answer):
    agree(answer, speed_up, [(0.5, 1, 1, _flat, _little), (0.8, 2, 1, _flat, _little), (0.8, 3, 1, _target, _draft),
                             (0.5, 2, 1, _steep, _draft)], wrong=WRONG_2, tol=1e-6)


@ex2.check("a batch", mistake="the same passes, over the whole batch")
def _(answer):
    agree(answer, speed_up, [(0.8, 2, 2, _target, _draft), (0.7, 4, 4, _steep, _draft), (0.7, 4, 8, _target, _draft),
                             (0.6, 3, 64, _target, _draft)], wrong=WRONG_2, tol=1e-6)


@ex2.check("slow-downs come out, too", mistake="where the batch has filled the processors, drafts cost more than they "
           "bring: a value below 1")
def _(answer):
    agree(answer, speed_up, [(0.3, 4, 32, _target, _draft), (0.0, 2, 16, _target, _draft)], wrong=WRONG_2, tol=1e-6)


@ex2.check("no draft, and all accepted", mistake="γ = 0 is plain decoding, 1; with α = 1 a round gives γ + 1 tokens")
def _(answer):
    agree(answer, speed_up, [(0.5, 0, 3, _target, _draft), (1.0, 3, 2, _target, _draft), (1.0, 1, 1, _flat, _little)],
          wrong=WRONG_2, tol=1e-6)
