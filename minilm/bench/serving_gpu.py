"""Many requests on a GPU: the engine beside `transformers`' continuous batching, on the same weights.

256 requests arrive together; prompts and outputs have log-normal lengths; greedy and without an end token, so that all
make equally many tokens. Random weights of the shape of an 8B model, made on the GPU, and minilm-14m, which shows what
is left when the model itself costs next to nothing. Whoever records graphs or compiles has time for it before the
clock starts: the engine a run of its own, `transformers` its own warm-up and an eighth of the requests. Prefixes are
not shared.
"""
import inspect
import random
import statistics
import time
from collections.abc import Callable, Sequence

import torch

import minilm
from minilm.bench.big_steps import SHAPES, random_gpt
from minilm.bench.contestants import twin
from minilm.model import GPT
from minilm.serving import Engine

Requests = list[tuple[list[int], int]]                  # (prompt, new tokens)
PROMPT, OUTPUT, SIGMA = 256, 64, 0.8                    # tokens: means, and the spread of their logarithms
SHORTEST, LONGEST_PROMPT, LONGEST = 8, 2048, 256
BATCH_TOKENS, BLOCK_SIZE = 8192, 16
# Ways to run the peer; the best that works counts. Those that a version of `transformers` does not know are left out.
VARIANTS: dict[str, dict] = {
    "transformers, its own choices": {},
    "transformers, graphs, 2048 tokens a pass": {"use_cuda_graph": True, "max_batch_tokens": 2048},
    "transformers, graphs, 8192 tokens a pass": {"use_cuda_graph": True, "max_batch_tokens": BATCH_TOKENS},
}
OURS = "engine"


def requests_for(vocab_size: int, count: int, seed: int = 0) -> Requests:
    draw = random.Random(seed)

    def length(mean: int, most: int) -> int:
        return min(max(SHORTEST, round(mean * draw.lognormvariate(-SIGMA**2 / 2, SIGMA))), most)

    return [([draw.randrange(vocab_size) for _ in range(length(PROMPT, LONGEST_PROMPT))], length(OUTPUT, LONGEST))
            for _ in range(count)]


def blocks_for(requests: Requests) -> int:
    """Enough for all requests at once."""
    return sum(-(-(len(prompt) + new) // BLOCK_SIZE) for prompt, new in requests) + 64


class Ours:
    """One engine for all runs, so that the first one records what the others replay."""

    def __init__(self, model: GPT, requests: Requests):
        self.engine = Engine(model, num_blocks=blocks_for(requests), block_size=BLOCK_SIZE, prefix_caching=False,
                             max_batch_tokens=BATCH_TOKENS)
        self.steps: list[tuple[bool, float]] = []

    def __call__(self, requests: Requests) -> list[list[int]]:
        """The tokens of each; `steps` then holds of every step whether it read prompts, and its seconds."""
        ids, self.steps, clock = [self.engine.add(prompt, new) for prompt, new in requests], [], time.perf_counter()
        scheduler = self.engine.scheduler
        while scheduler.running or scheduler.waiting:
            reads = bool(scheduler.waiting) or any(s.pending > 1 for r in scheduler.running for s in r.sequences)
            self.engine.step()
            now = time.perf_counter()
            self.steps.append((reads, now - clock))
            clock = now
        out = [self.engine.requests[id].result().tokens for id in ids]
        self.engine.requests.clear()
        return out


class Theirs:
    """`transformers`' own class with this model's weights, not copied, and its continuous batching."""

    def __init__(self, model: GPT):
        self.model = twin(model, attn_implementation="sdpa")

    def session(self, requests: Requests, rounds: int, limit: float, **options) -> list[float]:
        """Seconds of each of `rounds` runs of all requests in one running manager, after an eighth of them to warm up.

        Raises RuntimeError when it stops, makes another number of tokens, or takes more than `limit` seconds for a run.
        """
        from transformers import ContinuousBatchingConfig, GenerationConfig
        known = inspect.signature(ContinuousBatchingConfig).parameters
        options = {"allow_block_sharing": False, **options}
        batching = ContinuousBatchingConfig(**{name: value for name, value in options.items() if name in known})
        config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
        seconds = []
        with self.model.continuous_batching_context_manager(
                generation_config=config, continuous_batching_config=batching) as manager:
            _serve_all(manager, requests[: len(requests) // 8], 0, limit)
            for number in range(1, rounds + 1):
                started = time.perf_counter()
                _serve_all(manager, requests, number, limit)
                seconds.append(time.perf_counter() - started)
        return seconds


def _serve_all(manager, requests: Requests, number: int, limit: float) -> None:
    left = {f"{number}.{i}": new for i, (_, new) in enumerate(requests)}
    started = time.monotonic()
    for i, (prompt, new) in enumerate(requests):
        manager.add_request(prompt, request_id=f"{number}.{i}", max_new_tokens=new)
    while left:
        result = manager.get_result(timeout=1)
        if result is not None and result.is_finished():
            if len(result.generated_tokens) != left.pop(result.request_id):
                raise RuntimeError(f"request {result.request_id} has {len(result.generated_tokens)} tokens; error: "
                                   f"{result.error}")
        if left and (not manager.is_running() or time.monotonic() - started > limit):
            raise RuntimeError(f"after {time.monotonic() - started:.0f} s {len(left)} of {len(requests)} requests were "
                               f"left, and its loop {'went on' if manager.is_running() else 'had stopped'}")


def measure(*, count: int = 256, rounds: int = 3, models: Sequence[str] = ("8B", "minilm-14m"),
            variants: Sequence[str] = tuple(VARIANTS), peer_rounds: int = 1, limit: float = 60.0,
            say: Callable[[str], None] = print) -> dict:
    """Tokens/s of the engine (median of `rounds`) and of each way to run the peer, `limit` seconds a run at most.

    Raises ValueError where there is no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError("this needs an NVIDIA GPU, and this machine has none that PyTorch can use; for a CPU there is "
                         "`minilm bench serving`")
    rows = []
    for name in models:
        model = (random_gpt(SHAPES[name], "cuda") if name in SHAPES else
                 minilm.load(name, device="cuda", dtype=torch.bfloat16)[0])
        rows += of_model(name, model, requests_for(model.config.vocab_size, count), rounds, variants, peer_rounds,
                         limit, say)
        del model
        torch.cuda.empty_cache()
    return {"benchmark": "serving_gpu", "requests": count, "dtype": "bfloat16", "max_batch_tokens": BATCH_TOKENS,
            "block_size": BLOCK_SIZE, "rounds": rounds, "rows": rows}


def of_model(name: str, model: GPT, requests: Requests, rounds: int, variants: Sequence[str], peer_rounds: int,
             limit: float, say: Callable[[str], None]) -> list[dict]:
    """A row for each way to serve these requests, ours first; what a way that fails raised stands in its row."""
    prompt_tokens, tokens = sum(len(prompt) for prompt, _ in requests), sum(new for _, new in requests)
    rows: list[dict] = []

    def enter(way: str, run: Callable[[], dict]) -> None:
        row = {"model": name, "name": way, "prompt_tokens": prompt_tokens, "new_tokens": tokens}
        try:
            row |= run()
            row["tokens_per_second"] = round(tokens / statistics.median(row["seconds"]), 1)
        except Exception as error:                              # whatever it is, it is what a user would get
            row["failed"] = f"{type(error).__name__}: {error}"[:400]
        rows.append(row)
        say(line(row, rows))

    enter(OURS, lambda: of_engine(model, requests, rounds))
    torch.cuda.empty_cache()
    peer = Theirs(model)
    for variant in variants:
        enter(variant, lambda variant=variant: {
            "seconds": peer.session(requests, peer_rounds, limit, **VARIANTS[variant])})
        torch.cuda.empty_cache()
    return rows


def of_engine(model: GPT, requests: Requests, rounds: int) -> dict:
    """Seconds of each round, after one that warms up; of the last one how many steps, and what those took that read no
    prompt. Raises RuntimeError when a text has not the length that was asked for."""
    ours, seconds = Ours(model, requests), []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        made = ours(requests)
        seconds.append(time.perf_counter() - started)
        if [len(text) for text in made] != [new for _, new in requests]:
            raise RuntimeError("the engine made another number of tokens than was asked for")
    decoding = [taken for reads, taken in ours.steps if not reads]
    return {"seconds": seconds[1:], "steps": len(ours.steps), "decode_steps": len(decoding),
            "decode_seconds": round(sum(decoding), 4)}


def line(row: dict, rows: Sequence[dict]) -> str:
    """A row as text, the engine's speed in times of it where both are known."""
    if "failed" in row:
        return f"{row['model']:11} {row['name']:42} did not run: {row['failed']}"
    own = next((r for r in rows if r["name"] == OURS and r["model"] == row["model"]), row)
    times = "" if own is row or "failed" in own else (
        f"; the engine is {own['tokens_per_second'] / row['tokens_per_second']:.2f} times as fast")
    return f"{row['model']:11} {row['name']:42} {row['tokens_per_second']:8.1f} tokens/s{times}"


def show(measured: dict) -> str:
    """The measurement as a few lines of text."""
    return "\n".join([f"{measured['requests']} requests, {measured['dtype']}",
                      *(line(row, measured["rows"]) for row in measured["rows"])])
