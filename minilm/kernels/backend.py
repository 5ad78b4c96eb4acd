"""Which way a call is computed, and whether its tensors may be: the one place that decides it, for every kernel.

    triton        CUDA tensors, where Triton is installed: the kernel, compiled
    interpreter   CPU tensors, when TRITON_INTERPRET=1 was set before Triton was first imported: the same kernel, run
                  line by line in Python. Some 4 ms per program and tile: to learn and to test, not to be fast
    reference     anything else: plain PyTorch, `kernels.reference`

Kernels take `tl` and `triton` from here, so that their files also import where there is no Triton (macOS, Windows).
"""
from __future__ import annotations

import os
from types import SimpleNamespace

import numpy
import torch
from torch import Tensor


def _as_it_is(function=None, **options):
    """In the place of triton.jit, with or without options: the function, never to be called."""
    return function or (lambda function: function)


try:
    import triton
    import triton.language as tl
    from triton.tools.tensor_descriptor import TensorDescriptor
except ImportError:
    TensorDescriptor = None
    triton = SimpleNamespace(jit=_as_it_is, __version__="")
    tl = SimpleNamespace(constexpr=lambda value: value)

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def _interpreted() -> bool:
    """True when kernels defined now run under the interpreter, and Triton's own functions, defined first, do too."""
    if not triton.__version__:
        return False
    return not any(isinstance(function, triton.JITFunction) for function in (triton.jit(_probe), tl.sum))


def _probe():
    pass


INTERPRETED = _interpreted()


def backend(tensor: Tensor) -> str:
    """How a kernel called with this tensor is computed: "triton", "interpreter" or "reference". `why` says more."""
    if triton.__version__ and tensor.is_cuda and not INTERPRETED:
        return "triton"
    if INTERPRETED and tensor.device.type == "cpu":
        return "interpreter"
    return "reference"


def why(tensor: Tensor) -> str:
    """One sentence for a reader: how a kernel called with this tensor is computed, and what would change it."""
    chosen = backend(tensor)
    if chosen == "triton":
        return f"Triton {triton.__version__} compiles the kernel for this GPU."
    if chosen == "interpreter":
        return f"Triton {triton.__version__} runs the kernel line by line on the CPU: TRITON_INTERPRET=1 is set."
    if not triton.__version__:
        return "Plain PyTorch computes it: there is no Triton for this system."
    if tensor.is_cuda:
        return "Plain PyTorch computes it: TRITON_INTERPRET=1 keeps Triton off the GPU. Unset it to use the kernels."
    if os.environ.get("TRITON_INTERPRET") == "1":
        return ("Plain PyTorch computes it: TRITON_INTERPRET=1 came too late, Triton was already imported. "
                "Set it before Python starts.")
    return "Plain PyTorch computes it: a CPU tensor, and TRITON_INTERPRET=1 was not set before Python started."


def launches(tensor: Tensor) -> bool:
    """True when a kernel is to be launched, False when the reference is. Raises where Triton would be wrong.

    The interpreter keeps bfloat16 as whole numbers of 16 bits and computes with those, silently (Triton issue 4972).
    And that of Triton 3.6 ends in a far-fetched TypeError under NumPy 2.4 or newer (Triton issue 9171).
    """
    chosen = backend(tensor)
    if chosen == "interpreter":
        if tensor.dtype == torch.bfloat16:
            raise TypeError("Triton's interpreter gets bfloat16 wrong, without a word: use float32 or float16 there")
        if too_new(triton.__version__, numpy.__version__):
            raise RuntimeError(f"the interpreter of Triton {triton.__version__} fails with NumPy {numpy.__version__}: "
                               "install numpy<2.4, or Triton 3.7 or newer")
    return chosen != "reference"


def too_new(triton_version: str, numpy_version: str) -> bool:
    """True for a NumPy that Triton's interpreter of that version cannot work with."""
    number = [[int(part) for part in version.split(".")[:2]] for version in (triton_version, numpy_version)]
    return number[0] <= [3, 6] and number[1] >= [2, 4]


# --- what every kernel asks of its input; each function raises one clear error, or does nothing ---

def check_tensors(**tensors: Tensor) -> None:
    """All are tensors with some numbers in them, on one device and of one dtype that the kernels know."""
    (first_name, first), *_ = tensors.items()
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, not {type(tensor).__name__}")
        if tensor.dtype not in DTYPES:
            raise TypeError(f"{name} is {_plain(tensor.dtype)}; the kernels know float32, float16 and bfloat16 "
                            "(for float64, call the function of the same name in kernels.reference)")
        if tensor.dtype != first.dtype:
            raise TypeError(f"{first_name} is {_plain(first.dtype)}, {name} is {_plain(tensor.dtype)}: give one dtype")
        check_device(first_name, first, name, tensor)
        if tensor.dim() == 0:
            raise ValueError(f"{name} must have at least one axis; it is a single number")
        if tensor.numel() == 0:
            raise ValueError(f"{name} is empty, of shape {list(tensor.shape)}: every axis must be at least 1 long")


def check_device(first_name: str, first: Tensor, name: str, tensor: Tensor) -> None:
    """Both lie on one device."""
    if tensor.device != first.device:
        raise ValueError(f"{first_name} is on {first.device}, {name} on {tensor.device}: move them to one device")


def check_shape(name: str, tensor: Tensor, axes: str, **sizes: int) -> None:
    """The tensor has the axes named, "B K S D", and the sizes given for some of them, as in K=8."""
    names = axes.split()
    want = ", ".join(f"{axis}={sizes[axis]}" if axis in sizes else axis for axis in names)
    fits = tensor.dim() == len(names) and all(tensor.shape[names.index(axis)] == size for axis, size in sizes.items())
    if not fits:
        raise ValueError(f"{name} must have shape [{want}]; it has {list(tensor.shape)}")


def check_heads(num_heads: int, num_kv_heads: int, head_size: int) -> None:
    """Whole groups of query heads, and a head size that tiles can hold."""
    if num_heads % num_kv_heads:
        raise ValueError(f"{num_heads} query heads cannot share {num_kv_heads} key-value heads evenly: "
                         "H must be a multiple of K")
    if head_size % 16 or not 16 <= head_size <= 256:
        raise ValueError(f"head size {head_size} is not supported: only multiples of 16 from 16 to 256")


def check_lengths(lengths: Tensor, batch: int, least: int, most: int, beside: Tensor) -> None:
    """lengths[B] are whole numbers, one a row; their range is looked at on the CPU only (a GPU would have to wait)."""
    if not isinstance(lengths, Tensor) or lengths.dtype not in (torch.int32, torch.int64):
        got = _plain(lengths.dtype) if isinstance(lengths, Tensor) else type(lengths).__name__
        raise TypeError(f"lengths must be a tensor of int32 or int64, not {got}")
    check_shape("lengths", lengths, "B", B=batch)
    check_device("q", beside, "lengths", lengths)
    if lengths.device.type == "cpu" and not (least <= int(lengths.min()) and int(lengths.max()) <= most):
        raise ValueError(f"lengths must be from {least} to {most}; they are {lengths.tolist()}")


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
