"""What an engine refuses, each with one clear error, before anything else has happened."""
from typing import Any

import torch

from minilm.checks import check_count
from minilm.generation import check_request
from minilm.model import GPT
from minilm.sampling import Sampling
from minilm.serving.groups import kernels_fit
from minilm.serving.request import Request


def check_engine(model: GPT, proposer: Any, exit_policy: Any, exits: bool, preemption: str, watch: Any,
                 prefix_caching: Any, kernels: Any, numbers: dict[str, tuple[Any, int]]) -> None:
    """exits: are there exits, or a lens?  numbers[name]: (value, the least it may be); None: the engine finds it."""
    if not isinstance(model, GPT):
        raise TypeError(f"the engine serves a GPT; it got a {type(model).__name__} (minilm.load gives a model and its "
                        "tokenizer: pass the model)")
    if proposer is not None and (isinstance(proposer, type) or not hasattr(proposer, "propose")):
        raise TypeError(f"the proposer must be a drafter such as PromptLookup(); it is {proposer!r:.80}")
    if exit_policy is not None and (isinstance(exit_policy, type) or not hasattr(exit_policy, "leaves")):
        raise TypeError(f"exit_policy must be a policy such as SoftmaxResponse(0.9); it is {exit_policy!r:.80}")
    if exits and exit_policy is None:
        raise ValueError("exits and lens mean nothing without an exit_policy: give one, such as SoftmaxResponse(0.9)")
    if exit_policy is not None and proposer is not None:
        raise ValueError("an engine takes a proposer or an exit_policy, not both: drafts are verified by the whole "
                         "model. SelfSpeculative(exit_layer) as the proposer drafts by early exit, without loss")
    if watch is not None and not callable(watch):
        raise TypeError(f"watch must be a function that takes a Step; it is {watch!r:.80}")
    for name, (value, least) in numbers.items():
        if value is not None or name not in ("num_blocks", "swap_blocks"):
            check_count(name, value, least)
    if preemption not in ("recompute", "swap"):
        raise ValueError(f'preemption is "recompute" or "swap"; it is {preemption!r}')
    if not isinstance(prefix_caching, bool):
        raise TypeError(f"prefix_caching is True or False; it is {prefix_caching!r}")
    if kernels and not kernels_fit(model):
        raise ValueError("the kernels cannot serve this model here: they need CUDA (or Triton's interpreter and no "
                         "bfloat16), float32, float16 or bfloat16, and a head size that is a multiple of 16 up to 256")


def check_add(model: GPT, request: Request, exits: bool = False) -> None:
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
    if exits:
        raise ValueError("a beam search compares texts by the whole model's word: leave beams out, or the exit_policy")
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
