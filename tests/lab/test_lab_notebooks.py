"""The notebook runner: two runs the same, and no error goes unseen."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from minilm.lab import notebooks


def write(path, *sources):
    cells = [new_code_cell(source, id=f"c{i}") for i, source in enumerate(sources)]
    path.write_text(nbformat.writes(new_notebook(cells=cells)))
    return path


def test_two_runs_change_nothing(tmp_path, capsys):
    """Guards noise in git: widgets, timings, streams, random SVG ids."""
    path = write(
        tmp_path / "a.ipynb",
        "import ipywidgets as W\nslider = W.IntSlider(max=3)\nslider",
        "import sys\nfor i in range(3):\n    print(i, flush=True)",
        "# NBVAL_IGNORE_OUTPUT\nimport time\nprint(time.perf_counter())",
        "import random\nfrom IPython.display import SVG\ni = f'p{random.getrandbits(40):010x}'\n"
        "SVG(f'<svg xmlns=\"http://www.w3.org/2000/svg\"><g id=\"{i}\"/><use href=\"#{i}\"/></svg>')",
        "import os\nprint(os.environ['MINILM_PROGRESS'])",
    )
    assert notebooks.main(["execute", str(path)]) == 0
    first = path.read_text()
    assert notebooks.main(["execute", str(path)]) == 0
    assert path.read_text() == first
    assert "stored" in (out := capsys.readouterr().out) and "unchanged" in out
    nb = json.loads(first)
    assert nb["metadata"] == {"kernelspec": notebooks.KERNEL} and notebooks.WIDGET_VIEW not in first
    assert [cell["id"] for cell in nb["cells"]] == ["c0", "c1", "c2", "c3", "c4"]
    assert nb["cells"][1]["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["0\n", "1\n", "2\n"]}]
    assert nb["cells"][4]["outputs"][0]["text"] == ["off\n"]
    assert notebooks.main(["check", str(path)]) == 0


@pytest.mark.parametrize(("source", "words"), [
    ("x = 1\n1 / 0", "ZeroDivisionError: division by zero"),
    ("import os\nos._exit(1)", "kernel died"),
    ("import time\ntime.sleep(60)", "time limit"),
    ("import ipywidgets as W\nout = W.Output()\n@out.capture()\ndef f(change): 1 / 0\ns = W.IntSlider()\n"
     "s.observe(f, 'value')\ns.value = 3\nout", "widget callback raised ZeroDivisionError"),
    ("from minilm.lab import check\ncheck('55.1', len)", "no exercise 55.1"),
], ids=["error", "dead kernel", "timeout", "callback", "unknown exercise"])
def test_errors_are_named_and_the_file_is_left(tmp_path, capsys, source, words):
    """A lesson that fails must not be stored as if it ran."""
    path = write(tmp_path / "b.ipynb", source)
    before = path.read_text()
    assert notebooks.main(["execute", str(path), "--timeout", "6"]) == 1
    assert words in capsys.readouterr().err
    assert path.read_text() == before


def test_ids_are_made_stable_and_unique(tmp_path):
    """nbformat would give a cell without an id a random one at each reading."""
    path = write(tmp_path / "c.ipynb", "1", "2", "3")
    raw = json.loads(path.read_text())
    del raw["cells"][0]["id"]
    raw["cells"][2]["id"] = raw["cells"][1]["id"]
    path.write_text(json.dumps(raw))
    ids = [cell.id for cell in notebooks.load(path).cells]
    assert ids == [cell.id for cell in notebooks.load(path).cells] and len(set(ids)) == 3


@pytest.mark.parametrize("junk", ["", "{", "[]", "{}", '{"cells": 3}', '{"cells": [{}], "metadata": {}}'])
def test_junk_is_one_clear_error(tmp_path, junk):
    """Guards tracebacks for a truncated download."""
    path = tmp_path / "d.ipynb"
    path.write_text(junk)
    with pytest.raises(notebooks.NotebookError, match="not a readable notebook"):
        notebooks.load(path)


def test_check_names_what_is_not_normalised(tmp_path, capsys):
    """CI can refuse a notebook saved by hand."""
    path = write(tmp_path / "e.ipynb", "1")
    nb = nbformat.read(path, as_version=4)
    nb.cells[0].metadata["execution"] = {"iopub.execute_input": "2026"}
    nbformat.write(nb, path)
    assert notebooks.main(["check", str(path)]) == 1
    assert "not normalised" in capsys.readouterr().out
