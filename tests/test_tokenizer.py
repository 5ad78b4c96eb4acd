"""The tokenizer against `AutoTokenizer` on the files that we write, ids and text both ways."""
import json

import numpy as np
import pytest
import torch
from core_helpers import TEXTS, assert_clear_error
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

import minilm
from minilm.tokenizer import Tokenizer, check_same_tokenizer

NAMES = ["minilm-14m", "minilm-1m", "smollm2-135m-instruct"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """name -> (ours, the one that `transformers` reads from our files)."""
    both = {}
    for name in NAMES:
        _, ours = minilm.load(name)
        folder = tmp_path_factory.mktemp(name)
        ours.save(folder)
        both[name] = ours, AutoTokenizer.from_pretrained(folder)
    return both


@pytest.mark.parametrize("name", NAMES)
def test_same_ids_and_text_as_transformers(pairs, name):
    """Guards a wrong split of digits or spaces, a lost normaliser, a start token too many: unicode, digits, code."""
    ours, theirs = pairs[name]
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == theirs(text)["input_ids"], text
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True) == text
    assert ours.vocab_size == len(theirs) and ours.eos_id == theirs.eos_token_id is not None


@pytest.mark.parametrize("name", NAMES)
def test_same_chat_as_transformers(pairs, name):
    """Guards a chat template rendered with other white space, and special tokens in it read as text."""
    ours, theirs = pairs[name]
    for text in TEXTS:
        messages = [{"role": "user", "content": text}]
        want = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert ours.chat(text) == want, text
    assert ours.chat_batch(TEXTS) == [ours.chat(text) for text in TEXTS]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_comes_back(text):
    """Guards text that byte-level BPE cannot hold: there is none. (Texts with a special token's name aside.)"""
    tokenizer = _bundled()
    if "<|" not in text:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def _bundled() -> Tokenizer:
    return Tokenizer.from_folder(minilm.checkpoint.pretrained.BUNDLED / "minilm-14m")


def test_special_tokens(pairs):
    """Guards specials shown in answers or missing in pictures, and a character cut in two."""
    for ours, _ in pairs.values():
        ids = ours.chat("Hi")
        assert "<|" not in ours.decode(ids) and "Hi" in ours.decode(ids)
        assert any(piece.startswith("<|") for piece in ours.pieces(ids))
        assert "".join(ours.pieces(ours.encode("Two words"))) == "Two words"
    bundled = _bundled()
    assert bundled.pieces([bundled.eos_id]) == [bundled.special_tokens["eos_token"]]
    cut = bundled.encode("日")[:-1]
    assert cut and "\ufffd" in bundled.decode(cut)


def test_smollm2_read_from_gguf_is_the_published_tokenizer(pairs):
    """Guards the tokenizer rebuilt from GGUF: ids known from SmolLM2's own tokenizer.json."""
    ours, _ = pairs["smollm2-135m-instruct"]
    assert ours.vocab_size == 49152 and ours.pieces([0, 1, 2]) == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert ours.eos_id == 2 and ours.special_tokens["eos_token"] == "<|im_end|>"
    assert ours.chat("Hi")[0] == 1 and ours.chat("Hi")[-4:] == [1, *ours.encode("assistant\n")]
    assert [ours.decode([i]) for i in ours.encode("2024")] == ["2", "0", "2", "4"]


def test_drafts_and_targets(pairs):
    """Guards a draft whose ids mean other tokens to its target; equal sizes are not enough."""
    target, small, other = (pairs[name][0] for name in NAMES)
    check_same_tokenizer(target, small)
    assert_clear_error(lambda: check_same_tokenizer(target, other), ValueError, "different tokenizers", "8192", "49152")
    spelled = json.loads(target.backend.to_str())
    vocabulary = spelled["model"]["vocab"]
    a, b = "Ġthe", "Ġa"
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    swapped = Tokenizer(Backend.from_str(json.dumps(spelled)), {})
    assert_clear_error(lambda: check_same_tokenizer(target, swapped), ValueError, "8192 and 8192")


def test_a_start_token_comes_first_where_the_model_wants_one(tmp_path):
    """Guards a lost <s>, and a second one when a chat template writes it itself."""
    from tokenizers.processors import TemplateProcessing
    ours = _bundled()
    ours.backend.add_special_tokens([AddedToken("<s>", special=True)])
    start = ours.backend.token_to_id("<s>")
    ours.backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    ours.special_tokens["bos_token"] = "<s>"
    ours.chat_template = "{{ bos_token }}{{ messages[0]['content'] }}"
    ours.save(tmp_path)
    back, theirs = Tokenizer.from_folder(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert back.encode("Hi") == theirs("Hi")["input_ids"] == [start, *_bundled().encode("Hi")]
    assert back.chat("Hi") == back.encode("Hi")


def test_templates_in_other_places(tmp_path):
    """Guards chat templates kept in tokenizer_config.json, alone or one of several; special tokens written as dicts."""
    ours = _bundled()
    ours.save(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    path, template = tmp_path / "tokenizer_config.json", ours.chat_template
    eos = {"content": ours.special_tokens["eos_token"], "special": True}
    for kept in (template, [{"name": "tools", "template": "no"}, {"name": "default", "template": template}]):
        path.write_text(json.dumps({"chat_template": kept, "eos_token": eos}))
        back = Tokenizer.from_folder(tmp_path)
        assert back.chat("Hi") == ours.chat("Hi") and back.eos_id == ours.eos_id


@pytest.mark.parametrize(("template", "says"), [
    (None, "no chat template"), ("{% if %}", "template failed"),
    ("{{ raise_exception('Only tools.') }}", "Only tools."),
    ("{{ messages[0].content.missing.more }}", "template failed"), ("{{ ().__class__.__bases__ }}", "unsafe"),
    ("{{ 1 + 'a' }}", "template failed")])
def test_bad_templates(template, says):
    """Guards a template's own traceback; a template from a stranger's model runs in a sandbox."""
    tokenizer = Tokenizer(_bundled().backend, {}, template)
    assert_clear_error(lambda: tokenizer.chat("Hi"), ValueError, says)


def test_bad_files(tmp_path):
    """Guards files cut short or missing."""
    assert_clear_error(lambda: Tokenizer.from_folder(tmp_path), FileNotFoundError, "no tokenizer.json")
    for text in ("", "{", "[]", "{}"):
        (tmp_path / "tokenizer.json").write_text(text)
        assert_clear_error(lambda: Tokenizer.from_folder(tmp_path), ValueError, "tokenizer.json is no readable")
    _bundled().save(tmp_path)
    for text in ("{", "[]"):
        (tmp_path / "tokenizer_config.json").write_text(text)
        assert_clear_error(lambda: Tokenizer.from_folder(tmp_path), ValueError, "tokenizer_config.json")
    assert Tokenizer(_bundled().backend, {}).eos_id is None


@pytest.mark.parametrize("text", [b"bytes", 3, None, ["a", "b"]], ids=str)
def test_only_text_is_encoded(text):
    """Guards a list of words, or ids, taken for text."""
    tokenizer = _bundled()
    kind = f"({type(text).__name__})"
    for call in (tokenizer.encode, tokenizer.chat, lambda text: tokenizer.chat_batch(["Hi", text])):
        assert_clear_error(lambda call=call: call(text), TypeError, "takes text, a str", kind)


def test_a_batch_is_a_list():
    """Guards one text taken for a list of letters."""
    assert_clear_error(lambda: _bundled().chat_batch("Hi"), TypeError, "takes a list of texts")


@pytest.mark.parametrize("ids", ["x", 3, None, [1.5], ["a"], [None], [[1, 2]], torch.ones(2, 3), torch.tensor([0.5])],
                         ids=str)
def test_only_whole_numbers_are_decoded(ids):
    """Guards text, one bare id, probabilities or a batch taken for a list of ids."""
    for call in (_bundled().decode, _bundled().pieces):
        assert_clear_error(lambda call=call: call(ids), TypeError, "token ids are a list of whole numbers",
                           f"({type(ids).__name__})")


@pytest.mark.parametrize("ids", [[-1], [5, -3], [2**32], [2**70]], ids=str)
def test_numbers_that_are_no_ids(ids):
    """Guards an OverflowError from inside the library."""
    for call in (_bundled().decode, _bundled().pieces):
        assert_clear_error(lambda call=call: call(ids), ValueError, "token ids lie in 0", str(min(ids)))


def test_ids_in_an_array_or_a_tensor():
    """Guards the types in which ids come out of a model."""
    tokenizer = _bundled()
    ids = tokenizer.encode("Once upon a time")
    for held in (torch.tensor(ids), np.array(ids), tuple(ids), iter(ids)):
        assert tokenizer.decode(held) == "Once upon a time"
    assert tokenizer.pieces(torch.tensor(ids)) == tokenizer.pieces(ids)
