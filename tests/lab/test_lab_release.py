"""exercises/ is solutions/ without the answers; nbgrader takes the same files."""

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minilm.lab import release

pytest.importorskip("nbgrader")
ROOT = Path(__file__).resolve().parents[2]


def run(*argv):
    parser = argparse.ArgumentParser()
    release.add_arguments(parser)
    return release.run(parser.parse_args(list(map(str, argv))))


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder with one solutions notebook of exercise 99.1 and 99.2."""
    cells = [
        new_markdown_cell("# Exercises", id="title"),
        new_code_cell("import torch\n\nfrom minilm.lab import check, hint", id="imports"),
        new_code_cell("def double(x):\n    \"\"\"x[n] -> [n]\"\"\"\n    ### BEGIN SOLUTION\n    y = x + x\n\n"
                      "    # right\n    return y\n    ### END SOLUTION", id="one"),
        new_code_cell('check("99.1", double)', id="one-check"),
        new_code_cell("class Counter:\n    ### BEGIN SOLUTION\n    value = 0\n    ### END SOLUTION", id="two"),
        new_code_cell('check("99.2", Counter)', id="two-check"),
    ]
    (tmp_path / "solutions").mkdir()
    nbformat.write(new_notebook(cells=cells), tmp_path / "solutions" / "99_toy.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sources(path):
    return {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}


def test_the_course_has_not_drifted():
    """CI fails here when solutions/ was edited and `minilm release` not run."""
    result = subprocess.run([sys.executable, "-m", "minilm.cli", "release", "--check"], cwd=ROOT, capture_output=True,
                            text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.returncode == 0, result.stdout + result.stderr


def test_release_takes_answers_out_and_marks_cells(course):
    """Guards a handout with an answer in it, and cells that nbgrader does not know."""
    assert run() == 0
    cells = sources("exercises/99_toy.ipynb")
    assert cells["one"].source == (
        'def double(x):\n    """x[n] -> [n]"""\n    # YOUR CODE HERE (about 2 lines)\n    raise NotImplementedError(\n'
        '        "99.1 Double is yours to write: return x[n] times two"\n    )')
    assert cells["one"].metadata.nbgrader.solution and not cells["one"].metadata.nbgrader.grade
    test = cells["two-check"].metadata.nbgrader
    assert (test.grade, test.locked, test.points, test.grade_id) == (True, True, 2, "ex_99_2_check")
    compile(cells["one"].source, "stub", "exec")


def test_release_is_byte_stable_and_check_sees_drift(course, capsys):
    """Guards a CI that cries wolf, and one that sleeps."""
    assert run("--check") == 1
    assert not Path("exercises").exists(), "--check writes nothing"
    run()
    first = Path("exercises/99_toy.ipynb").read_bytes(), Path("solutions/99_toy.ipynb").read_bytes()
    run()
    assert first == (Path("exercises/99_toy.ipynb").read_bytes(), Path("solutions/99_toy.ipynb").read_bytes())
    assert run("--check") == 0
    path = Path("exercises/99_toy.ipynb")
    path.write_text(path.read_text().replace("about 2 lines", "about 3 lines"))
    capsys.readouterr()
    assert run("--check") == 1
    shown = capsys.readouterr()
    assert "about 3 lines" in shown.out and "minilm release" in shown.err


@pytest.mark.parametrize(("change", "words"), [
    (lambda cells: cells.pop(3), "without a check cell between"),
    (lambda cells: cells.pop(), "no check cell after"),
    (lambda cells: cells[3].update(source='check("99.8", double)'), "no exercise 99.8"),
    (lambda cells: cells[2].update(source=cells[2].source.replace("double", "twice")), "doesn't define double"),
    (lambda cells: cells[2].update(source=cells[2].source.replace("    ### END SOLUTION", "")), "no end solution"),
    (lambda cells: cells[0].update(source="### BEGIN SOLUTION\nx\n### END SOLUTION"), "non-solution cell"),
])
def test_malformed_solutions_are_named(course, capsys, change, words):
    """One clear line for an author, and no half-released notebook."""
    nb = nbformat.read("solutions/99_toy.ipynb", as_version=4)
    change(nb.cells)
    nbformat.write(nb, "solutions/99_toy.ipynb")
    assert run() == 1
    assert words in capsys.readouterr().err
    assert not Path("exercises/99_toy.ipynb").exists()


def test_without_nbgrader_one_line(course, monkeypatch, capsys):
    """Learners don't have nbgrader; an instructor without it is told what to install."""
    monkeypatch.setitem(sys.modules, "nbgrader", None)
    assert run() == 1
    assert capsys.readouterr().err.strip() == release.MISSING


def test_no_solutions_here(tmp_path, monkeypatch, capsys):
    """Run in the wrong folder."""
    monkeypatch.chdir(tmp_path)
    assert run() == 1
    assert "no notebooks named" in capsys.readouterr().err


def nbgrader(*words, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(cwd), "JUPYTER_CONFIG_DIR": str(cwd / "config")}
    environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment["PATH"]  # nbgrader runs alembic
    environment.pop("MINILM_STRICT", None)
    result = subprocess.run([sys.executable, "-m", "nbgrader", *words], cwd=cwd, capture_output=True, text=True,
                            env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def test_nbgrader_autogrades_the_same_files(tmp_path):
    """The whole way: generate, two submissions, autograde, export. One emptied the test cells, one faked a test."""
    name = "01_gpt_from_scratch"
    assert run("--check", "--source", ROOT / "solutions", "--target", ROOT / "exercises", "--course", tmp_path) == 0
    nbgrader("generate_assignment", name, cwd=tmp_path)
    released = tmp_path / "release" / name / f"{name}.ipynb"
    handout = ROOT / "exercises" / f"{name}.ipynb"
    assert nbformat.read(released, as_version=4) == nbformat.read(handout, as_version=4)

    solved = nbformat.read(ROOT / "solutions" / f"{name}.ipynb", as_version=4)
    answers = {cell.metadata.nbgrader.grade_id: cell.source for cell in solved.cells if "nbgrader" in cell.metadata}
    for student in ("bob", "cy"):
        nb = nbformat.read(handout, as_version=4)
        for cell in nb.cells:
            meta = cell.metadata.get("nbgrader", {})
            if meta.get("solution") and student != "cy":
                cell.source = answers[meta["grade_id"]]
            if meta.get("grade") and student == "bob":
                cell.source = ""  # autograde puts the test back
            if meta.get("grade") and student == "cy":
                cell.source = "print('passed')"
        folder = tmp_path / "submitted" / student / name
        folder.mkdir(parents=True)
        nbformat.write(nb, folder / f"{name}.ipynb")
    nbgrader("autograde", name, cwd=tmp_path)
    nbgrader("export", "--to", "scores.csv", cwd=tmp_path)
    with open(tmp_path / "scores.csv") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    most = float(rows["bob"]["max_score"])
    assert most == sum(cell.metadata.nbgrader.get("points", 0) for cell in solved.cells if "nbgrader" in cell.metadata)
    assert [float(rows[student]["score"]) for student in ("bob", "cy")] == [most, 0]
