"""What each sequence does in a step: between the scheduler, who says how much, and the passes that do it."""
from dataclasses import dataclass

from minilm.decoding.speculative import Draft
from minilm.sampling import Sampling
from minilm.serving.blocks import BlockTable
from minilm.serving.paged_cache import Feed
from minilm.serving.request import Sequence
from minilm.serving.scheduler import Work


@dataclass(slots=True)
class Turn:
    """What `sequence` does in a step: it feeds `ids` after what its `table` holds, as a tree if they have `parents`.

    context: how many the table held before.  asks: of how many of them, the last ones, it wants the logits.  few: not a
    piece of a prompt.  draft: those of them that are guesses.  draw: the law and the uniform number of its token, where
    a runner that `draws` is to draw it.
    """

    sequence: Sequence
    table: BlockTable
    ids: list[int]
    context: int
    asks: int
    few: bool
    draft: Draft
    parents: list[int] | None = None
    draw: tuple[Sampling, float] | None = None

    def following(self) -> "Turn":
        """What its sequence feeds next: one token, which is not known yet; `ids` holds its place."""
        draw = None if self.draw is None else self.sequence.draw(1)
        return Turn(self.sequence, self.table, [0], self.context + 1, 1, True, self.draft, None, draw)

    @property
    def feed(self) -> Feed:
        return Feed(self.table, len(self.ids), self.parents)


def turn_of(work: Work, draft: Draft, draws: bool) -> Turn:
    """What this work feeds, and what it asks for. draws: is the runner to draw sampled tokens?"""
    sequence, table, count = work.sequence, work.sequence.table, work.count
    request, held, end = sequence.request, table.length, table.length + count
    ids = sequence.tokens(held, end) + draft.tokens
    more = end < len(request.prompt) + len(sequence.out.tokens)     # a chunk of the prompt, and not its last
    turn = Turn(sequence, table, ids, held, 0 if more else 1 + len(draft.tokens), count == 1, draft, draft.rooted)
    if draws and turn.asks == 1:
        turn.draw = sequence.draw(0)
    return turn
