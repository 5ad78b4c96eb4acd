"""The making of the checkpoints, end to end at toy size, and the batched sampler that it rests on."""
import json

import pytest
import torch
from core_helpers import one_thread, tiny_model  # noqa: F401

import minilm
from minilm.decoding import autoregressive
from minilm.tokenizer import check_same_tokenizer
from minilm.training.__main__ import main
from minilm.training.sampler import draw_rows, sample_batch

PROMPTS = [[5], [1, 2, 3, 4, 5, 6, 7], [9, 8], [60, 61, 62, 63], [96, 0, 96]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a whole toy run, with minilm-1m as the teacher."""
    folder = tmp_path_factory.mktemp("toy")
    main(["all", "--toy", "--folder", str(folder), "--teacher", "minilm-1m", "--prompts", "36", "--train-steps", "2",
          "--minutes", "2", "--device", "cpu"])
    return folder


def test_makes_two_models_that_belong_together(made):
    """Guards the path from prompts to checkpoints: both load, speak the same tokens, and answer."""
    target, tokenizer = minilm.load(made / "minilm-14m")
    draft, its_tokenizer = minilm.load(made / "minilm-1m")
    check_same_tokenizer(tokenizer, its_tokenizer)
    assert target.config.num_layers == 16 and draft.num_parameters() < target.num_parameters() / 5
    assert tokenizer.eos_id is not None and tokenizer.vocab_size == target.config.vocab_size == 512
    for model in (target, draft):
        assert all(p.isfinite().all() for p in model.parameters())
        out = autoregressive(model, tokenizer.chat("Tell me a story."), 8)
        assert len(out.tokens) == 8 and isinstance(tokenizer.decode(out.tokens), str)


def test_training_moves_the_weights(made):
    """Guards a checkpoint saved before training, or the optimiser's two halves missing a parameter."""
    from minilm.model import GPT
    from minilm.training.pretrain import target_config
    model, _ = minilm.load(made / "minilm-14m")
    torch.manual_seed(0)
    fresh = GPT(target_config(512)).state_dict()
    for name, weight in model.state_dict().items():
        assert (weight - fresh[name].bfloat16().float()).abs().max() > 0, name


def test_the_evaluation_tells_what_the_card_needs(made):
    """Guards figures that are missing, out of range, or the last layer disagreeing with itself."""
    found = json.loads((made / "evaluation.json").read_text())
    assert len(found["layer_agreement"]) == 16 and found["layer_agreement"][-1] == 1.0
    for share in (*found["layer_agreement"], found["draft_accepted_greedy"], found["draft_accepted_temperature_1"]):
        assert 0 <= share <= 1
    assert 0 < found["positions_greedy"] <= found["prompts"] * found["max_new_tokens"]
    assert len(found["samples"]) == 8 and all(sample["prompt"] for sample in found["samples"])


def test_the_corpus_and_the_logs(made):
    """Guards empty answers, special tokens inside texts, and losses that are no numbers."""
    lines = [json.loads(line) for line in (made / "corpus.jsonl").read_text().splitlines()]
    assert len(lines) >= 36 and len({line["kind"] for line in lines}) > 5
    assert all(line["answer"].strip() and "<|" not in line["answer"] for line in lines)
    for name, fields in (("pretrain", ("final", "early")), ("distil", ("loss", "acceptance"))):
        log = [json.loads(line) for line in (made / f"{name}.jsonl").read_text().splitlines()]
        assert log and all(line[field] == line[field] for line in log for field in fields)


@pytest.mark.parametrize("shape", [{}, {"num_kv_heads": 6}, {"num_heads": 8, "num_kv_heads": 1}], ids=str)
def test_batched_greedy_equals_one_by_one(shape):
    """Guards padding that is attended to, and rows mixed up when finished ones leave the batch."""
    model = tiny_model(dtype=torch.float64, max_positions=64, **shape)
    alone = [autoregressive(model, prompt, 40).tokens for prompt in PROMPTS]
    for end in (alone[0][3], alone[3][20], 1000):               # a row that ends early, one late, none
        cut = [tokens[: tokens.index(end) + 1] if end in tokens else tokens for tokens in alone]
        safe = end if end < 97 else next(t for t in range(97) if not any(t in tokens for tokens in alone))
        assert sample_batch(model, PROMPTS, 40, temperature=0.0, eos=safe) == cut


def test_batched_draws_follow_the_distribution():
    """Guards a Gumbel trick with the wrong sign or temperature, and min_p. Chi-square, 7 degrees of freedom: a false
    alarm once in 10,000 seeds (29.9), and the seed is fixed."""
    logits, draws = torch.tensor([1.0, 0.0, 2.0, -1.0, 0.5, 1.5, -0.5, 0.2]), 20_000
    generator = torch.Generator().manual_seed(0)
    for temperature, min_p in ((1.0, 0.0), (0.5, 0.0), (1.0, 0.3)):
        probs = (logits.double() / temperature).softmax(-1)
        probs = torch.where(probs >= min_p * probs.max(), probs, 0)
        expected = draws * probs / probs.sum()
        drawn = draw_rows(logits.expand(draws, -1), temperature, min_p, generator)
        counts = torch.bincount(drawn, minlength=8).double()
        assert (counts[expected == 0] == 0).all()
        assert ((counts - expected) ** 2 / expected)[expected > 0].sum() < 29.9
