"""Tests of minilm.bench.limits: the roof's arithmetic exactly, the measurements for sanity."""
import pytest
import torch

from minilm.bench import limits
from minilm.bench.limits import Limits

ROOF = Limits("toy", reads=(8.0, 10.0, 9.0), multiplies=(30.0, 40.0))


def test_the_best_run_counts():
    """Guards a median: on a busy machine it lies below what a pass then reaches, and fractions exceed 1."""
    assert (ROOF.bytes_per_second, ROOF.flops_per_second, ROOF.ridge) == (10, 40, 4)


def test_roof_is_slanted_then_flat():
    """Guards min and max swapped, or the ridge on the wrong side."""
    assert [ROOF.attainable(x) for x in (0.5, 2, 4, 100)] == [5, 20, 40, 40]


@pytest.mark.parametrize(("flops", "num_bytes", "want"), [(40, 1, 1), (1, 20, 2), (80, 20, 2)])
def test_seconds_is_the_slower_of_the_two(flops, num_bytes, want):
    """Guards a sum in place of a maximum."""
    assert ROOF.seconds(flops, num_bytes) == want


def test_seconds_agrees_with_the_roof():
    """Guards two formulas that drift apart: flops / attainable(flops / bytes) is the same time."""
    for flops, num_bytes in ((1, 3), (12, 3), (500, 3)):
        assert flops / ROOF.attainable(flops / num_bytes) == pytest.approx(ROOF.seconds(flops, num_bytes))


def test_measure_returns_every_sample():
    """Guards lost samples and rates in wrong units: any machine reads 0.05 to 100,000 GB/s."""
    found = limits.measure("cpu", megabytes=64, repeats=2)
    assert len(found.reads) == 4 and len(found.multiplies) == 6
    assert 5e7 < found.bytes_per_second < 1e14 and 1e8 < found.flops_per_second < 1e16
    assert "this CPU" in str(found) and "GB/s" in str(found)


def test_time_runs_warms_up_once_and_keeps_order():
    """Guards the first, cold run being counted."""
    calls = []
    assert len(limits.time_runs(lambda: calls.append(1), 3)) == 3
    assert len(calls) == 4


def test_rates_are_work_over_time(monkeypatch):
    """Guards n³ in place of 2n³, and elements in place of bytes."""
    monkeypatch.setattr(limits, "time_runs", lambda run, repeats, device="cpu": [2.0] * repeats)
    assert limits.read_rates("cpu", megabytes=1, repeats=1) == (2 ** 19, 2 ** 19)
    assert limits.matrix_rates("cpu", (10,), repeats=2) == (1000.0, 1000.0)


@pytest.mark.parametrize("call", [
    lambda: limits.measure("mps"), lambda: limits.measure(megabytes=0), lambda: limits.measure(repeats=0),
    lambda: Limits("x", (), (1.0,)), lambda: Limits("x", (1.0,), (0.0,)), lambda: ROOF.attainable(0)])
def test_bad_input_is_one_clear_error(call):
    """Guards a crash deep inside PyTorch, or a silent infinity."""
    with pytest.raises(ValueError, match="device|at least|above 0"):
        call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said():
    with pytest.raises(ValueError, match="there is cpu"):
        limits.measure("cuda")


@pytest.mark.gpu
def test_measure_on_a_gpu():
    """Guards timing the launch and not the work: no GPU reads above 20 TB/s."""
    found = limits.measure("cuda", megabytes=1024, repeats=3)
    assert 5e10 < found.bytes_per_second < 2e13
