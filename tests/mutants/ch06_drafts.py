"""Wrong answers to 06.1 and 06.5: prompt lookup, and the tree for a node budget."""

import itertools
import math

import torch

from mutants import Mutant

# --- 06.1: prompt lookup ---


def search(text, num_tokens, n, starts):
    """What follows the first place in `starts` where the last n tokens stand; the longest, if none is long enough."""
    best = []
    for start in starts:
        if text[start : start + n] == text[-n:]:
            found = text[start + n : start + n + num_tokens]
            best = max(best, found, key=len)
            if len(best) == num_tokens:
                break
    return best


def backwards(text, n):
    return range(len(text) - n - 1, -1, -1)


def right(text, num_tokens, ngram):
    for n in range(min(ngram, len(text) - 1), 0, -1):
        found = search(text, num_tokens, n, backwards(text, n))
        if found:
            return found
    return []


def matches_itself(text, num_tokens, ngram):
    for n in range(min(ngram, len(text)), 0, -1):
        for start in range(len(text) - n, -1, -1):
            if text[start : start + n] == text[-n:]:
                return text[start + n : start + n + num_tokens]
    return []


def first_occurrence(text, num_tokens, ngram):
    for n in range(min(ngram, len(text) - 1), 0, -1):
        found = search(text, num_tokens, n, range(len(text) - n))
        if found:
            return found
    return []


def shortest_first(text, num_tokens, ngram):
    for n in range(1, min(ngram, len(text) - 1) + 1):
        found = search(text, num_tokens, n, backwards(text, n))
        if found:
            return found
    return []


def one_size(text, num_tokens, ngram):
    n = min(ngram, len(text) - 1)
    return search(text, num_tokens, n, backwards(text, n)) if n else []


def last_token_alone(text, num_tokens, ngram):
    return search(text, num_tokens, 1, backwards(text, 1))


def no_single_token(text, num_tokens, ngram):
    for n in range(min(ngram, len(text) - 1), 1, -1):
        found = search(text, num_tokens, n, backwards(text, n))
        if found:
            return found
    return []


def with_the_match(text, num_tokens, ngram):
    for n in range(min(ngram, len(text) - 1), 0, -1):
        for start in backwards(text, n):
            if text[start : start + n] == text[-n:]:
                return text[start : start + num_tokens]
    return []


def one_skipped(text, num_tokens, ngram):
    for n in range(min(ngram, len(text) - 1), 0, -1):
        for start in backwards(text, n):
            found = text[start + n + 1 : start + n + 1 + num_tokens]
            if text[start : start + n] == text[-n:] and len(found) == num_tokens:
                return found
    return []


def short_ones_too(text, num_tokens, ngram):
    for n in range(min(ngram, len(text) - 1), 0, -1):
        for start in backwards(text, n):
            if text[start : start + n] == text[-n:]:
                return text[start + n : start + n + num_tokens]
    return []


def longest_of_all(text, num_tokens, ngram):
    return max((search(text, num_tokens, n, backwards(text, n)) for n in range(min(ngram, len(text) - 1), 0, -1)),
               key=len, default=[])


def no_overlap(text, num_tokens, ngram):
    for n in range(min(ngram, len(text) - 1), 0, -1):
        found = search(text, num_tokens, n, range(len(text) - 2 * n, -1, -1))
        if found:
            return found
    return []


def full_drafts_alone(text, num_tokens, ngram):
    for n in range(min(ngram, len(text) - 1), 0, -1):
        for start in range(len(text) - n - num_tokens, -1, -1):
            if text[start : start + n] == text[-n:]:
                return text[start + n : start + n + num_tokens]
    return []


def last_token_for_none(text, num_tokens, ngram):
    return right(text, num_tokens, ngram) or text[-1:]


def no_limit(text, num_tokens, ngram):
    return right(text, len(text), ngram)


def never_the_start(text, num_tokens, ngram):
    for n in range(min(ngram, len(text) - 1), 0, -1):
        found = search(text, num_tokens, n, range(len(text) - n - 1, 0, -1))
        if found:
            return found
    return []


def none_for_none(text, num_tokens, ngram):
    return right(text, num_tokens, ngram) or None


def drafts_as_tensor(text, num_tokens, ngram):
    return torch.tensor(right(text, num_tokens, ngram))


def drafts_of_tensors(text, num_tokens, ngram):
    return [torch.tensor(token) for token in right(text, num_tokens, ngram)]


# --- 06.5: a tree for a budget ---


def every(accuracy):
    heads, ranks = accuracy.shape
    return [path for deep in range(1, heads + 1) for path in itertools.product(range(ranks), repeat=deep)]


def most_likely(accuracy, nodes, chance):
    return sorted(every(accuracy), key=lambda path: -chance(path))[:nodes]


def product(accuracy):
    return lambda path: math.prod(float(accuracy[k, rank]) for k, rank in enumerate(path))


def best_tree(accuracy, nodes):
    return most_likely(accuracy, nodes, product(accuracy))


def adds(accuracy, nodes):
    return most_likely(accuracy, nodes, lambda path: sum(float(accuracy[k, rank]) for k, rank in enumerate(path)))


def last_guess_alone(accuracy, nodes):
    return most_likely(accuracy, nodes, lambda path: float(accuracy[len(path) - 1, path[-1]]))


def first_head_for_all(accuracy, nodes):
    return most_likely(accuracy, nodes, lambda path: math.prod(float(accuracy[0, rank]) for rank in path))


def one_row_off(accuracy, nodes):
    return best_tree(torch.cat([accuracy[1:], accuracy[-1:]]), nodes)


def level_by_level(accuracy, nodes):
    return every(accuracy)[:nodes]


def chain(accuracy, nodes):
    return [(0,) * deep for deep in range(1, len(accuracy) + 1)][:nodes]


def least_likely(accuracy, nodes):
    return sorted(every(accuracy), key=product(accuracy))[:nodes]


def one_too_many(accuracy, nodes):
    return best_tree(accuracy, nodes + 1)


def one_too_few(accuracy, nodes):
    return best_tree(accuracy, nodes - 1)


def leaves_alone(accuracy, nodes):
    tree = best_tree(accuracy, nodes)
    return [path for path in tree if all(other[:-1] != path for other in tree)]


def with_the_root(accuracy, nodes):
    return [(), *best_tree(accuracy, nodes - 1)]


def runs_dry(accuracy, nodes):
    open_paths = {(rank,): float(chance) for rank, chance in enumerate(accuracy[0])}
    tree = []
    for _ in range(nodes):
        path = max(open_paths, key=open_paths.get)
        chance = open_paths.pop(path)
        tree.append(path)
        if len(path) < len(accuracy):
            open_paths |= {(*path, rank): chance * float(share) for rank, share in enumerate(accuracy[len(path)])}
    return tree


def paths_as_lists(accuracy, nodes):
    return [list(path) for path in best_tree(accuracy, nodes)]


def ranks_as_tensors(accuracy, nodes):
    return [tuple(torch.tensor(rank) for rank in path) for path in best_tree(accuracy, nodes)]


def a_path_twice(accuracy, nodes):
    tree = best_tree(accuracy, nodes - 1)
    return tree + tree[:1]


def rank_after_rank(accuracy, nodes):
    open_paths, tree = {(0,): float(accuracy[0, 0])}, []
    while open_paths and len(tree) < nodes:
        path = max(open_paths, key=open_paths.get)
        chance, head, rank = open_paths.pop(path), len(path) - 1, path[-1]
        tree.append(path)
        if rank + 1 < accuracy.shape[1]:
            open_paths[*path[:-1], rank + 1] = chance * float(accuracy[head, rank + 1] / accuracy[head, rank])
        if head + 1 < len(accuracy):
            open_paths[*path, 0] = chance * float(accuracy[head + 1, 0])
    return tree


MUTANTS = {
    "06.1": [
        Mutant("matches itself", matches_itself, "the end of the text matches itself"),
        Mutant("first occurrence", first_occurrence, "you take the first occurrence"),
        Mutant("shortest first", shortest_first, "the shortest n-gram first"),
        Mutant("one size", one_size, "try one token less"),
        Mutant("last token alone", last_token_alone, "or the last token alone"),
        Mutant("no single token", no_single_token, "n-grams of one token count, too"),
        Mutant("with the match", with_the_match, "yours begins with the match itself"),
        Mutant("one skipped", one_skipped, "one token is skipped"),
        Mutant("short ones too", short_ones_too, "an earlier one with more of them is better"),
        Mutant("longest of all n-grams", longest_of_all, "a longer n-gram is the better guess, even where fewer"),
        Mutant("no overlap", no_overlap, "the occurrence may overlap the end"),
        Mutant("full drafts alone", full_drafts_alone, "where no occurrence has num_tokens tokens after it"),
        Mutant("last token for none", last_token_for_none, "no earlier occurrence, no draft"),
        Mutant("no limit", no_limit, "at most num_tokens tokens"),
        Mutant("never the start", never_the_start, "start goes down to 0"),
        Mutant("None for none", none_for_none, "your function returns None"),
        Mutant("a tensor for a list", drafts_as_tensor, "it should return a list"),
        Mutant("tensors for ints", drafts_of_tensors, "drafts are plain ints"),
    ],
    "06.5": [
        Mutant("adds", adds, "you add them"),
        Mutant("last guess alone", last_guess_alone, "you look at the last guess alone"),
        Mutant("first head for all", first_head_for_all, "you take row 0 for all"),
        Mutant("one row off", one_row_off, "the heads are one row off"),
        Mutant("level by level", level_by_level, "you fill level after level"),
        Mutant("chain", chain, "that is a chain of best guesses"),
        Mutant("rank after rank", rank_after_rank, "measured accuracies need not fall from rank to rank"),
        Mutant("least likely", least_likely, "you take the least likely paths"),
        Mutant("one too many", one_too_many, "one node too many"),
        Mutant("one too few", one_too_few, "one node too few"),
        Mutant("leaves alone", leaves_alone, "only leaves are returned"),
        Mutant("with the root", with_the_root, "the empty path, the text itself, is no node"),
        Mutant("runs dry", runs_dry, "your code raised ValueError: max()"),
        Mutant("lists for tuples", paths_as_lists, "a path is a tuple of ranks"),
        Mutant("tensors for ints", ranks_as_tensors, "ranks are plain ints"),
        Mutant("a path twice", a_path_twice, "a path comes twice"),
    ],
}
