"""Tests of lesson 06's pictures: a replay is the run, a tree's rows are its mask, no mark rests on colour alone."""
import re

import pytest
import torch

from minilm.decoding import autoregressive
from minilm.decoding.proposers import AheadHeads, Blockwise, PromptLookup, SelfSpeculative, choose_tree
from minilm.decoding.speculative import speculative
from minilm.model import GPT, GPTConfig
from minilm.viz import guesses, lookup, proposer_charts, self_speculation, token_tree

TREE = [(0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0)]
ROUNDS = ((guesses.prompt_lookup(6, 3), lambda ahead: PromptLookup(6, 3)),
          (guesses.early_exit(2, 5), lambda ahead: SelfSpeculative(2, 5)),
          (guesses.heads(guesses.chain(3)), Blockwise),
          (guesses.heads(TREE), lambda ahead: Blockwise(ahead, TREE)))


class Letters:
    """Tokens 0, 1, ... are the letters from a on; 1 is markup, to be escaped."""

    def decode(self, ids):
        return "".join("<b>" if i == 1 else chr(ord("a") + i % 26) for i in ids)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GPT(GPTConfig(vocab_size=24, num_layers=4, width=32, num_heads=4, num_kv_heads=2, head_size=8, mlp_width=64,
                         max_positions=128, tie_embeddings=False)).double().eval()


@pytest.fixture(scope="module")
def ahead():
    generator = torch.Generator().manual_seed(1)
    parts = (torch.randn(shape, generator=generator).double() * 0.2 for shape in ((3, 16, 64), (3, 16), (3, 32, 16)))
    return AheadHeads(*parts)


@pytest.mark.parametrize("eos", [None, *range(6)])
@pytest.mark.parametrize("which", range(len(ROUNDS)))
@torch.inference_mode()
def test_replay_is_the_run(model, ahead, which, eos):
    """Guards an off-by-one in places, ranks or the room left: each round drafts and gives what the real one does."""
    replay, make = ROUNDS[which]
    for prompt in ([3, 5, 7], [1, 2, 1, 2, 1]):
        full = autoregressive(model, prompt, 40, eos=eos).tokens
        text = guesses.read(model, prompt, full, ahead, limit=40)
        assert guesses.same_rounds(text, replay, speculative(model, prompt, 40, make(ahead), eos=eos))


def test_accuracy_counts_only_places_that_have_a_later_token():
    """Guards counting the text's end, where no later token exists, as a miss."""
    text = guesses.Guesses([0], [1, 2, 3, 4], torch.zeros(2, 4),
                           torch.tensor([[0, 1, 0, guesses.FAR], [guesses.FAR, 0, guesses.FAR, guesses.FAR]]), 4)
    assert guesses.accuracy([text], 2).tolist() == [[2 / 3, 1 / 3], [1 / 2, 0]]


def test_tokens_per_pass_of_a_perfect_and_a_useless_drafter():
    """A text of 11 tokens after the prompt's pass: ten at five a pass, or one a pass."""
    text = guesses.Guesses([0], list(range(11)), torch.arange(11).expand(2, -1), None, 11)
    assert guesses.tokens_per_pass([text], guesses.early_exit(1, 4)) == 5
    assert guesses.tokens_per_pass([text], guesses.prompt_lookup(4, 2)) == 1


def test_no_text_to_read_is_told(model):
    with pytest.raises(ValueError, match="at least one of each"):
        guesses.read(model, [], [1])


def test_tree_rows_are_the_mask(model, ahead):
    """Guards a picture that shows another mask than the cache's: as many dots as the mask has ones."""
    parents, tokens = [-1, -1, 0, 0, 3], ["a", "b", "c", "<b>", "e"]
    drawn = token_tree.draw(tokens, parents, (0, 3), root="r", held=7, last="z")
    assert len(re.findall(r'<circle[^>]*r="1.8"', drawn)) == 1 + 2 + 2 + 3 + 3 + 4
    assert [drawn.count(f"sees {n} of the tokens fed") for n in (1, 2, 3, 4)] == [1, 2, 2, 1]
    assert drawn.count(">✓") >= 2 and drawn.count(">✗") >= 3                    # marks, not colours alone
    assert "<b>" not in drawn and "&lt;b&gt;" in drawn


def test_one_tree_picture_a_round(model, ahead):
    run = speculative(model, [3, 5, 7], 30, Blockwise(ahead, TREE))
    pictures = token_tree.frames(run, [3, 5, 7], Letters())
    assert len(pictures) == sum(step.parents is not None for step in run.trace[1:])
    assert all(f"<b>round {n}</b>" in picture for n, picture in enumerate(pictures, start=1))


def test_lookup_finds_what_was_copied(model):
    """The place that is marked is followed by the draft, and its tokens are the text's end."""
    prompt = [1, 2, 3, 4, 5, 1, 2, 3]
    run = speculative(model, prompt, 30, PromptLookup(4, 3))
    text = list(prompt)
    for step in run.trace:
        if len(step.drafted):
            start, n = lookup.place(text, step.drafted, 3)
            assert text[start : start + n] == text[-n:]
            assert text[start + n : start + n + len(step.drafted)] == list(step.drafted)
        text += step.emitted
    assert len(lookup.frames(run, prompt, Letters(), ngram=3)) == len(run.trace) - 1
    with pytest.raises(ValueError, match="do not follow"):
        lookup.place([1, 2, 3], [9], 3)


def test_self_speculation_has_a_frame_for_each_step(model):
    run = speculative(model, [3, 5, 7], 20, SelfSpeculative(2, 3))
    told = self_speculation.rounds(run, [3, 5, 7], Letters())
    pictures, captions = self_speculation.frames(told, 2, 4)
    assert len(pictures) == len(captions) == sum(len(one.fed) + 1 for one in told)
    assert captions[0].startswith("<b>round 1</b>: draft 1 of 3: layers 1 to 2")


def test_budget_frames_tell_expectation_and_measurement():
    """The expectation is 1 + the sum of the paths' chances."""
    accuracy = torch.tensor([[0.5, 0.2], [0.4, 0.1]])
    frames = proposer_charts.budget_frames(accuracy, lambda paths: 1.25, [1, 3])
    assert "expected 1.50 tokens a pass, measured 1.25" in frames[0]
    assert "expected 1.90 tokens a pass" in frames[1]                           # (0,), (0, 0), (1,): 0.5 + 0.2 + 0.2
    assert len(choose_tree(accuracy, 3)) == 3


def test_table_marks_the_best_and_the_slow():
    drawn = proposer_charts.table({"a": {"x": 1.5, "y": 0.8}, "b": {"x": 1.2, "y": 0.9}}, unit="×")
    assert "1.50× ★" in drawn and "0.80× ✗" in drawn and "0.90× ★" in drawn


@pytest.mark.parametrize("make", [
    lambda: proposer_charts.accuracy_chart(torch.tensor([[0.5, 0.2], [0.4, 0.1]]), others={"theirs": (0.6, 0.3)}),
    lambda: proposer_charts.rows_chart([1, 2, 3, 5], [1.0, 1.1, 1.2, 1.6], {1: 1.5, 2: 1.6, 4: 1.7})])
def test_charts_draw(make):
    assert make().png()[:4] == b"\x89PNG"


def test_exit_frame_marks_the_best_and_what_loses():
    tokens = {(1, 2): 1.1, (2, 2): 2.4}
    drawn = proposer_charts.exit_frame(tokens, {(1, 2): 0.9, (2, 2): 1.4}, 2)
    assert "0.90× ✗" in drawn and "1.40× ★" in drawn


def test_lengths_are_told_in_words():
    drawn = proposer_charts.lengths_chart({"story": {"fixed": [(3, 3), (3, 0)]}})
    assert "story, fixed: 2 rounds, 6 drafted, 3 accepted" in drawn
