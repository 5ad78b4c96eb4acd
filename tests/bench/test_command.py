"""`minilm bench`: every option does something, or is refused before anything is measured."""
import json

import pytest

from minilm.bench import (
    BENCHMARKS,
    batched_exit,
    big_decode,
    captured,
    combinations,
    decode,
    engine_lossless,
    exits,
    few_rows,
    kernels,
    limits,
    lookahead_steps,
    lossless,
    parallel,
    record,
    serving,
    serving_gpu,
    speculative,
    trie,
)
from minilm.bench.limits import Limits
from minilm.cli import main

FOUND = Limits("toy", (8e9, 9e9), (3e10,))


@pytest.fixture
def calls(monkeypatch):
    """Measuring is replaced by a note of what was asked for."""
    seen = []

    def note(name, result):
        def measure(*args, **options):
            seen.append((name, *args, options))
            return result
        return measure
    rows = {"read_bytes_per_second": 1e9, "max_new_tokens": 1, "rounds": 1, "rows": []}
    monkeypatch.setattr(limits, "measure", note("limits", FOUND))
    monkeypatch.setattr(decode, "measure", note("decode", rows))
    monkeypatch.setattr(few_rows, "measure", note("linear", rows))
    monkeypatch.setattr(exits, "measure_losses", note("exit-losses", {}))
    speeds = {"delta": 0.1, "epsilon": 0.05, "rounds": 1, "prompts": 1, "rows": []}
    monkeypatch.setattr(exits, "measure_speed", note("exits", speeds))
    for name, module in (("speculative", speculative), ("lossless", lossless), ("engine", engine_lossless),
                         ("serving", serving),
                         ("lookahead", lookahead_steps), ("kernels", kernels), ("trie", trie), ("captured", captured),
                         ("parallel", parallel), ("big", big_decode), ("serving_gpu", serving_gpu),
                         ("batched_exit", batched_exit), ("combinations", combinations)):
        monkeypatch.setattr(module, "measure", note(name, {}))
        monkeypatch.setattr(module, "show", lambda measured: "measured")
    return seen


@pytest.mark.parametrize(("line", "call"), [
    ("limits", ("limits", "cpu", {"repeats": 7})),
    ("limits --rounds 3 --device cuda", ("limits", "cuda", {"repeats": 3})),
    ("decode", ("decode", ["minilm-14m", "smollm2-135m-instruct"], {"rounds": 7, "device": "cpu"})),
    ("decode --model a b --rounds 2 --device cuda", ("decode", ["a", "b"], {"rounds": 2, "device": "cuda"})),
    ("linear --rounds 5", ("linear", {"rounds": 5})),
    ("exit-losses", ("exit-losses", {})),
    ("exits --rounds 2", ("exits", {"rounds": 2})),
    ("speculative", ("speculative", {"rounds": 7})),
    ("speculative --model a --rounds 2", ("speculative", "a", {"rounds": 2})),
    ("trie --rounds 2", ("trie", {"rounds": 2})),
    ("lossless", ("lossless", {})),
    ("lossless --model a --device cpu", ("lossless", {"name": "a"})),
    ("lossless --model a --device cuda", ("engine", {"name": "a", "device": "cuda"})),
    ("serving --rounds 2", ("serving", {"rounds": 2})),
    ("lookahead", ("lookahead", {})),
    ("kernels", ("kernels", {"rounds": 7})),
    ("parallel", ("parallel", {"rounds": 7})),
    ("parallel --model a --rounds 2 --device cuda --ranks 4",
     ("parallel", "a", {"rounds": 2, "device": "cuda", "ranks": 4})),
    ("captured --rounds 3", ("captured", {"rounds": 3})),
    ("combinations --model a --rounds 2 --device cpu", ("combinations", "a", {"rounds": 2, "device": "cpu"})),
    ("big --model a b --peers c d", ("big", "a", "b", {"rounds": 7, "peers": ["c", "d"]})),
    ("kernels --rounds 3", ("kernels", {"rounds": 3}))])
def test_options_reach_the_benchmark(calls, line, call):
    assert main(["bench", *line.split()]) == 0
    assert calls == [call]


@pytest.mark.parametrize("what", ["speculative", "lossless", "combinations"])
def test_one_model_at_a_time(calls, capsys, what):
    assert main(["bench", what, "--model", "a", "b"]) == 2
    assert capsys.readouterr().err == f"minilm: `minilm bench {what}` takes one model; it got 2\n" and not calls


@pytest.mark.parametrize("what", BENCHMARKS)
@pytest.mark.parametrize("option", ["model", "rounds", "device", "ranks", "peers"])
def test_an_option_is_used_or_refused(calls, capsys, what, option):
    """Guards an option that is taken and ignored: without a word, the wrong thing is measured."""
    status = main(["bench", what, f"--{option}", "3"])
    assert status == (0 if option in BENCHMARKS[what] else 2)
    if status:
        assert not calls and f"`minilm bench {what}` has no --{option}; it belongs to " in capsys.readouterr().err
    else:
        assert "3" in repr(calls[0])


@pytest.mark.parametrize("what", [what for what, options in BENCHMARKS.items() if "rounds" in options])
@pytest.mark.parametrize("rounds", ["0", "-2"])
def test_no_rounds_are_refused(calls, capsys, what, rounds):
    assert main(["bench", what, "--rounds", rounds]) == 2
    assert capsys.readouterr().err == f"minilm: --rounds must be at least 1; it is {rounds}\n" and not calls


def test_limits_can_be_recorded(calls, monkeypatch, tmp_path):
    """Guards --record that is taken and ignored."""
    write = record.write
    monkeypatch.setattr(record, "write", lambda *args: write(*args, folder=tmp_path))
    assert main(["bench", "limits", "--record", "mine"]) == 0
    back = json.loads((tmp_path / "mine.json").read_text())
    assert back["reads"] == [8e9, 9e9] and back["read_bytes_per_second"] == 9e9 and back["machine"]["torch"]
    assert back["flops_per_second"] == 3e10 and back["benchmark"] == "limits"


def test_one_round_is_no_rounds():
    """Guards "1 paired rounds"."""
    said = decode.show({"read_bytes_per_second": 1e9, "max_new_tokens": 1, "rounds": 1, "rows": []})
    assert "1 new token, medians of 1 paired round" in said and "rounds" not in said and "tokens" not in said
