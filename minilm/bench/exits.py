"""Early exit on minilm-14m: what every policy loses at every threshold, and how fast the calibrated ones are.

Two sets of prompts: "edit", tasks with one right answer (`edit_tasks`), where most next tokens are certain; "open",
held-out requests for stories, lists and so on, where near ties abound and one changed token changes the rest.
"""
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

import minilm
from minilm.bench import edit_tasks
from minilm.bench.exit_cost import mean_cost
from minilm.bench.exit_losses import (
    ByPatience,
    Measure,
    answers,
    by_classifier,
    by_entropy,
    by_saturation,
    by_softmax,
    load_losses,
    rouge_l,
)
from minilm.decoding import (
    Entropy,
    ExitClassifier,
    ExitHead,
    Patience,
    Saturation,
    SoftmaxResponse,
    autoregressive,
    early_exit,
)
from minilm.decoding.calm import certified
from minilm.decoding.early_exit import ExitPolicy
from minilm.model import GPT
from minilm.training import prompts as prompt_maker

NEW_TOKENS, BATCH = 40, 256
FEW, ALL = (4, 6, 8, 10), tuple(range(1, 16))
SHARES = (0.999, 0.99, 0.98, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.1)


@dataclass(frozen=True)
class Candidate:
    """A policy family: its name, exits, thresholds from the safest to the boldest, and how to make one policy."""

    name: str
    exits: tuple[int, ...]
    thresholds: tuple[float, ...]
    policy: Callable[[float], ExitPolicy]
    measure: Measure
    sign: int = 1                                   # -1 where a smaller score is surer


def candidates(model: GPT) -> list[Candidate]:
    head = ExitHead.load(model)
    few, every = ", ".join(map(str, FEW)), "every layer"
    return [
        Candidate(f"softmax @ {few}", FEW, SHARES, SoftmaxResponse, by_softmax),
        Candidate(f"softmax @ {every}", ALL, SHARES, SoftmaxResponse, by_softmax),
        Candidate(f"saturation @ {every}", ALL, (0.999, 0.997, 0.995, 0.992, 0.99, 0.985, 0.98, 0.97, 0.95, 0.93),
                  Saturation, by_saturation),
        Candidate(f"classifier @ {every}", ALL, SHARES, lambda t: ExitClassifier(t, head), by_classifier(head)),
        Candidate(f"entropy @ {few}", FEW, (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 1.5, 2.5), Entropy,
                  by_entropy, -1),
        Candidate(f"patience @ {every}", ALL, (14, 12, 10, 8, 6, 5, 4, 3, 2, 1), Patience, ByPatience(BATCH)),
    ]


def measure_losses(*, edit: int = 300, open_: int = 150, on_update: Callable[[str], None] = print) -> dict:
    """Losses and depths of every candidate at every threshold, per example, on both sets."""
    model, tokenizer = minilm.load("minilm-14m")
    tasks = edit_tasks.load(edit)
    sets = {"edit": ([task["prompt"] for task in tasks], [task["answer"] for task in tasks]),
            "open": ([prompt.text for prompt in prompt_maker.held_out(open_)], None)}
    out = {}
    for set_name, (texts, right) in sets.items():
        asked = tokenizer.chat_batch(texts)
        never = torch.full((len(asked),), float("inf"))
        whole, _ = answers(model, asked, never, NEW_TOKENS, by_saturation, FEW, tokenizer.eos_id, BATCH)
        wanted = None if right is None else [tokenizer.encode(text)[:NEW_TOKENS] for text in right]
        out[set_name] = {"examples": len(asked), "measures": []}
        if wanted:
            scores = [rouge_l(a, b) for a, b in zip(whole, wanted, strict=True)]
            out[set_name]["full_rouge_l"] = round(statistics.mean(scores), 4)
        for candidate in candidates(model):
            started = time.monotonic()
            out[set_name]["measures"].append(_losses(model, candidate, asked, whole, wanted, tokenizer.eos_id))
            on_update(f"{set_name}: {candidate.name} in {time.monotonic() - started:.0f} s")
    return {"benchmark": "exit losses", "model": "minilm-14m", "new_tokens": NEW_TOKENS, "sets": out}


def _losses(model: GPT, candidate: Candidate, asked: list[list[int]], whole: list[list[int]],
            wanted: list[list[int]] | None, eos: int) -> dict:
    """One candidate's rows of the record: [example][threshold] each."""
    n, m = len(asked), len(candidate.thresholds)
    rows = [prompt for prompt in asked for _ in range(m)]
    thresholds = torch.tensor([float(candidate.sign * t) for _ in asked for t in candidate.thresholds])
    made, depths = answers(model, rows, thresholds, NEW_TOKENS, candidate.measure, candidate.exits, eos, BATCH)
    textual, risk, layers = ([[0.0] * m for _ in range(n)] for _ in range(3))
    for row, (tokens, depth) in enumerate(zip(made, depths, strict=True)):
        i, j = divmod(row, m)
        textual[i][j] = round(1 - rouge_l(tokens, whole[i]), 4)
        layers[i][j] = round(statistics.mean(depth[1:] or depth), 3)
        if wanted:
            risk[i][j] = round(max(0.0, rouge_l(whole[i], wanted[i]) - rouge_l(tokens, wanted[i])), 4)
    return {"name": candidate.name, "exits": candidate.exits, "thresholds": candidate.thresholds, "textual": textual,
            "risk": risk if wanted else None, "layers": layers}


def measure_speed(*, rounds: int = 7, prompts: int = 8, delta: float = 0.1, epsilon: float = 0.05) -> dict:
    """Each candidate at its calibrated threshold against autoregressive decoding, in turn, on both sets.

    Calibrated on the recorded losses of its set (textual); a candidate with nothing certified runs at its safest
    threshold and is marked so. The timed tasks of the edit set are its last ones, beyond those of the record.
    """
    model, tokenizer = minilm.load("minilm-14m")
    recorded = load_losses()["sets"]
    texts = {"edit": [task["prompt"] for task in edit_tasks.load()[-prompts:]],
             "open": [prompt.text for prompt in prompt_maker.held_out(150 + prompts)[150:]]}
    rows = []
    for set_name, some in texts.items():
        asked = tokenizer.chat_batch(some)
        plain = lambda prompt: autoregressive(model, prompt, NEW_TOKENS, eos=tokenizer.eos_id)     # noqa: E731
        runs = {"autoregressive": (plain, None, True)}
        for candidate, losses in zip(candidates(model), recorded[set_name]["measures"], strict=True):
            passed = certified(losses["textual"], candidate.thresholds, delta=delta, epsilon=epsilon)
            threshold = passed[-1] if passed else candidate.thresholds[0]
            policy = candidate.policy(threshold)
            run = lambda prompt, policy=policy, exits=candidate.exits: early_exit(          # noqa: E731
                model, prompt, NEW_TOKENS, policy, exits=exits, eos=tokenizer.eos_id)
            runs[candidate.name] = (run, threshold, bool(passed))
        rows += _timed(set_name, runs, asked, model, rounds)
    return {"benchmark": "exits", "model": "minilm-14m", "new_tokens": NEW_TOKENS, "delta": delta, "epsilon": epsilon,
            "rounds": rounds, "prompts": prompts, "rows": rows}


def _timed(set_name: str, runs: dict, asked: list[list[int]], model: GPT, rounds: int) -> list[dict]:
    """A row for each run: every round times all of them in turn, over all prompts, prefill left out."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    made = {name: [run(prompt) for prompt in asked] for name, (run, _, _) in runs.items()}             # warm-up
    for _ in range(rounds):
        for name, (run, _, _) in runs.items():
            stats = [run(prompt).stats for prompt in asked]
            seconds[name].append(sum(s.decode_seconds for s in stats) / sum(s.new_tokens - 1 for s in stats))
    rows = []
    for name, (_, threshold, was_certified) in runs.items():
        ratios = [a / b for a, b in zip(seconds["autoregressive"], seconds[name], strict=True)]
        row = {"set": set_name, "name": name, "threshold": threshold, "certified": was_certified,
               "seconds_per_token": seconds[name], "speed_up": statistics.median(ratios)}
        trace = [step for generation in made[name] for step in generation.trace]
        if name != "autoregressive":
            cost = mean_cost(model.config, trace)
            row |= {"layers": statistics.mean(step.layers for step in trace if step.fed == 1),
                    "bytes": {part: getattr(cost, part).bytes for part in
                              ("layers", "head", "checks", "projections", "total")},
                    "loss": statistics.mean(1 - rouge_l(a.tokens, b.tokens) for a, b in
                                            zip(made[name], made["autoregressive"], strict=True))}
        rows.append(row)
    return rows


def show(measured: dict) -> str:
    """The speeds as a few lines of text."""
    lines = [f"calibrated for a textual loss of {measured['delta']} at {measured['epsilon']}; decoding only, medians "
             f"of {measured['rounds']} paired rounds over {measured['prompts']} prompts"]
    for row in measured["rows"]:
        told = "" if row["threshold"] is None else (
            f"threshold {row['threshold']:<6g} {row['layers']:5.2f} layers  loss {row['loss']:.3f}"
            + ("" if row["certified"] else "  (nothing certified: the safest threshold)"))
        lines.append(f"{row['set']:5} {row['name']:24} {1 / statistics.median(row['seconds_per_token']):7.1f} tokens/s "
                     f"{row['speed_up']:5.2f} ×  {told}")
    return "\n".join(lines)
