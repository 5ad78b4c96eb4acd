"""A model whole and cut, side by side, on the ranks that there are: what to run first on a new machine.

    parallel.run(parallel_check.compare, 2, "minilm-14m", "Once upon a time")
    parallel.run(parallel_check.compare, 2, "minilm-14m", "Once upon a time", dtype="bfloat16", backend="nccl")

Functions of a module, since the processes of a run import what they call: a notebook's cell can't be imported.
"""
import os
import signal
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.tensor.debug import CommDebugMode

import minilm
from minilm.decoding import autoregressive
from minilm.serving import Engine, parallel


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. held: bytes of each rank, cut and whole; heads: (query, key-value) heads of each rank.

    logits_off_by: the largest difference to the whole model's logits, over a prompt. tokens, engine_tokens: of each
    rank. exchanges: how many collectives of which kind one pass of one token makes.
    """

    ranks: int
    layers: int
    whole_bytes: int
    held: list[dict[str, int]]
    heads: list[tuple[int, int]]
    logits_off_by: float
    whole_tokens: list[int]
    tokens: list[list[int]]
    engine_tokens: list[list[int]]
    exchanges: dict[str, int]
    text: str


@torch.inference_mode()
def compare(mesh, name: str, prompt: str, new_tokens: int = 16, dtype: str = "float64") -> Comparison:
    """Load a model, run it whole, cut it over the ranks, and run it again, by itself and under `serving.Engine`."""
    device = torch.device(mesh.device_type, mesh.get_rank())
    model, tokenizer = minilm.load(name, device=device, dtype=dtype)
    parallel.check_divides(model.config, mesh.size())
    ids = tokenizer.encode(prompt)
    batch = torch.tensor([ids], device=device)
    whole, tokens = model(batch), autoregressive(model, ids, new_tokens).tokens
    size = sum(parallel.held_bytes(model).values())
    parallel.shard(model, mesh)
    with CommDebugMode() as seen:
        model(batch[:, :1])
    engine = Engine(model, num_blocks=2 + (len(ids) + new_tokens) // 16)
    request = engine.add(ids, new_tokens)
    mine = {"held": parallel.held_bytes(model), "heads": (model.config.num_heads, model.config.num_kv_heads),
            "tokens": autoregressive(model, ids, new_tokens).tokens, "engine": engine.run()[request].tokens}
    everyone = [None] * mesh.size()
    dist.all_gather_object(everyone, mine)
    return Comparison(
        mesh.size(), len(model.layers), size, [one["held"] for one in everyone], [one["heads"] for one in everyone],
        float((model(batch) - whole).abs().max()), tokens, [one["tokens"] for one in everyone],
        [one["engine"] for one in everyone],
        {str(kind).split(".")[-1]: count for kind, count in seen.get_comm_counts().items()}, tokenizer.decode(tokens))


def die(mesh, victim: int) -> None:
    """One rank kills itself while the others wait for its summand: shows what `parallel.run` makes of it."""
    if victim not in range(mesh.size()):
        raise ValueError(f"victim is a rank from 0 to {mesh.size() - 1}; it is {victim!r}")
    if mesh.get_rank() == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.ones(1))
