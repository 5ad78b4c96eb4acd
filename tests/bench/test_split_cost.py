"""The cost model of cutting: its formulas by hand, and the shape of what it says."""
import pytest

from minilm.bench.split_cost import (
    H100,
    LLAMA_8B,
    LLAMA_70B,
    PCIE,
    Machine,
    all_gather_seconds,
    all_reduce_seconds,
    decode_step,
    fastest,
    held,
    plans,
)

ROUND = Machine(read=1e12, rate=1e30, link=1e9, latency=1.0, memory=80e9)


def test_all_reduce_by_hand():
    """2(n − 1)/n of the bytes, after the latency; one rank is alone."""
    assert all_reduce_seconds(1, 1e9, ROUND) == 0
    assert all_reduce_seconds(2, 1e9, ROUND) == pytest.approx(1 + 1)
    assert all_reduce_seconds(4, 1e9, ROUND) == pytest.approx(1 + 1.5)


def test_all_gather_by_hand():
    """(n − 1)/n of all bytes, after the latency: a rank gets what it has not; one rank is alone."""
    assert all_gather_seconds(1, 1e9, ROUND) == 0
    assert all_gather_seconds(2, 1e9, ROUND) == pytest.approx(1 + 0.5)
    assert all_gather_seconds(4, 1e9, ROUND) == pytest.approx(1 + 0.75)


def test_a_step_by_hand():
    """8B: 15.009 GB of weights without the embedding, 131,072 bytes a token; 64 all-reduces of 8,192 bytes a text, and
    an all-gather of its 128,256 logits."""
    step = decode_step(LLAMA_8B, 3, 1000, 2, ROUND)
    assert step.weights == pytest.approx(15_009_316_864 / 2 / 1e12)
    assert step.kv == pytest.approx(3 * 1000 * 131_072 / 2 / 1e12)
    assert step.exchange == pytest.approx(64 * (1 + 3 * 8192 / 1e9) + 1 + 0.5 * 3 * 128_256 * 2 / 1e9)
    assert decode_step(LLAMA_8B, 3, 1000, 1, ROUND).exchange == 0
    assert step.seconds == step.weights + step.kv + step.exchange


def test_many_texts_are_bound_by_multiplying():
    slow = Machine(read=1e12, rate=1e12, link=1e9, latency=0.0, memory=1e15)
    assert decode_step(LLAMA_8B, 64, 1, 1, slow).weights == pytest.approx(2 * 64 * 15_009_316_864 / 2 / 1e12, rel=0.01)


def test_memory_and_plans():
    assert held(LLAMA_70B, 0, 0, 1) > 80e9 > held(LLAMA_70B, 0, 0, 2)
    assert [plan.fits for plan in plans(LLAMA_70B, 4, 1, 1000, H100)] == [False, True, True]
    assert [(plan.ranks, plan.replicas) for plan in plans(LLAMA_8B, 12, 1, 1000, H100)] == [(1, 12), (2, 6), (4, 3)]
    assert fastest(plans(LLAMA_70B, 1, 1, 1000, H100)) is None


def test_few_texts_are_cut_and_many_copied():
    """On a slow link from fewer texts on."""
    ranks = {name: [fastest(plans(LLAMA_8B, 8, texts, 512, machine)).ranks for texts in (1, 64, 4096)]
             for name, machine in {"NVLink": H100, "PCIe": PCIE}.items()}
    assert ranks["NVLink"][0] == ranks["PCIe"][0] == 8 and ranks["NVLink"][1] == 8
    assert ranks["PCIe"][1] < 8 and ranks["PCIe"][2] == 1
