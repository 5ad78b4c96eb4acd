"""Exercises of chapter 01: norm, rotary positions and the gated MLP."""

import torch

from minilm.lab.exercise import Exercise, agree, expect

# --- 01.1 -------------------------------------------------------------------------------------------------------------

ex = Exercise(
    "01.1",
    "RMSNorm",
    answer="rms_norm(x, weight, eps=1e-6)",
    task="scale each row x[..., d] to a root mean square of 1, then multiply by weight[d]",
    hints=(
        "Every row of d numbers is treated by itself. What single number says how large a row is?",
        "Divide each row by sqrt(mean(x^2) + eps), the mean taken over the last axis; then multiply by weight.",
        "x.pow(2).mean(dim=..., keepdim=True) keeps the axis so that it broadcasts; torch.rsqrt(y) is 1 / sqrt(y).",
    ),
)


def rms_norm(x, weight, eps=1e-6):
    """The reference. x[..., d], weight[d] -> [..., d]"""
    return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + eps) * weight


def _over_rows(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(dim=0, keepdim=True) + eps) * weight


def _over_all(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean() + eps) * weight


WRONG = {
    "you are probably dividing by the mean square; take its root": lambda x, w, eps=1e-6: (
        x / (x.pow(2).mean(-1, keepdim=True) + eps) * w
    ),
    "you are probably normalising over the wrong axis; each row is one of the last axis": _over_rows,
    "you are probably taking one mean over the whole tensor; each row has its own": _over_all,
    "you are probably subtracting the mean, as LayerNorm does; RMSNorm doesn't": lambda x, w, eps=1e-6: rms_norm(
        x - x.mean(-1, keepdim=True), w, eps
    ),
    "you are probably taking the sum of squares; take their mean": lambda x, w, eps=1e-6: (
        x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + eps) * w
    ),
    "the weight is missing: multiply each row by it": lambda x, w, eps=1e-6: rms_norm(x, torch.ones_like(w), eps),
}


@ex.check("matches the formula on rows of any number of axes", mistake="write sqrt(mean(x^2) + eps) out once more")
def _(answer):
    cases = [
        (torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0])),
        (torch.randn(3, 4), torch.randn(4)),
        (torch.randn(2, 3, 8), torch.randn(8)),
    ]
    agree(answer, rms_norm, cases, wrong=WRONG)


@ex.check("adds eps inside the root", mistake="the eps argument is not used as mean(x^2) + eps")
def _(answer):
    x, weight = torch.tensor([[0.01, -0.01]]), torch.ones(2)
    outside = x / (x.pow(2).mean(-1, keepdim=True).sqrt() + 0.5) * weight
    wrong = {"eps belongs inside the root, not after it": outside}
    expect(answer(x, weight, 0.5), rms_norm(x, weight, 0.5), wrong=wrong)


@ex.check("a row of zeros stays zero", mistake="without eps, zero divided by zero is NaN")
def _(answer):
    expect(answer(torch.zeros(1, 4), torch.ones(4)), torch.zeros(1, 4))


@ex.check("keeps the dtype")
def _(answer):
    got = answer(torch.randn(2, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64))
    assert got.dtype == torch.float64, f"your answer has dtype {str(got.dtype)[6:]}; it should be float64, as x is"
    assert not torch.equal(got, got.float().double()), "you round to float32 on the way; compute in the dtype of x"


# --- 01.2 -------------------------------------------------------------------------------------------------------------

ex = Exercise(
    "01.2",
    "Rotary positions",
    answer="rotate(x, cos, sin)",
    task="turn pair (x[..., i], x[..., i + D/2]) of x[B, H, T, D] by its angle, whose cos and sin [T, D/2] are given",
    hints=(
        "A pair (a, b) is a point in the plane. Where does it land when the plane turns by an angle?",
        "Cut x into its first and second half on the last axis: a and b. New a: a cos - b sin. New b: b cos + a sin.",
        "a, b = x.chunk(2, dim=-1); then torch.cat((..., ...), dim=-1). cos[T, D/2] broadcasts over B and H by itself.",
    ),
)


def rotate(x, cos, sin):
    """The reference. x[B, H, T, D], cos and sin [T, D/2] -> [B, H, T, D]"""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def _neighbours(x, cos, sin):
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


def _even_odd(x, cos, sin):
    a, b = x[..., ::2], x[..., 1::2]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def _stacked(x, cos, sin):
    return torch.stack(rotate(x, cos, sin).chunk(2, dim=-1), dim=-1)


def _angles(T, D, dtype=torch.float32):
    angles = torch.arange(T, dtype=dtype)[:, None] * 100.0 ** -(torch.arange(D // 2, dtype=dtype) / (D // 2))
    return angles.cos(), angles.sin()


@ex.check("turns every pair by its own angle", mistake="write down where (1, 0) and (0, 1) go when turned by an angle")
def _(answer):
    quarter = (torch.tensor([[0.0]]), torch.tensor([[1.0]]))
    cases = [(torch.tensor([[[[1.0, 2.0]]]]), *quarter), (torch.randn(1, 1, 3, 4), *_angles(3, 4)),
             (torch.randn(2, 3, 5, 8), *_angles(5, 8))]
    agree(answer, rotate, cases, wrong={
        "you are probably turning the wrong way: the first half takes minus sin": lambda x, c, s: rotate(x, c, -s),
        "you are probably pairing neighbours (0, 1), (2, 3); here pair i is (i, i + D/2)": _neighbours,
        "you are probably cutting x into even and odd numbers; its halves are x.chunk(2, dim=-1)": _even_odd,
        "you stack the two halves; put them side by side again: torch.cat((..., ...), dim=-1)": _stacked,
        "you stack the two halves, which mixes them as 0 D/2 1 ...; put them side by side: torch.cat": (
            lambda x, c, s: _stacked(x, c, s).flatten(-2)),
        "your halves are in the wrong order: the new a comes first, then the new b": lambda x, c, s: torch.cat(
            rotate(x, c, s).chunk(2, -1)[::-1], -1),
        "you are probably subtracting where the second half adds: b cos + a sin": lambda x, c, s: torch.cat(
            (rotate(x, c, s).chunk(2, -1)[0], rotate(x, c, -s).chunk(2, -1)[1]), -1),
        "you are probably turning only the first half; the second is b cos + a sin": lambda x, c, s: torch.cat(
            (rotate(x, c, s).chunk(2, -1)[0], x.chunk(2, -1)[1]), -1),
        "you are probably adding where the first half subtracts: a cos - b sin": lambda x, c, s: torch.cat(
            (rotate(x, c, -s).chunk(2, -1)[0], rotate(x, c, s).chunk(2, -1)[1]), -1),
        "you are probably using the new a to make the new b; keep the old one": _sequential,
    })


def _sequential(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    a = a * cos - b * sin
    return torch.cat((a, b * cos + a * sin), dim=-1)


@ex.check("keeps the length of every vector", mistake="a rotation changes no length; look for a lost cos or sin")
def _(answer):
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64)
    expect(answer(x, *_angles(4, 6, torch.float64)).norm(dim=-1), x.norm(dim=-1), tol=1e-9)


# --- 01.4 -------------------------------------------------------------------------------------------------------------

ex = Exercise(
    "01.4",
    "SwiGLU",
    answer="swiglu(x, gate, up, down)",
    task="the gated MLP of x[..., d], weights as PyTorch stores them: gate and up [m, d], down [d, m]",
    hints=(
        "Two looks at the same row: one makes numbers, the other decides how much of each passes.",
        "silu(x gateT) times x upT, element by element, then downT. silu(z) is z times sigmoid(z).",
        "torch.nn.functional.linear(x, weight) is x @ weight.T; torch.nn.functional.silu is the gate's function.",
    ),
)


def swiglu(x, gate, up, down, act=torch.nn.functional.silu):
    """The reference. x[..., d], gate and up [m, d], down [d, m] -> [..., d]"""
    return (act(x @ gate.T) * (x @ up.T)) @ down.T


@ex.check("down(silu(gate x) * up x), on any number of axes", mistake="write the three products out, one a line")
def _(answer):
    cases = [(torch.randn(*shape, d), torch.randn(m, d), torch.randn(m, d), torch.randn(d, m))
             for shape, d, m in (((1,), 2, 3), ((4,), 3, 5), ((2, 3), 4, 8))]
    F = torch.nn.functional
    wrong = {
        "you are probably applying silu to up; the gate gets it": lambda x, g, u, d: swiglu(x, u, g, d),
        "you are probably using sigmoid; silu(z) is z * sigmoid(z)": lambda *a: swiglu(*a, act=torch.sigmoid),
        "you are probably using gelu; that is GEGLU": lambda *a: swiglu(*a, act=F.gelu),
        "you are probably using relu; that is ReGLU": lambda *a: swiglu(*a, act=torch.relu),
        "you are probably adding gate and up; they are multiplied": lambda x, g, u, d: (
            F.silu(x @ g.T) + x @ u.T) @ d.T,
        "silu goes on the gate alone, before the product": lambda x, g, u, d: F.silu((x @ g.T) * (x @ u.T)) @ d.T,
        "the activation is probably missing: silu on the gate": lambda *a: swiglu(*a, act=lambda z: z),
    }
    try:
        agree(answer, swiglu, cases, wrong=wrong)
    except RuntimeError as error:
        if "cannot be multiplied" not in str(error):
            raise
        advice = "a .T is probably missing or in excess: x @ gate.T, x @ up.T, (...) @ down.T"
        raise AssertionError(f"two shapes don't fit together; {advice}") from None
