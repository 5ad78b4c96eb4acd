"""One step of beam search, as a pure function of scores."""
import torch
from torch import Tensor


def beam_step(scores: Tensor, log_probs: Tensor, beams: int) -> tuple[list[int], list[int], list[float]]:
    """The best `beams` continuations of several texts.

    scores[b]: each text's sum of log-probabilities; log_probs[b, V]: of its next token. Returns (parent, token, score)
    of the winners, best first; ties go to the lower parent, then the lower token.
    """
    total = (scores[:, None] + log_probs).flatten()                     # (b · V,)
    best = torch.sort(total, descending=True, stable=True).indices[:beams]
    V = log_probs.shape[1]
    return (best // V).tolist(), (best % V).tolist(), total[best].tolist()
