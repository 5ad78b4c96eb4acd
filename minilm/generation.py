"""What every decoder returns: the tokens, the trace of how they came about, and what it cost."""
import time
from dataclasses import dataclass, field

import torch

from minilm.checks import check_count
from minilm.model import GPT


@dataclass
class Pass:
    """One forward pass of the target model.

    fed: tokens that went in.  context: tokens already in the cache.  emitted: tokens that came out and were kept.
    seconds: wall-clock, from the end of the pass before. Techniques with more to tell subclass this.
    """

    fed: int
    context: int
    emitted: list[int]
    seconds: float


@dataclass
class Stats:
    """Totals over a generation; times in seconds."""

    prompt_tokens: int
    new_tokens: int
    target_passes: int
    prefill_seconds: float
    decode_seconds: float

    @property
    def seconds(self) -> float:
        return self.prefill_seconds + self.decode_seconds

    @property
    def tokens_per_second(self) -> float:
        """New tokens over the whole time, prefill included."""
        return self.new_tokens / self.seconds if self.seconds else float("nan")

    @property
    def tokens_per_pass(self) -> float:
        """New tokens for each pass of the target model: 1 for plain decoding, more when drafts are accepted."""
        return self.new_tokens / self.target_passes if self.target_passes else float("nan")


@dataclass
class Generation:
    """New tokens (without the prompt; with the end token, if it came), the trace, one `Pass` each, and the stats."""

    tokens: list[int]
    trace: list[Pass] = field(default_factory=list)
    stats: Stats | None = None

    def __repr__(self) -> str:
        return f"Generation({len(self.tokens)} tokens in {len(self.trace)} passes)"


class Recorder:
    """Builds a `Generation` pass by pass, and says when to stop: at the end token or at `max_new_tokens`."""

    def __init__(self, prompt: list[int], max_new_tokens: int, eos: int | None = None):
        self.prompt_tokens, self.max_new_tokens, self.eos = len(prompt), max_new_tokens, eos
        self.tokens: list[int] = []
        self.trace: list[Pass] = []
        self.done = max_new_tokens == 0
        self._clock = time.perf_counter()                               # when the last pass was recorded

    def emit(self, fed: int, context: int, tokens: list[int], kind: type[Pass] = Pass, **more) -> list[int]:
        """Record one pass; cut `tokens` after the end token or at the limit. Returns those that were kept."""
        kept = tokens[: self.max_new_tokens - len(self.tokens)]
        if self.eos is not None and self.eos in kept:
            kept = kept[: kept.index(self.eos) + 1]
            self.done = True
        self.tokens += kept
        self.done |= len(self.tokens) >= self.max_new_tokens
        before, self._clock = self._clock, time.perf_counter()
        self.trace.append(kind(fed, context, kept, self._clock - before, **more))
        return kept

    def finish(self) -> Generation:
        times = [step.seconds for step in self.trace]
        stats = Stats(self.prompt_tokens, len(self.tokens), len(self.trace), sum(times[:1]), sum(times[1:]))
        return Generation(self.tokens, self.trace, stats)


def check_request(model: GPT, prompt: list[int], max_new_tokens: int) -> None:
    """Raise one clear error when a decoder can't start: what every decoder checks first."""
    if isinstance(prompt, str):
        raise TypeError("the prompt is a str; encode it first: tokenizer.encode(text) or tokenizer.chat(text)")
    if isinstance(prompt, torch.Tensor):
        raise TypeError("the prompt is a tensor; give a list of ints: prompt.tolist()")
    if not prompt:
        raise ValueError("the prompt is empty: give at least one token")
    fine = set(map(type, prompt)) == {int} and min(prompt) >= 0 and max(prompt) < model.config.vocab_size
    for token in () if fine else prompt:                                        # which one, and what is wrong with it
        if isinstance(token, bool) or not isinstance(token, int):
            raise TypeError(f"the prompt holds {token!r}, a {type(token).__name__}; tokens are whole numbers")
        if not 0 <= token < model.config.vocab_size:
            raise ValueError(f"token id {token} is outside the vocabulary of {model.config.vocab_size}")
    check_count("max_new_tokens", max_new_tokens, 0)
    if len(prompt) + max_new_tokens > model.config.max_positions:
        raise ValueError(f"{len(prompt)} prompt tokens and {max_new_tokens} new ones do not fit into the model's "
                         f"{model.config.max_positions} positions")
