"""The model against `transformers`, logit by logit, in every family; and wrong models that must be told apart."""
import pytest
import torch
from core_helpers import (  # noqa: F401
    TINY,
    assert_clear_error,
    one_thread,
    random_ids,
    randomise,
    tiny_model,
)
from mutants import core
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from minilm import checkpoint
from minilm.hf_config import config_from_hf
from minilm.model import GPT, GPTConfig

LLAMA3 = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}               # its eight waves: three fast, three blended, two slow
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
SMALL = {"vocab_size": 61, "num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 6,
         "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 72, "max_position_embeddings": 40,
         "rms_norm_eps": 1e-3, "bos_token_id": None, "eos_token_id": None, "initializer_range": 0.3}
FAMILIES = {                                                    # name: (config class, what differs from SMALL)
    "llama, tied, 1:1": (LlamaConfig, {"num_key_value_heads": 6, "tie_word_embeddings": True}),
    "llama, untied, 3:1, wide heads": (LlamaConfig, {"head_dim": 16, "tie_word_embeddings": False}),
    "llama, 8:1": (LlamaConfig, {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 6}),
    "llama, llama3 scaling": (LlamaConfig, {"head_dim": 16, "rope_parameters": LLAMA3}),
    "llama, linear scaling": (LlamaConfig, {"rope_parameters": LINEAR}),
    "mistral": (MistralConfig, {"sliding_window": None}),
    "mistral, narrow heads": (MistralConfig, {"sliding_window": None, "head_dim": 4}),
    "mistral, window of 24": (MistralConfig, {"sliding_window": 24}),
    "qwen2, tied": (Qwen2Config, {"tie_word_embeddings": True}),
    "qwen2, untied, 1:1": (Qwen2Config, {"num_key_value_heads": 6}),
    "qwen2, 8:1": (Qwen2Config, {"num_attention_heads": 8, "num_key_value_heads": 1}),
    "qwen3, wide heads": (Qwen3Config, {"head_dim": 16}),
    "qwen3, tied, 1:1": (Qwen3Config, {"num_key_value_heads": 6, "tie_word_embeddings": True}),
}


def judge_model(name: str):
    """A random model of `transformers`, with plain ("eager") attention."""
    kind, changes = FAMILIES[name]
    config = kind(**{**SMALL, **changes})
    if kind in (Qwen2Config,):
        del config.head_dim
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    randomise(model)
    return model.eval()


@torch.no_grad()
def distance(judge, model: GPT, ids: torch.Tensor) -> float:
    want = judge(ids, use_cache=False).logits
    assert want.std() > 0.5, "logits so flat that any model would agree"
    return (model(ids) - want).abs().max().item()


def check_reads_every_family(folder):
    """`transformers` saves, minilm loads: logits within 1e-4 over all positions, batch 2."""
    for number, name in enumerate(FAMILIES):
        judge = judge_model(name)
        judge.save_pretrained(folder / str(number))
        model = checkpoint.load_model(folder / str(number))
        ids = random_ids(61, 2, model.config.max_positions)
        assert distance(judge, model, ids) < 1e-4, name


def check_writes_every_family(folder):
    """minilm saves, `transformers` loads."""
    shapes = {"plain": {}, "untied": {"tie_embeddings": False}, "qwen2": {"qkv_bias": True, "head_size": 4},
              "qwen3": {"qk_norm": True}, "llama3": {"rope_scaling": LLAMA3, "rope_theta": 100.0, "head_size": 16},
              "8:1": {"num_heads": 8, "num_kv_heads": 1}, "1:1": {"num_kv_heads": 6, "norm_eps": 1e-3}}
    for name, changes in shapes.items():
        model = tiny_model(**changes)
        checkpoint.save(model, None, folder / f"written {name}")
        judge = AutoModelForCausalLM.from_pretrained(folder / f"written {name}", dtype=torch.float32,
                                                     attn_implementation="eager")
        assert distance(judge, model, random_ids(97, 2, 32)) < 1e-4, name
        assert sum(p.numel() for p in judge.parameters()) == model.num_parameters(), name


CHECKS = {check.__name__: check for check in (check_reads_every_family, check_writes_every_family)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check, tmp_path):
    """Guards the model's arithmetic, and the two directions between the formats."""
    check(tmp_path)


@pytest.mark.parametrize("mutant", core.MODEL, ids=str)
def test_mutant_is_rejected(mutant, tmp_path, monkeypatch):
    """Guards a comparison too coarse to see a wrong model."""
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[mutant.check](tmp_path)


def test_sliding_window_limits_the_positions():
    """Guards plain causal attention past the window, where it would no longer be the model that was trained."""
    windowed = MistralConfig(**{**SMALL, "sliding_window": 24}).to_dict()
    assert config_from_hf(windowed).max_positions == 24
    assert config_from_hf({**windowed, "sliding_window": None}).max_positions == 40
    unused = {**Qwen2Config(**SMALL).to_dict(), "sliding_window": 24, "use_sliding_window": False}
    assert config_from_hf(unused).max_positions == 40
    assert config_from_hf({**unused, "use_sliding_window": True}).max_positions == 24


def test_older_config_files_read_the_same():
    """Guards theta and scaling as two fields, as files written before transformers 5 have them."""
    new = LlamaConfig(**{**SMALL, "head_dim": 16, "rope_parameters": LLAMA3}).to_dict()
    old = {key: value for key, value in new.items() if key != "rope_parameters"}
    scaling = {key: value for key, value in LLAMA3.items() if key != "rope_theta"}
    assert config_from_hf({**old, "rope_theta": 100.0, "rope_scaling": scaling}) == config_from_hf(new)
    oldest = {**old, "rope_theta": 100.0, "rope_scaling": {"type": "linear", "factor": 2.0}}
    assert GPT(config_from_hf(oldest)).rotary.frequencies()[0] == 0.5
    few = {key: old[key] for key in ("model_type", "vocab_size", "num_hidden_layers", "hidden_size",
                                     "num_attention_heads", "intermediate_size")}
    config = config_from_hf(few)
    assert (config.num_kv_heads, config.head_size, config.rope_theta) == (6, 8, 10_000.0)


def test_a_row_does_not_depend_on_its_batch():
    """Guards rows of a batch that see each other."""
    model, ids = tiny_model(dtype=torch.float64), random_ids(97, 3, 20)
    together = model(ids)
    for row in range(3):
        assert torch.allclose(model(ids[row : row + 1])[0], together[row], atol=1e-12)


def test_no_token_sees_the_next():
    """Guards a leak from the future: changing token t changes logits from t on only."""
    model, ids = tiny_model(dtype=torch.float64), random_ids(97, 1, 20)
    changed = ids.clone()
    changed[0, 11] = (ids[0, 11] + 1) % 97
    moved = (model(ids) - model(changed)).abs().amax(-1)[0]
    assert (moved[:11] == 0).all() and (moved[11:] > 1e-6).all()


def test_pieces_make_the_whole():
    """Guards `embed`, `layer_outputs`, `hidden` and `head` drifting from `forward`: lessons are built on them."""
    model, ids = tiny_model(), random_ids(97, 2, 9)
    outputs = list(model.layer_outputs(ids))
    assert len(outputs) == 2 and torch.equal(outputs[-1], model.hidden(ids))
    assert torch.equal(model.head(outputs[-1]), model(ids))
    assert model.embed(ids).shape == (2, 9, 24) and model(ids).shape == (2, 9, 97)


def test_number_of_parameters():
    """Guards a tied matrix counted twice. d 24, H 6, K 2, D 8, mlp 40, V 97, L 2, by hand."""
    layer = 24 * 48 + 2 * 24 * 16 + 48 * 24 + 3 * 24 * 40 + 2 * 24
    assert tiny_model().num_parameters() == 97 * 24 + 2 * layer + 24
    assert tiny_model(tie_embeddings=False).num_parameters() == 2 * 97 * 24 + 2 * layer + 24


def test_random_weights_train():
    """Guards a part of the model that no gradient reaches."""
    model = GPT(TINY)
    model(random_ids(97, 2, 9)).logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(("ids", "says"), [
    (torch.tensor([[0, 97]]), "token id 97 is outside the vocabulary of 97"), (torch.tensor([[3, -1]]), "token id -1"),
    (torch.tensor([[0.0, 1.0]]), "whole numbers"), (torch.tensor([[True]]), "whole numbers"),
    (torch.tensor([1, 2]), "[B, T]"), (torch.zeros(1, 0, dtype=torch.long), "empty"),
    (torch.zeros(1, 33, dtype=torch.long), "do not fit into 32 positions"),
    (torch.tensor([[1]], dtype=torch.uint8), "whole numbers"), ([[1, 2]], "[B, T]")], ids=str)
def test_bad_ids(ids, says):
    """Guards ids that would index another row, or fail deep inside with a line about tensors."""
    assert_clear_error(lambda: tiny_model()(ids), ValueError, says)


@pytest.mark.parametrize(("changes", "says"), [
    ({"num_layers": 0}, "GPTConfig.num_layers"), ({"width": 2.5}, "GPTConfig.width"), ({"num_kv_heads": 4}, "multiple"),
    ({"head_size": 7}, "even"), ({"rope_scaling": {"rope_type": "yarn"}}, "'yarn' is not known"),
    ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor")])
def test_bad_configs(changes, says):
    """Guards a shape that cannot be, found at the first pass instead of at once."""
    assert_clear_error(lambda: GPTConfig(**{**vars(TINY), **changes}), ValueError, says)
