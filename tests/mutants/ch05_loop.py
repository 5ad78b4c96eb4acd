"""Wrong answers to 05.4 and 05.5: rolling back, and the loop."""

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


# --- 05.5: the loop ---


def loop(target, draft, prompt, limit, num_drafts, eos, commit):
    """The right loop, with commit(drafted, best) -> the round's tokens."""
    new = []
    while len(new) < limit:
        drafted = draft(prompt + new, min(num_drafts, limit - len(new) - 1))
        for token in commit(drafted, target(prompt + new, drafted)):
            new.append(token)
            if token == eos:
                return new
    return new


def prefix(drafted, best):
    n = 0
    while n < len(drafted) and drafted[n] == best[n]:
        n += 1
    return n


def commit(drafted, best):
    n = prefix(drafted, best)
    return drafted[:n] + [best[n]]


def speculate(*case):
    return loop(*case, commit)


def bonus_forgotten(*case):
    return loop(*case, lambda d, b: commit(d, b)[: max(1, len(d))])


def drafts_alone(*case):
    return loop(*case, lambda d, b: commit(d, b)[:-1] or b[:1])


def target_alone(*case):
    return loop(*case, lambda d, b: b[:1])


def all_kept(*case):
    return loop(*case, lambda d, b: d + b[-1:])


def last_of_best(*case):
    return loop(*case, lambda d, b: d[: prefix(d, b)] + [b[-1]])


def skips_the_wrong_one(*case):
    return loop(*case, lambda d, b: [x for x, y in zip(d, b, strict=False) if x == y] + [b[-1]])


def counts_all_that_agree(*case):
    def wrong(d, b):
        n = sum(x == y for x, y in zip(d, b, strict=False))
        return d[:n] + [b[n]]
    return loop(*case, wrong)


def keeps_the_rejected(*case):
    def wrong(d, b):
        n = prefix(d, b)
        return d[: n + 1] if n < len(d) else d + [b[n]]
    return loop(*case, wrong)


def keeps_both(*case):
    return loop(*case, lambda d, b: d[: prefix(d, b) + 1] + [b[prefix(d, b)]])


def shifted(*case):
    def wrong(d, b):
        n = prefix(d, b[1:])
        return d[:n] + [b[n]]
    return loop(*case, wrong)


def too_many(target, draft, prompt, limit, num_drafts, eos):
    new = []
    while len(new) < limit:
        drafted = draft(prompt + new, num_drafts)
        out = commit(drafted, target(prompt + new, drafted))
        if eos in out:
            return new + out[: out.index(eos) + 1]
        new += out
    return new


def one_too_many(target, draft, prompt, limit, num_drafts, eos):
    new = []
    while len(new) < limit:
        drafted = draft(prompt + new, min(num_drafts, limit - len(new)))
        out = commit(drafted, target(prompt + new, drafted))
        if eos in out:
            return new + out[: out.index(eos) + 1]
        new += out
    return new


def with_the_prompt(*case):
    return case[2] + speculate(*case)


def watching(stop, cut):
    """A loop that stops where stop(round's tokens, drafted, eos), with what cut(tokens, eos) leaves of the round."""
    def wrong(target, draft, prompt, limit, num_drafts, eos):
        new = []
        while len(new) < limit:
            drafted = draft(prompt + new, min(num_drafts, limit - len(new) - 1))
            out = commit(drafted, target(prompt + new, drafted))
            if stop(out, drafted, eos):
                return new + cut(out, eos)
            new += out
        return new
    return wrong


def upto(out, eos):
    return out[: out.index(eos) + 1] if eos in out else out


eos_at_the_end_alone = watching(lambda out, drafted, eos: out[-1] == eos, upto)
eos_not_cut = watching(lambda out, drafted, eos: eos in out, lambda out, eos: out)
eos_dropped = watching(lambda out, drafted, eos: eos in out, lambda out, eos: out[: out.index(eos)])
eos_never = watching(lambda out, drafted, eos: False, upto)
eos_in_rejected = watching(lambda out, drafted, eos: eos in drafted or eos in out, upto)
eos_in_drafts_alone = watching(lambda out, drafted, eos: eos in out[:-1], upto)


def cuts_afterwards(target, draft, prompt, limit, num_drafts, eos):
    new = []
    while len(new) < limit:
        drafted = draft(prompt + new, num_drafts)
        out = commit(drafted, target(prompt + new, drafted))
        if eos in out:
            new += out[: out.index(eos) + 1]
            break
        new += out
    return new[:limit]


def a_pass_a_draft(target, draft, prompt, limit, num_drafts, eos):
    new = []
    while len(new) < limit:
        drafted = draft(prompt + new, min(num_drafts, limit - len(new) - 1))
        best = [target(prompt + new, drafted[:i])[-1] for i in range(len(drafted) + 1)]
        for token in commit(drafted, best):
            new.append(token)
            if token == eos:
                return new
    return new


def one_draft_too_few(target, draft, prompt, limit, num_drafts, eos):
    return loop(target, draft, prompt, limit, max(0, num_drafts - 1), eos, commit)


def works_for_nothing(target, draft, prompt, limit, num_drafts, eos):
    new = []
    while True:
        drafted = draft(prompt + new, max(0, min(num_drafts, limit - len(new) - 1)))
        for token in commit(drafted, target(prompt + new, drafted)):
            new.append(token)
            if token == eos or len(new) >= limit:
                return new[:limit]


def always_num_drafts(target, draft, prompt, limit, num_drafts, eos):
    new = []
    while len(new) < limit:
        k = min(num_drafts, limit - len(new) - 1)
        drafted = draft(prompt + new, k)
        best = target(prompt + new, drafted)
        n = 0
        while n < k and drafted[n] == best[n]:
            n += 1
        for token in drafted[:n] + [best[n]]:
            new.append(token)
            if token == eos:
                return new
    return new


def changes_the_prompt(target, draft, prompt, limit, num_drafts, eos):
    start = len(prompt)
    while len(prompt) < start + limit:
        drafted = draft(prompt, min(num_drafts, start + limit - len(prompt) - 1))
        for token in commit(drafted, target(prompt, drafted)):
            prompt.append(token)
            if token == eos:
                return prompt[start:]
    return prompt[start:]


def tokens_as_tensor(*case):
    return torch.tensor(speculate(*case))


def tokens_by_numpy(*case):
    return list(numpy.array(speculate(*case)))


MUTANTS = {
    "05.4": [
        Mutant("target one short", target_one_short, "one too few: the target was also fed the text's last token"),
        Mutant("target one long", target_one_long, "one too many: kept's last token"),
        Mutant("target keeps all", target_keeps_all, "rejected drafts must leave the target's cache"),
        Mutant("target starts again", target_starts_again, "you throw the whole round away"),
        Mutant("target drops the drafts", target_drops_the_drafts, "you throw all drafts away"),
        Mutant("rejected for accepted", by_rejected_from_the_end, "you keep the rejected drafts and drop the accepted"),
        Mutant("the hole", draft_like_target, "would have a hole"),
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
    "05.5": [
        Mutant("bonus forgotten", bonus_forgotten, "the bonus is missing"),
        Mutant("drafts alone", drafts_alone, "only the accepted drafts are used"),
        Mutant("target's token alone", target_alone, "no draft is ever accepted"),
        Mutant("all kept", all_kept, "rejected drafts are kept"),
        Mutant("last of best", last_of_best, "after a rejection comes best[number accepted]"),
        Mutant("skips the wrong one", skips_the_wrong_one, "you skip the draft that differs"),
        Mutant("counts all that agree", counts_all_that_agree, "you count all drafts that agree"),
        Mutant("keeps the rejected", keeps_the_rejected, "the rejected draft itself is kept"),
        Mutant("keeps both", keeps_both, "both the rejected draft and the target's token"),
        Mutant("shifted", shifted, "no draft is ever accepted"),
        Mutant("too many", too_many, "the last round may bring more than there is room for"),
        Mutant("one too many", one_too_many, "with room for r, ask for r - 1 drafts"),
        Mutant("with the prompt", with_the_prompt, "new tokens only"),
        Mutant("end token last alone", eos_at_the_end_alone, "inside the accepted drafts is overlooked"),
        Mutant("not cut at the end token", eos_not_cut, "what the round brought after it is still there"),
        Mutant("end token dropped", eos_dropped, "the end token belongs to the answer"),
        Mutant("never ends", eos_never, "the end token never stops the loop"),
        Mutant("end token rejected", eos_in_rejected, "among *rejected* drafts was never said"),
        Mutant("end token in drafts alone", eos_in_drafts_alone, "as recovered or bonus token counts, too"),
        Mutant("cuts afterwards", cuts_afterwards, "drafts are of use; you ask for"),
        Mutant("a pass a draft", a_pass_a_draft, "the target runs once a round"),
        Mutant("one draft too few", one_draft_too_few, "the target runs once a round, over all its drafts"),
        Mutant("works for nothing", works_for_nothing, "max_new_tokens is 0, and yet a model runs"),
        Mutant("always num_drafts", always_num_drafts, "IndexError"),
        Mutant("changes the prompt", changes_the_prompt, "changes its input prompt in place"),
        Mutant("a tensor for a list", tokens_as_tensor, "it should return a list"),
        Mutant("NumPy for ints", tokens_by_numpy, "tokens are plain ints"),
    ],
}
