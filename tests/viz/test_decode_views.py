"""Pictures of a decode step: who is busy when, what states merge to, where a key lies. Counts and words, not looks."""
import math
import re

import pytest
import torch

from minilm.kernels.splits import merge_all
from minilm.viz import merging, multiprocessors, page_gather
from minilm.viz.multiprocessors import Launch, summary

SCORES = [0.4, 1.2, -0.6, 1.9, -1.0, 0.8, 0.1, 1.4, 0.3]
POINTS = [(math.cos(2.0 * i) * 2, math.sin(1.3 * i)) for i in range(9)]


def text(picture: str) -> str:
    """What a reader reads: no markup, no hover texts."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<title>.*?</title>", "", picture)))


# --- multiprocessors -------------------------------------------------------------------------------------------------

def test_full_waves_and_tails_are_counted():
    """Guards the numbers that the lesson quotes, and a picture that lets splitting look free of waves."""
    one, many = summary(Launch([8192])), summary(Launch([8192], splits=16))
    assert (one.programs, one.used, round(one.busy, 2)) == (8, 8, 0.06)
    assert (many.programs, many.used) == (128, 128) and one.seconds == pytest.approx(16 * many.seconds)
    assert one.seconds == pytest.approx(8192 * 512 / (3.0e12 / 132))
    tail = summary(Launch([4096] * 17))
    assert tail.programs == 136 and tail.seconds == pytest.approx(2 * summary(Launch([4096])).seconds)
    assert summary(Launch([4096] * 9, splits=2)).seconds == pytest.approx(summary(Launch([4096] * 9)).seconds)


@pytest.mark.parametrize("launch", [Launch([100, 7, 64], splits=4, processors=5), Launch([9], splits=16),
                                    Launch([100, 7, 64], split_size=32, processors=3), Launch([5, 5], kv_heads=1)])
def test_every_key_is_read_once_and_nobody_runs_two_programs(launch):
    keys = {row: 0 for row in range(len(launch.lengths))}
    for row, _, count in launch.pieces():
        keys[row] += count
    assert keys == {row: length * launch.kv_heads for row, length in enumerate(launch.lengths)}
    ran = launch.programs()
    for processor in range(launch.processors):
        mine = sorted((p for p in ran if p.processor == processor), key=lambda p: p.start)
        assert all(a.stop <= b.start for a, b in zip(mine, mine[1:], strict=False))
    told = summary(launch)
    assert told.busy == pytest.approx(sum(p.stop - p.start for p in ran) / told.seconds / launch.processors)


def test_a_launch_is_told():
    assert "8 programs on 8 of 132 multiprocessors, 6% busy" in text(multiprocessors.view(Launch([8192])))
    assert "124 idle" in text(multiprocessors.view(Launch([8192])))
    ragged = text(multiprocessors.view(Launch([4096, 1000], split_size=1024)))
    assert "2 rows of 1,000 to 4,096 keys" in ragged and "splits of 1,024 keys: 40 programs" in ragged
    assert "512 programs in 4 waves" in text(multiprocessors.view(Launch([64] * 64)))
    assert "more than can be drawn" in text(multiprocessors.view(Launch([64] * 64, splits=16)))
    half = multiprocessors.view(Launch([64]), against=2 * summary(Launch([64])).seconds)
    assert f'height="{multiprocessors.HIGH / 2:.1f}"' in half
    for wrong in ({"lengths": [0]}, {"lengths": []}, {"lengths": [4], "splits": 0}, {"lengths": [4], "split_size": -1}):
        with pytest.raises(ValueError, match="at least one"):
            multiprocessors.summary(Launch(**wrong))


# --- states ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("sizes", [[9], [3, 3, 3], [3, 3, 3, 0], [0, 9], [1, 0, 0, 5, 3], [0, 0, 9, 0, 0, 0]])
def test_states_merge_to_the_whole(sizes):
    """Guards a picture of another operator than the package's, and empty splits that move something."""
    whole = merging.state("X", range(9), SCORES, POINTS)
    walk = merging.walk(SCORES, POINTS, sizes)
    last, = walk.steps[-1]
    assert len(walk.steps) == 2 * len(sizes) - 1 and sorted(last.keys) == list(range(9))
    assert last.lse == pytest.approx(whole.lse) and last.out == pytest.approx(whole.out)
    splits = walk.steps[len(sizes) - 1]
    out, lse = merge_all(torch.tensor([s.out for s in splits], dtype=torch.float64),
                         torch.tensor([s.lse for s in splits], dtype=torch.float64))
    assert lse.item() == pytest.approx(whole.lse) and out.tolist() == pytest.approx(list(whole.out))
    assert len(merging.frames(walk)) == len(walk.steps)


def test_states_are_told():
    walk = merging.walk(SCORES, POINTS, [3, 3, 3, 0])
    pictures = [text(picture) for picture in merging.frames(walk)]
    share = math.exp(walk.steps[3][1].lse - walk.steps[4][0].lse)
    assert "split B has keys 3 to 5" in pictures[1]
    assert "no keys at all: lse is −∞" in pictures[3] and "none −∞ 0 any" in pictures[3]
    assert f"since B has {share:.0%} of the mass" in pictures[4]
    assert "one weighs nothing, and nothing moves" in pictures[5]
    assert "That is the whole attention" in pictures[6] and "whole" not in pictures[5]
    both = merging.merge(*(merging.state(name, (), SCORES, POINTS) for name in "AB"))
    assert both.lse == -math.inf and both.out == (0.0, 0.0)
    for wrong in (lambda: merging.walk(SCORES, POINTS[:3], [9]), lambda: merging.walk(SCORES, POINTS, [4, 4]),
                  lambda: merging.walk([], [], []), lambda: merging.frame(walk, 7)):
        with pytest.raises(ValueError, match="at least one|not 7"):
            wrong()


# --- pages -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("page", "tile"), [(4, 8), (4, 2), (4, 4), (8, 16)])
def test_the_gather_reads_every_key_once(page, tile):
    """Guards lanes past the end that read, and keys shown in another's block."""
    case = page_gather.Gather((5, 2, 7, 0), page, 14, tile)
    pictures = page_gather.frames(case)
    assert len(pictures) == -(-14 // tile)
    read = [int(key) for picture in pictures for key in re.findall(r": key (\d+), read now</title>", picture)]
    assert sorted(read) == list(range(14))
    pool = torch.arange(8 * page)
    table = torch.tensor(case.blocks)
    assert [case.slot(j) for j in range(14)] == [int(pool.view(8, page)[table].flatten()[j]) for j in range(14)]
    assert sum(picture.count("past the end: masked</title>") for picture in pictures) == len(pictures) * tile - 14


def test_the_gather_is_told():
    case = page_gather.Gather((5, 2, 7, 0), 4, 14, 8)
    assert "keys 0 to 7: entry j // 4, place j % 4, from blocks 5 and 2" in text(page_gather.frame(case, 0))
    assert "from blocks 7 and 0; 2 lanes past the end masked" in text(page_gather.frame(case, 1))
    assert "from block 2" in text(page_gather.frame(page_gather.Gather((5, 2), 4, 8, 2), 2))
    for wrong in (lambda: page_gather.Gather((5,), 4, 5, 8), lambda: page_gather.Gather((5, 5), 4, 8, 8),
                  lambda: page_gather.Gather((9,), 4, 4, 8), lambda: page_gather.Gather((5,), 4, 4, 6),
                  lambda: page_gather.frame(case, 2)):
        with pytest.raises(ValueError, match="fit|different|power of two|not 2"):
            wrong()
