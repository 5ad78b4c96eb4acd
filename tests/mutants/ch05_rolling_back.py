"""Wrong answers to 05.4: rolling back."""

import numpy
import torch

from mutants import Mutant

# --- 05.4: rolling back ---


def right(context, drafted, kept):
    target = context + len(kept)
    draft = min(target, context + len(drafted))
    return target, draft, kept[draft - target - 1 :]


def target_one_short(context, drafted, kept):
    return context + len(kept) - 1, *right(context, drafted, kept)[1:]


def target_one_long(context, drafted, kept):
    return context + 1 + len(kept), *right(context, drafted, kept)[1:]


def target_keeps_all(context, drafted, kept):
    return context + 1 + len(drafted), *right(context, drafted, kept)[1:]


def target_starts_again(context, drafted, kept):
    return context, *right(context, drafted, kept)[1:]


def target_drops_the_drafts(context, drafted, kept):
    return context + 1, *right(context, drafted, kept)[1:]


def by_rejected_from_the_end(context, drafted, kept):
    rejected = len(drafted) - (len(kept) - 1)
    return context + 1 + rejected, *right(context, drafted, kept)[1:]


def draft_like_target(context, drafted, kept):
    """The hole: the last draft is thought to be in the draft's cache."""
    target = context + len(kept)
    return target, target, kept[-1:]


def by_the_last_drafts_token(context, drafted, kept):
    full = drafted[-1] in kept
    return context + len(kept), context + len(kept) - full, kept[-2:] if full else kept[-1:]


def draft_always_one_less(context, drafted, kept):
    target = context + len(kept)
    return target, target - 1, kept[-2:]


def draft_one_long(context, drafted, kept):
    target, draft, reads = right(context, drafted, kept)
    return target, draft + 1, reads


def draft_keeps_all(context, drafted, kept):
    return right(context, drafted, kept)[0], context + len(drafted), kept[-1:]


def draft_starts_again(context, drafted, kept):
    return right(context, drafted, kept)[0], context, kept


def draft_drops_the_drafts(context, drafted, kept):
    return right(context, drafted, kept)[0], context + 1, kept


def reads_the_last_alone(context, drafted, kept):
    return *right(context, drafted, kept)[:2], kept[-1:]


def reads_all(context, drafted, kept):
    return *right(context, drafted, kept)[:2], kept


def reads_two(context, drafted, kept):
    return *right(context, drafted, kept)[:2], kept[-2:]


def reads_its_own(context, drafted, kept):
    return *right(context, drafted, kept)[:2], drafted[-1:]


def forgets_the_reading(context, drafted, kept):
    return right(context, drafted, kept)[:2]


def reads_a_token(context, drafted, kept):
    target, draft, reads = right(context, drafted, kept)
    return target, draft, reads if len(reads) > 1 else reads[0]


def lengths_as_floats(context, drafted, kept):
    target, draft, reads = right(context, drafted, kept)
    return float(target), draft, reads


def lengths_by_numpy(context, drafted, kept):
    target, draft, reads = right(context, drafted, kept)
    return target, numpy.int64(draft), reads


def reads_tensors(context, drafted, kept):
    target, draft, reads = right(context, drafted, kept)
    return target, draft, [torch.tensor(token) for token in reads]


MUTANTS = {
    "05.4": [
        Mutant("target one short", target_one_short, "one too few: the target was also fed the text's last token"),
        Mutant("target one long", target_one_long, "one too many: kept's last token"),
        Mutant("target keeps all", target_keeps_all, "rejected drafts must leave the target's cache"),
        Mutant("target starts again", target_starts_again, "you throw the whole round away"),
        Mutant("target drops the drafts", target_drops_the_drafts, "you throw all drafts away"),
        Mutant("rejected for accepted", by_rejected_from_the_end, "you keep the rejected drafts and drop the accepted"),
        Mutant("the hole", draft_like_target, "would have a hole"),
        Mutant("by the last draft's token", by_the_last_drafts_token, "a token may come twice"),
        Mutant("draft always one less", draft_always_one_less, "one too few where a draft was rejected"),
        Mutant("draft one long", draft_one_long, "one too many: kept's last token was fed to nobody yet"),
        Mutant("draft keeps all", draft_keeps_all, "rejected drafts must leave the draft's cache, too"),
        Mutant("draft starts again", draft_starts_again, "you throw all of the round away"),
        Mutant("draft drops the drafts", draft_drops_the_drafts, "you throw all drafts away; the accepted ones that"),
        Mutant("reads the last alone", reads_the_last_alone, "the draft has two tokens to read"),
        Mutant("reads all", reads_all, "read only what is missing"),
        Mutant("reads two", reads_two, "the draft reads two tokens only after full acceptance"),
        Mutant("reads its own", reads_its_own, "not from its own rejected drafts"),
        Mutant("two things", forgets_the_reading, "return 3 things: target_keeps, draft_keeps, draft_reads"),
        Mutant("a token for a list", reads_a_token, "your function returns an int; it should return a list"),
        Mutant("floats for ints", lengths_as_floats, "a length is a plain int"),
        Mutant("NumPy for ints", lengths_by_numpy, "a length is a plain int"),
        Mutant("tensors for ints", reads_tensors, "tokens are plain ints"),
    ],
}
