"""How a GPU kernel is timed: CUDA graph replays over rotated inputs, all contestants in turn in every round.

A decode kernel takes a few microseconds, less than a launch from Python. So a contestant's calls are captured in a
CUDA graph once, and a replay of some milliseconds is timed with events: what is left is the kernels, and the gaps
between them that any program has. The calls go round several sets of inputs that together are far larger than the L2
cache, so that every call reads from memory. Contestants take turns in every round, each round begins with another one,
and all rounds are kept: two of them compare in pairs, whatever the card's clock did meanwhile.
"""
import math
import statistics
from collections.abc import Callable, Sequence

import torch

from minilm.race import rotated

ROTATED_BYTES = 400 << 20       # inputs of all sets together: eight times an H100's L2
REPLAY_SECONDS = 2e-3           # a replay lasts about so long at the limit, so that the events' own time is lost in it
MOST_LAUNCHES = 400


def sets_needed(num_bytes: float) -> int:
    """How many sets of inputs of `num_bytes` each to rotate over, two at least."""
    if num_bytes <= 0:
        raise ValueError(f"a set of inputs has at least one byte; it is {num_bytes}")
    return max(2, math.ceil(ROTATED_BYTES / num_bytes))


def launches_needed(seconds: float, sets: int) -> int:
    """How many launches to capture when one takes `seconds` at least: every set equally often."""
    if seconds <= 0 or sets < 1:
        raise ValueError(f"needs a time above 0 and at least one set; got {seconds} and {sets}")
    return sets * max(1, math.ceil(min(REPLAY_SECONDS / seconds, MOST_LAUNCHES) / sets))


class Replay:
    """`launches` calls, one set of inputs after another, captured as one CUDA graph; calling it gives seconds a launch.

    calls: one for each set of inputs. A call that can't be captured is run launch by launch: `captured` is then False,
    and launch times from Python are in its figure.
    """

    def __init__(self, calls: Sequence[Callable[[], object]], launches: int):
        self.calls, self.launches, self.why = calls, launches, ""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):                           # warm up where a capture wants it: on a side stream
            for call in calls:
                call()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.graph: torch.cuda.CUDAGraph | None = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph):
                self._launch()
        except RuntimeError as error:
            self.graph, self.why = None, " ".join(str(error).split())[:200]
            torch.cuda.synchronize()

    @property
    def captured(self) -> bool:
        return self.graph is not None

    def _launch(self) -> None:
        for i in range(self.launches):
            self.calls[i % len(self.calls)]()

    def __call__(self) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self.graph.replay() if self.graph is not None else self._launch()
        end.record()
        end.synchronize()
        return float(f"{start.elapsed_time(end) / 1e3 / self.launches:.5g}")


def in_turn(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """name -> seconds of every round. A warm-up round first; then each round runs all, and begins with another one."""
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1; it is {rounds}")
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in rotated(list(runs), number) if runs else ():
            took = runs[name]()
            if number:
                seconds[name].append(took)
    return seconds


def paired_ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """Median over rounds of slower / faster: above 1 when the second one is faster."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def geometric_mean(ratios: Sequence[float]) -> float:
    """The mean for ratios: twice as fast and half as fast cancel."""
    if not ratios or min(ratios) <= 0:
        raise ValueError(f"needs at least one ratio, all above 0; got {list(ratios)}")
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def relative_error(out: torch.Tensor, want: torch.Tensor) -> float:
    """‖out - want‖ / ‖want‖ in float64; infinite when `out` holds a NaN or an infinity, or has another shape."""
    if out.shape != want.shape or not bool(torch.isfinite(out).all()):
        return math.inf
    want = want.double()
    return ((out.double() - want).norm() / want.norm()).item()
