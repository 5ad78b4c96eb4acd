"""What the engine works on: requests, the sequences that each grows, and what it tells of a step."""
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from minilm.decoding.early_exit import ExitPolicy
from minilm.decoding.speculative import Proposer
from minilm.generation import Generation, Recorder
from minilm.sampling import Sampling, uniform
from minilm.serving.blocks import BlockTable


@dataclass(eq=False)
class Sequence:
    """One text that grows: the prompt and what came after it.

    table: its blocks; table.length tokens of the text are in the cache.  shared: of how many blocks others know.
    hidden[d]: the target's last state where it chose the text's last token.  logits[V]: of the next token, when all of
    the text is in the cache (beam search waits with them for its other beams).  score: the sum of log-probabilities,
    for beam search.  uniforms: drawn for the next tokens, which have not come yet.  policy: when its tokens may leave.
    """

    request: "Request"
    index: int
    table: BlockTable
    out: Recorder
    generator: torch.Generator
    proposer: Proposer | None = None
    keys: list[bytes] = field(default_factory=list)
    hidden: Tensor | None = None
    logits: Tensor | None = None
    score: float = 0.0
    uniforms: list[float] = field(default_factory=list)
    shared: int = 0
    policy: ExitPolicy | None = None

    @property
    def text(self) -> list[int]:
        return self.request.prompt + self.out.tokens

    def tokens(self, start: int, end: int) -> list[int]:
        """A piece of the text, without a copy of the whole."""
        prompt = self.request.prompt
        if start >= len(prompt):
            return self.out.tokens[start - len(prompt) : end - len(prompt)]
        return prompt[start:end] + self.out.tokens[: max(0, end - len(prompt))]

    @property
    def pending(self) -> int:
        """Tokens of the text that are not in the cache yet: 1 while decoding, more while reading a prompt."""
        return len(self.request.prompt) + len(self.out.tokens) - self.table.length

    @property
    def name(self) -> str:
        """"3", or "3.1" for the second sequence of request 3."""
        return str(self.request.id) if self.request.width == 1 else f"{self.request.id}.{self.index}"

    def draw(self, later: int) -> tuple[Sampling, float] | None:
        """The law and the uniform number of the token that is `later` tokens from the next one; None if greedy."""
        if self.request.sampling.greedy:
            return None
        while len(self.uniforms) <= later:              # else the step ahead drew it, or a pass that broke off
            self.uniforms.append(uniform(self.generator))
        return self.request.sampling, self.uniforms[later]

    def retire(self) -> None:
        """Keep the result alone: a proposer may hold a whole cache."""
        self.proposer = self.hidden = self.logits = self.policy = None


@dataclass(eq=False)
class Request:
    """What was asked for: `n` samples, or the best `n` of `beams` beams, and how far it is.

    id: also its place in the order of service.  host: while swapped out, its blocks' content and where each stood.
    """

    id: int
    prompt: list[int]
    max_new_tokens: int
    sampling: Sampling
    n: int = 1
    beams: int = 0
    eos: int | None = None
    seed: int = 0
    callback: Callable[[int, int, list[int]], None] | None = None
    sequences: list[Sequence] = field(default_factory=list)
    finished: list[Sequence] = field(default_factory=list)
    host: "Swapped | None" = None
    preemptions: int = 0
    error: Exception | None = None

    @property
    def width(self) -> int:
        """The most sequences that it has at a time."""
        return max(self.n, self.beams)

    @property
    def done(self) -> bool:
        return not self.sequences

    def most_blocks(self, block_size: int) -> int:
        """The most blocks that it can hold: the prompt's full ones are shared, all else may differ.

        The last new token is never fed, so it takes no room.
        """
        shared = len(self.prompt) // block_size if self.width > 1 else 0
        each = math.ceil((len(self.prompt) + max(self.max_new_tokens, 1) - 1) / block_size)
        return shared + self.width * (each - shared)

    def result(self) -> Generation | list[Generation]:
        """One generation; a list of them where several were asked for, of beams the best first.

        Raises ValueError while the request still runs.
        """
        if not self.done:
            raise ValueError(f"request {self.id} is not done: call step() or run() until it is, or cancel it")
        best = sorted(self.finished, key=lambda s: -s.score if self.beams else s.index)[: self.n]
        made = [sequence.out.finish() for sequence in best]
        return made[0] if self.n == 1 else made


@dataclass
class Swapped:
    """A request's blocks on the host: their content, and for each sequence which of them are its own and its length."""

    content: list[Tensor]
    num_blocks: int
    tables: list[tuple[list[int], int]]


@dataclass
class Step:
    """What one step did. batch: (sequence's name, tokens fed) of each.  events: what happened to whom, in order:
    "admit", "fork", "copy", "preempt", "swap out", "swap in", "resume", "finish", "cancel".  blocks_used, tokens_held:
    after the step."""

    batch: list[tuple[str, int]]
    events: list[tuple[str, str]]
    blocks_used: int
    tokens_held: int
    waiting: int
