"""Pictures of FlashAttention show what it does: tiles, running sums and bytes are tested against brute force."""
import math
import re

import pytest
import torch

from minilm.kernels import reference
from minilm.viz import attention_traffic, flash_tiles, rescaled
from minilm.viz.flash_tiles import DIAGONAL, FULL, SKIPPED, Grid

GRIDS = [Grid(16, 0, 4, 4), Grid(12, 5, 4, 4), Grid(17, 3, 8, 4), Grid(1, 20, 16, 8), Grid(9, 0, 2, 16),
         Grid(5, 5, 3, 1)]


def text(picture: str) -> str:
    """What a reader reads: no markup, no hover texts."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<title>.*?</title>", "", picture)))


def scores_of(T: int, S: int) -> list[list[float]]:
    return [[2 * math.sin(1.7 * (t * S + s)) + 0.1 * s for s in range(S)] for t in range(T)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_kinds_are_what_the_mask_says(grid):
    """Guards a tile that is skipped though someone sees it, or left unmasked though someone doesn't."""
    seen = reference.visible(torch.tensor([grid.S]), grid.T, grid.S, True)[0]
    for program in range(grid.programs):
        for column in range(grid.columns):
            keys = grid.keys(column)
            part = seen[list(grid.queries(program))][:, list(keys)]
            whole = bool(part.all()) and len(keys) == grid.tile
            want = FULL if whole else DIAGONAL if part.any() else SKIPPED
            assert grid.kind(program, column) == want
    assert sum(grid.count().values()) == grid.programs * grid.columns


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_walk_ends_at_each_rows_maximum_and_sum(grid):
    scores = scores_of(grid.T, grid.S)
    steps = flash_tiles.walk(scores, grid)
    assert len(steps) == grid.count()[FULL] + grid.count()[DIAGONAL]
    for program in range(grid.programs):
        last = [step for step in steps if step.program == program][-1]
        for query, m, l in zip(grid.queries(program), last.m, last.l, strict=True):
            seen = scores[query][: grid.prefix + query + 1]
            assert m == max(seen) and l == pytest.approx(sum(math.exp(x - m) for x in seen), rel=1e-12)


def test_tiles_are_told_apart():
    grid = Grid(16, 0, 4, 4)
    steps = flash_tiles.walk(scores_of(16, 16), grid)
    fifth = flash_tiles.frame(grid, steps, 4)
    assert "tile 5 of 10" in text(fifth) and "full: no mask" in text(fifth)
    assert fifth.count("done, its scores are gone") == 4 and fifth.count("skipped, never touched") == 6
    assert fifth.count("to come") == 5 and fifth.count("exp(score − m) = ") == 16
    last = flash_tiles.frame(grid, steps, 9, [f"t{i}" for i in range(16)])
    assert "diagonal: masked" in text(last) and text(last).count("−∞") == 6 + 1 and " t15 " in text(last)
    assert len(flash_tiles.frames(grid, steps)) == 10


def test_overview_counts():
    said = text(flash_tiles.overview(Grid(12, 5, 4, 4)))
    assert "6 full, 6 with a mask, 3 skipped; 12 of 15 tiles are computed (80%)" in said
    assert " full mask mask skip skip full full mask mask skip full full full mask mask " in said


def test_the_accumulator_ends_at_attention():
    """Guards a correction forgotten or made twice."""
    scores, S, D = scores_of(1, 14)[0], 14, 3
    values = [[math.cos(i + d) for d in range(D)] for i in range(S)]
    want = torch.tensor(scores, dtype=torch.float64).softmax(0) @ torch.tensor(values, dtype=torch.float64)
    for tile in (1, 4, 14, 20):
        steps = rescaled.walk(scores, values, tile)
        assert rescaled.answer(steps) == pytest.approx(want.tolist(), rel=1e-12)
    steps = rescaled.walk(scores, values, 4)
    for step in steps[1:]:
        assert step.kept == pytest.approx([a * step.sums.factor for a in step.before])
    pictures = rescaled.frames(scores, steps)
    assert len(pictures) == 5 and "nothing to correct" in text(pictures[0])
    assert f"× {steps[2].sums.factor:.3f}" in text(pictures[2])
    assert "accumulator / l" in text(pictures[4]) and f"{want[0]:.2f}" in text(pictures[4])


def test_bytes_are_counted_from_the_operations():
    """Guards the ratios that the lesson quotes."""
    T, D = 4096, 128
    assert sum(s.moved for s in attention_traffic.naive(T, D)) == 4 * T * T + 4 * T * D
    one = attention_traffic.tiled(T, D, 128)
    assert one.read + one.written == 4 * T * D and one.moved == 2 * T * D + 32 * 2 * T * D
    assert attention_traffic.tiled(T, D, T).cached == 0
    assert attention_traffic.intensity(T, D, 4 * T * D) == T / 2
    assert attention_traffic.intensity(T, D, 4 * T * T) == D / 2
    said = text(attention_traffic.view(4096))
    assert "4.43 GB, 62 FLOP a byte" in said and "134 MB, 2,048 FLOP a byte" in said and "2.08 GB" in said
    assert "1 program a head" in text(attention_traffic.view(128))


@pytest.mark.parametrize("make", [
    lambda: Grid(0, 0, 4, 4), lambda: Grid(4, -1, 4, 4), lambda: flash_tiles.walk([[0.0]], Grid(2, 0, 1, 1)),
    lambda: flash_tiles.frame(Grid(1, 0, 1, 1), flash_tiles.walk([[0.0]], Grid(1, 0, 1, 1)), 1),
    lambda: rescaled.walk([1.0], [], 1), lambda: rescaled.walk([], [], 1), lambda: attention_traffic.view(0),
    lambda: rescaled.frame([1.0], rescaled.walk([1.0], [[1.0]], 1), 2),
])
def test_bad_input_is_refused(make):
    with pytest.raises(ValueError, match="must|not|give"):
        make()
