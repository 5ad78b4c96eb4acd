"""The ways to draft that go with a model, with the settings that were best for it on two CPU cores.

One list for the race, for the benchmark of speculation and, beside longer drafts, for the check that it loses nothing.
"""
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch

import minilm
from minilm.decoding.calm import ExitHead
from minilm.decoding.proposers import (
    AheadHeads,
    Blockwise,
    Combined,
    DraftModel,
    PromptLookup,
    RecurrentDraft,
    RecurrentHead,
    SelfSpeculative,
    SurvivalDraft,
    Trie,
)
from minilm.decoding.speculative import Proposer
from minilm.model import GPT

CHAPTERS = {"draft model": 5, "recurrent draft": 5, "prompt lookup": 6, "blockwise": 6, "blockwise tree": 6,
            "self-speculation": 6, "trie": 7, "combined": 12}   # and the lesson that explains each
CHAIN, TREE = ((0,), (0, 0)), ((0,), (1,), (0, 0))
Part = TypeVar("Part")


def drafters(model: GPT) -> dict[str, Callable[[], Proposer]]:
    """name -> how to make a fresh one, for those of CHAPTERS that `model` has the parts for."""
    found: dict[str, Callable[[], Proposer]] = {
        "prompt lookup": lambda: PromptLookup(6, 3, min_ngram=2), "trie": lambda: Trie(8)}
    draft = draft_of(model)
    if draft is not None:
        found["draft model"] = lambda: DraftModel(draft, 5, confidence=0.5)
        found["self-speculation"] = lambda: SelfSpeculative(4, 2)
        found["combined"] = lambda: Combined([PromptLookup(8, 8, min_ngram=6), SurvivalDraft(draft)])
    ahead = trained(AheadHeads.load, model)
    if ahead is not None:
        found["blockwise"] = lambda: Blockwise(ahead, CHAIN)
        found["blockwise tree"] = lambda: Blockwise(ahead, TREE)
    head = trained(RecurrentHead.load, model)
    if head is not None:
        found["recurrent draft"] = lambda: RecurrentDraft(head, 3)
        found["combined"] = lambda: Combined([PromptLookup(6, 3, min_ngram=2), RecurrentDraft(head, 3)])
    return {name: found[name] for name in CHAPTERS if name in found}


def trained(load: Callable[[GPT], Part], model: GPT) -> Part | None:
    """The bundled part that was trained beside `model`, or None where there is none for it."""
    try:
        return load(model)
    except (FileNotFoundError, ValueError):
        return None


def draft_of(model: GPT) -> GPT | None:
    """minilm-1m for minilm-14m, which it was distilled from (it is known by its exit classifier); else None."""
    return None if trained(ExitHead.load, model) is None else _small(model.dtype, model.device)


@cache
def _small(dtype: torch.dtype, device: torch.device) -> GPT:
    return minilm.load("minilm-1m", device=device, dtype=dtype)[0]
