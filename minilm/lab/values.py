"""Comparing, copying and showing the values that go into and come out of a learner's function."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

Array = Any  # a torch tensor or a NumPy array


def is_tensor(value: Any) -> bool:
    """Whether value is a torch tensor (without importing torch)."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: Any) -> bool:
    """Whether value is a NumPy array (without importing NumPy)."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def copied(value: Any) -> Any:
    """A copy of tensors, arrays and containers of them; other objects (models, caches) are passed as they are."""
    if is_tensor(value):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if is_array(value):
        return value.copy()
    if type(value) in (list, set):
        return type(value)(copied(item) for item in value)
    if isinstance(value, tuple):
        items = [copied(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    return value


def size(value: Any) -> int:
    """How big an input looks to a reader: elements, characters, or the value of a number."""
    if is_tensor(value):
        return value.numel()
    if is_array(value):
        return value.size
    if isinstance(value, (list, tuple, set)):
        return 1 + sum(size(item) for item in value)
    if isinstance(value, dict):
        return 1 + sum(size(item) for item in value.values())
    return len(value) if isinstance(value, str) else 1


def difference(got: Any, want: Any, tol: float = 1e-5, dtype: bool = True) -> str | None:
    """None when got equals want, else a line that says how it differs; "" when only the numbers do.

    Tensors must match in shape, dtype (unless dtype=False) and value, within tol absolute plus tol relative. Lists and
    tuples stand for each other; a number may come as a tensor of one element; True is not 1.
    """
    if is_tensor(want) or is_array(want):
        return _array_difference(got, want, tol, dtype)
    if isinstance(want, (list, tuple)):
        return _sequence_difference(got, want, tol, dtype)
    if isinstance(want, dict):
        return _dict_difference(got, want, tol, dtype)
    if isinstance(want, (bool, int, float)):
        return _number_difference(got, want, tol)
    if got is None and want is not None:
        return _none()
    if type(got) is not type(want) and not isinstance(got, type(want)):
        return f"your function returns {kind(got)}; it should return {kind(want)}"
    try:
        return None if bool(got == want) else ""
    except Exception:
        return ""


def _none() -> str:
    return "your function returns None; is a `return` missing?"


def _array_difference(got: Any, want: Array, tol: float, dtype: bool) -> str | None:
    if got is None:
        return _none()
    if is_tensor(want) != is_tensor(got) or is_array(want) != is_array(got):
        return f"your function returns {kind(got)}; it should return {kind(want)}"
    if tuple(got.shape) != tuple(want.shape):
        return f"your answer has shape {shape(got)}; it should be {shape(want)}"
    if dtype and got.dtype != want.dtype:
        return f"your answer has dtype {_dtype(got)}; it should be {_dtype(want)}"
    got, want = _plain(got), _plain(want)
    if want.dtype == bool or got.dtype == bool:                 # NumPy does not subtract booleans
        return None if bool((got == want).all()) else ""
    new_nan = (got != got) & (want == want)
    if bool(new_nan.any()):
        return f"your answer holds NaN ({int(new_nan.sum())} of {want.size})"
    with _quiet():
        near = (abs(got - want) <= tol + tol * abs(want)) & (abs(want) < math.inf)          # inf is near to nothing
        equal = (got == want) | near | ((got != got) & (want != want))
    return None if bool(equal.all()) else ""


def _sequence_difference(got: Any, want: list | tuple, tol: float, dtype: bool) -> str | None:
    if got is None:
        return _none()
    if not isinstance(got, (list, tuple)):
        return f"your function returns {kind(got)}; it should return {kind(want)}"
    if len(got) != len(want):
        return f"your answer has {_items(len(got))}; it should have {len(want)}" if _is_record(want) else ""
    for index, (left, right) in enumerate(zip(got, want, strict=True)):
        reason = difference(left, right, tol, dtype)
        if reason is not None:
            return f"item {index}: {reason}" if reason else ""
    return None


def _is_record(value: Any) -> bool:
    """A tuple is a record, its length part of its type; a list's length is a value like any other."""
    return isinstance(value, tuple)


def _items(count: int) -> str:
    return f"{count} item" + "s" * (count != 1)


def _dict_difference(got: Any, want: dict, tol: float, dtype: bool) -> str | None:
    if got is None:
        return _none()
    if not isinstance(got, dict):
        return f"your function returns {kind(got)}; it should return {kind(want)}"
    if got.keys() != want.keys():
        return ""
    for key in want:
        reason = difference(got[key], want[key], tol, dtype)
        if reason is not None:
            return f"at {key!r}: {reason}" if reason else ""
    return None


def _number_difference(got: Any, want: bool | int | float, tol: float) -> str | None:
    if got is None:
        return _none()
    if (is_tensor(got) or is_array(got)) and math.prod(got.shape) == 1:
        got = got.item()
    elif type(got).__module__ == "numpy" and hasattr(got, "item"):
        got = got.item()
    allowed = (bool,) if isinstance(want, bool) else (int, float)
    if not isinstance(got, allowed) or (isinstance(got, bool) and not isinstance(want, bool)):
        return f"your function returns {kind(got)}; it should return {kind(want)}"
    if isinstance(want, float):
        if math.isnan(got) and not math.isnan(want):
            return "your answer is NaN"
        near = math.isfinite(want) and abs(got - want) <= tol + tol * abs(want)
        return None if got == want or near else ""
    return None if got == want else ""


def kind(value: Any) -> str:
    """The type in plain words: 'a tensor of shape (2, 3)', 'a list', 'an int'."""
    if is_tensor(value):
        return f"a tensor of shape {shape(value)}"
    if is_array(value):
        return f"a NumPy array of shape {shape(value)}"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def shape(value: Array) -> str:
    """(2, 3) as text."""
    return str(tuple(value.shape))


def _dtype(value: Array) -> str:
    return str(value.dtype).removeprefix("torch.")


def _plain(value: Array):
    """As a NumPy array in float64, int64, bool or complex."""
    if not is_tensor(value):
        return value
    value = value.detach().cpu()
    if value.is_floating_point():
        value = value.double()
    return value.resolve_conj().resolve_neg().numpy()


def _quiet():
    import numpy

    return numpy.errstate(all="ignore")


def show(value: Any, width: int = 160) -> str:
    """A short text for a reader: numbers to four digits, big tensors by shape and dtype. Never raises."""
    try:
        return _show(value, width)
    except Exception:  # a tensor without data, or a learner's object with a broken repr
        return kind(value)


def _show(value: Any, width: int) -> str:
    if is_tensor(value) or is_array(value):
        array = _plain(value)
        text = _numbers(array.tolist()) if array.size <= 24 else ""
        if text and len(text) <= width:
            return text + ("" if array.size else f" of shape {shape(value)}")
        return f"{'tensor' if is_tensor(value) else 'array'} of shape {shape(value)}, {_dtype(value)}"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return clip(type(value).__name__ + "(" + ", ".join(show(item, width) for item in value) + ")", width)
    if isinstance(value, (list, tuple)) and value and not all(isinstance(v, (int, float)) for v in value):
        inside = ", ".join(show(item, width) for item in value)
        return clip(f"[{inside}]" if isinstance(value, list) else f"({inside})", 2 * width)
    if isinstance(value, (float, list, tuple)):
        return clip(_numbers(value), width)
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return clip(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)), width)


def _numbers(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_numbers(item) for item in value) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(_numbers(item) for item in value) + ")"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def clip(text: str, width: int = 160) -> str:
    """One line of at most width characters."""
    text = " ".join(str(text).split())
    return text if len(text) <= width else text[: width - 3] + "..."


def where(got: Array, want: Array) -> str:
    """For big tensors of one shape: the place and values of the largest difference."""
    import numpy

    left, right = _plain(got), _plain(want)
    with _quiet():
        gap = numpy.nan_to_num(abs(left * 1.0 - right * 1.0), nan=numpy.inf)
    at = numpy.unravel_index(int(gap.argmax()), gap.shape)
    place = ", ".join(str(int(i)) for i in at)
    return f"furthest at [{place}]: got {left[at].item():.4g}, expected {right[at].item():.4g}"
