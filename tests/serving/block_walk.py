"""A random walk over all that can be done with blocks, beside a plain model that knows nothing of them.

In the model each sequence is a list of tokens. What a token's keys and values are depends on all the tokens before it,
as in a transformer, so whoever reads a wrong block sees wrong numbers.
"""
from collections import Counter

from core_helpers import TINY, assert_clear_error

from minilm.sampling import Sampling
from minilm.serving import BlockTable, OutOfBlocks, PagedCache, PagedSequence, blocks
from minilm.serving.request import Request, Sequence
from minilm.serving.scheduler import Scheduler

OPERATIONS = 150                    # in one walk: four bytes each
CONFIG = type(TINY)(vocab_size=9, num_layers=1, width=2, num_heads=1, num_kv_heads=1, head_size=2, mlp_width=2)


def prefix_keys(*args) -> list[bytes]:
    return blocks.prefix_keys(*args)                            # looked up late: it may be a wrong version


class Walk:
    """Requests of one or several sequences, in real blocks and as lists. `bytes` say what to do next, to whom."""

    def __init__(self, block_size: int, num_blocks: int):
        self.cache = PagedCache(CONFIG, num_blocks, block_size)
        self.pool, self.size = self.cache.pool, block_size
        self.scheduler = Scheduler(self.cache, max_batch_tokens=1, preemption="swap", swap_blocks=num_blocks,
                                   max_drafts=0, prefix_caching=True, tell=lambda event, name: None)
        self.texts: dict[Sequence, list[int]] = {}
        self.known: dict[bytes, list[int]] = {}                 # what a remembered block must hold
        self.noted: dict[int, tuple[BlockTable, list[int]]] = {}        # by version: what a pass would have noted
        self.done: Counter = Counter()
        self.requests = 0

    def run(self, data: bytes) -> Counter:
        names = [name for name in dir(self) if name.startswith("do_")]
        for i in range(0, len(data) - 3, 4):
            what, who, a, b = data[i : i + 4]
            if what == 0:                                       # so that zeros, which shrinking likes, do nothing
                continue
            name = names[what % len(names)]
            running = [s for request in self.scheduler.running for s in request.sequences]
            if name in ("do_begin", "do_swap_in"):
                acted = getattr(self, name)(a, b)
            else:
                acted = bool(running) and getattr(self, name)(running[who % len(running)], a, b)
            if acted is not False:
                self.done[name] += 1
                self.check()
        for request in self.scheduler.running + self.scheduler.waiting:
            self.scheduler.drop(request)
        assert self.pool.num_free == self.pool.num_blocks and self.scheduler.host_free == self.pool.num_blocks
        return self.done

    # --- what can be done ---

    def do_begin(self, a: int, b: int):
        """A new request, beginning with what is remembered of its text."""
        if len(self.scheduler.running) + len(self.scheduler.waiting) >= 5:
            return False
        text = [(a >> i) & 1 for i in range(b % 9)]
        request = Request(self.requests, text, 9, Sampling())
        sequence = Sequence(request, 0, BlockTable(self.pool), None, None)
        request.sequences = [sequence]
        self.requests += 1
        found = sequence.table.adopt(prefix_keys(text, self.size))
        keys = prefix_keys(text, self.size)
        first_missing = next((i for i, key in enumerate(keys) if self.pool.find(key) is None), len(keys))
        assert found == sequence.table.length == first_missing * self.size
        self.texts[sequence] = text[:found]
        self.scheduler.running.append(request)
        return None

    def do_write(self, sequence: Sequence, a: int, b: int):
        return self.write(sequence, [(b >> i) & 1 for i in range(1 + a % 7)])

    def do_speculate(self, sequence: Sequence, a: int, b: int):
        """Write drafts, keep a few of them."""
        length = sequence.table.length
        if self.write(sequence, [(b >> i) & 1 for i in range(1 + a % 7)]) is False:
            return False
        self.cut(sequence, length + b % (2 + a % 7))
        return None

    def do_keep_a_path(self, sequence: Sequence, a: int, b: int):
        """Write a tree, keep one way down it."""
        count, start = 2 + a % 5, sequence.table.length
        path = [i for i in range(count) if (b >> i) & 1]
        text = self.texts[sequence]
        if self.reserve(sequence, count) is False:
            return False
        right = meaning([*text, *(i & 1 for i in path)])[start:]
        nodes = [right[path.index(i)] if i in path else -7 for i in range(count)]
        self.put(sequence.table.slots(start, start + count), nodes)
        sequence.table.length += count
        PagedSequence(self.cache, sequence.table).keep(start, path)
        text += [i & 1 for i in path]
        return None

    def do_reserve(self, sequence: Sequence, a: int, b: int):
        return self.reserve(sequence, 1 + a % 9)

    def do_trim(self, sequence: Sequence, a: int, b: int):
        sequence.table.trim()
        assert len(sequence.table.blocks) == -(-sequence.table.length // self.size)

    def do_roll_back(self, sequence: Sequence, a: int, b: int):
        self.cut(sequence, a % (1 + sequence.table.length))

    def do_fork(self, sequence: Sequence, a: int, b: int):
        request = sequence.request
        if len(request.sequences) >= 4:
            return False
        free = self.pool.num_free
        child = Sequence(request, len(request.sequences), sequence.table.fork(), None, None)
        assert self.pool.num_free == free, "a fork takes no block"
        request.sequences.append(child)
        self.texts[child] = list(self.texts[sequence])
        return None

    def do_free(self, sequence: Sequence, a: int, b: int):
        sequence.table.free()
        assert sequence.table.length == 0 and sequence.table.blocks == []
        sequence.request.sequences.remove(sequence)
        if sequence.request.done:
            self.scheduler.drop(sequence.request)

    def do_remember(self, sequence: Sequence, a: int, b: int):
        text = self.texts[sequence]
        keys, meant = prefix_keys(text, self.size), meaning(text)
        sequence.table.remember(keys)
        for i, key in enumerate(keys):
            assert self.pool.find(key) is not None
            self.known[key] = meant[i * self.size : (i + 1) * self.size]

    def do_swap_out(self, sequence: Sequence, a: int, b: int):
        request = sequence.request
        held = {block for s in request.sequences for block in s.table.blocks}
        free = self.scheduler.host_free
        if len(held) > free:
            return False
        self.scheduler.preempt(request)
        assert self.scheduler.host_free == free - len(held), "shared blocks are stored once"
        return None

    def do_swap_in(self, a: int, b: int):
        waiting = [r for r in self.scheduler.waiting if r.host.num_blocks <= self.pool.num_free]
        if not waiting:
            return False
        request = waiting[a % len(waiting)]
        free, takes = self.pool.num_free, request.host.num_blocks
        self.scheduler._swap_in(request)
        assert self.pool.num_free == free - takes
        self.scheduler.waiting.remove(request)
        self.scheduler.running.append(request)
        return None

    def do_cancel(self, sequence: Sequence, a: int, b: int):
        if a % 2 and self.scheduler.waiting:                    # a swapped one
            return self.scheduler.drop(self.scheduler.waiting[b % len(self.scheduler.waiting)])
        return self.scheduler.drop(sequence.request) if a % 8 == 0 else False

    # --- their parts ---

    def reserve(self, sequence: Sequence, tokens: int):
        """Makes room, or changes nothing; copies what others read, and nothing else."""
        table = sequence.table
        last, place = divmod(table.length, self.size)
        others = place and (self.pool.references[table.blocks[last]] > 1 or self.pool.remembers(table.blocks[last]))
        before, free = list(table.blocks), self.pool.num_free
        needed = max(0, -(-(table.length + tokens) // self.size) - len(before)) + bool(others)
        try:
            copies = self.cache.reserve(table, tokens)
        except OutOfBlocks:
            assert needed > free == self.pool.num_free and table.blocks == before
            return False
        assert needed <= free and len(copies) == bool(others)
        assert all(pair == (before[last], table.blocks[last]) for pair in copies)
        assert len(table.blocks) == max(len(before), -(-(table.length + tokens) // self.size))
        writes = table.blocks[last:]
        assert all(self.pool.references[block] == 1 and not self.pool.remembers(block) for block in writes)
        return None

    def write(self, sequence: Sequence, tokens: list[int]):
        if self.reserve(sequence, len(tokens)) is False:
            return False
        table, text = sequence.table, self.texts[sequence]
        text += tokens
        self.put(table.slots(table.length, len(text)), meaning(text)[table.length :])
        table.length = len(text)
        return None

    def cut(self, sequence: Sequence, length: int) -> None:
        table = sequence.table
        last, place = divmod(length, self.size)
        if place and self.pool.remembers(table.blocks[last]):
            assert_clear_error(lambda: table.truncate(length), ValueError, "only accepted tokens may be remembered")
        else:
            table.truncate(length)
            del self.texts[sequence][length:]

    def put(self, slots: list[int], numbers: list[int]) -> None:
        for kept, sign in ((self.cache.keys[0], 1), (self.cache.values[0], -1)):
            for slot, number in zip(slots, numbers, strict=True):
                kept[slot // self.size, slot % self.size, 0] = sign * number

    # --- what must hold after each ---

    def check(self) -> None:
        pool, size = self.pool, self.size
        tables = [s.table for request in self.scheduler.running for s in request.sequences]
        pointed = Counter(block for table in tables for block in table.blocks)
        assert pool.references == [pointed[block] for block in range(pool.num_blocks)]
        assert pool.num_free + len(pointed) == pool.num_blocks
        keys, values = (kept[0][:, :, 0, 0].tolist() for kept in (self.cache.keys, self.cache.values))
        for request in self.scheduler.running:
            for sequence in request.sequences:
                table, text = sequence.table, self.texts[sequence]
                assert table.length == len(text) <= len(table.blocks) * size
                if text:
                    owner, noted = self.noted.setdefault(table.version, (table, list(table.blocks)))
                    held = -(-len(text) // size)
                    assert owner is table and noted[:held] == table.blocks[:held], "other blocks, the same version"
                meant = meaning(text)
                assert [keys[i // size][i % size] for i in table.slots(0, len(text))] == meant
                assert [-values[i // size][i % size] for i in table.slots(0, len(text))] == meant
        for key, meant in list(self.known.items()):
            block = pool.find(key)
            if block is None:
                del self.known[key]
            else:
                assert keys[block] == meant, "a block that was found holds another text"
        host = sum(request.host.num_blocks for request in self.scheduler.waiting)
        assert self.scheduler.host_free == pool.num_blocks - host


def meaning(text: list[int]) -> list[int]:
    """A number for each token that depends on all the tokens before it; exact in float32."""
    numbers, last = [], 1
    for token in text:
        last = (5 * last + token + 1) % 1_000_003
        numbers.append(last)
    return numbers


def walk(data: bytes) -> Counter:
    """One walk; whatever goes wrong is an AssertionError."""
    try:
        return Walk((1, 2, 3, 4, 16)[data[0] % 5], 6 + data[1] % 14).run(data[2:])
    except (ValueError, IndexError, KeyError, TypeError, RuntimeError) as error:
        raise AssertionError(f"what can be done was refused: {error!r}") from error
