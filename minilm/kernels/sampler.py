"""The next token of every row in one launch: temperature, top-k, top-p and a draw by inverse CDF, as `sampling` means.

One program takes one row and walks over its logits some times; they stay in the caches. Nothing is sorted. Where top-k
or top-p cuts is found bit by bit: floating-point numbers are in order when their bits are read as whole numbers, so the
largest threshold that still keeps k tokens, or p of the mass, is a whole number, of which each walk finds two bits. It
is exact, ties and all. Masses are added up in float64, or nearly so, and a uniform number gives the token that it gives
on a CPU, but for those within some 1e-7 of a boundary between two tokens: that is how far float32 goes.
"""
import torch
from torch import Tensor

from minilm.kernels import reference
from minilm.kernels.backend import check_device, check_shape, check_tensors, launches, tl, triton

LONGEST_TILE = 8192
TINY = tl.constexpr(torch.finfo(torch.float32).tiny)
BITS = {torch.bfloat16: 16, torch.float16: 20, torch.float32: 32}       # of a float32 that tell two numbers apart; even


@triton.jit
def logits_at(row, i, V):
    """Tokens i's logits as float32; past the row -inf, which has no mass. -0 becomes 0: they are equal."""
    return tl.load(row + i, mask=i < V, other=float("-inf")).to(tl.float32) + 0.0


@triton.jit
def key_of(x):
    """A whole number for each float32, in the same order."""
    i = x.to(tl.int32, bitcast=True)
    return i ^ ((i >> 31) & 0x7FFFFFFF)


@triton.jit
def walk(row, V, top, inverse, a, b, c, MASS: tl.constexpr, TILE: tl.constexpr):
    """Of the tokens whose key is at least a, b or c: three masses, or how many tokens; float64."""
    KIND: tl.constexpr = tl.float32 if MASS else tl.int32
    sums_a = tl.zeros((TILE,), KIND)
    sums_b = tl.zeros((TILE,), KIND)
    sums_c = tl.zeros((TILE,), KIND)
    for start in range(0, V, TILE):
        x = logits_at(row, start + tl.arange(0, TILE), V)
        key = key_of(x)
        weight = tl.exp((x - top) * inverse) if MASS else 1
        sums_a += tl.where(key >= a, weight, 0)
        sums_b += tl.where(key >= b, weight, 0)
        sums_c += tl.where(key >= c, weight, 0)
    return tl.sum(sums_a.to(tl.float64), 0), tl.sum(sums_b.to(tl.float64), 0), tl.sum(sums_c.to(tl.float64), 0)


@triton.jit
def threshold(row, V, top, inverse, floor, enough, MASS: tl.constexpr, BITS: tl.constexpr, TILE: tl.constexpr):
    """The largest key, to BITS bits, such that the tokens from it on, and from `floor` on, are `enough`."""
    found = tl.full((), -(2**31), tl.int64)
    for i in range(BITS // 2):
        step = tl.full((), 2**30, tl.int64) >> (2 * i)
        a = tl.maximum(found + step, floor).to(tl.int32)
        b = tl.maximum(found + 2 * step, floor).to(tl.int32)
        c = tl.maximum(found + 3 * step, floor).to(tl.int32)
        a, b, c = walk(row, V, top, inverse, a, b, c, MASS, TILE)
        found += step * ((a >= enough).to(tl.int64) + (b >= enough).to(tl.int64) + (c >= enough).to(tl.int64))
    return tl.maximum(found, floor)


@triton.jit
def draw(row, V, top, inverse, whole, group, ties, each, target, TILE: tl.constexpr):
    """The token at which the mass so far passes `target`, in the order of the tokens' numbers.

    Tokens whose key is at least `whole` count; of those from `group` up to it the first `ties`, with mass `each`.
    """
    before, tied = tl.full((), 0.0, tl.float64), tl.full((), 0, tl.int32)
    at, at_before, at_tied, passed = tied, before, tied, tied > 0
    for start in range(0, V, TILE):
        x = logits_at(row, start + tl.arange(0, TILE), V)
        key = key_of(x)
        mass = tl.sum(tl.where(key >= whole, tl.exp((x - top) * inverse), 0.0).to(tl.float64), 0)
        some = tied * 0
        if tied < ties:
            some = tl.minimum(tl.sum(((key >= group) & (key < whole)).to(tl.int32), 0), ties - tied)
            mass += some * each
        here = (mass > 0) & (passed == 0)                   # if rounding keeps it from passing: the last with a mass
        at, at_before, at_tied = (tl.where(here, start, at), tl.where(here, before, at_before),
                                  tl.where(here, tied, at_tied))
        before, tied = before + mass, tied + some
        passed = passed | (before > target)
    i = at + tl.arange(0, TILE)
    x = logits_at(row, i, V)
    key = key_of(x)
    equal = (key >= group) & (key < whole)
    equal = equal & (at_tied + tl.cumsum(equal.to(tl.int32), 0) <= ties)
    mass = tl.where(key >= whole, tl.exp((x - top) * inverse), 0.0).to(tl.float64)
    mass = tl.where(equal, each, mass)
    beyond = at_before + tl.cumsum(mass, 0) > target
    last = tl.max(tl.where(mass > 0, i, 0), 0)
    return tl.min(tl.where(beyond & (mass > 0), i, last), 0)


@triton.jit
def sample_kernel(logits, temperatures, top_ks, top_ps, uniforms, tokens, V, stride, BITS: tl.constexpr,
                  TILE: tl.constexpr):
    """One row."""
    b = tl.program_id(0)
    row = logits + b.to(tl.int64) * stride
    best = tl.full((TILE,), float("-inf"), tl.float32)
    place = tl.zeros((TILE,), tl.int32)
    for start in range(0, V, TILE):
        i = start + tl.arange(0, TILE)
        x = logits_at(row, i, V)
        place = tl.where(x > best, i, place)                # the first of equals: a later one must be larger
        best = tl.maximum(best, x)
    top = tl.max(best, 0)
    token = tl.min(tl.where(best == top, place, V - 1), 0)
    temperature = tl.load(temperatures + b)
    if temperature > 0:
        inverse = 1.0 / tl.maximum(temperature.to(tl.float32), TINY)
        k, p = tl.load(top_ks + b), tl.load(top_ps + b).to(tl.float64)
        group = tl.full((), -(2**31), tl.int64)
        if (k > 0) & (k < V):
            group = threshold(row, V, top, inverse, group, k.to(tl.float64), False, BITS, TILE)
        least = group.to(tl.int32)
        total, _, _ = walk(row, V, top, inverse, least, least, least, True, TILE)
        whole, ties, each = group, tl.full((), 0, tl.int32), tl.full((), 0.0, tl.float64)
        if p < 1:                                           # all above the group, and the first of the group itself
            STEP: tl.constexpr = 2 ** (32 - BITS)
            goal = p * total
            group = threshold(row, V, top, inverse, group, goal, True, BITS, TILE)
            whole = group + STEP
            least = whole.to(tl.int32)
            above, _, _ = walk(row, V, top, inverse, least, least, least, True, TILE)
            number = group.to(tl.int32)                     # the group's one logit: with the bits after BITS, unordered
            number = tl.where(number < 0, (number | (STEP - 1)) ^ 0x7FFFFFFF, number)
            each = tl.exp((number.to(tl.float32, bitcast=True) - top) * inverse).to(tl.float64)
            ties = tl.maximum(tl.ceil((goal - above) / each), 1.0).to(tl.int32)
            total = above + ties * each
        target = tl.load(uniforms + b).to(tl.float64) * total
        token = draw(row, V, top, inverse, whole.to(tl.int32), group.to(tl.int32), ties, each, target, TILE)
    tl.store(tokens + b, token.to(tl.int64))


def sample(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, uniforms: Tensor) -> Tensor:
    """logits[B, V] -> tokens[B], int64: for each row what `Sampling(temperature, top_k, top_p)` draws with its uniform.

    temperature[B], top_p[B], uniforms[B]: float32 or float64; top_k[B]: int32 or int64. Temperature 0: the largest
    logit, of equals that with the smallest number. top_k 0, or top_p 1: no cut. Uniforms lie in [0, 1).
    Ranges are looked at on the CPU only (a GPU would wait). Raises ValueError or TypeError for what doesn't fit.
    """
    check_tensors(logits=logits)
    check_shape("logits", logits, "B V")
    B, V = logits.shape
    floats, whole = (torch.float32, torch.float64), (torch.int32, torch.int64)
    for name, numbers, dtypes, fine, range_ in (
            ("temperature", temperature, floats, lambda t: (t >= 0) & (t < torch.inf), "0 or more, and finite"),
            ("top_k", top_k, whole, lambda k: k >= 0, "0 or more"),
            ("top_p", top_p, floats, lambda p: (p > 0) & (p <= 1), "above 0 and at most 1"),
            ("uniforms", uniforms, floats, lambda u: (u >= 0) & (u < 1), "from 0 up to 1, without 1")):
        if not isinstance(numbers, Tensor) or numbers.dtype not in dtypes:
            got = getattr(numbers, "dtype", type(numbers).__name__)
            raise TypeError(f"{name} must be a tensor of {' or '.join(str(d)[6:] for d in dtypes)}, not {got}")
        check_shape(name, numbers, "B", B=B)
        check_device("logits", logits, name, numbers)
        if numbers.device.type == "cpu" and not bool(fine(numbers).all()):
            raise ValueError(f"{name} must be {range_}; it is {numbers.tolist()}")
    if not launches(logits):
        return reference.sample(logits, temperature, top_k, top_p, uniforms)
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    tokens = torch.empty(B, dtype=torch.int64, device=logits.device)
    tile = min(triton.next_power_of_2(V), LONGEST_TILE)
    with torch.cuda.device_of(logits):                      # Triton launches on the current GPU
        sample_kernel[(B,)](logits, temperature.contiguous(), top_k.contiguous(), top_p.contiguous(),
                            uniforms.contiguous(), tokens, V, logits.stride(0), BITS=BITS[logits.dtype], TILE=tile,
                            num_warps=max(1, min(32, tile // 512)))
    return tokens
