"""Steps on paged memory are the model's own, by kernels of either kind (interpreted here); float32, small shapes."""
import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from mutants import big_steps as mutants

from minilm.bench import big_steps
from minilm.bench.big_steps import SHAPES, Extras, Pool, Step, random_gpt
from minilm.cache import KVCache
from minilm.kernels import reference

SHAPE = {"head_size": 32, "num_heads": 4, "num_kv_heads": 2, "width": 32, "max_positions": 64, "num_layers": 2}


def check_step(batch: int, width: int, way: str, layers: int) -> None:
    """Logits and choices are those of a dense cache with the same keys and values."""
    whole = tiny_model(**SHAPE)
    pool, context = Pool(whole, 96), 21
    model = big_steps.cut(whole, layers) if layers < 2 else whole
    assert len(model.layers) == model.config.num_layers == layers and model.layers[0] is whole.layers[0]
    step = Step(model, pool, batch, width, context, way)
    places = torch.arange(context)
    for text in range(batch):
        dense = KVCache(model.config, capacity=40)
        where = step.tables[text, places // 16].long() * 16 + places % 16
        for layer in range(layers):
            for kept, put in ((pool.keys, 0), (pool.values, 1)):
                dense._all[put, layer, 0, :, :context] = kept[layer].flatten(0, 1)[where].transpose(0, 1)
        dense.length = context
        want = model(step.ids.view(batch, width)[text : text + 1], dense)[0]
        got = step.logits().view(batch, width, -1)[text]
        assert (got - want).abs().max() < 1e-4
        assert step.tokens().view(batch, width)[text].tolist() == want.argmax(-1).tolist()


@pytest.fixture
def quick(monkeypatch):
    """The attention kernel has tests of its own, and takes minutes in the interpreter."""
    monkeypatch.setattr(big_steps, "paged_attention", lambda *args, debug: reference.paged_attention(*args))


@pytest.mark.parametrize(("batch", "width", "layers"), [(3, 1, 2), (2, 4, 2), (2, 4, 1)])
def test_step_of_many_rows(batch, width, layers, quick):
    """Guards a step that reads the wrong blocks, or times other work than it says."""
    check_step(batch, width, "many rows", layers)


def test_step_by_kernels():
    """Guards kernels that are given other positions, slots or lengths than the others."""
    check_step(2, 2, "kernels", 1)


@pytest.mark.parametrize("mutant", mutants.BIG_STEPS, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch, quick):
    """Guards a check that a wrong version passes."""
    mutant.apply(monkeypatch)
    with pytest.raises((AssertionError, RuntimeError, IndexError)):
        check_step(2, 4, "many rows", 1)


def test_texts_do_not_share_blocks():
    """Guards tables that let one text write over another's keys."""
    model = tiny_model(**SHAPE)
    step = Step(model, Pool(model, 96), 3, 1, 20)
    assert len(set(step.tables.flatten().tolist())) == step.tables.numel()
    assert_clear_error(lambda: Step(model, Pool(model, 96), 4, 1, 20), ValueError, "4 texts of 21 tokens need 8 blocks")


def test_extras():
    """Guards a check or a fill of other matrices than those that are needed."""
    model = tiny_model(**SHAPE)
    extras = Extras(model, 3, 1)
    assert extras.check().tolist() == model.head(extras.x).argmax(-1).tolist()
    filled = extras.fill()
    k, v = model.layers[1].attention.keys_values(extras.x[:, None], model.rotary(torch.zeros(1).long(), torch.float32))
    assert len(filled) == 1 and torch.allclose(filled[0], torch.cat((k.flatten(1), v.flatten(1)), -1), atol=1e-5)


def test_random_weights_and_shapes():
    """Guards a shape of another size than its name says; tied weights must stay one."""
    model = random_gpt(tiny_model(**SHAPE).config, "cpu", torch.float32)
    assert model.vocabulary.weight is model.embedding.weight and model(torch.tensor([[1, 2]])).std() > 0.1
    sizes = {name: big_steps_parameters(config) for name, config in SHAPES.items()}
    assert 7.9e9 < sizes["8B"] < 8.1e9 and 1.2e9 < sizes["1B"] < 1.25e9
    for big, small in big_steps.DRAFTS.items():
        assert 1 / 9 < sizes[small] / sizes[big] < 1 / 6


def big_steps_parameters(config) -> int:
    from minilm.bench.cost import head_weights, layer_weights
    return layer_weights(config) + head_weights(config) * (1 if config.tie_embeddings else 2)
