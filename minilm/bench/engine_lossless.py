"""The engine with everything on against plain decoding of the same model alone, greedy, token by token.

In exact arithmetic the texts are the same. A machine rounds, and a GPU's kernels round otherwise than PyTorch's, so
where two logits nearly tie the winner may change. How near is near is measured: the largest difference of a logit from
its value in float64 in plain decoding, both in one pass over a text and token by token. (The engine's own is told
too, but judges nothing: else an engine that is wrong enough would excuse itself.) Rounding of that size can turn a
choice only where both chosen tokens are within twice of it from the best one; a text that parts elsewhere is an error.
"""
import random
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import minilm
from minilm.bench.lossless import divergence
from minilm.decoding import Patience, autoregressive
from minilm.decoding.proposers import Combined, PromptLookup, SelfSpeculative
from minilm.generation import Generation
from minilm.model import GPT
from minilm.serving import Engine
from minilm.training.evaluate import held_out_prompts

Requests = list[tuple[list[int], int]]                      # (prompt, new tokens)
PLAIN = "plain"
BLOCK_SIZE, BATCH_TOKENS, SHORTEST = 16, 512, 4


def settings(model: GPT, requests: Requests) -> dict[str, dict]:
    """name -> options of an engine. Each way to save or to share alone, then most of them together."""
    layer = max(1, model.config.num_layers // 4)
    most = [-(-(len(prompt) + new) // BLOCK_SIZE) + 1 for prompt, new in requests]
    tight = max(max(most), sum(most) // 4)                  # blocks for about a quarter of the texts at once

    def combined() -> Combined:
        return Combined([PromptLookup(4, 3, min_ngram=2), SelfSpeculative(layer, 3)])

    return {PLAIN: {}, "chunks of 24 tokens": {"max_batch_tokens": 24}, "prefix caching": {"prefix_caching": True},
            "little memory, recompute": {"num_blocks": tight},
            "little memory, swap": {"num_blocks": tight, "preemption": "swap"},
            "prompt lookup": {"proposer": PromptLookup(4, 2)},
            "self-speculation": {"proposer": SelfSpeculative(layer, 3)}, "combined": {"proposer": combined()},
            "exit that never leaves": {"exit_policy": Patience(model.config.num_layers + 1)},
            "all of it": {"proposer": combined(), "num_blocks": tight, "preemption": "swap", "prefix_caching": True,
                          "max_batch_tokens": 64}}


def measure(num_prompts: int = 24, new_tokens: int = 48, name: str = "minilm-14m", *, device: str = "cuda",
            dtypes: Sequence[str] = ("float32", "bfloat16"), say: Callable[[str], None] = print,
            keep: Callable[[dict], None] = lambda measured: None) -> dict:
    """One row for each dtype and setting: of how many held-out prompts (4 to `new_tokens` new tokens each) the engine's
    text is plain decoding's own, and where it is not, whether the measured noise explains it. keep: called with what
    there is so far after every row."""
    exact, tokenizer = minilm.load(name, device=device, dtype=torch.float64)
    draw = random.Random(0)
    requests = [(prompt, draw.randint(SHORTEST, new_tokens)) for prompt in held_out_prompts(tokenizer, num_prompts)]
    measured = {"benchmark": "engine_lossless", "model": name, "prompts": num_prompts, "new_tokens": new_tokens,
                "tokens": sum(new for _, new in requests), "rows": []}
    for kind in dtypes:
        model = minilm.load(name, device=device, dtype=getattr(torch, kind))[0]
        for row in of_model(exact, model, requests):
            measured["rows"].append(row)
            say(line(row))
            keep(measured)
    return measured


def of_model(exact: GPT, model: GPT, requests: Requests):
    """The rows of one model, one after the other; `exact` is the same one in float64."""
    alone = [autoregressive(model, prompt, new).tokens for prompt, new in requests]
    rounding, own = noise(exact, model, requests, alone), 0.0
    for name, options in settings(model, requests).items():
        texts, said, preempted = serve(model, requests, options, listen=name == PLAIN)
        if name == PLAIN:
            own = max(apart(exact, prompt, text, torch.stack(said[i]))
                      for i, ((prompt, _), text) in enumerate(zip(requests, texts, strict=True)))
        found = [divergence(exact, requests[i][0], plain, text) | {"prompt": i}
                 for i, (plain, text) in enumerate(zip(alone, texts, strict=True)) if text != plain]
        yield {"setting": name, "dtype": str(model.dtype).removeprefix("torch."), "prompts": len(requests),
               "identical": len(requests) - len(found), "divergences": found, "noise": rounding, "engine_noise": own,
               "explained": sum(explained(one, rounding) for one in found), "preemptions": preempted}


def explained(one: dict, rounding: float) -> bool:
    """May rounding have turned this choice?"""
    return one["behind"] is not None and one["behind"] <= 2 * rounding


def serve(model: GPT, requests: Requests, options: dict, listen: bool) -> tuple[list[list[int]],
                                                                                 dict[int, list[Tensor]], int]:
    """The engine's texts; if it is to `listen`, the logits of each request's tokens, [V] each; how often one was
    preempted."""
    blocks = sum(-(-(len(prompt) + new) // BLOCK_SIZE) + 1 for prompt, new in requests)
    engine = Engine(model, **{"num_blocks": blocks, "block_size": BLOCK_SIZE, "max_batch_tokens": BATCH_TOKENS,
                              "prefix_caching": False} | options)
    said: dict[int, list[Tensor]] = defaultdict(list)
    run = engine.runner.run

    def heard(turns):
        rows = run(turns)
        for turn, row in zip(turns, rows, strict=True):
            if turn.asks:
                said[turn.sequence.request.id].append(row.logits[-1].double())      # a copy: the next pass writes there
        return rows

    if listen:
        engine.runner.run, engine.runner.runs_ahead = heard, False
    for _ in range(1 + options.get("prefix_caching", False)):           # twice, so that there is what to share
        ids = [engine.add(prompt, new) for prompt, new in requests]
        found: dict[int, Generation] = engine.run()
    preempted = sum(request.preemptions for request in engine.requests.values())
    return [found[i].tokens for i in ids], said, preempted


def noise(exact: GPT, model: GPT, requests: Requests, texts: Sequence[list[int]]) -> float:
    """The largest difference of a logit from float64, of one pass over each text and of one pass for each token."""
    return max(apart(exact, prompt, text, way(model, prompt, text))
               for (prompt, _), text in zip(requests, texts, strict=True) for way in (logits_of, token_by_token))


def apart(exact: GPT, prompt: list[int], text: list[int], logits: Tensor) -> float:
    """The largest |logits[n,V] of the text's tokens - those in float64|."""
    return float((logits.double() - logits_of(exact, prompt, text)).abs().max())


@torch.inference_mode()
def logits_of(model: GPT, prompt: list[int], text: list[int]) -> Tensor:
    """[n, V]: what comes before each token of the text."""
    return model(torch.tensor([prompt + text[:-1]], device=model.device))[0, len(prompt) - 1:]


@torch.inference_mode()
def token_by_token(model: GPT, prompt: list[int], text: list[int]) -> Tensor:
    """The same, as decoding makes them."""
    cache = model.new_cache(len(prompt) + len(text))
    feeds = [prompt, *([token] for token in text[:-1])]
    return torch.cat([model(torch.tensor([ids], device=model.device), cache)[0, -1:] for ids in feeds])


def line(row: dict) -> str:
    """A row as text."""
    said = "".join(f"; prompt {one['prompt']} at token {one['at']}, margin {one['margin']:.1e}"
                   f"{'' if explained(one, row['noise']) else ': NOT BY ROUNDING'}" for one in row["divergences"])
    return (f"{row['setting']:25} {row['dtype']:8} {row['identical']} of {row['prompts']} texts identical, "
            f"{row['explained']} of {len(row['divergences'])} others within twice the noise, {row['noise']:.1e}{said}")


def show(measured: dict) -> str:
    """The measurement as a few lines of text."""
    head = (f"{measured['model']}, greedy, {measured['prompts']} prompts, up to {measured['new_tokens']} new tokens: "
            "the engine against plain decoding of the same dtype on the same device")
    return "\n".join([head, *map(line, measured["rows"])])
