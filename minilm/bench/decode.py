"""Decoding at batch 1, beside `transformers` on the same weights, and beside the limit that reading memory sets."""
import statistics

import minilm
from minilm.bench import limits
from minilm.bench.contestants import BASELINE, Course, chosen
from minilm.bench.cost import forward_pass
from minilm.race import PROMPT, race
from minilm.text import counted


def measure(names: list[str], *, max_new_tokens: int = 128, rounds: int = 7, device: str = "cpu") -> dict:
    """For each model: paired runs of both contestants, and the share of the read limit that each reaches."""
    machine_limits = limits.measure(device)
    rows = []
    for name in names:
        model, tokenizer = minilm.load(name, device=device)
        course = Course(model, tokenizer, tokenizer.chat(PROMPT), max_new_tokens)
        results = race(course, chosen(course, ["transformers", BASELINE]), rounds=rounds)
        steps = range(len(course.prompt), len(course.prompt) + max_new_tokens)
        least = sum(forward_pass(model.config, 1, context).bytes for context in steps) / machine_limits.bytes_per_second
        for result in results:
            row = result.as_dict()
            row |= {"model": name, "read_limit_share": least / statistics.median(result.seconds)}
            rows.append(row)
    return {"benchmark": "decode", "batch": 1, "max_new_tokens": max_new_tokens, "rounds": rounds, "dtype": "float32",
            "read_bytes_per_second": machine_limits.bytes_per_second, "rows": rows}


def show(measured: dict) -> str:
    """The measurement as a few lines of text."""
    lines = [f"reads {measured['read_bytes_per_second'] / 1e9:.1f} GB/s; batch 1, "
             f"{counted(measured['max_new_tokens'], 'new token')}, medians of "
             f"{counted(measured['rounds'], 'paired round')}"]
    for row in measured["rows"]:
        lines.append(f"{row['model']:22} {row['name']:15} {row['tokens_per_second']:7.1f} tokens/s  "
                     f"{row['read_limit_share']:5.0%} of the read limit  {row['speed_up']:5.2f} of autoregressive")
    return "\n".join(lines)
