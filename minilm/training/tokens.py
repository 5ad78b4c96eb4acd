"""Text to one long row of token ids on disk, and from there to training batches."""
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minilm.tokenizer import Tokenizer
from minilm.training.bpe import ASSISTANT, END, USER


def encode_corpus(folder: Path, tokenizer: Tokenizer, seed: int = 0) -> int:
    """corpus.jsonl -> tokens.npy (uint16), conversations in random order; returns the number of tokens."""
    texts = []
    with open(folder / "corpus.jsonl", encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            end = END if entry["ended"] else ""
            texts.append(f"{USER}{entry['prompt']}{END}{ASSISTANT}{entry['answer']}{end}")
    np.random.default_rng(seed).shuffle(texts)
    rows = []
    for start in range(0, len(texts), 10_000):
        encoded = tokenizer.backend.encode_batch(texts[start : start + 10_000])
        rows += [np.array(encoding.ids, dtype=np.uint16) for encoding in encoded]
    tokens = np.concatenate(rows)
    np.save(folder / "tokens.npy", tokens)
    return len(tokens)


def batches(tokens: Tensor, batch_size: int, length: int, seed: int = 0) -> Iterator[Tensor]:
    """Endless batches [batch_size, length + 1] of windows of tokens[N], each epoch cut at a new random offset."""
    generator = torch.Generator().manual_seed(seed)
    if len(tokens) < 2 * (length + 1):
        raise ValueError(f"the corpus has {len(tokens)} tokens: too few for windows of {length}")
    while True:
        offset = int(torch.randint(length, (), generator=generator))
        count = (len(tokens) - offset - 1) // length
        starts = offset + length * torch.randperm(count, generator=generator)
        for chunk in starts.split(batch_size):
            if len(chunk) < batch_size and count >= batch_size:
                break                                               # an incomplete last batch would change the shape
            columns = torch.arange(length + 1)
            yield tokens[(chunk[:, None] + columns).to(tokens.device)].long()


def load_tokens(path: Path, device: torch.device | str) -> Tensor:
    """tokens.npy as int32 on the device."""
    return torch.from_numpy(np.load(path).astype(np.int32)).to(device)
