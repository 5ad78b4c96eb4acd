"""The corpus: SmolLM2-135M-Instruct answers our prompts; its answers then become texts to correct, extend, rewrite."""
import json
import random
import time
from pathlib import Path

import torch

from minilm.model import GPT
from minilm.tokenizer import Tokenizer
from minilm.training import prompts as prompt_maker
from minilm.training.sampler import sample_many

TEMPERATURE, MIN_P = 0.8, 0.1          # plain, likely text: a small model learns it better than rare turns of phrase
MOST_REPEATED = 0.15                    # an answer that goes in circles teaches to go in circles: it is left out
MOST_COPIES = 40_000


def make_corpus(teacher: GPT, tokenizer: Tokenizer, folder: Path, *, num_prompts: int, minutes: float,
                batch_size: int, max_new_tokens: int = 256, seed: int = 0) -> None:
    """Write corpus.jsonl into `folder`: one {"kind", "prompt", "answer", "ended"} a line.

    Most of `minutes` go to prompts from scratch, the rest to tasks that copy from an answer of the first part; copy
    tasks with a known right answer are added without the teacher.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator(teacher.device).manual_seed(seed)
    with open(folder / "corpus.jsonl", "w", encoding="utf-8") as file:
        def write(kind: str, prompt: str, answer: str, ended: bool = True) -> None:
            file.write(json.dumps({"kind": kind, "prompt": prompt, "answer": answer, "ended": ended}) + "\n")

        def answer(some: list[prompt_maker.Prompt], minutes: float) -> list[tuple[str, str]]:
            started, new_tokens, texts = time.monotonic(), 0, []
            asked = tokenizer.chat_batch([prompt.text for prompt in some])
            for indices, answers in sample_many(teacher, asked, max_new_tokens, batch_size=batch_size, minutes=minutes,
                                                temperature=TEMPERATURE, min_p=MIN_P, eos=tokenizer.eos_id,
                                                generator=generator):
                decoded = tokenizer.backend.decode_batch(answers, skip_special_tokens=True)
                for i, tokens, text in zip(indices, answers, decoded, strict=True):
                    ended, text = tokens[-1] == tokenizer.eos_id, text.strip()
                    if text and repetition(text) <= MOST_REPEATED:
                        write(some[i].kind, some[i].text, text if ended else _whole(text), ended)
                        texts.append((some[i].kind, text))
                new_tokens += sum(map(len, answers))
                rate = new_tokens / (time.monotonic() - started)
                print(f"corpus: {len(texts):,} of {len(some):,} answers, {new_tokens / 1e6:.1f}M tokens, "
                      f"{rate:,.0f} tokens/s", flush=True)
            return texts

        texts = answer(prompt_maker.prompts(num_prompts, seed), 0.85 * minutes)
        random.Random(seed).shuffle(texts)
        answer(prompt_maker.copy_prompts(texts, min(len(texts) // 2, MOST_COPIES), seed), 0.15 * minutes)
        for prompt, right in prompt_maker.perfect_copy(texts, min(len(texts) // 4, MOST_COPIES // 2), seed):
            write(prompt.kind, prompt.text, right)


def repetition(text: str, n: int = 4) -> float:
    """The share of a text's runs of n words that stood in it before: 0 for none, near 1 for a text in circles."""
    words = text.split()
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _whole(text: str) -> str:
    """A cut answer up to its last whole sentence or line."""
    cut = max(text.rfind(mark) for mark in (". ", ".\n", "\n", "! ", "? "))
    return text[: cut + 1].rstrip() if cut > len(text) // 2 else text
