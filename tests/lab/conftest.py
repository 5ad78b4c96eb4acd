"""The workshop's tests run on chapter 99, without a progress file, and outside strict mode."""

import chapter99
import pytest

from minilm.lab import record, workshop
from minilm.lab.exercise import exercises, forget, registering


@pytest.fixture(autouse=True)
def toy_chapter(monkeypatch):
    """Exercises 99.1 to 99.4, no progress file, no strict mode, no hints shown yet."""
    with registering("99"):
        chapter99.define()
    monkeypatch.setenv("MINILM_PROGRESS", "off")
    monkeypatch.setattr(record, "_SESSION", {})
    monkeypatch.setattr(workshop, "_shown", {})
    monkeypatch.setattr(workshop, "_STRICT", False)
    yield {ex.id: ex for ex in exercises("99")}
    forget("99")


@pytest.fixture
def make_notebook(tmp_path):
    """make_notebook("ann", {"ex_99_1": source}, before=..., after=...) -> path of a submission of all four."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    def make(name, answers=None, before="import torch", after=""):
        cells = [new_code_cell(before)]
        for grade_id, source in {**chapter99.SOLUTIONS, **(answers or {})}.items():
            if source is not None:
                meta = {"nbgrader": {"grade_id": grade_id, "solution": True, "grade": False, "locked": False}}
                cells.append(new_code_cell(source, metadata=meta))
        cells.append(new_code_cell(after))
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=cells), path)
        return path

    return make
