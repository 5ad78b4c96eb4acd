"""Speculation against plain decoding and against `transformers`' assisted generation, in pairs, by kind of prompt.

Prompts: held-out requests of four kinds, and "copy": a text to repeat or to correct, so that the answer repeats most of
the prompt. Answers end at the end token: what a model says after it has finished is easier to guess.
"""
import statistics
from collections.abc import Callable

import torch

import minilm
from minilm.bench import edit_tasks
from minilm.bench.contestants import BASELINE, Course
from minilm.decoding import autoregressive, speculative
from minilm.generation import Generation
from minilm.model import GPT
from minilm.race import rotated
from minilm.sampling import Sampling
from minilm.text import counted
from minilm.tokenizer import Tokenizer
from minilm.training import prompts as prompt_maker

KINDS = ("story", "list", "explanation", "python")
COPY = "copy"
SKIPPED = 200       # held-out prompts that head training and model cards measured on: these come after


def prompt_sets(tokenizer: Tokenizer, prompts: int) -> dict[str, list[list[int]]]:
    """kind -> `prompts` token lists."""
    every_kind = len(prompt_maker.KINDS)                        # held-out prompts take the kinds in turn
    held_out = prompt_maker.held_out(SKIPPED + every_kind * prompts)[SKIPPED:]
    texts = {kind: [prompt.text for prompt in held_out if prompt.kind == kind][:prompts] for kind in KINDS}
    texts[COPY] = [task["prompt"] for task in edit_tasks.load() if task["kind"] in ("repeat", "correct")][-prompts:]
    return {kind: tokenizer.chat_batch(some) for kind, some in texts.items()}


def measure(name: str = "minilm-14m", *, prompts: int = 2, new_tokens: int = 64, rounds: int = 5,
            temperatures: tuple[float, ...] = (0.0, 1.0), on_update: Callable[[str], None] = print) -> dict:
    """Greedy (0) and sampled: every drafter that goes with the model, and the peers, in turn in every round."""
    model, tokenizer = minilm.load(name)
    sets = prompt_sets(tokenizer, prompts)
    rows = []
    for temperature in temperatures:
        runs = contestants(model, tokenizer, new_tokens, temperature)
        for kind, asked in sets.items():
            rows += timed(kind, temperature, runs, asked, rounds)
            on_update("\n".join(map(line, rows[-len(runs):])))
    return {"benchmark": "speculative", "model": name, "new_tokens": new_tokens, "prompts": prompts, "rounds": rounds,
            "dtype": "float32", "rows": rows}


def contestants(model: GPT, tokenizer: Tokenizer, new_tokens: int,
                temperature: float) -> dict[str, Callable[[list[int], int], Generation]]:
    """name -> run(prompt, seed). `transformers` drafts with the same draft model, up to 20 tokens or up to 5."""
    course = Course(model, tokenizer, [0], new_tokens)
    sampling = Sampling(temperature)
    options = {"eos": tokenizer.eos_id, "sampling": sampling}
    seeded = lambda seed: torch.Generator().manual_seed(seed)                                       # noqa: E731
    runs = {BASELINE: lambda prompt, seed: autoregressive(model, prompt, new_tokens, generator=seeded(seed), **options)}
    for name, make in course.drafters.items():
        runs[name] = lambda prompt, seed, make=make: speculative(model, prompt, new_tokens, make(),
                                                                 generator=seeded(seed), **options)
    drawn = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
    if course.draft is not None:
        for count in (20, 5):                                   # its default, and what suits this pair better
            runs[f"transformers, assisted, {count}"] = lambda prompt, seed, count=count: course.draft_peer.assist(
                course.peer, count, prompt, new_tokens, eos=tokenizer.eos_id, seed=seed, **drawn)
    runs["transformers, prompt lookup"] = lambda prompt, seed: course.peer.generate(
        prompt, new_tokens, eos=tokenizer.eos_id, seed=seed, prompt_lookup_num_tokens=6, **drawn)
    return runs


def timed(kind: str, temperature: float, runs: dict, asked: list[list[int]], rounds: int) -> list[dict]:
    """A row for each run over all prompts; after a warm-up, every round times all of them in turn, prefill included.
    Each round begins with another one: what has just run before leaves its mark on memory and on the other core.

    Sampled texts differ in length from run to run, so what counts is the time for a token; each round has its seed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    tokens, passes = dict.fromkeys(runs, 0), dict.fromkeys(runs, 0)
    for seed in range(rounds + 1):
        for name in rotated(list(runs), seed):
            stats = [runs[name](prompt, seed).stats for prompt in asked]
            if seed:
                seconds[name].append(sum(s.seconds for s in stats) / sum(s.new_tokens for s in stats))
                tokens[name] += sum(s.new_tokens for s in stats)
                passes[name] += sum(s.target_passes for s in stats)
    rows = []
    for name in runs:
        ratios = [a / b for a, b in zip(seconds[BASELINE], seconds[name], strict=True)]
        rows.append({"kind": kind, "temperature": temperature, "name": name, "seconds_per_token": seconds[name],
                     "speed_up": statistics.median(ratios), "tokens_per_pass": tokens[name] / passes[name]})
    return rows


def overall(rows: list[dict], name: str, temperature: float, kinds: tuple[str, ...] = KINDS) -> float:
    """The speed-up over several kinds: the median over rounds of the ratio of times, every kind weighing the same."""
    def total(which: str) -> list[float]:
        some = [row["seconds_per_token"] for row in rows
                if row["name"] == which and row["temperature"] == temperature and row["kind"] in kinds]
        return [sum(of_round) for of_round in zip(*some, strict=True)]
    return statistics.median(a / b for a, b in zip(total(BASELINE), total(name), strict=True))


def line(row: dict) -> str:
    """A row as text."""
    return (f"T={row['temperature']:g} {row['kind']:12} {row['name']:27} "
            f"{1 / statistics.median(row['seconds_per_token']):7.1f} tokens/s {row['speed_up']:5.2f} ×  "
            f"{row['tokens_per_pass']:5.2f} tokens a pass")


def show(measured: dict) -> str:
    """The speed-ups over the four open kinds and over copying, as a few lines of text."""
    rows = measured["rows"]
    lines = [f"{measured['model']}: speed-up over plain decoding, prefill included; {measured['new_tokens']} new "
             f"tokens at most, medians of {counted(measured['rounds'], 'paired round')}"]
    for temperature in dict.fromkeys(row["temperature"] for row in rows):
        for name in dict.fromkeys(row["name"] for row in rows if row["temperature"] == temperature):
            lines.append(f"T={temperature:g} {name:27} open prompts {overall(rows, name, temperature):5.2f} ×   "
                         f"copying {overall(rows, name, temperature, (COPY,)):5.2f} ×")
    return "\n".join(lines)
