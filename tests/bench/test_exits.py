"""Early exit measured: the batched answers are the decoder's own, ROUGE-L, and the cost counted by hand."""
import random

import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401

from minilm.bench import cost, edit_tasks
from minilm.bench.exit_cost import mean_cost
from minilm.bench.exit_losses import ByPatience, answers, by_classifier, by_entropy, by_saturation, by_softmax, rouge_l
from minilm.decoding import Entropy, ExitClassifier, ExitHead, Patience, Saturation, SoftmaxResponse, early_exit
from minilm.decoding.early_exit import ExitPass

HEAD = ExitHead(torch.linspace(-1, 1, 24, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64))
FAMILIES = {
    "softmax": (by_softmax, SoftmaxResponse, 1, [0.01, 0.05, 0.2]),
    "saturation": (by_saturation, Saturation, 1, [0.2, 0.5, 0.8]),
    "entropy": (by_entropy, Entropy, -1, [1.5, 3.0, 4.0]),
    "classifier": (by_classifier(HEAD), lambda t: ExitClassifier(t, HEAD), 1, [0.3, 0.5, 0.7]),
    "patience": (None, Patience, 1, [1, 2, 3]),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_batch_answers_as_the_decoder_does(family):
    """Guards the shortcut: rows of many lengths and thresholds in one batch, each as if alone, to the layer."""
    measure, policy, sign, thresholds = FAMILIES[family]
    model = tiny_model(seed=3, dtype=torch.float64, num_layers=5)
    prompts = [[5, 17, 80], [4], [9, 9, 2, 44, 31], [60, 1]]
    rows = [(prompt, threshold) for prompt in prompts for threshold in thresholds]
    for exits in ((1, 2, 3, 4), (2, 4)):
        tokens, depths = answers(model, [row[0] for row in rows], torch.tensor([float(sign * t) for _, t in rows]), 12,
                                 measure or ByPatience(8), exits, None, batch_size=8)
        for (prompt, threshold), new, depth in zip(rows, tokens, depths, strict=True):
            alone = early_exit(model, prompt, 12, policy(threshold), exits=exits)
            assert (new, depth) == (alone.tokens, [step.layers for step in alone.trace]), (prompt, threshold, exits)
    assert len({layers for depth in depths for layers in depth}) > 1, "nothing left early: the test compares nothing"


def test_answers_end_at_the_end_token():
    model = tiny_model(seed=3, dtype=torch.float64)
    free, _ = answers(model, [[5, 17, 80]], torch.tensor([2.0]), 12, by_softmax, (1,), None)
    eos = free[0][4]
    tokens, depths = answers(model, [[5, 17, 80]], torch.tensor([2.0]), 12, by_softmax, (1,), eos)
    assert tokens[0] == free[0][: free[0].index(eos) + 1] and len(depths[0]) == len(tokens[0])


def test_rouge_l():
    """Against the longest common subsequence by brute recursion, and at the corners."""
    def longest(a: list[int], b: list[int]) -> int:
        if not a or not b:
            return 0
        if a[0] == b[0]:
            return 1 + longest(a[1:], b[1:])
        return max(longest(a[1:], b), longest(a, b[1:]))

    rng = random.Random(0)
    for _ in range(200):
        a, b = ([rng.randrange(4) for _ in range(rng.randint(1, 7))] for _ in range(2))
        assert rouge_l(a, b) == pytest.approx(2 * longest(a, b) / (len(a) + len(b)), abs=1e-12)
    assert (rouge_l([], []), rouge_l([], [1]), rouge_l([1, 2], [1, 2])) == (1.0, 0.0, 1.0)


def test_cost_by_hand():
    """One token leaves after 1 of 2 layers with 2 products, the next runs both and catches up one layer for it."""
    config = tiny_model().config
    layer, head = cost.layer_weights(config) // 2, cost.head_weights(config)
    kv_weights, kv = 2 * 24 * 2 * 8, 2 * 2 * 8 * 4
    trace = [ExitPass(3, 0, [1], 0.0, 2, (), 1, (0, 0)), ExitPass(1, 3, [2], 0.0, 1, (0.9, 0.8), 2, (0,)),
             ExitPass(1, 4, [3], 0.0, 2, (0.1,), 2, (0, 1))]
    parts = mean_cost(config, trace)
    attended = 1 * 4 + 2 * 5
    assert parts.layers.bytes == (4 * 3 * layer + kv * attended) / 2
    assert parts.layers.flops == (2 * 3 * layer + 4 * 6 * 8 * attended) / 2
    assert parts.head.bytes == 4 * head and parts.checks.bytes == 4 * head
    assert parts.projections.bytes == (4 * kv_weights + kv) / 2 and parts.projections.flops == kv_weights
    assert parts.total.bytes == sum(p.bytes for p in (parts.layers, parts.head, parts.checks, parts.projections))


def test_a_pass_of_all_layers_costs_what_plain_decoding_costs():
    """Guards a second accounting that drifts from `cost.forward_pass`."""
    config = tiny_model().config
    whole = mean_cost(config, [ExitPass(1, 9, [2], 0.0, 2, (), 1, (0, 0))]).total
    plain = cost.forward_pass(config, 1, 9)
    assert whole.flops == plain.flops
    assert whole.bytes == plain.bytes - cost.kv_bytes_per_token(config)     # the new token's keys: written, then read


def test_bad_input():
    assert_clear_error(lambda: mean_cost(tiny_model().config, []), ValueError, "no decode pass")
    assert_clear_error(lambda: edit_tasks.load(10**6), ValueError, "tasks")


def test_edit_tasks_have_one_right_answer_each():
    tasks = edit_tasks.load()
    assert len(tasks) == 400 and {task["kind"] for task in tasks} >= {"repeat", "correct", "replace", "reorder"}
    assert all(task["answer"] and task["prompt"] for task in tasks)
    assert all(task["answer"] in task["prompt"] for task in tasks if task["kind"] == "repeat")
