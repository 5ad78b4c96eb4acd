"""What the ranks of test_parallel.py do: here, since each is a process that imports its function anew."""
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist

from minilm.cache import KVCache
from minilm.checkpoint import save
from minilm.decoding import autoregressive
from minilm.decoding.early_exit import Patience, early_exit
from minilm.decoding.proposers import PromptLookup
from minilm.model import GPT, GPTConfig
from minilm.sampling import Sampling
from minilm.serving import Engine, parallel

GROUPED = GPTConfig(vocab_size=96, num_layers=3, width=32, num_heads=4, num_kv_heads=2, head_size=8, mlp_width=48,
                    max_positions=64)
ALL_EXTRAS = GPTConfig(vocab_size=60, num_layers=2, width=24, num_heads=4, num_kv_heads=4, head_size=6, mlp_width=20,
                       max_positions=64, tie_embeddings=False, qkv_bias=True, qk_norm=True)


def made(config: GPTConfig, dtype: torch.dtype) -> GPT:
    """Random weights, large enough that the next token hangs on what was read; the same on every rank."""
    torch.manual_seed(1)
    model = GPT(config).to(dtype).requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


@torch.inference_mode()
def numbers(mesh) -> dict:
    """What a model gives whole and cut, for two shapes in two dtypes: {(shape, dtype): what `compared` says}; and what
    `shard` refuses, and by how much a plain cut is off."""
    found = {(name, dtype): compared(mesh, config, dtype) for name, config in
             (("grouped", GROUPED), ("all extras", ALL_EXTRAS)) for dtype in (torch.float32, torch.float64)}
    return {**found, "refusals": refusals(mesh), "plain cut off by": plain_cut(mesh)}


def compared(mesh, config: GPTConfig, dtype: torch.dtype) -> dict:
    whole, cut = made(config, dtype), parallel.shard(made(config, dtype), mesh)
    ids = torch.randint(config.vocab_size, (2, 20), generator=torch.Generator().manual_seed(0))
    cache = KVCache(cut.config, 2, dtype=dtype)
    pieces = [cut(ids[:, a:b], cache) for a, b in ((0, 7), (7, 18), (18, 19), (19, 20))]    # prefill, chunk, two tokens
    decoded = [texts(model, ids[0].tolist()) for model in (whole, cut)]
    everyone = [None] * mesh.size()
    dist.all_gather_object(everyone, decoded[1])
    x = torch.randn(1, 5, config.width, dtype=dtype, generator=torch.Generator().manual_seed(2))
    rope = whole.rotary(torch.arange(5), dtype)
    mine = slice(cut.config.num_kv_heads * mesh.get_rank(), cut.config.num_kv_heads * (mesh.get_rank() + 1))
    own, all_heads = (model.layers[1].attention.keys_values(x, rope) for model in (cut, whole))
    skipped = [(a - b[:, mine]).abs().max() for a, b in zip(own, all_heads, strict=True)]
    return {"uncached": float((cut(ids) - whole(ids)).abs().max()), "skipped layer": float(max(skipped)),
            "cached": float((torch.cat(pieces, 1) - whole(ids)).abs().max()), "size": float(whole(ids).abs().max()),
            "whole": decoded[0], "cut": decoded[1], "everyone": everyone,
            "key-value heads": (cache.keys(0).shape[1], Engine(cut, num_blocks=2).cache.keys[0].shape[2]),
            "bytes": parallel.held_bytes(cut), "exchanges": {"20 tokens": exchanges(cut, ids), "one": exchanges(
                cut, ids[:, :1])}}


def texts(model: GPT, prompt: list[int]) -> dict[str, list]:
    """Greedy, early-exit and sampled texts, and the engine's, short of blocks, with a drafter."""
    engine = Engine(model, block_size=4, num_blocks=14, max_batch_tokens=24, proposer=PromptLookup(3, 2), max_drafts=3)
    for i in range(3):
        engine.add(prompt[: 8 + 4 * i], 12, Sampling(0.9 * (i == 1)), n=1 + (i == 1), seed=i)
    served = [[made.tokens for made in (out if isinstance(out, list) else [out])] for out in engine.run().values()]
    warm = autoregressive(model, prompt, 16, sampling=Sampling(1.0), generator=torch.Generator().manual_seed(3))
    return {"greedy": autoregressive(model, prompt, 16).tokens, "sampled": warm.tokens,
            "early exit": early_exit(model, prompt, 12, Patience(1)).tokens, "engine": served}


def exchanges(model: GPT, ids: torch.Tensor) -> dict[str, int]:
    """Which collectives one pass made, as PyTorch saw them."""
    from torch.distributed.tensor.debug import CommDebugMode
    with CommDebugMode() as seen:
        model(ids)
    return {str(kind).split(".")[-1]: count for kind, count in seen.get_comm_counts().items()}


def refusals(mesh) -> dict[str, str]:
    """What `shard` says to a second cut and to misfits."""
    said = {}
    cut = parallel.shard(made(GROUPED, torch.float64), mesh)
    try:
        save(cut, None, "nowhere")
    except ValueError as error:
        said["save"] = str(error)
    for name, wrong in (("again", cut), ("no model", torch.nn.Linear(2, 2)),
                        ("odd", GPT(GPTConfig(96, 1, 24, 3, 3, 8, 48)))):
        try:
            parallel.shard(wrong, mesh)
        except (TypeError, ValueError) as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


def plain_cut(mesh) -> float:
    """How far the logits are off when the rows of the fused matrices keep their order."""
    ids, deal = torch.arange(12)[None], parallel.deal
    parallel.deal = lambda sizes, ranks: torch.arange(sum(sizes))
    plain = parallel.shard(made(GROUPED, torch.float64), mesh)
    parallel.deal = deal
    return float((plain(ids) - made(GROUPED, torch.float64)(ids)).abs().max())


def fail(mesh, how: str, note: str) -> None:
    """Rank 1 fails in the middle of a sum of which rank 0 is waiting for its part; when, it writes down."""
    ones = torch.ones(3)
    dist.all_reduce(ones)
    if mesh.get_rank() == 1:
        Path(note).write_text(repr(time.time()))
        if how == "raise":
            raise KeyError("no such weight")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "leave":
            return
    dist.all_reduce(ones)


def sleep(mesh) -> None:
    """The last rank never comes back; the others wait for it."""
    if mesh.get_rank() == mesh.size() - 1:
        time.sleep(1000)
    else:
        dist.all_reduce(torch.ones(3))


def vanish(mesh) -> None:
    os._exit(7)


def unsendable(mesh):
    return lambda: None


def rank_and_args(mesh, *args, **kwargs) -> tuple:
    return mesh.get_rank(), mesh.size(), args, kwargs, torch.get_num_threads()
