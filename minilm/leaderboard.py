"""The local leaderboard of the capstone race: one small JSON file on this machine, each name's best run in it.

The file is `$MINILM_LEADERBOARD`, or minilm/leaderboard.json in the user's data folder. Runs are compared only with
those of the same model, length, bound and machine: a speed-up says nothing without them.
"""
import json
import math
import os
from pathlib import Path
from typing import Any

from minilm.capstone.entry import KINDS
from minilm.lab import record

NUMBER = (int, float)
FIELDS = {"name": str, "model": str, "new_tokens": int, "quality": NUMBER, "machine": str, "speed_up": NUMBER,
          "by_kind": dict, "loss": NUMBER, "rounds": int, "date": str, "role": str, "beside": dict}
SAME = ("model", "new_tokens", "quality", "machine")


def path() -> Path:
    """Where the board is kept."""
    choice = os.environ.get("MINILM_LEADERBOARD", "")
    return Path(choice).expanduser() if choice else record.data_folder() / "leaderboard.json"


def read() -> list[dict[str, Any]]:
    """All entries. Raises ValueError, and leaves the file as it is, when it makes no sense."""
    file = path()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise _unreadable(file, "it is not text") from None
    try:
        entries = json.loads(text)["runs"]
        for number, entry in enumerate(entries):
            for name, kind in FIELDS.items():
                if not _is(entry[name], kind):
                    raise ValueError(f"{name} of run {number + 1} is {entry[name]!r}")
    except RecursionError:
        raise _unreadable(file, "it is nested too deeply") from None
    except KeyError as error:
        raise _unreadable(file, f"{error} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise _unreadable(file, str(error)) from None
    return entries


def _is(value: Any, kind: type | tuple) -> bool:
    if kind is dict:
        return isinstance(value, dict) and all(_is(number, NUMBER) for number in value.values())
    return isinstance(value, kind) and not isinstance(value, bool) and (kind is not NUMBER or math.isfinite(value))


def _unreadable(file: Path, why: str) -> ValueError:
    return ValueError(f"the leaderboard {file} can't be read ({why}): put it right, or move it away to begin a new "
                      "one; nothing was changed")


def enter(entry: dict[str, Any]) -> bool:
    """Keep the run if it is its name's best of this kind; says whether it is. All or nothing, like `record`."""
    entries = read()
    mine = [old for old in entries if old["name"] == entry["name"] and _same(old, entry)]
    if any(old["speed_up"] >= entry["speed_up"] for old in mine):
        return False
    record.write_json(path(), {"version": 1, "runs": [old for old in entries if old not in mine] + [entry]})
    return True


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(a[name] == b[name] for name in SAME)


def boards(entries: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The entries in groups that can be compared, the fastest first in each."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(tuple(entry[name] for name in SAME), []).append(entry)
    return [sorted(group, key=lambda entry: -entry["speed_up"]) for group in groups.values()]


def show() -> str:
    """The board as text."""
    entries = read()
    if not entries:
        return "nobody is on the leaderboard yet: minilm race --mine my_decoder.py"
    groups = ["\n".join(_lines(group)) for group in boards(entries)]
    return "\n\n".join([*groups, f"kept in {path()}: delete the file to begin anew"])


def bound_of(quality: float) -> str:
    """"exact" or "loss up to 0.05"."""
    return f"loss up to {quality:g}" if quality else "exact"


def _lines(group: list[dict[str, Any]]) -> list[str]:
    first = group[0]
    width = max(len(entry["name"]) for entry in group)
    lines = [f"{first['model']}, {first['new_tokens']} new tokens, {bound_of(first['quality'])}, {first['machine']}"]
    for place, entry in enumerate(group, 1):
        kinds = "  ".join(f"{kind} {ratio:.2f}×" for kind in KINDS
                          if (ratio := entry["by_kind"].get(kind)) is not None)
        beside = ", ".join(f"{name} {ratio:.2f}×" for name, ratio in entry["beside"].items())
        lines.append(f"{place:3}. {entry['name']:{width}}  {entry['speed_up']:5.2f}×  ({kinds})  loss "
                     f"{entry['loss']:.3f}  {entry['role']}  {entry['date']}  beside {beside}")
    return lines
