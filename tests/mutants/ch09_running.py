"""Wrong answers to 09.3 and 09.4: RMSNorm with the residual, maximum and sum of a long row."""

import linecache

from minilm.kernels.backend import tl, triton
from mutants import Mutant

# --- 09.3 ------------------------------------------------------------------------------------------------------------


@triton.jit
def both(x, residual, place, inside):
    a = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    return a + tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def over_the_tile(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = both(x, residual, place, inside)
    tl.store(total + place, t, mask=inside)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, t * tl.rsqrt(tl.sum(t * t, 0) / TILE + eps) * w, mask=inside)


@triton.jit
def eps_outside(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = both(x, residual, place, inside)
    tl.store(total + place, t, mask=inside)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, t / (tl.sqrt(tl.sum(t * t, 0) / N) + eps) * w, mask=inside)


@triton.jit
def norms_x_alone(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(total + place, both(x, residual, place, inside), mask=inside)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, t * tl.rsqrt(tl.sum(t * t, 0) / N + eps) * w, mask=inside)


@triton.jit
def total_not_stored(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = both(x, residual, place, inside)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, t * tl.rsqrt(tl.sum(t * t, 0) / N + eps) * w, mask=inside)


@triton.jit
def subtracts_the_mean(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = both(x, residual, place, inside)
    tl.store(total + place, t, mask=inside)
    t = tl.where(inside, t - tl.sum(t, 0) / N, 0.0)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, t * tl.rsqrt(tl.sum(t * t, 0) / N + eps) * w, mask=inside)


@triton.jit
def forgets_weight(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = both(x, residual, place, inside)
    tl.store(total + place, t, mask=inside)
    tl.store(out + place, t * tl.rsqrt(tl.sum(t * t, 0) / N + eps), mask=inside)


@triton.jit
def squares_in_float16(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = tl.load(x + place, mask=inside, other=0.0) + tl.load(residual + place, mask=inside, other=0.0)
    tl.store(total + place, t, mask=inside)
    w = tl.load(weight + columns, mask=inside, other=0.0)
    tl.store(out + place, t * tl.rsqrt(tl.sum(t * t, 0) / N + eps) * w, mask=inside)


@triton.jit
def weight_with_the_row(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = both(x, residual, place, inside)
    tl.store(total + place, t, mask=inside)
    w = tl.load(weight + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, t * tl.rsqrt(tl.sum(t * t, 0) / N + eps) * w, mask=inside)


@triton.jit
def norm_without_mask(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = tl.load(x + place).to(tl.float32) + tl.load(residual + place).to(tl.float32)
    tl.store(total + place, t, mask=inside)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, t * tl.rsqrt(tl.sum(t * t, 0) / N + eps) * w, mask=inside)


@triton.jit
def exchanges_the_outputs(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = both(x, residual, place, inside)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(total + place, t * tl.rsqrt(tl.sum(t * t, 0) / N + eps) * w, mask=inside)
    tl.store(out + place, t, mask=inside)


@triton.jit
def one_more_than_weight(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = both(x, residual, place, inside)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(total + place, t, mask=inside)
    tl.store(out + place, t * tl.rsqrt(tl.sum(t * t, 0) / N + eps) * (1 + w), mask=inside)


@triton.jit
def adds_after_the_norm(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    a = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(total + place, a + b, mask=inside)
    tl.store(out + place, a * tl.rsqrt(tl.sum(a * a, 0) / N + eps) * w + b, mask=inside)


@triton.jit
def writes_the_sum_into_x(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    t = both(x, residual, place, inside)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(x + place, t, mask=inside)
    tl.store(total + place, t, mask=inside)
    tl.store(out + place, t * tl.rsqrt(tl.sum(t * t, 0) / N + eps) * w, mask=inside)


@triton.jit
def loads_the_sum_again(x, residual, weight, total, out, N, eps, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    place, inside = tl.program_id(0) * N + columns, columns < N
    tl.store(total + place, both(x, residual, place, inside), mask=inside)
    t = tl.load(total + place, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, t * tl.rsqrt(tl.sum(t * t, 0) / N + eps) * w, mask=inside)


# --- 09.4 ------------------------------------------------------------------------------------------------------------


SECOND_WALK = """    l = 0.0
    for start in range(0, N, TILE):
        tile = tl.load(x + tl.program_id(0) * x_row + start + columns, mask=start + columns < N, other=float("-inf"))
        l += tl.sum(tl.exp(tile - m), 0)
"""


def walk(says, other='float("-inf")', first='float("-inf")', m_new="tl.maximum(m, tl.max(tile, 0))",
         l_new="l * tl.exp(m - m_new) + tl.sum(tl.exp(tile - m_new), 0)", place="tl.program_id(0) * x_row", end="N",
         after="", stored="l"):
    """The answer with one expression changed; its source goes where Triton reads it."""
    source = f'''@triton.jit
def max_and_sum_kernel(x, m_out, l_out, x_row, N, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    m = {first}
    l = 0.0
    for start in range(0, {end}, TILE):
        tile = tl.load(x + {place} + start + columns, mask=start + columns < N, other={other})
        m_new = {m_new}
        l = {l_new}
        m = m_new
{after}    tl.store(m_out + tl.program_id(0), m)
    tl.store(l_out + tl.program_id(0), {stored})
'''
    name = f"<answer 09.4, {says}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space = {"triton": triton, "tl": tl}
    exec(compile(source, name, "exec"), space)
    return space["max_and_sum_kernel"]


def wrong(says, expect, **change):
    return Mutant(says, walk(says, **change), expect, counted="read more than once" in expect)


MUTANTS = {
    "09.3": [
        Mutant("divides by TILE", over_the_tile, "you divide by TILE"),
        Mutant("eps outside the root", eps_outside, "eps belongs under the root"),
        Mutant("norms x alone", norms_x_alone, "you norm x alone"),
        Mutant("total not stored", total_not_stored, "total is not written"),
        Mutant("subtracts the mean", subtracts_the_mean, "that would be LayerNorm"),
        Mutant("forgets weight", forgets_weight, "weight is missing"),
        Mutant("squares in float16", squares_in_float16, "squares in float16 overflow"),
        Mutant("weight of another row", weight_with_the_row, "weight is one row for all"),
        Mutant("load without a mask", norm_without_mask, "the load has no mask"),
        Mutant("exchanges the outputs", exchanges_the_outputs, "the two outputs are exchanged"),
        Mutant("1 + weight", one_more_than_weight, "not 1 + weight"),
        Mutant("adds after the norm", adds_after_the_norm, "add the residual afterwards"),
        Mutant("writes the sum into x", writes_the_sum_into_x, "writes into x"),
        Mutant("loads the sum again", loads_the_sum_again, "three loads do", counted=True),
    ],
    "09.4": [
        wrong("no correction", "never corrected", l_new="l + tl.sum(tl.exp(tile - m_new), 0)"),
        wrong("correction upside down", "upside down",
              l_new="tl.where(l > 0, l * tl.exp(m_new - m), 0.0) + tl.sum(tl.exp(tile - m_new), 0)"),
        wrong("corrects the new tile too", "corrected as well",
              l_new="(l + tl.sum(tl.exp(tile - m_new), 0)) * tl.exp(m - m_new)"),
        wrong("other=0", "other=0 takes part", other="0.0"),
        wrong("m begins at 0", "m begins at 0", first="0.0"),
        wrong("the last tile's maximum", "not the largest so far", m_new="tl.max(tile, 0)"),
        wrong("first tile only", "only the first tile is read", end="TILE"),
        wrong("whole tiles only", "only whole tiles are read", end="N // TILE * TILE"),
        wrong("last tile's sum only", "only the last tile's sum", l_new="tl.sum(tl.exp(tile - m_new), 0)"),
        wrong("against the old maximum", "taken against the old maximum",
              l_new="l * tl.exp(m - m_new) + tl.sum(tl.exp(tile - m), 0)"),
        wrong("rows N apart", "x_row apart, not N", place="tl.program_id(0) * N"),
        wrong("upside down from the first tile on", "begins with exp(inf) · 0",
              l_new="l * tl.exp(m_new - m) + tl.sum(tl.exp(tile - m_new), 0)"),
        wrong("same tile again", "the same tile is read in every turn", place="tl.program_id(0) * x_row - start"),
        wrong("the maximum taken off afterwards", "the exps are taken without the maximum",
              l_new="l + tl.sum(tl.exp(tile), 0)", stored="l * tl.exp(-m)"),
        wrong("two walks", "the row is read more than once", after=SECOND_WALK),
        wrong("first row only", "every program reads the first row", place="0"),
    ],
}
