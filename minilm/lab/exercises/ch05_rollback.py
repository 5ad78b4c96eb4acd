"""Exercise 05.4: what stays in the caches after a round."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import Part, plain_int, plain_ints
from minilm.lab.expect import Failed

ex4 = Exercise(
    "05.4",
    "Rolling back",
    answer="roll_back(context, drafted, kept)",
    task="(tokens that stay in the target's cache, tokens that stay in the draft's, what the draft reads next)",
    hints=(
        "Write down, token by token, what each model was *fed* in the round. Was the last draft fed to the draft?",
        "The target read the text's last token and all drafts. The draft read the text's last token and all drafts but "
        "the last. Keep what is in the new text; kept's last token was fed to nobody.",
        "accepted = len(kept) - 1; target = context + 1 + accepted; the draft can't keep more than it read: "
        "min(target, context + len(drafted)); what of the new text is then missing?",
    ),
)
NAMES_4 = ("target_keeps", "draft_keeps", "draft_reads")


def roll_back(context, drafted, kept):
    """The reference: (int, int, list)"""
    target = context + len(kept)                            # the last token of the text, and the accepted drafts
    draft = min(target, context + len(drafted))
    return target, draft, kept[-1:] if draft == target else kept[-2:]


CASES_4 = [(3, [7], [8]), (3, [7], [7, 8]), (4, [5, 6], [9]), (4, [5, 6], [5, 9]), (4, [5, 6], [5, 6, 9]),
           (6, [1, 2, 3, 4], [1, 2, 9]), (6, [1, 2, 3, 4], [1, 2, 3, 4, 9]), (6, [1, 2, 3, 4], [9]),
           (6, [1, 2, 3, 4], [1, 2, 3, 9]), (5, [7, 8, 7], [7, 9])]

WRONG_TARGET = {
    "one too few: the target was also fed the text's last token, before the drafts": lambda c, d, k: c + len(k) - 1,
    "one too many: kept's last token, recovered or bonus, was chosen by this pass and fed to nobody yet":
        lambda c, d, k: c + len(k) + 1,
    "nothing is rolled back: rejected drafts must leave the target's cache": lambda c, d, k: c + 1 + len(d),
    "you throw the whole round away; the accepted drafts are in the cache already, that is the gain":
        lambda c, d, k: c,
    "you throw all drafts away; the accepted ones are in the cache already, that is the gain": lambda c, d, k: c + 1,
    "you keep the rejected drafts and drop the accepted ones": lambda c, d, k: c + 1 + len(d) - (len(k) - 1),
}
WRONG_DRAFT = {
    "after full acceptance the draft's cache would have a hole: its last draft was never fed to it: one less":
        lambda c, d, k: c + len(k),
    "a token may come twice: full acceptance is len(kept) == len(drafted) + 1, not the last draft's token among kept":
        lambda c, d, k: c + len(k) - (d[-1] in k),
    "one too few where a draft was rejected: only the *last* draft was never fed; the draft's cache is trimmed by one "
    "less than the target's": lambda c, d, k: c + len(k) - 1,
    "one too many: kept's last token was fed to nobody yet": lambda c, d, k: min(c + len(k) + 1, c + len(d) + 1),
    "nothing is rolled back: rejected drafts must leave the draft's cache, too": lambda c, d, k: c + len(d),
    "the draft was fed one draft less than it made: nothing is rolled back, and the last draft is counted":
        lambda c, d, k: c + len(d) + 1,
    "you throw all of the round away; what was accepted stays": lambda c, d, k: c,
    "you throw all drafts away; the accepted ones that the draft was fed stay": lambda c, d, k: c + 1,
}


def _reads(c, d, k, draft):
    """What is missing after the first `draft` tokens of the new text, whose tokens from c + 1 on are `kept`."""
    return k[draft - c - 1 :]


WRONG_READS = {
    "after full acceptance the draft has two tokens to read: its own last draft, which it was never fed, and the bonus":
        lambda c, d, k: k[-1:],
    "the accepted drafts are in the draft's cache already, but for the last of a full acceptance: read only what is "
    "missing": lambda c, d, k: k,
    "the draft reads two tokens only after full acceptance; else the accepted drafts are all in its cache":
        lambda c, d, k: k[-2:],
    "kept's last token comes back to the draft, too: it was fed to nobody yet":
        lambda c, d, k: roll_back(c, d, k)[2][:-1],
    "the draft reads on from the text that was kept, not from its own rejected drafts": lambda c, d, k: d[-1:],
}


@ex4.check("the target keeps what was accepted", mistake="text's last token and the accepted drafts, no more")
def _(answer):
    agree(Part(answer, NAMES_4, 0), lambda *case: roll_back(*case)[0], CASES_4, wrong=WRONG_TARGET)


@ex4.check("the draft keeps what it was fed and what was accepted", mistake="the draft was never fed its last draft")
def _(answer):
    agree(Part(answer, NAMES_4, 1), lambda *case: roll_back(*case)[1], CASES_4, wrong=WRONG_DRAFT)


@ex4.check("the draft reads what it is missing", mistake="its cache and what it reads make the new text")
def _(answer):
    agree(Part(answer, NAMES_4, 2), lambda *case: roll_back(*case)[2], CASES_4, wrong=WRONG_READS)


@ex4.check("plain ints", mistake="two ints and a list of ints")
def _(answer):
    target, draft, reads = answer(*CASES_4[4])
    plain_int(target, "a length")
    plain_int(draft, "a length")
    plain_ints(reads, "tokens")


@ex4.check("cache and reading make the text, round after round", mistake="the lengths must fit the text")
def _(answer):
    text = [50, 51, 52]
    for drafted, accepted in [([1, 2, 3], 3), ([4, 5], 0), ([6], 1), ([7], 0), ([8, 9, 10], 2)]:
        context, kept = len(text) - 1, drafted[:accepted] + [90 + accepted]
        target_keeps, draft_keeps, reads = answer(context, drafted, kept)
        target, draft = (text + drafted)[:target_keeps], (text + drafted[:-1])[:draft_keeps]
        text = text + kept
        if target != text[:-1]:
            raise Failed(f"the target's cache holds {target}; it should hold the text but its last token, {text[:-1]}")
        if draft + list(reads) != text:
            raise Failed(f"the draft's cache holds {draft} and reads {list(reads)}; together they should be {text}")
