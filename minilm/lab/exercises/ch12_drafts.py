"""Exercise 12.2: what drafts bring to a batch."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch12_shared import shown_as

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


def _seconds(formula):
    """What a pass takes, from the very text that a message shows."""
    return shown_as(f"lambda batch, tokens: {formula}", eval(f"lambda batch, tokens: {formula}"))


_flat = _seconds("1.0")                                 # whatever it reads: what Leviathan's formula is for
_little = _seconds("0.08 + 0.02 * tokens")
_target = _seconds("max(4 + 0.25 * batch, 0.5 * batch * tokens)")       # weights and contexts, or products
_draft = _seconds("max(0.5 + 0.05 * batch, 0.04 * batch * tokens)")
_steep = _seconds("1 + 0.5 * batch * tokens + 0.25 * batch")


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
