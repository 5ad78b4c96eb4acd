"""Wrong answers to the exercises of chapter 02: the decode loop."""

from mutants import Mutant


def feeds_everything(step, prompt, max_new_tokens, eos=None):
    ids = list(prompt)
    while len(ids) - len(prompt) < max_new_tokens:
        ids.append(step(ids))
        if ids[-1] == eos:
            break
    return ids[len(prompt):]


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
        Mutant("drops the end token", drops_eos, "append it, then stop"),
        Mutant("returns the prompt too", with_prompt, "without the prompt"),
        Mutant("never stops", never_stops, "don't stop at the end token"),
        Mutant("if eos", if_eos, "`if eos` is false"),
        Mutant("a pass before the limit", pass_first, "before you look at the limit"),
        Mutant("one pass more", one_pass_more, "throw away"),
    ],
}
