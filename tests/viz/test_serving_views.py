"""Pictures of serving show what the engine did: numbers, marks and captions are tested, not looks."""
import re

import pytest
import torch
from core_helpers import tiny_model

from minilm.bench import reservations
from minilm.sampling import Sampling
from minilm.serving import Engine, Step
from minilm.viz import batch_slots, block_trace, block_view, block_words, memory_waste, serving_charts, swap_cost


class Letters:
    """Each token is a letter of its own; 1 is markup, to be escaped."""

    def decode(self, ids):
        return "".join("<b>" if i == 1 else chr(0x100 + i) for i in ids)


def story(preemption: str, prefix_caching: bool = True) -> list[block_trace.Shot]:
    """Two samples of seven tokens, then two more requests, into twelve blocks of four."""
    model = tiny_model(dtype=torch.float64, tie_embeddings=False)
    engine = Engine(model, block_size=4, num_blocks=12, max_batch_tokens=16, preemption=preemption,
                    prefix_caching=prefix_caching)
    shots = block_trace.record(engine)
    engine.add([1, 2, 3, 4, 5, 6, 7], 9, Sampling(1.0), n=2, seed=3)
    engine.step(), engine.step()
    engine.add([9] * 7, 12)
    engine.step(), engine.step()
    engine.add([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 8)
    engine.run()
    return shots


def said(shots: list[block_trace.Shot], step: int) -> str:
    """A step's caption without its markup; owners' letters stay."""
    lines = block_words.told(shots[step - 1], shots[step], block_trace.letters(shots))
    return re.sub("<[^>]*>", "", " | ".join(lines))


def step_of(shots: list[block_trace.Shot], event: str) -> int:
    return next(n for n, shot in enumerate(shots) if any(what == event for what, _ in shot.events))


def test_shots_are_the_pool():
    """Guards a picture of other blocks than the engine's: places, owners, what is kept in free ones."""
    shots = story("swap")
    assert len(shots) == 16 and shots[0].used == 0 and shots[-1].used == 0
    for shot in shots:
        owners = [sum(block in table.blocks for table in shot.tables) for block in range(12)]
        assert owners == list(shot.references) and shot.used + shot.free == 12
        for table in shot.tables:
            text = [token for block in table.blocks for token in shot.places[block]]
            assert text == list(table.text[: table.length])
        assert shot.held <= 4 * shot.used
    forked = shots[1]
    assert forked.references[:2] == (2, 2) and forked.saved == 0.5 and forked.held == 7
    assert shots[-1].places[0] == (1, 2, 3, 4), "a full block may be found after its owner's end"
    bare = story("swap", prefix_caching=False)
    assert set(bare[-1].places) == {()}, "nothing is remembered"
    assert 0 < block_trace.waste(shots) < 3 / 4
    with pytest.raises(ValueError, match="run the engine first"):
        block_trace.waste(shots[:1])


def test_record_keeps_a_watcher():
    """Guards a recording that silences who watched before."""
    steps = []
    engine = Engine(tiny_model(), num_blocks=4, watch=steps.append)
    shots = block_trace.record(engine)
    engine.add([1, 2], 3)
    engine.run()
    assert len(steps) == len(shots) - 1 == 3
    assert [step.blocks_used for step in steps] == [shot.used for shot in shots[1:]]


def test_captions_say_what_happened():
    """Guards a caption of another step, or of another owner."""
    shots = story("swap")
    assert block_trace.letters(shots) == {"0.0": 0, "0.1": 1, "1": 2, "2": 3}
    assert "Admit. A has 7 tokens to read (its prompt): blocks 0 and 1, the last one partly filled" in said(shots, 1)
    assert "Fork. The prompt is read; B begins with A's table: blocks 0 and 1 now have 2 owners" in said(shots, 1)
    assert "Copy on write. A is about to write into block 1" in said(shots, 2)
    assert "it takes block 2" in said(shots, 2) and "B writes into the room in its last block" in said(shots, 2)
    assert "Share. Block 0 held the same 4 tokens already" in said(shots, 5)
    assert "only 7 tokens computed" in said(shots, 5)
    out, back = step_of(shots, "swap out"), step_of(shots, "swap in")
    assert "Preempt, swap out." in said(shots, out) and "D came last, so all its 3 blocks" in said(shots, out)
    assert shots[out].host == (("2", 3),) and "D's 3 blocks are copied back" in said(shots, back)
    end = said(shots, step_of(shots, "finish"))
    assert "Free. A is done: blocks" in end and "its share in the rest ends" in end
    again = story("recompute")
    assert "Preempt, recompute." in said(again, step_of(again, "preempt"))
    assert "Resume. D has 13 tokens to read again" in said(again, step_of(again, "resume"))


def test_frames_mark_what_is_new():
    """Guards new tokens unmarked, owners without a letter, raw markup from a text."""
    shots = story("swap")
    frames = block_view.frames(shots, Letters())
    assert len(frames) == len(shots) - 1
    for n, (frame, shot) in enumerate(zip(frames, shots[1:], strict=True), start=1):
        assert f"<b>step {n}</b>" in frame and f"{shot.used} of 12 blocks used" in frame
        assert frame.count("<title>block ") == 12
        assert frame.count(", free") == 12 - shot.used
        assert "<b>·" not in frame and "><b></text>" not in frame
    yellow = "fill:" + block_view.theme.YELLOW
    assert frames[0].count(yellow) == 7 and frames[3].count(yellow) == 3, "as many as were written"
    assert "⧉ copy of 1" in frames[1] and "host memory" in frames[step_of(shots, "swap out") - 1]
    assert "block 0, of A and B and D" in frames[4]
    with pytest.raises(ValueError, match="nothing was recorded"):
        block_view.frames(shots[:1], Letters())


def test_the_meter_shows_its_shares():
    """Guards bars of other lengths than their numbers."""
    load = reservations.lengths(40)
    found = {policy: reservations.serve(load, policy, slots=8000) for policy in ("max", "paged")}
    drawn = memory_waste.meter(found)
    for shares in found.values():
        for part in memory_waste.PARTS:
            if getattr(shares, part) > 0.001:
                assert f"{part}: {100 * getattr(shares, part):.1f} %" in drawn
    assert "used: 20.4 %" in drawn and "internal: 57.3 %" in drawn and "used: 26.8 %" not in drawn
    for policy, shares in memory_waste.PAPER.items():
        assert 99.8 < sum(shares) <= 100.01 or policy == "paged", "the paper's bars fill the memory"


def test_rows_of_the_batch():
    """Guards a request that changes its row, and a share that counts empty rows."""
    steps = [Step([("0", 1), ("1", 1)], [], 0, 0, 0), Step([("1", 1), ("2.1", 1)], [], 0, 0, 0),
             Step([("2.1", 1)], [], 0, 0, 0)]
    plan = batch_slots.from_steps(steps)
    assert plan == [[0, 1], [2, 1], [2, None]]
    assert batch_slots.share(plan) == 5 / 6
    drawn = batch_slots.picture({"one": plan, "other": [[0], [0]]})
    assert "one: 3 steps, 83% of rows × steps used" in drawn and "other: 2 steps, 100%" in drawn
    assert "request C, steps 2 to 3" in drawn and "nobody, steps 3 to 3" in drawn
    with pytest.raises(ValueError, match="no steps"):
        batch_slots.share([])
    fed = batch_slots.fed([Step([("0", 1), ("1", 30)], [], 0, 0, 0), Step([("0", 1)], [], 0, 0, 0)], "1", label="x")
    assert "step 1: 30 tokens, long prompt" in fed and "step 2: 1 tokens, others" in fed and ">31<" in fed


def test_formulas():
    """Guards the two formulas against counting by hand, and the crossover against both times."""
    assert serving_charts.sharing_formula(4, 42, 32, 4) == 3 * 40 / (4 * 74)
    assert serving_charts.sharing_formula(1, 42, 32, 4) == 0
    assert serving_charts.waste_formula(1, 99) == 0 and serving_charts.waste_formula(16, 92.5) == 7.5 / 100
    for served in swap_cost.SERVED:
        even = swap_cost.Served("", served.parameters, served.layers, served.kv_bytes, served.flops, served.crossover)
        assert swap_cost.swap_seconds(even, 1600) == pytest.approx(swap_cost.recompute_seconds(even, 1600))
        small, large = (swap_cost.swap_seconds(served, 1600, size, 1e-6) for size in (1, 16))
        assert small - large == pytest.approx(2 * (1600 - 100) * 2 * served.layers * 1e-6)
    assert swap_cost.SERVED[0].crossover == pytest.approx(819200 * 312e12 / 13e9)
    assert swap_cost.view(1000, 1).count("✓") == len(swap_cost.SERVED)


def test_charts_draw():
    """Guards charts that break on what the lesson gives them."""
    waste = {4: 0.01, 16: 0.02}
    for chart, name in ((serving_charts.block_size_chart(waste, 400.0), "waste at 2 block sizes"),
                        (serving_charts.block_size_chart(waste, 400.0, {1: 5.0, 16: 6.0}, {1: 9.0, 16: 9.0}),
                         "waste and speed at 2 block sizes"),
                        (serving_charts.sharing_chart({2: [0.4, 0.3]}, {2: [0.5, 0.4]}, 8, 4), "1 numbers"),
                        (serving_charts.throughput_chart({"a": 1.0, "b": 2.0}, {"a": 1.0, "c": 3.0}), "3 ways")):
        assert name in repr(chart) and chart.png().startswith(b"\x89PNG")
