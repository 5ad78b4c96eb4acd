"""The mutant gate: checks must reject every wrong answer with the message meant for it, and accept the solution.

A check that cannot fail teaches nothing, and a check that fails with the wrong advice teaches the wrong thing.
"""

import ast
import importlib.util
import linecache
import os
import sys
from pathlib import Path

import pytest

from minilm.lab.exercise import chapters, exercises
from minilm.lab.kernel import NO_TRITON
from minilm.lab.trial import run_check, run_exercise

nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).resolve().parents[1]
MUTANT_DIR = ROOT / "tests" / "mutants"
ALL = [ex for chapter in chapters() for ex in exercises(chapter)]


def mutants_of(chapter: str) -> dict:
    """MUTANTS of tests/mutants/chNN_part.py, imported by path so that it works from any working directory."""
    names = sorted(path.stem for path in MUTANT_DIR.glob(f"ch{chapter}*.py"))
    assert names, f"chapter {chapter} has exercises but no {MUTANT_DIR.relative_to(ROOT)}/ch{chapter}_*.py"
    if "mutants" not in sys.modules:
        spec = importlib.util.spec_from_file_location("mutants", MUTANT_DIR / "__init__.py",
                                                      submodule_search_locations=[str(MUTANT_DIR)])
        sys.modules["mutants"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["mutants"])
    parts = [importlib.import_module(f"mutants.{name}").MUTANTS for name in names]
    merged = {id: mutants for part in parts for id, mutants in part.items()}
    assert len(merged) == sum(map(len, parts)), f"chapter {chapter}: two files hold mutants of one exercise"
    return merged


CASES = [
    pytest.param(ex, mutant, id=f"{ex.id}-{mutant.name.replace(' ', '_')}")
    for ex in ALL
    for mutant in mutants_of(ex.id[:2]).get(ex.id, [])
]


def notebook(folder: str, ex) -> Path:
    found = sorted((ROOT / folder).glob(f"{ex.id[:2]}_*.ipynb"))
    assert len(found) == 1, f"{folder}/ should hold one notebook of chapter {ex.id[:2]}, found {len(found)}"
    return found[0]


def answer_in(folder: str, ex):
    """The exercise's function as a notebook of that folder defines it: imports, then answer cells up to it."""
    path = notebook(folder, ex)
    space: dict = {"__name__": "answers"}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        meta = cell.metadata.get("nbgrader", {})
        if meta.get("solution"):
            name = f"<answer {path.name}, {meta['grade_id']}>"
            linecache.cache[name] = (len(cell.source), None, cell.source.splitlines(True), name)  # Triton reads it
            exec(compile(cell.source, name, "exec"), space)
            if meta["grade_id"] == ex.grade_id:
                return space[ex.name]
        elif not meta.get("grade"):
            imports = [node for node in ast.parse(_without_magics(cell.source)).body
                       if isinstance(node, (ast.Import, ast.ImportFrom))]
            exec(compile(ast.Module(imports, []), f"<imports {path.name}>", "exec"), space)
    raise AssertionError(f"{path.relative_to(ROOT)} has no answer cell {ex.grade_id}")


def skip_without_triton(said: str) -> None:
    """Some exercises need Triton, and some systems have none."""
    if NO_TRITON[1:] in said and importlib.util.find_spec("triton") is None:
        pytest.skip(NO_TRITON)


def _without_magics(source: str) -> str:
    if source.lstrip().startswith("%%"):
        return ""
    return "\n".join("" if line.lstrip()[:1] in ("%", "!") else line for line in source.split("\n"))


def test_there_are_exercises():
    """Guards a gate that passes because it found nothing."""
    assert ALL


@pytest.mark.parametrize("ex", ALL, ids=lambda ex: ex.id)
def test_exercise_has_checks_and_three_mutants(ex):
    """Guards an exercise whose checks nobody has tried to fool."""
    mutants = mutants_of(ex.id[:2]).get(ex.id, [])
    assert ex.checks, f"{ex.id} has no checks"
    assert len(mutants) >= 3, f"{ex.id} has {len(mutants)} mutants; it needs three"
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    assert len({mutant.function for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        assert len(mutant.expect.strip()) >= 5, f"{ex.id}, {mutant.name}: expect a real fragment of a message"


@pytest.mark.parametrize("chapter", chapters())
def test_mutants_belong_to_exercises(chapter):
    """Guards mutants left behind by a renamed exercise."""
    assert mutants_of(chapter).keys() == {ex.id for ex in exercises(chapter)}


@pytest.mark.parametrize(("ex", "mutant"), CASES)
def test_mutant_is_rejected_with_its_message(ex, mutant):
    """Guards checks that wrong answers pass, and messages that blame the wrong thing.

    The first check that fails has the message that is shown; those after it are not run.
    """
    if mutant.counted and not os.environ.get("TRITON_INTERPRET"):
        pytest.skip("loads are counted in the interpreter")
    outcomes = (run_check(check, mutant.function, ex.answer) for check in ex.checks)
    outcome = next((outcome for outcome in outcomes if outcome.state != "holds"), None)
    assert outcome is not None, "the wrong answer passes"
    skip_without_triton(outcome.message)
    assert outcome.state in ("fails", "timeout"), outcome
    assert mutant.expect in outcome.message, f"expected the message to say {mutant.expect!r}: {outcome}"


@pytest.mark.parametrize("ex", ALL, ids=lambda ex: ex.id)
def test_solution_passes(ex):
    """Guards checks that reject the right answer; twice, since a check must keep no state."""
    answer = answer_in("solutions", ex)
    for _ in range(2):
        result = run_exercise(ex, answer)
        skip_without_triton(result.mistake)
        assert result.solved, str(result)


@pytest.mark.parametrize("ex", ALL, ids=lambda ex: ex.id)
def test_stub_is_not_attempted(ex):
    """Guards a stub that reads as a wrong answer, and a generated exercise that isn't there."""
    result = run_exercise(ex, answer_in("exercises", ex))
    skip_without_triton(result.mistake)
    assert result.state == "not attempted", str(result)
