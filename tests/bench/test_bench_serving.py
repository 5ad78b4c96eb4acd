"""The serving benchmark's ways to serve: all say the same as one at a time."""
import pytest
import torch
from core_helpers import tiny_model

from minilm.bench import serving

MODEL = tiny_model(dtype=torch.float64, max_positions=64)
REQUESTS = [([5, 6, 7, 8, 9], 4), ([3], 12), ([2, 4], 1), ([11] * 9, 7), ([60, 61, 62], 9)]


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_static_batches_say_the_same_as_one_at_a_time(batch):
    """Guards padding that is seen, positions that count it, and rows that run past their own output."""
    made = serving.static_batches(MODEL, REQUESTS, batch)
    assert made == serving.one_at_a_time(MODEL, REQUESTS)
    assert [len(text) for text in made] == [new for _, new in REQUESTS] and len(set(map(tuple, made))) == 5


def test_the_engine_says_the_same_as_one_at_a_time():
    """Guards answers handed back in the order in which they were done."""
    steps = []
    assert serving.engine(MODEL, REQUESTS, watch=steps.append) == serving.one_at_a_time(MODEL, REQUESTS)
    assert max(len(step.batch) for step in steps) == len(REQUESTS)
