"""Exercise 12.4: which texts of a batch draft how much, when all drafts share one pass."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import plain_ints

ex4 = Exercise(
    "12.4",
    "A budget of drafts",
    answer="share_drafts(confidence, seconds)",
    task="how many drafts each text should have, so that the batch makes the most tokens a second",
    hints=(
        "A draft is worth the chance that it is reached and accepted. Which draft of the whole batch is worth most, "
        "which comes second? And how many of them are worth the time that they make the pass longer?",
        "Multiply the confidences along each text: survival. Sort the survivals of all texts; the first n are the best "
        "n drafts, and since they fall along a text they are beginnings. Then n of them give len(confidence) + their "
        "sum of tokens in seconds[n].",
        "survivals = sorted(((s, -text), ...), reverse=True); most = min(len(seconds) - 1, number of drafts); best = "
        "max(range(most + 1), key=lambda n: (len(confidence) + sum of the first n) / seconds[n]); count each text's "
        "among the first `best`.",
    ),
    points=2,
)


def share_drafts(confidence, seconds):
    """The reference: list of ints, one a text"""
    return _share(confidence, seconds)


def _product(values):
    out, reach = [], 1.0
    for value in values:
        reach *= value
        out.append(reach)
    return out


def _share(confidence, seconds, *, survival=_product, own=lambda texts: texts, rate=lambda tokens, s: tokens / s,
           time=lambda seconds, n, texts: seconds[n], order=True,
           pick=lambda rates: rates.index(max(rates))):
    """The answer, each of its steps open to change."""
    drafts = [(s, -text) for text, values in enumerate(confidence) for s in survival(values)]
    drafts.sort(reverse=order)
    most = min(len(seconds) - 1, len(drafts))
    rates = [rate(own(len(confidence)) + sum(s for s, _ in drafts[:n]), time(seconds, n, len(confidence)))
             for n in range(most + 1)]
    best = pick(rates)
    return [sum(text == -where for _, where in drafts[:best]) for text in range(len(confidence))]


def _but(**change):
    def wrong(*case):
        try:
            return _share(*case, **change)
        except IndexError:
            return None
    return wrong


def _alike(confidence, seconds):
    """The same number for every text, the best of those."""
    texts, longest = len(confidence), max(map(len, confidence))
    rate = {}
    for g in range(longest + 1):
        n = sum(min(g, len(values)) for values in confidence)
        if n < len(seconds):
            rate[g] = (texts + sum(sum(_product(values)[:g]) for values in confidence)) / seconds[n]
    best = max(rate, key=rate.get)
    return [min(best, len(values)) for values in confidence]


def _each_alone(confidence, seconds):
    """Every text decides as if the others did not draft."""
    out = []
    for values in confidence:
        reach = [1.0]
        for s in _product(values):
            reach.append(reach[-1] + s)
        out.append(max(range(min(len(reach), len(seconds))), key=lambda n: reach[n] / seconds[n]))
    return out


def _first_peak(confidence, seconds):
    """Stop at the first draft that does not pay at once."""
    drafts = sorted(((s, -text) for text, values in enumerate(confidence) for s in _product(values)), reverse=True)
    total, n = float(len(confidence)), 0
    while n < min(len(seconds) - 1, len(drafts)) and (total + drafts[n][0]) / seconds[n + 1] > total / seconds[n]:
        total, n = total + drafts[n][0], n + 1
    return [sum(text == -where for _, where in drafts[:n]) for text in range(len(confidence))]


def _over_half(confidence, seconds):
    return [sum(s > 0.5 for s in _product(values)) for values in confidence]


def _in_turn(confidence, seconds):
    """The best number of drafts, dealt out in turn, whatever they are worth."""
    left, counts = sum(share_drafts(confidence, seconds)), [0] * len(confidence)
    while left:
        for text, values in enumerate(confidence):
            if left and counts[text] < len(values):
                counts[text] += 1
                left -= 1
    return counts


def _text_by_text(confidence, seconds):
    """The best number of drafts, to the first texts as many as they have."""
    left, counts = sum(share_drafts(confidence, seconds)), []
    for values in confidence:
        counts.append(min(left, len(values)))
        left -= counts[-1]
    return counts


WRONG = {
    "a draft counts only if all before it were accepted: multiply the confidences along the text": _but(
        survival=list),
    "the drafts most likely to be accepted come first; yours takes the least likely": _but(order=False),
    "the product along a text, not the smallest confidence so far": _but(
        survival=lambda values: [min(values[: i + 1]) for i in range(len(values))]),
    "the product along a text, not the mean so far": _but(
        survival=lambda values: [sum(values[: i + 1]) / (i + 1) for i in range(len(values))]),
    "every text makes one token without any draft: len(confidence) + the sum": _but(own=lambda texts: 0),
    "every text makes one token without any draft: one for each of them, not one in all": _but(own=lambda texts: 1),
    "more drafts always make more tokens; what counts is tokens a second": _but(rate=lambda tokens, s: tokens),
    "a pass gets longer in steps: a draft that does not pay alone may pay with the next ones; look at every n":
        _first_peak,
    "that is the fastest pass; what counts is tokens a second": _but(rate=lambda tokens, s: -s),
    "two choices are equally good here: take the one with fewer drafts": _but(
        pick=lambda rates: max(range(len(rates)), key=lambda n: (rates[n], n))),
    "seconds[n] is a pass with n drafts; the texts' own tokens are in it already, so the index is n": _but(
        time=lambda seconds, n, texts: seconds[n + texts]),
    "seconds[n] is a pass with n drafts: yours is one early": _but(
        time=lambda seconds, n, texts: seconds[max(n - 1, 0)]),
    "texts differ: a sure one may draft much while another drafts nothing; yours gives all alike": _alike,
    "all drafts share one pass: decide for the batch, not for each text alone": _each_alone,
    "which drafts pay depends on the time they take; a fixed bar of 0.5 does not know it": _over_half,
    "the number in all is right; give them to the drafts with the largest survival, not to all texts in turn": _in_turn,
    "the number in all is right; give them to the drafts with the largest survival, not to the first texts":
        _text_by_text,
}


def line(start, step, count):
    """A pass that takes `step` more for each draft."""
    return [round(start + step * n, 6) for n in range(count + 1)]


@ex4.check("one text", mistake="the n with the most tokens a second: (1 + the first n survivals) / seconds[n]")
def _(answer):
    agree(answer, share_drafts, [
        ([[0.6]], [1.0, 1.2]), ([[0.6, 0.95]], line(1, 0.2, 2)), ([[0.7, 0.8, 0.6, 0.6]], line(1, 0.1, 4)),
        ([[0.95, 0.7, 0.95, 0.95, 0.95]], line(1, 0.35, 5))], wrong=WRONG)


@ex4.check("sure texts draft more", mistake="the largest survivals of the whole batch, wherever they are")
def _(answer):
    agree(answer, share_drafts, [
        ([[0.9], [0.2]], line(1, 0.3, 2)), ([[0.3, 0.9], [0.9, 0.8]], line(1, 0.2, 4)),
        ([[0.4, 0.95, 0.95], [0.9, 0.35, 0.9]], line(1, 0.25, 6)),
        ([[0.95, 0.9, 0.9, 0.85], [0.3, 0.9, 0.9], [0.7, 0.6]], line(2, 0.25, 9)),
        ([[0.5, 0.9, 0.8], [0.99, 0.97, 0.9], [0.2, 0.9]], line(1, 0.22, 8))], wrong=WRONG)


@ex4.check("a pass that gets longer in steps", mistake="look at every n: the time may stand still and then jump")
def _(answer):
    steps = [1.0, 1.6, 1.6, 1.6, 1.6, 2.9, 2.9, 2.9, 2.9]
    agree(answer, share_drafts, [
        ([[0.6], [0.55]], [1.0, 1.5, 1.5]), ([[0.9, 0.8, 0.7], [0.8, 0.75]], steps[:6]),
        ([[0.9, 0.9, 0.9], [0.85, 0.8, 0.5], [0.6, 0.1]], steps)], wrong=WRONG)


@ex4.check("where no draft pays, and where there is none", mistake="0 drafts is a choice, too; a text may have none")
def _(answer):
    agree(answer, share_drafts, [
        ([[0.3], [0.2]], line(1, 0.5, 2)), ([[]], [1.0]), ([[], [0.9, 0.85]], line(1, 0.1, 2)),
        ([[0.9, 0.9], [], [0.95]], [1.0, 1.05]), ([[0.5]], [1.0, 1.5])], wrong=WRONG)       # the last: a tie


@ex4.check("never more than seconds has room for", mistake="n goes up to len(seconds) - 1, or to the number of drafts")
def _(answer):
    agree(answer, share_drafts, [([[0.99] * 5, [0.9] * 5], line(1, 0.01, 3)), ([[0.9, 0.8]], line(1, 0.01, 9))],
          wrong=WRONG)


@ex4.check("plain ints", mistake="a list with a plain int for each text")
def _(answer):
    plain_ints(answer([[0.9, 0.8], [0.4]], line(1, 0.1, 3)), "the numbers of drafts")
