"""Pictures of lesson 12: what a request lived through, pairs of techniques, predictions, exits in a batch."""
import copy
import re

import pytest
import torch
from core_helpers import tiny_model

from minilm.decoding import autoregressive
from minilm.decoding.proposers import PromptLookup
from minilm.serving import Engine
from minilm.viz import block_trace, combinations, exit_batches, lives, predictions, timeline


class Letters:
    """Each token is a letter of its own; 1 is markup, to be escaped."""

    def decode(self, ids):
        return "".join("<b>" if i == 1 else chr(0x100 + i) for i in ids)


def words(html: str) -> str:
    return re.sub("<[^>]*>", " ", html)


def story(**options):
    """Four requests, the third like the first, in few blocks and small steps."""
    model = tiny_model(dtype=torch.float64, tie_embeddings=False)
    settings = dict(block_size=4, num_blocks=13, max_batch_tokens=12, proposer=PromptLookup(3, 2), max_drafts=3)
    engine = Engine(model, **settings | options)
    shots = block_trace.record(engine)
    prompts = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [9] * 15, [1, 2, 3, 4, 5, 6, 7, 8, 2], [5, 6] * 4]
    for i, prompt in enumerate(prompts):
        engine.add(prompt, 8 + 3 * i)
        if i == 2:
            engine.step()
    made = engine.run()
    alone = [autoregressive(model, prompt, 8 + 3 * i).tokens for i, prompt in enumerate(prompts)]
    assert [one.tokens for one in made.values()] == alone
    return shots, made, prompts


@pytest.mark.parametrize("options", [{}, {"preemption": "swap"}, {"prefix_caching": False}, {"num_blocks": 40},
                                     {"proposer": None}, {"max_batch_tokens": 3}])
def test_lives_add_up(options):
    """Guards a step that is told of another request, or twice: passes, tokens and what was fed must sum up."""
    shots, made, prompts = story(**options)
    told = lives.read(shots, made)
    assert list(told) == ["0", "1", "2", "3"]
    for name, life in told.items():
        result = made[int(name)]
        assert len(life) == len(shots) - 1 and sum(m.ends for m in life) == 1
        assert [m.passed for m in life if m.passed] == result.trace
        assert sum(m.fed for m in life) == sum(dict(shot.batch).get(name, 0) for shot in shots)
        for before, moment in zip([None, *life], life, strict=False):
            assert (moment.fed > 0) == (moment.doing in ("prompt", "decode"))
            assert moment.found % 4 == 0 and moment.kept <= len(moment.drafted)
            if moment.doing == "prompt" and moment.passed and not moment.again and before is not None:
                assert moment.length == len(prompts[int(name)]), "the first token comes with the prompt's last piece"
        order = [m.doing for m in life if m.doing not in ("paused",)]
        assert order.index("prompt") >= len([d for d in order if d in ("absent", "waiting")])
        if "preempted" in order:
            assert any(m.again or m.found or options.get("preemption") == "swap"
                       for m in life[order.index("preempted"):])
    found = max(m.found for m in told["2"])
    if options.get("prefix_caching") is False:
        assert not any(m.found for life in told.values() for m in life)
    elif options.get("num_blocks"):
        assert found == 8, "the first request's two full blocks"


def test_some_life_has_everything():
    """Guards a story without what the lanes are there to show: preemption, found blocks, drafts kept and lost."""
    told = lives.read(*story()[:2])
    every = [moment for life in told.values() for moment in life]
    assert {"waiting", "prompt", "decode", "preempted", "done"} <= {moment.doing for moment in every}
    assert any(m.found for m in every) and any(m.kept for m in every)
    assert any(len(m.drafted) > m.kept for m in every)


def test_lives_refuse_what_they_cannot_tell():
    shots, made, _ = story()
    with pytest.raises(ValueError, match="nothing was recorded"):
        lives.read(shots[:1], made)
    with pytest.raises(ValueError, match="n = 1"):
        lives.read(shots, {id: [one] for id, one in made.items()})
    with pytest.raises(ValueError, match="were not recorded"):
        lives.read(shots[:6], made)


def test_timeline_says_what_happened():
    """Guards a view of another step, and tokens that are not escaped."""
    shots, made, prompts = story()
    told = lives.read(shots, made)
    texts = {name: (prompts[int(name)], made[int(name)].tokens) for name in told}
    still = timeline.lanes(told)
    assert all(f"{len(made[int(name)].tokens)} tokens" in words(still) for name in told)
    for name, life in told.items():
        for step, moment in enumerate(life, 1):
            shown = timeline.view(told, name, step, Letters(), texts)
            assert "<b>\u0101" not in shown
            head = words(shown.split("min-height:42px")[1])
            assert f"step {step}, request {timeline.letter(told, name)}" in head
            if moment.drafted:
                assert f"{len(moment.drafted)} draft" in head
            if moment.blocks:
                assert f"{len(moment.blocks)} block" in words(shown)
            else:
                assert "holds no blocks" in words(shown)
    with pytest.raises(ValueError, match="step must be one of 1 to"):
        timeline.view(told, "0", 0, Letters(), texts)
    with pytest.raises(ValueError, match="no requests"):
        timeline.lanes({})


def cell(a, b, speed_up, predicted=1.0, reason=None):
    return {"a": a, "b": b, "reason": reason, "exact": True, "same": 1, "of": 1, "speed_up": speed_up,
            "ratios": speed_up and [speed_up] * 3, "predicted": predicted, "binds": "weights", "hurts": None}


MEASURED = {"model": "m", "dtype": "float32", "machine": {"processor": "cpu"}, "techniques": ["x", "y", "z", "w"],
            "cells": [cell("x", "x", 2.0), cell("y", "y", 3.0), cell("z", "z", 1.2), cell("w", "w", 0.8, None),
                      cell("x", "y", 5.9), cell("x", "z", 1.8), cell("y", "z", 3.3), cell("x", "w", 2.03),
                      cell("y", "w", None, None, "they <refuse>"), cell("z", "w", None, None, "they <refuse>")]}


def test_verdicts():
    """Guards the marks of the heat map: a pair is held against the better of its two, with 5 % for noise."""
    verdict = lambda a, b: combinations.verdict(MEASURED, a, b)                             # noqa: E731
    assert [verdict("x", "y"), verdict("z", "x"), verdict("y", "z"), verdict("w", "x")] == [
        "multiplies", "hurts", "adds", "no more"]
    assert combinations.hurting(MEASURED) == [("x", "z", [0.9] * 3)]
    noisy = copy.deepcopy(MEASURED)             # rounds differ by more than the pair does: medians apart say 1.7 to 2
    combinations.cell(noisy, "x", "x")["ratios"] = [1.0, 2.0, 2.6]
    combinations.cell(noisy, "x", "z").update(ratios=[1.2, 1.7, 2.9], speed_up=1.7)
    assert combinations.verdict(noisy, "x", "z") == "adds" and not combinations.hurting(noisy)
    assert ("x", "z", 0.5, pytest.approx(0.9)) in combinations.foreseen(MEASURED | {"cells": [
        {**one, "predicted": 2.0} if one["a"] == one["b"] == "x" else one for one in MEASURED["cells"]]})
    assert [gain[:2] for gain in combinations.foreseen(MEASURED)] == [("x", "y"), ("x", "z"), ("y", "z"), ("x", "w")]
    assert combinations.reasons(MEASURED) == ["they <refuse>"]
    with pytest.raises(ValueError, match="there are x, y, z, w"):
        combinations.cell(MEASURED, "x", "q")


def test_heat_map_and_pairs():
    chart = combinations.heat_map(MEASURED)
    said = [text.get_text() for text in chart.figure.axes[0].texts]
    assert "▼ 1.80" in said and "× 5.90" in said and "▲ 3.30" in said and "= 2.03" in said and said.count("1") == 2
    assert chart.png()[:4] == b"\x89PNG"
    both = combinations.pair(MEASURED, "y", "x")
    assert "6.00" in both and "5.90" in both and "× multiplies" in both
    assert "they &lt;refuse&gt;" in combinations.pair(MEASURED, "w", "z")
    single = combinations.pair(MEASURED, "x", "x")
    assert "alone" in single and "the model said" in single
    assert "no model" in said and "the model said" not in combinations.pair(MEASURED, "w", "w")


def point(measured, predicted, technique="speculation", batch=8):
    return {"technique": technique, "label": f"{technique} {batch}", "batch": batch, "measured": measured,
            "predicted": predicted}


def test_predictions():
    """Guards the count of points in the band, and the order of the worst."""
    points = [point(1.0, 1.19), point(0.5, 0.65), point(2.0, 1.7), point(30.0, 29.0, "batching")]
    assert predictions.within(points) == 3 and predictions.within(points, 0.1) == 1
    chart = predictions.scatter(points)
    said = "\n".join(text.get_text() for text in chart.figure.axes[0].texts)
    assert "1  speculation 8: +30%" in said and len(chart.figure.axes) == 2
    assert chart.png()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="no points"):
        predictions.scatter([])


def test_curve_reads_out_the_chosen_batch():
    speed = {1: 2.0, 8: 1.5, 64: 0.7}
    shown = predictions.curve(speed.get, [1, 8, 64], 64, points=[point(1.4, 1.5)], best={1: 5, 8: 3, 64: 0},
                              about="a <title>")
    assert "× 0.70: does not pay" in words(shown) and "none" in words(shown) and "measured 1.40" in shown
    assert "a &lt;title&gt;" in shown and shown.count("<circle") == 2
    assert "× 2.00: pays" in words(predictions.curve(speed.get, [1, 8, 64], 1))


def test_bars_of_shares_and_throughput():
    chart = predictions.shares({"ours": {1: 0.9, 8: 0.88}, "theirs": {1: 0.5}}, title="t")
    assert {"0.90", "0.88", "0.50"} <= {text.get_text() for text in chart.figure.axes[0].texts}
    shown = words(predictions.throughput([{"model": "m", "name": "engine", "tokens_per_second": 900.0},
                                          {"model": "m", "name": "peer", "tokens_per_second": 300.0},
                                          {"model": "m", "name": "other", "failed": "no"}]))
    assert "900 tokens/s" in shown and "engine × 3.00" in shown and "did not run" in shown


def test_exits_in_a_batch():
    """Guards the layers that a batch reads: down to its deepest row, not its mean."""
    depths = [[4, 16, 4], [4, 4, 8], [16, 4, 4], [4, 4, 4]]
    assert exit_batches.deepest(depths, 1) == pytest.approx(sum(map(sum, depths)) / 12)
    assert exit_batches.deepest(depths, 2) == pytest.approx((4 + 16 + 8 + 16 + 4 + 4) / 6)
    assert exit_batches.deepest(depths, 4) == pytest.approx((16 + 16 + 8) / 3)
    assert exit_batches.expected_deepest(depths, 1, 16) == pytest.approx(exit_batches.deepest(depths, 1))
    by_hand = 4 + (1 - (9 / 12) ** 2) * 4 + (1 - (10 / 12) ** 2) * 8        # E[max] of two draws from these twelve
    assert exit_batches.expected_deepest(depths, 2, 16) == pytest.approx(by_hand)
    shown = words(exit_batches.frame(depths, 2, 16))
    assert "reads the weights of 8 layers" in shown and "5.0 on average" in shown and "leaves after 4" in shown
    assert exit_batches.chart(depths, (1, 2, 4), 16).png()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="1 to 4"):
        exit_batches.deepest(depths, 5)
