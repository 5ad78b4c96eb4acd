"""The ceilings that the cost model predicts from, measured on a CPU: of reading, of multiplying, of starting anything.

Decoding is products of a few rows, so these are their rates, and not a square matrix's: one row reads weights as fast
as they can be read this way, up to sixteen multiply as fast as they can be multiplied this way. The floor of an
operation is what a model of the same make but next to no size takes for each that it starts. What is measured here is
no technique's time: the same numbers serve for all of them.
"""
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from minilm.bench.cost_model import Launches, Machine
from minilm.lean import Lean
from minilm.linear import few_rows
from minilm.model import GPT, GPTConfig

LAYERS, TEXT = 8, 64                    # of the model that is next to nothing; tokens that it holds


@dataclass(frozen=True)
class Ceilings:
    """torch: PyTorch's passes, `launches` of them counted in operations.  lean: `Lean`'s, counted in layers."""

    torch: Machine
    launches: Launches
    lean: Machine
    lean_launches: Launches = Launches(per_layer=1.0)


def measure(config: GPTConfig, *, rounds: int = 15) -> Ceilings:
    """For a model of this shape on this machine's CPU, with as many threads as PyTorch is set to use."""
    reads, multiplies = products(config, rounds)
    launches, floor = operations(rounds)
    nothing = Lean(_next_to_nothing(LAYERS))
    cache = nothing.new_cache(2 * TEXT)
    nothing.read([1] * TEXT, cache)
    per_layer = least(lambda: (cache.truncate(TEXT), nothing.read([1], cache)), 10 * rounds) / LAYERS
    matrix, x = np.ones((3000, 128), np.float32), np.ones(128, np.float32)      # as large as a draft's own, in cache
    rate = matrix.nbytes / least(lambda: matrix.dot(x), 10 * rounds)
    return Ceilings(Machine(reads, multiplies, floor), launches, Machine(rate, multiplies, per_layer))


def products(config: GPTConfig, rounds: int = 15) -> tuple[float, float]:
    """(bytes/s of one row, the best FLOP/s of 4 to 16 rows) by `few_rows`, over one matrix for each layer."""
    width, wide = config.width, 2 * config.mlp_width
    weights = [torch.randn(wide, width) for _ in range(config.num_layers)]
    numbers, seconds = config.num_layers * width * wide, {}
    for rows in (1, 4, 8, 16):
        x = torch.randn(1, rows, width)
        seconds[rows] = least(lambda x=x: [few_rows(x, weight) for weight in weights], rounds)
    return 4 * numbers / seconds[1], max(2 * rows * numbers / seconds[rows] for rows in (4, 8, 16))


def operations(rounds: int = 15) -> tuple[Launches, float]:
    """(operations of a decode pass, seconds of one): a model of next to no size spends all its time on them."""
    counts, seconds = {}, 0.0
    for layers in (LAYERS // 2, LAYERS):
        model = _next_to_nothing(layers)
        cache = model.new_cache(2 * TEXT)
        with torch.inference_mode():
            model.read([1] * TEXT, cache)
            run = lambda model=model, cache=cache: (cache.truncate(TEXT), model.read([1], cache))  # noqa: E731
            counts[layers], seconds = count(run), least(run, rounds)
    per_layer = (counts[LAYERS] - counts[LAYERS // 2]) / (LAYERS - LAYERS // 2)
    once = counts[LAYERS] - LAYERS * per_layer
    state = torch.randn(1, model.config.width)
    with torch.inference_mode():
        head = count(lambda: int(model.head(state)[0].argmax()))
    return Launches(per_layer, once, head), seconds / counts[LAYERS]


def count(run: Callable[[], object]) -> int:
    """Operations that PyTorch dispatches in a call."""
    with _Counter() as counter:
        run()
    return counter.number


class _Counter(TorchDispatchMode):
    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


@torch.inference_mode()
def least(run: Callable[[], object], rounds: int) -> float:
    """Seconds of a call: the best of `rounds` samples; another program can only make a run slower."""
    run()
    samples = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        samples.append(time.perf_counter() - started)
    return statistics.quantiles(samples, n=10)[0] if len(samples) > 10 else min(samples)


def _next_to_nothing(layers: int) -> GPT:
    return GPT(GPTConfig(16, layers, 8, 4, 2, 4, 8, 2 * TEXT)).eval().requires_grad_(False)
