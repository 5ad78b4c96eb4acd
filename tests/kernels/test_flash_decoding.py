"""Flash-Decoding against float64: the kernel itself, interpreted on the CPU (compiled where there is a GPU).

Each `check_...` can be run on its own; `mutants.kernels_decoding` names the check that each wrong version must fail.
"""
import importlib
import itertools
import math

import pytest
import torch
from decode_cases import error, oracle, poison, tensors, unwritten_is_nan  # noqa: F401
from kernel_helpers import DEVICE, the_tests_of
from mutants import kernels_decoding as mutants

from minilm import kernels
from minilm.kernels import reference

split_kv = importlib.import_module("minilm.kernels.split_kv")
LENGTHS = [1, 15, 16, 17, 77, 130]
BOUND = {torch.float32: 1e-5, torch.float16: 2e-3}
# (head size, query heads to a key-value head, dtype): every size and every group, in both dtypes
SHAPES = [(32, 1, torch.float32), (64, 2, torch.float32), (80, 3, torch.float32), (96, 4, torch.float32),
          (128, 7, torch.float32), (64, 8, torch.float32), (128, 1, torch.float16), (32, 7, torch.float16),
          (96, 8, torch.float16), (80, 4, torch.float16), (32, 3, torch.float16), (64, 2, torch.float16)]


def run(q, k, v, lengths, tile=16, **options):
    """The kernel with tiles of 16 keys, so that short rows have many; q[B, H, D]."""
    lengths = torch.as_tensor(lengths, dtype=torch.int32, device=q.device)
    return split_kv.attend(q[:, None], k, v, lengths, tile=tile, **options)[:, 0]


def case(D, group, dtype=torch.float32, lengths=LENGTHS, S=192, scale=1.0):
    q, k, v = tensors(len(lengths), 1, 2 if group < 3 else 1, group, D, S, dtype, DEVICE, scale)
    exact = oracle(q, k, v, lengths)[:, 0]
    poison(k, v, lengths)
    return q[:, 0], k, v, exact


def check_ragged(shapes=SHAPES):
    """Ragged rows, every head size and group, whatever lies past a row's end; in one split, in a few."""
    for (D, group, dtype), options in zip(shapes, itertools.cycle(
            [{"num_splits": 3}, {"num_splits": 1}, {"split_size": 40}, {"num_splits": 4}])):
        torch.manual_seed(D + group)
        q, k, v, exact = case(D, group, dtype)
        out = run(q, k, v, LENGTHS, tile=32, **options)
        assert error(out, exact) <= BOUND[dtype], (D, group, dtype, options)


def check_number_of_splits():
    """The answer is the same for 1 to 64 splits, most of them empty in the end, and for any split size."""
    torch.manual_seed(0)
    lengths = [17, 130]
    q, k, v, exact = case(32, 4, lengths=lengths)
    whole = run(q, k, v, lengths, num_splits=1)
    assert error(whole, exact) <= 1e-5
    for options in ({"split_size": n} for n in (20, 48, 129)):
        assert error(run(q, k, v, lengths, **options), whole.double()) <= 2e-6, options
    for options in ({"num_splits": n} for n in (2, 3, 5, 9, 64)):
        assert error(run(q, k, v, lengths, **options), whole.double()) <= 2e-6, options


def check_empty_rows():
    """A row without keys gives zeros, alone and beside others."""
    for lengths, options in (([0, 33], {"num_splits": 4}), ([0, 0], {"num_splits": 1}), ([40, 0], {"split_size": 16})):
        q, k, v, exact = case(32, 4, lengths=lengths, S=40)
        out = run(q, k, v, lengths, **options)
        assert error(out, exact) <= 1e-5 and not out[torch.tensor(lengths, device=out.device) == 0].any(), lengths


def check_large_scores():
    """Scores of ±1e4, the largest in the first split, in the last, and in between: no overflow, no nan."""
    for dtype in (torch.float32, torch.float16):
        for where in (0, 77, 129):
            torch.manual_seed(where)
            q, k, v, _ = case(64, 2, dtype, [130], S=130, scale=100.0)
            k[0, :, where] = q[0].view(2, 2, -1)[:, 0] * (800 / 1e4)          # one key that outweighs all others
            exact = oracle(q[:, None], k, v, [130])[:, 0]
            scores = q[0].view(2, 2, -1).double() @ k[0].double().transpose(1, 2) / 8
            assert scores.abs().max() > 5e3
            assert error(run(q, k, v, [130], num_splits=4), exact) <= BOUND[dtype], (dtype, where)


def check_chunks():
    """More splits than the merge reads at once; the later ones hold the larger scores. Fewer than there is room for."""
    q, k, v, _ = case(32, 1, lengths=[576], S=576)
    k[:, :, 512:] = q[0].view(1, -1, 1, 32) + k[:, :, 512:]          # scores of about 6: those of splits 32 to 35
    for num_splits in (36, 50):
        assert error(run(q, k, v, [576], num_splits=num_splits), oracle(q[:, None], k, v, [576])[:, 0]) <= 1e-5


def check_strides():
    """k and v cut out of a larger buffer, and with tokens before heads: where key j lies is the strides' business."""
    torch.manual_seed(0)
    q, k, v, exact = case(32, 2, lengths=[30, 44], S=44)
    wide = torch.full((2, 3, 2, 50, 32), math.nan, device=DEVICE)
    wide[:, 1, :, 4:48], wide[:, 2, :, 4:48] = k, v
    tokens_first = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (k, v)]
    for other in ((wide[:, 1, :, 4:48], wide[:, 2, :, 4:48]), tokens_first, (k, tokens_first[1])):
        assert error(run(q, *other, [30, 44], num_splits=2), exact) <= 1e-5
    q_wide = torch.stack((q, q + 1), 2)
    assert error(run(q_wide[:, :, 0], k, v, [30, 44], num_splits=2), exact) <= 1e-5


CHECKS = {check.__name__: check for check in (
    check_ragged, check_number_of_splits, check_empty_rows, check_large_scores, check_chunks, check_strides)}
test_check_holds, test_mutant_is_rejected = the_tests_of(CHECKS, mutants.DECODE)


@pytest.mark.parametrize("options", [{}, {"num_splits": 2}, {"split_size": 64}])
def test_the_function(options):
    """Guards the way from the public name to the kernel, and the reference beside it."""
    lengths = torch.tensor([130, 77], device=DEVICE)
    q, k, v, exact = case(80, 4, lengths=[130, 77])
    assert error(kernels.flash_decoding(q, k, v, lengths, **options), exact) <= 1e-5
    assert error(reference.flash_decoding(q.double(), k.double(), v.double(), lengths), exact) <= 1e-12


def test_bad_input_is_refused():
    """Guards a launch that reads past its tensors."""
    q, k, v, _ = case(32, 2, lengths=[20, 20], S=20)
    lengths = torch.tensor([20, 20], device=DEVICE)
    refuse = [
        ((q[0], k, v, lengths), {}, ValueError, "q must have shape"),
        ((q, k[:1], v, lengths), {}, ValueError, "k must have shape"),
        ((q, k, v[:, :, :19], lengths), {}, ValueError, "v must have shape"),
        ((q, k, v[:, :1], lengths), {}, ValueError, "v must have shape"),
        ((q[:, :3], k, v, lengths), {}, ValueError, "evenly"),
        ((q[..., :20], k[..., :20], v[..., :20], lengths), {}, ValueError, "head size 20 is not supported"),
        ((q, k.half(), v, lengths), {}, TypeError, "give one dtype"),
        ((q.double(), k.double(), v.double(), lengths), {}, TypeError, "float64"),
        ((q, k, v, lengths.float()), {}, TypeError, "lengths"),
        ((q, k, v, lengths[:1]), {}, ValueError, "lengths must have shape"),
        ((q, k.to("meta"), v, lengths), {}, ValueError, "move them to one device"),
        ((q, k, v, lengths), {"num_splits": 0}, ValueError, "num_splits must be a whole number of at least 1"),
        ((q, k, v, lengths), {"split_size": -4}, ValueError, "split_size must be a whole number of at least 1"),
        ((q, k, v, lengths), {"num_splits": 2, "split_size": 16}, ValueError, "not both"),
    ]
    if DEVICE == "cpu":
        refuse += [((q, k, v, lengths + 1), {}, ValueError, "lengths must be from 0 to 20"),
                   ((q, k, v, lengths - 21), {}, ValueError, "lengths must be from 0 to 20"),
                   ((q.bfloat16(), k.bfloat16(), v.bfloat16(), lengths), {}, TypeError, "bfloat16")]
    for arguments, options, kind, message in refuse:
        with pytest.raises(kind, match=message):
            kernels.flash_decoding(*arguments, **options)
