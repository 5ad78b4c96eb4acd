"""Exercises of chapter 01: attention."""

import torch
from torch.overrides import TorchFunctionMode

from minilm.lab.exercise import Exercise, agree, expect

# --- 01.3 -------------------------------------------------------------------------------------------------------------

ex = Exercise(
    "01.3",
    "Grouped-query causal attention",
    answer="attend(q, k, v)",
    task="causal attention of q[B, H, T, D] over k, v [B, K, T, D]; H/K query heads in a row share one key-value head",
    points=2,
    hints=(
        "First write it for H = K. Which of the T x T scores may token t use? What makes softmax ignore the others?",
        "Repeat each key-value head H/K times in a row; scores = q kT / sqrt(D); minus infinity above the diagonal; "
        "softmax over the last axis; times v.",
        "k.repeat_interleave(H // K, dim=1); future = torch.ones(T, T, dtype=torch.bool).triu(1).",
    ),
)


def attend(q, k, v, *, scale=None, group=None, future=1, axis=-1, fill=float("-inf"), bias=0.0):
    """The reference; the keywords make the wrong ones. q[B, H, T, D], k and v [B, K, T, D] -> [B, H, T, D]"""
    T, D = q.shape[2:]
    group = group or (lambda kv: kv.repeat_interleave(q.shape[1] // k.shape[1], dim=1))
    scores = q @ group(k).transpose(-2, -1) / (D**0.5 if scale is None else scale) + bias
    if future is not None:
        scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(future), fill)
    return scores.softmax(axis) @ group(v)


def _tiled(q, k, v):
    return attend(q, k, v, group=lambda kv: kv.repeat(1, q.shape[1] // k.shape[1], 1, 1))


def _masked_late(q, k, v):
    k, v = (kv.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for kv in (k, v))
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1).tril() @ v


def _looks_ahead(q, k, v):
    k, v = (kv.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for kv in (k, v))
    past = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril(-1)
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(past, float("-inf")).softmax(-1) @ v


def _qkv(B, H, K, T, D, dtype=torch.float32):
    return tuple(torch.randn(B, heads, T, D, dtype=dtype) for heads in (H, K, K))


@ex.check("one head, one row: softmax(q kT / sqrt(D)) v, causal", mistake="write out what tokens 0, 1 and 2 may read")
def _(answer):
    cases = [_qkv(1, 1, 1, 2, 4), _qkv(1, 1, 1, 5, 4)]
    agree(answer, attend, cases, wrong={
        "the mask is probably missing: token t may read tokens 0 to t only": lambda *a: attend(*a, future=None),
        "you are probably masking the past: the future is above the diagonal": _looks_ahead,
        "you are probably masking after softmax, so rows no longer sum to 1; put -inf in before": _masked_late,
        "a score of 0 is a score like any other, exp(0) = 1: mask with -inf, before softmax": lambda *a: attend(
            *a, fill=0.0),
        "the square root of D is probably missing: divide the scores by D ** 0.5": lambda *a: attend(*a, scale=1.0),
        "you are probably dividing by D; divide by its square root": lambda *a: attend(*a, scale=a[0].shape[-1]),
        "softmax is probably over the wrong axis: each query's row sums to 1": lambda *a: attend(*a, axis=-2),
        "your mask probably hides the token itself (triu(0)); it may read itself": lambda *a: attend(*a, future=0),
    })


@ex.check("query heads share key-value heads, in runs", mistake="query head h reads key-value head h // (H/K)")
def _(answer):
    cases = [_qkv(1, 2, 1, 2, 4), _qkv(2, 4, 2, 3, 4), _qkv(2, 6, 2, 5, 8), _qkv(1, 9, 3, 4, 4)]
    agree(answer, attend, cases, wrong={
        "you are probably tiling heads as 0 1 0 1 (repeat); runs are 0 0 1 1 (repeat_interleave)": _tiled})


@ex.check("the future stays hidden where scores are large", mistake="scores here are 20,000 and -20,000; is a row NaN?")
def _(answer):
    q, k = torch.full((1, 1, 3, 4), 100.0), torch.tensor([-100.0, 100.0, 0.0])[:, None].expand(1, 1, 3, 4)
    v = torch.tensor([[1.0, 2.0], [3.0, 5.0], [7.0, 11.0]])[None, None]
    added = attend(q, k, v, future=None, bias=torch.full((3, 3), -1e4).triu(1))
    expect(answer(q, k, v), attend(q, k, v), wrong={
        "the future leaks in where scores are below your mask's value: mask with float('-inf')": attend(
            q, k, v, fill=-1e4),
        "the future leaks in where scores are large: what you add to them should be -inf, not a number": added})


@ex.check("keeps float64")
def _(answer):
    got = answer(*_qkv(1, 2, 1, 3, 4, torch.float64))
    assert got.dtype == torch.float64, f"your answer has dtype {str(got.dtype)[6:]}; it should be float64, as q is"
    assert not torch.equal(got, got.float().double()), "you round to float32 on the way; compute in the dtype of q"


class _Calls(TorchFunctionMode):
    """Notes the names of the PyTorch functions that are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names.add(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))


@ex.check("is written out")  # `minilm grade` runs answers in another process, whose calls this doesn't see
def _(answer):
    with _Calls() as calls:
        answer(*_qkv(1, 2, 1, 3, 4))
    assert "scaled_dot_product_attention" not in calls.names, (
        "you call PyTorch's scaled_dot_product_attention; the task is to write it: scores, mask, softmax, sum")
