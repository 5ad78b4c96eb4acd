"""One clear error for a number that can't be meant: what every part of the package says in the same words."""
from typing import Any


def check_count(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise ValueError unless `value` is a whole number (no bool) of at least `least` and, if given, at most `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {allowed}; it is {value!r}")
