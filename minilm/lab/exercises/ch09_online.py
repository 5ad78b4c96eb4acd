"""Exercise 09.4: a row longer than a tile, with a running maximum and a running sum."""

import torch

from minilm.lab.exercise import Exercise, agree
from minilm.lab.expect import Failed
from minilm.lab.kernel import empty, launch, memory
from minilm.lab.values import difference

ex4 = Exercise(
    "09.4",
    "Maximum and sum of a long row",
    answer="max_and_sum_kernel(x, m_out, l_out, x_row, N, TILE)",
    task="m_out[p] = the largest of row p, l_out[p] = sum of exp(x - m), tile after tile, each number read once",
    hints=(
        "When a tile brings a larger maximum, the sum so far was measured against the old one. By what factor is each "
        "of its terms too large now?",
        "exp(x - m_new) = exp(x - m) · exp(m - m_new): one multiplication corrects the whole sum. Begin with m = "
        "float('-inf') and l = 0.0; exp(-inf) = 0 makes the first correction harmless.",
        "for start in range(0, N, TILE): load a tile, other=float('-inf'); m_new = tl.maximum(m, tl.max(tile, 0)); "
        "l = l * tl.exp(m - m_new) + tl.sum(tl.exp(tile - m_new), 0); m = m_new",
    ),
)


TWICE = ("right, but the row is read more than once: walk once, and correct the sum so far when a tile raises the "
         "maximum")


def reference(x, x_row, tile):
    """m[M, 1], l[M, 1]"""
    m = x.double().amax(1, keepdim=True)
    return m.to(x.dtype), (x.double() - m).exp().sum(1, keepdim=True).to(x.dtype)


def run(answer):
    """The kernel as a function of x[M, N], how far apart its rows lie, and the tile."""
    def max_and_sum(x, x_row, tile):
        M, N = x.shape
        m, l = empty((M, 1)), empty((M, 1))
        loads = launch(answer, (M,), x=memory(x, x_row), m_out=m, l_out=l, x_row=x_row, N=N, TILE=tile)
        written = (m.rows("program p stores one number at m_out + p", "m_out holds one number a row: m_out + p"),
                   l.rows("program p stores one number at l_out + p", "l_out holds one number a row: l_out + p"))
        tiles = -(-N // tile)
        if loads and loads.count > M * tiles and difference(written, reference(x, x_row, tile)) is None:
            raise Failed(TWICE, [("input", answer.shown),
                                 ("loads", f"{loads.count // M} by a program, for a row of {tiles} tiles")])
        return written
    return max_and_sum


def _tiles(x, x_row, tile, fill):
    """x in tiles, [tiles, M, tile]; past a row stands `fill` or, with None, what is there in memory."""
    M, N = x.shape
    wide = -(-N // tile) * tile
    if fill is None:
        padded = memory(x, x_row).flat.as_strided((M, wide), (x_row, 1))
    else:
        padded = torch.cat((x, torch.full((M, wide - N), fill)), 1)
    return padded.reshape(M, -1, tile).transpose(0, 1)


def _walk(fill=float("-inf"), first=float("-inf"), raised=torch.maximum, factor=lambda m, new: (m - new).exp(),
          step=lambda l, f, e: l * f + e, count=lambda tiles: tiles, against=lambda m, new: new):
    """The answer with one thing changed."""
    def max_and_sum(x, x_row, tile):
        m, l = torch.full((len(x), 1), first), torch.zeros(len(x), 1)
        for t in count(_tiles(x, x_row, tile, fill)):
            new = raised(m, t.amax(1, keepdim=True))
            l = step(l, factor(m, new), (t - against(m, new)).exp().sum(1, keepdim=True))
            m = new
        return m, l
    return max_and_sum


def _every(step):
    """Rows read as if they lay `step(N, tile)` apart."""
    def max_and_sum(x, x_row, tile):
        M, N = x.shape
        return reference(memory(x, x_row).flat.as_strided((M, N), (step(N, tile), 1)), x_row, tile)
    return max_and_sum


def _max_afterwards(x, x_row, tile):
    m = x.amax(1, keepdim=True)
    return m, x.exp().sum(1, keepdim=True) * (-m).exp()


WRONG_4 = {
    "the sum so far is never corrected: it was measured against the old maximum, so multiply it by exp(m - m_new)":
        _walk(factor=lambda m, new: torch.ones_like(m)),
    "the correction is upside down: exp(m - m_new), which is at most 1": _walk(
        factor=lambda m, new: torch.where(m > -torch.inf, (new - m).exp(), 1.0)),
    "the exps are taken without the maximum: exp of a large number is infinite, and inf · 0 is NaN": _max_afterwards,
    "the correction is upside down, exp(m_new - m): it begins with exp(inf) · 0, which is NaN": _walk(
        factor=lambda m, new: (new - m).exp()),
    "the same tile is read in every turn: its addresses are x + p * x_row + start + columns": _walk(
        count=lambda tiles: [tiles[0]] * len(tiles)),
    "the new tile's sum is corrected as well; it is measured against the new maximum already": _walk(
        step=lambda l, f, e: (l + e) * f),
    "other=0 takes part: zeros past the row raise the maximum or add exp(0 - m); use other=float('-inf')": _walk(0.0),
    "the load has no mask: what stands behind the row in memory takes part": _walk(None),
    "m begins at 0: a row far below zero then has the wrong maximum and the sum 0; begin with float('-inf')": _walk(
        first=0.0),
    "m is the last tile's maximum, not the largest so far: tl.maximum(m, tl.max(tile, 0))": _walk(
        raised=lambda m, t: t),
    "only the first tile is read: for start in range(0, N, TILE)": _walk(count=lambda tiles: tiles[:1]),
    "only whole tiles are read: range(0, N, TILE) goes up to N, the last tile may be ragged": _walk(
        count=lambda tiles: tiles[:-1]),
    "only the last tile's sum is kept: the new l is the old one, corrected, plus the tile's": _walk(
        step=lambda l, f, e: e),
    "the tile's exps are taken against the old maximum: take them against m_new": _walk(against=lambda m, new: m),
    "rows of x begin x_row apart, not N": _every(lambda N, tile: N),
    "every program reads the first row: add tl.program_id(0) * x_row": _every(lambda *_: 0),
    "the sum is of exp(x) without its maximum: it overflows": lambda x, x_row, tile: (
        x.amax(1, keepdim=True), x.exp().sum(1, keepdim=True)),
    "l is the sum; you return its logarithm with the maximum added, which is what lesson 11 will want":
        lambda x, x_row, tile: (x.amax(1, keepdim=True), x.logsumexp(1, keepdim=True)),
}


def rows(M, N, scale=1.0, shift=0.0, slope=0.0):
    """The same numbers on every machine; slope > 0: rising along a row, so that each tile raises the maximum."""
    i = torch.arange(M * N, dtype=torch.float32).reshape(M, N)
    return torch.sin(i * 1.7) * scale + shift + slope * torch.arange(N)


@ex4.check("one tile", mistake="m = the maximum, l = the sum of exp(x - m)")
def _(answer):
    agree(run(answer), reference, [(rows(1, 4), 4, 4), (rows(2, 5), 5, 8)], wrong=WRONG_4)


@ex4.check("several tiles", mistake="l · exp(m - m_new) + the tile's own sum of exp(tile - m_new)")
def _(answer):
    agree(run(answer), reference, [(rows(1, 8, slope=0.5), 8, 4), (rows(2, 12, slope=-0.5), 12, 4),
                                   (rows(2, 16, 2.0, 1.0), 16, 4), (rows(2, 64, 3.0), 64, 16)], wrong=WRONG_4)


@ex4.check("a ragged last tile, rows that lie apart", mistake="mask=start + columns < N, rows x_row apart")
def _(answer):
    agree(run(answer), reference, [(rows(2, 5, slope=0.5), 5, 4), (rows(2, 7, shift=-3.0), 9, 4),
                                   (rows(3, 17, slope=0.3), 40, 16), (rows(2, 77, 4.0), 80, 16),
                                   (rows(2, 130, 4.0), 130, 64)], wrong=WRONG_4)


@ex4.check("logits of ±10,000", mistake="every exp is of a number that is at most 0")
def _(answer):
    agree(run(answer), reference, [(rows(1, 9, 1.0, 1e4), 9, 4), (rows(1, 9, 1.0, -1e4), 9, 4),
                                   (rows(2, 17, 1e4), 17, 4)], wrong=WRONG_4)
