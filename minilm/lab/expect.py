"""What a check says when it fails: the likely mistake, the input, what came back, what should have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minilm.lab.values import copied, difference, is_array, is_tensor, show, size, where


class Failed(Exception):
    """A check that does not hold. message may be empty: the check's own `mistake` then speaks."""

    def __init__(self, message: str, facts: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.facts = list(facts)


def expect(
    got: Any,
    want: Any,
    *,
    wrong: Mapping[str, Any] | None = None,
    mistake: str = "",
    tol: float = 1e-5,
    dtype: bool = True,
) -> None:
    """Raise Failed unless got equals want (see values.difference for what equal means).

    wrong: message -> what the answer would be if the learner made that mistake (a value, or a function of nothing that
    makes it); the first that equals `got` names the mistake. Else a wrong type, shape, dtype or NaN is said plainly,
    and for wrong numbers `mistake`, or the check's own, is used.
    """
    reason = difference(got, want, tol, dtype)
    if reason is None:
        return
    for message, value in (wrong or {}).items():
        if _is_the_mistake(value, got, want, tol, dtype):
            raise Failed(message, facts(got, want))
    raise Failed(reason or mistake, facts(got, want))


def agree(
    answer: Callable,
    reference: Callable,
    cases: Iterable[tuple],
    *,
    wrong: Mapping[str, Callable] | None = None,
    mistake: str = "",
    tol: float = 1e-5,
    dtype: bool = True,
) -> None:
    """Raise Failed at the smallest case (a tuple of arguments) where answer and reference differ.

    wrong: message -> a function with that mistake in it. If several would give the same wrong result on the smallest
    case, larger cases decide.
    """
    ordered = sorted(cases, key=size)
    for index, case in enumerate(ordered):
        want = reference(*copied(case))
        got = answer(*case)
        reason = difference(got, want, tol, dtype)
        if reason is None:
            continue
        seen = facts(got, want, getattr(answer, "shown", ""))
        suspects = _suspects(wrong or {}, case, got, want, tol, dtype)
        for later in ordered[index + 1 :]:
            if len(suspects) < 2:
                break
            left = _suspects(suspects, later, answer(*later), None, tol, dtype)
            suspects = left or suspects
        raise Failed(next(iter(suspects), reason or mistake), seen)


def _suspects(wrong: Mapping[str, Callable], case: tuple, got: Any, want: Any, tol: float, dtype: bool) -> dict:
    return {
        message: function
        for message, function in wrong.items()
        if _is_the_mistake(lambda function=function: function(*copied(case)), got, want, tol, dtype)
    }


def _is_the_mistake(value: Any, got: Any, want: Any, tol: float, dtype: bool) -> bool:
    try:
        value = value() if callable(value) else value
        if want is not None and difference(value, want, tol, dtype) is None:
            return False  # on this input the mistake makes no difference
        return difference(got, value, tol, dtype) is None
    except Exception:
        return False  # the mistake does not even run on this input


def facts(got: Any, want: Any, given: str = "") -> list[tuple[str, str]]:
    """Label and text pairs for display."""
    lines = [("input", given)] if given else []
    lines += [("got", show(got)), ("expected", show(want))]
    for name, left, right in _pairs(got, want):
        alike = is_tensor(left) and is_tensor(right) or is_array(left) and is_array(right)
        if alike and left.shape == right.shape and 0 not in right.shape and "of shape" in show(right) and (
                not name or difference(left, right) is not None):
            lines.append(("where", name + where(left, right)))
            break
    return lines


def _pairs(got: Any, want: Any) -> list[tuple[str, Any, Any]]:
    """What came and what should have; of two tuples item by item, with the item's number."""
    if isinstance(want, tuple) and isinstance(got, (list, tuple)):
        return [(f"item {i}, ", left, right) for i, (left, right) in enumerate(zip(got, want, strict=False))]
    return [("", got, want)]
