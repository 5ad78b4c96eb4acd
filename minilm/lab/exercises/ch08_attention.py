"""Exercises of chapter 08: attention that reads scattered blocks."""

import torch

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import Part
from minilm.lab.expect import Failed
from minilm.lab.values import is_tensor

# --- 08.2 -------------------------------------------------------------------------------------------------------------

ex2 = Exercise(
    "08.2",
    "Attention over scattered blocks",
    answer="paged_attention(q, keys, values, blocks, length)",
    task="(slots of tokens 0 to length - 1 by the block table, what q reads from their keys and values [H, D])",
    hints=(
        "Token 9, blocks of 4 tokens: in which entry of the block table is its block, and which place has it there? "
        "Which number has that slot, counted over all blocks of the pool?",
        "Token i is in block blocks[i // size], place i % size, so in slot blocks[i // size] · size + i % size. "
        "keys.flatten(0, 1) has one row a slot: pick the slots, in the order of the tokens; then attend as ever.",
        "k = keys.flatten(0, 1)[slots].repeat_interleave(H // K, dim=1), v alike; scores = torch.einsum('hd,shd->hs', "
        "q, k) / D**0.5; y = torch.einsum('hs,shd->hd', scores.softmax(-1), v).",
    ),
)
NAMES_2 = ("slots", "y")


def paged_attention(q, keys, values, blocks, length):
    """The reference: (list of ints, tensor [H, D])"""
    slots = _slots(blocks, length, keys.shape[1])
    return slots, _read(q, keys, values, slots)


def _slots(blocks, length, size):
    return [blocks[i // size] * size + i % size for i in range(length)]


def _read(q, keys, values, slots, *, scale=lambda D: D**-0.5, heads=lambda x, G: x.repeat_interleave(G, dim=1),
          dim=-1):
    (H, D), K = q.shape, keys.shape[2]
    k, v = (heads(kept.flatten(0, 1)[slots], H // K) for kept in (keys, values))
    scores = torch.einsum("hd,shd->hs", q, k) * scale(D)
    return torch.einsum("hs,shd->hd", scores.softmax(dim), v)


def _slots_but(function):
    """The slots, made by a function of the table's entries."""
    return lambda q, keys, values, blocks, length: function(blocks, length, keys.shape[1])


WRONG_SLOTS = {
    "the block table says where a token's block is; yours counts on from the first block, as if they lay side by side":
        _slots_but(lambda blocks, n, size: [blocks[0] * size + i for i in range(n)]),
    "the block table is not asked: token i need not be in slot i": _slots_but(lambda blocks, n, size: list(range(n))),
    "the table's order is the text's; yours is the order in memory": _slots_but(
        lambda blocks, n, size: _slots(sorted(blocks), n, size)),
    "a block is `size` slots long: block · size + place": _slots_but(
        lambda blocks, n, size: [blocks[i // size] + i % size for i in range(n)]),
    "i // size is the entry of the table and i % size the place in the block; yours are the other way round":
        _slots_but(lambda blocks, n, size: [blocks[i % size % len(blocks)] * size + i // size for i in range(n)]),
    "only `length` tokens are there; what else stands in the last block, and in blocks kept as room, is somebody's "
    "rest": _slots_but(lambda blocks, n, size: _slots(blocks, len(blocks) * size, size)),
    "only `length` tokens are there; your last block is read to its end": _slots_but(
        lambda blocks, n, size: _slots(blocks, -(-n // size) * size, size)),
    "the last block is partly filled: its tokens are missing": _slots_but(
        lambda blocks, n, size: _slots(blocks, n // size * size, size)),
    "the last token is missing: the newest one reads itself, too": _slots_but(
        lambda blocks, n, size: _slots(blocks, n - 1, size)),
    "tokens count from 0, in their block, too": _slots_but(
        lambda blocks, n, size: [blocks[i // size] * size + i % size + 1 for i in range(n)]),
    "you give the blocks; a slot is one token's place: block · size + place": _slots_but(
        lambda blocks, n, size: [blocks[i // size] for i in range(n)]),
}


def _y_but(slots=_slots, **change):
    def wrong(q, keys, values, blocks, length):
        return _read(q, keys, values, slots(blocks, length, keys.shape[1]), **change)

    return wrong


WRONG_Y = {
    "scores are divided by √D": _y_but(scale=lambda D: 1.0),
    "scores are divided by √D, not by D": _y_but(scale=lambda D: 1.0 / D),
    "query heads h = 0 .. H/K - 1 read key-value head 0, the next ones head 1: h // (H / K); yours is h % K": _y_but(
        heads=lambda x, G: x.repeat(1, G, 1)),
    "all query heads read key-value head 0": _y_but(heads=lambda x, G: x[:, :1].repeat(1, G * x.shape[1], 1)),
    "the weights of one head sum to 1 over the *tokens*; yours over the heads": _y_but(dim=0),
    "the last block's rest is read, too: keys and values that are not this text's": _y_but(
        slots=lambda blocks, n, size: _slots(blocks, -(-n // size) * size, size)),
    "the text's own slots are not the ones you read: the blocks as they lie in memory": _y_but(
        slots=lambda blocks, n, size: _slots(sorted(blocks), n, size)),
    "the values are read, too; yours are the keys": lambda q, keys, values, blocks, n: _y_but()(q, keys, keys, blocks,
                                                                                               n),
    "sum over the tokens' values, weighted; yours forgets the weights": lambda q, keys, values, blocks, n: _y_but(
        scale=lambda D: 0.0)(q, keys, values, blocks, n),
}


def _case_2(num_blocks, size, K, G, D, blocks, length, seed):
    """Every slot of the pool holds somebody's numbers."""
    chance = torch.Generator().manual_seed(seed)
    q = torch.randn(K * G, D, generator=chance, dtype=torch.float64)
    keys, values = (torch.randn(num_blocks, size, K, D, generator=chance, dtype=torch.float64) for _ in range(2))
    return 2 * q, keys, values, blocks, length


CASES_2 = [
    _case_2(2, 2, 1, 1, 2, [1], 1, 0), _case_2(2, 2, 1, 1, 2, [1], 2, 1), _case_2(3, 2, 1, 1, 2, [2, 0], 3, 2),
    _case_2(3, 2, 1, 2, 2, [2, 1], 4, 3), _case_2(4, 1, 1, 1, 2, [3, 1, 2], 3, 4),
    _case_2(5, 3, 2, 2, 4, [4, 0, 3], 7, 5), _case_2(6, 4, 2, 3, 4, [3, 5, 0], 9, 6),
    _case_2(6, 4, 2, 2, 4, [2, 5, 1, 0], 8, 7), _case_2(9, 4, 3, 2, 2, [7, 2, 8, 4], 14, 8),
]


def _listed(answer):
    """The slots as a list; a tensor of them is as good."""
    class Slots(Part):
        def __call__(self, *case):
            got = super().__call__(*case)
            return got.tolist() if is_tensor(got) and not got.is_floating_point() else got

    return Slots(answer, NAMES_2, 0)


@ex2.check("the slot mapping", mistake="block · size + place, for each token in turn")
def _(answer):
    agree(_listed(answer), lambda *case: paged_attention(*case)[0], CASES_2, wrong=WRONG_SLOTS)


@ex2.check("what the query reads", mistake="softmax over the tokens' scores, then the sum of their values")
def _(answer):
    agree(Part(answer, NAMES_2, 1), lambda *case: paged_attention(*case)[1], CASES_2, wrong=WRONG_Y)


@ex2.check("float32 stays float32", mistake="the answer has the dtype of q")
def _(answer):
    q, keys, values, blocks, length = CASES_2[5]
    case = (q.float(), keys.float(), values.float(), blocks, length)
    agree(Part(answer, NAMES_2, 1), lambda *case: paged_attention(*case)[1], [case], tol=1e-4)


@ex2.check("nobody else's numbers", mistake="a slot that is not this text's is read: not even with weight 0")
def _(answer):
    q, keys, values, blocks, length = _case_2(4, 2, 1, 1, 2, [2, 0], 3, 9)
    own = torch.zeros(8, dtype=torch.bool)
    own[_slots(blocks, length, 2)] = True
    for kept in (keys, values):
        kept.flatten(0, 1)[~own] = float("nan")
    if Part(answer, NAMES_2, 1)(q, keys, values, blocks, length).isnan().any():
        raise Failed("the slots past the text's end hold what was there before, here NaN: leave them out")
