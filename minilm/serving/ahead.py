"""A step ahead: where all decode, the device begins the next step before the host has read this one's tokens.

What the next step feeds is known but for the tokens themselves, and those are on the device. So it works while the host
writes down what came, tells callbacks and schedules: the field calls this asynchronous scheduling. What was begun for a
text that then ends, is cancelled or preempted is not looked at; its blocks are written anew before anyone reads them.
"""
from minilm.serving.graphs import UnderWay
from minilm.serving.paged_cache import PagedCache
from minilm.serving.turns import Turn


class Ahead:
    """The pass of the next step, under way for these `turns`.  begun: by sequence, its row, and how it stood then."""

    def __init__(self, turns: list[Turn], under_way: UnderWay):
        self.under_way = under_way
        self.begun = {turn.sequence: (row, turn.context, turn.table.version) for row, turn in enumerate(turns)}

    def row(self, turn: Turn) -> int | None:
        """Which row of the pass is this turn's; None: it was not begun, or its blocks are others now."""
        row, context, version = self.begun.get(turn.sequence, (None, 0, 0))
        return row if (context, version) == (turn.context, turn.table.version) and len(turn.ids) == 1 else None


def next_turns(turns: list[Turn], cache: PagedCache) -> list[tuple[int, Turn]]:
    """(i, what turn i's sequence feeds next) of those that go on after this token, their room reserved.

    None at all where some feed several tokens or a piece of what was there before, where logits of this step are still
    looked at (a first token's, for the other samples of its prompt, and a beam's), or where there is not room for all:
    then somebody may have to leave.
    """
    going = []
    for i, turn in enumerate(turns):
        request, made = turn.sequence.request, len(turn.sequence.out.tokens)
        if len(turn.ids) > 1 or not turn.asks or not made or request.beams:
            return []
        if made + 1 < request.max_new_tokens:
            going.append((i, turn))
    short = [turn.table for _, turn in going if not turn.table.has_room(2)]
    if sum(table.blocks_needed(2) for table in short) > cache.pool.num_free:
        return []
    for table in short:
        cache.reserve(table, 2)
    return [(i, turn.following()) for i, turn in going]
