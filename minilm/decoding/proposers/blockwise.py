"""Blockwise parallel decoding (Stern et al. 2018) and Medusa (Cai et al. 2024): heads that look several tokens ahead.

The target's last state, made to name the next token, is asked for the ones after it too, by a small head each. All
guesses of a round cost a few rows of work and no pass of a model. One guess a head is a chain; several make a tree.
"""
import operator
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

    A head is one residual block before the model's own vocabulary matrix: x + down_k SiLU(up_k [x; e] + bias_k), with
    up[K, m, 2d], bias[K, m], down[K, d, m]; x is the normed state, e the normed embedding of the token the model has
    just chosen from it. The block is Stern et al.'s (Medusa's has one matrix, d × d). That
    a head may see the chosen token is Hydra's idea (Ankner et al. 2024), here without its chaining of heads.
    """

    def __init__(self, up: Tensor, bias: Tensor, down: Tensor):
        self.up, self.bias, self.down = up, bias, down

    def __len__(self) -> int:
        return len(self.up)

    @classmethod
    def load(cls, model: GPT, name_or_path: str | Path = "minilm-14m-ahead") -> "AheadHeads":
        """The heads trained for `model`. Raises ValueError when they were trained for another, or the file has none."""
        tensors = heads.read(name_or_path, model)
        if not _fit_together(tensors, model.config.width):
            held = ", ".join(f"{name}{list(x.shape)}" for name, x in sorted(tensors.items()))
            raise ValueError(f"{name_or_path} holds no look-ahead heads (up[K, m, 2d], bias[K, m], down[K, d, m]): it "
                             f"holds {held}")
        return cls(**tensors)

    def save(self, path: str | Path, model: GPT) -> None:
        """Write the heads in float16."""
        heads.write(path, {"up": self.up.half(), "bias": self.bias.half(), "down": self.down.half()}, model)

    def states(self, x: Tensor, token: Tensor) -> Tensor:
        """Normed states x[..., d] and the normed embeddings token[..., d] -> what names the tokens, [K, ..., d]."""
        seen = torch.cat((x, token), -1)
        return torch.stack([x + F.linear(F.silu(F.linear(seen, up, bias)), down)
                            for up, bias, down in zip(self.up, self.bias, self.down, strict=True)])

    def logits(self, model: GPT, hidden: Tensor, token: Tensor) -> Tensor:
        """hidden[..., d], the last layer's, and token[...], the ids the model chose from it -> logits[K, ..., V]."""
        return model.vocabulary(self.states(model.norm(hidden), model.norm(model.embedding(token))))


def _fit_together(tensors: dict[str, Tensor], d: int) -> bool:
    if set(tensors) != {"up", "bias", "down"} or tensors["up"].dim() != 3:
        return False
    K, m, _ = tensors["up"].shape
    shapes = {"up": (K, m, 2 * d), "bias": (K, m), "down": (K, d, m)}
    return all(tuple(tensors[name].shape) == shape for name, shape in shapes.items())


class Blockwise(Chain):
    """Drafts with look-ahead heads: a chain of each head's best guess, or a tree.

    tree: paths of ranks, such as (0,), (1,), (0, 0): (1,) is the first head's second-best guess, (0, 0) the second
    head's best after the first head's best. See `choose_tree`. Guesses are chosen, not drawn, so sampling stays exact.
    """

    def __init__(self, ahead: AheadHeads, tree: Sequence[tuple[int, ...]] | None = None):
        if not isinstance(ahead, AheadHeads):
            raise TypeError(f"Blockwise drafts with AheadHeads, such as AheadHeads.load(model); got {ahead!r:.80}")
        self.ahead = ahead
        paths = [(0,) * (k + 1) for k in range(len(ahead))] if tree is None else _paths(tree)
        if not paths or len(set(paths)) < len(paths) or len(paths) > SPARE:
            raise ValueError(f"a tree has 1 to {SPARE} different paths; this one has {len(paths)}")
        for path in paths:
            if not path or len(path) > len(ahead) or min(path) < 0 or (len(path) > 1 and path[:-1] not in paths):
                raise ValueError(f"path {path} must be at most as deep as there are heads ({len(ahead)}), of ranks "
                                 "from 0, and what it continues must be in the tree")
        self.paths = paths
        deepest = max(map(len, paths))                          # no work for heads that nobody asks
        self.used = AheadHeads(*(tensor[:deepest] for tensor in (ahead.up, ahead.bias, ahead.down)))

    def start(self, model: GPT, cache: KVCache) -> None:
        width = self.ahead.down.shape[1]
        if width != model.config.width:
            raise ValueError(f"these heads read states of width {width}, the model's are {model.config.width}")
        highest = max(max(path) for path in self.paths)
        if highest >= model.config.vocab_size:
            raise ValueError(f"the tree asks for rank {highest}, and the vocabulary has {model.config.vocab_size}")
        self.model = model

    def propose(self, text: list[int], limit: int, hidden: Tensor, sampling: Sampling,
                generator: torch.Generator | None) -> Draft:
        paths = [path for path in self.paths if len(path) <= limit]
        ranks = 1 + max(max(path) for path in paths)
        logits = self.used.logits(self.model, hidden, torch.tensor(text[-1], device=hidden.device))    # (K, V)
        best = logits.topk(ranks, dim=-1).indices.tolist()                                              # (K, ranks)
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
    accuracy = torch.as_tensor(accuracy)
    good = accuracy.dim() == 2 and accuracy.numel() and bool(((accuracy >= 0) & (accuracy <= 1)).all())
    if not good or not isinstance(nodes, int) or nodes < 1:
        raise ValueError("choose_tree needs accuracies[K, R] in [0, 1] and at least one node, as a whole number")
    chances = accuracy.double().tolist()
    chosen, open_paths = [], {(rank,): chance for rank, chance in enumerate(chances[0])}
    while open_paths and len(chosen) < nodes:
        path = max(open_paths, key=open_paths.__getitem__)
        chance = open_paths.pop(path)
        chosen.append(path)
        if len(path) < len(chances):
            open_paths |= {(*path, rank): chance * share for rank, share in enumerate(chances[len(path)])}
    return sorted(chosen, key=_order)


def _paths(tree: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The tree's paths in order. Raises ValueError on anything that is no collection of tuples of whole numbers."""
    try:
        paths = [tuple(operator.index(rank) for rank in path) for path in tree]
    except TypeError:
        raise ValueError("a tree is a list of paths of ranks, such as [(0,), (1,), (0, 0)]; "
                         f"got {tree!r:.80}") from None
    return sorted(paths, key=_order)


def _order(path: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Shallow paths first, then by rank, so that every node comes after its parent."""
    return len(path), path
