"""Text to token ids and back: a thin layer over the `tokenizers` library, plus the model's chat template."""
import hashlib
import json
import operator
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import tokenizers

_SPECIALS = ("bos_token", "eos_token", "unk_token", "pad_token")


class Tokenizer:
    """A trained tokenizer with its end token and its chat template.

    backend: a `tokenizers.Tokenizer`.  special_tokens: e.g. {"eos_token": "<|im_end|>"}.
    chat_template: Jinja text in Hugging Face's form, or None for a model that was not trained to chat.
    """

    def __init__(self, backend: tokenizers.Tokenizer, special_tokens: dict[str, str], chat_template: str | None = None):
        self.backend = backend
        self.special_tokens = special_tokens
        self.chat_template = chat_template

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Tokenizer":
        """Read tokenizer.json, tokenizer_config.json and chat_template.jinja as Hugging Face writes them."""
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"{folder} has no tokenizer.json; save the tokenizer beside the model")
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:                      # the library raises plain Exception
            raise ValueError(f"{path} is no readable tokenizer: {error}") from None
        config = _read_json(folder / "tokenizer_config.json")
        specials = {}
        for name in _SPECIALS:
            value = config.get(name)
            if value is not None:
                specials[name] = value["content"] if isinstance(value, dict) else value
        template = config.get("chat_template")
        if (folder / "chat_template.jinja").is_file():
            template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        if isinstance(template, list):                  # several named templates: the default one
            template = next((t["template"] for t in template if t["name"] == "default"), None)
        return cls(backend, specials, template)

    def save(self, folder: str | Path) -> None:
        """Write the two or three files that `from_folder`, and `transformers`, read."""
        folder = Path(folder)
        self.backend.save(str(folder / "tokenizer.json"), pretty=False)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **self.special_tokens}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if self.chat_template is not None:
            (folder / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8")

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`, with a start token if the model was trained with one. Raises TypeError for no text."""
        _check_text(text)
        return self.backend.encode(text).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, without special tokens. Bytes that are no UTF-8 (a cut character) show as U+FFFD.

        ids: a list, or a tensor [T], of whole numbers. Raises TypeError for anything else, ValueError below 0.
        """
        return self.backend.decode(_whole_numbers(ids), skip_special_tokens=True)

    def chat(self, user_text: str) -> list[int]:
        """Tokens of a conversation of one request, up to where the assistant's answer begins."""
        return self.chat_batch([user_text])[0]

    def chat_batch(self, user_texts: list[str]) -> list[list[int]]:
        """`chat` of many requests, on all cores. Raises TypeError for no text."""
        if isinstance(user_texts, str):
            raise TypeError("chat_batch takes a list of texts; for one text there is chat")
        for text in user_texts:
            _check_text(text)
        if self.chat_template is None:
            raise ValueError("this model has no chat template: it continues text; use encode() instead of chat()")
        texts = [_render(self.chat_template, [{"role": "user", "content": text}], self.special_tokens)
                 for text in user_texts]
        return [encoding.ids for encoding in self.backend.encode_batch(texts, add_special_tokens=False)]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """One readable string per token, for pictures; special tokens show by their name."""
        specials = {token: added.content for token, added in self.backend.get_added_tokens_decoder().items()}
        return [specials.get(i) or self.backend.decode([i], skip_special_tokens=False) for i in _whole_numbers(ids)]

    @property
    def vocab_size(self) -> int:
        return self.backend.get_vocab_size()

    @property
    def eos_id(self) -> int | None:
        """The token that ends an answer."""
        eos = self.special_tokens.get("eos_token")
        return None if eos is None else self.backend.token_to_id(eos)

    @property
    def fingerprint(self) -> str:
        """Equal for two tokenizers exactly when they give every token the same id."""
        vocabulary = json.dumps(sorted(self.backend.get_vocab().items()))
        return hashlib.sha256(vocabulary.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size} tokens)"


def check_same_tokenizer(target: Tokenizer, draft: Tokenizer) -> None:
    """Raise ValueError unless both give every token the same id: a draft's tokens must mean the same to its target."""
    if target.fingerprint != draft.fingerprint:
        raise ValueError(f"draft and target use different tokenizers ({draft.vocab_size} and {target.vocab_size} "
                         f"tokens): a draft must be trained with its target's tokenizer")


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"a tokenizer takes text, a str; this is {_shown(text)}")


def _whole_numbers(ids: Iterable[int]) -> list[int]:
    """ids as plain ints, from a list, an array or a tensor."""
    try:
        numbers = [operator.index(i) for i in ids]
    except TypeError:
        raise TypeError(f"token ids are a list of whole numbers, as encode gives; this is {_shown(ids)}") from None
    if numbers and not 0 <= min(numbers) <= max(numbers) < 2**32:
        raise ValueError(f"token ids lie in 0 … vocab_size - 1; these reach from {min(numbers)} to {max(numbers)}")
    return numbers


def _shown(value: object) -> str:
    """A value of the wrong type, in a few characters."""
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:39] + '…'} ({type(value).__name__})"


def _render(template: str, messages: list[dict], variables: dict) -> str:
    """Fill a chat template, ready for the assistant's turn."""
    try:
        return _compiled(template).render(messages=messages, add_generation_prompt=True, **variables)
    except Exception as error:                          # a template is a program: it can fail in any way
        raise ValueError(f"the model's chat template failed: {error}") from None


@lru_cache(maxsize=8)
def _compiled(template: str):
    """A chat template comes with the model, so it is not trusted: it runs in Jinja's sandbox."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str):
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    return environment.from_string(template)


def _read_json(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, not settings by name")
    return found
