"""The engine against plain decoding: the benchmark on a CPU and small, and engines that are wrong."""
import pytest
import torch
from core_helpers import one_thread  # noqa: F401

import minilm
from minilm.bench import engine_lossless
from minilm.bench.lossless import divergence
from minilm.serving import engine as serving
from minilm.serving.paged_cache import PagedBatch


def rows(kinds=("float32",), prompts: int = 3, say=lambda line: None, **options) -> dict[str, dict]:
    measured = engine_lossless.measure(prompts, 14, "minilm-1m", device="cpu", dtypes=kinds, say=say, **options)
    assert engine_lossless.show(measured).count("\n") == len(measured["rows"])
    return {row["setting"]: row for row in measured["rows"]}


def unexplained(found: dict[str, dict]) -> list[str]:
    return [name for name, row in found.items() if row["explained"] < len(row["divergences"])]


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_the_engine(kind):
    """Guards the engine with everything on, settings that don't do what they are called, and rows that get lost when
    the run is cut."""
    kept, said = [], []
    found = rows([kind], say=said.append, keep=lambda measured: kept.append(len(measured["rows"])))
    assert not unexplained(found) and kept == list(range(1, len(found) + 1))
    assert all(row["identical"] + len(row["divergences"]) == 3 for row in found.values())
    if kind == "float32":
        assert all(row["identical"] == 3 for row in found.values())
    assert all(found[name]["preemptions"] for name in ("little memory, recompute", "little memory, swap", "all of it"))
    assert not found["plain"]["preemptions"]
    low, high = (1e-6, 1e-3) if kind == "float32" else (1e-2, 2.0)
    assert all(low < row["noise"] < high for row in found.values())
    assert "3 of 3 texts identical" in said[0] or kind == "bfloat16"


def test_an_engine_that_believes_every_draft(monkeypatch):
    """Guards a benchmark that takes an error for rounding: drafts that nobody checks."""
    monkeypatch.setattr(serving, "greedy_path", lambda tokens, draft: (list(range(len(draft.tokens))), tokens[-1]))
    wrong = unexplained(rows())
    assert "self-speculation" in wrong and "plain" not in wrong


def test_an_engine_that_forgets(monkeypatch):
    """Guards a benchmark that measures the noise on the very engine it judges, and so forgives it: logits that are far
    from float64 everywhere, since no token sees those before it."""
    attend = PagedBatch.attend
    monkeypatch.setattr(PagedBatch, "attend", lambda self, layer, q, k, v: attend(self, layer, q, k, 0 * v))
    found = rows()
    assert len(unexplained(found)) >= 9 and all(row["noise"] < 1e-3 for row in found.values())
    assert found["plain"]["engine_noise"] > 1 and "NOT BY ROUNDING" in engine_lossless.line(found["plain"])


def test_a_text_that_ends_early():
    """Guards a text too short, which has no token to compare."""
    model = minilm.load("minilm-1m", dtype=torch.float64)[0]
    found = divergence(model, [5, 6], [7, 8, 9], [7, 8])
    assert found["at"] == 2 and found["behind"] is None and not engine_lossless.explained(found, 1.0)
    found = divergence(model, [5, 6], [7, 8, 9], [7, 1, 2])
    logits = model(torch.tensor([[5, 6, 7]]))[0, -1]
    assert found["behind"] == pytest.approx(float(logits.max() - logits[[8, 1]].min())) and found["at"] == 1
    assert found["behind"] >= found["margin"] > 0
