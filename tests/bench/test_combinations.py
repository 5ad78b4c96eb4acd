"""The matrix: every pair runs or says why not, exact ones say what plain decoding says, figures are what they claim."""
import functools
import json
import statistics
from types import SimpleNamespace

import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from mutants import combinations as mutants

import minilm
from minilm.bench import big_steps, combinations, gpu_combinations, matrix, predict, record
from minilm.bench.ceilings import Ceilings
from minilm.bench.cost_model import Launches, Machine, Model
from minilm.bench.matrix import BATCH, EXIT, REASONS, TECHNIQUES, Setup
from minilm.decoding import autoregressive, speculative
from minilm.decoding.proposers import AheadHeads, Blockwise, Combined, PromptLookup, SelfSpeculative, SurvivalDraft

# Seconds on paper: bytes and FLOPs cost next to nothing, an operation one second, a layer of a lean draft a tenth.
PAPER = Ceilings(Machine(1e15, 1e15, 1.0), Launches(2, 3, 1), Machine(1e15, 1e15, 0.1))
SHAPE = {"num_layers": 12, "max_positions": 64, "tie_embeddings": False}


@functools.cache
def setup() -> Setup:
    target = tiny_model(seed=5, **SHAPE).double()
    draft = tiny_model(seed=5, **SHAPE | {"num_layers": 11}).double()
    draft.load_state_dict({name: target.state_dict()[name] for name in draft.state_dict()})
    generator = torch.Generator().manual_seed(0)
    heads = AheadHeads(*(torch.randn(size, generator=generator, dtype=torch.float64)
                         for size in ((2, 48, 48), (2, 48), (2, 24, 48))))
    return Setup(target, SimpleNamespace(eos_id=0), 12, PAPER, draft, heads)


PROMPTS = [[5, 17, 80], [9, 9, 2, 44] * 3]


@functools.cache
def measured() -> dict:
    """A whole run on the small models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Setup, "of", lambda name, new_tokens: setup())
        patch.setattr(combinations, "prompt_sets", lambda tokenizer, prompts: {"one": PROMPTS[:1], "copy": PROMPTS[1:]})
        return combinations.measure(prompts=1, rounds=2, say=lambda text: None)


def check_exact():
    """All but early exit say what plain decoding says, alone, in pairs, in the engine; every pair is told of."""
    cells = measured()["cells"]
    assert [(c["a"], c["b"]) for c in cells] == [(a, b) for i, a in enumerate(TECHNIQUES) for b in TECHNIQUES[i:]]
    for cell in [*cells, measured()["all"], measured()["all_batched"], measured()["paged_alone"]]:
        if cell["reason"] is None:
            assert cell["of"] == 2 and cell["exact"] == (EXIT not in (cell["a"], cell["b"]))
            assert not cell["exact"] or cell["same"] == 2, cell
            assert len(cell["ratios"]) == len(cell["seconds_per_token"]) == 2 and cell["speed_up"] > 0
        else:
            assert cell["speed_up"] is None and frozenset((cell["a"], cell["b"])) in REASONS
    assert {cell["name"] for cell in measured()["by_kind"]} > set(TECHNIQUES) - {BATCH}


def check_hurts():
    """A pair hurts when it is slower than the faster of the two alone, round beside round."""
    rounds = {("x", "x"): [2.0, 2.2, 1.0], ("y", "y"): [1.0] * 3, ("z", "z"): [0.5] * 3, ("x", "y"): [1.5, 2.1, 1.9],
              ("x", "z"): [2.5, 2.5, 1.1], ("y", "z"): None}
    cells = [{"a": a, "b": b, "ratios": each, "speed_up": statistics.median(each) if each else None,
              "reason": None if each else "no", "hurts": None} for (a, b), each in rounds.items()]
    combinations.mark(cells)
    assert [cell["hurts"] for cell in cells] == [None, None, None, True, False, None]
    cells[3]["ratios"] = [2.1, 2.3, 0.9]                        # slower once, by the noise of a round
    combinations.mark(cells)
    assert cells[3]["hurts"] is False


def check_paper():
    """Seconds on paper, by hand: 12 layers of 2 operations, 3 more, 1 for the head: 28 a pass."""
    made = autoregressive(setup().model, PROMPTS[0], 5)
    assert round(predict.seconds(setup().model.config, made.trace, PAPER)[0], 6) == 5 * 28
    proposer = Combined([PromptLookup(3, 3, min_ngram=3), SurvivalDraft(setup().draft, 3, survival=0.0)])
    drafts = predict.count_drafts(proposer)
    made = speculative(setup().model, PROMPTS[0], 9, proposer)
    first, *later = drafts[0].widths                    # the whole prompt with the first token is read by the model
    assert first == 4 and max(later) <= 2
    paper, work = predict.seconds(setup().model.config, made.trace, PAPER, proposer, drafts)
    assert round(paper, 4) == round(28 * len(made.trace) + (11 * 2 + 3 + 1) + 11 * 0.1 * len(later), 4)
    assert round(work.seconds(PAPER.torch), 4) == 28 * len(made.trace)


def check_paper_of_parts():
    """Self-speculation drafts by 4 of 12 layers; look-ahead heads cost one large product and ten small ones each."""
    config, model = setup().model.config, setup().model
    proposer = SelfSpeculative(4, 2)
    step = speculative(model, PROMPTS[0], 9, proposer).trace[1]
    paper, _ = predict.seconds(config, [step], PAPER, proposer)
    assert round(paper, 4) == 2 * (4 * 2 + 3 + 1) + 4 * 2 + 8 * 2 + 1
    proposer = Blockwise(setup().ahead, ((0,), (1,), (0, 0)))
    step = speculative(model, PROMPTS[0], 9, proposer).trace[1]
    assert round(predict.seconds(config, [step], PAPER, proposer)[0], 4) == 28 + 20 + 1
    made = setup().run(EXIT, EXIT, PROMPTS, True)
    assert 0 < made.paper < 28 * 40
    bytes_only = Model(config, 4)
    batch = predict.step_of_batch(bytes_only, [1, 3], [10, 20])
    alone = bytes_only.forward(1, 1, 10), bytes_only.forward(1, 3, 20)
    reads = Machine(1.0, 1e15, 0.0)
    weights = bytes_only.forward(1, 1, 0).seconds(reads) - bytes_only.layers().parts[1].seconds(reads) - 4 * 2 * 97
    assert round(batch.seconds(reads) - sum(work.seconds(reads) for work in alone) + weights, 3) == 0


def steps_of(shape: str, draft: str, times: dict[tuple, float]) -> list[dict]:
    """Recorded steps of a shape and its draft: the same measured and predicted, but for the prediction of width 4."""
    rows = []
    for (name, batch, width, share), micro in times.items():
        layers = int(big_steps.SHAPES[name].num_layers * share)
        rows.append({"shape": name, "batch": batch, "width": width, "layers": layers, "context": 1024, "median": micro,
                     "predicted": micro * (0.5 if width == 4 else 1.0), "roofline": micro, "binds": "weights"})
    return rows


def check_points():
    """S = E t(B, 1) / (γ t_d(B, 1) + t(B, γ + 1)), and early exit as the whole batch goes, by hand."""
    times = {("1B", 1, 1, 1): 100.0, ("1B", 1, 4, 1): 120.0, ("1B draft", 1, 1, 1): 10.0, ("1B", 1, 1, 0.5): 55.0,
             ("1B", 1, 0, 0.5): 10.0, ("1B", 1, -1, 0.5): 4.0, ("1B", 2, 1, 1): 110.0}
    points = {(p["technique"], p["alpha"]): p for p in gpu_combinations.all_points(steps_of("1B", "1B draft", times))}
    spec = points["speculation", 0.6]
    assert spec["measured"] == round((1 - 0.6**4) / 0.4 * 100 / (3 * 10 + 120), 4) and spec["gamma"] == 3
    assert spec["predicted"] == round((1 - 0.6**4) / 0.4 * 100 / (3 * 10 + 60), 4)
    assert abs(spec["error"] - (spec["predicted"] / spec["measured"] - 1)) < 1e-3
    assert spec["roofline"] == spec["measured"]
    assert points["early exit", 0.8]["measured"] == round(100 / (0.8 * (55 + 4) + 0.2 * (100 + 10)), 4)
    assert not spec["slow_down"] and spec["label"] == "1B B 1 γ 3 α .6"
    exits = gpu_combinations.exit_cost("1B", 2, 1024)
    assert [round(times, 4) for times in exits.values()] == [0.64, 0.36, 0.36, 0.96]


def check_step_on_paper():
    """8B, 4 texts, 2 tokens each after 10: 2 B a number; a check is a head, a fill the two matrices of 16 layers."""
    config, reads = big_steps.SHAPES["8B"], Machine(1.0, 1e30, 0.0)
    layers = 32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336)
    head, kv = 128256 * 4096, 4 * 131072 * (10 + 2 * 2)
    whole = gpu_combinations.work_of(config, 4, 2, 32, 10, 7).seconds(reads)
    assert round(whole - (2 * (layers + head) + kv + 2 * 2 * 8 * 128256)) == 0
    assert gpu_combinations.work_of(config, 4, 2, 32, 10, 7).seconds(Machine(1e30, 1e30, 1.0)) == 7
    check = gpu_combinations.work_of(config, 4, gpu_combinations.CHECK, 16, 10, 0).seconds(reads)
    assert check == 2 * head + 2 * 2 * 4 * 128256
    fill = gpu_combinations.work_of(config, 4, gpu_combinations.FILL, 16, 10, 0).seconds(reads)
    assert fill == 2 * 16 * 4096 * 2048
    row = {"key": ("8B", 1, 4, 32, 10), "seconds": [2e-3, 1e-3, 4e-3], "kernels": 100, "way": "kernels"}
    told = gpu_combinations.told(row, Machine(3e12, 8e14, 1e-6, ((4, 2e12),)), Machine(3e12, 8e14, 0.0))
    assert told["median"] == 2000 and abs(told["predicted"] - (2e6 * (layers + head) / 2e12 + 100)) < 5
    assert abs(told["roofline"] - 2e6 * (layers + head) / 3e12) < 5 and told["binds"] == "weights"


CHECKS = {check.__name__: check for check in (
    check_exact, check_hurts, check_paper, check_paper_of_parts, check_points, check_step_on_paper)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards the matrix and its predictions; see each check."""
    check()


@pytest.mark.parametrize("mutant", mutants.COMBINATIONS, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards a check that a wrong version passes."""
    mutant.apply(monkeypatch)
    with pytest.raises((AssertionError, TypeError, KeyError, ValueError)):
        CHECKS[mutant.check]()


def test_record_and_show(tmp_path):
    """Guards a result that JSON can't hold, or a summary that leaves cells out."""
    path = record.write("toy", measured(), folder=tmp_path)
    kept = json.loads(path.read_text())
    assert kept["techniques"] == list(TECHNIQUES) and kept["all"]["parts"]
    text = combinations.show(measured())
    assert text.count("tokens a pass") == sum(cell["reason"] is None for cell in kept["cells"]) + 3


def test_every_needed_step_is_wanted():
    """Guards points that are silently left out because a step of theirs is never timed."""
    names = "shape", "batch", "width", "layers", "context"
    rows = [dict(zip(names, key, strict=True)) | {"median": 1.0, "predicted": 1.0, "roofline": 1.0, "binds": ""}
            for key in gpu_combinations.wanted()]
    points = list(gpu_combinations.all_points(rows))
    counts = {name: sum(p["technique"] == name for p in points) for name in ("speculation", "early exit", "batching")}
    assert counts == {"speculation": 2 * 7 * 4, "early exit": 2 * 4, "batching": 2 * 5}


def test_bad_input():
    """Guards a pair that is measured as something else, a model without parts, a GPU that isn't there."""
    assert_clear_error(lambda: setup().run(EXIT, "trie", PROMPTS), ValueError, "early exit with trie: verification")
    assert_clear_error(lambda: setup().run("lookahead", BATCH, PROMPTS), ValueError, "the engine has none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minilm, "load", lambda name: (tiny_model(), None), raising=False)
        patch.setattr(matrix.ceilings, "measure", lambda config: PAPER)
        assert_clear_error(lambda: Setup.of("other", 4), ValueError, "has no draft model")
    if not torch.cuda.is_available():
        assert_clear_error(lambda: combinations.measure(device="cuda"), ValueError, "need an NVIDIA GPU")
