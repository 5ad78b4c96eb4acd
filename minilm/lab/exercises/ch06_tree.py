"""Exercises of chapter 06: a tree's positions and mask, and the greedy path down it."""

import torch

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.exercises.ch05_shared import Part, plain_int, plain_ints

# --- 06.2 -------------------------------------------------------------------------------------------------------------

ex2 = Exercise(
    "06.2",
    "A tree in one pass",
    answer="tree_inputs(parents, length)",
    task="(positions[n], mask[n, length + n]) of a tree's nodes: where each stands, and what it may see",
    hints=(
        "Two children of one node are two guesses for the *same* place. May one of them read the other?",
        "A child of the text stands at position `length`; any other one after its parent. A node sees all tokens "
        "held, whatever its parent sees, and itself.",
        "for i, parent in enumerate(parents): if parent >= 0, positions[i] = positions[parent] + 1 and mask[i] = "
        "mask[parent]; else position `length` and the first `length` columns; either way mask[i, length + i] = True.",
    ),
)
NAMES_2 = ("positions", "mask")


def tree_inputs(parents, length):
    """The reference: (int64[n], bool[n, length + n])"""
    positions, mask = torch.zeros(len(parents), dtype=torch.int64), torch.zeros(
        len(parents), length + len(parents), dtype=torch.bool)
    mask[:, :length] = True
    for i, parent in enumerate(parents):
        positions[i] = positions[parent] + 1 if parent >= 0 else length
        if parent >= 0:
            mask[i] = mask[parent]
        mask[i, length + i] = True
    return positions, mask


def _positions(parents, length, *, first=None):
    out = []
    for parent in parents:
        out.append(out[parent] + 1 if parent >= 0 else length if first is None else first)
    return torch.tensor(out)


def _split(parents, length):
    """(what is seen of the text, what is seen of the tree)"""
    mask = tree_inputs(parents, length)[1]
    return mask[:, :length], mask[:, length:]


def _with_tree(change):
    """The mask with a changed right part; change(sees, parents) -> sees."""
    return lambda parents, length: torch.cat([_split(parents, length)[0],
                                              change(_split(parents, length)[1], parents)], 1)


def _siblings(sees, parents):
    same = torch.tensor([[a == b for b in parents] for a in parents])
    return sees | (same & torch.ones_like(sees).tril())


def _depths(parents):
    return _positions(parents, 0)


def _parent_alone(sees, parents):
    return torch.tensor([[j in (i, parents[i]) for j in range(len(parents))] for i in range(len(parents))])


def _wraps(sees, parents):
    """The mistake of indexing with parent -1: the last node's row, still empty but for what it has by then."""
    out = torch.zeros_like(sees)
    for i, parent in enumerate(parents):
        out[i] = out[parent]
        out[i, i] = True
        out[i, parent] = True
    return out


WRONG_POSITIONS = {
    "positions by index: siblings are guesses for the same place; count how deep a node is, not how late it comes":
        lambda p, n: n + torch.arange(len(p)),
    "a child of the text stands at `length`: the tokens held have positions 0 to length - 1": lambda p, n: _positions(
        p, n + 1),
    "you are one too small: the next free position is `length` itself": lambda p, n: _positions(p, n - 1),
    "those are depths; the tree stands after `length` tokens": lambda p, n: _positions(p, 0),
    "those are depths from 1; the tree stands after `length` tokens, from position `length` on":
        lambda p, n: _positions(p, 0) + 1,
    "that is the parent's index + 1, not its position + 1": lambda p, n: n + torch.tensor(p) + 1,
}
WRONG_MASK = {
    "every earlier node is seen, as in a chain; of the tree, a node sees its ancestors and itself alone":
        _with_tree(lambda sees, parents: torch.ones_like(sees).tril()),
    "siblings see each other: they are guesses for the same place, and exclude each other": _with_tree(_siblings),
    "all shallower nodes are seen; only those on the way from the text are": _with_tree(
        lambda sees, parents: (_depths(parents)[:, None] > _depths(parents)[None]) | torch.eye(len(parents)).bool()),
    "a node sees its parent's parents, too, all the way up": _with_tree(_parent_alone),
    "a node sees itself, too": _with_tree(lambda sees, parents: sees & ~torch.eye(len(parents)).bool()),
    "the `length` tokens held are seen by every node: the first `length` columns are True":
        lambda p, n: torch.cat([torch.zeros_like(_split(p, n)[0]), _split(p, n)[1]], 1),
    "the tokens held come first: columns 0 to length - 1, then the nodes":
        lambda p, n: torch.cat([_split(p, n)[1], _split(p, n)[0]], 1),
    "mask[i, j] says whether i sees j; yours says whether j sees i": _with_tree(lambda sees, parents: sees.T),
    "True means: may see; yours is the other way round": lambda p, n: ~tree_inputs(p, n)[1],
    "parent -1 is the text, not the last node: out[-1] is Python's last": _with_tree(_wraps),
    "everything is seen": lambda p, n: torch.ones_like(tree_inputs(p, n)[1]),
}
TREES = [([-1], 1), ([-1, 0], 1), ([-1, -1], 2), ([-1, 0, 0], 2), ([-1, 0, 1], 1), ([-1, -1, 0, 1], 2),
         ([-1, -1, 0, 0, 1, 2], 3), ([-1, 0, 1, -1, 3, 3, 2, 0], 2)]


@ex2.check("a node stands one after its parent", mistake="`length` for a child of the text, else the parent's + 1")
def _(answer):
    agree(Part(answer, NAMES_2, 0), lambda *case: tree_inputs(*case)[0], TREES, wrong=WRONG_POSITIONS)


@ex2.check("a node sees the text, its ancestors and itself", mistake="the tokens held, "
           "every ancestor up to the text, and itself; no other branch, no sibling, no child")
def _(answer):
    agree(Part(answer, NAMES_2, 1), lambda *case: tree_inputs(*case)[1], TREES, wrong=WRONG_MASK)


@ex2.check("a chain is the plain causal mask", mistake="with parents -1, 0, 1, ... each node sees all before it")
def _(answer):
    expect(answer([-1, 0, 1, 2], 3), tree_inputs([-1, 0, 1, 2], 3))


@ex2.check("nothing held", mistake="with length 0 the positions begin at 0")
def _(answer):
    expect(answer([-1, 0, 0], 0), tree_inputs([-1, 0, 0], 0))


# --- 06.3 -------------------------------------------------------------------------------------------------------------

ex3 = Exercise(
    "06.3",
    "The path down the tree",
    answer="follow(best, tokens, parents)",
    task="(indices of the accepted nodes, from the text down; the target's token after them)",
    hints=(
        "Stand at the text. What does the target want next, and has any child of the text that token?",
        "best[0] is the target's token after the text, best[i + 1] after node i. Go to the child that has it; where "
        "there is none, that token is the last one.",
        "node, path = -1, []; for child, parent in enumerate(parents): if parent == node and tokens[child] == "
        "best[node + 1]: node = child, and keep it. Parents come before their children, so one walk is enough.",
    ),
)


def follow(best, tokens, parents):
    """The reference: (list of int, int)"""
    path, node = [], -1
    for child, parent in enumerate(parents):
        if parent == node and tokens[child] == best[node + 1]:
            node = child
            path.append(child)
    return path, best[node + 1]


def _first_child(best, tokens, parents):
    """The mistake of trying the first child alone."""
    path, node = [], -1
    while node in parents:
        child = list(parents).index(node)
        if tokens[child] != best[node + 1]:
            break
        path.append(child)
        node = child
    return path, best[node + 1]


def _any_right(best, tokens, parents):
    """The mistake of keeping every node that is right after its parent, wherever it hangs."""
    path = [i for i, parent in enumerate(parents) if tokens[i] == best[parent + 1]]
    return path, best[path[-1] + 1] if path else best[0]


def _as_chain(best, tokens, parents):
    path = []
    while len(path) < len(tokens) and tokens[len(path)] == best[len(path)]:
        path.append(len(path))
    return path, best[len(path)]


def _by_token(best, tokens, parents):
    """The mistake of looking for the token in the whole tree, and finding it on another branch."""
    path, node = [], -1
    while best[node + 1] in tokens:
        child = list(tokens).index(best[node + 1])
        if parents[child] != node:
            break
        path.append(child)
        node = child
    return path, best[node + 1]


def _one_level(best, tokens, parents):
    path = follow(best, tokens, parents)[0][:1]
    return path, best[path[-1] + 1] if path else best[0]


def _to_a_leaf(best, tokens, parents):
    """The mistake of accepting whole branches only."""
    path, last = follow(best, tokens, parents)
    return (path, last) if not path or path[-1] not in parents else ([], best[0])


def _shifted(best, tokens, parents):
    path, node = [], -1
    for child, parent in enumerate(parents):
        if parent == node and tokens[child] == best[child + 1]:
            node = child
            path.append(child)
    return path, best[node + 1]


WRONG_3 = {
    "indices of nodes, not their tokens: two nodes may have the same token": lambda b, t, p: (
        [t[i] for i in follow(b, t, p)[0]], follow(b, t, p)[1]),
    "only the first child is tried; a tree has siblings so that the second can be right": _first_child,
    "a node counts only if its parent was accepted: this one is right after a parent that is not": _any_right,
    "the tree is read as a chain: node i need not continue node i - 1; ask `parents`": _as_chain,
    "a token may stand on several branches, and the first is not the one where you stand: look among the children":
        _by_token,
    "you stop after one node; go on from there": _one_level,
    "part of a branch is worth having, too: it need not be right down to a leaf": _to_a_leaf,
    "best[i + 1] is what comes *after* node i; a node is judged by the row of its parent": _shifted,
    "the token after the path is best[last node + 1]; yours follows the whole tree": lambda b, t, p: (
        follow(b, t, p)[0], b[-1]),
    "the token after the path is best[last node + 1]; best[last node] was said before that node": lambda b, t, p: (
        follow(b, t, p)[0], b[(follow(b, t, p)[0] or [-1])[-1]]),
    "the token after the path is best[last node + 1]; that is not the number of accepted nodes": lambda b, t, p: (
        follow(b, t, p)[0], b[len(follow(b, t, p)[0])]),
    "the text comes first: the path begins at its child and goes down; yours goes up": lambda b, t, p: (
        follow(b, t, p)[0][::-1], follow(b, t, p)[1]),
    "the text, -1, is no node": lambda b, t, p: ([-1, *follow(b, t, p)[0]], follow(b, t, p)[1]),
}
SCENES = [
    ([7, 8], [7], [-1]), ([7, 8], [6], [-1]), ([7, 1, 9], [6, 7], [-1, -1]), ([7, 8, 3, 9], [7, 8, 6], [-1, 0, 0]),
    ([7, 8, 3, 9], [7, 6, 8], [-1, 0, 0]), ([7, 1, 8, 4, 9], [6, 7, 1, 8], [-1, -1, 0, 1]),
    ([7, 8, 1, 3, 5], [7, 6, 9, 1], [-1, -1, 0, 1]), ([7, 8, 2, 9, 4, 5], [7, 5, 8, 6, 9], [-1, -1, 0, 0, 2]),
    ([3, 8, 4, 2, 4, 6, 1, 9], [2, 3, 8, 8, 4, 5, 6], [-1, -1, 0, 1, 1, 4, 4]),
    ([7, 4, 1, 5, 9], [6, 7, 1, 1], [-1, -1, 0, 1]),
    ([5, 6, 7, 1, 6, 2, 8, 9], [4, 5, 6, 7, 6, 1, 8], [-1, -1, 0, 1, 1, 2, 3]),
]


@ex3.check("goes down while a child has the target's token", mistake="all children of the node where you stand")
def _(answer):
    agree(answer, follow, SCENES, wrong=WRONG_3)


@ex3.check("no nodes at all", mistake="an empty tree leaves the target's own token, best[0]")
def _(answer):
    expect(answer([7], [], []), ([], 7))


@ex3.check("plain ints", mistake="a list of ints, and an int")
def _(answer):
    path, last = answer(*SCENES[3])
    plain_ints(path, "indices")
    plain_int(last, "the token after the path")
