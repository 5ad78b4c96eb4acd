"""Prompt lookup: what followed the last time these words stood in the text is a good guess (Saxena 2023)."""
import torch
from torch import Tensor

from minilm.checks import check_count
from minilm.decoding.speculative import Chain, Draft
from minilm.sampling import Sampling


class PromptLookup(Chain):
    """Find the text's last `ngram` tokens earlier in it and draft the up to `num_tokens` tokens that followed there.

    Longer matches are tried first, down to `min_ngram` tokens; of equal ones the latest wins, unless fewer than
    `num_tokens` tokens follow it and an earlier one has more. No model, no cost; but a match of one token is mostly
    chance, and where several tokens cost more to verify than one, a min_ngram of 2 loses less on texts that don't copy.
    """

    def __init__(self, num_tokens: int = 10, ngram: int = 3, min_ngram: int = 1):
        for name, value in (("num_tokens", num_tokens), ("ngram", ngram), ("min_ngram", min_ngram)):
            check_count(name, value, 1)
        if min_ngram > ngram:
            raise ValueError(f"min_ngram, {min_ngram}, is more than ngram, {ngram}")
        self.num_tokens, self.ngram, self.min_ngram = num_tokens, ngram, min_ngram

    def propose(self, text: list[int], limit: int, hidden: Tensor, sampling: Sampling,
                generator: torch.Generator | None) -> Draft:
        return Draft(lookup(text, min(self.num_tokens, limit), self.ngram, self.min_ngram))


def lookup(text: list[int], num_tokens: int, ngram: int, min_ngram: int = 1) -> list[int]:
    """The tokens that followed the latest earlier occurrence of the text's end, longest n-gram first; [] if none."""
    for n in range(min(ngram, len(text) - 1), min_ngram - 1, -1):
        end, best = text[-n:], []
        for start in range(len(text) - n - 1, -1, -1):
            if text[start : start + n] == end:
                found = text[start + n : start + n + num_tokens]
                if len(found) > len(best):
                    best = found
                if len(best) == num_tokens:
                    break
        if best:
            return best
    return []
