"""Wrong answers to the exercises of chapter 02: the decode loop."""

from mutants import Mutant


def feeds_everything(step, prompt, max_new_tokens, eos=None):
    ids = list(prompt)
    while len(ids) - len(prompt) < max_new_tokens:
        ids.append(step(ids))
        if ids[-1] == eos:
            break
    return ids[len(prompt):]


def one_too_few(step, prompt, max_new_tokens, eos=None):
    return with_limit(step, prompt, max_new_tokens - 1, eos)


def one_too_many(step, prompt, max_new_tokens, eos=None):
    return with_limit(step, prompt, max_new_tokens + 1, eos)


def with_limit(step, prompt, limit, eos):
    new, feed = [], prompt
    for _ in range(limit):
        feed = [step(feed)]
        new += feed
        if feed == [eos]:
            break
    return new


def token_by_token(step, prompt, max_new_tokens, eos=None):
    for token in prompt[:-1]:
        step([token])
    return with_limit(step, prompt[-1:], max_new_tokens, eos)


def prompt_again(step, prompt, max_new_tokens, eos=None):
    new = []
    while len(new) < max_new_tokens and eos not in new:
        new.append(step(prompt))
    return new


def stopped_by_the_prompt(step, prompt, max_new_tokens, eos=None):
    new, feed = [], prompt
    while len(new) < max_new_tokens and eos not in (feed if eos is not None else []):
        feed = [step(feed)]
        new += feed
    return new


def passes_after_the_end(step, prompt, max_new_tokens, eos=None):
    new = never_stops(step, prompt, max_new_tokens)
    return new[: new.index(eos) + 1] if eos in new else new


def appends_to_the_prompt(step, prompt, max_new_tokens, eos=None):
    start, feed = len(prompt), list(prompt)
    while len(prompt) - start < max_new_tokens:
        prompt.append(step(feed))
        feed = prompt[-1:]
        if feed == [eos]:
            break
    return prompt[start:]


def feeds_an_int(step, prompt, max_new_tokens, eos=None):
    new, feed = [], prompt
    while len(new) < max_new_tokens:
        feed = step(feed)
        new.append(feed)
        if feed == eos:
            break
    return new


def drops_eos(step, prompt, max_new_tokens, eos=None):
    new, feed = [], prompt
    while len(new) < max_new_tokens and (token := step(feed)) != eos:
        new.append(token)
        feed = [token]
    return new


def with_prompt(step, prompt, max_new_tokens, eos=None):
    ids, feed = list(prompt), prompt
    for _ in range(max_new_tokens):
        feed = [step(feed)]
        ids += feed
        if feed[0] == eos:
            break
    return ids


def never_stops(step, prompt, max_new_tokens, eos=None):
    new, feed = [], prompt
    for _ in range(max_new_tokens):
        feed = [step(feed)]
        new += feed
    return new


def if_eos(step, prompt, max_new_tokens, eos=None):
    new, feed = [], prompt
    for _ in range(max_new_tokens):
        feed = [step(feed)]
        new += feed
        if eos and feed[0] == eos:
            break
    return new


def pass_first(step, prompt, max_new_tokens, eos=None):
    new = [step(prompt)]
    while len(new) < max_new_tokens and new[-1] != eos:
        new.append(step(new[-1:]))
    return new


def one_pass_more(step, prompt, max_new_tokens, eos=None):
    new, token = [], step(prompt)
    while len(new) < max_new_tokens:
        new.append(token)
        if token == eos:
            break
        token = step([token])
    return new


MUTANTS = {
    "02.7": [
        Mutant("feeds everything each time", feeds_everything, "the whole text each time"),
        Mutant("appends to the caller's prompt", appends_to_the_prompt, "prompt in place; work on a copy"),
        Mutant("one token too few", one_too_few, "you stop one token too early"),
        Mutant("one token too many", one_too_many, "you go one token past"),
        Mutant("the prompt again and again", prompt_again, "again and again"),
        Mutant("the prompt token by token", token_by_token, "the whole prompt in one pass"),
        Mutant("stopped by the prompt", stopped_by_the_prompt, "the prompt's end token stops you"),
        Mutant("passes after the end", passes_after_the_end, "after the end token no pass is needed"),
        Mutant("feeds an int", feeds_an_int, "you feed it an int: feed [token]"),
        Mutant("drops the end token", drops_eos, "append it, then stop"),
        Mutant("returns the prompt too", with_prompt, "without the prompt"),
        Mutant("never stops", never_stops, "don't stop at the end token"),
        Mutant("if eos", if_eos, "`if eos` is false"),
        Mutant("a pass before the limit", pass_first, "before you look at the limit"),
        Mutant("one pass more", one_pass_more, "throw away"),
    ],
}
