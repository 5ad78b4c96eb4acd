"""Tasks with one right answer for measuring early exit: a short text, and what to change in it or to repeat.

SmolLM2-135M-Instruct wrote the texts, in answer to held-out prompts; `minilm.training.copying` made the tasks.
`python -m minilm.bench.edit_tasks` writes edit_tasks.jsonl again.
"""
import json
from pathlib import Path

import torch

import minilm
from minilm.training import prompts as prompt_maker
from minilm.training.corpus import MIN_P, MOST_REPEATED, TEMPERATURE, repetition
from minilm.training.sampler import sample_many

FILE = Path(__file__).parent / "edit_tasks.jsonl"


def load(count: int | None = None) -> list[dict]:
    """The first `count` tasks (default: all): {"kind", "prompt", "answer"} each, the answer being the right one."""
    with open(FILE, encoding="utf-8") as file:
        tasks = [json.loads(line) for line in file]
    if count is not None and not 1 <= count <= len(tasks):
        raise ValueError(f"there are {len(tasks)} tasks; {count} were asked for")
    return tasks[:count]


def make(count: int, *, num_prompts: int = 640, max_new_tokens: int = 64, seed: int = 0) -> None:
    """Write `count` tasks to FILE."""
    teacher, tokenizer = minilm.load("smollm2-135m-instruct")
    asked = prompt_maker.held_out(num_prompts, seed)
    texts = []
    for indices, answers in sample_many(teacher, tokenizer.chat_batch([p.text for p in asked]), max_new_tokens,
                                        batch_size=32, temperature=TEMPERATURE, min_p=MIN_P, eos=tokenizer.eos_id,
                                        generator=torch.Generator().manual_seed(seed)):
        for i, tokens in zip(indices, answers, strict=True):
            text = tokenizer.decode(tokens).strip()
            if tokens[-1] != tokenizer.eos_id:                              # cut off: up to its last whole sentence
                text = text[: text.rfind(". ") + 1]
            if 60 <= len(text) <= 240 and "\n" not in text and repetition(text) <= MOST_REPEATED:
                texts.append((asked[i].kind, text))
        print(f"{len(texts)} texts", flush=True)
    with open(FILE, "w", encoding="utf-8") as file:
        for task, right in prompt_maker.perfect_copy(texts, count, seed):
            file.write(json.dumps({"kind": task.kind, "prompt": task.text, "answer": right}) + "\n")


if __name__ == "__main__":
    make(400)
