"""Exercises whose answer is a Triton kernel: launched here and in the grader's process, its mistakes told in words."""
import linecache

import nbformat
import pytest
import torch

from minilm.kernels.backend import tl, triton
from minilm.lab import kernel
from minilm.lab.exercise import exercises
from minilm.lab.expect import Failed
from minilm.lab.grade import grade, session_starter
from minilm.lab.trial import Answer, LearnerError, run_exercise

pytestmark = pytest.mark.skipif(not triton.__version__, reason="there is no Triton for this system")

HEAD = "@triton.jit\ndef axpb_kernel(x, out, a, b, N, TILE: tl.constexpr):\n"
RIGHT = HEAD + """    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(out + offsets, a * tl.load(x + offsets, mask=offsets < N) + b, mask=offsets < N)
"""


def told(source: str):
    """The result of 09.1 on an answer written like this."""
    linecache.cache["<answer kernel>"] = (len(source), None, source.splitlines(True), "<answer kernel>")
    space = {"tl": tl, "triton": triton}
    exec(compile(source, "<answer kernel>", "exec"), space)
    return run_exercise(exercises("09")[0], space["axpb_kernel"])


def test_a_kernel_is_launched():
    assert told(RIGHT).solved


def test_a_stub_in_a_kernel_is_not_an_error():
    """Guards Triton's own error, which wraps the stub's."""
    assert told(HEAD + "    raise NotImplementedError('09.1 is yours to write')\n").state == "not attempted"


def test_an_error_in_a_kernel_names_the_learners_line():
    """Guards an InterpreterError without a place, and line numbers that Triton's rewriting shifts."""
    mistake = told(HEAD + "    offsets = tl.arange(0, TILE)\n    tl.store(out + offsets, offsetts)\n").mistake
    assert mistake == ("your code raised NameError: name 'offsetts' is not defined, line 4 of the cell "
                       "(`tl.store(out + offsets, offsetts)`)")


@pytest.mark.parametrize(("source", "words"), [
    (RIGHT.removeprefix("@triton.jit\n"), "keep @triton.jit above its def"),
    (RIGHT.replace("N, TILE:", "n, TILE:").replace("< N", "< n"), "it should take (x, out, a, b, N, TILE)"),
    ("axpb_kernel = 3", "give the function itself"),
])
def test_what_is_no_such_kernel_is_told(source, words):
    assert words in told(source).mistake


def test_too_late_is_told(monkeypatch):
    """Guards Triton's word for a machine without a GPU, which nobody understands."""
    class Answer:
        arg_names, shown, function = ["x"], "", None

        def __getitem__(self, grid):
            def launched(*args):
                raise RuntimeError("0 active drivers ([]). There should only be one.")
            return launched

    with pytest.raises(LearnerError, match="restart the kernel"):
        kernel.launch(Answer(), (1,), x=kernel.memory(torch.ones(3)))


def test_memory_tells_what_was_written():
    """Guards a fence with holes: every place but the rows' own is watched."""
    rows = torch.arange(6.0).reshape(2, 3)
    laid = kernel.memory(rows, row=5)
    assert laid.places().equal(rows) and laid.flat[3:5].tolist() == [kernel.NOBODYS] * 2
    out = kernel.empty((2, 3), row=5)
    with pytest.raises(Failed, match="never written"):
        out.rows()
    out.places().copy_(rows)
    assert out.rows().equal(rows)
    for place in (3, 4, 8, len(out.flat) - 1):
        spoilt = kernel.empty((2, 3), row=5)
        spoilt.places().copy_(rows)
        spoilt.flat[place] = 0
        with pytest.raises(Failed, match="mask the store") as error:
            spoilt.rows()
        assert f"first at place {place}" in error.value.facts[0][1]


def notebook(path, *cells):
    """A submission: the imports, helper cells, and an answer to 09.1."""
    start = "import triton\nimport triton.language as tl"
    made = [nbformat.v4.new_code_cell(source) for source in (start, *cells)]
    made[-1].metadata["nbgrader"] = {"grade_id": "ex_09_1", "solution": True, "grade": False, "locked": False}
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


def test_kernels_are_graded_in_their_own_process(tmp_path):
    """Guards outputs that don't come back over the pipe, and helpers whose sources are taken for one another."""
    helpers = ["@triton.jit\ndef twice(t):\n    return t * 2\n", "@triton.jit\ndef half(t):\n    return t / 2\n"]
    answer = RIGHT.replace("a * tl.load(x + offsets, mask=offsets < N)",
                           "twice(half(a * tl.load(x + offsets, mask=offsets < N)))")
    start = session_starter(cpu_seconds=60, memory_bytes=2 << 30)
    score = grade(notebook(tmp_path / "09_ann.ipynb", *helpers, answer), start)
    assert score.points["09.1"] == 1, score
    score = grade(notebook(tmp_path / "09_bob.ipynb", answer), start)
    assert score.points["09.1"] == 0 and "name 'twice' is not defined" in score.remarks["09.1"]
    score = grade(notebook(tmp_path / "09_cy.ipynb", RIGHT.replace(", mask=offsets < N)\n", ")\n")), start)
    assert "behind the end of out" in score.remarks["09.1"]


def test_writing_into_an_input_is_told():
    """Guards a right answer that spoils what it reads."""
    spoils = "    tl.store(x + offsets, tl.load(x + offsets, mask=offsets < N) * 2, mask=offsets < N)\n"
    assert "writes into x, which is there to be read" in told(RIGHT + spoils).mistake


@pytest.mark.parametrize(("line", "advice"), [
    ("out[tl.program_id(0)] = 1", "tl.load and tl.store in place of x[i]"),
    ("offsets = tl.program_id(0) + torch.arange(TILE)", "PyTorch's don't know tiles"),
    ("offsets = tl.arange(0, N)", "with TILE: tl.constexpr"),
])
def test_errors_that_only_triton_understands_come_with_advice(line, advice):
    """Guards "'int' object is not iterable" as all that a learner gets."""
    source = HEAD + f"    {line}\n"
    linecache.cache["<answer kernel>"] = (len(source), None, source.splitlines(True), "<answer kernel>")
    space = {"tl": tl, "triton": triton, "torch": torch}
    exec(compile(source, "<answer kernel>", "exec"), space)
    mistake = run_exercise(exercises("09")[0], space["axpb_kernel"]).mistake
    assert advice in mistake and "line 3 of the cell" in mistake


@pytest.mark.skipif(torch.cuda.is_available(), reason="loads are counted in the interpreter")
def test_loads_are_counted_and_tl_is_put_back():
    """Guards a stand-in for tl that outlives the launch, an error in it too, and a count that is always right."""
    source = HEAD + """    i = tl.arange(0, TILE)
    t = tl.load(x + i) + tl.load(x + i, mask=i < N)
    tl.store(out + i, tt)
"""
    for text, fails in ((source, True), (source.replace("tt", "t"), False)):
        linecache.cache["<answer kernel>"] = (len(text), None, text.splitlines(True), "<answer kernel>")
        space = {"tl": tl, "triton": triton}
        exec(compile(text, "<answer kernel>", "exec"), space)
        answer = Answer(space["axpb_kernel"], "axpb_kernel(x, out, a, b, N, TILE)")
        laid = {"x": kernel.memory(torch.ones(4)), "out": kernel.empty((4,)), "a": 1.0, "b": 0.0, "N": 4, "TILE": 4}
        if fails:
            with pytest.raises(Exception, match="tt"):
                kernel.launch(answer, (3,), **laid)
        else:
            loads = kernel.launch(answer, (3,), **laid)
            assert (loads.count, loads.unmasked) == (6, 3) and {"arange", "store"} <= loads.used
        assert space["tl"] is tl and not any(name.startswith("_triton") for name in space)
