"""Many requests on a GPU: the engine beside `transformers`' continuous batching, on the same weights.

256 requests arrive together; prompts and outputs have log-normal lengths; greedy and without an end token, so that all
make equally many tokens. Random weights of the shape of an 8B model, made on the GPU, and minilm-14m, which shows what
is left when the model itself costs next to nothing. Whoever records graphs has time for it before the clock starts: a
run of all the requests, and `transformers` its own warm-up too. Prefixes are not shared.

The peer is run as its best user would. Its SDPA attends over everybody's keys at once, under a mask that hides the
others', which costs the square of how many are served together: so one variant serves 64 at a time. Its cache holds
what is needed and leaves memory to its graphs. And since it is made for flash attention, it is given PyTorch's own
kernels where the package flash_attn is not installed, by the seam that `transformers` has for this (`flash_peer`).

Both are timed as a server runs: once warm, Python's garbage collector looks no more through what is there, the modules
of libraries above all, which takes it longer than a step.
"""
import contextlib
import gc
import inspect
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch

import minilm
from minilm.bench import flash_peer
from minilm.bench.big_steps import SHAPES, random_gpt
from minilm.bench.contestants import twin
from minilm.model import GPT
from minilm.serving import Engine

Requests = list[tuple[list[int], int]]                  # (prompt, new tokens)
PROMPT, OUTPUT, SIGMA = 256, 64, 0.8                    # tokens: means, and the spread of their logarithms
SHORTEST, LONGEST_PROMPT, LONGEST = 8, 2048, 256
BATCH_TOKENS, BLOCK_SIZE, PAGE = 8192, 16, 256          # PAGE: tokens of a block of the peer's cache
# Ways to run the peer; the best that works counts. Options that a version of `transformers` does not know are left out.
VARIANTS: dict[str, dict] = {
    "transformers, flash attention, graphs": {"attention": flash_peer.NAME, "use_cuda_graph": True,
                                              "use_async_batching": True, "max_batch_tokens": 2048,
                                              "max_blocks_per_request": 0},
    "transformers, SDPA, graphs, 64 at a time": {"use_cuda_graph": True, "max_batch_tokens": 512,
                                                 "max_requests_per_batch": 64, "kv_padding_interval_size": 4096},
    "transformers, its own choices": {},
}
OURS = "engine"


def requests_for(vocab_size: int, count: int, seed: int = 0, positions: int = LONGEST_PROMPT + LONGEST) -> Requests:
    """Prompts and how many new tokens each; together they fit into `positions`."""
    draw, longest = random.Random(seed), min(LONGEST_PROMPT, positions - LONGEST)

    def length(mean: int, most: int) -> int:
        return min(max(SHORTEST, round(mean * draw.lognormvariate(-SIGMA**2 / 2, SIGMA))), most)

    return [([draw.randrange(vocab_size) for _ in range(length(PROMPT, longest))], length(OUTPUT, LONGEST))
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
        flash_peer.register()
        self.model = twin(model, attn_implementation="sdpa")

    def session(self, requests: Requests, rounds: int, limit: float, attention: str = "sdpa",
                **options) -> tuple[list[float], list[list[int]]]:
        """Seconds of each of `rounds` runs of all requests in one running manager (fewer once they took half of
        `limit`), and the texts of the last, after a run that warms up: of all where graphs are recorded, of an eighth
        where there is nothing to record.

        Raises RuntimeError when it stops, makes another number of tokens, or takes more than `limit` seconds for a run.
        """
        from transformers import ContinuousBatchingConfig, GenerationConfig
        known = inspect.signature(ContinuousBatchingConfig).parameters
        if options:
            options["num_blocks"] = self.room(requests)
        first = len(requests) if options else len(requests) // 8
        options = {"allow_block_sharing": False, **options}
        batching = ContinuousBatchingConfig(**{name: value for name, value in options.items() if name in known})
        config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
        self.model.set_attn_implementation(attention)
        seconds, texts = [], []
        with self.model.continuous_batching_context_manager(
                generation_config=config, continuous_batching_config=batching) as manager:
            _serve_all(manager, requests[:first], 0, 2 * limit)
            with frozen():
                while len(seconds) < rounds and sum(seconds) < limit / 2:
                    started = time.perf_counter()
                    texts = _serve_all(manager, requests, len(seconds) + 1, limit)
                    seconds.append(time.perf_counter() - started)
        return seconds, texts

    @staticmethod
    def room(requests: Requests) -> int:
        """Pages for all requests at once, and a quarter more: below 15 % of free ones it lets nobody in."""
        return sum(-(-(len(prompt) + new) // PAGE) for prompt, new in requests) * 5 // 4 + 8


def _serve_all(manager, requests: Requests, number: int, limit: float) -> list[list[int]]:
    left = {f"{number}.{i}": i for i in range(len(requests))}
    texts: list[list[int]] = [[] for _ in requests]
    started = time.monotonic()
    for i, (prompt, new) in enumerate(requests):
        manager.add_request(prompt, request_id=f"{number}.{i}", max_new_tokens=new)
    while left:
        result = manager.get_result(timeout=1)
        if result is not None and result.is_finished():
            i = left.pop(result.request_id)
            texts[i] = list(result.generated_tokens)
            if len(texts[i]) != requests[i][1]:
                raise RuntimeError(f"request {i} has {len(texts[i])} tokens; error: {result.error}")
        if left and (not manager.is_running() or time.monotonic() - started > limit):
            raise RuntimeError(f"after {time.monotonic() - started:.0f} s {len(left)} of {len(requests)} requests were "
                               f"left, and its loop {'went on' if manager.is_running() else 'had stopped'}")
    return texts


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """The collector leaves alone what is there now."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def measure(*, count: int = 256, rounds: int = 3, models: Sequence[str] = ("8B", "minilm-14m"),
            variants: Sequence[str] | None = None, peer_rounds: int = 3, limit: float = 60.0,
            say: Callable[[str], None] = print, keep: Callable[[dict], None] = lambda measured: None) -> dict:
    """Tokens/s of the engine and of each way to run the peer, medians; `limit` seconds a run at most.

    variants: names of ways (default: all, for a small model those with graphs).  keep: called with what there is so
    far after every row.  Raises ValueError where there is no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError("this needs an NVIDIA GPU, and this machine has none that PyTorch can use; for a CPU there is "
                         "`minilm bench serving`")
    rows: list[dict] = []
    measured = {"benchmark": "serving_gpu", "requests": count, "dtype": "bfloat16", "max_batch_tokens": BATCH_TOKENS,
                "block_size": BLOCK_SIZE, "rounds": rounds, "rows": rows}

    def enter(row: dict) -> None:
        rows.append(row)
        say(line(row, rows))
        keep(measured)

    for name in models:
        model = (random_gpt(SHAPES[name], "cuda") if name in SHAPES else
                 minilm.load(name, device="cuda", dtype=torch.bfloat16)[0])
        requests = requests_for(model.config.vocab_size, count, positions=model.config.max_positions)
        ways = [way for way, options in VARIANTS.items() if options or name in SHAPES] if variants is None else variants
        of_model(name, model, requests, rounds, ways, peer_rounds, limit, enter)
        del model
        torch.cuda.empty_cache()
    return measured


def of_model(name: str, model: GPT, requests: Requests, rounds: int, variants: Sequence[str], peer_rounds: int,
             limit: float, enter: Callable[[dict], None]) -> None:
    """Enter a row for each way to serve these requests, ours first; what a way that fails raised stands in its row."""
    prompt_tokens, tokens = sum(len(prompt) for prompt, _ in requests), sum(new for _, new in requests)
    own: list[list[int]] = []

    def attempt(way: str, run: Callable[[], tuple[dict, list[list[int]]]]) -> None:
        row = {"model": name, "name": way, "prompt_tokens": prompt_tokens, "new_tokens": tokens}
        try:
            found, texts = run()
            row |= found
            row["tokens_per_second"] = round(tokens / statistics.median(row["seconds"]), 1)
            if way == OURS:
                own.extend(texts)
            elif own:                                           # of random weights only the first says much
                row["first_token_as_engine"] = sum(a[0] == b[0] for a, b in zip(own, texts, strict=True))
        except Exception as error:                              # whatever it is, it is what a user would get
            row["failed"] = f"{type(error).__name__}: {error}"[:400]
        enter(row)
        gc.collect()
        torch.cuda.empty_cache()

    def of_peer(variant: str) -> tuple[dict, list[list[int]]]:
        seconds, texts = peer.session(requests, peer_rounds, limit, **VARIANTS[variant])
        return {"seconds": seconds, "options": VARIANTS[variant]}, texts

    attempt(OURS, lambda: of_engine(model, requests, rounds))
    peer = Theirs(model)
    for variant in variants:
        attempt(variant, lambda variant=variant: of_peer(variant))


def of_engine(model: GPT, requests: Requests, rounds: int) -> tuple[dict, list[list[int]]]:
    """Seconds of each round, after one that warms up; beside each the same with no step begun before the tokens of the
    last one are read; of the last how many steps, and what those took that read no prompt; and the texts.

    Raises RuntimeError when a text has not the length that was asked for.
    """
    ours, seconds = Ours(model, requests), {True: [], False: []}
    ours(requests)
    with frozen():
        for _ in range(rounds):
            for ahead in (False, True):
                ours.engine.runner.runs_ahead = ahead
                torch.cuda.synchronize()
                started = time.perf_counter()
                made = ours(requests)
                seconds[ahead].append(time.perf_counter() - started)
                if [len(text) for text in made] != [new for _, new in requests]:
                    raise RuntimeError("the engine made another number of tokens than was asked for")
    decoding = [taken for reads, taken in ours.steps if not reads]
    return {"seconds": seconds[True], "waiting_seconds": seconds[False], "steps": len(ours.steps),
            "decode_steps": len(decoding), "decode_seconds": round(sum(decoding), 4)}, made


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
