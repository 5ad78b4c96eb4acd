"""What every maker of prompts shares: the Prompt itself and the check of what was asked for."""
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """kind: what is asked for, one of KINDS, COPY_KINDS or PERFECT_KINDS. text: the user's message."""

    kind: str
    text: str


def check(n: int, kinds: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """-> kinds as a tuple. Raises TypeError or ValueError, saying what to give instead."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n must be a whole number of prompts; it is {n!r}")
    if n < 0:
        raise ValueError(f"n must be 0 or more; it is {n}")
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    unknown = [kind for kind in kinds if kind not in known]
    if unknown or not kinds or len(set(kinds)) < len(kinds):
        raise ValueError(f"kinds must be different ones of {', '.join(known)}; they are {kinds}")
    return kinds
