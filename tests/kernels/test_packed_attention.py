"""Packed attention against float64, text by text: pieces of all lengths side by side, behind what was read before."""
import importlib
from types import SimpleNamespace

import pytest
import torch
from core_helpers import assert_clear_error
from kernel_helpers import DEVICE, SHORT, assert_close, randn, the_tests_of
from mutants import kernels_many as wrong

from minilm.kernels import reference

pa = importlib.import_module("minilm.kernels.packed_attention")


def packed(pieces, like):
    """pieces: (tokens held, new tokens) of each text, one after another; None: a row that is nobody's."""
    first, last, start = [], [], 0
    for piece in pieces:
        held, new = piece or (0, 1)
        first += [start if piece else -1] * new
        last += list(range(start + held, start + held + new)) if piece else [-1]
        start += held + new if piece else 0
    return pa.Packing(torch.tensor(first), torch.tensor(last), like), start


def judge(pieces, H=2, K=1, D=32, dtype=torch.float32, spoil=False):
    """Each text by `reference.attention` alone. spoil: keys and values of every second text are nan."""
    packing, S = packed(pieces, randn(1, K, D, dtype=dtype))
    q = randn(len(packing.first), H, D, dtype=dtype)
    k, v = randn(S, K, D, dtype=dtype, seed=1), randn(S, K, D, dtype=dtype, seed=2)
    row = start = 0
    spans = []
    for i, piece in enumerate(pieces):
        held, new = piece or (0, 1)
        if piece:
            spans.append((slice(row, row + new), slice(start, start + held + new)))
            start += held + new
            if spoil and i % 2:
                k[spans[-1][1]] = v[spans[-1][1]] = torch.nan
        row += new
    out = torch.full((len(q) + 64, H, D), 7, dtype=dtype, device=q.device)[: len(q)]   # a wrong version goes past it
    assert pa.packed_attention(q, k, v, packing, out=out) is out
    for i, (rows, keys) in enumerate(spans):
        if not (spoil and i % 2):
            some = (x[at].transpose(0, 1)[None].double() for x, at in ((q, rows), (k, keys), (v, keys)))
            assert_close(out[rows], reference.attention(*some, causal=True)[0].transpose(0, 1), dtype, f"text {i}")
    nobody = torch.ones(len(q), dtype=torch.bool, device=q.device)
    for rows, _ in spans:
        nobody[rows] = False
    assert bool((out[nobody] == 7).all()), "relative error: rows of others were written"


def check_lengths():
    """Shorter than a tile, a tile, more; the last tile of one text ends inside the next."""
    judge([(0, 5), (0, 32), (0, 1), (0, 70), (0, 33)])


def check_held():
    """Behind keys from before, whole tiles of them and less; down to one new token."""
    judge([(64, 3), (7, 40), (33, 1), (0, 20), (100, 33)])


def check_nobody():
    """Rows of others before, between and behind are left alone."""
    judge([None, (0, 40), None, None, (9, 3), None])


def check_apart():
    """Another text's nan is nobody else's: 0 · nan would be nan."""
    judge([(0, 37), (3, 9), (40, 11), (0, 5), (0, 3)], spoil=True)


def check_heads():
    judge([(3, 40), (0, 6)], H=6, K=2)
    judge([(3, 40), (0, 6)], H=3, K=3, D=48)


def check_half():
    judge([(3, 40), (0, 6)], dtype=torch.float16)


CHECKS = {name: check for name, check in list(globals().items()) if name.startswith("check_")}
test_check_holds, test_mutant_is_rejected = the_tests_of(CHECKS, wrong.PACKED, says="relative error")


def test_the_reference():
    """Guards a reference that shares the kernel's mistake: by `reference.attention`, float64, gaps in what is seen."""
    packing = SimpleNamespace(first=torch.tensor([0, 0, -1, 4]), last=torch.tensor([1, 3, -1, 3]))
    q, k, v = (randn(n, 2, 16, dtype=torch.float64, seed=n) for n in (4, 6, 5))
    k = k[:5]
    got = reference.packed_attention(q, k, v, packing)
    for row, keys in ((0, 2), (1, 4)):
        one = [x.transpose(0, 1)[None] for x in (q[row : row + 1], k[:keys], v[:keys])]
        torch.testing.assert_close(got[row], reference.attention(*one, causal=True)[0, :, 0])
    assert not got[2:].any()                                    # nobody's; and one that sees no key


def test_a_query_that_sees_nothing_gets_zeros():
    first, last = torch.tensor([0, 0, 3]), torch.tensor([-1, 1, 2])
    q, k = randn(3, 2, 16), randn(4, 2, 16, seed=1)
    got = pa.packed_attention(q, k, k, pa.Packing(first, last, q))
    assert not got[0].any() and not got[2].any() and got[1].all()


def test_any_strides():
    """Guards heads before tokens, as the model's own modules have them."""
    packing, S = packed([(2, 30), (0, 5)], randn(1, 1, 32))
    q, k, v = randn(35, 2, 32), randn(S, 1, 32, seed=1), randn(S, 1, 32, seed=2)
    apart = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k, v)]
    assert torch.equal(pa.packed_attention(*apart, packing), pa.packed_attention(q, k, v, packing))


def test_nobody_at_all():
    q = randn(2, 1, 16)
    packing = pa.Packing(torch.tensor([-1, -1]), torch.tensor([-1, -1]), q)
    assert not pa.packed_attention(q, q, q, packing).any()


def call(q=(3, 2, 16), k=(4, 1, 16), v=(4, 1, 16), out=None, T=3):
    like = randn(*q)
    packing = pa.Packing(torch.zeros(T, dtype=torch.long), torch.arange(T), like)
    return pa.packed_attention(like, randn(*k), randn(*v), packing, out=out)


@pytest.mark.parametrize(("case", "kind", "says"), [
    (lambda: call(T=4), ValueError, "q must have shape [T=4, H, D]; it has [3, 2, 16]"),
    (lambda: call(k=(4, 1, 32)), ValueError, "k must have shape [S, K, D=16]"),
    (lambda: call(v=(5, 1, 16)), ValueError, "v must have shape [S=4, K=1, D=16]"),
    (lambda: call(q=(3, 3, 16), k=(4, 2, 16), v=(4, 2, 16)), ValueError, "3 query heads cannot share 2"),
    (lambda: call(out=randn(3, 2, 32)), ValueError, "out must have shape [T=3, H=2, D=16]"),
    (lambda: call(out=randn(2, 3, 16).transpose(0, 1)), ValueError, "out must be contiguous"),
    (lambda: pa.Packing(torch.zeros(2), torch.zeros(2), randn(1, 1, 16)), ValueError, "must be whole numbers"),
    (lambda: pa.Packing(torch.zeros(0).long(), torch.zeros(0).long(), randn(1, 1, 16)), ValueError, "T at least 1"),
])
def test_bad_input(case, kind, says):
    assert_clear_error(case, kind, says)


def test_reference_backend_gives_the_same(monkeypatch):
    """Guards a machine without Triton."""
    monkeypatch.setattr(pa, "launches", lambda x: False)
    for check in CHECKS.values():
        check()


@pytest.mark.gpu
@pytest.mark.parametrize("D", [64, 96, 128, 256])
@pytest.mark.parametrize("dtype", SHORT.values(), ids=SHORT)
def test_real_sizes(D, dtype):
    """Guards tiles that only a GPU uses."""
    judge([(0, 300), (129, 65), (1000, 3), (0, 700), None, (70, 1)], H=8, K=2, D=D, dtype=dtype)
    assert DEVICE == "cuda"
