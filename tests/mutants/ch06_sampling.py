"""Wrong answers to 06.4: sampling from a tree."""

import torch

from minilm.sampling import draw
from mutants import Mutant


def children(parents, node):
    return [i for i, parent in enumerate(parents) if parent == node]


def right(p, tokens, parents, uniforms):
    node, path = -1, []
    while True:
        here = p[node + 1].clone()
        for child in children(parents, node):
            if uniforms[child] < here[tokens[child]] / here.sum():
                node = child
                path.append(child)
                break
            here[tokens[child]] = 0
        else:
            return path + [draw(here, uniforms[-1])]


def not_renormalised(p, tokens, parents, uniforms):
    node, path = -1, []
    while True:
        here = p[node + 1].clone()
        for child in children(parents, node):
            if uniforms[child] < here[tokens[child]]:
                node = child
                path.append(child)
                break
            here[tokens[child]] = 0
        else:
            return path + [draw(here, uniforms[-1])]


def not_zeroed(p, tokens, parents, uniforms):
    node, path = -1, []
    while True:
        here = p[node + 1]
        accepted = [c for c in children(parents, node) if uniforms[c] < here[tokens[c]]]
        if not accepted:
            return path + [draw(here, uniforms[-1])]
        node = accepted[0]
        path.append(node)


def last_from_all_of_p(p, tokens, parents, uniforms):
    path = right(p, tokens, parents, uniforms)[:-1]
    return path + [draw(p[path[-1] + 1 if path else 0], uniforms[-1])]


def one_uniform(p, tokens, parents, uniforms):
    return right(p, tokens, parents, [uniforms[0]] * len(tokens) + [uniforms[-1]])


def a_uniform_a_level(p, tokens, parents, uniforms):
    depth = []
    for parent in parents:
        depth.append(depth[parent] + 1 if parent >= 0 else 0)
    return right(p, tokens, parents, [uniforms[d] for d in depth] + [uniforms[-1]])


def last_by_count(p, tokens, parents, uniforms):
    path = right(p, tokens, parents, uniforms)[:-1]
    return right(p, tokens, parents, [*uniforms[:-1], uniforms[len(path)]])


def never_again(p, tokens, parents, uniforms):
    node, path, gone = -1, [], []
    while True:
        here = p[node + 1].clone()
        here[gone] = 0
        for child in children(parents, node):
            if uniforms[child] < here[tokens[child]] / here.sum():
                node = child
                path.append(child)
                break
            here[tokens[child]] = 0
            gone.append(tokens[child])
        else:
            return path + [draw(here, uniforms[-1])]


def wrong_row(p, tokens, parents, uniforms):
    return right(torch.cat([p[:1], p[:1], p[1:-1]])[: len(p)], tokens, parents, uniforms)


def above(p, tokens, parents, uniforms):
    node, path = -1, []
    while True:
        here = p[node + 1].clone()
        for child in children(parents, node):
            if uniforms[child] > here[tokens[child]] / here.sum():
                node = child
                path.append(child)
                break
            here[tokens[child]] = 0
        else:
            return path + [draw(here, uniforms[-1])]


def first_child_alone(p, tokens, parents, uniforms):
    node, path = -1, []
    while True:
        here = p[node + 1].clone()
        found = children(parents, node)
        if not found or uniforms[found[0]] >= here[tokens[found[0]]]:
            if found:
                here[tokens[found[0]]] = 0
            return path + [draw(here, uniforms[-1])]
        node = found[0]
        path.append(node)


def greedy_rest(p, tokens, parents, uniforms):
    node, path = -1, []
    while True:
        here = p[node + 1].clone()
        for child in children(parents, node):
            if uniforms[child] < here[tokens[child]] / here.sum():
                node = child
                path.append(child)
                break
            here[tokens[child]] = 0
        else:
            return path + [int(here.argmax())]


def no_last(p, tokens, parents, uniforms):
    return right(p, tokens, parents, uniforms)[:-1]


def tokens_for_indices(p, tokens, parents, uniforms):
    *path, last = right(p, tokens, parents, uniforms)
    return [tokens[i] for i in path] + [last]


def zero_passes(p, tokens, parents, uniforms):
    node, path = -1, []
    while True:
        here = p[node + 1].clone()
        for child in children(parents, node):
            if uniforms[child] <= here[tokens[child]] / here.sum():
                node = child
                path.append(child)
                break
            here[tokens[child]] = 0
        else:
            return path + [draw(here, uniforms[-1])]


def changes_p(p, tokens, parents, uniforms):
    node, path = -1, []
    while True:
        here = p[node + 1]
        for child in children(parents, node):
            if uniforms[child] < here[tokens[child]] / here.sum():
                node = child
                path.append(child)
                break
            here[tokens[child]] = 0
        else:
            return path + [draw(here, uniforms[-1])]


def a_little_left(p, tokens, parents, uniforms):
    """A rejected sibling keeps a little, as a guard against dividing by 0."""
    node, path = -1, []
    while True:
        here = p[node + 1].clone()
        for child in children(parents, node):
            if uniforms[child] < here[tokens[child]] / here.sum():
                node = child
                path.append(child)
                break
            here[tokens[child]] *= 0.02
        else:
            return path + [draw(here, uniforms[-1])]


def tempered(p, tokens, parents, uniforms):
    """The shares raised to a power: a rule that is right nowhere but at 0 and 1."""
    node, path = -1, []
    while True:
        here = p[node + 1].clone()
        for child in children(parents, node):
            if uniforms[child] < (here[tokens[child]] / here.sum()) ** 0.75:
                node = child
                path.append(child)
                break
            here[tokens[child]] = 0
        else:
            return path + [draw(here, uniforms[-1])]


def as_tensor(p, tokens, parents, uniforms):
    return torch.tensor(right(p, tokens, parents, uniforms))


def of_floats(p, tokens, parents, uniforms):
    return [float(x) for x in right(p, tokens, parents, uniforms)]


MUTANTS = {
    "06.4": [
        Mutant("not renormalised", not_renormalised, "made to sum to 1 again"),
        Mutant("not zeroed", not_zeroed, "a rejected sibling must be zeroed"),
        Mutant("last from all of p", last_from_all_of_p, "the last token is drawn from p as it was"),
        Mutant("one uniform", one_uniform, "the same uniform decides all siblings"),
        Mutant("a uniform a level", a_uniform_a_level, "one uniform for each level"),
        Mutant("last by count", last_by_count, "drawn with uniforms[-1], which decides no node"),
        Mutant("never again", never_again, "may well come later"),
        Mutant("wrong row", wrong_row, "row i + 1 of p is what the target says after node i"),
        Mutant("above", above, "accept where the uniform lies *below* the share"),
        Mutant("first child alone", first_child_alone, "only the first child is tried"),
        Mutant("greedy rest", greedy_rest, "the most probable of the rest"),
        Mutant("no last", no_last, "the last token is missing"),
        Mutant("tokens for indices", tokens_for_indices, "yours are their tokens"),
        Mutant("u <= share", zero_passes, "u = 0 <= 0 accepts"),
        Mutant("changes p", changes_p, "changes its input p in place"),
        Mutant("a little left", a_little_left, "the last token that is left has a share of 1"),
        Mutant("tempered", tempered, "accept by the share of what is left"),
        Mutant("a tensor for a list", as_tensor, "it should return a list"),
        Mutant("floats for ints", of_floats, "indices and tokens are plain ints"),
    ],
}
