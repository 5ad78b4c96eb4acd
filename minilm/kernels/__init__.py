"""How attention, softmax and RMSNorm are computed: Triton kernels, each beside a plain PyTorch reference.

One name for each, whatever the machine: Triton on CUDA tensors, Triton's interpreter on the CPU where
TRITON_INTERPRET=1 was set in time, the plain PyTorch of `kernels.reference` elsewhere. `kernels.backend(tensor)` says
which one it is.
Kernels know tensors only. Importing this package loads neither PyTorch nor Triton; the first name used does.
"""
from __future__ import annotations

import importlib
import sys
import types

_HOMES = {
    "backend": "minilm.kernels.backend",
    "softmax": "minilm.kernels.softmax",
    "rms_norm": "minilm.kernels.rms_norm",
    "flash_attention": "minilm.kernels.flash_attention",
    "flash_decoding": "minilm.kernels.flash_decoding",
    "paged_attention": "minilm.kernels.paged_attention",
    "packed_attention": "minilm.kernels.packed_attention",
    "merge": "minilm.kernels.splits",
}

__all__ = [*_HOMES, "reference"]


class _Package(types.ModuleType):
    """Functions here have their modules' names. `kernels.softmax` is the function, whichever was imported first."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOMES and isinstance(value, types.ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "reference":
        return importlib.import_module("minilm.kernels.reference")
    raise AttributeError(f"module 'minilm.kernels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
