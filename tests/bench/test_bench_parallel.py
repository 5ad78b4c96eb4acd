"""The benchmark of the cut model measures all it promises, and says what it could not measure."""
import pytest

from minilm.bench import parallel


def test_two_ranks_on_a_cpu():
    """Whole, share, share as DTensors and cut on the clock; logits agree; the share is half, less than a rank holds."""
    found = parallel.measure("minilm-1m", rounds=1, batches=(2,), context=8)
    assert [(row["kind"], row["batch"], len(row["seconds_per_step"])) for row in found["rows"]] == [
        (parallel.WHOLE, 2, 1), (parallel.SHARE, 2, 1), (parallel.ALONE, 2, 1), (parallel.CUT, 2, 1)]
    held = found["held"]
    c = parallel._config("minilm-1m")
    tied = 4 * c.vocab_size // 2 * c.width                          # where cut, the tied embedding has parted
    assert held[parallel.ALONE] == held[parallel.SHARE] + tied
    assert held[parallel.SHARE] * 2 > held[parallel.WHOLE] - 10**5 and held[parallel.SHARE] < held[parallel.CUT]
    assert found["accuracy"]["logits_off_by"] < 1e-3 < found["accuracy"]["logits_spread"]
    assert [row["bytes"] for row in found["all_reduce"]][0] == 4
    shown = parallel.show(found)
    assert "2 ranks; medians of 1 paired rounds" in shown and "was not measured" not in shown


def test_fewer_gpus_than_ranks_is_said():
    row = {"kind": parallel.WHOLE, "batch": 1, "seconds_per_step": [0.5]}
    shown = parallel.show({"model": "8b", "dtype": "bfloat16", "device": "cuda", "context": 9, "ranks": 2, "devices": 1,
                           "rounds": 1, "rows": [row], "all_reduce": [], "accuracy": None})
    assert "2 ranks need 2 GPUs and this machine has 1: the cut model, and with it the exchange, was not" in shown


@pytest.mark.parametrize("arguments, message", [
    ({"ranks": 3}, "cannot be dealt evenly to 3 ranks"), ({"device": "mps"}, "is not here to measure on")])
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        parallel.measure("minilm-1m", **arguments)
