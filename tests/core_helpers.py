"""Shared by the tests of the core: small random models, `transformers` as the judge, and what a clear error is."""
import dataclasses
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from minilm.model import GPT, GPTConfig

TINY = GPTConfig(vocab_size=97, num_layers=2, width=24, num_heads=6, num_kv_heads=2, head_size=8, mlp_width=40,
                 max_positions=32)
TEXTS = [
    "Once upon a time, a small fox lived at the edge of the wood.",
    "Numbers: 7, 42, 1999, 3.14159 and 12345678901234567890.",
    "def add(a, b):\n    return a + b  # tabs\t\tand   runs of   spaces\n\n\n",
    "Ünïcödé: naïve café, Ελληνικά, русский, 中文字符, 日本語, 한국어, العربية",
    "Emoji 👩‍👩‍👧 🇩🇪 and combining e\u0301, zero\u200bwidth, \u00a0nbsp",
    "", " ", "\n", "it's we'll I'd they've 'quoted' \"double\" <b>tag</b> {}[]()!?",
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny products gain nothing from a second thread, and lose tenfold to it where cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Weights that leave nothing to chance: norms away from 1, biases away from 0, logits of a few units."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
            if weight.dim() == 1:
                noise = 0.5 * noise if name.endswith("bias") else 1 + 0.3 * noise
            else:
                noise = 0.4 * noise if "embed" in name else noise / weight.shape[1] ** 0.5
            weight.copy_(noise)


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32, **changes) -> GPT:
    """A random model of two layers; changes are GPTConfig's fields."""
    model = GPT(dataclasses.replace(TINY, **changes))
    randomise(model, seed)
    return model.to(dtype).eval().requires_grad_(False)


def random_ids(vocab_size: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def error_of(call: Callable) -> BaseException | None:
    """What `call` raises, or None. Warnings on the way count as nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except Exception as error:
            return error
    return None


def assert_clear_error(call: Callable, kind: type[Exception], *says: str) -> None:
    """`call` raises exactly `kind`; its message holds every string of `says`, is short; no inner traceback."""
    error = error_of(call)
    assert type(error) is kind, f"expected {kind.__name__}, got {error!r}"
    for words in says:
        assert words in str(error), f"{words!r} is not said in: {error}"
    assert len(str(error)) < 700, f"a message of {len(str(error))} characters"
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__), "an inner traceback"
