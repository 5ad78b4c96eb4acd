"""Wrong answers to 08.2: the slot mapping, and attention over scattered blocks."""

import torch

from mutants import Mutant


def mapping(blocks, length, size):
    return [blocks[i // size] * size + i % size for i in range(length)]


def read(q, keys, values, slots, scale=None, tile=False, dim=-1):
    """[H, D], the slots of a text -> [H, D]"""
    H, D = q.shape
    k, v = keys.flatten(0, 1)[slots], values.flatten(0, 1)[slots]
    G = H // k.shape[1]
    k, v = (x.repeat(1, G, 1) if tile else x.repeat_interleave(G, 1) for x in (k, v))
    scores = torch.einsum("hd,shd->hs", q, k) * (D**-0.5 if scale is None else scale)
    return torch.einsum("hs,shd->hd", scores.softmax(dim), v)


def by(slots_of):
    """An answer with other slots, in the mapping and in the reading."""
    def paged_attention(q, keys, values, blocks, length):
        slots = slots_of(blocks, length, keys.shape[1])
        return slots, read(q, keys, values, [slot % (len(keys) * keys.shape[1]) for slot in slots])
    return paged_attention


def reads(**change):
    """An answer that maps rightly and reads otherwise."""
    return lambda q, keys, values, blocks, length: (
        mapping(blocks, length, keys.shape[1]), read(q, keys, values, mapping(blocks, length, keys.shape[1]), **change))


def divided_by_d(q, keys, values, blocks, length):
    slots = mapping(blocks, length, keys.shape[1])
    return slots, read(q, keys, values, slots, 1 / q.shape[1])


def whole_last_block(q, keys, values, blocks, length):
    """Gathers whole blocks, and forgets to cut."""
    size = keys.shape[1]
    used = blocks[: -(-length // size)]
    K, D = keys.shape[2:]
    k, v = (kept[used].reshape(-1, K, D).repeat_interleave(len(q) // K, 1) for kept in (keys, values))
    weights = (torch.einsum("hd,shd->hs", q, k) / D**0.5).softmax(-1)
    return mapping(blocks, length, size), torch.einsum("hs,shd->hd", weights, v)


def masked_by_weight(q, keys, values, blocks, length):
    """Gathers whole blocks and hides the rest behind a mask: 0 times NaN is NaN."""
    size = keys.shape[1]
    used = blocks[: -(-length // size)]
    K, D = keys.shape[2:]
    k, v = (kept[used].reshape(-1, K, D).repeat_interleave(len(q) // K, 1) for kept in (keys, values))
    scores = torch.einsum("hd,shd->hs", q, k) / D**0.5
    scores[:, length:] = -torch.inf
    return mapping(blocks, length, size), torch.einsum("hs,shd->hd", scores.softmax(-1), v)


def keys_for_values(q, keys, values, blocks, length):
    slots = mapping(blocks, length, keys.shape[1])
    return slots, read(q, keys, keys, slots)


def first_head(q, keys, values, blocks, length):
    slots = mapping(blocks, length, keys.shape[1])
    return slots, read(q, keys[:, :, :1], values[:, :, :1], slots)


def in_float64(q, keys, values, blocks, length):
    slots = mapping(blocks, length, keys.shape[1])
    return slots, read(q.double(), keys.double(), values.double(), slots)


def slots_alone(q, keys, values, blocks, length):
    return mapping(blocks, length, keys.shape[1])


MUTANTS = {
    "08.2": [
        Mutant("side by side", by(lambda blocks, n, size: [blocks[0] * size + i for i in range(n)]),
               "as if they lay side by side"),
        Mutant("no table", by(lambda blocks, n, size: list(range(n))), "the block table is not asked"),
        Mutant("in memory's order", by(lambda blocks, n, size: mapping(sorted(blocks), n, size)),
               "yours is the order in memory"),
        Mutant("block + place", by(lambda blocks, n, size: [blocks[i // size] + i % size for i in range(n)]),
               "a block is `size` slots long"),
        Mutant("quotient and rest swapped",
               by(lambda blocks, n, size: [blocks[i % size % len(blocks)] * size + i // size for i in range(n)]),
               "the other way round"),
        Mutant("all room", by(lambda blocks, n, size: [b * size + i for b in blocks for i in range(size)]),
               "only `length` tokens are there"),
        Mutant("full blocks alone", by(lambda blocks, n, size: mapping(blocks, n - n % size, size)),
               "its tokens are missing"),
        Mutant("without the last", by(lambda blocks, n, size: mapping(blocks, n - 1, size)),
               "the last token is missing"),
        Mutant("places from 1", by(lambda blocks, n, size: [blocks[i // size] * size + i % size + 1 for i in range(n)]),
               "tokens count from 0"),
        Mutant("blocks for slots", by(lambda blocks, n, size: [blocks[i // size] for i in range(n)]),
               "a slot is one token's place"),
        Mutant("unscaled", reads(scale=1.0), "scores are divided by √D"),
        Mutant("divided by D", divided_by_d, "by √D, not by D"),
        Mutant("heads tiled", reads(tile=True), "yours is h % K"),
        Mutant("the first head", first_head, "all query heads read key-value head 0"),
        Mutant("softmax over heads", reads(dim=0), "yours over the heads"),
        Mutant("the last block's rest", whole_last_block, "the last block's rest is read"),
        Mutant("hidden by weight", masked_by_weight, "here NaN: leave them out"),
        Mutant("keys twice", keys_for_values, "the values are read, too"),
        Mutant("a plain mean", reads(scale=0.0), "yours forgets the weights"),
        Mutant("float64", in_float64, "has dtype float64"),
        Mutant("slots alone", slots_alone, "return 2 things"),
    ],
}
