"""Early exit in a batch: every request gets what `decoding.early_exit` gives it alone, token by token, layer by layer.

The model is random and the policies look closely at it, so exits fall all over the layers; `check_mix` asks for that.
"""
import copy
import functools
import random

import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from mutants import serving as mutants
from serving_helpers import check_empty, events

from minilm.decoding import Entropy, Patience, Saturation, SoftmaxResponse
from minilm.decoding.calm import Decaying, ExitClassifier, ExitHead
from minilm.decoding.early_exit import early_exit
from minilm.decoding.proposers import PromptLookup
from minilm.sampling import Sampling
from minilm.serving import Engine

MODEL = tiny_model(seed=4, dtype=torch.float64, num_layers=6, max_positions=96, tie_embeddings=False)
P = random.Random(1).choices(range(97), k=24)
HEAD = ExitHead(torch.linspace(-1, 1, 24, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64))
POLICIES = {                                        # thresholds about the middle of what this model's tokens show
    "entropy": (Entropy(4.13), (1, 3, 4)), "patience": (Patience(1), None),
    "softmax": (SoftmaxResponse(0.022), (2, 3, 5)), "saturation": (Saturation(0.84), None),
    "classifier": (ExitClassifier(0.6, HEAD), (1, 2, 4)),
    "decaying": (Decaying(SoftmaxResponse(0.026), 4.0, 20, "released"), None),
}
# (prompt, new tokens, sampling, n, seed)
LOAD = [(P, 14, Sampling(), 1, 0), (P[:9], 20, Sampling(), 1, 0), (P[3:5], 18, Sampling(0.9), 1, 3),
        (P[:17], 11, Sampling(1.0), 3, 5), (P[:9] + P[12:], 9, Sampling(), 2, 0), ([7], 22, Sampling(), 1, 0)]


def lens(layer: int, hidden: torch.Tensor) -> torch.Tensor:
    return hidden * (1 + layer / 10) + 0.1 * hidden.roll(1, -1)


@functools.cache
def alone(name: str, which: int, sample: int, lensed: bool = False) -> tuple[list[int], list[tuple]]:
    """A request's tokens by the decoder for one text, and what each pass told."""
    prompt, new, sampling, _, seed = LOAD[which]
    policy, exits = POLICIES[name]
    made = early_exit(MODEL, prompt, new, copy.copy(policy), exits=exits, lens=lens if lensed else None,
                      sampling=sampling, generator=torch.Generator().manual_seed(seed + sample))
    return made.tokens, [told(step) for step in made.trace]


def told(step) -> tuple:
    return step.layers, [round(float(score), 9) for score in step.scores], step.head_products


def serve(name: str, seed: int, lensed: bool = False, **options) -> list[int]:
    """The load in a random order, some of it later; compared with each alone. Returns all layers that tokens ran."""
    policy, exits = POLICIES[name]
    chance, steps = random.Random(seed), []
    engine = Engine(MODEL, exit_policy=policy, exits=exits, lens=lens if lensed else None, watch=steps.append,
                    **{"num_blocks": 99, "block_size": 4, **options})
    ids, order = {}, chance.sample(range(len(LOAD)), len(LOAD))
    while order or engine.scheduler.running or engine.scheduler.waiting:
        if order and (chance.random() < 0.5 or not ids):
            which = order.pop()
            prompt, new, sampling, n, start = LOAD[which]
            ids[which] = engine.add(prompt, new, sampling, n, seed=start)
        engine.step()
        assert len(steps) < 2000, "it never ends"
    check_empty(engine)
    layers = []
    for which, id in ids.items():
        made = engine.requests[id].result()
        for sample, each in enumerate(made if isinstance(made, list) else [made]):
            tokens, trace = alone(name, which, sample, lensed)
            assert each.tokens == tokens, (name, which, sample)
            assert [told(step) for step in each.trace] == trace, "a token left elsewhere"
            layers += [step.layers for step in each.trace[1:]]
    happened = events(steps)
    assert not options.get("num_blocks", 99) < 99 or happened["preempt"] or happened["swap in"]
    return layers


def check_mix() -> None:
    """Every policy, prompts whole and in chunks, prefixes found and not, with room and without."""
    for number, name in enumerate(POLICIES):
        layers = serve(name, number)
        layers += serve(name, number + 10, num_blocks=(16, 20)[number % 2], max_batch_tokens=(64, 7)[number % 2],
                        block_size=(4, 3)[number % 2], preemption="recompute", prefix_caching=number % 3 > 0)
        assert len(set(layers)) >= 3, f"{name}: nearly all left at one layer"
        serve(name, number + 20, num_blocks=17, preemption="swap", max_batch_tokens=30)
    serve("softmax", 3, lensed=True, max_batch_tokens=9)


def check_later_prompts() -> None:
    """A prompt that is an earlier request's whole text finds no block of it that was made by exits."""
    for name in ("patience", "softmax"):
        policy, exits = POLICIES[name]
        engine = Engine(MODEL, exit_policy=policy, exits=exits, num_blocks=60, block_size=2)
        engine.add(P[:9], 20)
        prompt = P[:9] + engine.run()[0].tokens
        later = engine.add(prompt, 12)
        assert engine.run()[later].tokens == early_exit(MODEL, prompt, 12, copy.copy(policy), exits=exits).tokens


def check_read_again() -> None:
    """A text that was preempted does not take blocks of a prompt that says the same: those ran all layers."""
    for name in ("patience", "softmax", "entropy"):
        policy, exits = POLICIES[name]
        right = early_exit(MODEL, P[:9], 20, copy.copy(policy), exits=exits).tokens
        engine = Engine(MODEL, exit_policy=policy, exits=exits, num_blocks=60, block_size=2)
        engine.add(P[:9], 20)
        for _ in range(12):
            engine.step()
        engine.add(P[:9] + right[:10], 1)
        engine.step()
        engine.scheduler.preempt(engine.requests[0])
        assert engine.run()[0].tokens == right


CHECKS = {check.__name__: check for check in (check_mix, check_later_prompts, check_read_again)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards any way to another text, or to other layers, than a request's own."""
    check()


def test_fewer_rows_run_deeper_layers():
    """Guards an engine that runs all rows to the end: what each layer is fed is who is still in."""
    rows = [0] * 6
    hooks = [block.register_forward_pre_hook(lambda module, args, i=i: rows.__setitem__(i, rows[i] + args[0].shape[1]))
             for i, block in enumerate(MODEL.layers)]
    policy, exits = POLICIES["softmax"]
    engine = Engine(MODEL, exit_policy=policy, exits=exits, num_blocks=99, prefix_caching=False)
    try:
        for prompt, new, *_ in LOAD:
            engine.add(prompt, new)
        engine.run()
    finally:
        [hook.remove() for hook in hooks]
    trace = [step for request in engine.requests.values() for step in request.result().trace]
    assert rows == [sum(step.fed for step in trace if step.layers > layer) for layer in range(6)]
    assert rows[5] < rows[0]


@pytest.mark.parametrize(("call", "kind", "says"), [
    (lambda: Engine(MODEL, num_blocks=9, exit_policy=0.9), TypeError, "a policy such as SoftmaxResponse(0.9)"),
    (lambda: Engine(MODEL, num_blocks=9, exit_policy=Patience), TypeError, "exit_policy must be a policy"),
    (lambda: Engine(MODEL, num_blocks=9, exit_policy=Patience(2), proposer=PromptLookup()), ValueError,
     "a proposer or an exit_policy, not both"),
    (lambda: Engine(MODEL, num_blocks=9, exit_policy=Patience(2), exits=[6]), ValueError, "there is no exit 6"),
    (lambda: Engine(MODEL, num_blocks=9, exits=[2]), ValueError, "without an exit_policy"),
    (lambda: Engine(MODEL, num_blocks=9, lens=lens), ValueError, "without an exit_policy"),
    (lambda: Engine(MODEL, num_blocks=9, exit_policy=Patience(2)).add([1], 4, beams=2), ValueError,
     "leave beams out, or the exit_policy"),
])
def test_bad_input(call, kind, says):
    """Guards a mistake that is told late, badly or never."""
    assert_clear_error(call, kind, says)


@pytest.mark.parametrize("mutant", mutants.EXITS, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let wrong exits pass."""
    mutant.apply(monkeypatch)
    with pytest.raises((AssertionError, ValueError, IndexError, RuntimeError, TypeError, KeyError)):
        CHECKS[mutant.check]()
