"""`minilm release`: make exercises/ from solutions/, the answers taken out, in nbgrader's format.

    minilm release                  write exercises/NN_name.ipynb from solutions/NN_name.ipynb
    minilm release --check          say what has drifted and exit 1; writes nothing
    minilm release --course DIR     also set up an nbgrader course folder that autogrades these very files

The work is done by nbgrader's own preprocessors, so `nbgrader autograde` takes the result as it is.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
import textwrap
from pathlib import Path

from minilm.lab.exercise import Exercise, LabError, find
from minilm.lab.notebooks import NotebookError, dumps, load, normalise

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_CHECK = re.compile(r"^check\(\s*[\"'](\d\d\.\d+)[\"']\s*,", re.MULTILINE)
_SIZE = "@@ size @@"
MISSING = "nbgrader is not installed; run: pip install minilm[teach]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `minilm release`."""
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if exercises/ has drifted")
    parser.add_argument("--source", type=Path, default=Path("solutions"), help="default: solutions")
    parser.add_argument("--target", type=Path, default=Path("exercises"), help="default: exercises")
    parser.add_argument("--course", type=Path, help="also write an nbgrader course folder here, for instructors")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit status."""
    try:
        import nbgrader  # noqa: F401
    except ImportError:
        print(MISSING, file=sys.stderr)
        return 1
    sources = sorted(args.source.glob("[0-9][0-9]_*.ipynb"))
    if not sources:
        print(f"no notebooks named NN_name.ipynb in {args.source}/; run this in the course's folder", file=sys.stderr)
        return 1
    try:
        drift = [line for path in sources for line in _release_one(path, args.target / path.name, args.check)]
        drift += _leftovers(sources, args.target, args.check)
        if args.course:
            _write_course(sources, args.course)
    except (NotebookError, LabError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(drift) if drift else f"{args.target}/ matches {args.source}/: {len(sources)} notebooks")
    if args.check and drift:
        print(f"{args.target}/ has drifted; run: minilm release", file=sys.stderr)
    return int(bool(args.check and drift))


def _release_one(source: Path, target: Path, only_check: bool) -> list[str]:
    """Release a notebook; returns lines that say what changed (or would)."""
    lines = []
    try:
        nb = load(source)
        if mark(nb):
            lines.append(f"{source}: nbgrader's metadata {'is missing or stale' if only_check else 'written'}")
            if not only_check:
                _write(source, dumps(nb))
        new = dumps(release(nb))
    except (LabError, ValueError, RuntimeError) as error:
        raise ValueError(f"{source}: {error}") from error
    old = target.read_text(encoding="utf-8") if target.exists() else ""
    if old != new:
        lines += [f"{target}: {'differs' if only_check else 'written'}" if old else f"{target}: new"]
        if only_check:
            lines += _summary(old, new)
        else:
            _write(target, new)
    return lines


def _leftovers(sources: list[Path], target: Path, only_check: bool) -> list[str]:
    """Exercises whose solutions notebook is gone; they are named, never deleted."""
    names = {path.name for path in sources}
    extra = [path for path in sorted(target.glob("*.ipynb")) if path.name not in names]
    return [f"{path}: has no notebook in solutions; remove it" for path in extra]


def _summary(old: str, new: str, most: int = 12) -> list[str]:
    diff = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0))[2:]
    changed = [f"  {line[:110]}" for line in diff if line[:1] in "+-"]
    return changed[:most] + ([f"  ... and {len(changed) - most} more lines"] if len(changed) > most else [])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def mark(nb) -> bool:
    """Give solution and check cells nbgrader's metadata, in place; returns whether anything changed.

    A solution cell holds `### BEGIN SOLUTION` and the next `check("NN.k", ...)` cell is its test: it is locked and
    worth the exercise's points. Raises ValueError when the two don't come in pairs, LabError for an unknown exercise.
    """
    before = dumps(nb)
    waiting, seen = None, set()
    for cell in nb.cells:
        cell.metadata.pop("nbgrader", None)
        if cell.cell_type != "code":
            continue
        if BEGIN in cell.source:
            if waiting is not None:
                raise ValueError("two solution cells without a check cell between them")
            waiting = cell
        elif waiting is not None and (match := _CHECK.search(cell.source)):
            exercise = find(match[1])
            if exercise.id in seen:
                raise ValueError(f"exercise {exercise.id} is there twice")
            if exercise.name not in _defined(waiting.source):
                raise ValueError(f"the solution cell of {exercise.id} doesn't define {exercise.name}")
            seen.add(exercise.id)
            waiting.metadata["nbgrader"] = _metadata(exercise.grade_id, solution=True)
            cell.metadata["nbgrader"] = _metadata(exercise.grade_id + "_check", points=exercise.points)
            waiting = None
    if waiting is not None:
        raise ValueError("a solution cell has no check cell after it")
    return dumps(nb) != before


def _defined(source: str) -> set[str]:
    return set(re.findall(r"^(?:def|class)\s+(\w+)", source, re.MULTILINE))


def _metadata(grade_id: str, *, solution: bool = False, points: float | None = None) -> dict:
    meta = {"grade": not solution, "grade_id": grade_id, "locked": not solution, "schema_version": 3,
            "solution": solution, "task": False}
    return meta if points is None else {**meta, "points": points}


def _exercise_of(cell) -> Exercise:
    return find(cell.metadata.nbgrader["grade_id"].removeprefix("ex_").replace("_", "."))


def sizes_of(source: str) -> list[str]:
    """How long each solution in a cell is, "about 3 lines"; a class has one for each of its methods."""
    parts = re.findall(rf"{BEGIN}\n(.*?){END}", source, re.DOTALL)
    counts = [sum(line.strip()[:1] not in ("", "#") for line in part.split("\n")) for part in parts]
    return [f"about {count} line" + "s" * (count != 1) for count in counts]


def stub_for(cell, size: str) -> str:
    """What stands in place of a solution of that size: an error that says what to write."""
    exercise = _exercise_of(cell)
    said = textwrap.wrap(f"{exercise.id} {exercise.title} is yours to write: {exercise.task}", 90)
    quoted = [json.dumps(line + " " * (line is not said[-1]), ensure_ascii=False) for line in said]
    return "\n    ".join([f"# YOUR CODE HERE ({size})\nraise NotImplementedError(", *quoted]) + "\n)"


def release(nb):
    """The learner's version of a marked solutions notebook. Byte-stable: the same source gives the same text."""
    from nbgrader.preprocessors import (
        CheckCellMetadata,
        ClearHiddenTests,
        ClearMarkScheme,
        ClearOutput,
        ComputeChecksums,
        LockCells,
    )

    clearing = (friendly_stubs(), ClearOutput, ClearHiddenTests, ClearMarkScheme)
    steps = (LockCells, *clearing, ComputeChecksums, CheckCellMetadata)
    nb = normalise(nb)
    resources: dict = {}
    for step in steps:
        nb, resources = step().preprocess(nb, resources)
    for cell in nb.cells:
        if "raises-exception" in cell.metadata.get("tags", []):
            cell.metadata["tags"] = [tag for tag in cell.metadata["tags"] if tag != "raises-exception"]
    return nb


def friendly_stubs():
    """nbgrader's ClearSolutions with a stub that knows the exercise it stands for."""
    from nbgrader.preprocessors import ClearSolutions

    class FriendlyStubs(ClearSolutions):
        def preprocess_cell(self, cell, resources, cell_index):
            if not cell.metadata.get("nbgrader", {}).get("solution"):
                return super().preprocess_cell(cell, resources, cell_index)
            sizes = sizes_of(cell.source)
            self.code_stub = {"python": stub_for(cell, _SIZE)}  # nbgrader has one stub for all of a cell
            cell, resources = super().preprocess_cell(cell, resources, cell_index)
            for size in sizes:
                cell.source = cell.source.replace(_SIZE, size, 1)
            return cell, resources

    return FriendlyStubs


COURSE_CONFIG = '''"""nbgrader settings for this course. See https://nbgrader.readthedocs.io"""
from minilm.lab.release import friendly_stubs
from nbgrader.converters import GenerateAssignment
from nbgrader.preprocessors import ClearSolutions

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "efficient-llm-inference"
# The stubs say what to write, as in exercises/; all else is nbgrader's own.
c.GenerateAssignment.preprocessors = [
    friendly_stubs() if step is ClearSolutions else step for step in GenerateAssignment.preprocessors.default()
]
c.Execute.timeout = 300
'''


def _write_course(sources: list[Path], course: Path) -> None:
    """source/NN_name/NN_name.ipynb and nbgrader_config.py; an existing configuration is left alone."""
    for path in sources:
        nb = load(path)
        mark(nb)
        _write(course / "source" / path.stem / path.name, dumps(normalise(nb)))
    config = course / "nbgrader_config.py"
    if not config.exists():
        _write(config, COURSE_CONFIG)
    print(f"{course}: then, there: nbgrader generate_assignment NN_name; nbgrader autograde NN_name; nbgrader export")
