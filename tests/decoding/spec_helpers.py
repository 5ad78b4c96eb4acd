"""Shared by the tests of speculative decoding: small models, scripted drafts, every proposer, whole laws."""
import functools
import importlib
import itertools
from collections import Counter
from collections.abc import Callable

import torch
from core_helpers import tiny_model
from law import draw, law_of

from minilm.decoding.proposers import (
    AheadHeads,
    Blockwise,
    Combined,
    DraftModel,
    PromptLookup,
    SelfSpeculative,
    SurvivalDraft,
)
from minilm.decoding.proposers.recurrent import RecurrentDraft, RecurrentHead
from minilm.sampling import Sampling

spec = importlib.import_module("minilm.decoding.speculative")       # `minilm.decoding.speculative` may be the function
Chain, Draft = spec.Chain, spec.Draft

# Tied embeddings make a random model repeat itself, and then every draft is right and every position alike: not here.
# The draft is the target's first layers: right at times, for whole rounds or a part of them.
VARIED = {"seed": 5, "dtype": torch.float64, "max_positions": 64, "tie_embeddings": False}
TARGET, SMALL = tiny_model(num_layers=4, **VARIED), tiny_model(num_layers=3, **VARIED)
SMALL.load_state_dict({name: TARGET.state_dict()[name] for name in SMALL.state_dict()})
BUSHY = [(0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0)]
PROMPT = [5, 17, 80]


@functools.cache
def _next(model, text: tuple[int, ...]) -> int:
    return int(model(torch.tensor([text]))[0, -1].argmax())


def plain(text: list[int], count: int, model=TARGET) -> list[int]:
    """Greedy decoding at its slowest: no cache, no loop that it shares with what is tested."""
    made = list(text)
    for _ in range(count):
        made.append(_next(model, tuple(made)))
    return made[len(text):]


class Scripted(Chain):
    """Drafts what `guess(text, limit)` says."""

    def __init__(self, guess: Callable):
        self.guess = guess

    def propose(self, text, limit, hidden, sampling, generator):
        return self.guess(text, limit)


def right(text: list[int], limit: int) -> Draft:
    """All accepted."""
    return Draft(plain(text, min(3, limit)))


def wrong(text: list[int], limit: int) -> Draft:
    """None accepted."""
    return Draft([(plain(text, 1)[0] + 1) % 97, 5, 6][:limit])


def half_right(text: list[int], limit: int) -> Draft:
    """One right or two, as the last token has it; then a wrong one, then one that would have been right there."""
    tokens, at = plain(text, min(4, limit)), 1 + text[-1] % 2
    return Draft([(token + (i == at)) % 97 for i, token in enumerate(tokens)])


def tree(text: list[int], limit: int) -> Draft:
    """A tree whose right path is neither first nor last: wrong, right, right → (wrong, right), wrong."""
    if limit < 3:
        return Draft()
    a, b = plain(text, 2)
    return Draft([(a + 1) % 97, a, (a + 2) % 97, (b + 1) % 97, b, 7], None, [-1, -1, 0, 1, 1, 2])


def random_heads(width: int = 24, count: int = 3) -> AheadHeads:
    generator = torch.Generator().manual_seed(0)
    sizes = (count, 2 * width, 2 * width), (count, 2 * width), (count, width, 2 * width)        # up, bias, down
    return AheadHeads(*(torch.randn(size, generator=generator, dtype=torch.float64) / 5 for size in sizes))


def recurrent_head(words: list[int], width: int = 24, seed: int = 0) -> RecurrentHead:
    """A random head of 10 units that can name `words` alone."""
    generator = torch.Generator().manual_seed(seed)
    gate_up, down, bias = (torch.randn(size, generator=generator, dtype=torch.float64) / 2
                           for size in ((20, 2 * width), (width, 10), (len(words),)))
    return RecurrentHead(gate_up, down, torch.tensor(words), bias)


PROPOSERS = {
    "draft model": lambda: DraftModel(SMALL, 3),
    "heuristic length": lambda: DraftModel(SMALL, 2, schedule="heuristic"),
    "confidence stop": lambda: DraftModel(SMALL, 6, confidence=0.1),
    "a draft that is the target": lambda: DraftModel(TARGET, 3),
    "prompt lookup": lambda: PromptLookup(4, 2),
    "self-speculation": lambda: SelfSpeculative(3, 3),
    "blockwise chain": lambda: Blockwise(random_heads()),
    "blockwise tree": lambda: Blockwise(random_heads(), BUSHY),
    "recurrent": lambda: RecurrentDraft(recurrent_head(list(range(0, 97, 2))), 3),
    "survival": lambda: SurvivalDraft(SMALL, 6, survival=0.05, free=1),
    "combined": lambda: Combined([PromptLookup(4, 2, min_ngram=2), SurvivalDraft(SMALL, 3)]),
    "combined, own ways": lambda: Combined([PromptLookup(3, 1), SelfSpeculative(3, 2)]),
    "combined, of trees": lambda: Combined([PromptLookup(3, 2, min_ngram=2), Blockwise(random_heads(), BUSHY)]),
    "all right": lambda: Scripted(right),
    "all wrong": lambda: Scripted(wrong),
    "half right": lambda: Scripted(half_right),
    "tree": lambda: Scripted(tree),
    "nothing": lambda: Scripted(lambda text, limit: Draft()),
}


def decode(*args, **options):
    """A greedy run that nothing stands against: an error is as bad as a wrong token."""
    try:
        return spec.speculative(TARGET, *args, **options)
    except (ValueError, IndexError, RuntimeError) as error:
        raise AssertionError(f"a request that can be met was refused: {error}") from error


# --- the law of a whole decoder: three tokens of vocabulary, four new ones, every path of chance ---

LAW_PROMPT, LAW_TOKENS, WORDS = [1, 2, 1, 0, 1], 4, 3
LAW = {"dtype": torch.float64, "vocab_size": WORDS, "max_positions": 16, "tie_embeddings": False}
LAW_TARGET, LAW_SMALL = tiny_model(seed=8, **LAW), tiny_model(seed=9, num_layers=1, **LAW)
DRAWING = [importlib.import_module(f"minilm.{name}") for name in (
    "sampling", "decoding.speculative", "decoding.verify", "decoding.proposers.draft_model",
    "decoding.proposers.self_speculative", "decoding.proposers.recurrent", "decoding.proposers.combined")]

EXACT = {
    "draft model": lambda: DraftModel(LAW_SMALL, 2),
    "confidence stop": lambda: DraftModel(LAW_SMALL, 2, confidence=0.4),
    "heuristic length": lambda: DraftModel(LAW_SMALL, 1, schedule="heuristic"),
    "prompt lookup": lambda: PromptLookup(2, 1),
    "self-speculation": lambda: SelfSpeculative(1, 2),
    "recurrent": lambda: RecurrentDraft(recurrent_head([2, 0]), 2),                 # it can't name token 1
    "survival": lambda: SurvivalDraft(LAW_SMALL, 2, survival=0.4, free=0),
    "combined": lambda: Combined([PromptLookup(1, 2, min_ngram=2), SurvivalDraft(LAW_SMALL, 2, survival=0.1, free=0)]),
    "combined, own ways": lambda: Combined([PromptLookup(2, 2, min_ngram=2), SelfSpeculative(1, 2)]),
    "tree": lambda: Scripted(lambda text, limit: Draft([0, 1, 2], None, [-1, -1, 0]) if limit > 1 else Draft()),
    "blockwise chain": lambda: Blockwise(random_heads(count=2)),
    "blockwise tree": lambda: Blockwise(random_heads(count=2), [(0,), (1,), (0, 0)]),
}


def decoder_distance(monkeypatch, proposer: Callable, sampling: Sampling, rule: str = "rejection") -> float:
    """Total variation between the joint law of four tokens through the whole decoder and the target's own."""
    def run(fresh):
        for module in DRAWING:
            if hasattr(module, "uniform"):
                monkeypatch.setattr(module, "uniform", lambda generator=None: fresh())
        return spec.speculative(LAW_TARGET, LAW_PROMPT, LAW_TOKENS, proposer(), sampling=sampling, rule=rule).tokens

    for module in DRAWING:
        if hasattr(module, "draw"):
            monkeypatch.setattr(module, "draw", draw)
    got, target = law_of(run), target_law(sampling)
    return sum(abs(got[text] - target[text]) for text in {*got, *target}) / 2


@functools.cache
def target_law(sampling: Sampling) -> Counter:
    """{text: probability} of four tokens, by the chain rule."""
    out: Counter = Counter()
    for text in itertools.product(range(WORDS), repeat=LAW_TOKENS):
        p = sampling.probs(LAW_TARGET(torch.tensor([LAW_PROMPT + list(text)])))[0]
        out[text] = float(torch.stack([p[len(LAW_PROMPT) - 1 + i, x] for i, x in enumerate(text)]).prod())
    return out
