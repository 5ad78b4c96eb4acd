"""Wrong answers to 11.4: kernels that read a tile of keys through the block table. None reads or writes far outside."""
import linecache

from minilm.kernels.backend import tl, triton
from mutants import Mutant

RIGHT = '''@triton.jit
def paged_state_kernel(q, k, v, tables, lengths, outs, lses, width, scale, GROUP: tl.constexpr, D: tl.constexpr,
                       PAGE: tl.constexpr, TILE: tl.constexpr):
    t, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H = tl.num_programs(1)
    K = H // GROUP
    j, d = t * TILE + tl.arange(0, TILE), tl.arange(0, D)
    inside = j < tl.load(lengths + b)
    page = tl.load(tables + b * width + j // PAGE, mask=inside, other=0)
    at = ((page * PAGE + j % PAGE) * K + h // GROUP)[:, None] * D + d[None, :]
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
'''


def wrong(says, expect, *edits):
    """RIGHT with pieces of it replaced, (old, new) each; its source goes where Triton reads it."""
    source = RIGHT
    for old, new in edits:
        assert old in source, f"{says}: {old!r} is not in the kernel"
        source = source.replace(old, new)
    name = f"<answer 11.4, {says}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space = {"triton": triton, "tl": tl}
    exec(compile(source, name, "exec"), space)
    return Mutant(says, space["paged_state_kernel"], expect, counted="nobody's" in expect)


def not_a_kernel(q, k, v, tables, lengths, outs, lses, width, scale, GROUP, D, PAGE, TILE):
    outs[:] = 0


SLOT, LSE = "page * PAGE + j % PAGE", "m + tl.log(some)"

MUTANTS = {
    "11.4": [
        wrong("no table", "the table is not asked", (SLOT, "j")),
        wrong("first rows table", "row b's begins at tables + b * width", ("b * width + ", "")),
        wrong("tables a block's length apart", "you take PAGE", ("b * width", "b * PAGE")),
        wrong("one slot a block", "a block is PAGE slots long", (SLOT, "page + j % PAGE")),
        wrong("no place", "add the place", (SLOT, "page * PAGE")),
        wrong("j for the place", "its place in the block is j % PAGE", (SLOT, "page * PAGE + j")),
        wrong("entry of the tile", "only where a tile is a page", ("b * width + j // PAGE", "b * width + t + 0 * j")),
        wrong("first tile", "every program reads the first tile", ("t * TILE + tl.arange", "tl.arange")),
        wrong("other heads", "yours is h % K", ("+ h // GROUP", "+ h % K")),
        wrong("without K", "you leave K out", (f"({SLOT}) * K", f"({SLOT})")),
        wrong("H for K", "K key-value heads, not H", (f"({SLOT}) * K", f"({SLOT}) * H")),
        wrong("heads first", "yours has all keys of a head together",
              (f"({SLOT}) * K + h // GROUP", "(page * K + h // GROUP) * PAGE + j % PAGE")),
        wrong("first query", "the first row's query", ("(b * H + h) * D", "h * D")),
        wrong("last key missing", "the last key is missing", ("tl.load(lengths + b)", "tl.load(lengths + b) - 1")),
        wrong("one key too many", "one key too many", ("j < tl.load", "j <= tl.load")),
        wrong("padding counts", "count as keys of zeros",
              ("tl.where(inside, tl.sum(key * query[None, :], 1) * scale, float(\"-inf\"))",
               "tl.sum(key * query[None, :], 1) * scale")),
        wrong("entries without a mask", "reads what is nobody's", ("j // PAGE, mask=inside, other=0)", "j // PAGE)")),
        wrong("keys without a mask", "reads what is nobody's", ("k + at, mask=inside[:, None], other=0.0", "k + at")),
        wrong("values without a mask", "reads what is nobody's", ("v + at, mask=inside[:, None], other=0.0", "v + at")),
        wrong("maximum for lse", "add tl.log(l)", (LSE, "m")),
        wrong("base 2", "to base 2", (LSE, "m + tl.log2(some)")),
        wrong("lse 0 of nothing", "has the lse 0", (LSE, "tl.where(l > 0, m + tl.log(some), 0.0)")),
        wrong("nan of nothing", "leaves NaN in outs", ('score - tl.where(m > float("-inf"), m, 0.0)', "score - m")),
        wrong("nan out", "leaves NaN in outs", (", 0) / some", ", 0) / l")),
        wrong("heads before rows", "heads before rows", ("(t * tl.num_programs(2) + b) * H + h",
                                                         "(t * H + h) * tl.num_programs(2) + b")),
        wrong("rows before tiles", "states are exchanged", ("(t * tl.num_programs(2) + b) * H + h",
                                                            "(b * tl.num_programs(0) + t) * H + h")),
        Mutant("not a kernel", not_a_kernel, "keep @triton.jit"),
    ],
}
