"""Prompts for the corpus: a teacher model answers them, and the small model learns from the answers.

`prompts` fills templates from word lists, evenly over KINDS; `held_out` gives prompts that `prompts` never gives.
`copy_prompts` and `perfect_copy` (in `copying`) are tasks that copy from a text given in the prompt.
"""
import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from .copying import COPY_KINDS, PERFECT_KINDS, copy_prompts, perfect_copy
from .request import Prompt, check
from .templates import LISTS, LONG_ENDINGS, SHORT_ENDINGS, TEMPLATES

SHORT_SHARE = 1 / 3     # of the prompts ask for one to three sentences, or a few lines
HELD_OUT_ONE_IN = 32    # prompts whose hash is a multiple of this are never among `prompts`
PATIENCE = 3000         # draws in a row that give nothing new before a kind counts as used up

KINDS = tuple(TEMPLATES)

_SLOT = re.compile(r"\{(a )?([a-z_]+)(2?)\}")
_AN = re.compile(r"(?!one|uni(?!n)|use|euro)[aeiou]|hour|honest", re.IGNORECASE)


def article(noun: str) -> str:
    """"owl" -> "an owl", "honest king" -> "an honest king", "fox" -> "a fox"."""
    return f"{'an' if _AN.match(noun) else 'a'} {noun}"


@lru_cache(maxsize=1)
def _compiled() -> dict[str, list[tuple[str, list[tuple[str, str]]]]]:
    """kind -> [(a %-format of the template, its slots as (list, "" or "2"))]; "a {x}" means "{a x}"."""
    out = {}
    for kind, text in TEMPLATES.items():
        out[kind] = []
        for line in text.splitlines():
            line = re.sub(r"\b([Aa]) \{(\w+)\}", r"{a \2}", line.strip().replace("%", "%%"))
            slots = list(dict.fromkeys((m[2], m[3]) for m in _SLOT.finditer(line)))
            form = _SLOT.sub(lambda m: f"%({'a ' if m[1] else ''}{m[2]}{m[3]})s", line)
            out[kind].append((form, slots))
    return out


def _draw(kind: str, rng: random.Random) -> str:
    """One prompt of a kind: a template, its slots filled, and an ending that says how long the answer should be."""
    form, slots = rng.choice(_compiled()[kind])
    values = {}
    for name, second in slots:
        items = LISTS[name]
        value = rng.choice(items)
        while second and value == values[name]:
            value = rng.choice(items)
        values[name + second], values["a " + name + second] = value, article(value)
    endings = SHORT_ENDINGS if rng.random() < SHORT_SHARE else LONG_ENDINGS
    text = f"{form % values} {rng.choice(endings[kind])}".rstrip()
    return text[0].upper() + text[1:]


def is_held_out(text: str) -> bool:
    """Whether a prompt belongs to the held-out ones: a hash of the text alone decides, so no seed can mix the two."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little") % HELD_OUT_ONE_IN == 0


def _fresh(kind: str, rng: random.Random, held: bool) -> Iterator[str]:
    """Distinct prompts of a kind, until PATIENCE draws in a row bring nothing new."""
    seen: set[str] = set()
    misses = 0
    while misses < PATIENCE * (HELD_OUT_ONE_IN if held else 1):
        text = _draw(kind, rng)
        if text in seen or is_held_out(text) != held:
            misses += 1
            continue
        seen.add(text)
        misses = 0
        yield text


def _mixed(n: int, seed: int, kinds: Sequence[str], held: bool) -> list[Prompt]:
    kinds = check(n, kinds, KINDS)
    streams = [_fresh(kind, random.Random(f"{kind} {held} {seed}"), held) for kind in kinds]
    out = []
    for i in range(n):
        kind = kinds[i % len(kinds)]
        text = next(streams[i % len(kinds)], None)
        if text is None:
            raise ValueError(f"only about {i // len(kinds):,} distinct prompts of kind {kind!r} exist: ask for fewer "
                             f"than {n:,}")
        out.append(Prompt(kind, text))
    return out


def prompts(n: int, seed: int = 0, kinds: Sequence[str] = KINDS) -> list[Prompt]:
    """n distinct prompts, the kinds in turn (so evenly mixed), the same for the same seed; none is held out.

    Raises ValueError where n is negative or more than the templates can make, or a kind is unknown.
    """
    return _mixed(n, seed, kinds, held=False)


def held_out(n: int, seed: int = 0) -> list[Prompt]:
    """n distinct prompts over KINDS that `prompts` never gives, for honest measurements.

    The texts are unseen; their templates and words are not: this measures a model on its own domain.
    """
    return _mixed(n, seed, KINDS, held=True)


__all__ = ["COPY_KINDS", "KINDS", "PERFECT_KINDS", "Prompt", "copy_prompts", "held_out", "perfect_copy", "prompts"]
