"""A byte-level BPE (Sennrich et al. 2016) of our own corpus, with the three tokens that mark a conversation."""
import json
from collections.abc import Iterator
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from minilm.tokenizer import Tokenizer

USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TEMPLATE = ("{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
                 "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


def train_tokenizer(folder: Path, vocab_size: int, max_lines: int = 150_000) -> Tokenizer:
    """Learn the merges from the first lines of `folder`/corpus.jsonl and save the tokenizer into `folder`."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[END, USER, ASSISTANT],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    backend.train_from_iterator(_texts(folder, max_lines), trainer)
    tokenizer = Tokenizer(backend, {"eos_token": END}, CHAT_TEMPLATE)
    tokenizer.save(folder)
    return tokenizer


def _texts(folder: Path, max_lines: int) -> Iterator[str]:
    with open(folder / "corpus.jsonl", encoding="utf-8") as file:
        for _, line in zip(range(max_lines), file, strict=False):
            entry = json.loads(line)
            yield entry["prompt"]
            yield entry["answer"]
