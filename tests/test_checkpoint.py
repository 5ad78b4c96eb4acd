"""Checkpoints: what is saved comes back, and every kind of damage is one clear error that names the file."""
import json
import shutil
import subprocess
import sys

import pytest
import torch
from core_helpers import (  # noqa: F401
    assert_clear_error,
    error_of,
    one_thread,
    random_ids,
    tiny_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import minilm
from minilm import checkpoint
from minilm.hf_config import config_to_hf

Q_PROJ = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A small sound checkpoint of our own."""
    _, tokenizer = minilm.load("minilm-1m")
    path = tmp_path_factory.mktemp("checkpoint")
    checkpoint.save(tiny_model(vocab_size=8192, tie_embeddings=False), tokenizer, path)
    return path


@pytest.fixture
def folder(sound, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(sound, tmp_path / "sound")


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, str(folder / "model.safetensors"))


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False}, {"qk_norm": True},
                                     {"qkv_bias": True, "head_size": 4},
                                     {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_saved_comes_back(changes, dtype, tmp_path):
    """Guards a weight or a field of the config lost on the way; the dtype is the model's."""
    model = tiny_model(dtype=dtype, **changes)
    checkpoint.save(model, None, tmp_path)
    back = checkpoint.load_model(tmp_path, dtype=dtype)
    assert back.config == model.config
    assert back.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), model.state_dict().values(), strict=True))
    assert {t.dtype for t in load_file(tmp_path / "model.safetensors").values()} == {dtype}


def test_loaded_models_are_ready_for_inference(folder):
    """Guards dropout, gradients or a wrong dtype left on after loading; float64 on request."""
    model, tokenizer = minilm.load(folder, dtype=torch.float64)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float64} and model.device.type == "cpu"
    assert tokenizer.vocab_size == 8192
    tied, _ = minilm.load("minilm-1m")
    assert tied.vocabulary.weight is tied.embedding.weight


def test_several_files_with_an_index(folder):
    """Guards sharded checkpoints; a shard that is not there is named by the first tensor that is missing."""
    ids = random_ids(8192, 1, 9)
    want = checkpoint.load_model(folder)(ids)
    sharded = folder.parent / "sharded"
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).save_pretrained(sharded, max_shard_size="400KB")
    shards = sorted(sharded.glob("*.safetensors"))
    assert len(shards) > 2 and torch.allclose(checkpoint.load_model(sharded)(ids), want, rtol=0, atol=1e-5)
    shards[1].unlink()
    assert_clear_error(lambda: checkpoint.load_model(sharded), ValueError, "is missing", "tensor ")


@pytest.mark.parametrize(("change", "says"), [
    (lambda t: t.pop(Q_PROJ), [f"tensor {Q_PROJ} is missing"]),
    (lambda t: t.pop("lm_head.weight"), ["tensor lm_head.weight is missing"]),
    (lambda t: t.update({Q_PROJ: torch.zeros(48, 25)}), [Q_PROJ, "[48, 25]", "asks for [48, 24]"]),
    (lambda t: t.update({"model.norm.weight": torch.zeros(1)}), ["model.norm.weight", "[1]", "[24]"])])
def test_a_missing_or_misshapen_tensor_is_named(folder, change, says):
    """Guards weights left random, and torch's own wall of keys."""
    edit_tensors(folder, change)
    assert_clear_error(lambda: minilm.load(folder), ValueError, *says)


@pytest.mark.parametrize(("changes", "says"), [
    ({"model_type": "gpt2"}, ["'gpt2' is not supported", "llama, mistral, qwen2, qwen3"]),
    ({"model_type": ...}, ["model_type None"]), ({"hidden_act": "gelu"}, ["hidden_act 'gelu'"]),
    ({"attention_bias": True}, ["biases"]), ({"mlp_bias": True}, ["biases"]), ({"hidden_size": ...}, ["hidden_size"]),
    ({"hidden_size": "wide"}, ["width", "'wide'"]), ({"num_key_value_heads": 4}, ["multiple"]),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, ["'yarn' is not known"]),
    ({"rope_scaling": [1]}, ["config.json"]), ({"rope_theta": "big"}, ["config.json"]),
    ({"max_position_embeddings": None}, ["max_positions"]), ({"rms_norm_eps": "x"}, ["'x'"]),
    ({"num_attention_heads": 0}, ["num_heads"]), ({"head_dim": None, "num_attention_heads": 0}, ["num_heads"])])
def test_a_config_that_cannot_be_read(folder, changes, says):
    """Guards a family or an option that would be computed wrongly, and bare KeyErrors."""
    edit_config(folder, **changes)
    assert_clear_error(lambda: minilm.load(folder), ValueError, "config.json", *says)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"llama"', "{}", "\ufffd\x00"])
def test_a_config_that_is_no_config(folder, text):
    """Guards config.json cut short, empty, or holding something else."""
    (folder / "config.json").write_text(text, encoding="utf-8")
    assert_clear_error(lambda: minilm.load(folder), ValueError, "config.json")
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    assert_clear_error(lambda: minilm.load(folder), ValueError, "config.json")


@pytest.mark.parametrize("damage", [
    lambda b: b"", lambda b: b[:5], lambda b: b[:200], lambda b: b[: len(b) // 2], lambda b: b[:-1],
    lambda b: b"\xff" * 8 + b[8:], lambda b: b[:8] + b"x" + b[9:], lambda b: b"garbage" * 999, lambda b: b + b"tail",
    lambda b: b.replace(b'"F32"', b'"F99"', 1)])
def test_damaged_safetensors(folder, damage):
    """Guards a download cut anywhere, and bytes that are no safetensors."""
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert_clear_error(lambda: minilm.load(folder), ValueError, "model.safetensors is damaged or incomplete; fetch it")


def test_pickled_checkpoints_are_refused(folder):
    """Guards code that runs when a stranger's checkpoint is opened: neither files nor folders of pickles are read."""
    for name in ("pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl"):
        path = folder.parent / name
        path.write_bytes(b"\x80\x04garbage")
        assert_clear_error(lambda path=path: minilm.load(path), ValueError, name, "pickled", "run code", "safetensors")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert_clear_error(lambda: minilm.load(folder), ValueError, "only pickled weights (pytorch_model.bin)")
    (folder / "pytorch_model.bin").unlink()
    assert_clear_error(lambda: minilm.load(folder), FileNotFoundError, "has no .safetensors file")


def test_incomplete_folders(folder):
    """Guards a folder without config, tokenizer or anything, and a path to nothing."""
    shutil.copytree(folder, folder.parent / "other")
    (folder.parent / "other" / "tokenizer.json").unlink()
    assert_clear_error(lambda: minilm.load(folder.parent / "other"), FileNotFoundError, "no tokenizer.json")
    (folder / "config.json").unlink()
    assert_clear_error(lambda: minilm.load(folder), FileNotFoundError, "has no config.json")
    assert_clear_error(lambda: minilm.load(folder.parent / "nothing"), FileNotFoundError, "Known names: minilm-14m")
    assert_clear_error(lambda: checkpoint.load_model(folder / "nothing"), FileNotFoundError, "no checkpoint at")


def test_model_and_tokenizer_that_do_not_belong_together(folder):
    """Guards token ids past the embedding."""
    checkpoint.save(tiny_model(), None, folder)
    assert_clear_error(lambda: minilm.load(folder), ValueError, "8192 tokens, more than the model's 97")


def test_save_refuses_what_no_family_has(tmp_path):
    """Guards a folder that opens as another model, or a file overwritten by a folder."""
    both = tiny_model(qkv_bias=True, qk_norm=True)
    assert_clear_error(lambda: checkpoint.save(both, None, tmp_path / "x"), ValueError, "qkv_bias together with")
    assert_clear_error(lambda: checkpoint.save(tiny_model(qkv_bias=True), None, tmp_path / "x"), ValueError, "qwen2")
    assert not (tmp_path / "x").exists()
    (tmp_path / "file").write_text("")
    assert_clear_error(lambda: checkpoint.save(tiny_model(), None, tmp_path / "file"), ValueError, "is a file")
    assert config_to_hf(tiny_model().config, torch.bfloat16, 7)["eos_token_id"] == 7


@pytest.mark.parametrize(("dtype", "want"), [
    ("float32", torch.float32), ("float64", torch.float64), ("torch.bfloat16", torch.bfloat16),
    ("float16", torch.float16), (torch.float16, torch.float16)], ids=str)
def test_dtypes_also_go_by_name(dtype, want):
    """Guards dtype="float16" that fails deep inside, or is read as another."""
    model, _ = minilm.load("minilm-1m", dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {want}
    assert checkpoint.load_model(checkpoint.pretrained.locate("minilm-1m"), dtype=dtype).dtype == want


@pytest.mark.parametrize(("dtype", "kind"), [
    (torch.int8, ValueError), ("int8", ValueError), (torch.complex64, ValueError), ("", ValueError),
    ("half", ValueError), (None, TypeError), (3, TypeError), (float, TypeError)], ids=str)
def test_dtypes_no_model_runs_in(dtype, kind, monkeypatch):
    """Guards weights rounded to whole numbers without a word."""
    monkeypatch.setattr(checkpoint.pretrained, "locate", lambda *_: pytest.fail("looked for the model first"))
    assert_clear_error(lambda: minilm.load("minilm-1m", dtype=dtype), kind, f"dtype {dtype!r}", "float32, float64")


def test_opening_a_model_fills_nothing_and_compiles_nothing():
    """Guards the second that random start values cost: on the meta device they load all of torch.compile. It counts in
    a process of its own, since other tests load it too."""
    code = ("import sys, minilm; model, _ = minilm.load('minilm-1m'); "
            "print('torch._dynamo' in sys.modules, any(p.is_meta for p in model.parameters()))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("device", [None, 3.5], ids=str)
def test_what_is_no_device(device):
    """Guards torch's list of signatures."""
    assert_clear_error(lambda: minilm.load("minilm-1m", device=device), TypeError, f"device {device!r} is not known")


@pytest.mark.parametrize(("device", "says"), [("cuda", "no GPU here; use device='cpu'"), ("mps", "no Apple GPU"),
                                              ("gpu", "'cpu', 'cuda' or 'mps'"), ("cuda:99", "no GPU here")])
def test_devices_that_are_not_there(device, says, monkeypatch):
    """Guards a line from deep inside CUDA, before or after a model was read for nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(checkpoint, "load_model", lambda *_, **__: pytest.fail("read the model first"))
    assert_clear_error(lambda: minilm.load("minilm-1m", device=device), ValueError, says)
