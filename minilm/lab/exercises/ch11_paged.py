"""Exercise 11.4: the state of one tile of keys in blocks, found through the block table, as a Triton kernel."""

import math

import torch

from minilm.lab.exercise import Exercise, agree
from minilm.lab.expect import Failed
from minilm.lab.kernel import empty, launch, memory
from minilm.lab.values import difference

ex4 = Exercise(
    "11.4",
    "The block table's gather",
    answer="paged_state_kernel(q, k, v, tables, lengths, outs, lses, width, scale, GROUP, D, PAGE, TILE)",
    task="program (t, h, b): attention of query head h of row b to keys t · TILE on, as (out, lse), through its table",
    hints=(
        "Which keys are this program's, and which of them are there? Key j is in the block that entry j // PAGE of row "
        "b's table names, at place j % PAGE. What must a lane past the row's length not do?",
        "page = tl.load(tables + b * width + j // PAGE, mask=inside, other=0); the slot is page * PAGE + j % PAGE, and "
        "its numbers begin at (slot * K + h // GROUP) * D, K = tl.num_programs(1) // GROUP. Scores of masked lanes are "
        "-inf; where no lane is inside, subtract 0 in place of the maximum and divide by 1 in place of the sum.",
        "at = (slot * K + h // GROUP)[:, None] * D + d[None, :]; key = tl.load(k + at, mask=inside[:, None], other=0); "
        "score = tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float('-inf')); m = tl.max(score, 0); "
        "base = tl.where(m > float('-inf'), m, 0.0); p = tl.exp(score - base); l = tl.sum(p, 0); store "
        "sum(p · value) / l and m + tl.log(l), with 1.0 in place of an l of 0.",
    ),
)


UNMASKED = ("right here, but a lane past the row's length reads what is nobody's: entries, keys and values are loaded "
            "with mask=inside each")


def reference(q, k, v, tables, lengths, tile):
    """outs[tiles · B · H, D], lses[tiles · B · H, 1]"""
    return _states(q, k, v, tables, lengths, tile)


def run(answer):
    """The kernel as a function of q[B, H, D], k and v[blocks, page, K, D], tables[B, width], lengths[B], the tile."""
    def states(q, k, v, tables, lengths, tile):
        (B, H, D), (_, page, K, _), width = q.shape, k.shape, tables.shape[1]
        tiles = -(-width * page // tile)
        outs, lses = empty((tiles * B * H, D)), empty((tiles * B * H, 1))
        loads = launch(answer, (tiles, H, B), q=memory(q.reshape(-1, D)), k=memory(k.reshape(-1, D)),
               v=memory(v.reshape(-1, D)), tables=memory(tables), lengths=memory(lengths), outs=outs, lses=lses,
               width=width, scale=D**-0.5, GROUP=H // K, D=D, PAGE=page, TILE=tile)
        place = "program (t, h, b) writes state (t · B + b) · H + h, a tile without keys too: zeros and -inf"
        states = (outs.rows(place, "outs[tiles, B, H, D]: " + place), lses.rows(place, "lses[tiles, B, H]: " + place))
        if loads and loads.unmasked > tiles * H * B and difference(
                states, reference(q, k, v, tables, lengths, tile)) is None:
            raise Failed(UNMASKED, [("input", answer.shown)])       # one tile without a mask, the query, is all right
        return states
    return states


def _states(q, k, v, tables, lengths, tile, *, entry=lambda j, page: j // page, row=lambda b: b,
            slot=lambda block, j, page: block * page + j % page, head=lambda h, G, K: h // G, end=lambda n, reach: n,
            scale=lambda D: D**-0.5, value=lambda k, v: v, out=lambda s, v: s.softmax(0) @ v,
            lse=lambda s: s.logsumexp(0), none=(0.0, -math.inf), place=lambda t, b, h, T, B, H: (t * B + b) * H + h,
            begin=lambda b, width, page: b * width, query=lambda b: b, first=lambda t, tile: t * tile, zeros=False,
            at=lambda block, j, page, slot, head, K, H: slot * K + head, spoilt=False):
    """The answer, each of its steps open to change; what a kernel would read in memory is read here."""
    (B, H, D), (_, page, K, _), width = q.shape, k.shape, tables.shape[1]
    tiles = -(-width * page // tile)
    book, pool_k = memory(tables).flat, memory(k.reshape(-1, D)).flat
    pool_v = memory(v.reshape(-1, D)).flat
    outs, lses = torch.zeros(tiles * B * H, D), torch.zeros(tiles * B * H, 1)
    for t in range(tiles):
        for b in range(B):
            last = end(int(lengths[b]), width * page)
            reach = range(first(t, tile), first(t, tile) + tile)
            keys = [j for j in reach if j < last]
            for h in range(H):
                here = place(t, b, h, tiles, B, H)
                outs[here], lses[here] = none
                if not keys and not zeros:
                    continue
                starts = []
                for j in keys:
                    block = int(book[begin(row(b), width, page) + entry(j, page)])
                    starts.append(at(block, j, page, slot(block, j, page), head(h, H // K, K), K, H) * D)
                ks, vs = (torch.stack([pool[i : i + D] for i in starts] or [pool[:0]]) for pool in (pool_k, pool_v))
                if zeros:                                   # lanes past the length: keys and values of zeros
                    ks, vs = (torch.cat((x.view(-1, D), torch.zeros(tile - len(keys), D))) for x in (ks, vs))
                score = ks @ q[query(b), h] * scale(D)
                outs[here], lses[here] = out(score, value(ks, vs)), lse(score)
                if spoilt and len(keys) < tile:             # their values are NaN, times zero
                    outs[here] = math.nan
    return outs, lses


def _but(**change):
    return lambda *given: _states(*given, **change)


WRONG = {
    "the table is not asked: key j is not in slot j of the pool": _but(slot=lambda block, j, page: j),
    "every row reads the first row's table: row b's begins at tables + b * width": _but(row=lambda b: 0),
    "a block is PAGE slots long: the slot is page * PAGE + j % PAGE": _but(
        slot=lambda block, j, page: block + j % page),
    "that is the block's first slot for all of its keys: add the place, j % PAGE": _but(
        slot=lambda block, j, page: block * page),
    "j // PAGE is the entry and j % PAGE the place; yours are the other way round": _but(
        entry=lambda j, page: j % page, slot=lambda block, j, page: block * page + j // page),
    "query head h reads key-value head h // GROUP; yours is h % K": _but(head=lambda h, G, K: h % K),
    "all query heads read key-value head 0: add h // GROUP": _but(head=lambda h, G, K: 0),
    "keys past the row's length take part: mask=inside, and scores of -inf there": _but(
        end=lambda n, reach: reach),
    "the last key is missing: j < length": _but(end=lambda n, reach: n - 1),
    "scores are multiplied with scale": _but(scale=lambda D: 1.0),
    "the values are read from k": _but(value=lambda k, v: k),
    "the output is not divided by the sum of the weights": _but(out=lambda s, v: (s - s.amax()).exp() @ v),
    "that lse is the maximum only: add tl.log(l)": _but(lse=lambda s: s.amax(0)),
    "l is stored, not its logarithm: lse = m + tl.log(l)": _but(lse=lambda s: (s - s.amax()).exp().sum(0)),
    "your lse is measured against the maximum; add it again: m + tl.log(l)": _but(
        lse=lambda s: (s - s.amax()).exp().sum(0).log()),
    "a tile without keys gives NaN: -inf - (-inf), or 0 / 0; subtract 0 where m is -inf, divide by 1 where l is 0":
        _but(none=(math.nan, math.nan)),
    "a tile without keys leaves NaN in outs: subtract 0 where m is -inf, divide by 1 where l is 0": _but(
        none=(math.nan, -math.inf)),
    "a tile without keys has the lse 0, the weight of a key with score 0: store -inf": _but(none=(0.0, 0.0)),
    "lanes past the length count as keys of zeros: their score is -inf, tl.where(inside, score, float('-inf'))": _but(
        zeros=True),
    "values past the length are read, where NaN stands here, and 0 · NaN is NaN: mask=inside[:, None], other=0": _but(
        spoilt=True),
    "one key too many: j < length, since keys are counted from 0": _but(end=lambda n, reach: n + 1),
    "every row takes the first row's query: q + (b * H + h) * D": _but(query=lambda b: 0),
    "the block begins at page * PAGE, and its place in the block is j % PAGE: yours is j": _but(
        slot=lambda block, j, page: block * page + j),
    "every program reads the first tile: j = t * TILE + tl.arange(0, TILE)": _but(first=lambda t, tile: 0),
    "row b's table begins at b * width; you take PAGE, which is a block's length": _but(
        begin=lambda b, width, page: b * page),
    "a slot holds K heads of D numbers: (slot * K + h // GROUP) * D; you leave K out": _but(
        at=lambda block, j, page, slot, head, K, H: slot + head),
    "a slot holds K key-value heads, not H: K = tl.num_programs(1) // GROUP": _but(
        at=lambda block, j, page, slot, head, K, H: slot * H + head),
    "in a block all heads of a key stand together, [PAGE, K, D]; yours has all keys of a head together": _but(
        at=lambda block, j, page, slot, head, K, H: (block * K + head) * page + j % page),
    "the logarithm is to base 2: tl.log": _but(lse=lambda s: s.amax(0) + (s - s.amax()).exp().sum(0).log2()),
    "states are exchanged, heads before rows: program (t, h, b) writes state (t · B + b) · H + h": _but(
        place=lambda t, b, h, T, B, H: (t * H + h) * B + b),
    "states are exchanged: program (t, h, b) writes state (t · B + b) · H + h": _but(
        place=lambda t, b, h, T, B, H: (b * T + t) * H + h),
}


def _by_tile(q, k, v, tables, lengths, tile):
    return _states(q, k, v, tables, lengths, tile, entry=lambda j, page: min(j // tile, tables.shape[1] - 1))


WRONG["entry t of the table is right only where a tile is a page: j // PAGE, for each lane its own"] = _by_tile


def case(lengths, K, G, D, page, tile, seed, spare=1):
    """Rows dealt to blocks in no order. Block 0 and what stands past a row's end are nobody's: large keys, NaN values;
    entries that no key needs name a block behind the pool."""
    chance = torch.Generator().manual_seed(seed)
    width = max(-(-max(lengths) // page), 1)
    blocks = sum(-(-length // page) for length in lengths) + spare
    q = torch.randn(len(lengths), K * G, D, generator=chance)
    k, v = torch.randn(2, blocks, page, K, D, generator=chance)
    free = (torch.randperm(blocks - 1, generator=chance) + 1).tolist()
    k[0], v[0] = 9.0, math.nan
    tables = torch.full((len(lengths), width), blocks, dtype=torch.int32)
    for b, length in enumerate(lengths):
        for i in range(-(-length // page)):
            tables[b, i] = block = free.pop()
            k[block, length - i * page :], v[block, length - i * page :] = 9.0, math.nan
    return q, k, v, tables, torch.tensor(lengths, dtype=torch.int32), tile


@ex4.check("one row, a tile as long as a page", mistake="slot = tables[b, j // PAGE] · PAGE + j % PAGE")
def _(answer):
    agree(run(answer), reference, [case([4], 1, 1, 4, 4, 4, 0), case([8], 1, 1, 4, 4, 4, 1),
                                   case([12], 1, 1, 4, 4, 4, 10)], wrong=WRONG)


@ex4.check("tiles larger and smaller than a page", mistake="each lane looks up its own entry, j // PAGE")
def _(answer):
    agree(run(answer), reference, [case([8], 1, 1, 4, 2, 8, 2), case([8], 1, 1, 4, 8, 2, 3),
                                   case([12], 1, 1, 4, 3, 4, 4)], wrong=WRONG)


@ex4.check("groups of query heads", mistake="head h reads key-value head h // GROUP of K")
def _(answer):
    agree(run(answer), reference, [case([4], 2, 2, 4, 2, 4, 5), case([6], 3, 2, 4, 3, 2, 6)], wrong=WRONG)


@ex4.check("ragged rows", mistake="mask=inside for the entries and the keys; zeros and -inf where no key is")
def _(answer):
    agree(run(answer), reference, [case([3, 7], 1, 1, 4, 4, 4, 7), case([1, 5, 9], 2, 2, 4, 4, 8, 8),
                                   case([0, 13], 2, 1, 8, 4, 4, 9)], wrong=WRONG)
