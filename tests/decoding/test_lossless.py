"""The real models: greedy speculation is plain decoding, token by token, in float64; and the benchmark that says so."""
import functools

import pytest
import torch
from core_helpers import one_thread  # noqa: F401

import minilm
from minilm.bench import lossless
from minilm.bench.drafters import drafters
from minilm.decoding import autoregressive
from minilm.decoding.speculative import speculative
from minilm.training.evaluate import held_out_prompts

PROMPTS, TOKENS = 2, 64


@functools.cache
def loaded(name: str):
    return minilm.load(name, dtype=torch.float64)


@functools.cache
def answers() -> list[tuple[list[int], list[int]]]:
    """(prompt, plain decoding's answer) in float64."""
    model, tokenizer = loaded("minilm-14m")
    return [(prompt, autoregressive(model, prompt, TOKENS).tokens) for prompt in held_out_prompts(tokenizer, PROMPTS)]


@functools.cache
def proposers() -> dict:
    return lossless.proposers(loaded("minilm-14m")[0])


NAMES = ["prompt lookup", "trie", "draft model", "self-speculation", "blockwise", "blockwise tree",
         "prompt lookup, of one token", "draft model, constant", "draft model, heuristic", "self-speculation, exit 6",
         "blockwise, all heads", "blockwise, 16 nodes"]


def test_every_proposer_is_tried():
    """Guards a drafter that enters the race and is never held against plain decoding."""
    assert sorted(proposers()) == sorted(NAMES)
    assert drafters(loaded("minilm-14m")[0]).keys() <= proposers().keys()


@pytest.mark.parametrize("name", NAMES)
def test_greedy_text_is_plain_decodings(name):
    """Guards what only trained weights show: long texts, sharp distributions, drafts that are mostly right."""
    model, made = loaded("minilm-14m")[0], []
    for prompt, plain in answers():
        made.append(speculative(model, prompt, TOKENS, proposers()[name]()))
        assert made[-1].tokens == plain
    if not name.startswith("prompt lookup") and name != "trie":                     # these wait for a text that repeats
        assert sum(generation.stats.target_passes for generation in made) < 0.8 * PROMPTS * TOKENS, "nothing is gained"


def test_the_benchmark_tells_a_divergence(monkeypatch):
    """Guards a benchmark that calls different texts identical: a rule that loses a token must show, with its margin."""
    right = lossless.speculative

    def wrong(model, prompt, new, proposer):
        made = right(model, prompt, new, proposer)
        made.tokens[3] = (made.tokens[3] + 1) % model.config.vocab_size
        return made

    monkeypatch.setattr(lossless, "proposers", lambda model: {"prompt lookup": lossless.PromptLookup})
    monkeypatch.setattr(lossless, "speculative", wrong)
    measured = lossless.measure(1, 5, on_update=lambda line: None)
    assert [row["dtype"] for row in measured["rows"]] == ["float64", "float32"]
    for row in measured["rows"]:
        assert row["identical"] == 0 and row["prompts"] == 1
        (apart,) = row["divergences"]
        assert apart["prompt"] == 0 and apart["at"] == 3 and apart["margin"] > 0
    monkeypatch.setattr(lossless, "speculative", right)
    measured = lossless.measure(1, 5, on_update=lambda line: None)
    assert all(row["identical"] == 1 and not row["divergences"] for row in measured["rows"])
    assert "1 of 1 prompts identical" in lossless.show(measured)


def test_the_recurrent_draft_on_its_own_model():
    """Guards the draft with a reduced vocabulary: a few tokens only, since SmolLM2 in float64 is slow."""
    model, tokenizer = minilm.load("smollm2-135m-instruct", dtype=torch.float64)
    (prompt,) = held_out_prompts(tokenizer, 1)
    made = speculative(model, prompt, 16, lossless.proposers(model)["recurrent draft"]())
    assert made.tokens == autoregressive(model, prompt, 16).tokens
    assert made.stats.target_passes < 16, "nothing is gained"
