"""The real models: every lossless decoder is plain decoding, token by token, in float64; the benchmark that says so."""
import functools

import pytest
import torch
from core_helpers import one_thread  # noqa: F401

import minilm
from minilm.bench import lossless
from minilm.bench.drafters import drafters
from minilm.decoding import autoregressive
from minilm.decoding.proposers import PromptLookup
from minilm.decoding.speculative import speculative
from minilm.training.evaluate import held_out_prompts

PROMPTS, TOKENS = 2, 40


@functools.cache
def loaded(name: str):
    return minilm.load(name, dtype=torch.float64)


@functools.cache
def answers() -> list[tuple[list[int], list[int]]]:
    """(prompt, plain decoding's answer) in float64."""
    model, tokenizer = loaded("minilm-14m")
    return [(prompt, autoregressive(model, prompt, TOKENS).tokens) for prompt in held_out_prompts(tokenizer, PROMPTS)]


@functools.cache
def decoders() -> dict:
    return lossless.decoders(loaded("minilm-14m")[0])


NAMES = ["prompt lookup", "trie", "draft model", "self-speculation", "blockwise", "blockwise tree", "combined",
         "prompt lookup, of one token", "draft model, constant", "draft model, heuristic", "self-speculation, exit 6",
         "blockwise, all heads", "blockwise, 16 nodes", "Jacobi, blocks of 16", "lookahead (5, 3, 5)",
         "lookahead (15, 5, 15)"]
PATIENT = ("prompt lookup", "trie", "Jacobi", "lookahead")             # these wait for a text that repeats or settles


def test_every_decoder_is_tried():
    """Guards a drafter that enters the race and is never held against plain decoding."""
    assert sorted(decoders()) == sorted(NAMES)
    assert drafters(loaded("minilm-14m")[0]).keys() <= decoders().keys()


@pytest.mark.parametrize("name", NAMES)
def test_greedy_text_is_plain_decodings(name):
    """Guards what only trained weights show: long texts, sharp distributions, drafts that are mostly right."""
    made = []
    for prompt, plain in answers():
        made.append(decoders()[name](prompt, TOKENS))
        assert made[-1].tokens == plain
    if not name.startswith(PATIENT):
        assert sum(generation.stats.target_passes for generation in made) < 0.8 * PROMPTS * TOKENS, "nothing is gained"


def test_the_benchmark_tells_a_divergence(monkeypatch):
    """Guards a benchmark that calls different texts identical: a rule that loses a token must show, with its margin."""
    def wrong(model, prompt, new):
        made = autoregressive(model, prompt, new)
        made.tokens[3] = (made.tokens[3] + 1) % model.config.vocab_size
        return made

    monkeypatch.setattr(lossless, "decoders", lambda model: {"wrong": lambda *request: wrong(model, *request)})
    measured = lossless.measure(1, 5, on_update=lambda line: None)
    assert [row["dtype"] for row in measured["rows"]] == ["float64", "float32"]
    for row in measured["rows"]:
        assert row["identical"] == 0 and row["prompts"] == 1
        (apart,) = row["divergences"]
        assert apart["prompt"] == 0 and apart["at"] == 3 and apart["margin"] > 0
    monkeypatch.setattr(lossless, "decoders",
                        lambda model: {"right": lambda *request: speculative(model, *request, PromptLookup())})
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
