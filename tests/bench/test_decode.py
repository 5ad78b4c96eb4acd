"""The decoding benchmarks run and their figures hang together; no test asserts a time."""
import pytest

from minilm.bench import decode, few_rows
from minilm.bench.limits import Limits


def test_decode_reports_every_contestant_and_its_share_of_the_read_limit(monkeypatch):
    """The share must follow from bytes and time: with a memory twice as fast, it must halve."""
    fast = [Limits("m", (rate,), (1e12,)) for rate in (1e9, 2e9)]
    shares = []
    for machine in fast:
        monkeypatch.setattr(decode.limits, "measure", lambda device, machine=machine: machine)
        monkeypatch.setattr(decode, "race", _scripted_race)
        measured = decode.measure(["minilm-1m"], max_new_tokens=3, rounds=1)
        assert [row["name"] for row in measured["rows"]] == ["transformers", "autoregressive"]
        shares.append(measured["rows"][1]["read_limit_share"])
        assert "minilm-1m" in decode.show(measured)
    assert shares[0] == pytest.approx(2 * shares[1])
    weights = 1_639_296 * 4                      # nearly all of what a pass of minilm-1m reads, three passes in 2 s
    assert shares[0] == pytest.approx(3 * weights / 1e9 / 2, rel=0.05)


def _scripted_race(course, contestants, rounds):
    from minilm.race import Result
    return [Result(c, [2.0], 3, 1.0, [1, 2, 3], None, 1.0) for c in contestants]


def test_few_rows_compares_both_calls_on_the_same_weights(monkeypatch):
    monkeypatch.setattr(few_rows, "SHAPES", {"tiny": (16, 32)})
    measured = few_rows.measure(rows=(1, 3), megabytes=1, rounds=2)
    assert [row["rows"] for row in measured["rows"]] == [1, 3]
    for row in measured["rows"]:
        assert row["speed_up"] == pytest.approx(row["linear"] / row["few_rows"])
    assert "tiny" in few_rows.show(measured)
