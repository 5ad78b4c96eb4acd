"""The other Lookahead (Zhao et al. 2024, of Ant): a trie of what was seen proposes what may come, in branches.

No model drafts. The trie counts every n-gram of the prompt and of the output; the longest end of the text that was seen
before, with something after it, is looked up, and what followed it most often is the draft. It may be kept from one
request to the next: answers to alike requests are alike. A trie warmed by other texts is another experiment than a
cold one, so `warm` says how many tokens were in it before the present text began.
"""
import heapq
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from minilm.cache import KVCache
from minilm.checks import check_count
from minilm.decoding.speculative import SPARE, Chain, Draft
from minilm.model import GPT
from minilm.sampling import Sampling

SHAPES = ("tree", "parallel", "single")


class Node:
    """The n-gram of tokens on the way to it. count: how often it was seen (faded).  start: where it last began."""

    __slots__ = ("children", "count", "depth", "parent", "start", "token")

    def __init__(self, parent: "Node | None" = None, token: int = -1):
        self.parent, self.token, self.children = parent, token, {}
        self.depth = 0 if parent is None else parent.depth + 1
        self.count, self.start = 0.0 if parent else math.inf, -1

    @property
    def rank(self) -> tuple[float, int, int]:
        """Smaller is better: seen more often, then more lately. A node's parent always ranks before it."""
        return -self.count, -self.start, self.depth


class Trie(Chain):
    """Drafts from a trie of all n-grams of up to match + branch tokens.

    num_tokens: the most tokens of a draft.  branch: how far ahead it reaches.  match: the longest end looked up.
    shape: "tree", the `num_tokens` best-ranked continuations, merged; "parallel", up to `branches` chains that differ
    in their first token; "single", one chain. Tokens are chosen, not drawn, so sampling stays exact for any shape.
    nodes: the budget. When it is full, the half that ranks lowest is forgotten and counts fade by `decay`.
    keep: what was seen stays from text to text, its counts faded by `decay` each time; `reset` empties the trie. What
    the last pass of a text gave is never asked about, and so never learnt.
    """

    def __init__(self, num_tokens: int = 16, *, branch: int = 8, match: int = 4, shape: str = "tree", branches: int = 4,
                 nodes: int = 65_536, decay: float = 0.5, keep: bool = False):
        check_count("num_tokens", num_tokens, 1, SPARE)
        for name, value in (("branch", branch), ("match", match), ("branches", branches), ("nodes", nodes)):
            check_count(name, value, 1)
        if shape not in SHAPES:
            raise ValueError(f"shape is one of {', '.join(SHAPES)}; it is {shape!r}")
        if not 0 < decay <= 1:
            raise ValueError(f"decay lies in (0, 1]; it is {decay}")
        if nodes < match + branch:
            raise ValueError(f"a budget of {nodes} nodes does not hold one n-gram of match + branch = "
                             f"{match + branch} tokens")
        self.num_tokens, self.branch, self.match, self.shape, self.branches = num_tokens, branch, match, shape, branches
        self.nodes, self.decay, self.keep = nodes, decay, keep
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.root, self.size, self.seen, self.warm = Node(), 0, 0, 0
        self._begin()

    def insert(self, text: Sequence[int]) -> None:
        """Learn a text beforehand, as a warm start; of use with keep=True only."""
        self._begin()
        self.learn(text)

    def start(self, model: GPT, cache: KVCache) -> None:
        if self.keep:
            self._begin()
            self._fade()
        else:
            self.reset()
        self.warm = self.seen

    def propose(self, text: list[int], limit: int, hidden: Tensor, sampling: Sampling,
                generator: torch.Generator | None) -> Draft:
        self.learn(text[self.read :])
        return self.retrieve(limit)

    # --- insertion ---

    def learn(self, tokens: Sequence[int]) -> None:
        """Count every n-gram that ends with one of `tokens`, which continue the present text."""
        for token in tokens:
            ends = [self._count(end, token) for end in [*self._ends, self.root] if end.depth < self.match + self.branch]
            self._ends = [end for end in ends if end is not None and end.parent is not None]    # what was not forgotten
            self.seen += 1
            self.read += 1

    def _begin(self) -> None:
        """Another text follows: no n-gram reaches from one into the other."""
        self._ends: list[Node] = []                             # the ends of the text as far as read, longest first
        self.read = 0                                           # tokens of the text that were learnt

    def _count(self, end: Node, token: int) -> Node | None:
        """One more of the n-gram `end` + token, which was just read; None where `end` was forgotten meanwhile."""
        if token not in end.children:
            if self.size >= self.nodes:
                self._squeeze()
            if end.parent is None and end is not self.root:
                return None
            end.children[token] = Node(end, token)
            self.size += 1
        node = end.children[token]
        node.count = min(node.count + 1, end.count)             # the bound holds but after a squeeze between the two
        node.start = self.seen - end.depth
        return node

    def _squeeze(self) -> None:
        """Forget the half of the budget that ranks lowest. What continues a forgotten n-gram ranks lower still."""
        for node in sorted(self._all(), key=lambda node: node.rank)[self.nodes // 2 :]:
            del node.parent.children[node.token]
            node.parent = None
            self.size -= 1
        self._fade()

    def _fade(self) -> None:
        for node in self._all():
            node.count *= self.decay

    def _all(self) -> list[Node]:
        """Every node but the root."""
        found = list(self.root.children.values())
        for node in found:                                      # grows as it is read
            found += node.children.values()
        return found

    # --- retrieval ---

    def longest_end(self) -> Node | None:
        """The longest end of the text as far as read, of up to `match` tokens, that something is known to follow."""
        return next((end for end in self._ends if end.depth <= self.match and end.children), None)

    def retrieve(self, limit: int) -> Draft:
        """What may follow the text as far as read, at most `limit` tokens ahead; nothing where no end of it matches."""
        end, reach = self.longest_end(), min(self.branch, limit)
        if end is None or reach < 1:
            return Draft()
        if self.shape == "single":
            return Draft([node.token for node in best_chain(end, min(reach, self.num_tokens))])
        if self.shape == "parallel":
            return self._parallel(end, reach)
        return best_tree(end, reach, self.num_tokens)

    def _parallel(self, end: Node, reach: int) -> Draft:
        """The `branches` best next tokens, each with the chain that follows it, the best first, while tokens last."""
        tokens, parents = [], []
        for first in sorted(end.children.values(), key=lambda node: node.rank)[: self.branches]:
            chain = [first, *best_chain(first, reach - 1)][: self.num_tokens - len(tokens)]
            parents += [-1, *range(len(tokens), len(tokens) + len(chain) - 1)][: len(chain)]
            tokens += [node.token for node in chain]
        return Draft(tokens, None, parents)


def best_chain(node: Node, length: int) -> list[Node]:
    """The best-ranked child, its best-ranked child, and so on: up to `length` nodes."""
    chain = []
    while node.children and len(chain) < length:
        node = min(node.children.values(), key=lambda child: child.rank)
        chain.append(node)
    return chain


def best_tree(end: Node, reach: int, num_tokens: int) -> Draft:
    """The `num_tokens` best-ranked nodes below `end`, at most `reach` deep: a tree, as parents rank before children."""
    tokens, parents = [], []
    candidates = [(child.rank, child, -1) for child in end.children.values()]
    heapq.heapify(candidates)
    while candidates and len(tokens) < num_tokens:
        _, node, parent = heapq.heappop(candidates)
        tokens.append(node.token)
        parents.append(parent)
        if node.depth - end.depth < reach:
            for child in node.children.values():
                heapq.heappush(candidates, (child.rank, child, len(tokens) - 1))
    return Draft(tokens, None, parents)
