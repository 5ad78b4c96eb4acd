"""The few-rows product is F.linear by another road: same values, same shapes, same gradients."""
import pytest
import torch
import torch.nn.functional as F
from core_helpers import assert_clear_error, one_thread  # noqa: F401

from minilm.linear import FEW_ROWS, Linear, few_rows


def tolerance(dtype: torch.dtype) -> dict:
    return {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 1e-13}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("rows", [*range(1, FEW_ROWS + 2), 40])
def test_equals_the_plain_product(rows, bias, dtype):
    """Guards every number of rows on both sides of the switch, where one is padded to two and 17 take another road."""
    layer = Linear(33, 21, bias=bias).to(dtype)
    x = torch.randn(rows, 33, dtype=dtype)
    want = F.linear(x, layer.weight, layer.bias)
    for got in (layer(x), few_rows(x, layer.weight, layer.bias)):
        assert got.shape == want.shape and got.dtype == dtype
        torch.testing.assert_close(got, want, **tolerance(dtype))


@pytest.mark.parametrize("shape", [(8,), (1, 8), (1, 1, 8), (3, 5, 8), (2, 1, 4, 8), (1, 17, 8)], ids=str)
def test_any_leading_shape(shape):
    """Guards a result whose rows are mixed up or whose leading axes are lost; non-contiguous inputs too."""
    layer = Linear(8, 6)
    x = torch.randn(shape)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), **tolerance(torch.float32))
    odd = torch.randn(*shape[:-1], 16)[..., ::2]
    torch.testing.assert_close(layer(odd), F.linear(odd, layer.weight, layer.bias), **tolerance(torch.float32))


@pytest.mark.parametrize("rows", [1, 2, 16, 17])
def test_gradients_flow(rows):
    """Guards a padded row that leaks into the gradient, or a product cut off from it."""
    layer = Linear(7, 5).double()
    x = torch.randn(rows, 7, dtype=torch.float64, requires_grad=True)
    parameters = (x, layer.weight, layer.bias)
    probe = torch.randn(rows, 5, dtype=torch.float64)
    ours = torch.autograd.grad((layer(x) * probe).sum(), parameters)
    theirs = torch.autograd.grad((F.linear(x, layer.weight, layer.bias) * probe).sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **tolerance(torch.float64))


def test_input_is_left_alone():
    """Guards a product that writes into its input when it pads one row to two."""
    x, weight = torch.randn(1, 4), torch.randn(3, 4)
    before = x.clone()
    few_rows(x, weight)
    assert torch.equal(x, before)


def test_wrong_width_is_an_error():
    """Guards a reshape that quietly reads rows of another width."""
    assert_clear_error(lambda: Linear(4, 3)(torch.randn(2, 6)), RuntimeError, "")
