"""minilm: a small language-model package that grows, chapter by chapter, into a fast inference engine.

    import minilm
    model, tokenizer = minilm.load("minilm-14m")
    answer = minilm.decoding.autoregressive(model, tokenizer.chat("Tell me a story."), 100)
    print(tokenizer.decode(answer.tokens))

Importing `minilm` is cheap: PyTorch is loaded when the first name that needs it is used.
"""
from __future__ import annotations  # so that an old Python gets as far as the set-up's line that it is too old

import importlib

__version__ = "0.1.0"

_HOMES = {
    "load": "minilm.checkpoint",
    "GPT": "minilm.model",
    "GPTConfig": "minilm.model",
    "KVCache": "minilm.cache",
    "Sampling": "minilm.sampling",
    "Tokenizer": "minilm.tokenizer",
    "Generation": "minilm.generation",
}
_MODULES = ("model", "cache", "sampling", "tokenizer", "checkpoint", "generation", "decoding", "serving",
            "kernels", "viz", "lab", "bench")

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"minilm.{name}")
    raise AttributeError(f"module 'minilm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
