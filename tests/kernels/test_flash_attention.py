"""FlashAttention against float64: every shape that a model has, and those that it will have one day."""
import importlib
import inspect

import pytest
import torch
from core_helpers import assert_clear_error
from kernel_helpers import DEVICE, SHORT, assert_close, error, randn, the_tests_of
from mutants import kernels_flash as wrong

from minilm.kernels import reference

fa = importlib.import_module("minilm.kernels.flash_attention")


def qkv(B=1, H=2, K=1, T=17, S=17, D=32, dtype=torch.float32, seed=0):
    return (randn(B, H, T, D, dtype=dtype, seed=seed), randn(B, K, S, D, dtype=dtype, seed=seed + 1),
            randn(B, K, S, D, dtype=dtype, seed=seed + 2))


def judge(q, k, v, dtype=None, **options):
    """Attention of these against float64's."""
    got = fa.flash_attention(q, k, v, **options)
    want = reference.attention(q.double(), k.double(), v.double(), **options)
    assert_close(got, want, dtype or q.dtype, f"at q {list(q.shape)}, k {list(k.shape)}, {options}")


# --- checks, which wrong versions must fail (tests/mutants/kernels_flash.py) ---

def check_causal():
    """Square, over several tiles and a rest."""
    judge(*qkv(T=77, S=77), causal=True)
    judge(*qkv(T=130, S=130), causal=True)


def check_full():
    judge(*qkv(T=17, S=77), causal=False)
    judge(*qkv(T=40, S=64), causal=False)


def check_offset():
    """The queries are the last ones: a chunk of a prompt after a cached prefix, down to one token."""
    for T, S in ((1, 77), (17, 77), (33, 64), (40, 130)):
        judge(*qkv(T=T, S=S), causal=True)


def check_groups():
    judge(*qkv(H=6, K=2, T=16, S=33), causal=True)


def check_head_size():
    """80 is padded to 128 in a tile; the padding must be neither read nor written."""
    q, k, v = qkv(H=2, K=2, T=16, S=33, D=80)
    judge(q, k, v, causal=True)
    wide = randn(1, 2, 40, 160)
    wide[..., 80:] = torch.nan                                  # beyond a head: another head's, or no one's
    k[:], v[:] = wide[:, :, :33, :80], wide[:, :, 7:, :80]
    judge(q, wide[:, :, :33, :80], wide[:, :, 7:, :80], causal=True)


def check_lengths():
    """Rows of different length; what stands past a row's end may be anything, such as a nan of unused memory."""
    for causal in (True, False):
        q, k, v = qkv(B=4, H=2, K=1, T=3, S=77)
        lengths = torch.tensor([3, 77, 32, 50], device=DEVICE)
        for row, n in enumerate(lengths.tolist()):
            k[row, :, n:], v[row, :, n:] = torch.nan, torch.nan
        judge(q, k, v, causal=causal, lengths=lengths)
        judge(q, k, v, causal=causal, lengths=torch.stack((lengths, lengths - 1), 1)[:, 0])     # with a stride of 2


def check_no_key():
    """Queries that stand before a row's first key get zeros, not nan."""
    q, k, v = qkv(B=2, T=40, S=50)
    lengths = torch.tensor([33, 1], device=DEVICE, dtype=torch.int32)
    judge(q, k, v, causal=True, lengths=lengths)
    assert not fa.flash_attention(q, k, v, causal=True, lengths=lengths)[0, :, :7].any()


def check_large_logits():
    """Logits of ±1e4: nothing overflows, and the largest, wherever it comes, takes all."""
    q, k, v = qkv(T=77, S=77)
    q = torch.ones_like(q)
    for order in (torch.arange(77), torch.arange(77).flip(0)):
        k = torch.linspace(-1e4, 1e4, 77, device=DEVICE)[order].view(1, 1, 77, 1).expand(1, 1, 77, 32) / 32**0.5
        judge(q, k.contiguous(), v, causal=True)
        judge(q, k.contiguous(), v, causal=False)


def check_growing_maximum():
    """Each tile's largest score is above the last one's, mildly: all that was summed before must shrink, and count."""
    q, k, v = qkv(T=32, S=130)
    q = torch.ones_like(q)
    k = k * 0.1 + torch.linspace(-0.6, 0.6, 130, device=DEVICE).view(1, 1, 130, 1)
    judge(q, k, v, causal=False)
    judge(q, k.flip(2), v, causal=False)


def check_scale():
    judge(*qkv(T=16, S=33), causal=True, scale=0.5)
    judge(*qkv(T=16, S=33, D=64), causal=True)


def check_scale_down():
    """A small scale of large scores: the maximum must be that of what is exponentiated."""
    q, k, v = qkv(T=16, S=77)
    judge(100 * q, 100 * k, v, causal=False, scale=1e-4)


def check_batch():
    """Each row and head its own queries, keys and values."""
    judge(*qkv(B=2, H=4, K=2, T=33, S=40), causal=True)


def check_strides():
    """Keys and values of different strides: in one projection's output, heads behind tokens."""
    q, k, v = qkv(B=2, H=4, K=2, T=33, S=40)
    judge(q, k, v.transpose(1, 2).contiguous().transpose(1, 2), causal=True)


CHECKS = {name: check for name, check in list(globals().items()) if name.startswith("check_")}
test_check_holds, test_mutant_is_rejected = the_tests_of(CHECKS, wrong.FLASH, says="relative error")


# --- the grid of issue and paper: each value of an axis with some of the others' ---

GRID = [  # B, H, K, T, S, D, causal, dtype
    (1, 1, 1, 1, 1, 32, True, "fp32"), (1, 2, 1, 15, 15, 64, True, "fp16"), (2, 3, 1, 16, 16, 80, True, "fp32"),
    (1, 4, 1, 17, 17, 96, True, "fp16"), (1, 7, 1, 77, 77, 128, True, "fp32"), (1, 8, 1, 15, 130, 32, True, "fp16"),
    (1, 2, 2, 130, 130, 64, True, "fp16"), (2, 3, 3, 1, 130, 96, True, "fp32"), (1, 8, 2, 17, 77, 80, True, "fp16"),
    (1, 14, 2, 16, 17, 64, True, "fp32"), (1, 6, 2, 5, 33, 128, True, "fp16"), (1, 2, 1, 33, 64, 256, True, "fp32"),
    (1, 2, 1, 77, 16, 32, False, "fp16"), (2, 4, 2, 1, 77, 80, False, "fp32"), (1, 8, 1, 16, 130, 96, False, "fp16"),
    (1, 3, 1, 17, 15, 128, False, "fp32"), (1, 7, 1, 15, 16, 64, False, "fp16"), (1, 2, 2, 33, 1, 16, False, "fp32"),
    (1, 2, 1, 40, 64, 176, False, "fp16"),
]


@pytest.mark.parametrize("case", GRID, ids=str)
def test_grid(case):
    """Guards each length, group, head size and dtype, alone and together."""
    *shape, causal, dtype = case
    judge(*qkv(*shape, dtype=SHORT[dtype]), causal=causal)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_any_strides(dtype):
    """Guards a kernel that takes its input for contiguous: heads behind tokens, slices, reversed axes, odd strides."""
    B, H, K, T, D = 2, 4, 2, 33, 32
    x = randn(B, T, H + 2 * K, D, dtype=dtype).transpose(1, 2)                  # as the model's projection gives them
    judge(*x.split((H, K, K), dim=1), causal=True)
    q, k, v = qkv(B, H, K, T, T, D, dtype)
    turned = [x.mT.contiguous().mT for x in (q, k, v)]                          # D is not the last in memory
    judge(*turned, causal=True)
    odd = torch.zeros(B, K, T, D + 1, device=DEVICE, dtype=dtype)               # rows at odd addresses
    odd[..., 1:] = k
    judge(q, odd[..., 1:], v, causal=True)
    judge(q[:1].expand(2, -1, -1, -1), k, v, causal=True)                       # one row of queries for all


def test_inputs_are_left_alone():
    q, k, v = qkv(T=16, S=33)
    before = [x.clone() for x in (q, k, v)]
    fa.flash_attention(q, k, v, causal=True)
    assert all(torch.equal(x, y) for x, y in zip((q, k, v), before, strict=True))


Q, KV = (1, 4, 8, 32), (1, 2, 8, 32)
NONE = object()


def call(q=Q, k=KV, v=KV, lengths=None, causal=True, cast=None, scale=None):
    q, k, v = (x if not isinstance(x, tuple) else torch.zeros(x, device=DEVICE) for x in (q, k, v))
    if cast:
        q, k, v = (x.to(to) for x, to in zip((q, k, v), cast, strict=True))
    return fa.flash_attention(q, k, v, causal=causal, lengths=lengths, scale=scale)


INT = torch.int32
F32, F64, F16 = torch.float32, torch.float64, torch.float16


@pytest.mark.parametrize(("options", "kind", "says"), [
    ({"q": (4, 8, 32)}, ValueError, "q must have shape [B, H, T, D]; it has [4, 8, 32]"),
    ({"k": (1, 2, 8, 48)}, ValueError, "k must have shape [B=1, K, S, D=32]; it has [1, 2, 8, 48]"),
    ({"k": (2, 2, 8, 32)}, ValueError, "k must have shape [B=1,"),
    ({"v": (1, 2, 9, 32)}, ValueError, "v must have shape [B=1, K=2, S=8, D=32]"),
    ({"q": (1, 3, 8, 32)}, ValueError, "3 query heads cannot share 2 key-value heads"),
    ({"q": (1, 4, 8, 24), "k": (1, 2, 8, 24), "v": (1, 2, 8, 24)}, ValueError, "head size 24 is not supported"),
    ({"q": (1, 4, 8, 272), "k": (1, 2, 8, 272), "v": (1, 2, 8, 272)}, ValueError, "from 16 to 256"),
    ({"q": (1, 4, 9, 32)}, ValueError, "9 queries cannot be the last of 8 keys"),
    ({"q": (1, 4, 0, 32)}, ValueError, "q is empty"),
    ({"k": (1, 2, 0, 32), "v": (1, 2, 0, 32)}, ValueError, "k is empty"),
    ({"scale": 0.0}, ValueError, "scale must be a positive number; it is 0.0"),
    ({"scale": -0.1}, ValueError, "scale must be a positive number"),
    ({"scale": torch.nan}, ValueError, "scale must be a positive number; it is nan"),
    ({"q": None}, TypeError, "q must be a tensor, not NoneType"),
    ({"cast": (F64, F64, F64)}, TypeError, "q is float64; the kernels know float32"),
    ({"cast": (INT, F32, F32)}, TypeError, "q is int32"),
    ({"cast": (F16, F32, F32)}, TypeError, "q is float16, k is float32: give one dtype"),
    ({"v": torch.zeros(KV, device="meta")}, ValueError, "v on meta: move them to one device"),
    ({"lengths": torch.ones(2, dtype=INT, device=DEVICE)}, ValueError, "lengths must have shape [B=1]"),
    ({"lengths": torch.ones(1, device=DEVICE)}, TypeError, "lengths must be a tensor of int32 or int64, not float32"),
    ({"lengths": [8]}, TypeError, "not list"),
    ({"lengths": torch.ones(1, dtype=INT, device="meta")}, ValueError, "lengths on meta"),
])
def test_bad_input(options, kind, says):
    """Guards an answer to what cannot be meant, and errors from deep inside."""
    assert_clear_error(lambda: call(**options), kind, says)


@pytest.mark.skipif(DEVICE == "cuda", reason="lengths on a GPU are not read back: that would wait for it")
@pytest.mark.parametrize("length", [0, -1, 9])
def test_lengths_out_of_range(length):
    """Guards keys read past the end, and rows without any."""
    assert_clear_error(lambda: call(lengths=torch.tensor([length])), ValueError, "lengths must be from 1 to 8",
                       str(length))


def test_reference_backend_gives_the_same(monkeypatch):
    """Guards a machine without Triton, where the same name gives the same answer in plain PyTorch."""
    monkeypatch.setattr(fa, "launches", lambda q: False)
    for check in (check_causal, check_offset, check_groups, check_lengths, check_no_key):
        check()
    assert "reference.attention" in inspect.getsource(fa.flash_attention)


# --- on a GPU, at real sizes ---

@pytest.mark.gpu
@pytest.mark.parametrize("dtype", SHORT.values(), ids=SHORT)
@pytest.mark.parametrize("D", [32, 64, 80, 96, 128, 192, 256])
def test_real_sizes(D, dtype):
    """Guards tiles that only a GPU uses: long contexts, full and ragged, and every dtype."""
    judge(*qkv(2, 8, 2, 1000, 2048, D, dtype), causal=True)
    judge(*qkv(1, 4, 4, 2048, 2048, D, dtype), causal=True)
    judge(*qkv(2, 7, 1, 300, 1500, D, dtype), causal=False)
    lengths = torch.tensor([2000, 300, 1025], device=DEVICE, dtype=torch.int32)
    judge(*qkv(3, 8, 8, 300, 2048, D, dtype), causal=True, lengths=lengths)


@pytest.mark.gpu
def test_far_addresses():
    """Guards offsets that pass 2^31 numbers: the last head of a large tensor."""
    q, k, v = (torch.zeros(1, heads, 2**15, 128, device=DEVICE, dtype=torch.float16) for heads in (1, 520, 520))
    k[0, -1, :, 0], v[0, -1] = 1, 1
    assert k.numel() > 2**31
    q = q.expand(1, 520, 2**15, 128)[:, :, -64:]
    got = fa.flash_attention(q, k, v, causal=True)
    assert error(got[0, -1], torch.ones_like(got[0, -1])) < 1e-3 and not got[0, :-1].any()
