"""A layer in five launches: the model's own states, over chains and trees, wherever its tiles end."""
import random

import pytest
import torch
from core_helpers import one_thread, tiny_model  # noqa: F401
from kernel_helpers import DEVICE

from minilm.captured import Captured
from minilm.decoding import autoregressive, lookahead
from minilm.kernels.few_tokens import FewTokens

SHAPE = {"seed": 1, "width": 64, "num_heads": 4, "num_kv_heads": 2, "head_size": 32, "mlp_width": 96, "num_layers": 2,
         "max_positions": 256, "tie_embeddings": False}
ODD = {"width": 40, "num_heads": 3, "num_kv_heads": 1, "mlp_width": 72, "num_layers": 1}      # no tile is full
SIZES = {"even": ({}, (15, 1, -4, 2)), "odd": (ODD, (21, 1, -67, 1, -3))}     # of passes; below 0, a tree's


def passes(sizes: tuple[int, ...]) -> list[tuple[list[int], list[int] | None]]:
    """(tokens, parents) of passes that fill a tile of 16 rows, of 64 slots, a word of 64 bits, or not."""
    chance = random.Random(0)
    return [([chance.randrange(97) for _ in range(abs(size))],
             [chance.randrange(-1, token) for token in range(-size)] or None) for size in sizes]


@pytest.mark.parametrize("name", SIZES)
def test_same_states(name):
    """Beside float64: as near as float32 comes. What is held is not looked at: the next pass does."""
    changes, sizes = SIZES[name]
    model = tiny_model(**SHAPE | changes).to(DEVICE)
    judge = tiny_model(**SHAPE | changes, dtype=torch.float64).to(DEVICE)
    ours = Captured(model, capacity=120, spare=80, kernels=True)
    caches = ours.new_cache(spare=80), judge.new_cache(120, 80)
    with torch.inference_mode():
        for tokens, parents in passes(sizes):
            if parents is not None:
                for cache in caches:
                    cache.branch(parents)
            got, want = ours.read(tokens, caches[0]), judge.read(tokens, caches[1])
            assert ((got - want).norm(dim=-1) / want.norm(dim=-1)).max() < 1e-5, len(tokens)


def test_slots_nobody_sees_change_nothing():
    """Even NaN: a slot past the text is not read."""
    ours = Captured(tiny_model(**SHAPE | ODD).to(DEVICE), capacity=120, spare=80, kernels=True)
    states = []
    for poison in (0.0, float("nan")):
        cache = ours.new_cache(spare=80)
        ours.memory.fill_(poison)
        states.append(ours.read([1, 2, 3], cache))
        ours.memory[..., 3:, :] = poison
        cache.branch([-1, 0, 0])
        states[-1] = torch.cat((states[-1], ours.read([4, 5, 6], cache)))
    assert torch.equal(*states)


@pytest.mark.gpu
def test_decodes():
    """Greedy in float32, near ties aside, of which these texts have none: float64's tokens."""
    ours = Captured(tiny_model(**SHAPE).to(DEVICE), capacity=100, spare=80, kernels=True)
    want = autoregressive(tiny_model(**SHAPE, dtype=torch.float64), [5, 17, 80], 48).tokens
    assert autoregressive(ours, [5, 17, 80], 48).tokens == want
    assert lookahead(ours, [5, 17, 80], 48, window=5, ngram=4, guesses=5).tokens == want


@pytest.mark.parametrize("change", [{"head_size": 8}, {"head_size": 96}, {"qkv_bias": True}, {"qk_norm": True},
                                    {"dtype": torch.float64}])
def test_refused(change):
    """Shapes that the kernels don't know go by the model's own operations, and by kernels only if asked to: refused."""
    model = tiny_model(**SHAPE | change).to(DEVICE)
    assert not FewTokens.fits(model)
    assert not Captured(model).kernels
    with pytest.raises(ValueError, match="cannot run this model here"):
        Captured(model, kernels=True)
