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


def test_each_method_has_its_own_length(course):
    """Guards a class whose total length stands at each of its methods."""
    begin, end = "        ### BEGIN SOLUTION\n", "        ### END SOLUTION\n"
    source = (f"class Counter:\n    def add(self, n):\n{begin}        self.value += n\n{end}\n"
              f"    def take(self, n):\n{begin}        # first\n        self.value -= n\n\n        return n\n{end}")
    nb = nbformat.read("solutions/99_toy.ipynb", as_version=4)
    next(cell for cell in nb.cells if cell.id == "two").source = source
    nbformat.write(nb, "solutions/99_toy.ipynb")
    assert run() == 0
    stub = sources("exercises/99_toy.ipynb")["two"].source
    assert [line.strip() for line in stub.split("\n") if "YOUR CODE" in line] == [
        "# YOUR CODE HERE (about 1 line)", "# YOUR CODE HERE (about 2 lines)"]
    assert "@@" not in stub and stub.count("raise NotImplementedError(") == 2


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


ANSWER = """import torch


def rms_norm(x, weight, eps=1e-6):
    ### BEGIN SOLUTION
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight
    ### END SOLUTION
"""


def test_nbgrader_autogrades_the_same_files(tmp_path):
    """The whole way: generate, two submissions, autograde, export. One emptied the test cell, one faked it."""
    source, handouts, course = (tmp_path / name for name in ("solutions", "exercises", "course"))
    source.mkdir()
    cells = [new_code_cell("from minilm.lab import check", id="a"), new_code_cell(ANSWER.strip(), id="b"),
             new_code_cell('check("01.1", rms_norm)', id="c")]
    nbformat.write(new_notebook(cells=cells), source / "01_toy.ipynb")
    assert run("--source", source, "--target", handouts, "--course", course) == 0
    nbgrader("generate_assignment", "01_toy", cwd=course)
    handout = nbformat.read(handouts / "01_toy.ipynb", as_version=4)
    assert nbformat.read(course / "release" / "01_toy" / "01_toy.ipynb", as_version=4) == handout
    assert "BEGIN SOLUTION" not in nbformat.writes(handout)

    for student, answer, test in (("ann", ANSWER, ""), ("bob", handout.cells[1].source, "print('passed')")):
        nb = nbformat.read(handouts / "01_toy.ipynb", as_version=4)
        nb.cells[1].source, nb.cells[2].source = answer, test  # autograde puts the test back
        folder = course / "submitted" / student / "01_toy"
        folder.mkdir(parents=True)
        nbformat.write(nb, folder / "01_toy.ipynb")
    nbgrader("autograde", "01_toy", cwd=course)
    nbgrader("export", "--to", "scores.csv", cwd=course)
    with open(course / "scores.csv") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert {name: (float(row["score"]), float(row["max_score"])) for name, row in rows.items()} == {
        "ann": (1.0, 1.0), "bob": (0.0, 1.0)}
