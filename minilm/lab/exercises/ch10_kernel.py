"""Exercise 10.4: the inner loop of FlashAttention, in Triton."""

import math

import torch

from minilm.lab.exercise import Exercise, agree
from minilm.lab.kernel import empty, launch, memory

LOG2_E = 1.4426950408889634

ex4 = Exercise(
    "10.4",
    "The inner loop in Triton",
    answer="flash_kernel(q, k, v, out, scale, T, S, D, ROWS, TILE, HEAD)",
    task="all the keys that these queries see, TILE at a time, into m, l and acc",
    hints=(
        "One turn of the loop is 10.1, with a load before the scores, a load before the values, and the mask of 10.3 "
        "in between. tl.dot multiplies two tiles; its inner sizes are HEAD for the scores, TILE for the answer.",
        "keys = start + tl.arange(0, TILE); load k at keys[:, None] * D + dims[None, :] where keys < S and dims < D, "
        "else 0. tl.dot(these, k_tile.T, input_precision='ieee') * scale; tl.where(keys <= last_seen, ..., -inf) "
        "before the maximum. scale holds log2(e): tl.exp2.",
        "m_new = tl.maximum(m, tl.max(scores, 1)); p = tl.exp2(scores - m_new[:, None]); shrink = tl.exp2(m - m_new); "
        "l = l * shrink + tl.sum(p, 1); acc = tl.dot(p.to(v_tile.dtype), v_tile, acc * shrink[:, None], "
        "input_precision='ieee'); m = m_new",
    ),
    points=2,
)


def reference(q, k, v, rows, tile):
    """[T, D], causal"""
    T, S = len(q), len(k)
    scores = (q.double() @ k.double().T) * q.shape[1] ** -0.5
    future = torch.ones(T, S, dtype=torch.bool).triu(S - T + 1)
    return (scores.masked_fill(future, -torch.inf).softmax(1) @ v.double()).to(q.dtype)


def run(answer):
    """The kernel as a function of q[T, D], k, v[S, D] and the sizes of its tiles."""
    def attention(q, k, v, rows, tile):
        (T, D), S = q.shape, len(k)
        out = empty((T, D), dtype=q.dtype)
        head = 1 << (D - 1).bit_length()
        launch(answer, (-(-T // rows),), q=memory(q), k=_nan_behind(k), v=_nan_behind(v), out=out,
               scale=D**-0.5 * LOG2_E, T=T, S=S, D=D, ROWS=rows, TILE=tile, HEAD=head)
        return out.rows("part of out is never written: keep the store at the end as it is",
                        "you write outside of your rows: keep the store at the end as it is")
    return attention


def _nan_behind(x):
    """x in memory; what stands past its end is NaN: read without a mask it shows, even times zero."""
    laid = memory(x)
    laid.flat[x.numel():] = torch.nan
    return laid


def _nan_values(q, k, v, rows, tile):
    return torch.full_like(q, torch.nan) if len(k) % tile else reference(q, k, v, rows, tile)


def _nan_keys(q, k, v, rows, tile):
    out = reference(q, k, v, rows, tile)
    if q.shape[1] & (q.shape[1] - 1):
        out[-1] = torch.nan                                             # the one query that sees the last key
    return out


def _flash(scale=lambda D: D**-0.5, last=lambda i, T, S: S - T + i, sees=lambda key, last: key <= last,
           l_factor=lambda m, new: (m - new).exp(), factor=lambda m, new: (m - new).exp(), late=False, base=1.0,
           starts=lambda S, tile: range(0, S, tile), k_start=lambda s: s, v_start=lambda s: s,
           raised=torch.maximum, top=lambda scores, hidden: hidden.amax(1), product=lambda q, k: q @ k.T,
           fill=-torch.inf, each=False, value_of=lambda k, v: v, kept=lambda m, new: new):
    """The answer with one thing changed."""
    def attention(q, k, v, rows, tile):
        (T, D), S = q.shape, len(k)
        pad = lambda x: torch.cat((x.float(), torch.zeros(tile, D)))            # noqa: E731
        k_long, v_long = pad(k), pad(v)
        last_seen = last(torch.arange(T), T, S)
        m, l, acc = torch.full((T,), -torch.inf), torch.zeros(T), torch.zeros(T, D)
        for start in starts(S, tile):
            scores = product(q.float(), k_long[k_start(start): k_start(start) + tile]) * scale(D) * base
            places = start + torch.arange(tile)
            seen = sees(places[None, :], last_seen[:, None]) & (places < S)
            if not seen.any() and fill == -torch.inf:
                continue
            hidden = scores.masked_fill(~seen, fill)
            new = raised(m, top(scores, hidden))
            p = (hidden - new[:, None]).exp()
            value = value_of(k_long, v_long)[v_start(start): v_start(start) + tile]
            by_l, by = l_factor(m, new), factor(m, new)[:, None]
            l, acc = ((l + p.sum(1)) * by_l, (acc + p @ value) * by) if late else (
                l * by_l + p.sum(1), acc * by + p @ value)
            m, acc = kept(m, new), acc / l[:, None] if each else acc
        return (acc / l[:, None]).to(q.dtype)
    return attention


def _before_the_diagonal(q, k, v, rows, tile):
    """The loop ends where the program's first query stands: what stands in later tiles is never read."""
    (T, D), S = q.shape, len(k)
    place, top = torch.arange(S), torch.arange(T) // rows * rows
    seen = (place // tile * tile < S - T + top[:, None]) & (place <= S - T + torch.arange(T)[:, None])
    scores = (q.float() @ k.float().T * D**-0.5).masked_fill(~seen, -torch.inf)
    return (scores.softmax(1) @ v.float()).to(q.dtype)


def one(m, new):
    return torch.ones_like(m)


WRONG_4 = {
    "v is read past its S rows, where NaN stands here, and 0 · NaN is NaN: mask keys < S, other=0.0; "
    "rows are D apart, not HEAD": _nan_values,
    "k is read past a row's D numbers, where NaN stands here, and 0 · NaN is NaN: mask dims < D, other=0.0": _nan_keys,
    "the accumulator is not corrected when m rises: acc * shrink[:, None]": _flash(factor=one),
    "l is not corrected when m rises: l * shrink": _flash(l_factor=one),
    "neither l nor acc is corrected when m rises: multiply both by exp2(m - m_new)": _flash(l_factor=one, factor=one),
    "the loop ends before the diagonal: the program's last query sees keys up to S - T + (p + 1) · ROWS - 1":
        _before_the_diagonal,
    "the keys are not transposed: tl.dot(these, k_tile.T), so that each query meets each key": _flash(
        product=lambda q, k: q @ k),
    "that multiplies number by number: tl.dot(these, k_tile.T) sums over the head": _flash(
        product=lambda q, k: q * k[: len(q)]),
    "hidden scores become 0, which is a score like any other: -inf": _flash(fill=0.0),
    "the accumulator is divided in the loop: leave it un-scaled, the store at the end divides": _flash(each=True),
    "the values are read from k": _flash(value_of=lambda k, v: k),
    "m stays -inf: the next turn needs m = m_new": _flash(kept=lambda m, new: m),
    "the new tile is corrected as well; it is measured against the new maximum already": _flash(late=True),
    "the causal mask is missing: a query sees no key past last_seen": _flash(sees=lambda key, last: key > -1),
    "a query doesn't see its own key: keys <= last_seen, not <": _flash(sees=lambda key, last: key < last),
    "the cached prefix is forgotten: compare with last_seen = S - T + rows, not with rows": _flash(
        last=lambda i, T, S: i),
    "the scale is missing": _flash(scale=lambda D: math.log(2)),
    "the scale holds log2(e), so the exponential is tl.exp2: with tl.exp every score is 1.44 times too large": _flash(
        base=LOG2_E),
    "only the first tile is read: for start in range(0, S, TILE)": _flash(starts=lambda S, tile: range(0, tile, tile)),
    "only whole tiles are read: the last one may be ragged": _flash(
        starts=lambda S, tile: range(0, S // tile * tile, tile)),
    "the keys are always those of the first tile: keys = start + tl.arange(0, TILE)": _flash(k_start=lambda s: 0),
    "the values are always those of the first tile: v is loaded at the same places as k": _flash(v_start=lambda s: 0),
    "m is the last tile's maximum, not the largest so far: tl.maximum(m, tl.max(scores, 1))": _flash(
        raised=lambda m, tile: tile),
    "the maximum is taken before the mask: a large hidden score then pushes all that is seen to 0": _flash(
        top=lambda scores, hidden: scores.amax(1)),
}


def qkv(T, S, D, size=1.0, slope=0.0, dtype=torch.float32):
    """The same numbers on every machine; slope > 0: later keys score higher. Tiles below have 16 or more a side, since
    a GPU's matrix units take no fewer."""
    def wave(n, speed):
        return torch.sin(torch.arange(n * D, dtype=torch.float32) * speed).reshape(n, D)
    rise = slope * torch.arange(S, dtype=torch.float32)[:, None]
    return tuple(x.to(dtype) for x in (wave(T, 1.7) * size + 0.5, wave(S, 2.3) + rise, wave(S, 0.7)))


@ex4.check("one tile", mistake="scores, mask, maximum, exp2, sums")
def _(answer):
    agree(run(answer), reference, [(*qkv(1, 16, 16), 16, 16), (*qkv(16, 16, 16), 16, 16),
                                   (*qkv(16, 32, 16, 2.0), 16, 32)], wrong=WRONG_4)


@ex4.check("several tiles", mistake="l and acc are multiplied by exp2(m - m_new), then the tile's sums are added")
def _(answer):
    agree(run(answer), reference, [(*qkv(16, 32, 16, slope=0.05), 16, 16), (*qkv(32, 32, 16, 3.0), 16, 16),
                                   (*qkv(32, 64, 16, 2.0, -0.05), 32, 16)], wrong=WRONG_4)


@ex4.check("ragged ends, and a head of 80", mistake="keys < S and dims < D in both loads")
def _(answer):
    agree(run(answer), reference, [(*qkv(3, 23, 16, 2.0), 16, 16), (*qkv(5, 43, 16, 2.0), 16, 16),
                                   (*qkv(5, 17, 80, slope=0.05), 16, 16), (*qkv(1, 18, 48), 16, 16)], wrong=WRONG_4)


@ex4.check("scores of ±10,000", mistake="hide what is not seen before the maximum is taken")
def _(answer):
    agree(run(answer), reference, [(*qkv(16, 32, 16, slope=200.0), 16, 16), (*qkv(16, 32, 16, slope=-200.0), 16, 16)],
          wrong=WRONG_4)


@ex4.check("float16", mistake="p.to(v_tile.dtype) before the second tl.dot: both tiles of a product have one dtype")
def _(answer):
    agree(run(answer), reference, [(*qkv(16, 32, 16, dtype=torch.float16), 16, 32)], wrong=WRONG_4, tol=4e-3)
