"""Who runs next: continuous batching (Yu et al. 2022, Orca) under a token budget, with chunked prefill and preemption.

First come, first served. Every step each running sequence gets its next token, or the next piece of its prompt, until
the step's budget of tokens is spent; whoever waits joins as soon as there is room. When blocks run out, the youngest
running request gives all of its own back (Kwon et al. 2023, §4.5), to be resumed before anyone younger starts: its
blocks go to host memory ("swap") or are computed again ("recompute"). The oldest is never preempted: nobody starves.
"""
from collections.abc import Callable
from dataclasses import dataclass

from minilm.serving.blocks import prefix_keys
from minilm.serving.paged_cache import PagedCache
from minilm.serving.request import Request, Sequence, Swapped


@dataclass
class Work:
    """What a sequence feeds in this step: `count` tokens of its text, then up to `drafts` drafted ones."""

    sequence: Sequence
    count: int
    drafts: int = 0


class Scheduler:
    """Keeps `waiting` and `running`, both in the order of arrival. tell(event, sequence name): for pictures."""

    def __init__(self, cache: PagedCache, *, max_batch_tokens: int, preemption: str, swap_blocks: int, max_drafts: int,
                 prefix_caching: bool, tell: Callable[[str, str], None]):
        self.cache, self.pool = cache, cache.pool
        self.max_batch_tokens, self.preemption, self.max_drafts = max_batch_tokens, preemption, max_drafts
        self.prefix_caching, self.host_free, self._tell = prefix_caching, swap_blocks, tell
        self.waiting: list[Request] = []
        self.running: list[Request] = []

    def schedule(self) -> list[Work]:
        """This step's work, with all room reserved. Empty only when nobody is left."""
        work: list[Work] = []
        budget = self.max_batch_tokens
        for request in list(self.running):                              # the oldest first; a preempted one drops out
            for sequence in request.sequences:
                count = min(budget, sequence.pending)
                if count and request in self.running and self._make_room(sequence, count):
                    work.append(self._work(sequence, budget))
                    budget -= work[-1].count + work[-1].drafts
            work = [w for w in work if w.sequence.request in self.running]
        while self.waiting and budget and self._admit(self.waiting[0]):
            for sequence in self.running[-1].sequences:
                if budget and sequence.pending:
                    self.cache.reserve(sequence.table, min(budget, sequence.pending))
                    work.append(Work(sequence, min(budget, sequence.pending)))
                    budget -= work[-1].count
        return work

    def add(self, request: Request) -> None:
        self._queue(self.waiting, request)

    def drop(self, request: Request) -> None:
        """Take a request out, wherever it is, and give its blocks back."""
        for queue in (self.waiting, self.running):
            if request in queue:
                queue.remove(request)
        if request.host is not None:
            self.host_free += request.host.num_blocks
            request.host = None
        for sequence in request.sequences:
            sequence.table.free()

    def _work(self, sequence: Sequence, budget: int) -> Work:
        """Reserve room for the next tokens, and for drafts if there is some to spare without taking anybody's."""
        count = min(budget, sequence.pending)
        drafts = 0
        if sequence.proposer is not None and sequence.pending == 1 and sequence.hidden is not None:
            drafts = max(0, min(self.max_drafts, budget - 1))
            if sequence.table.blocks_needed(1 + drafts) > self.pool.num_free:
                drafts = 0
        self.cache.reserve(sequence.table, count + drafts)
        return Work(sequence, count, drafts)

    def _make_room(self, sequence: Sequence, tokens: int) -> bool:
        """Preempt the youngest until `tokens` more fit; False when that was the sequence's own request."""
        while sequence.table.blocks_needed(tokens) > self.pool.num_free:
            victim = self.running[-1]
            self.preempt(victim)
            if victim is sequence.request:
                return False
        return True

    def _admit(self, request: Request) -> bool:
        """Let the first in line run if its whole text fits, with a token to come, and nobody has to leave for it."""
        if request.host is not None:
            size = self.pool.block_size
            more = sum(-(-len(s.text) // size) - len(places) + 1                # 1: a copy of a shared last block
                       for s, (places, _) in zip(request.sequences, request.host.tables, strict=True))
            if request.host.num_blocks + more > self.pool.num_free:
                return False
            self._swap_in(request)
        else:
            for sequence in request.sequences:
                if self.prefix_caching:
                    sequence.keys = prefix_keys(sequence.text, self.pool.block_size, sequence.keys)
                    whole = (len(sequence.text) - 1) // self.pool.block_size    # one token is left to be computed
                    sequence.table.adopt(sequence.keys[:whole])
            needed = sum(s.table.blocks_needed(s.pending) for s in request.sequences)
            if needed > self.pool.num_free:
                for sequence in request.sequences:
                    sequence.table.free()
                return False
            self._tell("resume" if request.preemptions else "admit", request.sequences[0].name)
        self.waiting.remove(request)
        self._queue(self.running, request)
        return True

    def preempt(self, request: Request) -> None:
        """Take all blocks of a running request away, and put it back in line at its place."""
        request.preemptions += 1
        used = list(dict.fromkeys(block for s in request.sequences for block in s.table.blocks))
        if self.preemption == "swap" and len(used) <= self.host_free:
            self._swap_out(request, used)
        else:
            self._tell("preempt", request.sequences[0].name)
            for sequence in request.sequences:
                sequence.logits = None
        for sequence in request.sequences:
            sequence.table.free()
        self.running.remove(request)
        self._queue(self.waiting, request)

    def _swap_out(self, request: Request, used: list[int]) -> None:
        """Blocks that its sequences share are stored once."""
        place = {block: i for i, block in enumerate(used)}
        tables = [([place[block] for block in s.table.blocks], s.table.length) for s in request.sequences]
        request.host = Swapped([x.cpu() for x in self.cache.read(used)], len(used), tables)
        self.host_free -= len(used)
        self._tell("swap out", request.sequences[0].name)

    def _swap_in(self, request: Request) -> None:
        host = request.host
        blocks = [self.pool.allocate() for _ in range(host.num_blocks)]
        self.cache.write(blocks, [x.to(self.cache.device) for x in host.content])
        for sequence, (places, length) in zip(request.sequences, host.tables, strict=True):
            for place in places:
                self.pool.share(blocks[place])
            sequence.table.blocks, sequence.table.length = [blocks[place] for place in places], length
        for block in blocks:                                            # from here on only the tables count
            self.pool.release(block)
        self.host_free += host.num_blocks
        request.host = None
        self._tell("swap in", request.sequences[0].name)

    @staticmethod
    def _queue(queue: list[Request], request: Request) -> None:
        """Insert at the place that its arrival gives it."""
        queue.append(request)
        queue.sort(key=lambda waiting: waiting.id)
