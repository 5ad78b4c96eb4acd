"""The repository as a whole: it speaks of itself alone, its notebooks are executed and small, and it clones fast."""
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MEBI = 2**20
TREE_LIMIT, NOTEBOOK_LIMIT, CELL_LIMIT = 48 * MEBI, 1_500_000, 45  # bytes, bytes, lines of a code cell
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".cfg", ".json", ".ipynb", ".lock", ".txt", ".svg", ".html", ".css", ""}
# Spelt so that this file does not match them: folders that exist on one machine only.
MACHINE_PATH = re.compile(r"(?<![\w.~>)}\]])/(?:work|root|home|Users|opt|mnt)/[\w.]|[A-Z]:\\+Users\\+\w")
TEMPORARY = re.compile(r"(?<![\w.])/(?:tmp|var/folders)/\w")
PACKAGE_INDEX = re.compile(r"https?://[\w.-]+/simple\b|--(?:extra-)?index-url[= ]http|find-links[= ]")


def files_of(root: Path = ROOT) -> list[Path]:
    """What git tracks or would add; every file outside hidden folders where this is no git checkout."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root,
                                capture_output=True, text=True, check=True, encoding="utf-8").stdout.split("\0")
        return [root / name for name in listed if name and (root / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        return [path for path in root.rglob("*") if path.is_file() and not any(
            part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts[:-1])]


def foreign_words(path: Path) -> list[str]:
    """The machine paths and package indexes that a text file mentions, with their lines' numbers."""
    if path.suffix not in TEXT:
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return []
    patterns = (MACHINE_PATH, PACKAGE_INDEX)
    return [f"{path.name}:{number}: {found[0]}" for number, line in enumerate(text.splitlines(), 1)
            for pattern in patterns if (found := pattern.search(line))]


def notebook_faults(path: Path, *, executed: bool) -> list[str]:
    """What is wrong with a notebook: error outputs, machine paths in outputs, long cells, size, cells not executed."""
    faults = []
    if path.stat().st_size >= NOTEBOOK_LIMIT:
        faults.append(f"{path.name}: {path.stat().st_size} bytes")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    for number, cell in enumerate(cells, 1):
        where, outputs = f"{path.name}, code cell {number}", cell["outputs"]
        lines = "".join(cell["source"]).count("\n") + 1
        if lines > CELL_LIMIT:
            faults.append(f"{where}: {lines} lines")
        if any(output["output_type"] == "error" for output in outputs):
            faults.append(f"{where}: an error is stored as its output")
        if TEMPORARY.search(json.dumps(outputs)):
            faults.append(f"{where}: a temporary path in its output")
        if executed and cell["execution_count"] is None:
            faults.append(f"{where}: not executed")
    if executed and cells and not any(cell["outputs"] for cell in cells):
        faults.append(f"{path.name}: no outputs are stored")
    return faults


def notebooks(folder: str) -> list[Path]:
    return [path for path in files_of() if path.suffix == ".ipynb" and path.relative_to(ROOT).parts[0] == folder]


def test_no_file_speaks_of_a_machine():
    """Guards a path or an index that only one machine has, in text, code or a stored output."""
    assert [word for path in files_of() for word in foreign_words(path)] == []


@pytest.mark.parametrize("folder", ["notebooks", "exercises", "solutions"])
def test_notebooks(folder):
    """Lessons are stored executed and every notebook is free of errors, short of cell and small of file."""
    executed = folder == "notebooks"
    assert [fault for path in notebooks(folder) for fault in notebook_faults(path, executed=executed)] == []


def test_the_tree_is_small():
    """Guards weights or figures that every learner would have to clone."""
    total = sum(path.stat().st_size for path in files_of())
    assert total < TREE_LIMIT, f"{total / MEBI:.1f} MiB"


def test_nothing_unwanted_is_tracked():
    """Guards caches, environments and a learner's own files in the repository."""
    unwanted = re.compile(r"(^|/)(\.venv|__pycache__|\.ipynb_checkpoints|\.minilm)/|\.(pyc|gguf|whl|pt|bin|pkl)$")
    names = [path.relative_to(ROOT).as_posix() for path in files_of()]
    assert [name for name in names if unwanted.search(name)] == []


# the checks above can fail

@pytest.mark.parametrize("text", ["see /" + "work/main", "'/" + "home/ann/x'", "C:\\" + "Users\\ann",
                                  "/" + "opt/wheels", "https://index.example/" + "simple/"])
def test_a_machine_path_is_seen(tmp_path, text):
    (tmp_path / "a.md").write_text(f"fine\n{text}\n")
    assert foreign_words(tmp_path / "a.md")


@pytest.mark.parametrize("text", ["a framework/library", "notebooks/00.ipynb", "~/.cache", "./opt/x", "src/home/page"])
def test_ordinary_words_are_let_through(tmp_path, text):
    (tmp_path / "a.md").write_text(text)
    assert foreign_words(tmp_path / "a.md") == []


@pytest.mark.parametrize(("change", "fault"), [
    ({}, None),
    ({"outputs": [{"output_type": "error"}]}, "an error"),
    ({"source": ["x\n"] * 45 + ["x"]}, "46 lines"),
    ({"execution_count": None}, "not executed"),
    ({"outputs": []}, "no outputs"),
    ({"outputs": [{"output_type": "stream", "text": ["/" + "tmp/abc\n"]}]}, "temporary path"),
    ({"source": ["#" * NOTEBOOK_LIMIT]}, "bytes"),
])
def test_a_faulty_notebook_is_seen(tmp_path, change, fault):
    cell = {"cell_type": "code", "source": ["1"], "execution_count": 1,
            "outputs": [{"output_type": "stream", "name": "stdout", "text": ["1"]}]}
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [{**cell, **change}]}))
    faults = notebook_faults(tmp_path / "n.ipynb", executed=True)
    assert not faults if fault is None else len(faults) == 1 and fault in faults[0]
