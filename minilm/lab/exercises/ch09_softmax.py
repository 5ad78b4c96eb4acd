"""Exercise 09.2: softmax, a row a program."""

import torch

from minilm.lab.exercise import Exercise, agree
from minilm.lab.expect import Failed
from minilm.lab.kernel import empty, launch, memory
from minilm.lab.values import difference

ex2 = Exercise(
    "09.2",
    "Softmax of a row",
    answer="softmax_kernel(x, out, x_row, out_row, N, TILE)",
    task="row p of x, N numbers in one tile of TILE, as softmax into row p of out",
    hints=(
        "One row a program. Where does row p of x begin, where that of out? And what must stand in the places past N, "
        "so that neither the maximum nor the sum takes notice of it?",
        "Load with mask=columns < N and other=float('-inf'): no maximum picks it, and exp(-inf) = 0 adds nothing to "
        "the sum. tl.max(tile, 0) and tl.sum(e, 0) are over the tile. Subtract the maximum before tl.exp.",
        "tile = tl.load(x + row * x_row + columns, mask=columns < N, other=float('-inf')); e = tl.exp(tile - "
        "tl.max(tile, 0)); store e / tl.sum(e, 0) at out + row * out_row + columns, with the same mask.",
    ),
)


TWICE = "the row is loaded more than once: keep the tile that tl.load gave you, both reductions work on it"
NO_MASK = ("the answer is right, but the load reads past the row's end: mask=columns < N, other=float('-inf') in "
           "tl.load itself")


def reference(x, x_row, out_row, tile):
    """[M, N]"""
    return x.double().softmax(-1).to(x.dtype)


def run(answer):
    """The kernel as a function of x[M, N], how far apart rows lie in x and in out, and the tile."""
    def softmax(x, x_row, out_row, tile):
        M, N = x.shape
        out = empty(x.shape, out_row, x.dtype)
        loads = launch(answer, (M,), x=memory(x, x_row), out=out, x_row=x_row, out_row=out_row, N=N, TILE=tile)
        written = out.rows(
            "part of out is never written: program p writes the N numbers from out + p * out_row on",
            "you write outside of your row in out: its rows begin out_row apart, and the store needs mask=columns < N")
        if difference(written, reference(x, x_row, out_row, tile)) is None and loads:
            if loads.count > M:
                raise Failed(TWICE, [("input", answer.shown), ("loads", f"{loads.count} by {M} programs")])
            if loads.unmasked and N < tile and "minimum" not in loads.used:
                raise Failed(NO_MASK, [("input", answer.shown)])
        return written
    return softmax


def _padded(fill):
    """x in tiles: N numbers of a row, then `fill`; None: what stands there in memory."""
    def pad(x, x_row, tile):
        M, N = x.shape
        if fill is None:
            return memory(x, x_row).flat.as_strided((M, tile), (x_row, 1)).clone()
        return torch.cat((x, torch.full((M, tile - N), fill, dtype=x.dtype)), 1)
    return pad


def _wrong(fill=float("-inf"), top=lambda tile: tile.amax(1, keepdim=True), e=lambda tile, m: (tile - m).exp(),
           over=lambda e, tile: e.sum(1, keepdim=True), read=None):
    """The answer with one thing changed."""
    def softmax(x, x_row, out_row, tile):
        N = x.shape[1]
        t = (read or _padded(fill))(x, x_row, tile)
        exps = e(t, top(t))
        return (exps / over(exps, t))[:, :N]
    return softmax


def _every(step):
    """Rows read as if they lay `step(N, x_row, out_row)` apart."""
    def softmax(x, x_row, out_row, tile):
        M, N = x.shape
        return memory(x, x_row).flat.as_strided((M, N), (step(N, x_row, out_row), 1)).softmax(-1)
    return softmax


def _max_of_zeros(x, x_row, out_row, tile):
    m = _padded(0.0)(x, x_row, tile).amax(1, keepdim=True)
    e = (x - m).exp()
    return e / e.sum(1, keepdim=True)


WRONG_2 = {
    "the load has no mask: what stands behind the row in memory counts as part of it": _wrong(None),
    "other=0 puts zeros behind the row, and exp(0 - m) adds to the sum for each; other=float('-inf') adds nothing":
        _wrong(0.0),
    "other=0 takes part in the maximum: where all of a row is far below zero, every exp(x - 0) is 0, and 0 / 0 is NaN":
        _max_of_zeros,
    "the filling is a finite number that these logits come near to: only float('-inf') is below any": _wrong(-1e4),
    "that is the logarithm of the softmax: store e / sum, without tl.log":
        lambda x, x_row, out_row, tile: x.log_softmax(-1),
    "the sum is over x - max, not over its exps": _wrong(
        over=lambda e, tile: (tile - tile.amax(1, keepdim=True)).where(tile > -torch.inf, 0).sum(1, keepdim=True)),
    "the maximum is not subtracted: exp of a large number is infinite, and inf / inf is NaN":
        _wrong(top=lambda tile: torch.zeros(len(tile), 1)),
    "rows of x begin x_row apart, not N: a row may lie in a wider matrix": _every(lambda N, x_row, out_row: N),
    "rows of x begin x_row apart; you use TILE, which is the width of a program's tile, not of memory":
        lambda x, x_row, out_row, tile: _every(lambda *_: tile)(x, x_row, out_row, tile),
    "rows of x begin x_row apart; you use the distance of out's rows for x as well": _every(
        lambda N, x_row, out_row: out_row),
    "every program reads the first row: add tl.program_id(0) * x_row": _every(lambda *_: 0),
    "the sum is over the numbers themselves, not over their exps": _wrong(
        over=lambda e, tile: tile.where(tile > -torch.inf, 0).sum(1, keepdim=True)),
    "that is exp(x - max), not divided by its sum yet": _wrong(over=lambda e, tile: torch.ones(len(e), 1)),
    "that is the mean, not the share: divide by the sum, not by N": _wrong(
        over=lambda e, tile: torch.full((len(e), 1), float((tile[0] > -torch.inf).sum()))),
}


def rows(M, N, scale=1.0, shift=0.0):
    """The same numbers on every machine, no two alike in a row."""
    i = torch.arange(M * N, dtype=torch.float32)
    return (torch.sin(i * 1.7) * scale + shift).reshape(M, N)


@ex2.check("rows as wide as the tile", mistake="exp(x - max of the row) / sum of those")
def _(answer):
    agree(run(answer), reference, [(rows(1, 4), 4, 4, 4), (rows(3, 8), 8, 8, 8), (rows(2, 32, 3.0), 32, 32, 32)],
          wrong=WRONG_2)


@ex2.check("rows narrower than the tile", mistake="load with mask=columns < N and other=float('-inf')")
def _(answer):
    agree(run(answer), reference, [(rows(2, 3), 3, 3, 4), (rows(3, 5), 5, 5, 8), (rows(2, 17, 2.0), 17, 17, 32),
                                   (rows(2, 77), 77, 77, 128), (rows(2, 130), 130, 130, 256)], wrong=WRONG_2)


@ex2.check("rows that lie apart", mistake="row p of x begins at x + p * x_row, that of out at out + p * out_row")
def _(answer):
    agree(run(answer), reference, [(rows(3, 5), 7, 5, 8), (rows(3, 5), 5, 9, 8), (rows(3, 8), 12, 10, 8),
                                   (rows(4, 15, 2.0), 40, 21, 16)], wrong=WRONG_2)


@ex2.check("logits of ±10,000", mistake="subtract the row's maximum before tl.exp: the largest becomes exp(0) = 1")
def _(answer):
    agree(run(answer), reference, [(rows(2, 5, 1.0, 1e4), 5, 5, 8), (rows(2, 5, 1.0, -1e4), 5, 5, 8),
                                   (rows(3, 17, 1e4), 17, 17, 32)], wrong=WRONG_2)
