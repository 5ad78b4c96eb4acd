"""Wrong answers to 10.4: the inner loop in Triton."""

import linecache

from minilm.kernels.backend import tl, triton
from mutants import Mutant


def flash(says, end="S", keys="start + tl.arange(0, TILE)", v_keys="keys", scale="* scale", seen="keys[None, :] <= "
          "last_seen[:, None]", before="", m_new="tl.maximum(m, tl.max(scores, 1))", exp="tl.exp2",
          l_new="l * shrink + tl.sum(p, 1)", acc_new="acc * shrink[:, None] + product",
          k_there="(keys < S)[:, None] & (dims < D)[None, :]", v_there="(keys < S)[:, None] & (dims < D)[None, :]",
          scores='tl.dot(these, k_tile.T, input_precision="ieee")', hidden='float("-inf")', v="v", m_kept="m_new"):
    """The answer with one expression changed; its source goes where Triton reads it."""
    source = f'''@triton.jit
def flash_kernel(q, k, v, out, scale, T, S, D, ROWS: tl.constexpr, TILE: tl.constexpr, HEAD: tl.constexpr):
    rows, dims = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, HEAD)
    mine = (rows < T)[:, None] & (dims < D)[None, :]
    these = tl.load(q + rows[:, None] * D + dims[None, :], mask=mine, other=0.0)
    last_seen = S - T + rows
    m = tl.full((ROWS,), float("-inf"), tl.float32)
    l = tl.zeros((ROWS,), tl.float32)
    acc = tl.zeros((ROWS, HEAD), tl.float32)
    for start in range(0, {end}, TILE):
        keys = {keys}
        there = {k_there}
        k_tile = tl.load(k + keys[:, None] * D + dims[None, :], mask=there, other=0.0)
        scores = {scores} {scale}
        keys = start + tl.arange(0, TILE)
        {before or "pass"}
        scores = tl.where({seen}, scores, {hidden})
        m_new = {m_new}
        p = {exp}(scores - m_new[:, None])
        shrink = {exp}(m - m_new)
        keys = {v_keys}
        there = {v_there}
        v_tile = tl.load({v} + keys[:, None] * D + dims[None, :], mask=there, other=0.0)
        product = tl.dot(p.to(v_tile.dtype), v_tile, input_precision="ieee")
        l = {l_new}
        acc = {acc_new}
        m = {m_kept}
    tl.store(out + rows[:, None] * D + dims[None, :], acc / l[:, None], mask=mine)
'''
    name = f"<answer 10.4, {says}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space = {"triton": triton, "tl": tl}
    exec(compile(source, name, "exec"), space)
    return space["flash_kernel"]


def wrong(says, expect, **change):
    return Mutant(says, flash(says, **change), expect)


MUTANTS = {
    "10.4": [
        wrong("accumulator not corrected", "the accumulator is not corrected", acc_new="acc + product"),
        wrong("l not corrected", "l is not corrected", l_new="l + tl.sum(p, 1)"),
        wrong("nothing corrected", "neither l nor acc", l_new="l + tl.sum(p, 1)", acc_new="acc + product"),
        wrong("corrects the new tile", "corrected as well", l_new="(l + tl.sum(p, 1)) * shrink",
              acc_new="(acc + product) * shrink[:, None]"),
        wrong("no mask", "the causal mask is missing", seen="keys[None, :] < S"),
        wrong("strictly less", "doesn't see its own key", seen="keys[None, :] < last_seen[:, None]"),
        wrong("no prefix", "prefix is forgotten", seen="keys[None, :] <= rows[:, None]"),
        wrong("no scale", "the scale is missing", scale=""),
        wrong("exp", "the scale holds log2(e)", exp="tl.exp"),
        wrong("stops before the diagonal", "the loop ends before the diagonal",
              end="tl.minimum(S, S - T + tl.program_id(0) * ROWS)"),
        wrong("keys not transposed", "the keys are not transposed", scores="tl.dot(these, k_tile)"),
        wrong("number by number", "number by number", scores="these * k_tile"),
        wrong("hidden scores of 0", "hidden scores become 0", hidden="0.0"),
        wrong("divides in the loop", "divided in the loop", acc_new="(acc * shrink[:, None] + product) / l[:, None]"),
        wrong("values from k", "the values are read from k", v="k"),
        wrong("old m", "m stays -inf", m_kept="m"),
        wrong("a product of PyTorch's", "tl.dot multiplies two tiles", scores="(these @ k_tile.T)"),
        wrong("first tile", "only the first tile", end="TILE"),
        wrong("whole tiles", "only whole tiles", end="S // TILE * TILE"),
        wrong("first keys", "keys are always those of the first", keys="tl.arange(0, TILE)"),
        wrong("first values", "values are always those of the first", v_keys="tl.arange(0, TILE)"),
        wrong("last maximum", "not the largest so far", m_new="tl.max(scores, 1)"),
        wrong("maximum before the mask", "maximum is taken before", before="top = tl.max(scores, 1)",
              m_new="tl.maximum(m, top)"),
        wrong("values without a mask", "v is read past its S rows", v_there="keys[:, None] >= 0"),
        wrong("no mask at all", "v is read past its S rows", v_there="keys[:, None] >= 0",
              k_there="keys[:, None] >= 0"),
        wrong("keys without the head's mask", "k is read past a row's D numbers", k_there="(keys < S)[:, None]"),
    ],
}
