"""Where the memory for keys and values goes: contiguous reservations beside blocks, over the life of many requests.

A server of so many token slots serves requests in the order they come, as many at a time as fit; each grows by a token
a step. Kwon et al. 2023 (§3, figure 2) compare three ways to reserve one contiguous piece for a request, after Orca
(Yu et al. 2022): "max" takes what the model allows at most, "pow2" the next power of two of the output, "oracle"
exactly what will be needed; "paged" takes a block when the last one is full.
"""
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

MAX_TOKENS = 2048                   # the model of the paper's figure: OPT-13B
MEANS = (161, 338)                  # ShareGPT's mean prompt and output, in tokens (Kwon et al. 2023, figure 11)


def lengths(count: int, seed: int = 0, means: tuple[int, int] = MEANS, most: int = MAX_TOKENS) -> list[tuple[int, int]]:
    """(prompt, output) tokens of `count` requests, log-normal with these means (σ = 1) and cut where they pass `most`:
    skewed as people's requests are. The true ones are not ours to ship."""
    draw, sigma = random.Random(seed), 1.0
    out = []
    for _ in range(count):
        prompt, output = (max(1, round(mean * draw.lognormvariate(-sigma**2 / 2, sigma))) for mean in means)
        prompt = min(prompt, most // 2)
        out.append((prompt, min(output, most - prompt)))
    return out


@dataclass
class Live:
    """A request being served: its lengths, the tokens `held` so far, and if contiguous, its piece's start and size."""

    prompt: int
    output: int
    held: int
    start: int = 0
    size: int = 0


@dataclass
class Shares:
    """Shares of all token slots, averaged over the steps.

    used: they hold a token.  reserved: for a token still to come.  internal: reserved and never used.  external: free,
    but in no piece that the next request fits into.  batch: requests at a time.
    """

    used: float
    reserved: float
    internal: float
    external: float
    batch: float
    steps: int

    @property
    def waste(self) -> float:
        """Of what is taken, the share that holds no token: what the paper calls waste."""
        return 1 - self.used / (self.used + self.reserved + self.internal)


def power_of_two(tokens: int) -> int:
    return 1 << (tokens - 1).bit_length()


def blocks_for(tokens: int, block_size: int) -> int:
    return math.ceil(tokens / block_size)


SIZES: dict[str, Callable[[int, int], int]] = {
    "max": lambda prompt, output: MAX_TOKENS,
    "pow2": lambda prompt, output: min(MAX_TOKENS, prompt + power_of_two(output)),
    "oracle": lambda prompt, output: prompt + output,
}


def serve(requests: list[tuple[int, int]], policy: str, *, slots: int, block_size: int = 16) -> Shares:
    """Serve all requests, first come, first served, under a policy of SIZES or "paged".

    Paged memory starts a request when its prompt fits with a block to spare for everyone who runs; when a block is
    needed and none is left, the youngest goes back in line and is later computed again.
    """
    waiting, live = list(requests), []
    sums, steps, batches = [0, 0, 0, 0], 0, 0
    free = [(0, slots)]                                         # contiguous: (start, size) of each gap
    while waiting or live:
        while waiting:
            started = _start(waiting[0], policy, live, free, slots, block_size)
            if started is None:
                break
            live.append(started)
            waiting.pop(0)
        if not live:
            raise ValueError(f"a request of {waiting[0]} tokens never fits into {slots} slots")
        held = sum(r.held for r in live)
        if policy == "paged":
            taken = sum(blocks_for(r.held, block_size) for r in live) * block_size
            parts = (held, 0, taken - held, 0)
        else:
            size, needed = sum(r.size for r in live), sum(r.prompt + r.output for r in live)
            gaps = sum(size for _, size in free)
            parts = (held, needed - held, size - needed, gaps if waiting else 0)
        sums = [a + b for a, b in zip(sums, parts, strict=True)]
        steps, batches = steps + 1, batches + len(live)
        if policy == "paged":
            _preempt(live, waiting, slots // block_size, block_size)
        for request in list(live):
            request.held += 1
            if request.held == request.prompt + request.output:
                live.remove(request)
                if policy != "paged":
                    _give_back(free, request.start, request.size)
    return Shares(*(total / steps / slots for total in sums), batches / steps, steps)


def _start(request: tuple[int, int], policy: str, live: list[Live], free: list[tuple[int, int]], slots: int,
           block_size: int) -> Live | None:
    """Take memory for a request's prompt and what the policy reserves beyond it, first fit; None if it must wait."""
    prompt, output = request
    if policy == "paged":
        needed = sum(blocks_for(tokens, block_size) + 1 for tokens in (prompt, *(r.held for r in live)))
        return Live(prompt, output, prompt) if needed <= slots // block_size else None
    size = SIZES[policy](prompt, output)
    for i, (start, gap) in enumerate(free):
        if gap >= size:
            free[i : i + 1] = [(start + size, gap - size)] if gap > size else []
            return Live(prompt, output, prompt, start, size)
    return None


def _preempt(live: list[Live], waiting: list[tuple[int, int]], num_blocks: int, block_size: int) -> None:
    """Send the youngest back in line until everyone's next token has a place."""
    while sum(blocks_for(r.held + 1, block_size) for r in live) > num_blocks:
        youngest = live.pop()
        waiting.insert(0, (youngest.held, youngest.prompt + youngest.output - youngest.held))


def _give_back(free: list[tuple[int, int]], start: int, size: int) -> None:
    """Return a piece, and join it with the gaps it touches."""
    free.append((start, size))
    free.sort()
    joined: list[tuple[int, int]] = []
    for begin, gap in free:
        if joined and sum(joined[-1]) == begin:
            joined[-1] = (joined[-1][0], joined[-1][1] + gap)
        else:
            joined.append((begin, gap))
    free[:] = joined
