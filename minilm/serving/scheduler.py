"""Who runs next: continuous batching (Yu et al. 2022, Orca) under a token budget, with chunked prefill and preemption.

First come, first served. Every step each running sequence gets its next token, or the next piece of its prompt, until
the step's budget of tokens is spent; whoever waits joins as soon as there is room. When blocks run out, the youngest
running request gives all of its own back (Kwon et al. 2023, §4.5), to be resumed before anyone younger starts: its
blocks go to host memory ("swap") or are computed again ("recompute"). The oldest is never preempted: nobody starves.
"""
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from minilm.serving.blocks import prefix_keys
from minilm.serving.paged_cache import PagedCache
from minilm.serving.request import Request, Sequence, Swapped


@dataclass(slots=True)
class Work:
    """What a sequence feeds in this step: `count` tokens of its text, then up to `drafts` drafted ones."""

    sequence: Sequence
    count: int
    drafts: int = 0


class Scheduler:
    """Keeps `waiting` and `running`, both in the order of arrival.

    tell(event, sequence name): for pictures.  prompts_only: no generated token's blocks are shared; see `exits`.
    """

    def __init__(self, cache: PagedCache, *, max_batch_tokens: int, preemption: str, swap_blocks: int, max_drafts: int,
                 prefix_caching: bool, tell: Callable[[str, str], None], prompts_only: bool = False):
        self.cache, self.pool = cache, cache.pool
        self.max_batch_tokens, self.preemption, self.max_drafts = max_batch_tokens, preemption, max_drafts
        self.prefix_caching, self.host_free, self._tell = prefix_caching, swap_blocks, tell
        self.prompts_only = prompts_only
        self.waiting: list[Request] = []
        self.running: list[Request] = []

    def schedule(self) -> list[Work]:
        """This step's work, with all room reserved. Empty only when nobody is left."""
        work: list[Work] = []
        budget = self.max_batch_tokens
        place = 0
        while place < len(self.running):                    # the oldest first; the youngest may be preempted meanwhile
            budget = self._next(self.running[place], work, budget)
            place += 1
        while self.waiting and budget and self._admit(request := self.waiting[0]):
            left = self._next(request, work, budget)
            if left == budget:
                break
            budget = left
        for w in work if self.max_drafts else ():                       # drafts get what nobody else needs
            w.drafts = self._room_for_drafts(w.sequence, budget)
            budget -= w.drafts
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

    def _next(self, request: Request, work: list[Work], budget: int) -> int:
        """Add what each sequence feeds next, its room reserved; nothing if the request itself had to make room.
        Returns what is left of the budget."""
        others, left = len(work), budget
        for i, sequence in enumerate(request.sequences):
            count = 0 if i and not self._has_prompt(sequence) else min(left, sequence.pending)
            if not count:
                continue
            if not sequence.table.has_room(count):
                if not self._make_room(sequence, count):
                    del work[others:]
                    return budget
                self._reserve(sequence, count)
            work.append(Work(sequence, count))
            left -= count
        return left

    def _room_for_drafts(self, sequence: Sequence, budget: int) -> int:
        """Reserve room for drafts after the text's last token, as far as budget and blocks go. Returns how many."""
        table, request = sequence.table, sequence.request
        last = request.max_new_tokens - len(sequence.out.tokens) == 1           # nothing can follow the next token
        if sequence.pending != 1 or sequence.hidden is None or last:
            return 0
        free = (len(table.blocks) + self.pool.num_free) * self.pool.block_size - table.length - 1
        drafts = min(self.max_drafts, budget, free)
        self._reserve(sequence, 1 + drafts)
        return drafts

    def _reserve(self, sequence: Sequence, tokens: int) -> None:
        if self.cache.reserve(sequence.table, tokens):
            self._tell("copy", sequence.name)

    def _make_room(self, sequence: Sequence, tokens: int) -> bool:
        """Preempt the youngest until `tokens` more fit; False when that was the sequence's own request."""
        while sequence.table.blocks_needed(tokens) > self.pool.num_free:
            victim = self.running[-1]
            self.preempt(victim)
            if victim is sequence.request:
                return False
        return True

    def _has_prompt(self, sequence: Sequence) -> bool:
        """Whether the prompt's full blocks are there, which the first sequence of its request reads for all.

        When a request with several sequences is computed again, the others wait for the first, and share its blocks as
        they did before: else it might need more than there are.
        """
        first, table = sequence.request.sequences[0], sequence.table
        prompt = self._prompt_blocks(sequence.request) * self.pool.block_size
        if table.length >= prompt:
            return True
        if first.table.length < prompt:
            return False
        table.free()
        table.join(first.table, prompt)
        return True

    def _prompt_blocks(self, request: Request) -> int:
        return len(request.prompt) // self.pool.block_size

    def _admit(self, request: Request) -> bool:
        """Let the first in line run if its whole text fits and nobody has to leave for it."""
        if request.host is not None:
            if self._needed_on_return(request) > self.pool.num_free:
                return False
            self._swap_in(request)
        else:
            self._adopt(request)
            if self._needed(request) > self.pool.num_free:
                for sequence in request.sequences:
                    sequence.table.free()
                return False
            self._tell("resume" if request.preemptions else "admit", request.sequences[0].name)
        self.waiting.remove(request)
        self._queue(self.running, request)
        return True

    def _adopt(self, request: Request) -> None:
        """Begin with what is remembered of each text; one token is left to be computed."""
        for sequence in request.sequences if self.prefix_caching else ():
            text = sequence.text[: self._sharable(sequence)]
            sequence.keys = prefix_keys(text, self.pool.block_size, sequence.keys)
            whole = min(len(text), len(sequence.text) - 1) // self.pool.block_size
            sequence.table.adopt(sequence.keys[:whole])

    def remember(self, sequence: Sequence) -> None:
        """Let others find the full blocks of what is in the cache, which must hold accepted tokens only."""
        if not self.prefix_caching or sequence.table.length < (sequence.shared + 1) * self.pool.block_size:
            return                                                      # no block became full
        full = min(sequence.table.length, self._sharable(sequence)) // self.pool.block_size
        if full != sequence.shared:
            held = sequence.tokens(0, full * self.pool.block_size)
            sequence.keys = prefix_keys(held, self.pool.block_size, sequence.keys[:full])
            sequence.table.remember(sequence.keys)
            sequence.shared = full

    def _sharable(self, sequence: Sequence) -> int:
        """How many of its tokens have the keys and values that anybody would get who reads the same text."""
        return len(sequence.request.prompt) + (0 if self.prompts_only else len(sequence.out.tokens))

    def _needed(self, request: Request) -> int:
        """Free blocks that it takes to read all texts, the prompt once for all."""
        prompt = self._prompt_blocks(request)
        shared = sum(max(0, prompt - len(s.table.blocks)) for s in request.sequences[1:])
        return sum(s.table.blocks_needed(s.pending) for s in request.sequences) - shared

    def _needed_on_return(self, request: Request) -> int:
        """The same for a request that was swapped out; never more than it may hold at all, or it could wait forever."""
        size = self.pool.block_size
        more = sum(-(-len(s.text) // size) - len(places) + 1                    # 1: a copy of a shared last block
                   for s, (places, _) in zip(request.sequences, request.host.tables, strict=True))
        return min(request.host.num_blocks + more, request.most_blocks(size))

    def restart(self) -> None:
        """After a pass that broke off, when no table can be trusted: all who run will read their texts again."""
        for request in list(self.running):
            self.preempt(request, "recompute")

    def preempt(self, request: Request, how: str | None = None) -> None:
        """Take all blocks of a running request away, and put it back in line at its place."""
        request.preemptions += 1
        used = list(dict.fromkeys(block for s in request.sequences for block in s.table.blocks))
        if (how or self.preemption) == "swap" and len(used) <= self.host_free:
            self._swap_out(request, used)
        else:
            self._tell("preempt", request.sequences[0].name)
            for sequence in request.sequences:
                sequence.logits = None
        for sequence in request.sequences:
            sequence.table.free()
            sequence.shared = 0
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
        insort(queue, request, key=attrgetter("id"))
