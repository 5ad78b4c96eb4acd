"""`minilm grade`: grade learners' notebooks into a table of scores.

    minilm grade submissions/*.ipynb --csv scores.csv

Only the answer cells are taken from a notebook, and they run in a process of their own that is limited and, where the
system allows, cut off from the network, the files and other processes. The checks and the expected values stay here, in
the grader: what comes over is the value an answer returns, and it is compared on this side. So redefining `check`,
patching torch, editing the tests, printing "passed", exiting or looping can't earn a point.

What it can't tell: who wrote an answer, nor whether it calls a library that does the same. An answer that guesses its
inputs by heart would pass; the checks use more inputs than the notebook shows.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from minilm.lab.exercise import Exercise, chapters, exercises
from minilm.lab.notebooks import NotebookError
from minilm.lab.values import clip

WALLS = {"network": "no network", "files": "files read-only", "processes": "no other processes in sight",
         "limits": "memory and processor time limited"}


@dataclass
class Score:
    """A row: points by exercise id, what went wrong by exercise id, or an error for the whole notebook."""

    notebook: str
    points: dict[str, float] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def total(self) -> float:
        """The sum of the points."""
        return sum(self.points.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `minilm grade`."""
    parser.add_argument("notebooks", nargs="+", type=Path, help="learners' notebooks, or folders of them")
    parser.add_argument("--csv", type=Path, help="write the scores here")
    parser.add_argument("--chapter", help="grade as this chapter (01); else the notebook tells")
    parser.add_argument("--cpu-seconds", type=int, default=120, help="processor time of one notebook (%(default)s)")
    parser.add_argument("--memory", type=float, default=4.0, help="GiB of memory for one notebook (%(default)s)")
    parser.add_argument("--require-isolation", action="store_true", help="refuse to grade where a wall is missing")


def run(args: argparse.Namespace) -> int:
    """Grade all; returns 0 when every notebook could be graded, 1 when some could not."""
    if args.chapter is not None and args.chapter not in chapters():
        raise ValueError(f"no exercises in chapter {args.chapter!r}; the chapters are {', '.join(chapters())}")
    if args.cpu_seconds < 1 or args.memory <= 0:
        raise ValueError("--cpu-seconds and --memory must be positive")
    paths = [path for given in args.notebooks for path in _expand(given)]
    if not paths:
        raise ValueError("no notebooks there")
    from minilm.lab.sandbox import keep_out

    keep_out()
    start = session_starter(args.cpu_seconds, int(args.memory * 2**30), args.require_isolation)
    scores = []
    for number, path in enumerate(paths, 1):
        print(f"[{number}/{len(paths)}] {path}", end="", file=sys.stderr, flush=True)
        scores.append(grade(path, start, args.chapter))
        print(f": {scores[-1].error or f'{scores[-1].total:g} points'}", file=sys.stderr, flush=True)
    table = to_csv(scores)
    if args.csv:
        write_csv(args.csv, table)
        print(f"{args.csv}: {len(scores)} notebooks, {sum(bool(s.error) for s in scores)} of them unreadable")
    else:
        print(table, end="")
    return int(any(score.error for score in scores))


def _expand(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    return sorted(path for path in given.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def session_starter(cpu_seconds: int, memory_bytes: int, require_isolation: bool = False) -> Callable:
    """A function that starts a process for a learner's code; the first start says which walls don't stand."""
    told: list[bool] = []

    def start():
        from minilm.lab.remote import Session

        session = Session(cpu_seconds=cpu_seconds, memory_bytes=memory_bytes)
        missing = [words for wall, words in WALLS.items() if not session.held.get(wall)]
        if missing and require_isolation:
            session.close()
            raise ValueError(f"this system does not give: {', '.join(missing)}; grade in a container or on Linux")
        if missing and not told:
            told.append(True)
            print(f"\nnote: not in force here: {', '.join(missing)}. Scores can't be forged all the same, but a "
                  "learner's code could do harm: use a container or an account of its own.", file=sys.stderr)
        return session

    return start


def grade(path: Path, start: Callable, chapter: str | None = None) -> Score:
    """Grade one notebook. Whatever is in it, a Score comes back."""
    from minilm.lab import submission

    score = Score(str(path))
    try:
        found = submission.read(path, chapter)
    except NotebookError as error:
        score.error = str(error).removeprefix(f"{path}: ")
        return score
    try:
        _grade_answers(found, start, score)
    except RuntimeError as error:
        score.error = str(error)
    return score


def _grade_answers(found, start: Callable, score: Score) -> None:
    """One process for a notebook; a new one after an answer that broke the last."""
    session, ready = None, []
    try:
        for exercise in exercises(found.chapter):
            source = found.answers.get(exercise.id)
            if source is None:
                result, reason = False, "no answer cell"
            else:
                if session is None or session.broken:
                    if session is not None:
                        session.close()
                    session = start()
                    _prepare(session, found.helpers, ready)
                result, reason = _grade_answer(session, exercise, source)
                if not session.broken:
                    ready.append((exercise, source))
            score.points[exercise.id] = float(exercise.points) if result else 0.0
            if not result:
                score.remarks[exercise.id] = reason
    finally:
        if session is not None:
            session.close()


def _prepare(session, helpers: list[str], ready: list[tuple[Exercise, str]]) -> None:
    """What an answer may lean on: helpers first, then earlier answers. One that fails is skipped."""
    from minilm.lab.steady import CheckTimeout
    from minilm.lab.trial import LearnerError

    pieces = [("helpers", source) for source in helpers] + [(exercise.grade_id, source) for exercise, source in ready]
    for name, source in pieces:
        try:
            session.run(source, name, 20)
        except LearnerError:
            if session.broken:
                return
        except CheckTimeout:
            return


def _grade_answer(session, exercise: Exercise, source: str) -> tuple[bool, str]:
    """Whether all checks hold, and the reason if not."""
    from minilm.lab.steady import CheckTimeout
    from minilm.lab.trial import LearnerError, run_exercise

    try:
        session.run(source, exercise.grade_id, 20)
        function = session.function(exercise.name, exercise.answer)
    except LearnerError as error:
        return False, error.message
    except CheckTimeout:
        return False, "the cell ran past its time limit"
    if function is None or not callable(function):
        return False, f"{exercise.name} is not defined"
    result = run_exercise(exercise, function)
    return result.solved, "not attempted" if result.state == "not attempted" else result.mistake


def to_csv(scores: list[Score]) -> str:
    """notebook, a column for each exercise, total, out of, remarks. An exercise of another chapter is left empty."""
    ids = sorted({id for score in scores for id in score.points}, key=lambda id: tuple(map(int, id.split("."))))
    worth = {ex.id: float(ex.points) for chapter in {id[:2] for id in ids} for ex in exercises(chapter)}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["notebook", *ids, "total", "out of", "remarks"])
    for score in scores:
        points = [f"{score.points[id]:g}" if id in score.points else "" for id in ids]
        most = sum(worth[id] for id in score.points)
        remarks = score.error or "; ".join(f"{id}: {text}" for id, text in score.remarks.items())
        totals = ["", ""] if score.error else [f"{score.total:g}", f"{most:g}"]
        writer.writerow([_cell(score.notebook), *points, *totals, _cell(clip(remarks, 1000))])
    return out.getvalue()


def _cell(text: str) -> str:
    """Text that a spreadsheet won't take for a formula, whatever a learner put in a name or a message."""
    text = "".join(char if char.isprintable() else " " for char in text)
    return "'" + text if text[:1] in ("=", "+", "-", "@") else text


def write_csv(path: Path, table: str) -> None:
    """All or nothing."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(table, encoding="utf-8", newline="")
    os.replace(temporary, path)
