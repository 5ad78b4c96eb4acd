"""All at once: recorded passes of fixed size, kernels, chunks, prefixes, preemption, trees, drafters; the same texts.

In float64 the kernels' references stand in for them, so that what is left to differ is what the engine does: how steps
are packed, padded and told apart. With the kernels themselves, by Triton's interpreter, it is float32 and little; on a
GPU it is a trained model, and whoever leaves the text does so where two tokens are as good as equal.
"""
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from core_helpers import one_thread, tiny_model  # noqa: F401
from mutants import serving as mutants
from serving_helpers import GREEDY, MIX, MOST_STEPS, WARM, Ask, P, check_empty, check_step, events, serve
from spec_helpers import TARGET
from test_engine import DRAFTERS, check_hidden

import minilm
from minilm.bench.captured import divergences
from minilm.decoding import autoregressive
from minilm.decoding.proposers import DraftModel, PromptLookup, SelfSpeculative
from minilm.kernels import many_rows, reference
from minilm.kernels.backend import INTERPRETED
from minilm.kernels.decode_layers import DecodeLayers
from minilm.kernels.many_rows import ManyRows
from minilm.sampling import Sampling, draw
from minilm.serving import Engine, checks, graphs, groups
from minilm.serving.ahead import Ahead
from minilm.serving.blocks import BlockPool, BlockTable


def sample(logits, temperature, top_k, top_p, uniforms):
    """What the sampler's kernel draws, a row at a time."""
    rows = zip(logits, temperature.tolist(), top_k.tolist(), top_p.tolist(), uniforms.tolist(), strict=True)
    return torch.tensor([draw(Sampling(t, int(k), p).probs(row), u) for row, t, k, p, u in rows])


@pytest.fixture
def recorded(monkeypatch):
    """An engine with kernels=True takes all its new ways, in float64."""
    stand_in(monkeypatch)


def stand_in(monkeypatch) -> None:
    monkeypatch.setattr(checks, "kernels_fit", lambda model: True)
    monkeypatch.setattr(DecodeLayers, "fits", staticmethod(lambda model: False))
    monkeypatch.setattr(graphs, "paged_attention", reference.paged_attention)
    monkeypatch.setattr(groups, "kernels", reference)
    monkeypatch.setattr(ManyRows, "fits", staticmethod(lambda model: True))
    for name in ("rms_norm", "rotate_and_store", "swiglu"):
        monkeypatch.setattr(many_rows, name, getattr(reference, name))
    monkeypatch.setattr(groups, "FEW", 3)
    monkeypatch.setattr(graphs, "LEAST_REACH", 4)
    monkeypatch.setattr("minilm.kernels.sampler.sample", sample)
    run = graphs.Recorded._run

    def over_the_last(self) -> None:
        if hasattr(self, "logits"):
            self.logits.fill_(torch.nan)
        run(self)

    monkeypatch.setattr(graphs.Recorded, "_run", over_the_last)


def check_mix() -> None:
    """Requests of all kinds, samples and beams among them: every way of making room, chunks, prefixes."""
    happened = events([])
    for seed, (size, chunk, kind) in enumerate(((4, 64, "recompute"), (1, 23, "swap"), (16, 9, "recompute"))):
        engine, steps = serve(MIX, seed, spare=seed, block_size=size, max_batch_tokens=chunk, preemption=kind,
                              prefix_caching=seed != 1, kernels=True)
        happened += events(steps)
        assert len({key[0] for key in engine.runner.graphs.passes}) >= 3, "one size for all"
    assert happened["preempt"] and happened["swap in"] and happened["fork"] and happened["copy"]


def check_leaving() -> None:
    """The first of six leaves between two recorded passes of one size; the others move up a row. Every step but the
    prompts' and the last begins before the tokens of the one before it are read."""
    asks, begun = [Ask(P[i : i + 5], 9 if i else 3) for i in range(6)], []
    engine = Engine(TARGET, num_blocks=12, kernels=True,
                    watch=lambda step: begun.append(engine.runner.ahead is not None))
    for ask in asks:
        ask.add(engine)
    assert [[made.tokens] for made in engine.run().values()] == [ask.alone for ask in asks]
    assert {key[0] for key in engine.runner.graphs.passes} == {6} and begun == [False] + [True] * 7 + [False]


def check_tight() -> None:
    """Blocks run out while all decode, and whoever has to leave comes back."""
    asks, steps = [Ask(P[i : i + 5], 18, WARM if i % 2 else Sampling(), seed=i) for i in range(5)], []
    engine = Engine(TARGET, num_blocks=13, block_size=4, kernels=True, watch=steps.append)
    for ask in asks:
        ask.add(engine)
    assert [[made.tokens] for made in engine.run().values()] == [ask.alone for ask in asks]
    assert events(steps)["preempt"]


def check_again() -> None:
    """Three samples come back while others decode, and a budget of three reads one of them again a token a step."""
    asks, steps = [Ask(P[:6], 14), Ask(P[1:6], 12, WARM, n=3, seed=5)], []
    engine = Engine(TARGET, num_blocks=11, block_size=4, max_batch_tokens=3, kernels=True, watch=steps.append)
    for ask in asks:
        ask.add(engine)
    out = engine.run()
    assert [[out[0].tokens], [made.tokens for made in out[1]]] == [ask.alone for ask in asks]
    assert events(steps)["preempt"]


def check_begun() -> None:
    """What was begun for a sequence counts where it stood, in the blocks that it had."""
    table = BlockTable(BlockPool(4, 4))
    table.reserve(6)
    turn = SimpleNamespace(sequence=object(), table=table, context=5, ids=[0])
    begun = Ahead([turn], None)
    assert begun.row(turn) == 0 and turn.sequence in begun.begun
    for other in ({"sequence": object()}, {"context": 4}, {"ids": [0, 0]}):
        assert begun.row(SimpleNamespace(**vars(turn) | other)) is None
    table.free()
    table.reserve(6)
    assert begun.row(turn) is None


def check_drafters(names=("tree", "half right", "draft model", "self-speculation")) -> None:
    """Ragged drafts, chains and trees, in recorded passes."""
    for seed, name in enumerate(names):
        engine, _ = serve(GREEDY, seed, spare=seed % 3, block_size=(4, 16, 1)[seed % 3], proposer=DRAFTERS[name](),
                          preemption=("recompute", "swap")[seed % 2], max_batch_tokens=(64, 31)[seed % 2], kernels=True)
        assert name not in ("tree", "half right") or max(key[1] for key in engine.runner.graphs.passes) > 1


def check_modules() -> None:
    """A model that the kernels between products do not fit goes through its own modules, recorded or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ManyRows, "fits", staticmethod(lambda model: False))
        serve(GREEDY, 1, spare=1, block_size=4, max_batch_tokens=23, kernels=True)


CHECKS = {"check_mix": check_mix, "check_leaving": check_leaving, "check_tight": check_tight,
          "check_again": check_again, "check_begun": check_begun, "check_drafters": check_drafters,
          "check_modules": check_modules, "check_hidden": lambda: check_hidden(kernels=True)}


@pytest.mark.parametrize("check", [check for check in CHECKS if check != "check_drafters"])
def test_check_holds(recorded, check):
    """Guards what packing and padding may spoil."""
    CHECKS[check]()


@pytest.mark.parametrize("name", DRAFTERS)
def test_every_drafter(recorded, name):
    """Guards drafts in passes of fixed size."""
    check_drafters([name])


def test_wide_batches(recorded, monkeypatch):
    """Guards steps of more rows than a recorded pass takes: they go the other way, with the same tokens."""
    monkeypatch.setattr(graphs, "MOST_ROWS", 8)
    engine, _ = serve(GREEDY, 0, block_size=4, kernels=True, proposer=DRAFTERS["half right"]())
    assert max(key[0] * key[1] for key in engine.runner.graphs.passes) <= 8


def random_ask(chance: random.Random) -> Ask:
    prompt, law = tuple(chance.choices(range(97), k=chance.randint(1, 20))), chance.choice((Sampling(), WARM))
    ask = Ask(prompt, chance.randint(1, 16), law, n=chance.choice((1, 1, 1, 2, 3)), seed=chance.randint(0, 99))
    return replace(ask, eos=chance.choice((None, ask.alone[0][-1])))


@pytest.mark.parametrize("seed", range(60, 90))
def test_random_loads(recorded, seed):
    """Guards what no load above has thought of: pools, blocks, budgets and requests as they come, some cancelled."""
    chance, asked, cancelled, steps = random.Random(seed), {}, set(), []
    size = chance.choice((1, 2, 4, 16))
    to_come = [random_ask(chance) for _ in range(chance.randint(1, 12))]
    blocks = max(ask.most_blocks(size) for ask in to_come) + chance.choice((0, 1, 2, 5, 40))
    engine = Engine(TARGET, num_blocks=blocks, block_size=size, max_batch_tokens=chance.choice((1, 3, 9, 64)),
                    preemption=chance.choice(("swap", "recompute")), swap_blocks=999, kernels=True, watch=steps.append,
                    prefix_caching=chance.random() < 0.5)
    while to_come or engine.scheduler.running or engine.scheduler.waiting:
        while to_come and (chance.random() < 0.35 or not asked):
            ask = to_come.pop()
            asked[ask.add(engine)] = ask
        live = [id for id in asked if not engine.requests[id].done]
        if live and chance.random() < 0.04:
            gone = chance.choice(live)
            engine.cancel(gone)
            cancelled.add(gone)
        oldest = engine.scheduler.running[0].id if engine.scheduler.running else None
        finished = engine.step()
        check_step(engine, steps[-1], finished, oldest)
        assert len(steps) < MOST_STEPS
    check_empty(engine)
    for id, ask in asked.items():
        made = engine.requests[id].result()
        for one, alone in zip(made if ask.n > 1 else [made], ask.alone, strict=False):
            assert one.tokens == (alone[: len(one.tokens)] if id in cancelled else alone), (seed, id)


@pytest.mark.parametrize("mutant", mutants.RECORDED, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let wrong passes through."""
    stand_in(monkeypatch)
    mutant.apply(monkeypatch)
    with pytest.raises((AssertionError, ValueError, IndexError, RuntimeError, TypeError, KeyError)):
        CHECKS[mutant.check]()


# --- the kernels themselves ---

@pytest.mark.skipif(not INTERPRETED, reason="needs Triton's interpreter: on a GPU the tests below say more")
def test_by_the_interpreter(monkeypatch):
    """Guards kernels that are called with something else than what their references were: the fused layers, a chunk
    behind a cached prefix, a few tokens of a prompt."""
    monkeypatch.setattr(groups, "FEW", 3)
    model = tiny_model(seed=2, num_layers=1, width=64, num_heads=2, num_kv_heads=1, head_size=32, mlp_width=64,
                       vocab_size=96, max_positions=64, tie_embeddings=False)
    engine = Engine(model, num_blocks=12, block_size=8, kernels=True, max_batch_tokens=8)
    assert engine.runner.graphs.layers is not None
    asks = [(random.Random(0).choices(range(96), k=12), 3), ([5, 6], 3)]
    for prompt, new in asks:
        engine.add(prompt, new)
    assert [made.tokens for made in engine.run().values()] == [autoregressive(model, *ask).tokens for ask in asks]
    assert {key[:2] for key in engine.runner.graphs.passes} == {(2, 1)}


# --- on a GPU ---

@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["plain", "prompt lookup", "self-speculation", "draft model"])
def test_on_a_gpu(name):
    """Guards graphs and kernels on the real thing: texts leave the eager model's only at near ties, and few do."""
    with torch.no_grad():
        model, tokenizer = minilm.load("minilm-14m", device="cuda")
        draft, _ = minilm.load("minilm-1m", device="cuda")
        proposer = {"plain": None, "prompt lookup": PromptLookup(4, 2), "self-speculation": SelfSpeculative(6, 3),
                    "draft model": DraftModel(draft, 3)}[name]
        prompts = tokenizer.chat_batch([f"Tell me about the number {i}." for i in range(12)])
        base = [autoregressive(model, prompt, 40).tokens for prompt in prompts]
        engine = Engine(model, proposer=proposer, max_batch_tokens=128, num_blocks=80, preemption="swap")
        for prompt in prompts:
            engine.add(prompt, 40)
        texts = [made.tokens for made in engine.run().values()]
        left = divergences(model, prompts, base, texts)
    assert len(left) <= 2 and all(one["margin"] is not None and abs(one["margin"]) < 2e-3 for one in left), left
