"""The capstone race: fair pairing, the bound, the table, and all of it from the command line."""
import json

import pytest
from capstone_helpers import HONEST, MODEL, entry, written

from minilm import leaderboard
from minilm.bench.contestants import BASELINE
from minilm.capstone import report
from minilm.capstone.contest import Outcome, Row, _Race, speed_up
from minilm.capstone.entry import KINDS, Disqualified
from minilm.capstone.judge import Verdict
from minilm.capstone.runners import Run
from minilm.cli import main


def row(name, seconds, chapter=2, losses=(0.0,)):
    """A row with the same seconds a round for each kind."""
    made = Row(name, chapter, {kind: list(seconds) for kind in KINDS}, [Verdict(loss) for loss in losses])
    made.tokens = made.passes = 10
    return made


def test_the_speed_up_is_the_median_over_rounds_of_paired_ratios():
    """A slow round that hits both alike must not move the figure."""
    base, mine = row(BASELINE, [3, 30, 4]), row("ann", [1, 10, 2], None)
    assert speed_up(mine, base) == 3 and speed_up(base, base) == 1
    mine.seconds["edit"] = [3, 30, 4]
    assert speed_up(mine, base, ("edit",)) == 1 and 1 < speed_up(mine, base) < 3


def test_only_who_keeps_the_bound_has_a_place():
    """The mean over prompts counts, and a bound of 0 forgives nothing."""
    rows = [row(BASELINE, [4]), row("CALM", [1], 4, [0.0, 0.3]), row("prompt lookup", [2], 6),
            row("ann", [3], None, [0.0, 0.02])]
    exact, loose, all_in = (Outcome(rows, quality, 0.001) for quality in (0.0, 0.01, 0.15))
    assert [r.name for r in exact.standing()] == ["prompt lookup", BASELINE] and exact.place is None
    assert [r.name for r in loose.standing()] == ["prompt lookup", "ann", BASELINE] and loose.place == 2
    assert [r.name for r in all_in.standing()] == ["CALM", "prompt lookup", "ann", BASELINE] and all_in.place == 3


def text_of(table) -> list[str]:
    from rich.console import Console
    console = Console(width=80, record=True, file=open("/dev/null", "w"))
    console.print(table)
    return console.export_text().splitlines()


def test_the_table_fits_a_terminal_and_names_who_is_out():
    rows = [row(BASELINE, [4]), row("CALM", [1], 4, [0.3]), row("self-speculation", [2], 6), row("ann", [3], None)]
    lines = text_of(report.table(Outcome(rows, 0.0, 0.001)))
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:]] == ["1.", "2.", "3.", "CALM"]
    assert "ann (yours)" in lines[2] and "1.33×" in lines[2] and "exact" in lines[2] and "out: 0.300" in lines[4]
    assert "…" in text_of(report.table(Outcome([row(BASELINE, []), row("ann", [], None)], 0.0, 0.0)))[1]


class Fake:
    """Answers like a runner, and writes down who was asked."""

    def __init__(self, log, name=None):
        self.log, self.name, self.entry = log, name, entry(HONEST)

    def house(self, name, prompt, count):
        self.log.append(name)
        return Run([1] * count, 1.0, 99, 1)

    def run(self, prompt, count, limit):
        self.log.append(self.name)
        return Run([1] * count, 1.0, 99, 1)


def test_each_prompt_begins_with_another_runner():
    from minilm.model import GPT, GPTConfig
    model = GPT(GPTConfig(8, 1, 8, 1, 1, 8, 8, 16))
    log = []
    race = _Race(model, Fake(log), Fake(log, "ann"), 2)
    race.limits = dict.fromkeys(KINDS, 1.0)
    rows = [row(BASELINE, []), row("a", []), row("b", []), row("ann", [], None)]
    for turn in range(4):
        race.ask(rows, "open", [1, 2], turn)
    assert [log[i] for i in range(0, 16, 4)] == [BASELINE, "a", "b", "ann"]
    assert all(sorted(log[i : i + 4]) == sorted([BASELINE, "a", "b", "ann"]) for i in range(0, 16, 4))


class Stopped(Fake):
    """Both ends of the pipe as context managers; the learner's is disqualified in its third answer after the first."""

    def __init__(self, model, given=None):
        super().__init__([], "ann")
        self.given, self.turns = given, 0

    def __enter__(self): return self
    def __exit__(self, *_): pass
    def overhead(self, prompt, count): return 0.001
    def out(self, why): return Disqualified(why)

    def run(self, prompt, count, limit):
        self.turns += 1
        if self.turns > len(KINDS) + 2:
            raise Disqualified("my_decoder.py: caught")
        return Run([1] * count, 0.5, 999, 1)


def test_who_is_disqualified_late_leaves_the_table(tmp_path, capsys, board, monkeypatch):
    """Guards a last table that has a cheat in the first place, and an error that hangs at its last line."""
    monkeypatch.setattr("minilm.capstone.contest.Runner", Stopped)
    monkeypatch.setattr("minilm.capstone.contest.Learners", Stopped)
    status, out, err = raced(capsys, written(tmp_path, HONEST), "--rounds", "1", "--only", "prompt lookup")
    assert status == 2 and err == "minilm: my_decoder.py: caught\n" and out.endswith("\n")
    (last,) = [line for line in out.splitlines() if "(yours)" in line]
    assert last.split()[0] == "my_decoder" and last.split()[-1] == "out"
    assert leaderboard.read() == []


def test_a_name_that_there_isn_t_is_told_before_the_race_is_announced(tmp_path, capsys, board):
    status, out, err = raced(capsys, written(tmp_path, HONEST), "--only", "snail")
    assert (status, out) == (2, "") and "no contestant named 'snail'" in err


def test_a_notebook_shows_one_line():
    from IPython.core.interactiveshell import InteractiveShell
    shown = []
    shell = InteractiveShell()
    shell._showtraceback = lambda etype, value, lines: shown.extend(lines)
    shell.run_cell("from minilm.capstone.entry import Disqualified\nraise Disqualified('my_decoder.py: caught')")
    assert shown == ["Disqualified: my_decoder.py: caught"]


@pytest.fixture
def board(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILM_LEADERBOARD", str(tmp_path / "board.json"))


def raced(capsys, path, *options) -> tuple[int, str, str]:
    status = main(["race", "--model", MODEL, "--mine", str(path), "--max-new-tokens", "6", *options])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_an_honest_decoder_races_and_is_entered(tmp_path, capsys, board):
    path = written(tmp_path, HONEST)
    status, out, _ = raced(capsys, path, "--rounds", "3", "--name", "ann", "--only", "prompt lookup")
    assert status == 0 and "ann (yours)" in out and "leaderboard: entered" in out
    assert "ms a prompt for the way to another process" in out
    (kept,) = leaderboard.read()
    assert (kept["name"], kept["model"], kept["quality"], kept["rounds"]) == ("ann", MODEL, 0.0, 3)
    assert set(kept["beside"]) <= {"prompt lookup", BASELINE} and set(kept["by_kind"]) == set(KINDS)
    assert 0.2 < kept["speed_up"] < 5                          # the same decoder as the baseline, on a busy machine


def test_a_decoder_that_says_something_else_gets_no_place(tmp_path, capsys, board):
    """It is fast, and wrong: every token leaves after the first layer."""
    lazy = ("from minilm.decoding import Patience\n\nclass Lazy(Patience):\n    def leaves(self, score): return True\n"
            "\ndef policy(model):\n    return Lazy(1)\n")
    path = written(tmp_path, lazy)
    status, out, _ = raced(capsys, path, "--rounds", "1", "--only", "CALM")
    assert status == report.OUT_OF_BOUNDS and "my_decoder has no place: it loses" in out
    assert "left the model's own" in out
    assert "not on the leaderboard: out of bounds" in out and leaderboard.read() == []


def canned(monkeypatch, outcome):
    """The command without the race: `outcome` is what came of it, or what was raised."""
    def contest(*given, **settings):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
    monkeypatch.setattr(report, "contest", contest)


def test_as_json_and_with_a_bound_that_allows_some_loss(tmp_path, capsys, board, monkeypatch):
    rows = [row(BASELINE, [4] * 3), row("my_decoder", [1] * 3, None, [0.0, 0.04])]
    path = written(tmp_path, HONEST)
    canned(monkeypatch, Outcome(rows, 0.05, 0.001))
    status, out, _ = raced(capsys, path, "--rounds", "1", "--quality", "0.05", "--json")
    said = json.loads(out)
    assert status == 0 and said["place"] == 1 and said["results"][1]["speed_up"] == 4
    assert leaderboard.read() == []                                             # one round is too few
    assert raced(capsys, path, "--rounds", "3", "--quality", "0.05", "--seed", "1")[0] == 0
    assert leaderboard.read() == []                                             # prompts that could be known
    assert "entered" in raced(capsys, path, "--rounds", "3", "--quality", "0.05")[1]
    assert leaderboard.read()[0]["loss"] == 0.02
    assert "was faster before: that run stays" in raced(capsys, path, "--rounds", "3", "--quality", "0.05")[1]


def test_a_decoder_that_fails_is_one_line_on_the_command_line(tmp_path, capsys, board, monkeypatch):
    why = "my_decoder.py: raised ZeroDivisionError: division by zero, line 2 (`return 1 / 0`)"
    canned(monkeypatch, Disqualified(why))
    status, _, err = raced(capsys, written(tmp_path, HONEST))
    assert (status, err) == (2, f"minilm: {why}\n")
