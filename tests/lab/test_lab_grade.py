"""`minilm grade` against honest learners and against cheats, each in a real process."""

import argparse
import contextlib
import csv
import os
import socket
import sys
import textwrap
import threading
import time
from pathlib import Path

import nbformat
import pytest
import torch
from chapter99 import SOLUTIONS

from minilm.lab import grade as grading
from minilm.lab import sandbox, submission, wire
from minilm.lab.exercise import chapters, exercises
from minilm.lab.notebooks import NotebookError

ROOT = Path(__file__).resolve().parents[2]
start = grading.session_starter(cpu_seconds=20, memory_bytes=2 << 30)
NAMES = (("ex_99_1", "double"), ("ex_99_2", "Counter"), ("ex_99_3", "follow"), ("ex_99_4", "extend"))
FULL = {"99.1": 1.0, "99.2": 2.0, "99.3": 1.0, "99.4": 1.0}
ZERO = dict.fromkeys(FULL, 0.0)


@pytest.fixture(scope="module")
def walls():
    """Which walls this system gives."""
    with start() as session:
        return session.held


def score(path, **options):
    return grading.grade(path, start, **options)


def test_honest_solutions_get_all_points(make_notebook):
    """A function, a class, a callback into the grader's own object, a mutation and an exception all cross the pipe."""
    result = score(make_notebook("ann"))
    assert result.points == FULL, result.remarks
    assert result.total == 5 and not result.error


def test_models_and_caches_cross_the_pipe():
    """A model arrives whole, and what an answer does to a cache is seen on this side."""
    from minilm.cache import KVCache
    from minilm.model import GPT, GPTConfig

    config = GPTConfig(vocab_size=50, num_layers=2, width=16, num_heads=2, num_kv_heads=1, head_size=8, mlp_width=32,
                       max_positions=32)
    model, ids = GPT(config).eval(), torch.arange(5)[None]
    cache, ours = KVCache(config, capacity=16), KVCache(config, capacity=16)
    with torch.no_grad(), start() as session:
        session.run("def fill(model, ids, cache):\n    return model(ids, cache)", "x", 10)
        logits = session.function("fill", "fill(model, ids, cache)")(model, ids, cache)
        assert torch.allclose(logits, model(ids, ours), atol=1e-6)
        assert cache.length == 5 and torch.allclose(cache.keys(1), ours.keys(1), atol=1e-6)
        assert torch.allclose(model(ids[:, :1], cache), model(ids[:, :1], ours), atol=1e-6)


@pytest.mark.parametrize("chapter", [name for name in chapters() if name != "99"])
def test_every_solution_of_the_course_gets_all_points(chapter):
    """Guards an exercise that works in a notebook but whose values don't cross the pipe."""
    (path,) = ROOT.glob(f"solutions/{chapter}_*.ipynb")
    result = score(path)
    assert result.points == {ex.id: ex.points for ex in exercises(chapter)}, result.remarks


def test_wrong_and_missing_answers_are_told_apart(make_notebook):
    """Guards a row that only says 0."""
    result = score(make_notebook("bo", {
        "ex_99_1": "def double(x):\n    return x * x",
        "ex_99_2": "class Counter:\n    def __init__(self):\n        raise NotImplementedError('yours')",
        "ex_99_3": None,
        "ex_99_4": "def extend(items, item)\n    return items",
    }))
    assert result.points == ZERO
    assert result.remarks["99.1"] == "you are probably squaring"
    assert result.remarks["99.2"] == "not attempted"
    assert result.remarks["99.3"] == "no answer cell"
    assert "SyntaxError" in result.remarks["99.4"]


def test_helpers_imports_magics_and_lost_metadata(make_notebook):
    """Answers may lean on the learner's other cells; Colab drops metadata; cells hold magics."""
    path = make_notebook("cy", {
        "ex_99_1": "%matplotlib inline\ndef double(x):\n    return helper(x) * FACTOR + math.sin(0)",
        "ex_99_3": "def follow(script, limit, count):\n    assert double(torch.ones(1)).item() == 2\n"
                   "    return [script.next(list(range(n))) for n in range(count) if limit(n)]",
    }, before="%time 1\nimport math\nimport torch\nFACTOR = 2\ndef helper(x):\n    return x\n1 / 0\nprint('hi')")
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        cell.metadata.pop("nbgrader", None)
    nbformat.write(nb, path)
    assert score(path, chapter="99").points == FULL


@pytest.mark.parametrize("first", ["import math", "from __future__ import annotations"])
def test_dataclasses_and_annotations_of_what_is_not_graded(make_notebook, first):
    """Guards honest code that looks up its own module, and names of a cell that grading leaves out."""
    path = make_notebook("di", {
        "ex_99_1": "@dataclass\nclass Two:\n    factor: int = 2\n    seen: Tokens = field(default_factory=list)\n"
                   "def double(x: Tokens) -> Tokens:\n    return x * Two().factor",
    }, before=f"{first}\nfrom dataclasses import dataclass, field\nTokens = list[int]")
    result = score(path)
    assert result.points == FULL, result.remarks


# Three notebooks of four cheats each, one for each exercise; NAME is the function's name. None of them does the task.
CHEATS = {
    "quiet": {
        "redefines check": """
            from minilm.lab import trial, workshop
            for module in (workshop, trial):
                module.check = module.run_exercise = module.run_check = lambda *args: "solved"
            NAME = lambda *args: args[0] if args else 0""",
        "prints passed": """
            import sys
            for file in (sys.stdout, sys.stderr, sys.__stdout__):
                print("solved, all checks hold", file=file, flush=True)
            NAME = lambda *args: print("passed")""",
        "is equal to everything": """
            class Same:
                shape = (2,)
                def __eq__(self, other): return True
                def __len__(self): return 3
            NAME = lambda *args: Same()""",
        "looks for the answer in memory": """
            import gc
            def NAME(*args):
                found = [o["want"] for o in gc.get_objects() if isinstance(o, dict) and "want" in o]
                return found[0] if found else args""",
    },
    "violent": {
        "exits": "import sys\ndef NAME(*args): sys.exit(0)",
        "exits hard": "import os\ndef NAME(*args): os._exit(0)",
        "exits hard at once": "import os\nos._exit(0)",
        "returns what runs code when unpickled": """
            import os
            class Evil:
                def __reduce__(self): return (os._exit, (0,))
            NAME = lambda *args: [Evil(), Evil()]""",
    },
    "greedy": {
        "loops and swallows everything": """
            def NAME(*args):
                while True:
                    try:
                        while True: pass
                    except BaseException: pass""",
        "eats memory": """
            def NAME(*args):
                keep = []
                while True: keep.append(bytearray(1 << 28))""",
        "announces a huge message": """
            import os, struct
            for fd in range(3, 30):
                try: os.write(fd, struct.pack("<Q", 1 << 60))
                except OSError: pass
            NAME = lambda *args: args""",
        "writes its own verdict to every pipe": """
            import json, os, struct
            head = json.dumps({"tree": ["dict", ["value", True], ["solved", True]], "sizes": []}).encode()
            message = struct.pack("<Q", len(head)) + head
            for fd in range(3, 30):
                for _ in range(9):
                    try: os.write(fd, struct.pack("<Q", len(message)) + message)
                    except OSError: pass
            NAME = lambda *args: args""",
    },
}


@pytest.mark.parametrize("group", CHEATS)
def test_cheats_get_nothing(group, make_notebook):
    """No cheat earns a point, each gets a reason, and the grader neither hangs nor stops."""
    before = time.monotonic()
    answers = {grade_id: textwrap.dedent(source).strip().replace("NAME", name)
               for (grade_id, name), source in zip(NAMES, CHEATS[group].values(), strict=True)}
    result = score(make_notebook(group, answers))
    assert result.points == ZERO and not result.error
    assert set(result.remarks) == set(ZERO) and all(result.remarks.values()), result.remarks
    assert time.monotonic() - before < 120


def test_patching_torch_patches_only_their_own(make_notebook):
    """Comparison happens in the grader, with the grader's torch."""
    patch = ("import torch, minilm.lab.values as values\nvalues.difference = lambda *a, **k: None\n"
             "torch.allclose = torch.equal = lambda *a, **k: True\n"
             "torch.Tensor.__eq__ = lambda a, b: torch.ones(a.shape, dtype=torch.bool)\ndouble = lambda x: x")
    assert score(make_notebook("patch", {"ex_99_1": patch})).points["99.1"] == 0


def test_the_answers_after_a_crash_are_graded(make_notebook):
    """An answer that kills the process costs its own points only."""
    assert score(make_notebook("crash", {"ex_99_1": "import os\nos._exit(0)"})).points == {**FULL, "99.1": 0.0}


def test_edited_test_cells_change_nothing(make_notebook):
    """The test cells of a submission are not run at all."""
    path = make_notebook("ed", {"ex_99_1": "double = lambda x: x"})
    nb = nbformat.read(path, as_version=4)
    meta = {"nbgrader": {"grade": True, "locked": True, "grade_id": "ex_99_1_check", "points": 100}}
    nb.cells.append(nbformat.v4.new_code_cell("double = lambda x: 2 * x\nprint('passed')", metadata=meta))
    nbformat.write(nb, path)
    result = score(path)
    assert result.points["99.1"] == 0 and result.total == 4


def probe(make_notebook, *bodies):
    """Run up to four bodies in a learner's process; the exception that each raised, as the remark tells it."""
    answers = dict.fromkeys(SOLUTIONS)
    for (grade_id, name), body in zip(NAMES, bodies, strict=False):
        answers[grade_id] = f"def {name}(*args):\n" + "".join(f"    {line}\n" for line in body.split("\n"))
    remarks = score(make_notebook("probe", answers)).remarks
    return [remarks[grade_id[3:].replace("_", ".")] for (grade_id, _), _ in zip(NAMES, bodies, strict=False)]


def test_no_network(make_notebook, walls):
    """A learner's code must not send the class's work away; only asserted where the system has namespaces."""
    if not walls["network"]:
        pytest.skip("no network namespaces here; `minilm grade` says so")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        remark = probe(make_notebook, f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)")
    assert "OSError" in remark[0] or "refused" in remark[0] or "unreachable" in remark[0]


def test_no_writing_and_no_neighbours(make_notebook, walls, tmp_path):
    """Guards the scores file, the package, other submissions and the grader itself."""
    target = tmp_path / "scores.csv"
    target.write_text("precious")
    writes = probe(make_notebook, f"with open({str(target)!r}, 'r+') as f: f.write('x' * 9)",
                   f"import os\nos.unlink({str(target)!r})",
                   "import ctypes\nassert ctypes.CDLL(None).mount(None, b'/', None, 0x1020, None) == 0, 'kept'")
    assert "OSError" in writes[0]
    if walls["files"]:
        assert target.read_text() == "precious" and "Read-only" in writes[1] and "kept" in writes[2]
    kill, mem = probe(make_notebook, f"import os\nos.kill({os.getpid()}, 0)", f"open('/proc/{os.getpid()}/mem', 'rb')")
    if walls["processes"]:
        assert "ProcessLookupError" in kill and "PermissionError" in mem


def test_environment_is_stripped(make_notebook, monkeypatch):
    """Tokens in the instructor's shell are not the learners' to read."""
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    remark = probe(make_notebook, "import os\nraise ValueError(str(sorted(os.environ)))")
    assert "SECRET_TOKEN" not in remark[0] and "HOME" in remark[0]


def test_no_process_outlives_its_notebook(make_notebook):
    """A learner's fork must not stay behind."""
    mark = f"minilm-orphan-{os.getpid()}"
    sleep = "import time; time.sleep(60)"
    source = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {sleep!r}, {mark!r}])\n"
    score(make_notebook("fork", {"ex_99_1": source + "double = lambda x: 2 * x"}))
    if sys.platform.startswith("linux"):
        deadline = time.monotonic() + 20  # the system takes them down in its own time
        while _running(mark) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _running(mark)


def _running(mark):
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                return True
    return False


def test_unreadable_notebooks_get_a_row_and_the_rest_is_graded(make_notebook, tmp_path, capsys):
    """One broken upload out of 200 must not stop the night's run."""
    good = make_notebook("=good")
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / "list.ipynb").write_text("[]")
    (tmp_path / "other.ipynb").write_text(nbformat.writes(nbformat.v4.new_notebook()))
    parser = argparse.ArgumentParser()
    grading.add_arguments(parser)
    out = tmp_path / "scores.csv"
    missing = tmp_path / "missing.ipynb"
    monkey = [str(tmp_path), str(missing), "--csv", str(out)]
    assert grading.run(parser.parse_args(monkey)) == 1
    with open(out) as file:
        rows = {Path(row["notebook"]).name: row for row in csv.DictReader(file)}
    assert len(rows) == 5
    assert rows[good.name]["total"] == rows[good.name]["out of"] == "5"
    for name in ("broken.ipynb", "list.ipynb", "missing.ipynb"):
        assert "not a readable notebook" in rows[name]["remarks"] and rows[name]["total"] == ""
    assert "no exercises of this course" in rows["other.ipynb"]["remarks"]


def test_bad_options():
    """One clear ValueError each."""
    parser = argparse.ArgumentParser()
    grading.add_arguments(parser)
    for words, message in ((["x", "--chapter", "1"], "no exercises in chapter"), (["x", "--memory", "0"], "positive")):
        with pytest.raises(ValueError, match=message):
            grading.run(parser.parse_args(words))


def test_spreadsheet_formulas_are_defused():
    """A learner chooses the file's name and the text of an exception; a spreadsheet must not run it."""
    score = grading.Score("=cmd()", remarks={"99.1": "x\ny"}, points={"99.1": 0.0})
    line = grading.to_csv([score]).splitlines()[1]
    assert line.startswith("'=cmd()") and "x y" in line


def test_reading_never_runs(make_notebook):
    """The notebook is parsed, not executed, in the grader."""
    before = "import sys\nsys.exit(1)\nX = [1, 2]\nY = sys.exit()"
    path = make_notebook("x", {"ex_99_1": "raise SystemExit"}, before=before)
    found = submission.read(path)
    assert found.helpers == ["import sys", "X = [1, 2]"]
    with pytest.raises(NotebookError):
        submission.read(path.with_name("no.ipynb"))


@pytest.mark.parametrize("value", [
    None, True, 3, 2.5, float("inf"), "text", [1, [2.0, None]], (1, "a"), {"k": (1, 2)}, {1, 2}, torch.float32,
    torch.arange(6).reshape(2, 3), torch.tensor(2.5, dtype=torch.bfloat16), torch.empty(0, 3),
    (torch.arange(12) / 7).reshape(3, 4).T, torch.tensor([True, False]),
], ids=repr)
def test_plain_values_cross_unchanged(value):
    """Guards an honest answer that is marked wrong for how it travelled."""
    back = wire.decode(wire.encode(value), None)
    assert type(back) is type(value)
    assert torch.equal(back, value) and back.dtype == value.dtype if torch.is_tensor(value) else back == value


def test_malformed_messages_are_refused():
    """Random edits of a message give a WireError or another plain value, nothing else (false alarms: none)."""
    good = bytearray(wire.encode({"value": torch.arange(4), "s": ("a", 1)}))
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        bad = bytearray(good)
        at = int(torch.randint(len(bad), (), generator=generator))
        bad[at] = int(torch.randint(256, (), generator=generator))
        try:
            wire.decode(bytes(bad), lambda *a: a)
        except wire.WireError:
            pass


def test_end_of_pipe_and_size_limit():
    """A dead or greedy process is a WireError, not a hang or 2^60 bytes."""
    inward, outward = os.pipe()
    threading.Thread(target=os.write, args=(outward, (1 << 60).to_bytes(8, "little"))).start()
    with pytest.raises(wire.WireError, match="too large"):
        wire.read_frame(inward)
    os.close(outward)
    with pytest.raises(wire.WireError, match="ended"):
        wire.read_frame(inward)
    os.close(inward)


def test_limits_are_reported_where_missing():
    """Guards a silent `--require-isolation`."""
    assert set(grading.WALLS) == {"network", "files", "processes", "limits"}
    assert callable(sandbox.shut_in)
