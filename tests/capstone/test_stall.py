"""Learners' decoders in a process of their own: what fails, hangs or cheats is caught, named, and harms nobody."""
import sys
import time
from pathlib import Path

import pytest
from capstone_helpers import HONEST, MODEL, Desk, entry

import minilm
from minilm.capstone import runners
from minilm.capstone.contest import Row, _Race
from minilm.capstone.entry import Disqualified
from minilm.capstone.prompts import draw
from minilm.capstone.watch import family
from minilm.decoding import autoregressive

COUNT = 8


@pytest.fixture(scope="module")
def desk():
    desk = Desk()
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def course():
    return minilm.load(MODEL)


@pytest.fixture(scope="module")
def asked(course):
    """Every test takes prompts that none had before."""
    return iter([prompt for some in draw(course[1], 20) for prompt in some.values()])


def judged(course, mine, prompt, limit=20.0):
    """One answer under the rules, as in the race."""
    race = _Race(course[0], None, mine, COUNT)
    race.limits["open"] = limit
    return race.learners("open", prompt)


@pytest.mark.parametrize("role, source", [
    ("decode", HONEST),
    ("decode", HONEST.rstrip() + ".tokens"),
    ("policy", "from minilm.decoding import Entropy\ndef policy(model):\n    return Entropy(0.0)"),
    ("policy", "from minilm.decoding import Entropy\nEXITS = [2]\ndef policy(model):\n    return Entropy(0.0)"),
    ("proposer", "from minilm.decoding.proposers import PromptLookup\ndef proposer(model): return PromptLookup(4)"),
    ("proposer", "from minilm.decoding.proposers import SelfSpeculative as S\ndef proposer(model): return S(1, 3)"),
])
def test_all_three_roles_say_what_the_model_says(desk, course, asked, role, source):
    """A decoder, an exit policy that never leaves, a proposer: counted here as in the package."""
    prompt = next(asked)
    run = judged(course, desk.take(source, role), prompt)
    assert run.made == autoregressive(course[0], prompt, COUNT).tokens
    assert run.seen >= len(prompt) + COUNT - 1 and 0 < run.seconds < 20
    assert run.passes <= COUNT                                      # a draft of some layers would be no pass
    if role == "decode":
        assert (run.passes, run.seen) == (COUNT, len(prompt) + COUNT - 1)


@pytest.mark.parametrize("role, source, message", [
    ("decode", "x = 1\ny = x / 0", r"my_decoder.py: raised ZeroDivisionError: division by zero, line 2 "
                                   r"\(`y = x / 0`\)"),
    ("decode", "import no_such_package", "ModuleNotFoundError.*line 1"),
    ("decode", "decode = 3", "decode is int, not a function"),
    ("decode", "def decode(model, prompt): return []", r"decode takes \(model, prompt\); it should take \(model, pro"),
    ("policy", "def policy(): return None", r"policy takes \(\); it should take \(model\)"),
    ("policy", "def policy(model): return 0.9", "returned a float, which has no begin, score, leaves"),
    ("proposer", "def proposer(model): return []", "returned a list, which has no start, propose, verify"),
    ("proposer", "def proposer(model):\n    return model.nothing", "AttributeError.*line 2"),
    ("decode", "raise SystemExit", "raised SystemExit"),
])
def test_a_file_that_does_not_load_is_told_with_its_line(desk, role, source, message):
    with pytest.raises(Disqualified, match=message):
        desk.take(source, role)


@pytest.mark.parametrize("body, message", [
    ("return [prompt[9999]]", r"my_decoder.py: raised IndexError.*, line 3 \(`return \[prompt\[9999\]\]`\)"),
    ("model(None)", "ValueError: ids must be a tensor.*line 3"),
    ("raise NotImplementedError", "it is not written yet"),
    ("import sys; sys.exit(0)", "raised SystemExit.*line 3"),
    ("def f(): return f()\n    return f()", "RecursionError"),
    ("return autoregressive(model, prompt, 3)", "returned 3 tokens where 8"),
    ("return prompt + autoregressive(model, prompt, max_new_tokens).tokens", "the prompt is not part of it"),
    ("return 'a fox'", "returned text"), ("pass", "returned nothing"), ("return model", "return a list of token ids"),
    ("return (token for token in prompt)", "returned a generator; return a list of token ids"),
    ("import torch; return torch.tensor([1])", "a tensor"),
    ("return [1.5] * max_new_tokens", "as token 0; tokens are ints"),
    ("return [10**9] * max_new_tokens", "the vocabulary has"),
    ("return [object()] * max_new_tokens", "returned an? object as token 0"),
    ("from pathlib import Path; Path('answers').write_text('x')",
     "OSError.* A decoder is one file: .* nothing can be written$"),
])
def test_what_goes_wrong_in_a_decoder_is_told_with_its_line(desk, course, asked, body, message):
    mine = desk.take("from minilm.decoding import autoregressive\ndef decode(model, prompt, max_new_tokens):\n"
                     f"    {body}\n")
    with pytest.raises(Disqualified, match=message):
        judged(course, mine, next(asked))


def test_a_crash_in_a_learner_s_policy_is_the_learner_s_line_not_ours(desk, course, asked):
    source = ("class Mine:\n    def begin(self, t): pass\n    def score(self, look): return 1 / 0\n"
              "    def leaves(self, score): return True\ndef policy(model): return Mine()\n")
    with pytest.raises(Disqualified, match=r"ZeroDivisionError.*line 3 \(`def score.*1 / 0`\)"):
        judged(course, desk.take(source, "policy"), next(asked))


DATACLASS = """
from dataclasses import dataclass, field
from minilm.decoding import autoregressive

@dataclass
class Plan:
    length: int = 4
    seen: list[int] = field(default_factory=list)

def decode(model, prompt, max_new_tokens):
    assert Plan.__annotations__["length"] == {annotation} and __file__.endswith("my_decoder.py"), __file__
    return autoregressive(model, prompt, max_new_tokens, **vars(Plan(1)) and {{}})
"""


@pytest.mark.parametrize("first, annotation", [("", "int"), ("from __future__ import annotations", "'int'")])
def test_a_file_runs_as_python_would_run_it(desk, course, asked, first, annotation):
    """Guards dataclasses, which look up their module, and annotations that are what the file says."""
    assert judged(course, desk.take(first + DATACLASS.format(annotation=annotation)), next(asked)).made


@pytest.mark.parametrize("where", ["load", "answer"])
def test_a_module_beside_the_file_is_told_why_it_is_not_found(desk, course, asked, tmp_path, where):
    (tmp_path / "my_helpers.py").write_text("x = 1")
    line = "from my_helpers import x"
    source = (f"{line}\ndef decode(m, p, n): ..." if where == "load" else f"def decode(m, p, n):\n    {line}\n")
    with pytest.raises(Disqualified, match="No module named 'my_helpers', line .* A decoder is one file: nothing besi"):
        judged(course, desk.take(source, folder=str(tmp_path)), next(asked))
    with pytest.raises(Disqualified) as told:
        judged(course, desk.take(source, folder=str(tmp_path / "elsewhere")), next(asked))
    assert "one file" not in str(told.value)


# ---- cheats ----

def test_tokens_without_the_model_are_found_even_where_they_are_right(desk, course, asked):
    """The right answer, but by a copy of the model that nobody counts."""
    source = ("import minilm\nfrom minilm.decoding import autoregressive\nother = minilm.load('minilm-1m')[0]\n"
              "def decode(model, prompt, n): return autoregressive(other, prompt, n)\n")
    with pytest.raises(Disqualified, match="tokens without the model: its first layer saw 0 of the"):
        judged(course, desk.take(source), next(asked))
    few = ("from minilm.decoding import autoregressive\n"
           "def decode(model, prompt, n): return autoregressive(model, prompt, n - 2).tokens + [5, 5]\n")
    with pytest.raises(Disqualified, match="tokens without the model"):
        judged(course, desk.take(few), next(asked))


def test_a_cached_answer_is_found_by_asking_again(desk, course, asked):
    source = ("from minilm.decoding import autoregressive\nkept = {}\ndef decode(model, prompt, n):\n"
              "    if tuple(prompt) not in kept: kept[tuple(prompt)] = autoregressive(model, prompt, n)\n"
              "    return kept[tuple(prompt)]\n")
    mine, some = desk.take(source), {"open": next(asked)}
    race = _Race(course[0], None, mine, COUNT)
    race.limits["open"] = 20.0
    row = Row("ann")
    row.seconds = {"open": [race.learners("open", some["open"]).seconds], "edit": [0.0], "python": [0.0]}
    with pytest.raises(Disqualified, match="a cached answer: asked for the second time"):
        race.ask_again(some, row)
    race.mine, row.seconds["open"] = desk.take(HONEST), [1e-9]      # not slower the first time, however busy it was
    assert race.ask_again(some, row) == []


def test_learning_from_earlier_prompts_is_allowed_and_told(desk, course, asked):
    """A trie or a table that still lets the model verify is no cheat: it only sleeps where it is new."""
    source = ("import time\nfrom minilm.decoding import autoregressive\nseen = set()\ndef decode(model, prompt, n):\n"
              "    if tuple(prompt) not in seen: time.sleep(0.5)\n    seen.add(tuple(prompt))\n"
              "    return autoregressive(model, prompt, n)\n")
    race = _Race(course[0], None, desk.take(source), COUNT)
    race.limits["open"] = 20.0
    row, some = Row("ann"), {"open": next(asked)}
    row.seconds = {"open": [race.learners("open", some["open"]).seconds], "edit": [0.0], "python": [0.0]}
    (note,) = race.ask_again(some, row)
    assert "it remembers prompts, which earns nothing here" in note


def test_the_learner_s_clock_counts_for_nothing(desk, course, asked):
    source = ("import time\nfrom minilm.decoding import autoregressive\nclocks = 'perf_counter', 'monotonic', 'time'\n"
              "true = [getattr(time, name) for name in clocks]\n"
              "for name in clocks: setattr(time, name, lambda: 0.0)\n"
              "def decode(model, prompt, n):\n    made = autoregressive(model, prompt, n)\n    time.sleep(0.3)\n"
              "    for name, clock in zip(clocks, true): setattr(time, name, clock)\n    return made\n")
    assert judged(course, desk.take(source), next(asked)).seconds >= 0.3


def test_more_threads_than_everyone_has_are_found(desk, course, asked):
    source = HONEST.replace("    return", "    import torch; torch.set_num_threads(2)\n    return")
    with pytest.raises(Disqualified, match="set PyTorch to 2 threads; everyone has one"):
        judged(course, desk.take(source), next(asked))


@pytest.mark.parametrize("reply", ["{'ours': 3, 'name': None, 'args': [], 'kwargs': {}}", "{'value': 7}",
                                   "{'value': {'made': [], 'failed': None}, 'changed': [[0, {'plain': [1]}]]}"])
def test_a_decoder_that_speaks_for_the_process_does_no_harm(desk, course, asked, reply):
    """It finds the pipe and answers what it likes: nothing of it may change our prompt, or look like our mistake."""
    source = ("import gc\nfrom minilm.lab.worker import Channel\ndef decode(model, prompt, n):\n"
              "    pipe = next(x for x in gc.get_objects() if isinstance(x, Channel))\n"
              f"    pipe.send({reply})\n    return prompt\n")
    mine, prompt = desk.take(source), next(asked)
    before = list(prompt)
    try:
        with pytest.raises(Disqualified, match="answered what nobody asked|ended the process|returned"):
            judged(course, mine, prompt)
        assert prompt == before
    finally:
        desk.close()


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it takes /proc to see it from outside")


@linux
def test_threads_of_another_kind_show_in_the_processor_time(desk, course, asked, monkeypatch):
    """PyTorch's count of threads says nothing about those of Python; the system's account of time does."""
    source = ("import hashlib, threading\nfrom minilm.decoding import autoregressive\nblock = b'x' * (1 << 22)\n"
              "def work():\n    for _ in range(40): hashlib.sha256(block).digest()\n"
              "def decode(model, prompt, n):\n    others = [threading.Thread(target=work) for _ in range(2)]\n"
              "    for one in others: one.start()\n    for one in others: one.join()\n"
              "    return autoregressive(model, prompt, n)\n")
    mine = desk.take(source)
    assert judged(course, mine, next(asked)).made                   # not told before it has worked for a second
    assert mine.processor > 0.1
    monkeypatch.setattr(runners, "LEAST", 0.0)
    monkeypatch.setattr(runners, "SHARE", 0.9 * mine.processor / mine.seconds)      # the machine may be busy: any share
    with pytest.raises(Disqualified, match="processors on average; everyone has one"):
        for _ in range(5):                                                          # and busier for a while
            mine.run(next(asked), COUNT, 20.0)


FORK = """
import mmap, os
from minilm.decoding import autoregressive

rest = mmap.mmap(-1, 1)
def helper(twice):
    if os.fork() == 0:
        os.setsid()
        if twice and os.fork():
            os._exit(0)
        while True:
            if rest[0]: time.sleep(0.001)
"""


def state_of(number: int) -> str:
    """R, S, T (stopped), Z (ended, and nobody asked how) and so on."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def settled(numbers, states: set[str]) -> bool:
    """Whether they are all in these states before long: a busy machine is slow to take a signal in."""
    until = time.monotonic() + 3
    while not {state_of(number) for number in numbers} <= states:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@linux
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("when", ["load", "answer"])
def test_processes_of_its_own_are_found_and_stand_still(desk, course, asked, when, twice):
    """Guards helpers that left the group, or whose parent ended, and work while the others run, to slow them down."""
    start = f"helper({twice})\n"
    source = FORK + (start if when == "load" else "") + (
        "def decode(model, prompt, n):\n    rest[0] = 1\n    " + (start if when == "answer" else "pass\n") +
        "    made = autoregressive(model, prompt, n)\n    rest[0] = 0\n    return made\n")
    source = "import time\n" + source
    with pytest.raises(Disqualified, match="it starts processes of its own; everyone has one"):
        desk.take(source, spoils=True).run(next(asked), COUNT, 20.0)
    members = family(desk.runner.session.process.pid)
    assert len(members) >= 3
    standing = settled(members, {"T", "Z"})
    desk.close()
    assert standing and settled(members, {"gone", "Z"})


def test_changed_weights_are_found_and_stay_the_learner_s_own(desk, course, asked):
    source = HONEST.replace("    return", "    import torch\n    with torch.no_grad(): "
                            "model.layers[1].mlp.down.weight.mul_(1.5)\n    return")
    prompt = next(asked)
    with pytest.raises(Disqualified, match="changed the model's weights"):
        judged(course, desk.take(source, spoils=True), prompt)


def test_between_its_turns_a_decoder_stands_still(desk, course, asked):
    """Guards a thread that slows the others down, or works ahead, while it is not its turn."""
    source = ("import threading, time\nticks = [0]\ndef tick():\n    while True:\n        ticks[0] += 1\n"
              "        time.sleep(0.005)\nthreading.Thread(target=tick, daemon=True).start()\n"
              "def decode(model, prompt, n):\n    before = ticks[0]\n    time.sleep(n / 100)\n"
              "    return [before, ticks[0]]\n")
    mine = desk.take(source, spoils=True)
    _, after = mine.run([5], 30, 20.0).made
    time.sleep(0.5)
    before, ended = mine.run([5], 30, 20.0).made
    assert ended > before + 5 and before - after < 50               # of the 100 ticks that it had the time for


@pytest.mark.parametrize("body, message", [
    ("import time\n    while True:\n        try: time.sleep(9)\n        except BaseException: pass",
     "had no answer after 0.3 seconds and was stopped: an endless loop, or far too slow.*ten times the baseline"),
    ("import os; os._exit(0)", "ended the process"),
])
def test_what_hangs_or_ends_its_process_is_stopped(desk, course, asked, body, message):
    mine = desk.take(f"def decode(model, prompt, n):\n    {body}\n", spoils=True)
    started = time.monotonic()
    with pytest.raises(Disqualified, match=message):
        mine.run(next(asked), COUNT, 0.3)
    assert time.monotonic() - started < 5
    assert desk.runner.session.broken


def test_a_file_that_hangs_while_it_is_read_is_stopped(monkeypatch, desk):
    desk.take(HONEST, spoils=True)
    monkeypatch.setattr(runners, "PATIENCE", 0.3)
    with pytest.raises(Disqualified, match="was still not loaded after 0.3 seconds"):
        desk.take("while True: pass", spoils=True)


def test_a_model_that_the_process_can_t_open_is_one_error():
    with pytest.raises(RuntimeError, match="'no-such-model' did not open in the race's own process: .*Known names"):
        runners.Learners("no-such-model", entry(HONEST))
