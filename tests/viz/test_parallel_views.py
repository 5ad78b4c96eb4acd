"""Pictures of lesson 13: what they say of who owns what is what the package does."""
import pytest
import torch

from minilm.bench.split_cost import H100, LLAMA_8B, LLAMA_70B, PCIE
from minilm.model import GPTConfig
from minilm.serving.parallel import deal
from minilm.viz import parallel_flow, shards, split_charts

SMALL = GPTConfig(96, 2, 32, 4, 2, 8, 48)
SMOLLM2 = GPTConfig(49152, 30, 576, 9, 3, 64, 1536)


@pytest.mark.parametrize(("config", "ranks"), [(SMALL, 1), (SMALL, 2), (SMOLLM2, 3), (LLAMA_8B, 8)])
def test_owners_are_those_of_a_dealt_cut(config, ranks):
    """A block's letter is the rank whose run of dealt rows has it; and of a plain cut, the run of rows as they lie."""
    (qkv,) = [matrix for matrix in shards.matrices(config, ranks) if matrix.name == "qkv"]
    order = deal([config.num_heads, config.num_kv_heads, config.num_kv_heads], ranks)
    owner = torch.empty_like(order)
    owner[order] = torch.arange(len(order)) * ranks // len(order)
    assert qkv.owners(ranks, True) == owner.tolist()
    assert qkv.owners(ranks, False) == [i * ranks // len(order) for i in range(len(order))]


def test_a_plain_cut_and_a_misfit_are_said():
    assert "✓ every rank has keys and values" in shards.view(SMALL, 2)
    assert "✗ cut as the rows lie" in shards.view(SMALL, 2, dealt=False)
    assert "this model can be cut over 1 or 3" in shards.view(SMOLLM2, 2)
    assert "each holds 73.1 million of 134.5 million numbers" in shards.view(SMOLLM2, 3)


def test_a_layer_has_two_sums():
    stages = parallel_flow.stages(SMALL)
    assert [stage.kind for stage in stages].count("sum") == 2
    frames = parallel_flow.frames(SMALL)
    assert len(frames) == len(stages) == 11 and len(set(frames)) == 11
    assert all(stage.told in frame for stage, frame in zip(stages, frames, strict=True))


def test_charts_and_the_choice():
    machines = {"fast": H100, "slow": PCIE}
    assert repr(split_charts.step_chart(LLAMA_8B, machines)) == "<a step by 4 numbers of ranks on 2 machines>"
    chart = split_charts.gain_chart(LLAMA_8B, 8, machines, texts=(1, 256))
    assert [len(line.get_xdata()) for line in chart.figure.axes[0].lines] == [2, 2, 2, 2]      # a limit and three ways
    told = split_charts.choice({"8B": LLAMA_8B, "70B": LLAMA_70B}, 2, PCIE, 2048)
    assert "does not\nfit" in told and "1 × 2" in told and "2 × 1" in told
