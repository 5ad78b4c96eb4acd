"""Blockwise parallel decoding (Stern et al. 2018) and Medusa (Cai et al. 2024): heads that look several tokens ahead.

The target's last state, made to name the next token, is asked for the ones after it too, by a small head each. All
guesses of a round cost a few rows of work and no pass of a model. One guess a head is a chain; several make a tree.
"""
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minilm import heads
from minilm.cache import KVCache
from minilm.decoding.speculative import SPARE, Chain, Draft
from minilm.model import GPT
from minilm.sampling import Sampling


class AheadHeads:
    """Head k (from 0) guesses the token k + 2 places after the one whose state it sees; the next is the model's own.

    weight[K, d, d], bias[K, d]: head k is one residual block, x + SiLU(W_k x + b_k) on the normed state x, before the
    model's own vocabulary matrix (Medusa's block; Stern et al. use a wider one).
    """

    def __init__(self, weight: Tensor, bias: Tensor):
        self.weight, self.bias = weight, bias

    def __len__(self) -> int:
        return len(self.weight)

    @classmethod
    def load(cls, model: GPT, name_or_path: str | Path = "minilm-14m-ahead") -> "AheadHeads":
        """The heads trained for `model`. Raises ValueError when they were trained for another, or the file has none."""
        tensors = heads.read(name_or_path, model)
        if set(tensors) != {"weight", "bias"} or tensors["weight"].dim() != 3:
            raise ValueError(f"{name_or_path} holds no look-ahead heads, but the tensors {', '.join(sorted(tensors))}")
        return cls(**tensors)

    def save(self, path: str | Path, model: GPT) -> None:
        """Write the heads in float16."""
        heads.write(path, {"weight": self.weight.half(), "bias": self.bias.half()}, model)

    def logits(self, model: GPT, hidden: Tensor) -> Tensor:
        """hidden[..., d], the last layer's -> logits[K, ..., V]."""
        x = model.norm(hidden)
        ahead = torch.stack([x + F.silu(F.linear(x, w, b)) for w, b in zip(self.weight, self.bias, strict=True)])
        return model.vocabulary(ahead)


class Blockwise(Chain):
    """Drafts with look-ahead heads: a chain of each head's best guess, or a tree.

    tree: paths of ranks, such as (0,), (1,), (0, 0): (1,) is the first head's second-best guess, (0, 0) the second
    head's best after the first head's best. See `choose_tree`. Guesses are chosen, not drawn, so sampling stays exact.
    """

    def __init__(self, ahead: AheadHeads, tree: Sequence[tuple[int, ...]] | None = None):
        self.ahead = ahead
        paths = [(0,) * (k + 1) for k in range(len(ahead))] if tree is None else sorted(map(tuple, tree), key=_order)
        if not paths or len(set(paths)) < len(paths) or len(paths) > SPARE:
            raise ValueError(f"a tree has 1 to {SPARE} different paths; this one has {len(paths)}")
        for path in paths:
            if not path or len(path) > len(ahead) or min(path) < 0 or (len(path) > 1 and path[:-1] not in paths):
                raise ValueError(f"path {path} must be at most as deep as there are heads ({len(ahead)}), of ranks "
                                 "from 0, and what it continues must be in the tree")
        self.paths = paths

    def start(self, model: GPT, cache: KVCache) -> None:
        if self.ahead.weight.shape[-1] != model.config.width:
            raise ValueError(f"these heads read states of width {self.ahead.weight.shape[-1]}, the model's are "
                             f"{model.config.width}")
        self.model = model

    def propose(self, text: list[int], limit: int, hidden: Tensor, sampling: Sampling,
                generator: torch.Generator | None) -> Draft:
        paths = [path for path in self.paths if len(path) <= limit]
        ranks = 1 + max(max(path) for path in paths)
        best = self.ahead.logits(self.model, hidden).topk(ranks, dim=-1).indices.tolist()           # (K, ranks)
        tokens = [best[len(path) - 1][path[-1]] for path in paths]
        if all(set(path) == {0} for path in paths):
            return Draft(tokens)
        where = {path: node for node, path in enumerate(paths)}
        return Draft(tokens, None, [where.get(path[:-1], -1) for path in paths])


def choose_tree(accuracy: Tensor, nodes: int) -> list[tuple[int, ...]]:
    """The `nodes` paths most likely to be right, from accuracy[K, R]: how often head k's guess of rank r is the token.

    A path's chance is taken as the product of its guesses' (heads taken as independent); a prefix is never less likely
    than the path, so the best paths form a tree. This is how Medusa's sparse trees were chosen (Cai et al. 2024).
    """
    if nodes < 1 or accuracy.dim() != 2 or not bool(((accuracy >= 0) & (accuracy <= 1)).all()):
        raise ValueError("choose_tree needs accuracies[K, R] in [0, 1] and at least one node")
    chances = accuracy.double().tolist()
    chosen, open_paths = [], {(rank,): chance for rank, chance in enumerate(chances[0])}
    while open_paths and len(chosen) < nodes:
        path = max(open_paths, key=open_paths.__getitem__)
        chance = open_paths.pop(path)
        chosen.append(path)
        if len(path) < len(chances):
            open_paths |= {(*path, rank): chance * share for rank, share in enumerate(chances[len(path)])}
    return sorted(chosen, key=_order)


def _order(path: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Shallow paths first, then by rank, so that every node comes after its parent."""
    return len(path), path
