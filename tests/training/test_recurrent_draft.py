"""The recurrent draft: learns what can be learnt, at toy size; and the one that is shipped."""
import json

import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401

import minilm
from minilm import heads
from minilm.decoding import RecurrentDraft, RecurrentHead, autoregressive, speculative
from minilm.training import recurrent
from minilm.training.evaluate import held_out_prompts


def test_states_and_tokens_stand_together():
    """Guards states one place off: put through the head, each names the greedy token that stands beside it."""
    model = tiny_model(num_layers=2)
    pairs = [(prompt, autoregressive(model, prompt, 6).tokens) for prompt in ([1, 2, 3], [5], [7, 8, 9, 10])]
    x, tokens, left = recurrent.states(model, pairs, batch=2)
    assert (x.float() @ (model.vocabulary.weight * model.norm.weight).T).argmax(-1).tolist() == tokens.tolist()
    assert left.tolist() == [5, 4, 3, 2, 1, 0] * 3
    assert recurrent.frequent_words(torch.tensor([4, 9, 9, 2, 2, 2]), 2).tolist() == [2, 9]


def test_it_learns_a_rule_that_the_embedding_tells():
    """Guards gradients that do not arrive, or targets of the wrong step: where the next state is a fixed function of
    the token, its argmax must become the target's."""
    model = tiny_model(num_layers=1).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 12, (4000,), generator=generator)
    after = torch.randn(12, 24, generator=generator)                        # the state that follows each token
    x = torch.nn.functional.rms_norm(torch.cat((torch.randn(1, 24, generator=generator), after[tokens[:-1]])), (24,))
    left = torch.full((4000,), 9)
    left[-5:] = 0
    head = recurrent.fit(model, x.half(), tokens, left, torch.arange(97), inner=32, minutes=2.0, epochs=20.0,
                         rate=1e-2)
    found = recurrent.acceptance(model, head, x.half(), tokens, left)
    assert min(found["greedy"]) > 0.9 and min(found["temperature_1"]) > 0.8
    fresh = RecurrentHead(torch.randn(64, 48), torch.zeros(24, 32), torch.arange(97), torch.zeros(97))
    assert max(recurrent.acceptance(model, fresh, x.half(), tokens, left)["greedy"]) < 0.5


def test_it_comes_back_whole_and_refuses_the_rest(tmp_path):
    """Guards word ids rounded by float16 (2049 is no float16), heads of another model, other tensors."""
    model = tiny_model(vocab_size=3000)
    head = RecurrentHead(torch.randn(16, 48), torch.randn(24, 8), torch.tensor([3, 2049, 2999]), torch.randn(3))
    head.save(tmp_path / "draft.safetensors", model)
    loaded = RecurrentHead.load(model, tmp_path / "draft.safetensors")
    assert loaded.words.tolist() == [3, 2049, 2999] and loaded.gate_up.dtype == model.dtype
    other = tiny_model(seed=1, vocab_size=3000)
    assert_clear_error(lambda: RecurrentHead.load(other, tmp_path / "draft.safetensors"), ValueError, "another model")
    heads.write(tmp_path / "odd.safetensors", {"up": torch.ones(2)}, model)
    assert_clear_error(lambda: RecurrentHead.load(model, tmp_path / "odd.safetensors"), ValueError, "no recurrent head")
    assert_clear_error(lambda: RecurrentDraft(head, 0), ValueError, "num_tokens must be a whole number")
    assert_clear_error(lambda: speculative(tiny_model(width=16, head_size=4), [1], 4, RecurrentDraft(head)), ValueError,
                       "states of width 24")


def test_the_shipped_draft():
    """Guards a head that does not belong to SmolLM2's weights: acceptance near its record, and the text unchanged."""
    try:
        model, tokenizer = minilm.load("smollm2-135m-instruct")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    record = json.loads((heads.FOLDER / "heads.json").read_text())["recurrent"]
    head = RecurrentHead.load(model)
    assert len(head.words) == record["words"]
    prompts = held_out_prompts(tokenizer, 3)
    plain = [autoregressive(model, prompt, 32).tokens for prompt in prompts]
    found = recurrent.acceptance(model, head, *recurrent.states(model, list(zip(prompts, plain, strict=True))))
    assert abs(found["greedy"][0] - record["greedy"][0]) < 0.2              # 84 places only
    out = speculative(model, prompts[0], 32, RecurrentDraft(head, 2))
    assert out.tokens == plain[0] and out.stats.target_passes < 26
