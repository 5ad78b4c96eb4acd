"""The affine lens as early exit uses it."""
import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401

from minilm import heads
from minilm.decoding.calm import ExitHead, SoftmaxResponse
from minilm.decoding.early_exit import early_exit
from minilm.decoding.lens import Lens, normalised


@pytest.fixture(scope="module")
def model():
    return tiny_model(dtype=torch.float64, num_layers=4)


@pytest.fixture(scope="module")
def lens():
    generator = torch.Generator().manual_seed(1)
    return Lens({layer: (torch.randn(24, 24, generator=generator, dtype=torch.float64),
                         torch.randn(24, generator=generator, dtype=torch.float64)) for layer in (3, 1)})


def test_it_maps_the_normalised_state(lens):
    """Guards a map applied to the raw state, transposed, or without its bias; many positions at once are the same."""
    x = 7 * torch.randn(5, 24, dtype=torch.float64)
    weight, bias = lens.maps[3]
    for one, out in zip(x, lens(3, x), strict=True):
        torch.testing.assert_close(out, weight @ (one / (one.square().mean() + 1e-6).sqrt()) + bias)
    assert lens.exits == (1, 3)


def test_early_exit_reads_through_it(model, lens):
    """Guards a lens that is loaded and then not used: a map that always gives one state makes it say one token."""
    state = torch.randn(24, dtype=torch.float64)
    constant = Lens({2: (torch.zeros(24, 24, dtype=torch.float64), state)})
    out = early_exit(model, [1, 2, 3], 6, SoftmaxResponse(0.0), exits=(2,), lens=constant)
    assert out.tokens[1:] == [int(model.head(state).argmax())] * 5
    identity = Lens({2: (torch.eye(24, dtype=torch.float64), torch.zeros(24, dtype=torch.float64))})
    plain, through = (early_exit(model, [1, 2, 3], 6, SoftmaxResponse(0.0), exits=(2,), lens=which).tokens
                      for which in (None, identity))
    assert plain == through                                         # the head norms anyway


def test_saved_and_loaded(model, lens, tmp_path):
    lens.save(tmp_path / "lens.safetensors", model)
    back = Lens.load(model, tmp_path / "lens.safetensors")
    assert back.exits == lens.exits
    for layer in lens.exits:
        (weight, bias), (kept, kept_bias) = lens.maps[layer], back.maps[layer]
        assert kept.dtype == kept_bias.dtype == torch.float64
        torch.testing.assert_close(heads.as_kept(weight).double(), kept, atol=1e-6, rtol=1e-6)     # 8 bits a number
        assert (weight - kept).abs().max() <= weight.abs().max() / 250
        torch.testing.assert_close(bias, kept_bias, atol=2e-3, rtol=1e-3)                           # float16


def test_bad_input(model, lens, tmp_path):
    assert_clear_error(lambda: lens(2, torch.ones(24, dtype=torch.float64)), ValueError, "no map for layer 2", "(1, 3)")
    lens.save(tmp_path / "lens.safetensors", model)
    assert_clear_error(lambda: Lens.load(tiny_model(seed=1, num_layers=4), tmp_path / "lens.safetensors"), ValueError,
                       "trained on another model")
    ExitHead(torch.ones(24), torch.zeros(())).save(tmp_path / "head.safetensors", model)
    assert_clear_error(lambda: Lens.load(model, tmp_path / "head.safetensors"), ValueError, "holds no lens")
    assert_clear_error(lambda: Lens.load(model, "no-such-lens"), FileNotFoundError, "no-such-lens")


def test_normalised_has_unit_mean_square():
    assert normalised(3 * torch.randn(4, 24)).square().mean(-1).allclose(torch.ones(4), atol=1e-4)
