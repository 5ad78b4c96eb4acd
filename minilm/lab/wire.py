"""What passes between the grader and the process that runs a learner's code.

Towards the learner: pickles, for they come from us. Back from the learner: only plain values, read by a decoder that
builds numbers, text, containers, tensors and opaque handles and can't be talked into running anything.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import struct
import sys
import types
from collections.abc import Callable
from typing import Any

LIMIT = 256 << 20  # bytes of one message
_DEPTH = 60
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
OUR_EXERCISES = "minilm.lab.exercises"


class WireError(Exception):
    """A message that breaks the rules, or the end of the pipe."""


class Unsendable(TypeError):
    """A value that has no plain form."""


def write_frame(fd: int, data: bytes) -> None:
    """Length, then bytes."""
    view = memoryview(struct.pack("<Q", len(data)) + data)
    while view:
        view = view[os.write(fd, view[: 1 << 20]) :]


def read_frame(fd: int) -> bytes:
    """The next message; WireError at the end of the pipe or when it is larger than LIMIT."""
    (length,) = struct.unpack("<Q", _read_exactly(fd, 8))
    if length > LIMIT:
        raise WireError("the answer is too large to grade")
    return _read_exactly(fd, length)


def _read_exactly(fd: int, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        piece = os.read(fd, min(count - len(parts), 1 << 20))
        if not piece:
            raise WireError("the process ended")
        parts += piece
    return bytes(parts)


# ---- plain values: from the learner's process ----


def encode(message: Any, handle: Callable[[Any], list] | None = None) -> bytes:
    """JSON with the bytes of tensors after it. handle(value) makes ["handle", n, ...] of what has no plain form."""
    buffers: list[bytes] = []
    tree = _tree(message, buffers, handle, 0)
    head = json.dumps({"tree": tree, "sizes": [len(data) for data in buffers]}).encode()
    return struct.pack("<Q", len(head)) + head + b"".join(buffers)


def _tree(value: Any, buffers: list[bytes], handle: Callable | None, depth: int) -> Any:
    if depth > _DEPTH:
        raise Unsendable("nested too deeply")
    if value is None or isinstance(value, bool):
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    again = lambda item: _tree(item, buffers, handle, depth + 1)  # noqa: E731
    if isinstance(value, (list, tuple)):
        return ["list" if isinstance(value, list) else "tuple", *map(again, value)]
    if isinstance(value, (set, frozenset)):
        return ["set", *map(again, value)]
    if isinstance(value, dict):
        return ["dict", *([again(key), again(item)] for key, item in value.items())]
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Tensor) and str(value.dtype)[6:] in DTYPES:
        return _buffer("tensor", str(value.dtype)[6:], value.shape, tensor_bytes(value), buffers)
    if torch is not None and isinstance(value, torch.dtype):
        return ["dtype", str(value)[6:]]
    if numpy is not None and isinstance(value, numpy.generic):
        return again(value.item())
    if numpy is not None and isinstance(value, numpy.ndarray) and value.dtype.name in DTYPES:
        return _buffer("array", value.dtype.name, value.shape, numpy.ascontiguousarray(value).tobytes(), buffers)
    if handle is None:
        raise Unsendable(type(value).__name__)
    return handle(value)


def _buffer(kind: str, dtype: str, shape: Any, data: bytes, buffers: list[bytes]) -> list:
    buffers.append(data)
    return [kind, dtype, [int(n) for n in shape], len(buffers) - 1]


def tensor_bytes(tensor: Any) -> bytes:
    """The elements in row-major order."""
    import torch

    flat = tensor.detach().cpu().contiguous().resolve_conj().resolve_neg().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def decode(data: bytes, handle: Callable[[int, str, bool], Any]) -> Any:
    """The message; WireError on anything that encode would not have made."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        head = json.loads(data[8 : 8 + length])
        buffers, at = [], 8 + length
        for count in head["sizes"]:
            if not isinstance(count, int) or count < 0:
                raise WireError("a malformed answer")
            buffers.append(data[at : at + count])
            at += count
        return _value(head["tree"], buffers, handle)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError, struct.error) as error:
        raise WireError("a malformed answer") from error


def _value(tree: Any, buffers: list[bytes], handle: Callable) -> Any:
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    tag, *rest = tree
    if tag == "list":
        return [_value(item, buffers, handle) for item in rest]
    if tag == "tuple":
        return tuple(_value(item, buffers, handle) for item in rest)
    if tag == "set":
        return {_value(item, buffers, handle) for item in rest}
    if tag == "dict":
        return {_value(key, buffers, handle): _value(item, buffers, handle) for key, item in rest}
    if tag in ("tensor", "array"):
        return _tensor(tag, *rest, buffers=buffers)
    if tag == "dtype" and rest[0] in DTYPES:
        import torch

        return getattr(torch, rest[0])
    if tag == "handle":
        number, name, is_callable = rest
        return handle(int(number), str(name)[:60], bool(is_callable))
    raise WireError("a malformed answer")


def _tensor(kind: str, dtype: str, shape: list, index: int, *, buffers: list[bytes]) -> Any:
    import numpy
    import torch

    if dtype not in DTYPES or len(shape) > 16 or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise WireError("a malformed answer")
    kind_of = getattr(torch, dtype)
    size = torch.empty(0, dtype=kind_of).element_size()
    if not isinstance(index, int) or index < 0 or math.prod(shape) * size != len(buffers[index]):
        raise WireError("a malformed answer")
    if kind == "array":
        return (numpy.frombuffer(buffers[index], dtype="uint8" if dtype == "bool" else dtype) != 0 if dtype == "bool"
                else numpy.frombuffer(buffers[index], dtype=dtype)).reshape(shape).copy()
    if 0 in shape:
        return torch.empty(shape, dtype=kind_of)
    raw = torch.frombuffer(bytearray(buffers[index]), dtype=torch.uint8)
    return (raw != 0 if dtype == "bool" else raw.view(kind_of)).reshape(shape)


# ---- pickles: towards the learner's process ----


class Sender(pickle.Pickler):
    """Pickles arguments. Functions and objects of the exercises stay with us; the learner gets a number to call."""

    def __init__(self, file: io.BytesIO, keep: Callable[[Any], int], handle_of: Callable[[Any], int | None]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.keep = keep
        self.handle_of = handle_of

    def persistent_id(self, value: Any) -> tuple | None:
        number = self.handle_of(value)
        if number is not None:
            return ("theirs", number)
        if isinstance(value, type) or isinstance(value, types.ModuleType):
            return None
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Generator):
            return ("generator", value.get_state())
        if isinstance(value, (types.FunctionType, types.MethodType)) and not _importable(value):
            return ("ours", self.keep(value))
        if type(value).__module__.startswith(OUR_EXERCISES):
            return ("ours", self.keep(value))
        return None


def _importable(function: Any) -> bool:
    """Whether the learner's process can get this function by importing it, and may."""
    module, name = getattr(function, "__module__", None) or "", getattr(function, "__qualname__", "<lambda>")
    bound = isinstance(function, types.MethodType)
    return not bound and "<" not in name and not module.startswith((OUR_EXERCISES, "__main__"))


def pack(message: Any, keep: Callable[[Any], int], handle_of: Callable[[Any], int | None]) -> bytes:
    """Pickle a message for the learner's process."""
    out = io.BytesIO()
    Sender(out, keep, handle_of).dump(message)
    return out.getvalue()


class Receiver(pickle.Unpickler):
    """The other end of Sender, in the learner's process. resolve(kind, value) gives what stands for a reference."""

    def __init__(self, data: bytes, resolve: Callable[[str, Any], Any]) -> None:
        super().__init__(io.BytesIO(data))
        self.resolve = resolve

    def persistent_load(self, pid: tuple) -> Any:
        return self.resolve(*pid)
