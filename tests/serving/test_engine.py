"""The engine's output is what each request gives alone, whoever else is there and whatever happens on the way.

Each `check_...` can be run on its own; `mutants.serving` names, for each wrong version, the check that rejects it.
"""
import random

import pytest
import torch
from core_helpers import one_thread  # noqa: F401
from law import draw, law_of
from mutants import serving as mutants
from serving_helpers import GREEDY, MIX, WARM, Ask, P, events, serve
from spec_helpers import (
    DRAWING,
    EXACT,
    LAW_PROMPT,
    LAW_TARGET,
    LAW_TOKENS,
    PROPOSERS,
    TARGET,
    Draft,
    Scripted,
    half_right,
    plain,
    target_law,
    tree,
)

from minilm.decoding.proposers.trie import Trie
from minilm.sampling import Sampling
from minilm.serving import Engine

SIZES, KINDS = (1, 4, 16, 32), ("none", "recompute", "swap")
DRAFTERS = PROPOSERS | {"trie": lambda: Trie(8, match=2), "warm trie": lambda: Trie(8, match=2, keep=True)}
TELLING = ("half right", "tree", "self-speculation", "draft model")


def check_kind(kind: str, size: int, **options) -> None:
    """Every way of making room, with prefixes found and not, prompts whole and in chunks; ten requests of all kinds."""
    happened = events([])
    for seed in range(6):
        prefix, chunk = seed % 2 == 0, (64, 64, 5, 1, 23, 9)[seed]
        preemption = {"preemption": "recompute" if kind == "none" else kind}
        _, steps = serve(MIX, seed, spare=None if kind == "none" else seed % 3, block_size=size, max_batch_tokens=chunk,
                         prefix_caching=prefix, **preemption, **options)
        happened += events(steps)
    assert happened["fork"] and (happened["copy"] or size == 1)
    assert (kind == "recompute") == bool(happened["preempt"]) and (kind == "swap") == bool(happened["swap in"])
    assert happened["swap in"] == happened["swap out"] and happened["resume"] == happened["preempt"]


def check_mix() -> None:
    """A short version of all kinds, for wrong ones."""
    for kind in KINDS:
        check_kind(kind, 4)


def check_small_swap() -> None:
    """Swap space for one request only: the others are computed again."""
    both = events([])
    for seed in range(4):
        load = MIX + GREEDY
        most = max(ask.most_blocks(4) for ask in load)
        both += events(serve(load, seed, spare=8, block_size=4, preemption="swap", swap_blocks=most)[1])
    assert both["preempt"] and both["swap in"]


def check_group_returns() -> None:
    """A request of several sequences that fits only if they share their prompt, after it had to leave."""
    for kind in ("recompute", "swap"):
        for group in (Ask(P[:12], 6, WARM, n=3), Ask(P[:12], 6, beams=3, n=3)):
            for prefix in (False, True):
                left = 0
                for spare in range(4):
                    engine = serve_in_order([Ask(P[4:12], 20), group], group.most_blocks(4) + spare, preemption=kind,
                                            prefix_caching=prefix)
                    left += engine.requests[1].preemptions
                assert left


def check_last_block() -> None:
    """A request that needs every block there is, and came back from the host needing one more than it left with."""
    for new in range(3, 7):
        ask = Ask(P[:11], new)
        engine = serve_in_order([Ask((3,), 4), ask], ask.most_blocks(4), preemption="swap")
        assert engine.requests[1].preemptions


def serve_in_order(load: list[Ask], blocks: int, **options) -> Engine:
    engine = Engine(TARGET, block_size=4, num_blocks=blocks, **options)
    for ask in load:
        ask.add(engine)
    for _ in range(500):
        engine.step()
        if all(request.done for request in engine.requests.values()):
            break
    for id, ask in enumerate(load):
        made = engine.requests[id].result()
        assert [each.tokens for each in (made if ask.n > 1 else [made])] == ask.alone
    return engine


def check_drafter(name: str) -> None:
    """Each drafter in a batch of ragged drafts, with much room and with little."""
    for seed, spare in ((0, None), (1, 0), (2, 3)):
        engine, steps = serve(GREEDY, seed, spare=spare, block_size=(16, 4, 1)[seed], proposer=DRAFTERS[name](),
                              preemption=("recompute", "swap")[seed % 2], max_batch_tokens=(64, 64, 19)[seed],
                              max_drafts=(8, 5, 8)[seed])
        passes = [step for request in engine.requests.values() for s in request.finished for step in s.out.trace]
        assert all(len(step.emitted) >= 1 and set(step.accepted) <= set(range(len(step.drafted))) for step in passes)
        if name in ("all right", "tree", "a draft that is the target"):
            assert max(len(step.accepted) for step in passes) >= 2, "nothing was ever accepted"


def check_drafters() -> None:
    for name in TELLING:
        check_drafter(name)


def check_fed() -> None:
    """What a step tells is what went through the model; drafts make room for nobody's tokens, and are given back."""
    rows: list[int] = []
    load = [Ask(P[:10], 9, n=3), Ask(P[:7], 12)]
    assert all(ask.alone for ask in load)                       # made now: these passes do not count
    for name in ("draft model", "prompt lookup", "blockwise tree", "blockwise chain"):
        rows.clear()
        hook = TARGET.layers[-1].register_forward_pre_hook(lambda module, args: rows.append(args[0].shape[1]))
        try:
            _, steps = serve(load, 0, spare=0, block_size=1, proposer=DRAFTERS[name]())
        finally:
            hook.remove()
        assert sum(rows) == sum(count for step in steps for _, count in step.batch) > 0


def check_prefix_hits() -> None:
    """Equal beginnings are read once: while both run, after one is done, and after the blocks were taken meanwhile."""
    engine = Engine(TARGET, block_size=4, num_blocks=12)
    fed = []
    engine.watch = lambda step: fed.append(dict(step.batch))
    for count, prompt in enumerate((P, P, (*P[:10], 1, 2, 3), P[:8], P[:9])):
        engine.add(list(prompt), 3)
        [engine.step() for _ in range(4)]
        assert engine.requests[count].result().tokens == plain(list(prompt), 3)
    read = [next(step[str(id)] for step in fed if str(id) in step) for id in range(5)]
    assert read == [18, 2, 5, 4, 1]
    engine.add([7] * 40, 4)
    engine.add(list(P), 3)
    engine.run()
    assert [len(r.result().tokens) for r in engine.requests.values()] == [3, 3, 3, 3, 3, 4, 3]
    assert engine.requests[6].result().tokens == plain(list(P), 3)


def check_rejected_drafts() -> None:
    """What was drafted and rejected is never found: a later text with just those tokens gets its own keys."""
    for name in ("all wrong", "half right", "tree"):
        engine = Engine(TARGET, block_size=2, num_blocks=60, proposer=DRAFTERS[name]())
        engine.add(list(P[:5]), 16)
        engine.run()
        trace = engine.requests[0].result().trace
        text = list(P[:5])
        for step in trace:
            if step.drafted:
                later = engine.add([*text, *step.drafted, 1], 4)
                engine.run()
                assert engine.requests[later].result().tokens == plain([*text, *step.drafted, 1], 4)
            text += step.emitted


def check_hidden(**options) -> None:
    """A drafter is shown the text so far, and the state that chose its last token, also after a recompute."""
    def look(text, limit):
        return Draft(plain(text, min(2, limit)))

    class Looking(Scripted):
        def propose(self, text, limit, hidden, *rest):
            assert limit >= 1 and (hidden - TARGET.hidden(torch.tensor([text[:-1]]))[0, -1]).abs().max() < 1e-10
            return super().propose(text, limit, hidden, *rest)

    for guess in (look, half_right, tree):
        _, steps = serve(GREEDY, 1, spare=0, block_size=4, proposer=Looking(guess), max_batch_tokens=24,
                         **options)
        assert events(steps)["preempt"]


def states_of(load: list[Ask], which: int, seed: int, monkeypatch, **options) -> dict[int, torch.Tensor]:
    """{tokens before: last state} of one request in a load, or alone where which == 0 and there is no other."""
    seen, right = {}, Engine._commit

    def commit(self, turn, rows):
        if turn.sequence.request.id == which:
            seen[turn.context + rows.count] = rows.state(-1).clone()
        return right(self, turn, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_commit", commit)
        engine = Engine(TARGET, num_blocks=99, **options)
        for ask in load:
            ask.add(engine)
        engine.run()
    return seen


def test_neighbours_never_change_a_row(monkeypatch):
    """Guards rows that read others' blocks: hidden states alone and in company, ≤ 1e-12 in float64."""
    ask = Ask(P[:11], 9)
    for size in SIZES:
        alone = states_of([ask], 0, 0, monkeypatch, block_size=size)
        for seed in range(3):
            others = random.Random(seed).sample(MIX, 4)
            together = states_of([*others[:2], ask, *others[2:]], 2, seed, monkeypatch, block_size=size)
            assert alone.keys() == together.keys()
            assert max(float((alone[at] - together[at]).abs().max()) for at in alone) <= 1e-12


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_as_if_alone(kind, size):
    """Guards any way to another text than a request's own."""
    check_kind(kind, size)


@pytest.mark.parametrize("name", DRAFTERS)
def test_drafter(name):
    """Guards drafts that go astray in a batch."""
    check_drafter(name)


def test_sampling_with_drafts_has_seeds():
    """Guards draws that depend on anything but the seed where nobody else is there."""
    for name in ("draft model", "blockwise tree", "recurrent"):
        engine = Engine(TARGET, num_blocks=40, proposer=DRAFTERS[name]())
        made = []
        for seed in (3, 3, 4):
            engine.add(list(P), 12, WARM, n=2, seed=seed)
            made.append([each.tokens for each in list(engine.run().values())[-1]])
        assert made[0] == made[1] != made[2] and made[0][1] == made[2][0]


@pytest.mark.parametrize("name", ["self-speculation", "prompt lookup", "blockwise tree"])
def test_exact_law(name, monkeypatch):
    """Guards an output law other than the target's: every path of chance through the engine, four tokens of three."""
    for module in DRAWING:
        if hasattr(module, "draw"):
            monkeypatch.setattr(module, "draw", draw)

    def run(fresh):
        for module in DRAWING:
            if hasattr(module, "uniform"):
                monkeypatch.setattr(module, "uniform", lambda generator=None: fresh())
        engine = Engine(LAW_TARGET, block_size=2, num_blocks=12, proposer=EXACT[name]())
        engine.add(LAW_PROMPT, LAW_TOKENS, sampling)
        return engine.run()[0].tokens

    sampling = Sampling(0.7)
    got, target = law_of(run), target_law(sampling)
    assert sum(abs(got[text] - target[text]) for text in {*got, *target}) / 2 < 1e-12


CHECKS = {check.__name__: check for check in (
    check_small_swap, check_group_returns, check_last_block, check_fed, check_prefix_hits, check_rejected_drafts,
    check_hidden)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards what the mix may miss; see each check."""
    check()


@pytest.mark.parametrize("mutant", mutants.ENGINE, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let a wrong engine pass. Whatever it raises, it is rejected; it must raise something."""
    mutant.apply(monkeypatch)
    with pytest.raises((AssertionError, ValueError, IndexError, RuntimeError, TypeError, KeyError)):
        (CHECKS | {"check_mix": check_mix, "check_drafters": check_drafters})[mutant.check]()
