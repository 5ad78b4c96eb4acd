"""Several ways to draft in one: what costs nothing first, a model where that has nothing to say.

Text that copies is drafted best by looking it up, for free and far ahead; other text by a small model. Which of the two
comes next, the text itself tells: a long match is rarely chance.
"""
import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from minilm.cache import KVCache
from minilm.checks import check_count
from minilm.decoding.proposers.draft_model import DraftModel, common_prefix
from minilm.decoding.speculative import Chain, Draft, Proposer
from minilm.lean import Lean
from minilm.model import GPT
from minilm.sampling import Sampling, draw, uniform


class Combined(Chain):
    """Each round the first of `sources` that drafts anything has the word.

    The order is the rule: put first what says little but is right when it speaks, such as PromptLookup(8, 8,
    min_ngram=6), and last what can always speak. The choice depends on the text so far alone, never on a token that is
    then dropped, so the output law is the target's whatever the sources are. Raises TypeError for what is no proposer.
    """

    def __new__(cls, sources: Sequence[Proposer]):
        """Most sources verify by one plain pass, which an engine may share between texts; others need `_OwnWays`."""
        plain = all(getattr(type(source), "verify", Chain.verify) is Chain.verify for source in sources)
        return super().__new__(cls if plain else _OwnWays)

    def __init__(self, sources: Sequence[Proposer]):
        self.sources = list(sources)
        if not self.sources:
            raise ValueError("Combined needs at least one proposer to ask")
        for source in self.sources:
            if not all(callable(getattr(source, name, None)) for name in ("start", "propose", "verify")):
                raise TypeError(f"Combined asks proposers, such as PromptLookup(); got {source!r:.80}")
        if len({id(source) for source in self.sources}) < len(self.sources):
            raise ValueError("one proposer stands twice in the list: each keeps track of one text, so make two")
        self.speaker = self.sources[-1]

    def __copy__(self) -> "Combined":
        """For another text: with sources of its own."""
        return Combined([copy.copy(source) for source in self.sources])

    def start(self, model: GPT, cache: KVCache) -> None:
        for source in self.sources:
            source.start(model, cache)

    def propose(self, text: list[int], limit: int, hidden: Tensor, sampling: Sampling,
                generator: torch.Generator | None) -> Draft:
        for source in self.sources:
            draft = source.propose(text, limit, hidden, sampling, generator)
            if draft.tokens:
                break
        self.speaker = source
        return draft


class _OwnWays(Combined):
    """Sources of which some verify in a way of their own, as `SelfSpeculative` does: the one that drafted verifies."""

    def verify(self, model: GPT, cache: KVCache, ids: list[int]) -> Tensor:
        return self.speaker.verify(model, cache, ids)


class SurvivalDraft(DraftModel):
    """A draft model that goes on as long as what it drafts is likely to be reached.

    A draft counts only if all before it were accepted; the product of the probabilities that the draft gave its own
    tokens says how likely that is. A verification of `free` drafts costs no more than a plain pass (on a CPU four rows
    take as long as one, see cpu_few_rows.json); each further row costs a tenth of one, and a token is worth some 0.4:
    drafting stops before the first token beyond them that is reached less often than `survival`. When sampling, it
    stops after that token, which stays: what is drawn must not be dropped for its value, or the output law would bend.
    On a CPU the draft runs as `Lean`, at a fifth of the time, where its shape allows.
    """

    def __init__(self, draft: GPT, num_tokens: int = 8, *, survival: float = 0.4, free: int = 3):
        super().__init__(Lean(draft) if Lean.fits(draft) else draft, num_tokens)
        check_count("free", free, 0)
        if not 0 <= survival < 1:
            raise ValueError(f"survival lies in [0, 1); it is {survival}")
        self.survival, self.free = survival, free

    def propose(self, text: list[int], limit: int, hidden: Tensor, sampling: Sampling,
                generator: torch.Generator | None) -> Draft:
        shared = min(common_prefix(self.read, text), len(text) - 1)             # rejected drafts go; something to read
        self.cache.truncate(shared)
        del self.read[shared:]
        limit = min(self.num_tokens, limit, self.cache.capacity - len(text) + 1)
        tokens, probs, reached = [], [], 1.0
        feed = text[shared:]
        while len(tokens) < limit:
            logits = self._read(feed)
            if sampling.greedy:
                token = int(logits.argmax())
            else:
                q = sampling.probs(logits)
                token = draw(q, uniform(generator))
                probs.append(q)
            reached /= float((logits - logits[token]).exp().sum())              # times softmax(logits)[token]
            doubtful = reached < self.survival and len(tokens) >= self.free
            if doubtful and sampling.greedy:
                break
            tokens.append(token)
            if doubtful:
                break
            feed = [token]
        return Draft(tokens, torch.stack(probs) if probs else None)
