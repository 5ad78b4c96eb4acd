"""Speculative decoding: draft several tokens cheaply, verify them in one pass of the target, keep what its law allows.

One loop for every proposer (Leviathan et al. 2023; Chen et al. 2023): propose, verify, commit. A proposer only guesses;
the rules in `verify` make the output the target's own, whatever it guesses. The cache rolls back to what was kept.
"""
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from minilm.cache import KVCache
from minilm.decoding import verify
from minilm.generation import Generation, Pass, Recorder, check_request
from minilm.model import GPT
from minilm.sampling import Sampling, choose, uniform


@dataclass
class Draft:
    """What a proposer guesses.

    tokens[n]: the guesses.  probs[n, V]: q, what each was drawn from, or None if they were chosen and not drawn.
    parents[n]: the node that each continues, -1 for the text, or None for a chain. Only chosen tokens may branch.
    """

    tokens: list[int] = field(default_factory=list)
    probs: Tensor | None = None
    parents: list[int] | None = None

    @property
    def rooted(self) -> list[int] | None:
        """`parents` as the pass sees them, where the text's last token comes first and every guess one later."""
        return None if self.parents is None else [-1, *(parent + 1 for parent in self.parents)]


class Proposer(Protocol):
    """Where drafts come from. Greedy decoding asks for greedy drafts; sampling and generator are the run's own."""

    def start(self, model: GPT, cache: KVCache) -> None:
        """A new text begins; the target and its cache are shown to proposers that share them."""

    def propose(self, text: list[int], limit: int, hidden: Tensor, sampling: Sampling,
                generator: torch.Generator | None) -> Draft:
        """Up to `limit` guesses after `text`; hidden[d] is the target's last state where it chose text's last token."""

    def verify(self, model: GPT, cache: KVCache, ids: list[int]) -> Tensor:
        """The target's last hidden states [n+1, d] for the text's last token and the drafts, in one pass."""


class Chain:
    """What most proposers share: nothing to start, and a verification that is one plain pass over all layers."""

    def start(self, model: GPT, cache: KVCache) -> None:
        pass

    def verify(self, model: GPT, cache: KVCache, ids: list[int]) -> Tensor:
        return model.read(ids, cache)


@dataclass
class SpeculativePass(Pass):
    """One round. drafted: the guesses.  parents: as in `Draft`.  accepted: which of them were kept (indices)."""

    drafted: tuple[int, ...] = ()
    parents: tuple[int, ...] | None = None
    accepted: tuple[int, ...] = ()


@torch.inference_mode()
def speculative(model: GPT, prompt: list[int], max_new_tokens: int, proposer: Proposer, *,
                sampling: Sampling = Sampling(), rule: str = "rejection", eos: int | None = None,
                generator: torch.Generator | None = None) -> Generation:
    """Continue `prompt` as the target alone would: the same tokens when greedy, the same distribution when sampled.

    rule: "rejection" (Leviathan et al.), "block" (Sun et al.; chains only) or "typical" (Medusa; chains only, and NOT
    exact). The trace holds `SpeculativePass`es, one for each pass of the target. Raises TypeError or ValueError, before
    any work, when the request can't be.
    """
    check_request(model, prompt, max_new_tokens)
    if rule not in RULES:
        raise ValueError(f"rule is one of {', '.join(RULES)}; it is {rule!r}")
    out = Recorder(prompt, max_new_tokens, eos)
    cache = model.new_cache(len(prompt) + max_new_tokens, SPARE)
    proposer.start(model, cache)
    hidden = None
    while not out.done:
        context = cache.length
        if hidden is None:                                                      # prefill: the prompt, nothing drafted
            hidden = model.read(prompt, cache)[-1]
            out.emit(len(prompt), 0, [choose(model.head(hidden), sampling, generator)], SpeculativePass)
            continue
        text = prompt + out.tokens
        room = max_new_tokens - len(out.tokens) - 1                            # the pass itself gives one more
        draft = proposer.propose(text, room, hidden, sampling, generator) if room else Draft()
        check_draft(draft, room, rule)
        if draft.parents is not None:
            cache.branch(draft.rooted)
        states = proposer.verify(model, cache, [text[-1], *draft.tokens])       # (n + 1, d)
        path, last = decide(model.head(states), draft, sampling, rule, generator)
        cache.keep(context, [0, *(node + 1 for node in path)])
        hidden = states[path[-1] + 1 if path else 0]
        out.emit(1 + len(draft.tokens), context, [*(draft.tokens[node] for node in path), last], SpeculativePass,
                 drafted=tuple(draft.tokens), accepted=tuple(path),
                 parents=None if draft.parents is None else tuple(draft.parents))
    return out.finish()


RULES = ("rejection", "block", "typical")
SPARE = 64          # the most nodes of a tree


def decide(logits: Tensor, draft: Draft, sampling: Sampling, rule: str,
           generator: torch.Generator | None) -> tuple[list[int], int]:
    """(indices of the accepted drafts, the token after them), from the target's logits[n+1, V]."""
    n = len(draft.tokens)
    if n == 0:
        return [], choose(logits[0], sampling, generator)
    if sampling.greedy:
        return greedy_path(logits.argmax(-1).tolist(), draft)
    p = sampling.probs(logits)
    uniforms = [uniform(generator) for _ in range(n + 1)]
    if draft.parents is not None:
        *path, last = verify.tree(p, draft.tokens, draft.parents, uniforms)
        return path, last
    q = draft.probs
    if q is None:
        q = torch.nn.functional.one_hot(torch.tensor(draft.tokens, device=p.device), p.shape[-1]).to(p.dtype)
    if rule == "typical":
        kept = verify.typical(p, draft.tokens, uniforms[-1])
    else:
        kept = (verify.rejection_sample if rule == "rejection" else verify.block_verify)(p, q, draft.tokens, uniforms)
    return list(range(len(kept) - 1)), kept[-1]


def greedy_path(best: list[int], draft: Draft) -> tuple[list[int], int]:
    """Follow the target's argmax, best[n+1] after the text and each node, down the draft, a chain or a tree."""
    parents = range(-1, len(draft.tokens) - 1) if draft.parents is None else draft.parents
    path, node = [], -1
    for child, (token, parent) in enumerate(zip(draft.tokens, parents, strict=True)):
        if parent == node and token == best[node + 1]:
            node = child
            path.append(child)
    return path, best[node + 1]


def check_draft(draft: Draft, room: int, rule: str) -> None:
    """Raise ValueError when a proposer drafts what can't be verified."""
    depth: Sequence[int] = range(1, len(draft.tokens) + 1)
    if draft.parents is not None:
        if draft.probs is not None:
            raise ValueError("a tree's tokens must be chosen, not drawn: give no probs with parents")
        if rule != "rejection":
            raise ValueError(f'rule {rule!r} is for chains; a tree is verified by "rejection"')
        verify.check_parents(draft.parents, len(draft.tokens))
        if len(draft.tokens) > SPARE:
            raise ValueError(f"a tree has at most {SPARE} nodes; the proposer drafted {len(draft.tokens)}")
        depth = []
        for parent in draft.parents:
            depth.append(1 if parent < 0 else depth[parent] + 1)
    if draft.tokens and max(depth) > room:
        raise ValueError(f"the proposer drafted {max(depth)} tokens in a row, but there is room for {room}")
