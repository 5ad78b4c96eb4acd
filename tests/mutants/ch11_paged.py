"""Wrong answers to 11.4: kernels that read a tile of keys through the block table. None reads or writes far outside."""
from minilm.kernels.backend import tl, triton
from mutants import Mutant


@triton.jit
def no_table(q, k, v, tables, lengths, outs, lses, width, scale, GROUP: tl.constexpr, D: tl.constexpr,
             PAGE: tl.constexpr, TILE: tl.constexpr):
    t, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H = tl.num_programs(1)
    j, d = t * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = j < tl.load(lengths + b)
    at = (j * (H // GROUP) + h // GROUP)[:, None] * D + d[None, :]
    query = tl.load(q + (b * H + h) * D + d)
    key = tl.load(k + at, mask=inside[:, None], other=0.0)
    score = tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float("-inf"))
    m = tl.max(score, 0)
    p = tl.exp(score - tl.where(m > float("-inf"), m, 0.0))
    l = tl.sum(p, 0)
    some = tl.where(l > 0, l, 1.0)
    value = tl.load(v + at, mask=inside[:, None], other=0.0)
    place = (t * tl.num_programs(2) + b) * H + h
    tl.store(outs + place * D + d, tl.sum(p[:, None] * value, 0) / some)
    tl.store(lses + place, m + tl.log(some))


@triton.jit
def first_rows_table(q, k, v, tables, lengths, outs, lses, width, scale, GROUP: tl.constexpr, D: tl.constexpr,
                     PAGE: tl.constexpr, TILE: tl.constexpr):
    t, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H = tl.num_programs(1)
    j, d = t * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = j < tl.load(lengths + b)
    page = tl.load(tables + j // PAGE, mask=inside, other=0)
    at = ((page * PAGE + j % PAGE) * (H // GROUP) + h // GROUP)[:, None] * D + d[None, :]
    query = tl.load(q + (b * H + h) * D + d)
    key = tl.load(k + at, mask=inside[:, None], other=0.0)
    score = tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float("-inf"))
    m = tl.max(score, 0)
    p = tl.exp(score - tl.where(m > float("-inf"), m, 0.0))
    l = tl.sum(p, 0)
    some = tl.where(l > 0, l, 1.0)
    value = tl.load(v + at, mask=inside[:, None], other=0.0)
    place = (t * tl.num_programs(2) + b) * H + h
    tl.store(outs + place * D + d, tl.sum(p[:, None] * value, 0) / some)
    tl.store(lses + place, m + tl.log(some))


@triton.jit
def one_slot_a_block(q, k, v, tables, lengths, outs, lses, width, scale, GROUP: tl.constexpr, D: tl.constexpr,
                     PAGE: tl.constexpr, TILE: tl.constexpr):
    t, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H = tl.num_programs(1)
    j, d = t * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = j < tl.load(lengths + b)
    page = tl.load(tables + b * width + j // PAGE, mask=inside, other=0)
    at = ((page + j % PAGE) * (H // GROUP) + h // GROUP)[:, None] * D + d[None, :]
    query = tl.load(q + (b * H + h) * D + d)
    key = tl.load(k + at, mask=inside[:, None], other=0.0)
    score = tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float("-inf"))
    m = tl.max(score, 0)
    p = tl.exp(score - tl.where(m > float("-inf"), m, 0.0))
    l = tl.sum(p, 0)
    some = tl.where(l > 0, l, 1.0)
    value = tl.load(v + at, mask=inside[:, None], other=0.0)
    place = (t * tl.num_programs(2) + b) * H + h
    tl.store(outs + place * D + d, tl.sum(p[:, None] * value, 0) / some)
    tl.store(lses + place, m + tl.log(some))


@triton.jit
def no_place(q, k, v, tables, lengths, outs, lses, width, scale, GROUP: tl.constexpr, D: tl.constexpr,
             PAGE: tl.constexpr, TILE: tl.constexpr):
    t, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H = tl.num_programs(1)
    j, d = t * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = j < tl.load(lengths + b)
    page = tl.load(tables + b * width + j // PAGE, mask=inside, other=0)
    at = ((page * PAGE) * (H // GROUP) + h // GROUP)[:, None] * D + d[None, :]
    query = tl.load(q + (b * H + h) * D + d)
    key = tl.load(k + at, mask=inside[:, None], other=0.0)
    score = tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float("-inf"))
    m = tl.max(score, 0)
    p = tl.exp(score - tl.where(m > float("-inf"), m, 0.0))
    l = tl.sum(p, 0)
    some = tl.where(l > 0, l, 1.0)
    value = tl.load(v + at, mask=inside[:, None], other=0.0)
    place = (t * tl.num_programs(2) + b) * H + h
    tl.store(outs + place * D + d, tl.sum(p[:, None] * value, 0) / some)
    tl.store(lses + place, m + tl.log(some))


@triton.jit
def entry_of_the_tile(q, k, v, tables, lengths, outs, lses, width, scale, GROUP: tl.constexpr, D: tl.constexpr,
                      PAGE: tl.constexpr, TILE: tl.constexpr):
    t, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H = tl.num_programs(1)
    j, d = t * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = j < tl.load(lengths + b)
    page = tl.load(tables + b * width + t + 0 * j, mask=inside, other=0)
    at = ((page * PAGE + j % PAGE) * (H // GROUP) + h // GROUP)[:, None] * D + d[None, :]
    query = tl.load(q + (b * H + h) * D + d)
    key = tl.load(k + at, mask=inside[:, None], other=0.0)
    score = tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float("-inf"))
    m = tl.max(score, 0)
    p = tl.exp(score - tl.where(m > float("-inf"), m, 0.0))
    l = tl.sum(p, 0)
    some = tl.where(l > 0, l, 1.0)
    value = tl.load(v + at, mask=inside[:, None], other=0.0)
    place = (t * tl.num_programs(2) + b) * H + h
    tl.store(outs + place * D + d, tl.sum(p[:, None] * value, 0) / some)
    tl.store(lses + place, m + tl.log(some))


@triton.jit
def other_heads(q, k, v, tables, lengths, outs, lses, width, scale, GROUP: tl.constexpr, D: tl.constexpr,
                PAGE: tl.constexpr, TILE: tl.constexpr):
    t, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H = tl.num_programs(1)
    j, d = t * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = j < tl.load(lengths + b)
    page = tl.load(tables + b * width + j // PAGE, mask=inside, other=0)
    at = ((page * PAGE + j % PAGE) * (H // GROUP) + h % (H // GROUP))[:, None] * D + d[None, :]
    query = tl.load(q + (b * H + h) * D + d)
    key = tl.load(k + at, mask=inside[:, None], other=0.0)
    score = tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float("-inf"))
    m = tl.max(score, 0)
    p = tl.exp(score - tl.where(m > float("-inf"), m, 0.0))
    l = tl.sum(p, 0)
    some = tl.where(l > 0, l, 1.0)
    value = tl.load(v + at, mask=inside[:, None], other=0.0)
    place = (t * tl.num_programs(2) + b) * H + h
    tl.store(outs + place * D + d, tl.sum(p[:, None] * value, 0) / some)
    tl.store(lses + place, m + tl.log(some))


@triton.jit
def last_key_missing(q, k, v, tables, lengths, outs, lses, width, scale, GROUP: tl.constexpr, D: tl.constexpr,
                     PAGE: tl.constexpr, TILE: tl.constexpr):
    t, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H = tl.num_programs(1)
    j, d = t * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = j < tl.load(lengths + b) - 1
    page = tl.load(tables + b * width + j // PAGE, mask=inside, other=0)
    at = ((page * PAGE + j % PAGE) * (H // GROUP) + h // GROUP)[:, None] * D + d[None, :]
    query = tl.load(q + (b * H + h) * D + d)
    key = tl.load(k + at, mask=inside[:, None], other=0.0)
    score = tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float("-inf"))
    m = tl.max(score, 0)
    p = tl.exp(score - tl.where(m > float("-inf"), m, 0.0))
    l = tl.sum(p, 0)
    some = tl.where(l > 0, l, 1.0)
    value = tl.load(v + at, mask=inside[:, None], other=0.0)
    place = (t * tl.num_programs(2) + b) * H + h
    tl.store(outs + place * D + d, tl.sum(p[:, None] * value, 0) / some)
    tl.store(lses + place, m + tl.log(some))


@triton.jit
def maximum_for_lse(q, k, v, tables, lengths, outs, lses, width, scale, GROUP: tl.constexpr, D: tl.constexpr,
                    PAGE: tl.constexpr, TILE: tl.constexpr):
    t, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H = tl.num_programs(1)
    j, d = t * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = j < tl.load(lengths + b)
    page = tl.load(tables + b * width + j // PAGE, mask=inside, other=0)
    at = ((page * PAGE + j % PAGE) * (H // GROUP) + h // GROUP)[:, None] * D + d[None, :]
    query = tl.load(q + (b * H + h) * D + d)
    key = tl.load(k + at, mask=inside[:, None], other=0.0)
    score = tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float("-inf"))
    m = tl.max(score, 0)
    p = tl.exp(score - tl.where(m > float("-inf"), m, 0.0))
    l = tl.sum(p, 0)
    some = tl.where(l > 0, l, 1.0)
    value = tl.load(v + at, mask=inside[:, None], other=0.0)
    place = (t * tl.num_programs(2) + b) * H + h
    tl.store(outs + place * D + d, tl.sum(p[:, None] * value, 0) / some)
    tl.store(lses + place, m)


@triton.jit
def nan_of_nothing(q, k, v, tables, lengths, outs, lses, width, scale, GROUP: tl.constexpr, D: tl.constexpr,
                   PAGE: tl.constexpr, TILE: tl.constexpr):
    t, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H = tl.num_programs(1)
    j, d = t * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = j < tl.load(lengths + b)
    page = tl.load(tables + b * width + j // PAGE, mask=inside, other=0)
    at = ((page * PAGE + j % PAGE) * (H // GROUP) + h // GROUP)[:, None] * D + d[None, :]
    query = tl.load(q + (b * H + h) * D + d)
    key = tl.load(k + at, mask=inside[:, None], other=0.0)
    score = tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float("-inf"))
    m = tl.max(score, 0)
    p = tl.exp(score - m)
    l = tl.sum(p, 0)
    some = tl.where(l > 0, l, 1.0)
    value = tl.load(v + at, mask=inside[:, None], other=0.0)
    place = (t * tl.num_programs(2) + b) * H + h
    tl.store(outs + place * D + d, tl.sum(p[:, None] * value, 0) / some)
    tl.store(lses + place, m + tl.log(some))


@triton.jit
def nan_out(q, k, v, tables, lengths, outs, lses, width, scale, GROUP: tl.constexpr, D: tl.constexpr,
            PAGE: tl.constexpr, TILE: tl.constexpr):
    t, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H = tl.num_programs(1)
    j, d = t * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = j < tl.load(lengths + b)
    page = tl.load(tables + b * width + j // PAGE, mask=inside, other=0)
    at = ((page * PAGE + j % PAGE) * (H // GROUP) + h // GROUP)[:, None] * D + d[None, :]
    query = tl.load(q + (b * H + h) * D + d)
    key = tl.load(k + at, mask=inside[:, None], other=0.0)
    score = tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float("-inf"))
    m = tl.max(score, 0)
    p = tl.exp(score - tl.where(m > float("-inf"), m, 0.0))
    l = tl.sum(p, 0)
    some = tl.where(l > 0, l, 1.0)
    value = tl.load(v + at, mask=inside[:, None], other=0.0)
    place = (t * tl.num_programs(2) + b) * H + h
    tl.store(outs + place * D + d, tl.sum(p[:, None] * value, 0) / l)
    tl.store(lses + place, m + tl.log(some))


def not_a_kernel(q, k, v, tables, lengths, outs, lses, width, scale, GROUP, D, PAGE, TILE):
    outs[:] = 0


MUTANTS = {
    "11.4": [
        Mutant("no table", no_table, "the table is not asked"),
        Mutant("first rows table", first_rows_table, "row b's begins at tables + b * width"),
        Mutant("one slot a block", one_slot_a_block, "a block is PAGE slots long"),
        Mutant("no place", no_place, "add the place"),
        Mutant("entry of the tile", entry_of_the_tile, "only where a tile is a page"),
        Mutant("other heads", other_heads, "yours is h % K"),
        Mutant("last key missing", last_key_missing, "the last key is missing"),
        Mutant("maximum for lse", maximum_for_lse, "add tl.log(l)"),
        Mutant("nan of nothing", nan_of_nothing, "leaves NaN in outs"),
        Mutant("nan out", nan_out, "leaves NaN in outs"),
        Mutant("not a kernel", not_a_kernel, "keep @triton.jit"),
    ],
}
