"""The ceilings: counts are counts, rates are bytes and FLOPs over seconds."""
import torch
from core_helpers import one_thread  # noqa: F401

from minilm.bench import ceilings
from minilm.model import GPTConfig


def test_operations_are_counted():
    """Guards counts that depend on what runs beside, or leave out layers: each costs the same number."""
    assert ceilings.count(lambda: torch.ones(2) + 1) == 2
    launches, seconds = ceilings.operations(1)
    assert launches.per_layer == int(launches.per_layer) > 20 and launches.once > 0 and 0 < seconds < 1e-2
    again, _ = ceilings.operations(1)
    assert again == launches


def test_rates(monkeypatch):
    """Guards bytes or FLOPs of another product than the one that was timed: at 1 s a call, they are the rates."""
    monkeypatch.setattr(ceilings, "least", lambda run, rounds: 1.0)
    config = GPTConfig(16, 3, 8, 2, 1, 4, 5, 64)
    reads, multiplies = ceilings.products(config)
    assert reads == 4 * 3 * 8 * 10 and multiplies == 2 * 16 * 3 * 8 * 10
    found = ceilings.measure(config)
    assert found.torch.bytes_per_second == reads and found.lean.launch_seconds == 1 / ceilings.LAYERS
    assert found.lean.bytes_per_second == 3000 * 128 * 4


def test_the_best_run_counts(monkeypatch):
    """Guards a mean, which another program on the machine moves."""
    clock = iter([0.0, 5.0, 10.0, 11.0, 20.0, 29.0])
    monkeypatch.setattr(ceilings.time, "perf_counter", lambda: next(clock))
    assert ceilings.least(lambda: None, 3) == 1.0
