"""Wrong answers to 05.5: the loop."""

import numpy
import torch

from mutants import Mutant

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


def eos_in_the_prompt(target, draft, prompt, limit, num_drafts, eos):
    text = list(prompt)
    while len(text) < len(prompt) + limit and eos not in text:
        drafted = draft(text, min(num_drafts, len(prompt) + limit - len(text) - 1))
        new = commit(drafted, target(text, drafted))
        text += new[: new.index(eos) + 1] if eos in new else new
    return text[len(prompt):]


def eos_zero(target, draft, prompt, limit, num_drafts, eos):
    return loop(target, draft, prompt, limit, num_drafts, eos or None, commit)


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
        Mutant("end token in the prompt", eos_in_the_prompt, "an end token in the prompt ends nothing"),
        Mutant("end token 0", eos_zero, "the end token may be 0"),
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
