"""The leaderboard's file: the best run of each name, nothing mixed, nothing lost."""
import json

import pytest

from minilm import leaderboard
from minilm.cli import main


@pytest.fixture(autouse=True)
def board(tmp_path, monkeypatch):
    file = tmp_path / "data" / "board.json"
    monkeypatch.setenv("MINILM_LEADERBOARD", str(file))
    return file


def a_run(name="ann", speed_up=1.5, **other):
    return {"name": name, "role": "decode", "model": "minilm-14m", "new_tokens": 64, "quality": 0.0,
            "machine": "a processor, 2 cores", "speed_up": speed_up, "loss": 0.0, "rounds": 5, "date": "2026-01-02",
            "by_kind": {"open": 1.2, "edit": 2.0, "python": 1.4}, "beside": {"draft model": 1.8}, **other}


def test_each_name_keeps_its_best_run():
    assert leaderboard.enter(a_run(speed_up=1.5))
    assert not leaderboard.enter(a_run(speed_up=1.2))
    assert leaderboard.enter(a_run("bob", 1.3))
    assert leaderboard.enter(a_run(speed_up=1.7))
    (board,) = leaderboard.boards(leaderboard.read())
    assert [(run["name"], run["speed_up"]) for run in board] == [("ann", 1.7), ("bob", 1.3)]


@pytest.mark.parametrize("other", [{"model": "minilm-1m"}, {"quality": 0.05}, {"machine": "other"}, {"new_tokens": 8}])
def test_what_can_t_be_compared_stands_apart(other):
    """Guards a fast machine's run above a better decoder, and a lossy one above an exact one."""
    leaderboard.enter(a_run(speed_up=3.0, **other))
    assert leaderboard.enter(a_run(speed_up=1.1))
    assert [len(group) for group in leaderboard.boards(leaderboard.read())] == [1, 1]


def test_the_command_shows_it(capsys):
    assert main(["race", "--leaderboard"]) == 0
    assert "nobody is on the leaderboard yet" in capsys.readouterr().out
    leaderboard.enter(a_run())
    leaderboard.enter(a_run("bob", 1.25, quality=0.05, loss=0.031))
    assert main(["race", "--leaderboard"]) == 0
    said = capsys.readouterr().out
    assert "1. ann   1.50×  (open 1.20×  edit 2.00×  python 1.40×)" in said and "a processor, 2 cores" in said
    assert f"kept in {leaderboard.path()}: delete the file to begin anew" in said
    assert "loss up to 0.05" in said and "beside draft model 1.80×" in said


@pytest.mark.parametrize("text, why", [
    ("", "Expecting value"), ("{", "Expecting"), ("[]", "indices"), ("{}", "'runs' is missing"),
    ('{"runs": 3}', "iterable"),
    ('{"runs": [{"name": "ann"}]}', "is missing"), ("\udcff", "not text"),
    (json.dumps({"runs": [a_run(speed_up="fast")]}), "speed_up of run 1 is 'fast'"),
    (json.dumps({"runs": [a_run(), a_run(name=3)]}), "name of run 2 is 3"),
    (json.dumps({"runs": [a_run(speed_up=float("nan"))]}), "is nan"),
    (json.dumps({"runs": [a_run(by_kind={"open": "x"})]}), "by_kind of run 1"), ("[" * 100_000, "nested too deeply"),
])
def test_a_corrupt_file_is_one_clear_error_and_stays_as_it_is(board, capsys, text, why):
    board.parent.mkdir()
    board.write_bytes(data := text.encode("utf-8", "surrogateescape"))
    assert main(["race", "--leaderboard"]) == 2
    said = capsys.readouterr().err
    assert "can't be read" in said and why in said and "move it away" in said and said.count("\n") == 1
    with pytest.raises(ValueError, match="can't be read"):
        leaderboard.enter(a_run())
    assert board.read_bytes() == data and list(board.parent.iterdir()) == [board]


def test_a_corrupt_file_is_told_before_the_race(board, tmp_path, capsys, monkeypatch):
    """Guards minutes of racing whose result then can't be kept."""
    monkeypatch.setattr("minilm.capstone.contest.Runner", None)
    board.parent.mkdir()
    board.write_text("{")
    file = tmp_path / "mine.py"
    file.write_text("def decode(model, prompt, n): ...")
    assert main(["race", "--mine", str(file)]) == 2
    assert "can't be read" in capsys.readouterr().err


def test_it_lives_beside_the_progress_file(monkeypatch):
    from minilm.lab import record
    monkeypatch.delenv("MINILM_LEADERBOARD")
    monkeypatch.delenv("MINILM_PROGRESS", raising=False)
    assert leaderboard.path().parent == record.path().parent and leaderboard.path().name == "leaderboard.json"
