"""Exercise 06.5: the tree that a node budget buys."""

import itertools
import math

import torch

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import plain_ints
from minilm.lab.expect import Failed
from minilm.lab.values import kind

ex5 = Exercise(
    "06.5",
    "A tree for a budget",
    answer="choose_tree(accuracy, nodes)",
    task="the `nodes` paths of ranks most likely to be right, a path's chance being the product of its ranks' accuracy",
    hints=(
        "Path (0, 1): head 0's best guess, then head 1's second best. When is it right, and how likely is that?",
        "accuracy[0][0] · accuracy[1][1]. No path is more likely than the one it continues, so the best paths make a "
        "tree: take the most likely open path, then open those that continue it.",
        "open_paths = {(rank,): accuracy[0][rank] for each rank}; nodes times: path = max(open_paths, "
        "key=open_paths.get), pop it, and add (*path, rank) with its chance times accuracy[len(path)][rank].",
    ),
    points=2,
)


def choose_tree(accuracy, nodes):
    """The reference: list of tuples"""
    return _best(accuracy.tolist(), nodes, _product)


def _product(accuracy, path):
    return math.prod(accuracy[head][rank] for head, rank in enumerate(path))


def _all_paths(accuracy):
    return [path for deep in range(1, len(accuracy) + 1) for path in itertools.product(range(len(accuracy[0])),
                                                                                       repeat=deep)]


def _best(accuracy, nodes, value):
    """The paths of largest value(accuracy, path)."""
    return sorted(_all_paths(accuracy), key=lambda path: -value(accuracy, path))[:nodes]


def _expected(accuracy, paths):
    """Accepted drafts of a round: the sum over the nodes of the chance that each is reached and right."""
    return sum(_product(accuracy, path) for path in paths)


def _levels(accuracy, nodes):
    """The mistake of filling level after level."""
    return sorted(_all_paths(accuracy), key=lambda path: (len(path), path))[:nodes]


def _chain(accuracy, nodes):
    return [(0,) * deep for deep in range(1, len(accuracy) + 1)][:nodes]


def _kept(value):
    return lambda accuracy, nodes: _best(accuracy, nodes, value)


def _next_rank(accuracy, nodes):
    """The mistake of opening a rank only after the rank before it."""
    opened, tree = [(0,)], []
    while opened and len(tree) < nodes:
        path = max(opened, key=lambda path: _product(accuracy, path))
        opened.remove(path)
        tree.append(path)
        opened += [(*path[:-1], path[-1] + 1)] if path[-1] + 1 < len(accuracy[0]) else []
        opened += [(*path, 0)] if len(path) < len(accuracy) else []
    return tree


WRONG_5 = {
    "measured accuracies need not fall from rank to rank: a later rank may be worth more than the one before it":
        _next_rank,
    "a path is right only if all its guesses are: multiply the accuracies along it; you add them":
        _kept(lambda a, path: sum(a[head][rank] for head, rank in enumerate(path))),
    "a path is right only if all its guesses are; you look at the last guess alone":
        _kept(lambda a, path: a[len(path) - 1][path[-1]]),
    "each head has its own accuracies: the guess at depth k comes from row k; you take row 0 for all":
        _kept(lambda a, path: math.prod(a[0][rank] for rank in path)),
    "the heads are one row off: the first guess of a path is head 0's":
        _kept(lambda a, path: math.prod(a[min(head + 1, len(a) - 1)][rank] for head, rank in enumerate(path))),
    "you fill level after level; a deep path of sure guesses can be worth more than a shallow unlikely one": _levels,
    "that is a chain of best guesses; a second guess may be worth more than a deeper first one": _chain,
    "you take the least likely paths": lambda a, nodes: _best(a, nodes, lambda a, path: -_product(a, path)),
    "one node too many": lambda a, nodes: _best(a, nodes + 1, _product),
    "one node too few": lambda a, nodes: _best(a, nodes - 1, _product),
    "only leaves are returned; the nodes on the way to them cost and count, too": lambda a, nodes: [
        path for path in _best(a, nodes, _product) if not any(
            other[:-1] == path for other in _best(a, nodes, _product))],
    "paths stay inside the table: head 0's guesses continue with head 1's, and end with the last head's":
        lambda a, nodes: [path for path in _best(a, nodes, _product) if len(path) == 1],
    "the empty path, the text itself, is no node: it costs nothing":
        lambda a, nodes: [(), *_best(a, nodes - 1, _product)],
}
TABLES = [torch.tensor(rows, dtype=torch.float64) for rows in (
    [[0.6, 0.3], [0.45, 0.1]], [[0.55, 0.2, 0.1], [0.9, 0.04, 0.03], [0.7, 0.2, 0.05]],
    [[0.5, 0.22, 0.12, 0.07], [0.41, 0.17, 0.11, 0.06], [0.3, 0.14, 0.09, 0.05]],
    [[0.5, 0.05, 0.23], [0.4, 0.03, 0.15]])]                    # no two paths of equal chance at a budget's edge


def _paths(got):
    """The answer as a set of tuples; Failed when it is no list of paths."""
    if not isinstance(got, (list, tuple, set)):
        raise Failed(f"return a list of paths; yours is {kind(got)}")
    for path in got:
        if not isinstance(path, tuple):
            raise Failed(f"a path is a tuple of ranks, such as (0, 1); yours is {kind(path)}")
        plain_ints(path, "ranks")
    if len(set(got)) < len(got):
        raise Failed("a path comes twice; a node is counted once")
    return sorted(got)


class _Sorted:
    """The answer with its paths in order."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, *args):
        return _paths(self.answer(*args))

    @property
    def shown(self):
        return self.answer.shown


def _trees(answer, cases):
    agree(_Sorted(answer), lambda *case: sorted(choose_tree(*case)), cases, wrong={
        message: (lambda a, n, f=f: sorted(f(a.tolist(), n))) for message, f in WRONG_5.items()},
        mistake="the most likely paths, each the product of its guesses' accuracies")


@ex5.check("takes the most likely paths", mistake="a path's chance is the product along it")
def _(answer):
    _trees(answer, [(TABLES[0], 2), (TABLES[0], 3), (TABLES[0], 4), (TABLES[1], 3), (TABLES[1], 5), (TABLES[2], 8),
                    (TABLES[2], 16), (TABLES[3], 3), (TABLES[3], 5)])


@ex5.check("every path's beginning is in the tree", mistake="a path can be tried only after the path it continues")
def _(answer):
    for table, nodes in [(TABLES[1], 7), (TABLES[2], 11)]:
        tree = _paths(answer(table, nodes))
        for path in tree:
            if len(path) > 1 and path[:-1] not in tree:
                raise Failed(f"{path} is in the tree, but not {path[:-1]}, which it continues")


@ex5.check("a budget for more than all", mistake="when all paths are in, stop: there are no more")
def _(answer):
    _trees(answer, [(TABLES[0], 6), (TABLES[0], 50)])


@ex5.check("one head alone", mistake="with one row of accuracies, the best guesses of that head")
def _(answer):
    _trees(answer, [(TABLES[2][:1], 2), (TABLES[2][:1], 3)])


@ex5.check("no tree of this size is worth more", mistake="some tree of as many nodes accepts more drafts a round")
def _(answer):
    for table, nodes in [(TABLES[1], 6), (TABLES[2], 12)]:
        rows = table.tolist()
        mine, best = _expected(rows, _paths(answer(table, nodes))), _expected(rows, choose_tree(table, nodes))
        if mine < best - 1e-9:
            raise Failed(f"your {nodes} nodes accept {mine:.3f} drafts a round; the best {nodes} accept {best:.3f}")
