"""Shared by the tests of the engine: loads of requests, what each gives alone, and a run that checks every step."""
import functools
import itertools
import random
from collections import Counter
from dataclasses import dataclass

import torch
from spec_helpers import TARGET, plain

from minilm.decoding.autoregressive import autoregressive
from minilm.sampling import Sampling
from minilm.serving import Engine, Step
from minilm.serving.request import Request

MOST_STEPS = 3000                                       # far more than any load here takes


@dataclass(frozen=True)
class Ask:
    """A request: what `Engine.add` takes."""

    prompt: tuple[int, ...]
    new: int
    sampling: Sampling = Sampling()
    n: int = 1
    beams: int = 0
    eos: int | None = None
    seed: int = 0

    def add(self, engine: Engine, **more) -> int:
        return engine.add(list(self.prompt), self.new, self.sampling, self.n, beams=self.beams, eos=self.eos,
                          seed=self.seed, **more)

    @functools.cached_property
    def alone(self) -> list[list[int]]:
        """The tokens of each of its n texts, by decoding without cache, batch or engine."""
        prompt = list(self.prompt)
        if self.beams:
            return dense_beams(self.prompt, self.new, self.beams, self.eos)[: self.n]
        if self.sampling.greedy:
            tokens = plain(prompt, self.new)
            return [tokens[: tokens.index(self.eos) + 1] if self.eos in tokens else tokens] * self.n
        return [autoregressive(TARGET, prompt, self.new, sampling=self.sampling, eos=self.eos,
                               generator=torch.Generator().manual_seed(self.seed + i)).tokens for i in range(self.n)]

    def most_blocks(self, size: int) -> int:
        return Request(0, list(self.prompt), self.new, self.sampling, self.n, self.beams).most_blocks(size)


@functools.cache
def dense_beams(prompt: tuple[int, ...], new: int, beams: int, eos: int | None) -> list[list[int]]:
    """Beam search by whole texts: all continuations of all live texts, the best so many of them; best first at the end.

    A text that has come to its end keeps its place among the beams.
    """
    live, ended = [(0.0, list(prompt))], []
    for _ in range(new):
        every = []
        for score, text in live:
            log_probs = TARGET(torch.tensor([text]))[0, -1].log_softmax(-1).tolist()
            every += [(score + log_prob, [*text, token]) for token, log_prob in enumerate(log_probs)]
        every.sort(key=lambda pair: -pair[0])
        best = every[: beams - len(ended)]
        ended += [pair for pair in best if pair[1][-1] == eos]
        live = [pair for pair in best if pair[1][-1] != eos]
    return [text[len(prompt):] for _, text in sorted(ended + live, key=lambda pair: -pair[0])]


P = tuple(random.Random(0).choices(range(97), k=18))
END = plain(list(P[:7]), 6)[3]                          # comes after a few tokens of the third request
WARM = Sampling(1.0)
MIX = [
    Ask(P, 9), Ask(P, 9),                               # two equal ones
    Ask(P[:7], 14, eos=END), Ask(P[:12], 11, WARM, n=3, seed=7), Ask((*P[:12], 5, 6), 8, n=2),
    Ask(P[3:9], 7, beams=3, n=2), Ask((9,), 20, Sampling(0.8, top_p=0.9), seed=3), Ask(P[:16], 1, WARM, n=2),
    Ask(P[:8], 9, beams=2, eos=int(dense_beams(P[:8], 9, 2, None)[0][3])), Ask((9, 9, 2, 44) * 3, 12),
]
GREEDY = [Ask(ask.prompt, ask.new, n=ask.n, eos=ask.eos) for ask in MIX if not ask.beams]


def serve(load: list[Ask], seed: int = 0, *, spare: int | None = None, **options) -> tuple[Engine, list[Step]]:
    """The load in a random order, some of it arriving while others run; every step is checked, and what is left.

    spare: blocks beyond the largest request's need, so that the others have to make room; None: room for all.
    """
    chance, size, steps = random.Random(seed), options.get("block_size", 16), []
    need = [ask.most_blocks(size) for ask in load]
    blocks = sum(need) if spare is None else max(need) + spare
    engine = Engine(TARGET, num_blocks=blocks, watch=steps.append, **{"swap_blocks": 999, **options})
    to_come, asked = chance.sample(load, len(load)), {}
    for count in itertools.count():
        assert count < MOST_STEPS, "it never ends"
        while to_come and (chance.random() < 0.4 or not asked):
            ask = to_come.pop()
            asked[ask.add(engine)] = ask
        oldest = engine.scheduler.running[0].id if engine.scheduler.running else None
        finished = engine.step()
        check_step(engine, steps[-1], finished, oldest)
        if not to_come and not engine.scheduler.running and not engine.scheduler.waiting:
            break
    check_empty(engine)
    for id, ask in asked.items():
        made = engine.requests[id].result()
        tokens = [made.tokens] if ask.n == 1 else [each.tokens for each in made]
        assert tokens == ask.alone, (id, ask)
        assert len(engine.requests[id].finished) == max(ask.n, ask.beams), "texts too many or too few"
    return engine, steps


def check_step(engine: Engine, step: Step, finished: list[int], oldest: int | None) -> None:
    """The books are in order, the budget is kept, the oldest was left in peace."""
    pool, scheduler = engine.pool, engine.scheduler
    running = [s for request in scheduler.running for s in request.sequences]
    pointed = Counter(block for s in running for block in s.table.blocks)
    assert pool.references == [pointed[block] for block in range(pool.num_blocks)], "a block is lost or kept"
    assert step.blocks_used == len(pointed) == pool.num_blocks - pool.num_free
    begun = getattr(getattr(engine.runner, "ahead", None), "begun", ())         # these have room for one token more
    assert all(len(s.table.blocks) == -(-(s.table.length + (s in begun)) // pool.block_size) for s in running), "room"
    assert 0 < sum(count for _, count in step.batch) <= scheduler.max_batch_tokens or not step.batch
    assert step.batch or not scheduler.waiting, "a step did nothing, and somebody waits"
    ids = [request.id for request in scheduler.running + scheduler.waiting]
    assert ids == sorted(ids), "somebody was overtaken"
    assert scheduler.host_free == engine.swap_blocks - sum(r.host.num_blocks for r in scheduler.waiting if r.host)
    pushed = [int(name.split(".")[0]) for event, name in step.events if event in ("preempt", "swap out")]
    assert oldest not in pushed, "the oldest was preempted"
    assert all(engine.requests[id].done for id in finished)


def check_empty(engine: Engine) -> None:
    assert engine.pool.num_free == engine.pool.num_blocks and not any(engine.pool.references)
    assert engine.scheduler.host_free == engine.swap_blocks
    held = [s for request in engine.requests.values() for s in request.finished]
    assert all(s.proposer is None and s.hidden is None and s.logits is None for s in held), "memory is kept"


def events(steps: list[Step]) -> Counter:
    return Counter(event for step in steps for event, _ in step.events)
