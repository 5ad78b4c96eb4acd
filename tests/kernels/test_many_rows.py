"""A layer's kernels between its products, each against float64, and whole models by them."""
import importlib

import pytest
import torch
import torch.nn.functional as F
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from kernel_helpers import DEVICE, SHORT, TOLERANCE, assert_close, error, randn, the_tests_of
from mutants import kernels_many as wrong

from minilm.cache import FullAttention
from minilm.kernels import reference
from minilm.model import rotate

mr = importlib.import_module("minilm.kernels.many_rows")


def inputs(T, H, K, D, dtype=torch.float32, blocks=9, size=4):
    """What `rotate_and_store` takes: positions and slots in no order, pools of sevens."""
    chance = torch.Generator().manual_seed(T)
    angles = randn(50, D // 2, seed=3)
    positions = torch.randint(50, (T,), generator=chance).to(DEVICE)
    slots = torch.randperm(blocks * size, generator=chance)[:T].to(DEVICE)
    pools = [torch.full((blocks, size, K, D), 7, dtype=dtype, device=DEVICE) for _ in range(2)]
    return randn(T, (H + 2 * K) * D, dtype=dtype), angles.cos(), angles.sin(), positions, slots, *pools


def judge_rotation(*args):
    keys, values = (pool.double() for pool in args[5:])
    want = reference.rotate_and_store(*(x.double() for x in args[:3]), *args[3:5], keys, values)
    got = mr.rotate_and_store(*args)
    for mine, right in ((got, want), (args[5], keys), (args[6], values)):
        assert_close(mine, right, args[0].dtype)


def check_rotation():
    judge_rotation(*inputs(7, 4, 2, 32))
    judge_rotation(*inputs(1, 1, 1, 16))


def check_odd_heads():
    """3 heads in a tile of 4, 24 pairs in one of 32: what pads is another's."""
    judge_rotation(*inputs(30, 3, 3, 48))
    judge_rotation(*inputs(5, 5, 1, 16))


def check_rows_apart():
    """Rows of a wider matrix."""
    qkv, *others = inputs(7, 4, 2, 32)
    wide = torch.full((7, 300), torch.nan, device=DEVICE)
    wide[:, 5 : 5 + qkv.shape[1]] = qkv
    judge_rotation(wide[:, 5 : 5 + qkv.shape[1]], *others)


def check_half():
    judge_rotation(*inputs(7, 4, 2, 32, torch.float16))
    judge_swiglu(3 * randn(5, 154, dtype=torch.float16))


def judge_swiglu(x):
    assert_close(mr.swiglu(x), reference.swiglu(x.double()), x.dtype)


def check_swiglu():
    """One column, a tile, more than one, rows that are no multiple."""
    for shape in ((1, 2), (3, 154), (2, 5, 2 * 130), (3, 2 * 2048), (2, 2 * 2051)):
        judge_swiglu(3 * randn(*shape))


def check_swiglu_strides():
    judge_swiglu(randn(5, 200)[:, 3:157])


CHECKS = {name: check for name, check in list(globals().items()) if name.startswith("check_")}


def check_model(**change):
    """Hidden states of a whole model, two texts side by side, as the modules in float64 find them for each."""
    shape = {"seed": 1, "vocab_size": 40, "width": 48, "num_heads": 3, "num_kv_heads": 1, "head_size": 16,
             "mlp_width": 40, "num_layers": 2, "max_positions": 64, "norm_eps": 0.05} | change
    model, judge = tiny_model(**shape).to(DEVICE), tiny_model(**shape, dtype=torch.float64)
    judge.load_state_dict(model.state_dict())
    c, counts = model.config, (9, 5)
    ids = torch.randint(40, (sum(counts),), generator=torch.Generator().manual_seed(5))
    positions = torch.cat([torch.arange(n) for n in counts])
    pools = [[torch.zeros(5, 4, c.num_kv_heads, c.head_size, device=DEVICE) for _ in range(2)] for _ in range(2)]
    slots = torch.randperm(20, generator=torch.Generator().manual_seed(6))[: len(ids)].to(DEVICE)

    def attend(layer, q):
        k, v = (pool[layer].flatten(0, 1)[slots] for pool in pools)
        return torch.cat([reference.attention(*(x[None].transpose(1, 2) for x in some), causal=True)[0].transpose(0, 1)
                          for some in zip(*(x.split(counts) for x in (q, k, v)), strict=True)])
    with torch.inference_mode():
        got = mr.ManyRows(model).hidden(ids.to(DEVICE), positions.to(DEVICE), slots, *pools, attend)
        want = torch.cat([judge.hidden(some[None], FullAttention(64))[0] for some in ids.split(counts)])
    assert error(got.cpu(), want) < TOLERANCE[torch.float32], "relative error"


CHECKS["check_model"] = check_model
test_check_holds, test_mutant_is_rejected = the_tests_of(CHECKS, wrong.MANY, says="relative error")


def test_model_with_bias():
    """Guards the bias of Qwen 2: the product adds it."""
    check_model(qkv_bias=True)


def test_references_are_the_models_own():
    """Guards a reference and a kernel that share a mistake."""
    qkv, cos, sin, positions, slots, *pools = (x.double() if x.is_floating_point() else x for x in inputs(7, 4, 2, 32))
    q = reference.rotate_and_store(qkv, cos, sin, positions, slots, *pools)
    heads = qkv.view(1, 7, 8, 32).transpose(1, 2)
    turned = rotate(heads[:, :6], torch.cat((cos, cos), -1)[positions], torch.cat((-sin, sin), -1)[positions])[0]
    torch.testing.assert_close(q, turned[:4].transpose(0, 1))
    for pool, new in zip(pools, (turned[4:], heads[0, 6:]), strict=True):
        torch.testing.assert_close(pool.flatten(0, 1)[slots], new.transpose(0, 1))
    x = randn(3, 20, dtype=torch.float64)
    torch.testing.assert_close(reference.swiglu(x), F.silu(x[:, :10]) * x[:, 10:])


def rotation(**change):
    names = ("qkv", "cos", "sin", "positions", "slots", "keys", "values")
    return mr.rotate_and_store(**dict(zip(names, inputs(3, 2, 1, 16), strict=True)) | change)


@pytest.mark.parametrize(("case", "kind", "says"), [
    (lambda: rotation(qkv=randn(3, 65)), ValueError, "qkv must have shape [T, (H + 2K) · D] with K=1, D=16 even"),
    (lambda: rotation(qkv=randn(3, 32)), ValueError, "it has [3, 32]"),
    (lambda: rotation(keys=randn(9, 4, 16)), ValueError, "keys must have shape [blocks, block_size, K, D]"),
    (lambda: rotation(values=randn(9, 4, 2, 16)), ValueError, "contiguous and of one shape"),
    (lambda: rotation(slots=torch.arange(2, device=DEVICE)), ValueError, "slots must have shape [T=3]"),
    (lambda: rotation(positions=torch.arange(3, device=DEVICE).int()), TypeError, "positions must be int64"),
    (lambda: rotation(cos=randn(50, 16)), ValueError, "cos must have shape [positions, half=8]"),
    (lambda: mr.swiglu(randn(3, 5)), ValueError, "rows of gate and up hold an even number of numbers; these hold 5"),
    (lambda: mr.swiglu(randn(3, 4).long()), TypeError, "gate_up is int64"),
    (lambda: mr.ManyRows(tiny_model(qk_norm=True)), ValueError, "cannot run this model here"),
])
def test_bad_input(case, kind, says):
    assert_clear_error(case, kind, says)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", SHORT.values(), ids=SHORT)
def test_real_sizes(dtype):
    """Guards an 8B model's shape, and one that is no power of two."""
    for H, K, D, W in ((32, 8, 128, 14336), (9, 3, 64, 1536)):
        judge_rotation(*inputs(999, H, K, D, dtype, blocks=70, size=16))
        judge_swiglu(randn(99, 2 * W, dtype=dtype))
    assert DEVICE == "cuda"
