"""The race: fair pairing, honest comparison, clear errors."""
import json

import pytest
import torch

import minilm
from minilm import race as race_module
from minilm.bench.contestants import BASELINE, REGISTRY, Contestant, Course, TransformersPeer, chosen
from minilm.cli import main
from minilm.generation import Generation, Stats
from minilm.model import GPT, GPTConfig
from minilm.race import first_difference, race
from minilm.text import counted

TINY = GPTConfig(vocab_size=64, num_layers=2, width=32, num_heads=4, num_kv_heads=2, head_size=8, mlp_width=48,
                 max_positions=64, tie_embeddings=False)


def lively(seed: int) -> GPT:
    """A random model that does not just repeat its last token, as one with small weights would."""
    torch.manual_seed(seed)
    model = GPT(TINY).double().eval().requires_grad_(False)
    for weight in model.parameters():
        if weight.dim() == 2:
            weight.normal_(std=0.5)
    return model


ANY_COURSE = Course(lively(0), None, [1], 3)        # for scripted contestants, who do not look at it


@pytest.fixture
def course():
    return Course(lively(0), None, [3, 1, 4, 1, 5], 12)


def scripted(name, seconds, tokens):
    """A contestant that takes the next of `seconds` at each run, and always says `tokens`."""
    times = iter(seconds)
    n = len(tokens)
    return Contestant(name, 2, lambda course: Generation(tokens, [], Stats(1, n, n, 0.0, next(times))))


def test_speed_up_is_the_median_of_paired_ratios_and_the_warm_up_does_not_count():
    """A slow round that hits both alike must not move the figure: ratios of medians (4/2) would say 2, not 3."""
    base = scripted(BASELINE, [99, 3, 30, 4], [1, 2])
    rival = scripted("rival", [0.001, 1, 10, 2], [1, 2])
    results = {r.contestant.name: r for r in race(ANY_COURSE, [base, rival], rounds=3)}
    assert results["rival"].speed_up == 3
    assert results[BASELINE].speed_up == 1
    assert results["rival"].tokens_per_second == pytest.approx(2 / 2)


def test_other_output_is_told_with_its_place():
    """A decoder that is fast because it says something else must not look like a winner."""
    base = scripted(BASELINE, [1] * 2, [5, 6, 7])
    wrong = scripted("wrong", [1] * 2, [5, 9, 7])
    short = scripted("short", [1] * 2, [5, 6])
    results = {r.contestant.name: r for r in race(ANY_COURSE, [wrong, base, short], rounds=1)}
    assert results["wrong"].differs_at == 1
    assert results["short"].differs_at == 2
    assert not results["wrong"].as_dict()["same_as_baseline"]


@pytest.mark.parametrize("a, b, where", [([], [], None), ([1], [1], None), ([1], [], 0), ([1, 2], [1, 3], 1)])
def test_first_difference(a, b, where):
    assert first_difference(a, b) == where


def test_transformers_peer_says_the_same_and_its_passes_are_counted(course):
    """The peer must run on the very same weights, one pass a token, and never stop early at an end token."""
    peer = course.peer.generate(course.prompt, course.max_new_tokens)
    ours = REGISTRY[BASELINE].run(course)
    assert peer.tokens == ours.tokens and len(set(ours.tokens)) > 3
    assert peer.stats.target_passes == ours.stats.target_passes == 12
    assert course.peer.model.dtype == torch.float64


def test_peer_of_other_weights_is_noticed(course):
    """Guards the comparison itself: with other weights the outputs must differ somewhere."""
    other = TransformersPeer(lively(1))
    assert other.generate(course.prompt, 12).tokens != REGISTRY[BASELINE].run(course).tokens


def test_the_baseline_always_runs():
    assert [c.name for c in chosen(ANY_COURSE, ["transformers"])] == ["transformers", BASELINE]


@pytest.mark.parametrize("call, message", [
    (lambda: chosen(ANY_COURSE, ["snail"]), "no contestant named 'snail'; there are .*autoregressive"),
    (lambda: chosen(ANY_COURSE, ["draft model"]), "trained for another one"),
    (lambda: race(ANY_COURSE, chosen(ANY_COURSE), rounds=0), "at least one round"),
    (lambda: race(Course(lively(0), None, [1], 0), chosen(ANY_COURSE)), "at least one new token"),
    (lambda: race(Course(lively(0), None, [1], 64), chosen(ANY_COURSE)), "do not fit"),
])
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_command_line_gives_json(capsys):
    assert main(["race", "--model", "minilm-1m", "--max-new-tokens", "4", "--rounds", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {"draft model", "blockwise"} & (names := {r["name"] for r in said["results"]}) == set()
    assert {BASELINE, "transformers", "prompt lookup", "CALM"} < names < set(REGISTRY)
    assert all(r["same_as_baseline"] for r in said["results"] if r["exact"])
    assert all(r["tokens_per_second"] > 0 for r in said["results"])


def test_command_line_shows_a_table_and_one_line_errors(capsys):
    assert main(["race", "--model", "minilm-1m", "--max-new-tokens", "4", "--rounds", "1"]) == 0
    assert "autoregressive" in capsys.readouterr().out
    assert main(["race", "--model", "minilm-1m", "--max-new-tokens", "5000"]) == 2
    assert "do not fit" in capsys.readouterr().err
    assert main(["race", "--model", "nonsense"]) == 2
    assert "Known names" in capsys.readouterr().err


def test_one_round_is_no_rounds(capsys):
    """Guards "1 rounds", and a prompt whose brackets are read as markup."""
    assert main(["race", "--model", "minilm-1m", "--max-new-tokens", "1", "--rounds", "1", "--prompt", "a [/b] c"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 new token, greedy, 1 round after" in said and "a [/b] c" in said
    assert [counted(n, "round") for n in (0, 1, 2)] == ["0 rounds", "1 round", "2 rounds"]


def test_table_has_a_row_for_everyone_from_the_start():
    waiting = race_module.table([race_module.Result(c) for c in chosen(ANY_COURSE)])
    assert waiting.row_count == len(chosen(ANY_COURSE)) < len(REGISTRY)


def test_early_exit_looks_through_the_lens_that_was_fitted_for_the_model():
    """Guards the real model racing with middle layers that were never meant to be read."""
    model, tokenizer = minilm.load("smollm2-135m-instruct")
    real = Course(model, tokenizer, tokenizer.chat("Hi"), 3)
    assert real.lens is not None and real.lens.exits[-1] < 30
    assert set(step.layers for step in REGISTRY["CALM"].run(real).trace) <= {*real.lens.exits, 30}
    assert Course(lively(0), None, [1], 3).lens is None
