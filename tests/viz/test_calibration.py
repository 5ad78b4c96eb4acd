"""Tests of the calibration's pictures: they show what `calibrate` does, and count broken promises rightly."""
import re

import pytest
import torch

from minilm.bench.cost import head_weights, layer_weights
from minilm.decoding.calm import calibrate, certified, hb_p_value
from minilm.model import GPTConfig
from minilm.viz import calibration, decay, exit_cost

THRESHOLDS = (0.9, 0.7, 0.5, 0.3)


def losses_of(*means: float, n: int = 200) -> torch.Tensor:
    """n examples that lose 1 or 0, with these means."""
    return torch.stack([(torch.arange(n) < round(mean * n)).double() for mean in means], 1)


def test_walk_stops_at_the_first_failure_though_a_later_one_would_pass():
    """Guards a walk that tests every threshold and takes the boldest that passes: no fixed sequence."""
    losses = losses_of(0.0, 0.02, 0.3, 0.01)
    steps = calibration.walk(losses, THRESHOLDS, 0.1, 0.05)
    assert [step.passed for step in steps] == [True, True, False]
    assert [step.threshold for step in steps if step.passed] == certified(losses, THRESHOLDS, delta=0.1, epsilon=0.05)


def test_largest_mean_is_where_the_test_turns():
    most = calibration.largest_mean(200, 0.1, 0.05)
    assert hb_p_value(most, 200, 0.1) <= 0.05 < hb_p_value(most + 1e-3, 200, 0.1)
    assert calibration.largest_mean(58, 0.05, 0.05) == -1.0 and calibration.largest_mean(59, 0.05, 0.05) >= 0


def test_frames_mark_what_passed_and_what_stopped():
    steps = calibration.walk(losses_of(0.0, 0.02, 0.3, 0.01), THRESHOLDS, 0.1, 0.05)
    frame = calibration.frames(steps, THRESHOLDS, 200, 0.1, 0.05)
    assert frame(0).count("✓") == 2 and "Take the next" in frame(0)                 # one dot in each plot
    assert frame(2).count("✓") == 4 and frame(2).count("✗") == 2 and "<b>0.7</b>, the one before" in frame(2)
    bad = calibration.walk(losses_of(0.3, 0.3, 0.3, 0.3), THRESHOLDS, 0.1, 0.05)
    assert "full model is returned" in calibration.frames(bad, THRESHOLDS, 200, 0.1, 0.05)(0)
    good = calibration.walk(losses_of(0, 0, 0, 0), THRESHOLDS, 0.1, 0.05)
    assert "No threshold is left" in calibration.frames(good, THRESHOLDS, 200, 0.1, 0.05)(3)


def test_a_higher_loss_is_drawn_higher():
    """Guards an axis that runs the wrong way (y grows downwards in SVG)."""
    steps = calibration.walk(losses_of(0.0, 0.02, 0.3, 0.01), THRESHOLDS, 0.1, 0.05)
    frame = calibration.frames(steps, THRESHOLDS, 200, 0.1, 0.05)(2)
    dots = re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)" r="8"', frame)
    means, ps = [float(y) for y in dots[::2]], [float(y) for y in dots[1::2]]
    assert means[0] > means[1] > means[2] and ps[0] >= ps[1] > ps[2]


def test_resample_agrees_with_calibrate_on_the_same_draw():
    """Guards a shortcut (compare means with the largest passing one) that differs from the real procedure."""
    losses = losses_of(0.01, 0.045, 0.06, 0.3, n=120)
    quick = calibration.resample(losses, 0.1, 0.05, rounds=30, seed=7)
    generator = torch.Generator().manual_seed(7)
    slow = []
    for _ in range(30):
        drawn = losses[torch.randint(120, (120,), generator=generator)]
        slow.append(len(certified(drawn, THRESHOLDS, delta=0.1, epsilon=0.05)))
    assert quick == slow and len(set(quick)) > 1


def test_the_naive_rule_breaks_its_promise_and_the_test_keeps_it():
    """One threshold a little worse than δ: the naive rule takes it nearly every other time, the test at most 7.9 %
    (5 % and 3 standard errors of 500 rounds)."""
    losses = losses_of(0.01, 0.105, 0.4, 0.5)
    shares = {rule: calibration.broken(calibration.true_risks(losses, calibration.resample(losses, 0.1, rule)), 0.1)
              for rule in (0.05, None)}
    assert shares[0.05] <= 0.079 and 0.3 < shares[None] < 0.6


def test_full_model_has_no_risk():
    losses = losses_of(0.3, 0.3, 0.3, 0.3)
    assert set(calibration.true_risks(losses, calibration.resample(losses, 0.1, 0.05, rounds=20))) == {0.0}
    with pytest.warns(UserWarning, match="no threshold"):
        assert calibrate(losses, THRESHOLDS, delta=0.1, epsilon=0.05) == 1.0


def test_vocabulary_products():
    """Every exit passed costs one, and so does the end; measures that don't need it pay once."""
    layers = torch.tensor([4.0, 6.0, 10.0, 16.0], dtype=torch.float64)
    assert exit_cost.vocabulary_products("softmax @ 4, 6, 8, 10", (4, 6, 8, 10), layers, 16).tolist() == [1, 2, 4, 5]
    assert exit_cost.vocabulary_products("patience", range(1, 16), layers + 0.0, 16).tolist() == [4, 6, 10, 16]
    assert exit_cost.vocabulary_products("saturation", range(1, 16), layers, 16).tolist() == [1, 1, 1, 1]
    mixed = exit_cost.vocabulary_products("softmax", (4, 6, 8, 10), torch.tensor([10.0], dtype=torch.float64), 16)
    assert mixed.item() >= (1 + 5) / 2                                     # tokens at 4 and 16: never too little


def test_full_model_reads_its_weights_once():
    config = GPTConfig(8192, 16, 256, 4, 2, 64, 704, 1024)
    full = exit_cost.weight_megabytes(config, "saturation", range(1, 16), torch.tensor([16.0]))
    assert full.item() == pytest.approx(4 * (layer_weights(config) + head_weights(config)) / 1e6)


def test_decay_starts_above_in_the_paper_and_at_lambda_in_the_code():
    paper, released = (decay.curve(0.8, 4, 40, form) for form in ("paper", "released"))
    assert paper[0] == pytest.approx(0.82) and released[0] == pytest.approx(0.8)
    assert all(a > b for a, b in zip(paper, paper[1:], strict=False)) and min(released) > 0.72
    assert "0.820" in decay.view(0.8, 4, 40)


def test_charts_are_drawn():
    config = GPTConfig(8192, 16, 256, 4, 2, 64, 704, 1024)
    losses = losses_of(0.0, 0.05, 0.105, 0.4)
    one = {"name": "softmax @ 4, 6, 8, 10", "exits": [4, 6, 8, 10], "thresholds": THRESHOLDS, "textual": losses,
           "layers": torch.full((200, 4), 8.0, dtype=torch.float64)}
    risks = {rule: calibration.true_risks(losses, calibration.resample(losses, 0.1, level, rounds=20))
             for rule, level in ((calibration.TEST, 0.05), (calibration.NAIVE, None))}
    for chart in (calibration.walk_chart({"a": calibration.walk(losses, THRESHOLDS, 0.1, 0.05)}, 0.1, 0.05, 200),
                  calibration.kept_chart(risks, 0.1, 0.05),
                  calibration.promise_chart([0.05, 0.1], {calibration.TEST: [0, 0.01], calibration.NAIVE: [0, 0.5]},
                                            0.05, 500),
                  exit_cost.frontier(config, [one]), decay.chart(0.8, (1, 4), 40)):
        assert chart.png()[:4] == b"\x89PNG"
