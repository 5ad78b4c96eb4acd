"""Wrong answers to 09.1 and 09.2: a masked vector kernel, softmax of a row. None stores far outside: it would crash."""

from minilm.kernels.backend import tl, triton
from mutants import Mutant

# --- 09.1 ------------------------------------------------------------------------------------------------------------


@triton.jit
def store_without_mask(x, out, a, b, N, TILE: tl.constexpr):
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(out + offsets, a * tl.load(x + offsets, mask=offsets < N) + b)


@triton.jit
def mask_one_too_far(x, out, a, b, N, TILE: tl.constexpr):
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = offsets <= N
    tl.store(out + offsets, a * tl.load(x + offsets, mask=inside) + b, mask=inside)


@triton.jit
def mask_within_the_tile(x, out, a, b, N, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    offsets = tl.program_id(0) * TILE + columns
    tl.store(out + offsets, a * tl.load(x + offsets, mask=columns < N) + b, mask=columns < N)


@triton.jit
def no_program_id(x, out, a, b, N, TILE: tl.constexpr):
    offsets = tl.arange(0, TILE)
    tl.store(out + offsets, a * tl.load(x + offsets, mask=offsets < N) + b, mask=offsets < N)


@triton.jit
def programs_overlap(x, out, a, b, N, TILE: tl.constexpr):
    offsets = tl.program_id(0) + tl.arange(0, TILE)
    tl.store(out + offsets, a * tl.load(x + offsets, mask=offsets < N) + b, mask=offsets < N)


@triton.jit
def adds_first(x, out, a, b, N, TILE: tl.constexpr):
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(out + offsets, a * (tl.load(x + offsets, mask=offsets < N) + b), mask=offsets < N)


@triton.jit
def forgets_b(x, out, a, b, N, TILE: tl.constexpr):
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(out + offsets, a * tl.load(x + offsets, mask=offsets < N), mask=offsets < N)


@triton.jit
def other_names(source, target, a, b, length, TILE: tl.constexpr):
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(target + offsets, a * tl.load(source + offsets, mask=offsets < length) + b, mask=offsets < length)


def not_a_kernel(x, out, a, b, N, TILE):
    out[:N] = a * x[:N] + b


@triton.jit
def unmasked_load(x, out, a, b, N, TILE: tl.constexpr):
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(out + offsets, a * tl.load(x + offsets) + b, mask=offsets < N)


@triton.jit
def all_tiles(x, out, a, b, N, TILE: tl.constexpr):
    for start in range(0, N, TILE):
        offsets = start + tl.arange(0, TILE)
        tl.store(out + offsets, a * tl.load(x + offsets, mask=offsets < N) + b, mask=offsets < N)


@triton.jit
def into_x_as_well(x, out, a, b, N, TILE: tl.constexpr):
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    y = a * tl.load(x + offsets, mask=offsets < N) + b
    tl.store(x + offsets, y, mask=offsets < N)
    tl.store(out + offsets, y, mask=offsets < N)


@triton.jit
def returns_it(x, out, a, b, N, TILE: tl.constexpr):
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    return a * tl.load(x + offsets, mask=offsets < N) + b


@triton.jit
def indexes(x, out, a, b, N, TILE: tl.constexpr):
    out[tl.program_id(0)] = a * x[tl.program_id(0)] + b


# --- 09.2 ------------------------------------------------------------------------------------------------------------


@triton.jit
def load_without_mask(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    tile = tl.load(x + row * x_row + columns)
    e = tl.exp(tile - tl.max(tile, 0))
    tl.store(out + row * out_row + columns, e / tl.sum(e, 0), mask=columns < N)


@triton.jit
def zeros_past_the_row(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    tile = tl.load(x + row * x_row + columns, mask=columns < N, other=0.0)
    e = tl.exp(tile - tl.max(tile, 0))
    tl.store(out + row * out_row + columns, e / tl.sum(e, 0), mask=columns < N)


@triton.jit
def zeros_in_the_maximum(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    tile = tl.load(x + row * x_row + columns, mask=columns < N, other=0.0)
    e = tl.where(columns < N, tl.exp(tile - tl.max(tile, 0)), 0.0)
    tl.store(out + row * out_row + columns, e / tl.sum(e, 0), mask=columns < N)


@triton.jit
def without_maximum(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    e = tl.exp(tl.load(x + row * x_row + columns, mask=columns < N, other=float("-inf")))
    tl.store(out + row * out_row + columns, e / tl.sum(e, 0), mask=columns < N)


@triton.jit
def rows_n_apart(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    tile = tl.load(x + row * N + columns, mask=columns < N, other=float("-inf"))
    e = tl.exp(tile - tl.max(tile, 0))
    tl.store(out + row * out_row + columns, e / tl.sum(e, 0), mask=columns < N)


@triton.jit
def rows_a_tile_apart(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    tile = tl.load(x + row * TILE + columns, mask=columns < N, other=float("-inf"))
    e = tl.exp(tile - tl.max(tile, 0))
    tl.store(out + row * out_row + columns, e / tl.sum(e, 0), mask=columns < N)


@triton.jit
def out_rows_as_in_x(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    tile = tl.load(x + row * x_row + columns, mask=columns < N, other=float("-inf"))
    e = tl.exp(tile - tl.max(tile, 0))
    tl.store(out + row * x_row + columns, e / tl.sum(e, 0), mask=columns < N)


@triton.jit
def stores_the_padding(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    tile = tl.load(x + row * x_row + columns, mask=columns < N, other=float("-inf"))
    e = tl.exp(tile - tl.max(tile, 0))
    tl.store(out + row * out_row + columns, e / tl.sum(e, 0))


@triton.jit
def not_divided(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    tile = tl.load(x + row * x_row + columns, mask=columns < N, other=float("-inf"))
    tl.store(out + row * out_row + columns, tl.exp(tile - tl.max(tile, 0)), mask=columns < N)


@triton.jit
def first_row_only(x, out, x_row, out_row, N, TILE: tl.constexpr):
    columns = tl.arange(0, TILE)
    tile = tl.load(x + columns, mask=columns < N, other=float("-inf"))
    e = tl.exp(tile - tl.max(tile, 0))
    tl.store(out + tl.program_id(0) * out_row + columns, e / tl.sum(e, 0), mask=columns < N)


@triton.jit
def loads_twice(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    m = tl.max(tl.load(x + row * x_row + columns, mask=columns < N, other=float("-inf")), 0)
    e = tl.exp(tl.load(x + row * x_row + columns, mask=columns < N, other=float("-inf")) - m)
    tl.store(out + row * out_row + columns, e / tl.sum(e, 0), mask=columns < N)


@triton.jit
def hides_what_it_read(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    tile = tl.where(columns < N, tl.load(x + row * x_row + columns), float("-inf"))
    e = tl.exp(tile - tl.max(tile, 0))
    tl.store(out + row * out_row + columns, e / tl.sum(e, 0), mask=columns < N)


@triton.jit
def finite_filling(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    tile = tl.load(x + row * x_row + columns, mask=columns < N, other=-1e4)
    e = tl.exp(tile - tl.max(tile, 0))
    tl.store(out + row * out_row + columns, e / tl.sum(e, 0), mask=columns < N)


@triton.jit
def logarithms(x, out, x_row, out_row, N, TILE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, TILE)
    tile = tl.load(x + row * x_row + columns, mask=columns < N, other=float("-inf"))
    d = tile - tl.max(tile, 0)
    tl.store(out + row * out_row + columns, d - tl.log(tl.sum(tl.exp(d), 0)), mask=columns < N)


MUTANTS = {
    "09.1": [
        Mutant("store without a mask", store_without_mask, "behind the end of out"),
        Mutant("<= in the mask", mask_one_too_far, "one number too many"),
        Mutant("mask within the tile", mask_within_the_tile, "offsets and not tl.arange alone"),
        Mutant("no program id", no_program_id, "every program writes the first tile"),
        Mutant("programs one element apart", programs_overlap, "part of out is never written"),
        Mutant("adds before it multiplies", adds_first, "not a · (x + b)"),
        Mutant("forgets b", forgets_b, "b is missing"),
        Mutant("other names", other_names, "it should take (x, out, a, b, N, TILE)"),
        Mutant("not a kernel", not_a_kernel, "keep @triton.jit"),
        Mutant("load without a mask", unmasked_load, "the load reads past the end of x", counted=True),
        Mutant("every program does all", all_tiles, "every program goes through all tiles", counted=True),
        Mutant("writes into x", into_x_as_well, "writes into x, which is there to be read"),
        Mutant("returns it", returns_it, "a kernel returns nothing"),
        Mutant("indexes an address", indexes, "tl.load and tl.store in place of x[i]"),
    ],
    "09.2": [
        Mutant("load without a mask", load_without_mask, "the load has no mask"),
        Mutant("other=0", zeros_past_the_row, "other=0 puts zeros behind the row"),
        Mutant("other=0 in the maximum", zeros_in_the_maximum, "other=0 takes part in the maximum"),
        Mutant("no maximum", without_maximum, "the maximum is not subtracted"),
        Mutant("rows N apart", rows_n_apart, "rows of x begin x_row apart, not N"),
        Mutant("rows TILE apart", rows_a_tile_apart, "you use TILE"),
        Mutant("x's stride for out", out_rows_as_in_x, "its rows begin out_row apart"),
        Mutant("stores the padding", stores_the_padding, "the store needs mask=columns < N"),
        Mutant("not divided", not_divided, "not divided by its sum"),
        Mutant("first row only", first_row_only, "every program reads the first row"),
        Mutant("loads the row twice", loads_twice, "the row is loaded more than once", counted=True),
        Mutant("reads too far and hides it", hides_what_it_read, "the load reads past the row's end", counted=True),
        Mutant("finite filling", finite_filling, "a finite number that these logits come near to"),
        Mutant("log softmax", logarithms, "the logarithm of the softmax"),
    ],
}
