"""A decode step of models of real size on a GPU, beside PyTorch's own ways to run one, `transformers`, and the limit.

Weights are random: time does not depend on them. A step feeds one token a sequence after a short context, and ends with
the greedy choice. Its limit is the time to read what it must, every weight but the embedding table, and the keys and
values, at the rate that a copy reaches on the same card in the same run. Everyone reads the same weights and the same
keys and values, and has to find the same logits first.
"""
import copy
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import minilm
from minilm.bench import big_peers, limits
from minilm.bench.big_steps import random_gpt
from minilm.bench.captured import empty_graph
from minilm.bench.cost import kv_bytes_per_token, weight_bytes
from minilm.bench.kernel_timing import in_turn, paired_ratio, relative_error
from minilm.kernels.decode_layers import DecodeLayers
from minilm.kernels.sampler import sample
from minilm.model import GPT, GPTConfig

SHAPES = {
    "llama-3-8b": GPTConfig(128256, 32, 4096, 32, 8, 128, 14336, max_positions=8192, rope_theta=500_000.0,
                            tie_embeddings=False),
    "llama-3.2-1b": GPTConfig(128256, 16, 2048, 32, 8, 64, 8192, max_positions=8192, rope_theta=500_000.0),
    "minilm-14m": None,                                     # the checkpoint itself
}
BATCHES = {"llama-3-8b": (1, 4, 8, 16, 32), "llama-3.2-1b": (1,), "minilm-14m": (1,)}
OURS, BLOCK = "minilm", 16


def measure(*names: str, rounds: int = 7, peers: Sequence[str] = ("pytorch",), context: int = 128,
            say: Callable[[str], None] = print) -> dict:
    """Each model's step at each batch: seconds of all rounds, everyone in turn. peers: of `big_peers.PEERS`.

    Raises ValueError without a GPU, or for a name that is none.
    """
    if not torch.cuda.is_available():
        raise ValueError("`minilm bench big` needs an NVIDIA GPU, and this machine has none that PyTorch can use")
    for name, known in [(name, SHAPES) for name in names] + [(name, big_peers.PEERS) for name in peers]:
        if name not in known:
            raise ValueError(f"{name!r} is none of {', '.join(known)}")
    rate = max(limits.copy_rates("cuda", megabytes=1024, repeats=9))
    rows = []
    for name in names or SHAPES:
        model, started = random_model(name), time.perf_counter()
        for batch in BATCHES[name]:
            row = {"model": name, "batch": batch, **one_step(model, batch, context, rate, rounds, peers)}
            rows.append(row)
            say(line(row))
        say(f"{name}: {time.perf_counter() - started:.0f} s")
        del model
        torch.cuda.empty_cache()
    return {"benchmark": "big", "context": context, "rounds": rounds, "dtype": "bfloat16",
            "copy_bytes_per_second": rate, "rows": rows}


def random_model(name: str) -> GPT:
    """The shape's model in bfloat16 on the GPU, with weights made there. minilm-14m: the checkpoint."""
    if SHAPES[name] is None:
        return minilm.load(name, device="cuda", dtype=torch.bfloat16)[0]
    return random_gpt(SHAPES[name], "cuda")


class State:
    """What everyone's step begins with: ids[B], the position that they stand at, keys and values of all before."""

    def __init__(self, model: GPT, batch: int, context: int):
        c, generator = model.config, torch.Generator("cuda").manual_seed(batch)
        self.ids = torch.randint(c.vocab_size, (batch,), device="cuda", generator=generator)
        self.position, self.batch = context - 1, batch
        shape = (batch, c.num_kv_heads, context, c.head_size)
        self.keys, self.values = ([torch.randn(shape, device="cuda", generator=generator).to(model.dtype)
                                   for _ in range(c.num_layers)] for _ in range(2))


class OurStep:
    """By `DecodeLayers`, keys and values in blocks that lie anywhere, and one launch for the choice of tokens."""

    def __init__(self, model: GPT, state: State):
        B, context = state.batch, state.position + 1
        width = -(-context // BLOCK)
        self.tables = torch.randperm(B * width, device="cuda").view(B, width).to(torch.int32)
        self.keys, self.values = ([self._paged(kept) for kept in every] for every in (state.keys, state.values))
        self.slots = self.tables[:, state.position // BLOCK].long() * BLOCK + state.position % BLOCK
        self.ids, self.layers = state.ids, DecodeLayers(model, B)
        self.positions = torch.full((B,), state.position, device="cuda")
        self.lengths = torch.full((B,), context, dtype=torch.int32, device="cuda")
        self.zeros, self.ones = torch.zeros(B, device="cuda"), torch.ones(B, device="cuda")
        self.none = torch.zeros(B, dtype=torch.int64, device="cuda")

    def _paged(self, kept: Tensor) -> Tensor:
        """[B, K, S, D] -> blocks [B · width, BLOCK, K, D], where the tables say."""
        B, K, S, D = kept.shape
        width = self.tables.shape[1]
        rows = torch.zeros(B, width * BLOCK, K, D, dtype=kept.dtype, device=kept.device)
        rows[:, :S] = kept.transpose(1, 2)
        blocks = torch.empty(B * width, BLOCK, K, D, dtype=kept.dtype, device=kept.device)
        blocks[self.tables.flatten().long()] = rows.view(B * width, BLOCK, K, D)
        return blocks

    def logits(self) -> Tensor:
        x = self.layers.hidden(self.ids, self.positions, self.slots, self.keys, self.values, self.tables, self.lengths)
        return self.layers.logits(x)

    def tokens(self) -> Tensor:
        return sample(self.logits(), self.zeros, self.none, self.ones, self.zeros)


@torch.inference_mode()
def exact_logits(model: GPT, state: State) -> Tensor:
    """The step in float32, one widened layer at a time: [B, V]."""
    cache = big_peers.StaticCache([k.float() for k in state.keys], [v.float() for v in state.values], state.position)
    x = model.embedding(state.ids)[:, None].float()
    rope = model.rotary(cache.place, torch.float32)
    for i, block in enumerate(model.layers):
        x = copy.deepcopy(block).float()(x, rope, cache, i)
    x = copy.deepcopy(model.norm).float()(x[:, 0])
    return torch.cat([x @ rows.float().T for rows in model.vocabulary.weight.split(16384)], -1)


@torch.inference_mode()
def one_step(model: GPT, batch: int, context: int, rate: float, rounds: int, peers: Sequence[str]) -> dict:
    """Everyone's seconds a step, errors of their logits beside float32's, and what the limit is."""
    state = State(model, batch, context)
    want = exact_logits(model, state)
    steps = {OURS: lambda: OurStep(model, state), **{name: (lambda name=name: big_peers.PEERS[name](model, state))
                                                    for name in peers}}
    runs, errors, failed = {}, {}, {}
    for name, make in steps.items():
        try:
            step = make()
            errors[name] = float(f"{relative_error(step.logits(), want):.3g}")
            runs[name] = step.seconds if hasattr(step, "seconds") else Graph(step.tokens)
        except Exception as error:                              # a peer that fails here is told, not hidden
            if name == OURS:
                raise
            failed[name] = f"{type(error).__name__}: {error}"[:300]
    seconds = in_turn(runs, rounds)
    num_bytes = weight_bytes(model.config, 2) + batch * context * kv_bytes_per_token(model.config, 2)
    medians = {name: statistics.median(samples) for name, samples in seconds.items()}
    kernels = runs[OURS].kernels()
    return {"seconds": seconds, "bytes": num_bytes, "limit_seconds": num_bytes / rate, "logit_errors": errors,
            "of_limit": {name: round(num_bytes / rate / took, 4) for name, took in medians.items()},
            "times_as_fast": {name: round(paired_ratio(seconds[name], seconds[OURS]), 4) for name in medians},
            "failed": failed, "kernels": kernels,
            "launch_floor_seconds": statistics.median(Graph.of(empty_graph(kernels, model.device))() for _ in range(7))}


class Graph:
    """A step as one CUDA graph; a call replays it some times and gives seconds a step."""

    REPLAYS = 5

    def __init__(self, step: Callable[[], object]):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                step()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.step, self.graph = step, torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.out = step()

    @classmethod
    def of(cls, graph: torch.cuda.CUDAGraph) -> "Graph":
        made = cls.__new__(cls)
        made.graph = graph
        return made

    def __call__(self) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(self.REPLAYS):
            self.graph.replay()
        end.record()
        end.synchronize()
        return float(f"{start.elapsed_time(end) / 1e3 / self.REPLAYS:.5g}")

    def kernels(self) -> int:
        """How many kernels a replay launches, by the profiler."""
        from torch.profiler import ProfilerActivity, profile
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            self.graph.replay()
            torch.cuda.synchronize()
        return sum(event.count for event in seen.key_averages() if event.device_time_total)


def line(row: dict) -> str:
    """A row as text."""
    every = ", ".join(f"{name} {statistics.median(row['seconds'][name]) * 1e3:.3f} ms ({share:.3f} of the limit)"
                      for name, share in row["of_limit"].items())
    failed = "".join(f"; {name} failed: {why[:80]}" for name, why in row["failed"].items())
    errors = ", ".join(f"{error:.1e}" for error in row["logit_errors"].values())
    return (f"{row['model']:12} batch {row['batch']:2}: limit {row['limit_seconds'] * 1e3:.3f} ms; {every}; logits off "
            f"float32's by {errors}; {row['kernels']} kernels, empty {row['launch_floor_seconds'] * 1e3:.3f} ms"
            f"{failed}")


def show(measured: dict) -> str:
    """All rows as lines of text."""
    return "\n".join([f"one decode step after {measured['context'] - 1} tokens, bfloat16, greedy; a copy reaches "
                      f"{measured['copy_bytes_per_second'] / 1e12:.2f} TB/s; medians of {measured['rounds']} rounds",
                      *map(line, measured["rows"])])
