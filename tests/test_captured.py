"""Captured passes: padded and over fixed memory, they must be the model's own, whatever is decoded with them.

Without a GPU the same passes run unrecorded, so all that can go wrong but the recording itself is tested here.
"""
import functools
import random

import pytest
import torch
from core_helpers import one_thread, tiny_model  # noqa: F401

from minilm import captured
from minilm.cache import KVCache
from minilm.captured import WIDEST, Captured, size_for, width_for
from minilm.decoding import autoregressive, early_exit, jacobi, lookahead, speculative
from minilm.decoding.calm import SoftmaxResponse
from minilm.decoding.proposers import AheadHeads, Blockwise, DraftModel, PromptLookup, SelfSpeculative
from minilm.sampling import Sampling

SHAPE = {"seed": 5, "dtype": torch.float64, "max_positions": 192, "tie_embeddings": False}
MODEL, SMALL = tiny_model(num_layers=4, **SHAPE), tiny_model(num_layers=3, **SHAPE)
SMALL.load_state_dict({name: MODEL.state_dict()[name] for name in SMALL.state_dict()})
NEW, BUSHY = 48, [(0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0)]
PROMPTS = [[5, 17, 80], [1], [9, 9, 2, 44] * 6, [3, 50, 96, 7, 7, 12, 80], [60, 2] * 45]
generator = torch.Generator().manual_seed(3)
d = MODEL.config.width
HEADS = AheadHeads(*(0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
                     for shape in ((3, 8, 2 * d), (3, 8), (3, d, 8))))


@functools.cache
def plain(prompt: tuple[int, ...]) -> list[int]:
    return autoregressive(MODEL, list(prompt), NEW).tokens


@functools.cache
def model() -> Captured:
    """One for all tests, so that every text but the first finds another's leavings in its memory."""
    return Captured(MODEL)


DECODERS = {
    "autoregressive": lambda m, p, **o: autoregressive(m, p, NEW, **o),
    "jacobi": lambda m, p, **o: jacobi(m, p, NEW, **o),
    "lookahead": lambda m, p, **o: lookahead(m, p, NEW, window=5, ngram=4, guesses=5, **o),
    "wide lookahead": lambda m, p, **o: lookahead(m, p, NEW, window=15, ngram=6, guesses=9, **o),
    "draft model": lambda m, p, **o: speculative(m, p, NEW, DraftModel(Captured(SMALL), 5), **o),
    "prompt lookup": lambda m, p, **o: speculative(m, p, NEW, PromptLookup(4), **o),
    "self-speculation": lambda m, p, **o: speculative(m, p, NEW, SelfSpeculative(2, 3), **o),
    "blockwise tree": lambda m, p, **o: speculative(m, p, NEW, Blockwise(HEADS, BUSHY), **o),
    "early exit that never leaves": lambda m, p, **o: early_exit(m, p, NEW, SoftmaxResponse(1.0), **o),
}


@pytest.mark.parametrize("name", DECODERS)
def test_same_tokens(name):
    """Greedy: the plain model's tokens, over prompts that need one to three sizes of attention each."""
    for prompt in PROMPTS:
        assert DECODERS[name](model(), prompt).tokens == plain(tuple(prompt)), prompt


@pytest.mark.parametrize("name", ["autoregressive", "lookahead", "draft model", "blockwise tree"])
def test_same_draws(name):
    """Sampled: with the same seed, the same tokens as the same decoder draws on the plain model."""
    for prompt in PROMPTS[:2]:
        runs = [DECODERS[name](m, prompt, sampling=Sampling(0.8, top_p=0.9),
                               generator=torch.Generator().manual_seed(7)).tokens for m in (MODEL, model())]
        assert runs[0] == runs[1]


def walk(cache, read, steps: int, seed: int) -> list[torch.Tensor]:
    """Chains, trees, keeps and truncations at random, the same for the same seed; every pass's states."""
    chance, states, ids = random.Random(seed), [], lambda count: [chance.randrange(97) for _ in range(count)]
    for _ in range(steps):
        held, count = cache.length, chance.choice([1, 1, 2, 3, 5, 8, 13, 33, 70])
        if held + count > 150:
            cache.truncate(chance.randrange(held // 2))
            continue
        if chance.random() < 0.5:
            cache.branch([chance.randrange(-1, token) for token in range(count)])
            states.append(read(ids(count), cache))
            cache.keep(held, sorted(chance.sample(range(count), chance.randrange(count + 1))))
        else:
            states.append(read(ids(count), cache))
            cache.truncate(held + chance.randrange(count + 1))
    return states


@pytest.mark.parametrize("seed", range(4))
def test_any_walk(seed):
    """States, and the keys and values kept, after any order of chains, trees, keeps and truncations.

    What is kept of a tree need be no path: then numbers stand at positions that they were not made for, in both alike.
    """
    ours, right = model().new_cache(spare=80), KVCache(MODEL.config, spare=80, dtype=torch.float64)
    for got, want in zip(walk(ours, model().read, 40, seed), walk(right, MODEL.read, 40, seed), strict=True):
        assert got.shape == want.shape and (got - want).abs().max() < 1e-10
    assert ours.length == right.length and ours.num_bytes == right.num_bytes
    for layer in range(MODEL.config.num_layers):
        assert (ours.keys(layer) - right.keys(layer)).abs().max() < 1e-10
        assert (ours.values(layer) - right.values(layer)).abs().max() < 1e-10


def test_plain_and_captured_passes_take_turns():
    """A plain pass over the same cache, as self-speculation makes them, goes on where a captured one stopped."""
    ours, right = model().new_cache(spare=80), KVCache(MODEL.config, spare=80, dtype=torch.float64)
    turns = iter([model().read, MODEL.read] * 40)
    states = walk(ours, lambda ids, cache: next(turns)(ids, cache), 40, 1)
    for got, want in zip(states, walk(right, MODEL.read, 40, 1), strict=True):
        assert (got - want).abs().max() < 1e-10


@pytest.mark.parametrize("poison", [1e6, -1e6])
def test_slots_nobody_sees_change_nothing(poison):
    """What stands in slots past the text, such as rejected branches and padding, moves no bit of the result."""
    ours = Captured(MODEL)

    def states():
        cache = ours.new_cache(spare=80)
        out = [ours.read([1, 2, 3], cache)]
        for tree in (None, [-1, 0, 0, 1, 2], None, [-1]):
            if tree is not None:
                cache.branch(tree)
            ours.memory[..., cache.length :, :] = poison * torch.randn_like(ours.memory[..., cache.length :, :])
            out.append(ours.read([7, 8, 9, 10, 11][: len(tree or [1] * 3)], cache))
        return torch.cat(out)

    poisoned, poison = states(), 0.0
    assert torch.equal(poisoned, states())


@pytest.mark.parametrize("name", ["lookahead", "blockwise tree", "draft model"])
def test_memory_holds_numbers(name):
    """A padded row that saw nothing would be NaN, and 0 · NaN is NaN for whoever attends to its slot with weight 0."""
    ours = Captured(MODEL)
    assert not ours.memory.any()
    DECODERS[name](ours, PROMPTS[0])
    assert ours.memory.isfinite().all()


def test_a_tree_before_any_text():
    """Padding must see itself: with nothing held it has nothing else, and a softmax of nothing is NaN."""
    ours, right = Captured(MODEL), KVCache(MODEL.config, spare=80, dtype=torch.float64)
    cache = ours.new_cache(spare=80)
    for one in (cache, right):
        one.branch([-1, -1, 0, 0, 1])
    assert (ours.read([4, 5, 6, 7, 8], cache) - MODEL.read([4, 5, 6, 7, 8], right)).abs().max() < 1e-10
    assert ours.memory.isfinite().all()
    (one,) = ours.passes.values()
    sees = one._tree_sees(torch.tensor([0]), one.inputs[2 * one.width + 2 :].view(one.width, -1))
    assert one.width == 6 and sees[:, :6].diagonal().all() and sees.sum(1).tolist() == [1, 1, 2, 2, 2, 1]


def test_passes_are_padded_and_used_again():
    """Guards a pass for every length: then recording would cost more than it saves."""
    ours = Captured(MODEL)
    for prompt in PROMPTS:
        autoregressive(ours, prompt, NEW)
    assert set(ours.passes) == {(1, 128, False), (1, 192, False), (3, 128, False), (24, 128, False), (8, 128, False),
                                (96, 128, False)}
    before = dict(ours.passes)
    autoregressive(ours, PROMPTS[0], NEW)
    assert ours.passes == before


def test_a_long_prompt_is_read_in_parts(monkeypatch):
    monkeypatch.setattr(captured, "WIDEST", 16)
    ours = Captured(MODEL, spare=16)
    assert autoregressive(ours, PROMPTS[-1], NEW).tokens == plain(tuple(PROMPTS[-1]))
    assert {width for width, _, _ in ours.passes} == {1, 12, 16}


def test_states_outlive_the_next_pass():
    """Guards a view of a graph's memory: a proposer may still look at it when the next pass has written over it."""
    ours = Captured(MODEL)
    cache = ours.new_cache()
    first = ours.read([1, 2, 3], cache)
    kept = first.clone()
    ours.read([4, 5, 6], cache)
    assert torch.equal(first, kept)


def test_stands_in_for_the_model():
    """By the model's names, its parts; called with ids and a cache of any make, its answers."""
    ours, ids = model(), torch.tensor([[3, 1, 4, 1, 5]])
    assert ours.config is MODEL.config and ours.dtype is torch.float64 and ours.layers is MODEL.layers
    assert torch.equal(ours(ids), MODEL(ids))
    want = MODEL(ids, KVCache(MODEL.config, dtype=torch.float64))
    assert torch.equal(ours(ids, KVCache(MODEL.config, dtype=torch.float64)), want)
    assert (ours(ids, ours.new_cache()) - want).abs().max() < 1e-10
    with pytest.raises(AttributeError, match="no_such_part"):
        _ = ours.no_such_part


def test_sizes():
    """Padding never passes half of what is padded, and a size is its own size."""
    assert [size_for(n) for n in (1, 2, 3, 5, 7, 9, 13, 17, 49, 65, 97)] == [1, 2, 3, 6, 8, 12, 16, 24, 64, 96, 128]
    assert all(n <= size_for(n) <= 1.5 * n and size_for(size_for(n)) == size_for(n) for n in range(1, 3000))
    assert [width_for(n) for n in (5, 64, 65, 97, 129, 160, WIDEST)] == [6, 64, 80, 112, 144, 160, WIDEST]
    assert all(n <= width_for(n) <= min(1.5 * n, WIDEST) for n in range(1, WIDEST + 1))


def test_refused():
    ours = Captured(MODEL, capacity=60, spare=10)
    with pytest.raises(ValueError, match="room for 60 tokens and 10 of trees; asked for were 61 and 0"):
        ours.new_cache(61)
    with pytest.raises(ValueError, match="capture it with more"):
        ours.new_cache(10, spare=11)
    old, new = ours.new_cache(6), ours.new_cache(6)
    with pytest.raises(RuntimeError, match=r"one text at a time.*finish one text"):
        ours.read([1], old)
    with pytest.raises(ValueError, match="do not fit into 6 positions"):
        ours.read([1] * 7, new)
    with pytest.raises(ValueError, match="the prompt is empty"):
        ours.read([], new)
    with pytest.raises(ValueError, match=r"one text at a time, ids\[1, T\]"):
        ours(torch.ones(2, 3, dtype=torch.int64), new)
    new.branch([-1, 1])
    with pytest.raises(ValueError, match="must continue an earlier one"):
        ours.read([1, 2], new)
    small = ours.new_cache(6, spare=10)
    small.branch(list(range(-1, 6)))
    with pytest.raises(ValueError, match="0 tokens held and 7 new ones do not fit into 6 positions"):
        ours.read([1] * 7, small)
    with pytest.raises(ValueError, match="a tree has at most 256 tokens; spare is 257"):
        Captured(MODEL, spare=257)
    with pytest.raises(ValueError, match="captured on a CUDA device; this model is on cpu"):
        Captured(MODEL, capture=True)


@pytest.mark.gpu
def test_recorded_passes():
    """On a GPU: what graphs give is what the same passes give unrecorded, and greedy tokens are the plain model's."""
    on_gpu = tiny_model(num_layers=4, **SHAPE).cuda()
    graphs, direct = Captured(on_gpu), Captured(on_gpu, capture=False)
    for seed in range(3):
        pair = [walk(m.new_cache(spare=80), m.read, 40, seed) for m in (graphs, direct)]
        assert all((a - b).abs().max() < 1e-10 for a, b in zip(*pair, strict=True))
    assert all(one.graph is not None for one in graphs.passes.values())
    cache = graphs.new_cache()
    first = graphs.read([1, 2, 3], cache)
    kept = first.clone()
    graphs.read([4, 5, 6], cache)
    assert torch.equal(first, kept)                             # not a view of what the next replay writes over
    for prompt in PROMPTS:
        for name in ("autoregressive", "lookahead", "prompt lookup"):
            assert DECODERS[name](graphs, prompt).tokens == plain(tuple(prompt))
