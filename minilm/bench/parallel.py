"""A decode step whole and cut over ranks, and what an all-reduce costs: on this CPU by gloo, or on GPUs by NCCL.

Models take turns in every round: the whole one on one rank while the others wait; one rank's share alone, that is, a
model of a rank's shape with nothing exchanged: the best that cutting could ever give; and the cut one. On a CPU the
ranks share one memory, so nothing is won there; the exchange can be seen all the same. There one more takes its turn:
the share as DTensors that have nobody to talk to, whose time above the plain share is what DTensor's Python takes
around every operation (in a CUDA graph no Python runs). Where there are fewer GPUs than ranks the cut model is left
out, and the result says so.
"""
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

import minilm
from minilm.model import GPT, GPTConfig
from minilm.serving import parallel

# An 8B of Llama 3's shape: timing at real size needs no weights that mean anything.
SHAPES = {"8b": GPTConfig(128_256, 32, 4096, 32, 8, 128, 14_336, max_positions=8192, rope_theta=500_000.0,
                          tie_embeddings=False)}
REPEATS = {"cpu": 8, "cuda": 50}            # steps that one sample is the mean of
WHOLE, SHARE, CUT = "whole, one rank", "a rank's share, no exchange", "cut"
ALONE = "that share as DTensors"


def measure(name: str | None = None, *, ranks: int = 2, rounds: int = 7, device: str = "cpu",
            batches: Sequence[int] | None = None, context: int | None = None) -> dict:
    """Seconds of decode steps at `context` tokens, for each batch; and of all-reduces of a step's size, where there
    are two ranks or more.

    name: a model to load, or "8b" for random weights of that shape in bfloat16 (the default on a GPU).
    Raises ValueError for a model that can't be cut so, or a device that is not there.
    """
    if device not in REPEATS or (device == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"device {device!r} is not here to measure on; there is cpu"
                         f"{', and cuda' if torch.cuda.is_available() else ''}")
    on_gpu = device == "cuda"
    name = name or ("8b" if on_gpu else "minilm-14m")
    parallel.check_divides(_config(name), ranks)
    there = min(ranks, torch.cuda.device_count()) if on_gpu else ranks
    found = parallel.run(timings, ranks if there == ranks else 1, name, ranks, rounds, backend="nccl" if on_gpu else
                         "gloo", batches=batches or ((1, 8, 32, 128) if on_gpu else (1, 8)),
                         context=context or (1024 if on_gpu else 128), threads=torch.get_num_threads(), timeout=None)
    return {"benchmark": "parallel", "model": name, "ranks": ranks, "devices": there, "device": device,
            "rounds": rounds, **found}


def _config(name: str) -> GPTConfig:
    return SHAPES[name] if name in SHAPES else minilm.load(name)[0].config


@torch.inference_mode()
def timings(mesh, name: str, of: int, rounds: int, *, batches: Sequence[int], context: int, threads: int) -> dict:
    """What each rank runs; rank 0's clock counts. threads: of the whole process; a rank has its part of them."""
    device = torch.device(mesh.device_type, mesh.get_rank())
    whole = _model(name, device)
    models = {WHOLE: whole, SHARE: _share(whole, of)}
    if device.type == "cpu" and of > 1:
        own = dist.init_device_mesh("cpu", (mesh.size(), 1), mesh_dim_names=("ranks", "alone"))["alone"]
        models[ALONE] = parallel.shard(_share(whole, of), own)
    if mesh.size() == of:
        models[CUT] = parallel.shard(copy.deepcopy(whole), mesh)
    rows, seconds = [], {}
    for batch in batches:
        ids = torch.randint(whole.config.vocab_size, (batch, 1), generator=torch.Generator().manual_seed(0)).to(device)
        steps = {}
        for kind, model in models.items():
            if kind == CUT or mesh.get_rank() == 0:
                steps[kind] = _step(model, ids, context)
        seconds = {kind: [] for kind in models}
        for number in range(rounds):
            for kind in _turned(list(models), number):
                dist.barrier()
                if kind in steps:
                    _threads(device, threads, mesh.size() if kind == CUT else 1 if kind == WHOLE else of)
                    seconds[kind].append(_seconds(steps[kind], device))
        rows += [{"kind": kind, "batch": batch, "seconds_per_step": taken} for kind, taken in seconds.items()]
    off = None
    if CUT in models:
        ids = torch.arange(16, device=device)[None]
        ours, theirs = models[CUT](ids).float(), whole(ids).float()
        off = {"logits_off_by": float((ours - theirs).abs().max()), "logits_spread": float(theirs.std())}
    return {"context": context, "dtype": str(whole.dtype).removeprefix("torch."), "rows": rows, "accuracy": off,
            "all_reduce": _all_reduces(mesh, whole, rounds) if mesh.size() > 1 else [],
            "held": {kind: _bytes(model) for kind, model in models.items()}}


def _model(name: str, device: torch.device) -> GPT:
    if name not in SHAPES:
        return minilm.load(name, device=device)[0]
    torch.manual_seed(0)                                            # the same weights on every rank
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return GPT(SHAPES[name]).requires_grad_(False)
    finally:
        torch.set_default_dtype(usual)


def _share(model: GPT, of: int) -> GPT:
    """A model of the shape that one of `of` ranks computes; its embedding table is shorter, which costs no time."""
    c = model.config
    own = replace(c, num_heads=c.num_heads // of, num_kv_heads=c.num_kv_heads // of, mlp_width=c.mlp_width // of,
                  vocab_size=c.vocab_size // of)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(model.dtype)
    try:
        with model.device:
            return GPT(own).requires_grad_(False)
    finally:
        torch.set_default_dtype(usual)


class FixedContext:
    """The cache of one step, timed again and again: the new token stands at the end of `context` tokens."""

    def __init__(self, config: GPTConfig, batch: int, context: int, dtype: torch.dtype, device: torch.device):
        shape = (2, config.num_layers, batch, config.num_kv_heads, context, config.head_size)
        self.keys, self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.position = torch.tensor([context - 1], device=device)

    def begin(self, num_tokens: int) -> Tensor:
        return self.position

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, -1:], values[:, :, -1:] = k, v
        return F.scaled_dot_product_attention(q, keys, values, enable_gqa=q.shape[1] != k.shape[1])

    def end(self, num_tokens: int) -> None:
        pass


def _step(model: GPT, ids: Tensor, context: int) -> Callable[[], object]:
    """One decode step, ready to be repeated; on a GPU as a CUDA graph, in which an all-reduce may stand too."""
    ids = ids % model.config.vocab_size                             # the share knows fewer tokens
    cache = FixedContext(model.config, len(ids), context, model.dtype, model.device)
    if model.device.type != "cuda":
        return lambda: model(ids, cache)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):                                          # libraries and communicators set themselves up
            model(ids, cache)
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):    # NCCL's watchdog has a thread of its own
        model(ids, cache)
    return graph.replay


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    """Of one step: the mean over some, after one that is not counted."""
    repeats, wait = REPEATS[device.type], torch.cuda.synchronize if device.type == "cuda" else lambda: None
    step()
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    wait()
    return (time.perf_counter() - start) / repeats


def _all_reduces(mesh, model: GPT, rounds: int) -> list[dict]:
    """One number, a step's d numbers at batch 1 and 32, and a million: latency at one end, bandwidth at the other."""
    return exchange_times(mesh, (1, model.config.width, 32 * model.config.width, 1 << 20), rounds, model.dtype)


def exchange_times(mesh, counts: Sequence[int], rounds: int, dtype: torch.dtype = torch.float32) -> list[dict]:
    """Seconds of all-reduces of so many numbers each: [{"bytes", "seconds": samples}], by this rank's clock, each
    called from Python: on a GPU that is more than an all-reduce inside a graph takes."""
    device, rows = torch.device(mesh.device_type, mesh.get_rank()), []
    for count in counts:
        numbers, samples = torch.zeros(count, dtype=dtype, device=device), []
        for _ in range(rounds):
            dist.barrier()
            samples.append(_seconds(lambda numbers=numbers: dist.all_reduce(numbers), device))
        rows.append({"bytes": numbers.nbytes, "seconds": samples})
    return rows


def _bytes(model: GPT) -> int:
    return sum(parallel.held_bytes(model).values())


def _threads(device: torch.device, threads: int, sharing: int) -> None:
    if device.type == "cpu":
        torch.set_num_threads(max(1, threads // sharing))


def _turned(names: list, number: int) -> list:
    return names[number % len(names):] + names[: number % len(names)]


def show(measured: dict) -> str:
    """All rows as lines of text, and in words what was not measured."""
    ranks, rows = measured["ranks"], measured["rows"]
    lines = [f"{measured['model']}, {measured['dtype']}, {measured['device']}, a decode step at {measured['context']} "
             f"tokens, {ranks} ranks; medians of {measured['rounds']} paired rounds"]
    for row in rows:
        whole = next(r for r in rows if r["kind"] == WHOLE and r["batch"] == row["batch"])["seconds_per_step"]
        ratio = statistics.median(w / own for w, own in zip(whole, row["seconds_per_step"], strict=True))
        taken = 1e3 * statistics.median(row["seconds_per_step"])
        lines.append(f"batch {row['batch']:4}  {row['kind']:28} {taken:9.3f} ms  {ratio:5.2f} × whole")
    for row in measured["all_reduce"]:
        taken = statistics.median(row["seconds"])
        lines.append(f"all-reduce of {row['bytes']:>9,} bytes {1e6 * taken:9.1f} µs  {row['bytes'] / taken / 1e9:7.3f} "
                     "GB/s")
    if measured["accuracy"]:
        lines.append(f"logits off by at most {measured['accuracy']['logits_off_by']:.1e}, their spread being "
                     f"{measured['accuracy']['logits_spread']:.2f}")
    if measured["devices"] < ranks:
        lines.append(f"{ranks} ranks need {ranks} GPUs and this machine has {measured['devices']}: the cut model, and "
                     "with it the exchange, was not measured")
    return "\n".join(lines)
