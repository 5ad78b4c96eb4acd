"""Blocks and block tables: random walks beside a plain model, and the laws that walks can't tell."""
import random
from collections import Counter

import pytest
import torch
from block_walk import OPERATIONS, prefix_keys, walk
from core_helpers import TINY, assert_clear_error, one_thread, random_ids, tiny_model  # noqa: F401
from mutants import serving as mutants

from minilm.cache import KVCache
from minilm.serving import BlockPool, BlockTable, Feed, OutOfBlocks, PagedBatch, PagedCache


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


def test_a_pass_indexes_where_its_numbers_are():
    """Guards an index that crosses from the host to the device in every layer; "meta" stands for any other device."""
    cache = PagedCache(TINY, 4, 4, device="meta")
    table = BlockTable(cache.pool)
    cache.reserve(table, 5)
    batch = PagedBatch(cache, [Feed(table, 5)])
    (group,) = batch.groups
    assert {x.device.type for x in (batch.slots, group.rows, group.tables, group.mask)} == {"meta"}


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
