"""What an engine refuses, each with one clear error, before anything else has happened."""
import os
from typing import Any

import torch

from minilm.checks import check_count
from minilm.generation import check_request
from minilm.model import GPT
from minilm.sampling import Sampling
from minilm.serving.request import Request


def check_engine(model: GPT, proposer: Any, preemption: str, watch: Any, prefix_caching: Any,
                 numbers: dict[str, tuple[Any, int]]) -> None:
    """numbers[name]: (value, the least it may be)."""
    if not isinstance(model, GPT):
        raise TypeError(f"the engine serves a GPT; it got a {type(model).__name__} (minilm.load gives a model and its "
                        "tokenizer: pass the model)")
    if proposer is not None and (isinstance(proposer, type) or not hasattr(proposer, "propose")):
        raise TypeError(f"the proposer must be a drafter such as PromptLookup(); it is {proposer!r:.80}")
    if watch is not None and not callable(watch):
        raise TypeError(f"watch must be a function that takes a Step; it is {watch!r:.80}")
    for name, (value, least) in numbers.items():
        check_count(name, value, least)
    if preemption not in ("recompute", "swap"):
        raise ValueError(f'preemption is "recompute" or "swap"; it is {preemption!r}')
    if not isinstance(prefix_caching, bool):
        raise TypeError(f"prefix_caching is True or False; it is {prefix_caching!r}")
    check_memory(model, numbers["num_blocks"][0], numbers["block_size"][0])


def check_memory(model: GPT, num_blocks: int, block_size: int) -> None:
    """Raise ValueError for a pool larger than the device's memory: an allocator may say less, or end the process."""
    c = model.config
    block = 2 * c.num_layers * c.num_kv_heads * c.head_size * block_size * model.dtype.itemsize
    memory = device_memory(model.device)
    if memory is not None and num_blocks * block > memory:
        raise ValueError(f"{num_blocks:,} blocks of {block_size} tokens take {num_blocks * block / 2**30:,.1f} GiB, "
                         f"and {model.device} has {memory / 2**30:,.1f}: at most {memory // block:,} would fit")


def device_memory(device: torch.device) -> int | None:
    """All bytes of the device's memory; None where the system doesn't say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_add(model: GPT, request: Request) -> None:
    """Raise TypeError or ValueError for a request that no engine can serve."""
    if not isinstance(request.prompt, (list, tuple, str, torch.Tensor)):
        raise TypeError(f"the prompt is a {type(request.prompt).__name__}; give a list of ints")
    check_request(model, request.prompt, request.max_new_tokens)
    if not isinstance(request.sampling, Sampling):
        raise TypeError(f"sampling must be a Sampling, such as Sampling(0.8, top_p=0.9); it is "
                        f"{request.sampling!r:.80}")
    if request.callback is not None and not callable(request.callback):
        raise TypeError("callback must be a function that takes (id, sample, new tokens); it is "
                        f"{request.callback!r:.80}")
    if request.eos is not None:
        check_count("eos", request.eos, 0, model.config.vocab_size - 1)
    check_count("n", request.n, 1)
    check_count("beams", request.beams, 0)
    check_count("seed", request.seed, 0, 2**63 - 1 - request.n)
    if not request.beams:
        return
    if request.beams < request.n:
        raise ValueError(f"{request.beams} beams can't give n = {request.n} texts: ask for at least as many beams")
    if not request.sampling.greedy:
        raise ValueError("a beam search looks for the likeliest text and draws nothing: leave sampling greedy, or use "
                         "n without beams to draw several texts")
    if request.callback is not None:
        raise ValueError("a beam search can't call back while it runs, since its texts may still change: leave "
                         "callback out and read the result")


def check_size(request: Request, block_size: int, blocks: int, swap_blocks: int | None) -> None:
    """Raise ValueError for a request that could never run, saying by how much it is too large."""
    most = request.most_blocks(block_size)
    if most > blocks:
        raise ValueError(f"this request may need {most} blocks of {block_size} tokens, {most - blocks} more than the "
                         f"{blocks} there are: ask for less, or give the engine more blocks")
    if swap_blocks is not None and most > swap_blocks:
        raise ValueError(f"this request may need {most} blocks, {most - swap_blocks} more than the swap space's "
                         f'{swap_blocks}: make it larger, or use preemption="recompute"')
