"""Many requests at once: the engine beside one at a time, static padded batches, and `transformers`' own batching.

64 requests of mixed lengths arrive together: held-out prompts, outputs of log-normal length, greedy, no end token, so
that everyone makes the same tokens.
"""
import random
import statistics
import time
from collections.abc import Callable

import torch

import minilm
from minilm.bench.contestants import Course
from minilm.bench.reservations import SIZES, lengths, serve
from minilm.decoding import autoregressive
from minilm.model import GPT
from minilm.race import rotated
from minilm.serving import Engine, Step
from minilm.training import prompts as prompt_maker
from minilm.training.sampler import LeftPaddedCache

Requests = list[tuple[list[int], int]]              # (prompt, new tokens)
MEAN, SIGMA, SHORTEST, LONGEST = 64, 0.8, 8, 256    # of the outputs, tokens
BATCH = 16                                          # of the static batches; larger ones wait for longer outputs
NUM_BLOCKS, BLOCK_SIZE, BATCH_TOKENS = 640, 16, 512


def mixed_requests(tokenizer, count: int, seed: int = 0) -> Requests:
    """`count` held-out prompts, each with how many tokens to make."""
    draw = random.Random(seed)
    prompts = tokenizer.chat_batch([prompt.text for prompt in prompt_maker.held_out(count)])
    outputs = [round(MEAN * draw.lognormvariate(-SIGMA**2 / 2, SIGMA)) for _ in prompts]
    return [(prompt, min(max(SHORTEST, new), LONGEST)) for prompt, new in zip(prompts, outputs, strict=True)]


def one_at_a_time(model: GPT, requests: Requests) -> list[list[int]]:
    return [autoregressive(model, prompt, new).tokens for prompt, new in requests]


@torch.inference_mode()
def static_batches(model: GPT, requests: Requests, batch: int = BATCH) -> list[list[int]]:
    """Requests in the order they came, `batch` at a time, padded on the left; a batch ends with its longest output."""
    out = []
    for first in range(0, len(requests), batch):
        some = requests[first : first + batch]
        widest, steps = max(len(prompt) for prompt, _ in some), max(new for _, new in some)
        ids = torch.tensor([[0] * (widest - len(prompt)) + prompt for prompt, _ in some])
        padding = torch.tensor([widest - len(prompt) for prompt, _ in some])
        cache = LeftPaddedCache(model.config, padding, capacity=widest + steps, dtype=model.dtype)
        made = []
        for _ in range(steps):
            ids = model.head(model.hidden(ids, cache)[:, -1]).argmax(-1, keepdim=True)
            made.append(ids)
        rows = torch.cat(made, 1).tolist()
        out += [row[:new] for row, (_, new) in zip(rows, some, strict=True)]
    return out


def engine(model: GPT, requests: Requests, watch: Callable[[Step], None] | None = None, **options) -> list[list[int]]:
    serving = Engine(model, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE, max_batch_tokens=BATCH_TOKENS, watch=watch,
                     **options)
    ids = [serving.add(prompt, new) for prompt, new in requests]
    made = serving.run()
    return [made[id].tokens for id in ids]


def measure(*, count: int = 64, rounds: int = 5, on_update: Callable[[str], None] = print) -> dict:
    """Tokens/s of each way, in turn in every round, and whether all said the same as one at a time."""
    model, tokenizer = minilm.load("minilm-14m")
    requests = mixed_requests(tokenizer, count)
    runs: dict[str, Callable[[], list[list[int]]]] = {
        "one at a time": lambda: one_at_a_time(model, requests),
        "static batches": lambda: static_batches(model, requests),
        "engine": lambda: engine(model, requests)}
    peer = Course(model, tokenizer, [0], 1).peer
    reason = peer.batching_refused(requests[:2])
    if reason is None:
        runs["transformers, generate_batch"] = lambda: peer.generate_batch(requests)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    made = {name: run() for name, run in runs.items()}                                          # warm-up
    for number in range(rounds):
        for name in rotated(list(runs), number):
            started = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - started)
    tokens, rows = sum(new for _, new in requests), []
    for name in runs:
        ratios = [a / b for a, b in zip(seconds["one at a time"], seconds[name], strict=True)]
        same = sum(a == b for a, b in zip(made[name], made["one at a time"], strict=True))
        rows.append({"name": name, "seconds": seconds[name], "speed_up": statistics.median(ratios), "same": same,
                     "tokens_per_second": tokens / statistics.median(seconds[name])})
        on_update(line(rows[-1], count))
    return {"benchmark": "serving", "model": "minilm-14m", "requests": count, "new_tokens": tokens, "rounds": rounds,
            "batch": BATCH, "block_size": BLOCK_SIZE, "num_blocks": NUM_BLOCKS, "max_batch_tokens": BATCH_TOKENS,
            "transformers_refused": reason, "rows": rows, "memory": memory_held(model, requests),
            "waste": waste()}


def memory_held(model: GPT, requests: Requests) -> dict:
    """The most blocks that the load takes, beside what reserving the maximum would take for as many at a time."""
    steps: list[Step] = []
    engine(model, requests, watch=steps.append, prefix_caching=False)
    peak = max(step.blocks_used for step in steps) * BLOCK_SIZE
    together = max(len(step.batch) for step in steps)
    reserved = together * model.config.max_positions
    return {"requests_at_a_time": together, "peak_tokens": peak, "reserved_tokens": reserved,
            "share": round(peak / reserved, 4)}


def waste(count: int = 600, slots: int = 16_000) -> list[dict]:
    """Where token slots go under each reservation policy and for several block sizes (see `reservations`)."""
    load = lengths(count)
    rows = [{"policy": policy, "block_size": None, **_rounded(serve(load, policy, slots=slots))} for policy in SIZES]
    for block_size in (1, 8, 16, 32, 64, 128):
        found = serve(load, "paged", slots=slots, block_size=block_size)
        rows.append({"policy": "paged", "block_size": block_size, **_rounded(found)})
    return rows


def _rounded(shares) -> dict:
    return {name: round(value, 4) for name, value in vars(shares).items()} | {"waste": round(shares.waste, 4)}


def line(row: dict, count: int) -> str:
    """A row as text."""
    return (f"{row['name']:28} {row['tokens_per_second']:7.1f} tokens/s {row['speed_up']:5.2f} × one at a time; "
            f"{row['same']} of {count} texts the same")


def show(measured: dict) -> str:
    """The measurement as a few lines of text."""
    lines = [f"{measured['requests']} requests, {measured['new_tokens']} new tokens, medians of {measured['rounds']} "
             "paired rounds", *(line(row, measured["requests"]) for row in measured["rows"])]
    if measured["transformers_refused"]:
        lines.append(f"transformers' generate_batch can't run here: {measured['transformers_refused']}")
    memory = measured["memory"]
    lines.append(f"at most {memory['requests_at_a_time']} at a time in {memory['peak_tokens']} token slots, "
                 f"{memory['share']:.0%} of what reserving the maximum takes")
    for row in measured["waste"]:
        name = row["policy"] if row["block_size"] is None else f"paged, blocks of {row['block_size']}"
        lines.append(f"{name:22} used {row['used']:6.1%}  waste of what is taken {row['waste']:6.2%}  "
                     f"{row['batch']:5.1f} requests at a time")
    return "\n".join(lines)
