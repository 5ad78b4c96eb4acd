"""What a learner has solved, kept in one small JSON file on their machine.

The file is `$MINILM_PROGRESS`, or minilm/progress.json in the user's data folder. MINILM_PROGRESS=off keeps it in
memory for the session, so that a notebook run from the top always shows the same.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

_SESSION: dict[str, dict] = {}
_notes: list[str] = []


def path() -> Path | None:
    """Where progress is kept; None in a session without a file."""
    choice = os.environ.get("MINILM_PROGRESS", "")
    if choice.strip().lower() == "off":
        return None
    if choice:
        return Path(choice).expanduser()
    return data_folder() / "progress.json"


def data_folder() -> Path:
    """Where minilm keeps a learner's files."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "minilm"


def read() -> dict[str, dict]:
    """Exercise id -> {"state": "solved" | "tried", "tries": n}. A file that makes no sense is set aside as .bak."""
    file = path()
    if file is None:
        return _SESSION
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        return _set_aside(file) if isinstance(error, UnicodeDecodeError) else _unusable(error)
    try:
        entries = json.loads(text)["exercises"]
        if not all(isinstance(entry, dict) and entry.get("state") in ("solved", "tried") for entry in entries.values()):
            raise ValueError("an entry without a state")
        return entries
    except (ValueError, KeyError, TypeError, AttributeError):
        return _set_aside(file)


def save(id: str, solved: bool) -> None:
    """Count a try; what was solved once stays solved."""
    entries = read()
    entry = entries.setdefault(id, {"state": "tried", "tries": 0})
    entry["tries"] = int(entry.get("tries") or 0) + 1
    if solved:
        entry["state"] = "solved"
    file = path()
    if file is None:
        return
    try:
        write_json(file, {"version": 1, "exercises": entries})
    except OSError as error:
        _SESSION.update(entries)
        _unusable(error)


def notes() -> str:
    """What the reader should know of the file, once; empty when all is well."""
    told = "; ".join(dict.fromkeys(_notes))
    _notes.clear()
    return told


def write_json(file: Path, content: dict) -> None:
    """All or nothing: a crash leaves the old file or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(content, out, indent=1, sort_keys=True)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _set_aside(file: Path) -> dict[str, dict]:
    """Keep the unreadable file under a name that is free, and start anew."""
    number, backup = 0, file.with_name(file.name + ".bak")
    while backup.exists():
        number += 1
        backup = file.with_name(f"{file.name}.bak{number}")
    try:
        os.replace(file, backup)
    except OSError as error:
        return _unusable(error)
    _notes.append(f"the progress file could not be read; it is kept as {backup.name}, and a new one was begun")
    return {}


def _unusable(error: OSError) -> dict[str, dict]:
    _notes.append(f"progress is kept for this session only: {error.strerror or 'the file cannot be used'}")
    return _SESSION
