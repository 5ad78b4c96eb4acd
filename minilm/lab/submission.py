"""Reading a learner's notebook without running it: which cells are answers, and what they may lean on."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

from minilm.lab.exercise import Exercise, chapters, exercises
from minilm.lab.notebooks import NotebookError, load


@dataclass
class Submission:
    """What is graded of a notebook. helpers: source by source, what answers may use; answers: exercise id -> source."""

    chapter: str
    helpers: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)


def read(path: Path, chapter: str | None = None) -> Submission:
    """Pick the answers out of a notebook. Raises NotebookError when it can't be read or is of no chapter.

    An answer is the cell with the exercise's grade_id (the last, if there are several) or, where an editor dropped the
    metadata, the last cell that defines the function. Helpers are the imports, functions, classes and constants of the
    learner's other cells; test cells are left out, so changing them changes nothing.
    """
    cells = [cell for cell in load(path).cells if cell.cell_type == "code"]
    chapter = chapter or _chapter(path, cells)
    submission = Submission(chapter)
    wanted = {exercise.grade_id: exercise for exercise in exercises(chapter)}
    rest = []
    for cell in cells:
        meta = cell.metadata.get("nbgrader")
        meta = meta if isinstance(meta, dict) else {}
        grade_id = meta.get("grade_id")
        if grade_id in wanted:
            submission.answers[wanted[grade_id].id] = plain(cell.source)
        elif not (meta.get("grade") or meta.get("locked")):
            rest.append(plain(cell.source))
    for exercise in wanted.values():
        if exercise.id not in submission.answers:
            found = next((source for source in reversed(rest) if _defines(source, exercise)), None)
            if found is not None:
                submission.answers[exercise.id] = found
    answers = set(submission.answers.values())
    submission.helpers = [piece for source in rest if source not in answers for piece in _definitions(source)]
    return submission


def _chapter(path: Path, cells: list) -> str:
    """From the grade_ids, else from the file's name."""
    for cell in cells:
        meta = cell.metadata.get("nbgrader")
        match = re.fullmatch(r"ex_(\d\d)_\d+(_check)?", str(meta.get("grade_id"))) if isinstance(meta, dict) else None
        if match and match[1] in chapters():
            return match[1]
    match = re.match(r"(\d\d)_", path.name)
    if match and match[1] in chapters():
        return match[1]
    raise NotebookError(f"{path}: no exercises of this course in it; --chapter says which chapter it is")


def plain(source: str) -> str:
    """The cell as Python: line magics and shell lines emptied (line numbers stay), a cell magic empties the cell."""
    if source.lstrip().startswith("%%"):
        return ""
    return "\n".join("" if re.match(r"\s*[%!]", line) else line for line in source.split("\n"))


def _parse(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _defines(source: str, exercise: Exercise) -> bool:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return any(isinstance(node, kinds) and node.name == exercise.name for node in _parse(source))


def _definitions(source: str) -> list[str]:
    """Imports, functions, classes and constants; what computes or prints is not needed for an answer."""
    kept = []
    for node in _parse(source):
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)) or _is_constant(node):
            kept.append(ast.get_source_segment(source, node) if not getattr(node, "decorator_list", None)
                        else ast.unparse(node))
    return [piece for piece in kept if piece]


def _is_constant(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign):
        return False
    try:
        ast.literal_eval(node.value)
        return True
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
