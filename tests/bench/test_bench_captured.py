"""The benchmark of captured passes: its arithmetic, with scripted runs. No time is asserted."""
import pytest
import torch
from core_helpers import one_thread, tiny_model  # noqa: F401

from minilm.bench import captured as bench
from minilm.generation import Generation, Stats


def scripted(seconds: list[float], tokens: list[int], passes: int, order: list):
    """A run that takes these seconds, one entry a round and the warm-up first, and says these tokens."""
    clock = iter(seconds)

    def run(prompt):
        order.append(run)
        return Generation(tokens, [], Stats(len(prompt), len(tokens), passes, 0.0, next(clock)))
    return run


def test_rows():
    """A token's time, round by round without the warm-up; ratios are medians of paired rounds, not of medians."""
    order: list = []
    runs = {bench.EAGER: scripted([99, 8, 4, 8], [1, 2, 3, 4], 4, order),
            bench.PLAIN: scripted([99, 4, 4, 1], [1, 2, 3, 4], 4, order),
            "lookahead": scripted([99, 1, 2, 2], [1, 2, 3, 4], 2, order)}
    rows = bench.timed(runs, [[5]], 3)
    assert [row["name"] for row in rows] == list(runs)
    eager, plain, look = rows
    assert eager["seconds_per_token"] == [2, 1, 2] and look["seconds_per_token"] == [0.25, 0.5, 0.5]
    assert look["against_eager"] == 4 and look["against_graphs"] == 2 and plain["against_eager"] == 2
    assert look["tokens_per_pass"] == 2 and look["tokens_per_second"] == 2 and look["texts"] == [[1, 2, 3, 4]]
    a, b, c = runs.values()
    assert order == [a, b, c, b, c, a, c, a, b, a, b, c]                        # each round begins with another


def test_seconds_are_summed_over_prompts():
    """Long texts weigh more: seconds over all prompts by tokens over all prompts."""
    stats = iter([Stats(1, 1, 1, 0.0, 9.0), Stats(1, 3, 1, 0.0, 9.0),
                  Stats(1, 1, 1, 1.0, 1.0), Stats(1, 3, 1, 0.0, 6.0)])

    def run(prompt):
        told = next(stats)
        return Generation([0] * told.new_tokens, [], told)
    row, = bench.timed({"alone": run}, [[5], [6]], 1)
    assert row["seconds_per_token"] == [2.0] and row["against_eager"] is None and row["against_graphs"] is None


def test_divergences():
    """Where, and by how much the model preferred its own token; texts that end at different places have no margin."""
    model = tiny_model(dtype=torch.float64, tie_embeddings=False)
    logits = model(torch.tensor([[5, 17, 3]]))[0, -1]
    found = bench.divergences(model, [[5, 17], [5, 17], [1]], [[3, 4], [3, 4], [7, 8]], [[3, 4], [3, 9], [7]])
    assert found == [{"prompt": 1, "at": 1, "margin": pytest.approx(float(logits[4] - logits[9]))},
                     {"prompt": 2, "at": 1, "margin": None}]
    assert bench.divergences(model, [[5, 17]], [[3]], [[3]]) == []


def test_shown():
    gaps = [{"prompt": 0, "at": 4, "margin": 0.25}, {"prompt": 1, "at": 2, "margin": None}]
    rows = [{"dtype": "float32", "prompts": "python", "name": name, "tokens_per_second": 1234.5, "tokens_per_pass": 1.5,
             "against_graphs": 1.4, "divergences": found} for name, found in (("lookahead", []), ("other", gaps))]
    text = bench.show({"model": "toy", "new_tokens": 9, "rounds": 3, "rows": rows, "passes": [
        {"dtype": "float32", "width": 64, "reach": 512, "tree": True, "kernels": 82, "microseconds": 250.4,
         "floor_microseconds": 98.6}]})
    assert "1.40 ×" in text and "the same texts" in text and "2 texts another, margins up to 2.5e-01" in text
    assert "a pass of  64 tokens" in text and "250 µs for 82 kernels; as many empty ones 99 µs" in text


def test_refused_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="this machine has none that PyTorch can use"):
        bench.measure()


@pytest.mark.gpu
def test_measures():
    """The whole of it, once and small: every row has its times, every pass its kernels."""
    found = bench.measure(dtypes=("float32",), python=1, mixed=1, peers=1, new_tokens=8, rounds=1, static=False,
                          settings=((5, 3, 5),), say=lambda line: None)
    assert {row["name"] for row in found["rows"]} >= {bench.EAGER, bench.PLAIN, "lookahead 5,3,5, graphs", bench.PEER}
    assert all(row["seconds_per_token"][0] > 0 for row in found["rows"])
    assert all(row["kernels"] > 1 and row["microseconds"] > 0 for row in found["passes"])
