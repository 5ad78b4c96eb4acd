"""Wrong answers to 06.2 and 06.3: a tree's positions and mask, and the path down it."""

import numpy
import torch

from mutants import Mutant

# --- 06.2: a tree in one pass ---


def sees(parents):
    out = torch.eye(len(parents), dtype=torch.bool)
    for i, parent in enumerate(parents):
        if parent >= 0:
            out[i] |= out[parent]
    return out


def held(parents, length, tree=None):
    tree = sees(parents) if tree is None else tree
    return torch.cat([torch.ones(len(parents), length, dtype=torch.bool), tree], dim=1)


def positions(parents, length):
    return length + sees(parents).sum(1) - 1


def right(parents, length):
    return positions(parents, length), held(parents, length)


def by_index(parents, length):
    return torch.arange(length, length + len(parents)), held(parents, length)


def one_too_large(parents, length):
    return length + sees(parents).sum(1), held(parents, length)


def one_too_small(parents, length):
    return length + sees(parents).sum(1) - 2, held(parents, length)


def depths(parents, length):
    return sees(parents).sum(1) - 1, held(parents, length)


def depths_from_one(parents, length):
    return sees(parents).sum(1), held(parents, length)


def from_the_parents_index(parents, length):
    return torch.tensor([length + parent + 1 for parent in parents]), held(parents, length)


def all_earlier(parents, length):
    n = len(parents)
    return positions(parents, length), torch.ones(n, length + n, dtype=torch.bool).tril(length)


def siblings_too(parents, length):
    tree = sees(parents)
    for i, parent in enumerate(parents):
        for j in range(i):
            if parents[j] == parent:
                tree[i, j] = True
    return positions(parents, length), held(parents, length, tree)


def all_shallower(parents, length):
    depth = sees(parents).sum(1)
    return positions(parents, length), held(parents, length, (depth[:, None] > depth) | torch.eye(len(parents)).bool())


def parent_alone(parents, length):
    tree = torch.eye(len(parents), dtype=torch.bool)
    for i, parent in enumerate(parents):
        if parent >= 0:
            tree[i, parent] = True
    return positions(parents, length), held(parents, length, tree)


def not_itself(parents, length):
    return positions(parents, length), held(parents, length, sees(parents) & ~torch.eye(len(parents)).bool())


def text_hidden(parents, length):
    mask = held(parents, length)
    mask[:, :length] = False
    return positions(parents, length), mask


def nodes_first(parents, length):
    mask = held(parents, length)
    return positions(parents, length), torch.cat([mask[:, length:], mask[:, :length]], 1)


def transposed(parents, length):
    return positions(parents, length), held(parents, length, sees(parents).T)


def inverted(parents, length):
    return positions(parents, length), ~held(parents, length)


def last_node_for_the_text(parents, length):
    tree = torch.zeros(len(parents), len(parents), dtype=torch.bool)
    for i, parent in enumerate(parents):
        tree[i] = tree[parent]
        tree[i, i] = tree[i, parent] = True
    return positions(parents, length), held(parents, length, tree)


def mask_of_ints(parents, length):
    return positions(parents, length), held(parents, length).int()


def additive_mask(parents, length):
    return positions(parents, length), torch.zeros(len(parents), length + len(parents)).masked_fill(
        ~held(parents, length), float("-inf"))


def tree_alone(parents, length):
    return positions(parents, length), sees(parents)


def positions_as_list(parents, length):
    return positions(parents, length).tolist(), held(parents, length)


def positions_as_floats(parents, length):
    return positions(parents, length).float(), held(parents, length)


def mask_alone(parents, length):
    return held(parents, length)


# --- 06.3: the path down the tree ---


def walk(best, tokens, parents):
    path, node = [], -1
    for child, parent in enumerate(parents):
        if parent == node and tokens[child] == best[node + 1]:
            path.append(child)
            node = child
    return path, best[node + 1]


def tokens_for_indices(best, tokens, parents):
    path, last = walk(best, tokens, parents)
    return [tokens[i] for i in path], last


def first_child_alone(best, tokens, parents):
    path, node = [], -1
    while node in parents and tokens[parents.index(node)] == best[node + 1]:
        node = parents.index(node)
        path.append(node)
    return path, best[node + 1]


def every_right_node(best, tokens, parents):
    path = [i for i in range(len(tokens)) if tokens[i] == best[parents[i] + 1]]
    return path, best[path[-1] + 1] if path else best[0]


def as_a_chain(best, tokens, parents):
    n = 0
    while n < len(tokens) and tokens[n] == best[n]:
        n += 1
    return list(range(n)), best[n]


def first_with_the_token(best, tokens, parents):
    path, node = [], -1
    while best[node + 1] in tokens and parents[tokens.index(best[node + 1])] == node:
        node = tokens.index(best[node + 1])
        path.append(node)
    return path, best[node + 1]


def one_level(best, tokens, parents):
    for child, parent in enumerate(parents):
        if parent < 0 and tokens[child] == best[0]:
            return [child], best[child + 1]
    return [], best[0]


def whole_branches(best, tokens, parents):
    path, last = walk(best, tokens, parents)
    return ([], best[0]) if path and path[-1] in parents else (path, last)


def row_of_the_child(best, tokens, parents):
    path, node = [], -1
    for child, parent in enumerate(parents):
        if parent == node and tokens[child] == best[child + 1]:
            path.append(child)
            node = child
    return path, best[node + 1]


def last_of_all(best, tokens, parents):
    return walk(best, tokens, parents)[0], best[-1]


def last_one_early(best, tokens, parents):
    path = walk(best, tokens, parents)[0]
    return path, best[path[-1]] if path else best[-1]


def last_by_count(best, tokens, parents):
    path = walk(best, tokens, parents)[0]
    return path, best[len(path)]


def upwards(best, tokens, parents):
    path, last = walk(best, tokens, parents)
    return path[::-1], last


def with_the_text(best, tokens, parents):
    path, last = walk(best, tokens, parents)
    return [-1, *path], last


def path_alone(best, tokens, parents):
    return walk(best, tokens, parents)[0]


def last_by_numpy(best, tokens, parents):
    path, last = walk(best, tokens, parents)
    return path, numpy.int64(last)


def path_of_tensors(best, tokens, parents):
    path, last = walk(best, tokens, parents)
    return [torch.tensor(i) for i in path], last


MUTANTS = {
    "06.2": [
        Mutant("by index", by_index, "positions by index"),
        Mutant("one too large", one_too_large, "a child of the text stands at `length`"),
        Mutant("one too small", one_too_small, "you are one too small"),
        Mutant("depths", depths, "those are depths; the tree stands"),
        Mutant("depths from 1", depths_from_one, "those are depths from 1"),
        Mutant("the parent's index", from_the_parents_index, "that is the parent's index + 1"),
        Mutant("all earlier", all_earlier, "every earlier node is seen, as in a chain"),
        Mutant("siblings too", siblings_too, "siblings see each other"),
        Mutant("all shallower", all_shallower, "all shallower nodes are seen"),
        Mutant("parent alone", parent_alone, "a node sees its parent's parents, too"),
        Mutant("not itself", not_itself, "a node sees itself, too"),
        Mutant("text hidden", text_hidden, "the `length` tokens held are seen by every node"),
        Mutant("nodes first", nodes_first, "the tokens held come first"),
        Mutant("transposed", transposed, "yours says whether j sees i"),
        Mutant("inverted", inverted, "True means: may see"),
        Mutant("parent -1", last_node_for_the_text, "parent -1 is the text, not the last node"),
        Mutant("ints for bools", mask_of_ints, "your answer has dtype int32; it should be bool"),
        Mutant("additive", additive_mask, "your answer has dtype float32; it should be bool"),
        Mutant("tree alone", tree_alone, "your answer has shape (1, 1); it should be (1, 2)"),
        Mutant("a list for a tensor", positions_as_list, "your function returns a list; it should return a tensor"),
        Mutant("floats for ints", positions_as_floats, "your answer has dtype float32; it should be int64"),
        Mutant("mask alone", mask_alone, "return 2 things: positions, mask"),
    ],
    "06.3": [
        Mutant("tokens for indices", tokens_for_indices, "indices of nodes, not their tokens"),
        Mutant("first child alone", first_child_alone, "only the first child is tried"),
        Mutant("every right node", every_right_node, "a node counts only if its parent was accepted"),
        Mutant("as a chain", as_a_chain, "the tree is read as a chain"),
        Mutant("first with the token", first_with_the_token, "a token may stand on several branches"),
        Mutant("one level", one_level, "you stop after one node"),
        Mutant("whole branches", whole_branches, "part of a branch is worth having"),
        Mutant("row of the child", row_of_the_child, "a node is judged by the row of its parent"),
        Mutant("last of all", last_of_all, "yours follows the whole tree"),
        Mutant("last one early", last_one_early, "best[last node] was said before that node"),
        Mutant("last by count", last_by_count, "not the number of accepted nodes"),
        Mutant("upwards", upwards, "yours goes up"),
        Mutant("with the text", with_the_text, "the text, -1, is no node"),
        Mutant("path alone", path_alone, "your answer has 1 item; it should have 2"),
        Mutant("NumPy for an int", last_by_numpy, "the token after the path is a plain int"),
        Mutant("tensors for ints", path_of_tensors, "indices are plain ints"),
    ],
}
