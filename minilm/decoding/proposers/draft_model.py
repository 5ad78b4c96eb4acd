"""A small model drafts for a large one (Leviathan et al. 2023; Chen et al. 2023)."""
import torch
from torch import Tensor

from minilm.cache import KVCache
from minilm.checks import check_count
from minilm.decoding.speculative import Chain, Draft
from minilm.model import GPT
from minilm.sampling import Sampling, draw, uniform


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many tokens two texts share from the start."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)


class DraftModel(Chain):
    """`draft` continues the text by up to `num_tokens` tokens, one pass each, with a cache of its own.

    schedule: "constant", or "heuristic" as in `transformers`: two more after a round in which all were accepted, one
    less otherwise.  confidence: stop drafting after a token that the draft gave a smaller probability (0: never). That
    token stays in the draft: the decision depends on nothing that is then thrown away, so the output law stays exact.
    """

    def __init__(self, draft: GPT, num_tokens: int = 5, *, schedule: str = "constant", confidence: float = 0.0):
        check_count("num_tokens", num_tokens, 1)
        if schedule not in ("constant", "heuristic"):
            raise ValueError(f'schedule is "constant" or "heuristic"; it is {schedule!r}')
        if not 0 <= confidence < 1:
            raise ValueError(f"confidence lies in [0, 1); it is {confidence}")
        self.draft, self.num_tokens, self.schedule, self.confidence = draft, num_tokens, schedule, confidence

    def start(self, model: GPT, cache: KVCache) -> None:
        if self.draft.config.vocab_size != model.config.vocab_size:
            raise ValueError(f"the draft's vocabulary has {self.draft.config.vocab_size} tokens and the target's "
                             f"{model.config.vocab_size}: they do not share a tokenizer")
        capacity = min(cache.capacity, self.draft.config.max_positions)
        self.cache = self.draft.new_cache(capacity)
        self.read: list[int] = []                               # the tokens in the draft's cache
        self.guess: list[int] = []                              # the last text with all that was drafted after it
        self.length = self.num_tokens

    def propose(self, text: list[int], limit: int, hidden: Tensor, sampling: Sampling,
                generator: torch.Generator | None) -> Draft:
        if self.schedule == "heuristic" and self.guess:
            all_accepted = common_prefix(self.guess, text) == len(self.guess)
            self.length = self.length + 2 if all_accepted else max(1, self.length - 1)
        shared = min(common_prefix(self.read, text), len(text) - 1)             # rejected drafts go; something to read
        self.cache.truncate(shared)
        del self.read[shared:]
        limit = min(self.length, limit, self.cache.capacity - len(text) + 1)
        tokens, probs = [], []
        feed = text[len(self.read):]                            # what the draft has not read: all of it at the start
        while len(tokens) < limit:
            logits = self._read(feed)
            if sampling.greedy:
                token = int(logits.argmax())                    # no law to remember
            else:
                q = sampling.probs(logits)
                token = draw(q, uniform(generator))
                probs.append(q)
            tokens.append(token)
            if self.confidence and float(torch.softmax(logits, -1)[token]) < self.confidence:
                break
            feed = [token]
        self.guess = text + tokens
        return Draft(tokens, torch.stack(probs) if probs else None)

    def _read(self, feed: list[int]) -> Tensor:
        """Feed tokens to the draft; logits[V] after the last."""
        state = self.draft.read(feed, self.cache)[-1]
        self.read += feed
        return self.draft.head(state)
