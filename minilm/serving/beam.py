"""One step of beam search: as a pure function of scores, and with the texts that it is about."""
import copy
from collections.abc import Callable

import torch
from torch import Tensor

from minilm.generation import Pass
from minilm.serving.request import Sequence


def beam_step(scores: Tensor, log_probs: Tensor, beams: int) -> tuple[list[int], list[int], list[float]]:
    """The best `beams` continuations of several texts.

    scores[b]: each text's sum of log-probabilities; log_probs[b, V]: of its next token. Returns (parent, token, score)
    of the winners, best first; ties go to the lower parent, then the lower token.
    """
    total = (scores[:, None] + log_probs).flatten()                     # (b · V,)
    best = torch.sort(total, descending=True, stable=True).indices[:beams]
    V = log_probs.shape[1]
    return (best // V).tolist(), (best % V).tolist(), total[best].tolist()


def grow(beams: list[Sequence], width: int, sequence: Callable[..., Sequence]) -> list[Sequence]:
    """The `width` best continuations of beams that all have their logits, each in a fork of its parent's blocks.

    sequence(request, index, recorder, table): makes one.
    """
    scores = torch.tensor([s.score for s in beams], dtype=torch.float64, device=beams[0].logits.device)
    log_probs = torch.stack([s.logits for s in beams]).double().log_softmax(-1)
    grown = []
    for index, (parent, token, score) in enumerate(zip(*beam_step(scores, log_probs, width), strict=True)):
        out = copy.deepcopy(beams[parent].out)
        child = sequence(beams[parent].request, index, out, beams[parent].table.fork())
        child.score, child.keys = score, list(beams[parent].keys)
        out.emit(1, child.table.length, [token], Pass)
        grown.append(child)
    return grown
