"""The three words a learner uses: check, hint, progress."""

from __future__ import annotations

import os
from typing import Any

from minilm.lab import record
from minilm.lab.exercise import LabError, chapters, exercises, find
from minilm.lab.result import Lines, Result

_STEPS = ("nudge", "idea", "nearly code")
_shown: dict[str, int] = {}  # hints unfolded in this session
# Read at import, before an answer cell runs: nbgrader sets NBGRADER_EXECUTION when it grades or validates.
_STRICT = os.environ.get("MINILM_STRICT") == "1" or bool(os.environ.get("NBGRADER_EXECUTION"))


def check(id: str, answer: Any) -> Result:
    """Run an exercise's checks on your function and show what holds and what the likely mistake is.

    id: such as "01.1"; an unknown one raises LabError (a ValueError) with the known ones. answer: the function itself.
    An answer that fails is a shown result, not an exception, unless nbgrader grades or MINILM_STRICT=1 is set.
    """
    from minilm.lab.trial import run_exercise

    result = run_exercise(find(id), answer)
    if result.state != "not attempted":
        record.save(id, result.solved)
    note = record.notes()
    if note:
        result = Result(result.id, result.title, result.state, result.outcomes, result.message, note)
    return result.require() if _STRICT else result


def hint(id: str, step: int | None = None) -> Lines:
    """The next hint of an exercise: a nudge, the idea, nearly the code. step=1, 2 or 3 asks for that one."""
    exercise = find(id)
    if step is not None and (isinstance(step, bool) or step not in (1, 2, 3)):
        raise LabError(f"a hint's step is 1 (nudge), 2 (idea) or 3 (nearly code), not {step!r}")
    if step is None:
        step = _shown[id] = min(_shown.get(id, 0) + 1, 3)
        rows = [("", text) for text in exercise.hints[:step]]
    else:
        rows = [("", exercise.hints[step - 1])]
    more = "ask again for more" if step < 3 else "that is the last hint"
    return Lines(f"{exercise.id} {exercise.title}: hint {step} of 3, {_STEPS[step - 1]}", rows, more)


def progress(chapter: str | int | None = None) -> Lines:
    """What is solved, tried and open; of one chapter ("01" or 1) or of all."""
    known = chapters()
    if chapter is not None:
        wanted = f"{chapter:02d}" if isinstance(chapter, int) else str(chapter)
        if wanted not in known:
            raise LabError(f"no exercises in chapter {chapter!r}; the chapters with exercises are {', '.join(known)}")
        known = [wanted]
    entries = record.read()
    rows = [
        (entries.get(exercise.id, {}).get("state", "open"), f"{exercise.id} {exercise.title}")
        for number in known
        for exercise in exercises(number)
    ]
    solved = sum(state == "solved" for state, _ in rows)
    where = "" if chapter is None else f"chapter {known[0]}: "
    return Lines(f"{where}{solved} of {len(rows)} exercises solved", rows, record.notes())
