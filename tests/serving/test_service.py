"""What a service promises beside right texts: everybody is served, in order; who leaves or fails harms nobody else."""
import random
import warnings
from collections import Counter

import pytest
import torch
from core_helpers import error_of, one_thread, tiny_model  # noqa: F401
from mutants import serving as mutants
from serving_helpers import MIX, Ask, P, check_empty, check_step, events
from spec_helpers import SMALL, TARGET, Scripted, plain, right

from minilm.decoding.autoregressive import autoregressive
from minilm.decoding.proposers import DraftModel, PromptLookup, SelfSpeculative
from minilm.serving import Engine

LITTLE = tiny_model(dtype=torch.float64, num_layers=1, tie_embeddings=False)


def finish(engine: Engine, most: int = 3000) -> None:
    for _ in range(most):
        if not engine.scheduler.running and not engine.scheduler.waiting:
            return check_empty(engine)
        engine.step()
    raise AssertionError("it never ends")


def check_overload(requests: int = 200, kinds=("recompute", "swap")) -> None:
    """Far more requests than the pool holds: all finish, in fair order, with their own texts; nothing is left."""
    for kind in kinds:
        chance, asks, steps = random.Random(0), [], []
        engine = Engine(LITTLE, block_size=4, num_blocks=60, preemption=kind, watch=steps.append)      # about 20 fit
        for _ in range(requests):
            asks.append((chance.choices(range(97), k=chance.randint(1, 12)), chance.randint(1, 12)))
            engine.add(*asks[-1])
        order, oldest = [], 0
        while len(order) < requests:
            finished = engine.step()
            check_step(engine, steps[-1], finished, oldest)
            order += finished
            oldest = engine.scheduler.running[0].id if engine.scheduler.running else None
            assert len(steps) < 12 * requests
        check_empty(engine)
        assert sorted(order) == list(range(requests)), "a request was lost, or finished twice"
        admitted = [int(name) for step in steps for event, name in step.events if event == "admit"]
        assert admitted == list(range(requests)), "first come, first served"
        # Nobody older is in the way of the oldest, which is done in 12 steps; those beside it end within them too.
        place = {id: i for i, id in enumerate(order)}
        overtaken = max(sum(place[later] < place[id] for later in range(id + 1, requests)) for id in range(requests))
        assert overtaken <= 12 * 20, overtaken
        tokens = sum(new for _, new in asks)
        assert len(steps) < tokens / 8, "twenty fit, and fewer than eight were served at a time"
        for id in range(0, requests, max(1, requests // 100)):
            assert engine.requests[id].result().tokens == autoregressive(LITTLE, *asks[id]).tokens
        assert events(steps)["preempt" if kind == "recompute" else "swap out"] > requests // 20


def check_cancel() -> None:
    """Cancelled while it waits, runs, is swapped, reads its prompt or has forked: the rest goes on, all is freed."""
    where: Counter = Counter()
    for seed in range(40):
        chance = random.Random(seed)
        engine = Engine(TARGET, block_size=4, num_blocks=max(ask.most_blocks(4) for ask in MIX) + seed % 4,
                        preemption=("swap", "recompute")[seed % 2], max_batch_tokens=(64, 7)[seed // 2 % 2],
                        proposer=(None, PromptLookup(4, 1))[seed // 4 % 2])
        load = [ask for ask in chance.sample(MIX, 8) if ask.sampling.greedy or seed // 4 % 2 == 0]
        ids = [ask.add(engine) for ask in load]
        gone = set()
        for _ in range(2):
            for _ in range(chance.randint(0, 9)):
                engine.step()
            alive = [id for id in ids if not engine.requests[id].done]
            if alive:
                gone.add(id := chance.choice(alive))
                request = engine.requests[id]
                runs = request in engine.scheduler.running
                where["swapped" if request.host else "running" if runs else "waiting"] += 1
                assert engine.cancel(id) is None and request.done
        finish(engine)
        for id, ask in zip(ids, load, strict=True):
            made = engine.requests[id].result()
            made = [each.tokens for each in (made if ask.n > 1 else [made])]
            if id not in gone:
                assert made == ask.alone
            elif not ask.beams:
                assert all(tokens == alone[: len(tokens)] for tokens, alone in zip(made, ask.alone, strict=False))
    assert min(where[place] for place in ("swapped", "running", "waiting")) >= 5, where


def check_callbacks() -> None:
    """Every token is told once, in order, before `step` returns, and to its own request and sample."""
    heard: dict = {}
    for proposer in (None, PromptLookup(4, 1), Scripted(right)):
        heard.clear()
        engine = Engine(TARGET, block_size=4, num_blocks=40, proposer=proposer)
        asks = [ask for ask in MIX if not ask.beams and (proposer is None or ask.sampling.greedy)]
        for ask in asks:
            ask.add(engine, callback=lambda id, sample, new: heard.setdefault((id, sample), []).extend(new))
        while engine.scheduler.running or engine.scheduler.waiting:
            engine.step()
            for request in engine.requests.values():
                for sequence in request.sequences + request.finished:
                    assert heard.get((request.id, sequence.index), []) == sequence.out.tokens
        assert heard == {(id, i): tokens for id, ask in enumerate(asks) for i, tokens in enumerate(ask.alone)}


def check_callback_fails() -> None:
    """At any token, of any sample, also of several at once: its request ends there, the others don't notice."""
    for proposer in (None, Scripted(right), SelfSpeculative(2, 3)):
        for at in range(1, 14, 2):
            told, heard = Counter(), Counter()

            def callback(id, sample, new, told=told, heard=heard, at=at):
                told[id] += 1
                heard[id] += len(new)
                assert told[id] <= at, "called again after it failed"
                if told[id] == at:
                    raise KeyError("a user's mistake")

            engine = Engine(TARGET, block_size=4, num_blocks=60, proposer=proposer)
            Ask(P[:9], 6, n=3).add(engine, callback=callback)
            others = [Ask(P, 9), Ask(P[:9], 6, n=2), Ask(P[:6], 5, beams=2)]
            ids = [ask.add(engine) for ask in others]
            Ask(P[:4], 6).add(engine, callback=callback)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                finish(engine)
            failed = [request for request in engine.requests.values() if request.error is not None]
            assert len(said) == len(failed) == sum(told[id] >= at for id in (0, 4))
            assert all("a user's mistake" in str(w.message) and "the others go on" in str(w.message) for w in said)
            assert all(type(request.error) is KeyError for request in failed)
            for id, ask in zip(ids, others, strict=True):
                made = engine.requests[id].result()
                assert [each.tokens for each in (made if ask.n > 1 else [made])] == ask.alone
            assert len(engine.requests[4].result().tokens) == heard[4], "it went on"
            for request, width in ((engine.requests[0], 3), (engine.requests[4], 1)):
                tokens = plain(request.prompt, 6)
                assert len(request.finished) == width and request.done
                assert all(s.out.tokens == tokens[: len(s.out.tokens)] for s in request.finished)


def check_callback_acts() -> None:
    """A callback may add requests and cancel any, its own too, in the step that serves them all."""
    for proposer in (None, Scripted(right), SelfSpeculative(2, 3)):
        for victim in range(4):
            engine = Engine(TARGET, block_size=4, num_blocks=60, proposer=proposer)
            calls = []

            def act(id, sample, new, engine=engine, calls=calls, victim=victim):
                calls.append(id)
                if len(calls) == 2:
                    engine.add([1, 2, 3], 4)
                    engine.cancel(victim)

            for ask in (Ask(P[:9], 8, n=3), Ask(P, 9), Ask(P[:6], 8, beams=3)):
                ask.add(engine, callback=None if ask.beams else act)
            Ask(P[:4], 8).add(engine)
            finish(engine)
            assert engine.requests[4].result().tokens == plain([1, 2, 3], 4)
            assert all(request.error is None and request.done for request in engine.requests.values())
            if victim != 1:
                assert engine.requests[1].result().tokens == plain(list(P), 9)
            if victim == 0:
                assert calls[:2] == [0, 0] and 0 not in calls[2:], "called after it was cancelled"
                assert len(engine.requests[0].finished) == 3


def check_interrupts() -> None:
    """Stopped anywhere in a pass, by the user or by a mistake: the next step goes on, the texts are the same."""
    stopped = 0
    for proposer in (None, DraftModel(SMALL, 3), SelfSpeculative(2, 3)):
        load = [ask for ask in MIX if proposer is None or ask.sampling.greedy]
        for seed in range(6):
            chance = random.Random(seed)

            def stop(*args, chance=chance):
                if chance.random() < 0.03:
                    raise KeyboardInterrupt

            engine = Engine(TARGET, block_size=4, num_blocks=60, proposer=proposer,
                            preemption=("recompute", "swap")[seed % 2])
            hooks = [module.register_forward_pre_hook(stop) for module in (TARGET.layers[1], TARGET.norm)]
            try:
                for ask in load:
                    ask.add(engine)
                for _ in range(900):
                    try:
                        engine.step()
                    except KeyboardInterrupt:
                        stopped += 1
            finally:
                [hook.remove() for hook in hooks]
            check_empty(engine)
            for request, ask in zip(engine.requests.values(), load, strict=True):
                made = request.result()
                assert [each.tokens for each in (made if ask.n > 1 else [made])] == ask.alone
    assert stopped > 20


CHECKS = {check.__name__: check for check in (
    check_cancel, check_callbacks, check_callback_fails, check_callback_acts, check_interrupts)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards what a user may do at a bad moment; see each check."""
    check()


def test_overload():
    """Guards a request that is lost, overtaken without end, or never ends."""
    check_overload(1000)


@pytest.mark.parametrize("mutant", mutants.SERVICE, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let a bad service pass. Whatever it raises, it is rejected; it must raise something."""
    mutant.apply(monkeypatch)
    with pytest.raises((AssertionError, ValueError, IndexError, RuntimeError, TypeError, KeyError)):
        (CHECKS | {"check_overload": check_overload})[mutant.check]()


def test_step_in_a_callback():
    """Guards a pass within a pass; a watcher that fails loses nothing."""
    engine = Engine(TARGET, num_blocks=20)
    for forbidden in (engine.step, engine.run):
        id = engine.add(list(P), 4, callback=lambda *new, forbidden=forbidden: forbidden())
        with pytest.warns(RuntimeWarning, match="may add and cancel requests, but not step or run"):
            finish(engine)
        assert type(engine.requests[id].error) is RuntimeError and len(engine.requests[id].result().tokens) == 1

    def watch(step, steps=[]):                                          # noqa: B006
        steps.append(step)
        if len(steps) == 2:
            raise KeyError("a watcher's mistake")

    engine = Engine(TARGET, num_blocks=20, watch=watch)
    engine.add(list(P), 6)
    assert type(error_of(engine.run)) is KeyError
    assert engine.run()[0].tokens == plain(list(P), 6)


def test_a_proposer_that_fails():
    """Guards an engine that is of no use after a drafter's mistake."""
    engine = Engine(TARGET, block_size=4, num_blocks=40, proposer=Scripted(lambda text, limit: 1 / 0))
    for ask in MIX[:2]:
        ask.add(engine)
    assert type(error_of(engine.run)) is ZeroDivisionError
    for sequence in engine.requests[0].sequences + engine.requests[1].sequences:
        sequence.proposer = Scripted(right)
    assert [made.tokens for made in engine.run().values()] == [ask.alone[0] for ask in MIX[:2]]
    check_empty(engine)


def test_nothing_to_do():
    """Guards edges: no new tokens, an empty engine, one token only, the end token first."""
    engine = Engine(TARGET, num_blocks=20)
    assert engine.step() == [] and engine.run() == {}
    engine.add(list(P), 0)
    engine.add(list(P), 0, n=2)
    engine.add(list(P), 1)
    first = plain(list(P), 1)[0]
    engine.add(list(P), 9, n=3, eos=first)
    engine.add(list(P), 9, beams=2, eos=first)
    made = engine.run()
    assert made[0].tokens == [] and [each.tokens for each in made[1]] == [[], []]
    assert made[2].tokens == [first] and [each.tokens for each in made[3]] == [[first]] * 3
    assert made[4].tokens == Ask(P, 9, beams=2, eos=first).alone[0]
    prompt = list(P)
    id = engine.add(prompt, 5)
    prompt.clear()                                                      # the caller's list is the caller's
    assert engine.run()[id].tokens == plain(list(P), 5) and engine.add(P, 2) == 6
    finish(engine)
