"""Early exit for classification: the policies on internal classifiers against slow references, and bad input."""
import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401

from minilm.decoding.calm import SoftmaxResponse
from minilm.decoding.classify import Classified, InternalClassifiers, classify
from minilm.decoding.early_exit import Entropy, Patience, entropy

LABELS = ("a", "b", "c")
PROMPTS = [[5], [1, 2, 3, 4], [60, 61, 62], [96, 0, 96, 7, 7], [11, 12], [33, 34, 35, 36, 37, 38]]


@pytest.fixture(scope="module")
def model():
    return tiny_model(dtype=torch.float64, num_layers=6)


@pytest.fixture(scope="module")
def classifiers():
    generator = torch.Generator().manual_seed(1)
    return InternalClassifiers(LABELS, torch.randn(6, 3, 24, generator=generator, dtype=torch.float64),
                               torch.randn(6, 3, generator=generator, dtype=torch.float64))


def all_logits(model, classifiers, ids):
    """[L, K], by running the whole model and norming by hand."""
    states = torch.stack([x[0, -1] for x in model.layer_outputs(torch.tensor([ids]))])
    normed = states / (states.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return (classifiers.weight @ normed[..., None])[..., 0] + classifiers.bias


def test_a_policy_that_never_leaves_gives_the_last_head(model, classifiers):
    """Guards the wrong layer's head at the end, the wrong token's state, and scores that are no longer all there."""
    for ids in PROMPTS:
        logits = all_logits(model, classifiers, ids)
        found = classify(model, classifiers, ids, Entropy(0.0))
        assert (found.label, found.layers) == (LABELS[logits[-1].argmax()], 6)
        torch.testing.assert_close(torch.tensor(found.scores, dtype=torch.float64), entropy(logits[:-1]))


@pytest.mark.parametrize("exits", [None, (2, 4), (5,)], ids=str)
def test_entropy_leaves_where_a_slow_reference_does(model, classifiers, exits):
    """Guards exits off by one, and a label taken from another layer than the one it left at."""
    left = set()
    for ids in PROMPTS:
        logits = all_logits(model, classifiers, ids)
        for threshold in (0.2, 0.5, 0.8, 1.0):
            layer = next((layer for layer in exits or range(1, 6) if entropy(logits[layer - 1]) < threshold), 6)
            found = classify(model, classifiers, ids, Entropy(threshold), exits)
            assert (found.label, found.layers) == (LABELS[logits[layer - 1].argmax()], layer)
            left.add(layer)
    assert len(left) > 1                                            # else the test could not tell


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_patience_counts_heads_that_agree_in_a_row(model, classifiers, patience):
    """Guards a count that outlives its input, and one that starts at the first head."""
    policy = Patience(patience)
    for ids in PROMPTS:
        named = all_logits(model, classifiers, ids).argmax(-1).tolist()
        layer = next((n for n in range(patience + 1, 6) if len(set(named[n - patience - 1 : n])) == 1), 6)
        found = classify(model, classifiers, ids, policy)
        assert (found.label, found.layers) == (LABELS[named[layer - 1]], layer)


def test_the_boldest_policy_leaves_at_the_first_exit(model, classifiers):
    assert classify(model, classifiers, [1, 2], SoftmaxResponse(0.0), exits=(3, 5)).layers == 3


def test_skipped_layers_do_not_run(model, classifiers):
    """Guards an early exit that computes everything all the same."""
    ran = []
    hooks = [block.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(model.layers)]
    classify(model, classifiers, [1, 2], SoftmaxResponse(0.0), exits=(2,))
    for hook in hooks:
        hook.remove()
    assert ran == [0, 1]


def test_saved_and_loaded_they_are_the_same(model, classifiers, tmp_path):
    """Guards classes that come back under another's name, and the bias taken for a weight."""
    shuffled = InternalClassifiers(("b", "c", "a"), classifiers.weight, classifiers.bias)
    shuffled.save(tmp_path / "heads.safetensors", model)
    back = InternalClassifiers.load(model, tmp_path / "heads.safetensors")
    assert back.labels == ("a", "b", "c")
    order = [shuffled.labels.index(label) for label in back.labels]
    torch.testing.assert_close(back.weight, classifiers.weight[:, order], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(back.bias, classifiers.bias[:, order], atol=2e-3, rtol=1e-3)


def test_bad_input(model, classifiers, tmp_path):
    policy = Entropy(0.1)
    assert_clear_error(lambda: classify(model, classifiers, [], policy), ValueError, "at least one token")
    assert_clear_error(lambda: classify(model, classifiers, [1], policy, exits=(6,)), ValueError, "no exit 6")
    assert_clear_error(lambda: classify(model, classifiers, [1], policy, exits=()), ValueError, "one or more")
    assert_clear_error(lambda: classify(model, classifiers, [97], policy), ValueError, "outside the vocabulary")
    assert_clear_error(lambda: classify(tiny_model(dtype=torch.float64), classifiers, [1], policy), ValueError,
                       "trained for this model")
    assert_clear_error(lambda: classify(model, "request", [1], policy), TypeError, "InternalClassifiers")
    assert_clear_error(lambda: classify(model, classifiers, "text", policy), TypeError, "token")
    assert_clear_error(lambda: classify(model, classifiers, [0.5], policy), TypeError, "token")
    classifiers.save(tmp_path / "heads.safetensors", model)
    other = tiny_model(seed=1, dtype=torch.float64, num_layers=6)
    assert_clear_error(lambda: InternalClassifiers.load(other, tmp_path / "heads.safetensors"), ValueError,
                       "trained on another model")
    assert isinstance(classify(model, classifiers, [1], policy), Classified)
