"""Blocks and block tables: a random walk over all that can be done with them, beside a plain model of the contents.

The model knows nothing of blocks: each sequence is a list of tokens. What a token's keys and values are depends on all
the tokens before it, as in a transformer, so whoever reads a wrong block sees wrong numbers.
"""
import random
from collections import Counter

import pytest
import torch
from core_helpers import TINY, assert_clear_error, one_thread, random_ids, tiny_model  # noqa: F401
from mutants import serving as mutants

from minilm.cache import KVCache
from minilm.sampling import Sampling
from minilm.serving import BlockPool, BlockTable, Feed, OutOfBlocks, PagedBatch, PagedCache, PagedSequence, blocks
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


def random_walk(seed: int) -> bytes:
    return random.Random(seed).randbytes(2 + 4 * OPERATIONS)


def goes_wrong(data: bytes) -> AssertionError | None:
    try:
        walk(data)
    except AssertionError as error:
        return error
    return None


def shortest(data: bytes) -> bytes:
    """A walk that goes wrong too and in which no single operation can be left out."""
    start, chunk = 2, 4 * OPERATIONS // 2
    while chunk >= 4:
        shorter = data[:start] + data[start + chunk :]
        if start + chunk <= len(data) and goes_wrong(shorter):
            data = shorter
        else:
            start += chunk
        if start >= len(data):
            start, chunk = 2, chunk // 2 // 4 * 4
    return data


def check_walks(count: int = 150) -> Counter:
    """Random walks; of every wrong version of the blocks one of them must go wrong."""
    return sum((walk(random_walk(seed)) for seed in range(count)), Counter())


def test_a_hundred_thousand_operations():
    """Guards the books and the contents. A walk that goes wrong is made as short as it can be before it is told."""
    done: Counter = Counter()
    for seed in range(1200):
        try:
            done += walk(random_walk(seed))
        except AssertionError:
            data = shortest(random_walk(seed))
            pytest.fail(f"{goes_wrong(data)}\nafter walk({data!r})", pytrace=False)
    assert sum(done.values()) >= 100_000 and min(done.values()) > 1000, done


def test_shortening():
    """Guards a shortener that loses the mistake, or shortens nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockTable, "_others_read", lambda self, block: False)
        data = shortest(next(d for d in map(random_walk, range(99)) if goes_wrong(d)))
        assert goes_wrong(data) and len(data) <= 2 + 4 * 8
    assert goes_wrong(data) is None


# --- small laws, one by one ---

def check_order_of_eviction():
    """The block that was freed longest ago goes first, the end of a text before its beginning."""
    pool = BlockPool(6, 2)
    first, second = BlockTable(pool), BlockTable(pool)
    for table in (first, second):
        table.reserve(6)
        table.length = 6
    keys = [prefix_keys([t] * 6, 2) for t in (1, 2)]
    first.remember(keys[0])
    second.remember(keys[1])
    second.free()
    first.free()
    taken = []
    for _ in range(6):
        pool.allocate()
        taken.append(["".join("x" if pool.find(key) is None else "o" for key in each) for each in keys])
    assert taken == [["ooo", "oox"], ["ooo", "oxx"], ["ooo", "xxx"], ["oox", "xxx"], ["oxx", "xxx"], ["xxx", "xxx"]]


def check_used_again():
    """A remembered block that is found is not evicted while it is used, and goes to the end of the line after that."""
    pool = BlockPool(3, 1)
    tables = [BlockTable(pool) for _ in range(3)]
    for t, table in enumerate(tables):
        table.reserve(1)
        table.length = 1
        table.remember(prefix_keys([t], 1))
    for table in tables:
        table.free()
    assert tables[0].adopt(prefix_keys([0], 1)) == 1 and pool.num_free == 2
    pool.allocate()
    assert [pool.find(prefix_keys([t], 1)[0]) is None for t in range(3)] == [False, True, False]
    tables[0].free()
    pool.allocate()
    assert [pool.find(prefix_keys([t], 1)[0]) is None for t in range(3)] == [False, True, True]


def check_gap():
    """What is found after a block that is gone is of no use."""
    table, keys = BlockTable(BlockPool(8, 2)), prefix_keys([1, 2, 3, 4, 5, 6], 2)
    table.reserve(6)
    table.length = 6
    table.remember([keys[0], b"another", keys[2]])
    found = BlockTable(table.pool)
    assert found.adopt(keys) == found.length == 2 and found.blocks == table.blocks[:1]


def check_keys():
    """A key stands for all tokens up to the end of its block, and for full blocks only."""
    text = random_ids(50, 23).tolist()
    keys = prefix_keys(text, 4)
    assert len(keys) == len(set(keys)) == 5 and prefix_keys(text[:20], 4) == keys
    assert prefix_keys(text, 4, keys[:3]) == keys and prefix_keys(text[:3], 4) == []
    for i in range(20):
        other = prefix_keys([*text[:i], 50, *text[i + 1 :]], 4)
        assert [a == b for a, b in zip(keys, other, strict=True)] == [block < i // 4 for block in range(5)]
    assert prefix_keys([1, 2, 1, 2], 2)[0] != prefix_keys([1, 2, 1, 2], 2)[1], "the same tokens at another place"
    assert prefix_keys([256], 1) != prefix_keys([1, 0], 1)[:1]


def check_paged_attention():
    """Logits of tokens in scattered blocks are a contiguous cache's: every block size, ragged, chunks and trees."""
    for heads, groups in ((2, 1), (6, 2), (4, 4)):
        model = tiny_model(dtype=torch.float64, num_heads=heads, num_kv_heads=groups)
        for size in (1, 4, 16, 32):
            cache = PagedCache(model.config, 64 // size + 8, size, dtype=torch.float64)
            scattered = random.Random(0).sample(range(cache.pool.num_blocks), cache.pool.num_blocks)
            cache.pool._free = type(cache.pool._free).fromkeys(scattered)
            lengths, counts = (0, size - 1, size, size + 1, 3), (5, 1, 3, 1, 3)
            parents = [None, None, [-1, 0, 0], None, [-1, -1, 1]]
            tables, texts, expected = [], [], []
            for row, (length, count, parent) in enumerate(zip(lengths, counts, parents, strict=True)):
                length = min(length, 20)
                text = random_ids(97, length + count, seed=row)
                table, dense = BlockTable(cache.pool), KVCache(model.config, dtype=torch.float64, spare=9)
                cache.reserve(table, length + count)
                if length:
                    model(text[None, :length], PagedBatch(cache, [Feed(table, length)]))
                    model(text[None, :length], dense)
                if parent is not None:
                    dense.branch(parent)
                expected.append(model(text[None, length:], dense)[0])
                tables.append(table)
                texts.append(text[length:])
            feeds = [Feed(*feed) for feed in zip(tables, counts, parents, strict=True)]
            logits = model(torch.cat(texts)[None], PagedBatch(cache, feeds))[0]
            assert (logits - torch.cat(expected)).abs().max() < 1e-12, (heads, groups, size)


CHECKS = {check.__name__: check for check in (
    check_order_of_eviction, check_used_again, check_gap, check_keys, check_paged_attention)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards what the walks can't tell; see each check."""
    check()


@pytest.mark.parametrize("mutant", mutants.BLOCKS, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let wrong blocks pass."""
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        (CHECKS | {"check_walks": check_walks})[mutant.check]()


def full_table() -> BlockTable:
    table = BlockTable(BlockPool(2, 4))
    table.reserve(8)
    table.length = 8
    return table


@pytest.mark.parametrize(("call", "says"), [
    (lambda: BlockPool(0, 4), "num_blocks must be a whole number of at least 1; it is 0"),
    (lambda: BlockPool(4, 0), "block_size must be a whole number of at least 1; it is 0"),
    (lambda: BlockPool(4, 2.0), "block_size"),
    (lambda: BlockPool(True, 4), "num_blocks"),
    (lambda: BlockPool(4, 4).release(0), "released twice"),
    (lambda: BlockPool(4, 4).share(0), "free and holds nothing"),
    (lambda: full_table().truncate(9), "cannot truncate a table of 8 tokens to 9"),
    (lambda: full_table().truncate(-1), "cannot truncate"),
    (lambda: full_table().adopt([b""]), "holds 2 blocks already"),
    (lambda: full_table().join(full_table(), 4), "holds 2 blocks already"),
])
def test_bad_input(call, says):
    """Guards books that are cooked in silence."""
    assert_clear_error(call, ValueError, says)


def test_out_of_blocks():
    """Guards an error that leaves things half done."""
    table = full_table()
    assert_clear_error(lambda: table.reserve(5), OutOfBlocks, "2 blocks are needed and 0 are free")
    assert_clear_error(lambda: table.pool.allocate(), OutOfBlocks, "all 2 blocks are in use")
    assert table.pool.references == [1, 1] and len(table.blocks) == 2 and table.length == 8
