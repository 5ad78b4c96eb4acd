"""check, hint and progress as a learner meets them."""

import json
import subprocess
import sys
import threading

import pytest
import torch

from minilm.lab import check, hint, progress, record, workshop
from minilm.lab.exercise import Exercise, LabError, agree, expect, registering
from minilm.lab.expect import facts
from minilm.lab.result import CheckFailed
from minilm.lab.steady import CheckTimeout, time_limit
from minilm.lab.trial import Answer, LearnerError, argument_names

EX = {"answer": "f(x)", "task": "t", "hints": ("a", "b", "c")}


def one_check(function, body, **options):
    """The result of an exercise with a single check."""
    ex = Exercise("98.1", "Toy", **EX)
    ex.check("holds", **options)(body)
    from minilm.lab.trial import run_exercise

    return run_exercise(ex, function)


def test_solved_says_what_holds():
    """Guards the display that nbval compares."""
    result = check("99.1", lambda x: 2 * x)
    assert repr(result) == (
        "99.1 Double: solved, all 2 checks hold\n  holds   doubles small rows\n  holds   keeps the shape")
    assert "doubles small rows" in result._repr_html_()


def test_failure_names_the_mistake_and_the_smallest_input():
    """Guards the promise of the course: the likely mistake, with input, got and expected."""
    result = check("99.1", lambda x: x * x)
    text = repr(result)
    assert "You are probably squaring." in text
    assert "input     x = [1, 2]" in text and "got       [1, 4]" in text and "expected  [2, 4]" in text


def test_larger_cases_tell_mistakes_apart():
    """x = [2] is the smallest case, and there x * x = x + 2 = 2 * x: the blame must wait for a case that tells."""
    assert "squaring" in check("99.1", lambda x: x * x).mistake
    assert "adding two" in check("99.1", lambda x: x + 2).mistake


def test_where_tells_of_a_tuples_first_wrong_item():
    """Guards "got tensor of shape (9, 9), expected tensor of shape (9, 9)" as all that is said."""
    right = torch.zeros(9, 9)
    lines = dict(facts((right, right + (torch.arange(81) == 40).view(9, 9)), (right, right)))
    assert lines["where"] == "item 1, furthest at [4, 4]: got 1, expected 0"
    assert dict(facts(right + 1, right))["where"].startswith("furthest at [0, 0]")


def test_stub_reads_not_attempted_and_is_not_a_try():
    """Guards a learner's first impression: an untouched stub is no failure."""
    def stub(x):
        raise NotImplementedError("yours to write")

    result = check("99.1", stub)
    assert result.state == "not attempted" and "return x[n] times two" in repr(result).lower()
    def one_line(x): raise NotImplementedError  # noqa: E704

    assert check("99.1", one_line).state == "not attempted"
    assert record.read() == {}


def test_a_torch_not_implemented_error_is_a_failure():
    """torch raises NotImplementedError for missing kernels; that is not an untouched stub."""
    assert "could not use" in check("99.1", lambda x: x.to("meta")).mistake
    assert "NotImplementedError" in check("99.1", lambda x: x.to("meta").cpu()).mistake


@pytest.mark.parametrize(("answer", "words"), [
    (lambda x: None, "returns None; is a `return` missing?"),
    (lambda x: [2, 4], "returns a list; it should return a tensor of shape (2,)"),
    (lambda x: (2 * x)[None], "has shape (1, 2); it should be (2,)"),
    (lambda x: (2 * x).double(), "has dtype float64; it should be float32"),
    (lambda x: 2 * x * float("nan"), "holds NaN (2 of 2)"),
    (lambda x, y: x, "your function takes (x, y); it should take (x)"),
    (lambda x: x / {}, "your code raised TypeError"),
    (3, "give the function itself"),
    (None, "give the function itself"),
    (SystemExit, "returns a SystemExit"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_odd_answers_get_a_clear_line(answer, words):
    """Guards tracebacks and empty words for what people really pass."""
    case = (torch.tensor([1.0, 2.0]),)
    result = one_check(answer, lambda a: agree(a, lambda x: 2 * x, [case]))
    assert words in result.mistake
    assert "Traceback" not in repr(result)


def test_learners_exception_names_their_line():
    """Guards the one line that helps most: where in the learner's own code."""
    source = "def f(x):\n    y = x + 1\n    return y / 0\n"
    space = {}
    exec(compile(source, "<answer test>", "exec"), space)
    import linecache

    linecache.cache["<answer test>"] = (len(source), None, source.splitlines(True), "<answer test>")
    message = one_check(space["f"], lambda a: a(1)).mistake
    assert message == "your code raised ZeroDivisionError: division by zero, line 3 of the cell (`return y / 0`)"


def test_inputs_are_copies_and_changing_them_is_told():
    """An answer that is right but ruins its input breaks the decoder it is plugged into."""
    x = torch.tensor([1.0, 2.0])
    result = one_check(lambda x: x.mul_(2), lambda a: expect(a(x), torch.tensor([2.0, 4.0])))
    assert "changes its input x in place" in result.mistake
    assert x.tolist() == [1.0, 2.0]


def test_mutating_exercise_sees_the_change():
    """Guards exercises whose task is to change an argument."""
    assert check("99.4", lambda items, item: _extend(items, item)).solved
    assert check("99.4", lambda items, item: items + [item]).state == "failed"


def _extend(items, item):
    if item is None:
        raise ValueError
    items.append(item)
    return items


def test_a_classs_arguments_are_named_as_it_names_them():
    """Guards "argument 1", changes of a class's arguments that nobody sees, and a signature cut to its last letter."""
    class Store:
        def __init__(self, items, /, most=3, *rest):
            items.append(most)

    answer = Answer(Store, "Store")
    answer([1, 2], 5, 7)
    assert answer.shown == "items = [1, 2], most = 5, argument 3 = 7" and answer.changed == "items"
    with pytest.raises(LearnerError, match=r"your class takes \(items, .*\); it should take 0 arguments"):
        Answer(Store, "Store")()
    assert argument_names("double(x)", Store, 2) == ["x", "argument 2"]


def test_endless_loop_ends():
    """Guards a kernel that hangs; `except Exception` in the loop must not swallow the limit."""
    def loop(x):
        while True:
            try:
                x = x + 1
            except Exception:
                pass

    result = one_check(loop, lambda a: a(0), seconds=0.2)
    assert "endless loop" in result.mistake


def test_time_limit_holds_outside_the_main_thread():
    """Signals reach the main thread only; a Windows kernel and a worker thread need the other way."""
    caught = []

    def work():
        try:
            with time_limit(0.2):
                while True:
                    pass
        except CheckTimeout:
            caught.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert caught == [True]


def test_checks_keep_no_state():
    """The seed, dtype and grad mode a learner sets must not reach the next check or the notebook."""
    before = torch.get_rng_state()

    def messy(x):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.rand(3)
        return 2 * x

    assert check("99.1", messy).state == "solved"
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert torch.equal(before, torch.get_rng_state())


def test_unknown_ids_list_the_known():
    """Guards a KeyError for a typo."""
    with pytest.raises(LabError, match=r"chapter 99 has 99.1 Double, 99.2 Counter"):
        check("99.9", len)
    with pytest.raises(ValueError, match="chapters with exercises are .*99"):
        check("55.1", len)
    for bad in ("1.1", 1.1, None, ""):
        with pytest.raises(ValueError, match="such as '01.2'"):
            check(bad, len)


def test_strict_mode_raises(monkeypatch):
    """nbgrader scores a cell by whether it raises."""
    monkeypatch.setattr(workshop, "_STRICT", True)
    assert check("99.1", lambda x: 2 * x).solved
    with pytest.raises(CheckFailed, match="not yet"):
        check("99.1", lambda x: x)


def test_hints_unfold_and_stop():
    """Each call gives the next; step= asks for one and moves nothing."""
    assert [repr(hint("99.1")).count("\n") for _ in range(4)] == [2, 3, 4, 4]
    assert "think" in repr(hint("99.2", step=2)) and "look" not in repr(hint("99.2", step=2))
    assert "hint 1 of 3" in repr(hint("99.2"))
    for bad in (0, 4, "2", True):
        with pytest.raises(ValueError, match="1 .nudge."):
            hint("99.1", step=bad)


def test_progress_in_a_session():
    """Guards the display that solutions notebooks store."""
    check("99.1", lambda x: 2 * x)
    check("99.2", lambda: None)
    check("99.1", lambda x: x)  # solved once stays solved
    assert repr(progress(99)) == (
        "chapter 99: 1 of 4 exercises solved\n  solved  99.1 Double\n  tried   99.2 Counter\n"
        "  open    99.3 Follow\n  open    99.4 Extend")
    with pytest.raises(ValueError, match="no exercises in chapter"):
        progress("77")


def test_progress_file_survives_and_corrupt_one_is_kept(monkeypatch, tmp_path):
    """A half-written file of another program must not cost a learner's record, nor stop a check."""
    file = tmp_path / "deep" / "progress.json"
    monkeypatch.setenv("MINILM_PROGRESS", str(file))
    check("99.1", lambda x: 2 * x)
    assert json.loads(file.read_text())["exercises"]["99.1"] == {"state": "solved", "tries": 1}
    for number, junk in enumerate([b"{\"exercises\": ", b"[]", b"\xff\xfe", b'{"exercises": {"99.1": 3}}']):
        file.write_bytes(junk)
        result = check("99.2", lambda: None)
        backup = file.with_name("progress.json.bak" + (str(number) if number else ""))
        assert backup.read_bytes() == junk and backup.name in repr(result)
    assert sorted(p.name for p in file.parent.iterdir())[0] == "progress.json"
    assert not list(file.parent.glob("*.tmp"))


def test_unwritable_progress_is_said_and_kept_in_memory(monkeypatch, tmp_path):
    """A read-only home must not break a check."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINILM_PROGRESS", str(tmp_path / "file" / "progress.json"))
    result = check("99.1", lambda x: 2 * x)
    assert result.solved and "this session only" in repr(result)


def test_import_is_light():
    """The first cell of every notebook imports this."""
    code = "import sys, minilm.lab; assert 'torch' not in sys.modules and 'nbformat' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_malformed_exercises_are_refused():
    """Guards authors: ids, hints, duplicates."""
    with pytest.raises(ValueError, match="write it as"):
        Exercise("1.1", "x", **EX)
    with pytest.raises(ValueError, match="three hints"):
        Exercise("98.1", "x", **{**EX, "hints": ("a",)})
    with pytest.raises(ValueError, match="defined twice"), registering("98"):
        Exercise("98.1", "x", **EX)
        Exercise("98.1", "y", **EX)


def test_html_is_escaped():
    """A learner's exception text must not become markup."""
    result = one_check(lambda x: {}["<script>"], lambda a: a(1))
    assert "<script>" not in result._repr_html_()
