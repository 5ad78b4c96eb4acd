"""The benchmarks of serving on a GPU and of early exit in a batch: what they ask for, count and say."""
import pytest
import torch
from core_helpers import assert_clear_error

from minilm.bench import batched_exit, serving_gpu


def test_requests():
    """Guards loads that differ between the two sides, or are not what the text says."""
    load = serving_gpu.requests_for(1000, 4000)
    assert load == serving_gpu.requests_for(1000, 4000) != serving_gpu.requests_for(1000, 4000, seed=1)
    prompts, outputs = [len(prompt) for prompt, _ in load], [new for _, new in load]
    assert min(prompts) >= 8 and max(prompts) <= 2048 and min(outputs) >= 8 and max(outputs) <= 256
    assert abs(sum(prompts) / 4000 - 256) < 15 and abs(sum(outputs) / 4000 - 64) < 4
    assert serving_gpu.blocks_for(load[:1]) >= -(-(prompts[0] + outputs[0]) // 16)


def test_lines():
    """Guards a table that says which is faster the wrong way round, or hides what failed."""
    own = {"model": "8B", "name": serving_gpu.OURS, "tokens_per_second": 3000.0}
    peer = {"model": "8B", "name": "transformers", "tokens_per_second": 1000.0}
    assert "the engine is 3.00 times as fast" in serving_gpu.line(peer, [own, peer])
    assert "times" not in serving_gpu.line(own, [own, peer])
    failed = {"model": "8B", "name": "transformers", "failed": "RuntimeError: no"}
    assert "did not run: RuntimeError: no" in serving_gpu.show({"requests": 2, "dtype": "bfloat16",
                                                                "rows": [own, failed]})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu():
    """Guards a far-fetched error where there is no GPU."""
    assert_clear_error(serving_gpu.measure, ValueError, "for a CPU there is `minilm bench serving`")


def test_batched_exit(monkeypatch):
    """Guards counts: in a batch more layers are read than run, alone equally many."""
    monkeypatch.setattr(batched_exit, "BATCHES", (1, 3))
    said = []
    measured = batched_exit.measure(tasks=3, new_tokens=5, rounds=1, say=said.append)
    alone, together = measured["rows"]
    assert alone["layers_run"] == alone["layers_read"] == together["layers_run"] < together["layers_read"] <= 16
    assert alone["same"] == together["same"]
    assert all(len(row["seconds"]["early exit"]) == 1 for row in (alone, together))
    assert "\n".join(said) == batched_exit.show(measured)
