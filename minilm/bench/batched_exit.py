"""What early exit gains in a batch: layers that tokens run, layers that are read, and the clock, by batch size.

Alone, a token that leaves saves all deeper layers. In a batch a layer's weights are read as long as one row is still
in, and reading weights is what a step of few rows costs: so the gain falls to that of the deepest row of each step.
The tasks are those that early exit is good at (`edit_tasks`), the policy the one that pays there; greedy, no end token.
"""
import statistics
import time
from collections.abc import Callable, Sequence

import minilm
from minilm.bench import edit_tasks
from minilm.decoding.calm import SoftmaxResponse
from minilm.generation import Generation
from minilm.model import GPT
from minilm.race import rotated
from minilm.serving import Engine

EXITS, THRESHOLD = (4, 6, 8, 10), 0.9
BATCHES = (1, 4, 16)
FULL, EXIT = "full model", "early exit"


def run(model: GPT, prompts: Sequence[list[int]], batch: int, new_tokens: int, **options) -> tuple[list, float]:
    """(one generation a prompt, seconds of all steps after the prompts were read): `batch` of them at a time."""
    engine = Engine(model, num_blocks=batch * 64, max_batch_tokens=8192, prefix_caching=False, **options)
    seconds = 0.0
    for first in range(0, len(prompts), batch):
        for prompt in prompts[first : first + batch]:
            engine.add(prompt, new_tokens)
        engine.step()                                           # all prompts, in one pass
        started = time.perf_counter()
        made = engine.run()
        seconds += time.perf_counter() - started
    return list(made.values()), seconds


def measure(*, tasks: int = 16, new_tokens: int = 32, rounds: int = 5, say: Callable[[str], None] = print) -> dict:
    """For each batch size both ways in turn in every round, after one that warms up; speed-ups are medians of pairs.

    layers_run: of each token, on average. layers_read: of the deepest row of each step.  same: texts equal to the full
    model's.
    """
    model, tokenizer = minilm.load("minilm-14m")
    prompts = tokenizer.chat_batch([task["prompt"] for task in edit_tasks.load(tasks)])
    ways = {FULL: {}, EXIT: {"exit_policy": SoftmaxResponse(THRESHOLD), "exits": EXITS}}
    rows = []
    for batch in BATCHES:
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        made: dict[str, list[Generation]] = {}
        for number in range(rounds + 1):
            for name in rotated(list(ways), number):
                made[name], taken = run(model, prompts, batch, new_tokens, **ways[name])
                if number:
                    seconds[name].append(taken)
        depths = [[step.layers for step in text.trace[1:]] for text in made[EXIT]]
        groups = [depths[first : first + batch] for first in range(0, len(depths), batch)]
        ratios = [full / early for full, early in zip(seconds[FULL], seconds[EXIT], strict=True)]
        deepest = [max(step) for group in groups for step in zip(*group, strict=True)]
        rows.append({
            "batch": batch, "seconds": seconds, "speed_up": round(statistics.median(ratios), 3),
            "layers_run": round(statistics.mean(layers for text in depths for layers in text), 2),
            "layers_read": round(statistics.mean(deepest), 2),
            "same": sum(a.tokens == b.tokens for a, b in zip(made[FULL], made[EXIT], strict=True))})
        say(line(rows[-1], len(prompts), model.config.num_layers))
    return {"benchmark": "batched_exit", "model": "minilm-14m", "tasks": len(prompts), "new_tokens": new_tokens,
            "num_layers": model.config.num_layers, "exits": EXITS, "threshold": THRESHOLD, "rounds": rounds,
            "rows": rows}


def line(row: dict, tasks: int, num_layers: int) -> str:
    return (f"batch {row['batch']:2}: {row['layers_run']:5.2f} of {num_layers} layers run a token, "
            f"{row['layers_read']:5.2f} read a step; {row['speed_up']:.2f} × the full model's speed; "
            f"{row['same']} of {tasks} texts the same")


def show(measured: dict) -> str:
    """The measurement as a few lines of text."""
    return "\n".join(line(row, measured["tasks"], measured["num_layers"]) for row in measured["rows"])
