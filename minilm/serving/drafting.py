"""Drafts in a batch: each sequence has a drafter of its own, which drafts as much as there is room for."""
import copy

from minilm.decoding.speculative import Chain, Draft, Proposer, check_draft
from minilm.model import GPT
from minilm.serving.blocks import BlockTable
from minilm.serving.paged_cache import PagedCache, PagedSequence
from minilm.serving.runner import Made, Rows, Runner
from minilm.serving.scheduler import Work
from minilm.serving.turns import Turn


class Drafting:
    """Copies of `proposer`, one for each sequence, and what each drafts and verifies."""

    def __init__(self, model: GPT, cache: PagedCache, proposer: Proposer):
        self.model, self.cache, self.proposer = model, cache, proposer
        self.begin(BlockTable(cache.pool))                      # a misfit shows here, not in the first request

    def begin(self, table: BlockTable) -> Proposer:
        """A drafter for one sequence, made when it first drafts: it may hold a cache of its own."""
        proposer = copy.copy(self.proposer)
        proposer.start(self.model, PagedSequence(self.cache, table))
        return proposer

    def draft(self, work: Work) -> Draft:
        sequence, request = work.sequence, work.sequence.request
        room = min(request.max_new_tokens - len(sequence.out.tokens) - 1, work.drafts)
        if room < 1:
            return Draft()
        if sequence.proposer is None:
            sequence.proposer = self.begin(sequence.table)
        draft = sequence.proposer.propose(sequence.text, room, sequence.hidden, request.sampling, sequence.generator)
        check_draft(draft, room, "rejection")
        if len(draft.tokens) > work.drafts:                     # a tree that is too large: its first nodes are a tree
            draft = Draft(draft.tokens[: work.drafts], None, draft.parents[: work.drafts])
        work.drafts = len(draft.tokens)
        return draft

    def run(self, turns: list[Turn], runner: Runner) -> list[Rows]:
        """What each gets, from the pass for all, or where its drafter verifies in a way of its own, from that."""
        alone = [bool(turn.draft.tokens) and type(turn.sequence.proposer).verify is not Chain.verify for turn in turns]
        together = [turn for turn, own in zip(turns, alone, strict=True) if not own]
        rows = iter(runner.run(together) if together else ())
        return [self._verify(turn) if own else next(rows) for turn, own in zip(turns, alone, strict=True)]

    def _verify(self, turn: Turn) -> Rows:
        view, ids = PagedSequence(self.cache, turn.table), turn.ids
        if turn.parents is not None:
            view.branch(turn.parents)
        states = turn.sequence.proposer.verify(self.model, view, ids)
        logits = self.model.head(states)
        return Rows(Made(states, logits, logits.argmax(-1).tolist()), 0, len(ids), 0, len(ids))
