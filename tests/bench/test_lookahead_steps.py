"""Counting lookahead's passes: the counts are those of the runs, and the formula of compression holds for them."""
import pytest
import torch
from core_helpers import one_thread, tiny_model  # noqa: F401

from minilm.bench.lookahead_steps import steps_saved
from minilm.decoding import autoregressive, speedup
from minilm.decoding.lookahead import lookahead


def test_counts():
    """S = (f - 1 + E) / f is an identity when f and E are measured: passes after prefill give what it says."""
    model = tiny_model(seed=13, dtype=torch.float64, tie_embeddings=False, max_positions=64)
    prompts, eos = [[5, 17, 80], [1], [9, 9, 2, 44] * 3], 7
    counts = steps_saved(model, prompts, 50, window=5, ngram=4, guesses=5, eos=eos, pool_from_prompt=True)
    runs = [lookahead(model, prompt, 50, window=5, ngram=4, guesses=5, eos=eos, pool_from_prompt=len(prompt) > 3)
            for prompt in prompts]
    assert counts["tokens"] == sum(len(autoregressive(model, prompt, 50, eos=eos).tokens) for prompt in prompts)
    assert counts["passes"] == sum(len(run.trace) for run in runs)
    assert counts["saved"] == pytest.approx(counts["tokens"] / counts["passes"], abs=1e-4) and counts["saved"] > 1
    later = (counts["tokens"] - len(prompts)) / (counts["passes"] - len(prompts))
    assert speedup.step_compression(counts["given"], 1 / counts["tried"]) == pytest.approx(later, abs=1e-3)
    fed = [step.fed for run in runs for step in run.trace[1:]]
    assert counts["fed"] == pytest.approx(sum(fed) / len(fed), abs=0.01)
