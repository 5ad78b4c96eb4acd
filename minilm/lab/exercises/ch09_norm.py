"""Exercise 09.3: RMSNorm with the residual addition in the same pass."""

import torch

from minilm.lab.exercise import Exercise, agree
from minilm.lab.expect import Failed
from minilm.lab.kernel import empty, launch, memory
from minilm.lab.values import difference

ex3 = Exercise(
    "09.3",
    "RMSNorm with the residual",
    answer="add_norm_kernel(x, residual, weight, total, out, N, eps, TILE)",
    task="total = x + residual; out = total / sqrt(mean(total²) + eps) · weight, row by row, each number read once",
    hints=(
        "Two tiles are read, added and kept in registers; both results are made from what is there. The padding adds "
        "nothing to a sum of squares if it is 0. But how many numbers is the mean over?",
        "place = tl.program_id(0) * N + columns serves x, residual, total and out; weight is one row for all: weight + "
        "columns. Widen to float32 with .to(tl.float32) before squaring. The mean is tl.sum(t * t, 0) / N.",
        "t = tl.load(x + place, mask, other=0.0).to(tl.float32) + tl.load(residual + place, mask, other=0.0).to("
        "tl.float32); store t; scale = tl.rsqrt(tl.sum(t * t, 0) / N + eps); store t * scale * w",
    ),
)


TWICE = "three loads do: x, residual and weight; what you have just stored is still in your hands"


def reference(x, residual, weight, eps, tile):
    """total[M, N], out[M, N]"""
    t = x.double() + residual.double()
    out = t / (t.square().mean(-1, keepdim=True) + eps).sqrt() * weight.double()
    return t.to(x.dtype), out.to(x.dtype)


def run(answer):
    """The kernel as a function of x[M, N], residual, weight[N], eps and the tile."""
    def add_norm(x, residual, weight, eps, tile):
        M, N = x.shape
        total, out = empty(x.shape, dtype=x.dtype), empty(x.shape, dtype=x.dtype)
        loads = launch(answer, (M,), x=memory(x), residual=memory(residual), weight=memory(weight), total=total,
                       out=out, N=N, eps=eps, TILE=tile)
        beyond = "you write behind the last row of {}: row p begins at p * N, and its store needs mask=columns < N"
        written = (total.rows("the total is not written, or not in whole: x + residual is the next block's residual",
                              beyond.format("total")),
                   out.rows("out is not written, or not in whole: row p begins at out + p * N", beyond.format("out")))
        if loads and loads.count > 3 * M and difference(
                written, reference(x, residual, weight, eps, tile), 4e-3 if x.dtype == torch.float16 else 1e-5) is None:
            raise Failed(TWICE, [("input", answer.shown), ("loads", f"{loads.count} by {M} programs")])
        return written
    return add_norm


def _wrong(add=lambda x, residual: x + residual, total=lambda t, x: t, mean=None, root=None, weigh=None):
    """The answer with one thing changed, in x's own dtype."""
    def add_norm(x, residual, weight, eps, tile):
        t = add(x.float(), residual.float())
        square = (mean or (lambda t, tile: t.square().mean(-1, keepdim=True)))(t, tile)
        scale = (root or (lambda s, eps: 1 / (s + eps).sqrt()))(square, eps)
        out = (weigh or (lambda n, w: n * w))(t * scale, weight.float())
        return total(t, x.float()).to(x.dtype), out.to(x.dtype)
    return add_norm


def _unmasked(x, residual, weight, eps, tile):
    """What stands behind each row in memory is squared, too."""
    M, N = x.shape
    wide = [memory(v).flat.as_strided((M, tile), (N, 1)) for v in (x.float(), residual.float())]
    t = wide[0] + wide[1]
    return (x + residual), (t / (t.square().sum(-1, keepdim=True) / N + eps).sqrt())[:, :N].to(x.dtype) * weight


def _narrow(x, residual, weight, eps, tile):
    """Squares and their sum in float16."""
    t = x + residual
    scale = ((t * t).sum(-1, keepdim=True) / t.shape[1] + eps).rsqrt()
    return t, t * scale * weight


WRONG_3 = {
    "the mean is over the row's N numbers; you divide by TILE, padding included": _wrong(
        mean=lambda t, tile: t.square().sum(-1, keepdim=True) / tile),
    "the eps belongs under the root: 1 / sqrt(mean + eps), not 1 / (sqrt(mean) + eps)": _wrong(
        root=lambda s, eps: 1 / (s.sqrt() + eps)),
    "the eps is missing: a row of zeros then divides by 0": _wrong(root=lambda s, eps: 1 / s.sqrt()),
    "you norm x alone: the residual is added first": lambda x, residual, weight, eps, tile: (
        x + residual, reference(x, torch.zeros_like(x), weight, eps, tile)[1]),
    "the total should be x + residual; yours is x": _wrong(total=lambda t, x: x),
    "the weight is missing: the normed row times weight, number by number": _wrong(weigh=lambda n, w: n),
    "that is the root of the sum of squares: divide the sum by N": _wrong(
        mean=lambda t, tile: t.square().sum(-1, keepdim=True)),
    "RMSNorm subtracts no mean: that would be LayerNorm": lambda x, residual, weight, eps, tile: (
        x + residual, torch.nn.functional.layer_norm(x + residual, x.shape[1:], weight, eps=eps)),
    "the root is missing: 1 / sqrt(mean + eps), tl.rsqrt": _wrong(root=lambda s, eps: 1 / (s + eps)),
    "the load has no mask, or another filling than 0: what stands behind the row is squared, too": _unmasked,
    "squares in float16 overflow at 256² = 65,536: widen with .to(tl.float32) before you square": _narrow,
    "the two outputs are exchanged: total is x + residual, out is what is normed":
        lambda x, residual, weight, eps, tile: reference(x, residual, weight, eps, tile)[::-1],
    "the weight multiplies as it is: weight, not 1 + weight": _wrong(weigh=lambda n, w: n * (1 + w)),
    "you norm x and add the residual afterwards: first the sum, then its norm": lambda x, residual, weight, eps, tile: (
        x + residual, reference(x, torch.zeros_like(x), weight, eps, tile)[1] + residual),
    "the weight is one row for all: its address is weight + columns, whichever program it is":
        lambda x, r, w, eps, tile: (x + r, torch.cat((
            reference(x[:1], r[:1], w, eps, tile)[1],
            reference(x[1:], r[1:], torch.full_like(w, 50.0), eps, tile)[1]))),
}


def case(M, N, tile, scale=1.0, eps=1e-5, dtype=torch.float32):
    i = torch.arange(M * N, dtype=torch.float32)
    x, residual = (torch.sin(i * step + 1).reshape(M, N) * scale for step in (1.7, 0.9))
    return x.to(dtype), residual.to(dtype), (1 + torch.arange(N) % 3 / 2).to(dtype), eps, tile


@ex3.check("rows as wide as the tile", mistake="t = x + residual; total = t; out = t / sqrt(mean(t²) + eps) · weight")
def _(answer):
    agree(run(answer), reference, [case(1, 4, 4), case(3, 8, 8), case(2, 32, 32, 5.0)], wrong=WRONG_3)


@ex3.check("rows narrower than the tile", mistake="load with mask=columns < N, other=0.0, and divide by N")
def _(answer):
    agree(run(answer), reference, [case(2, 3, 4), case(3, 15, 16), case(2, 17, 32), case(2, 77, 128),
                                   case(2, 130, 256)], wrong=WRONG_3)


@ex3.check("eps where it counts", mistake="1 / sqrt(mean + eps)")
def _(answer):
    agree(run(answer), reference, [case(2, 5, 8, 0.01, 0.25), case(2, 5, 8, 0.0, 1e-5)], wrong=WRONG_3)


@ex3.check("float16 with large numbers", mistake="compute in float32: .to(tl.float32) after each load")
def _(answer):
    agree(run(answer), reference, [case(2, 5, 8, 300.0, dtype=torch.float16),
                                   case(2, 77, 128, 150.0, dtype=torch.float16)], wrong=WRONG_3, tol=4e-3)
