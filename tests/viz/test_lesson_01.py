"""Pictures of lesson 01 show what the model computes: their numbers are tested, not their looks."""
import dataclasses
import math

import pytest
import torch

from minilm.model import GPT, GPTConfig
from minilm.viz import attention, blocks, lens, parameters, rotary

CONFIG = GPTConfig(vocab_size=11, num_layers=3, width=12, num_heads=4, num_kv_heads=2, head_size=6, mlp_width=20,
                   max_positions=32)
IDS = [1, 2, 3, 4, 1, 2, 5, 6]


class Letters:
    """A tokenizer whose token i is the i-th letter."""

    def decode(self, ids):
        return "".join(chr(ord("a") + i) for i in ids)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = GPT(CONFIG).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def test_recording_changes_no_logit(model):
    """Guards a picture that shows other weights than the model uses."""
    ids = torch.tensor([IDS])
    with torch.no_grad():
        assert torch.allclose(model(ids, attention.Recording(32)), model(ids), atol=1e-10)
    weights = attention.record(model, IDS)
    assert weights.shape == (3, 4, 8, 8)
    assert torch.allclose(weights.sum(-1), torch.ones(3, 4, 8, dtype=torch.float64))
    assert weights.triu(1).abs().max() == 0


def test_places_know_where_attention_goes():
    """Guards an induction head that is measured one column off."""
    tokens = list("abcdabxy")
    weights = torch.zeros(8, 8)
    for t in range(8):
        weights[t, {4: 1, 5: 2}.get(t, t)] = 1              # the second a reads the first b, the second b the first c
    found = attention.places(weights, tokens)
    assert found["after its copy"] == 1 and found["the first token"] == 0 and found["the one before"] == 0
    assert attention.places(torch.eye(8).roll(-1, 1), tokens)["the one before"] == 1
    stack = torch.stack([torch.eye(8), weights])[:, None]   # 2 layers of 1 head
    assert attention.strongest(tokens, stack, "after its copy") == (2, 1)


def test_attention_pictures_draw(model):
    tokens, weights = list("abcdabxy"), attention.record(model, IDS)
    assert attention.view(tokens, weights, 3, 4).count("<rect") == 8 * 9 // 2
    assert attention.chart(tokens, weights, [(1, 1), (3, 4)]).png() and attention.overview(tokens, weights).png()
    assert "× 3 layers" in blocks.diagram(CONFIG)


def test_rotary_score_depends_on_distance_alone(model):
    frequencies = model.rotary.frequencies().tolist()
    assert rotary.score(frequencies, 5, 5) == 1
    assert math.isclose(rotary.score(frequencies, 20, 12), rotary.score(frequencies, 28, 20))
    assert "distance <b>8</b>" in rotary.view(frequencies, 20, 12, shown=3)


@pytest.mark.parametrize("change", [{}, {"tie_embeddings": False}, {"qkv_bias": True}, {"qk_norm": True},
                                    {"num_kv_heads": 4}])
def test_parameter_count_is_the_models(change):
    config = dataclasses.replace(CONFIG, **change)
    assert sum(parameters.count(config).values()) == GPT(config).num_parameters()


def test_flops_are_what_pytorch_counts(model):
    """Guards the formula against keys counted with H heads, a forgotten head matrix, or half of attention."""
    from torch.utils.flop_counter import FlopCounterMode

    T = 20                                                   # more rows than minilm.linear treats as few
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.ones(1, T, dtype=torch.long), attention.Recording(32))
    assert counter.get_total_flops() == T * sum(parameters.flops(CONFIG, T).values())


def test_every_piece_of_the_bars_is_named():
    """Guards narrow pieces, such as an untied vocabulary matrix, left without a word."""
    llama = GPTConfig(vocab_size=128_256, num_layers=32, width=4096, num_heads=32, num_kv_heads=8, head_size=128,
                      mlp_width=14_336, tie_embeddings=False)
    (ax,) = parameters.chart({"8B": llama}).figure.axes
    words = [text.get_text().replace("\n", " ") for text in ax.texts]
    assert words == ["embedding 525M", "attention 1.34B", "MLP 5.64B", "vocabulary 525M", "8.03B"]


def test_short_numbers():
    assert [parameters.short(n) for n in (12, 1234, 13_902_080, 8.03e9)] == ["12", "1.23k", "13.9M", "8.03B"]


def test_lens_ends_with_the_models_own_answer(model):
    reading = lens.read(model, Letters(), IDS)
    with torch.no_grad():
        want = model(torch.tensor([IDS]))[0].argmax(-1)
    assert torch.equal(reading.ids[-1], want) and bool(reading.agrees[-1].all())
    assert reading.ids.shape == (3, 8) and not bool(reading.agrees.all())


def test_lens_frames_fill_layer_by_layer(model):
    frames = lens.frames(lens.read(model, Letters(), IDS))
    assert [frame.count("title=") for frame in frames] == [0, 8, 16, 24]


def test_lens_chart_labels_stay_apart():
    """Guards two curves whose names are written over each other."""
    early, late = [0.5, 0.8, 0.8, 0.8, 0.8, 0.9, 0.9, 1.0], [0.0, 0.1, 0.1, 0.1, 0.2, 0.2, 0.3, 1.0]
    names = [lens._room(curve, [other]) for curve, other in ((early, late), (late, early))]
    heights = [y + (0.11 if above else -0.11) for _, y, above in names]
    assert heights[0] - heights[1] > 0.3 and all(0.05 < height < 0.95 for height in heights)
    assert lens.chart({"a": early, "b": late}).png()
