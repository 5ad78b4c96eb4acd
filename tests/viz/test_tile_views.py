"""Pictures of programs, bytes and running sums show what kernels do: places, counts and words are tested, not looks."""
import math
import re

import pytest
import torch

from minilm.kernels.backend import INTERPRETED, tl, triton
from minilm.viz import row_traffic, running, tiles

ROW = [math.sin(1.7 * i) * 1.5 + 0.12 * i for i in range(22)]


def text(picture: str) -> str:
    """What a reader reads: no markup, no hover texts."""
    return re.sub(r"<[^>]*>", " ", re.sub(r"<title>.*?</title>", "", picture))


@triton.jit
def who_kernel(out, program_row, N, BY_ROW: tl.constexpr, TILE: tl.constexpr):
    lanes = tl.arange(0, TILE)
    offsets = tl.program_id(0) * program_row + lanes
    inside = lanes < N if BY_ROW else offsets < N
    tl.store(out + offsets, tl.program_id(0), mask=inside)


@pytest.mark.skipif(not INTERPRETED, reason="asks a kernel in the interpreter")
@pytest.mark.parametrize(("launch", "row", "N", "by_row", "tile"), [
    (tiles.vector(19, 8), 8, 19, False, 8), (tiles.vector(16, 8), 8, 16, False, 8),
    (tiles.vector(1, 4), 4, 1, False, 4), (tiles.rows(3, 5, 8), 5, 5, True, 8),
    (tiles.rows(3, 5, 8, row=7), 7, 5, True, 8), (tiles.rows(2, 8, 8), 8, 8, True, 8),
])
def test_programs_own_what_a_kernel_writes(launch, row, N, by_row, tile):
    """Guards a picture of another kernel than Triton runs: every program writes its own number into memory."""
    out = torch.full((launch.places + tile,), -1, dtype=torch.int32)
    who_kernel[(len(launch.programs),)](out, row, N, BY_ROW=by_row, TILE=tile)
    for program in launch.programs:
        assert (out == program.number).nonzero().flatten().tolist() == list(program.inside())
    mine = {place for places in launch.rows for place in places}
    assert {i for i, owner in enumerate(out.tolist()) if owner >= 0} == mine


def test_lanes_are_told_apart():
    launch = tiles.vector(19, 8)
    last = tiles.frame(launch, 2)
    assert last.count("masked: neither loads nor stores") == 5 and last.count(": inside</title>") == 3
    assert "switches 5 lanes off" in text(last) and "all inside" in text(tiles.frame(launch, 0))
    bare = tiles.frame(launch, 2, masked=False)
    assert bare.count("outside, and not masked") == 5 and "5 lanes outside of what is its own" in text(bare)
    assert last.count("<polygon") == 3 and bare.count("<polygon") == 8, "an arrow for each lane that touches memory"
    assert len(tiles.frames(launch)) == 3


def test_memory_between_rows_is_anothers():
    picture = tiles.frame(tiles.rows(3, 5, 8, row=7), 0)
    assert picture.count(": another's</title>") == 7            # two gaps, and behind row 2 as far as a lane stands
    assert "row 2" in text(picture) and "switches 3 lanes off" in text(picture)


@pytest.mark.parametrize("make", [lambda: tiles.vector(5, 6), lambda: tiles.vector(0, 4), lambda: tiles.rows(2, 9, 8),
                                  lambda: tiles.rows(2, 5, 8, row=4), lambda: tiles.frame(tiles.vector(5, 4), 2)])
def test_bad_launches_are_refused(make):
    with pytest.raises(ValueError, match="not"):
        make()


def test_traffic_is_counted_from_the_operations():
    """Guards the ratio that the lesson quotes: five reads and three writes of the matrix against one and one."""
    M, N = 7, 1000
    assert row_traffic.moved(row_traffic.naive(M, N)) == 8 * M * N + 4 * M
    assert row_traffic.moved(row_traffic.fused(M, N), size=2) == 4 * M * N
    assert row_traffic.moved(row_traffic.fused(M, 16385, longest=16384)) == 3 * M * 16385
    said = text(row_traffic.view(4096))
    assert "4.0 times less" in said and "268 MB, at least 89.5 µs" in said and "67.1 MB, at least 22.4 µs" in said
    assert "50 MB cache" not in said and "50 MB cache" in text(row_traffic.view(512))
    assert "the row read twice" in text(row_traffic.view(131072))


@pytest.mark.parametrize("tile", [1, 4, 7, 22, 64])
def test_the_walk_ends_at_softmaxs_maximum_and_sum(tile):
    steps = running.walk(ROW, tile)
    assert len(steps) == -(-22 // tile)
    for step in steps:
        seen = ROW[: step.stop]
        assert step.m == max(seen) and step.l == pytest.approx(sum(math.exp(x - step.m) for x in seen), rel=1e-12)
    assert running.walk([1e4, -1e4, 1e4 + 1], 1)[-1].l == pytest.approx(1 + math.exp(-1))


def test_the_walk_is_told():
    steps = running.walk(ROW, 4)
    first, third, last = (text(running.frame(ROW, steps, n)) for n in (0, 2, 5))
    assert "nothing to correct" in first and "old m" not in first
    assert f"m rises from {steps[2].m_before:.2f} to {steps[2].m:.2f}" in third and "old m" in third
    assert f"= {steps[-1].l:.3f}" in last
    assert running.frame(ROW, steps, 1).count("in this tile</title>") == 4
    assert len(running.frames(ROW, steps)) == 6
    for wrong in (lambda: running.frame(ROW, steps, 6), lambda: running.walk([], 4), lambda: running.walk(ROW, 0)):
        with pytest.raises(ValueError, match="at least one|not 6"):
            wrong()
