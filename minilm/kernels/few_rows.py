"""The products of a decode step: a few rows of numbers with matrices that are read once, as fast as memory gives them.

A step of a large model is bound by reading its weights, so these kernels are about reading: enough bytes under way at
any moment, and no moment without. One program takes some rows of a weight matrix (they lie side by side in memory) and
all rows of x, so every weight is read once. Where that makes too few programs for the chip, SPLITS of them share a sum:
each leaves its part, and the last to arrive adds the parts up in their order, so that the sum is the same every time.
Programs of the next kernel take their places while the last one ends (programmatic dependent launch): weights depend on
nobody, so each asks for its first ones before it waits.

RMSNorm has no pass of its own. Its scale is one number a row, (x · g · scale) Wᵀ = scale · ((x · g) Wᵀ): who writes x
writes x · g too, and the sums of squares of its columns; who reads them adds these up and multiplies at the end.

Letters: R rows, H query heads, K key-value heads, D head size. A program's tile: ROWS of x, COLUMNS outputs, DEPTH
numbers of the sum at a time, SHARE of them in all.
"""
from minilm.kernels.backend import tl, triton

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait, num_threads
except ImportError:                                         # no Triton: the model itself computes
    gdc_launch_dependents = gdc_wait = num_threads = None

PRECISION = tl.constexpr("tf32x3")              # of float32 products: three of tensor cores, as exact as one in float32


@triton.jit
def begin(weight, which, start, LENGTH: tl.constexpr, COLUMNS: tl.constexpr, AHEAD: tl.constexpr,
          OVERLAP: tl.constexpr):
    """Lets the next kernel come, asks for the first AHEAD numbers of every weight row, waits for the last kernel.

    What is asked for comes into the L2 cache, and the threads share the asking: 16 bytes at least for each.
    """
    if OVERLAP:
        gdc_launch_dependents()
        if AHEAD:
            PIECES: tl.constexpr = num_threads() // COLUMNS
            SIZE: tl.constexpr = AHEAD // PIECES
            at = weight + which[:, None].to(tl.int64) * LENGTH + (start + tl.arange(0, PIECES) * SIZE)[None, :]
            num_bytes = tl.full([COLUMNS, PIECES], SIZE * (weight.dtype.element_ty.primitive_bitwidth // 8), tl.int32)
            tl.inline_asm_elementwise("cp.async.bulk.prefetch.L2.global [$1], $2; // $0", "=r,l,r",
                                      [at.to(tl.int64), num_bytes], dtype=tl.int32, is_pure=False, pack=1)
        gdc_wait()


@triton.jit
def product(x, weight, rows, which, R, start, LENGTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
            DEPTH: tl.constexpr, SHARE: tl.constexpr, EVEN: tl.constexpr):
    """Rows `which` of weight[., LENGTH] times `rows` of x[R, LENGTH] -> [COLUMNS, ROWS], over SHARE from `start` on.

    EVEN: every program's share lies inside. From 16 rows on by tensor cores; fewer would leave these mostly idle, and
    weights that go straight to registers are read faster.
    """
    k = start + tl.arange(0, DEPTH)
    w_at = weight + which[:, None].to(tl.int64) * LENGTH + k[None, :]
    if ROWS >= 16:
        x_at = x + rows[:, None] * LENGTH + k[None, :]
        real = (rows < R)[:, None]
        acc = tl.zeros((COLUMNS, ROWS), tl.float32)
        for done in range(0, SHARE, DEPTH):
            if EVEN:
                w = tl.load(w_at + done)
                part = tl.load(x_at + done, mask=real, other=0.0)
            else:
                inside = (k + done < LENGTH)[None, :]
                w = tl.load(w_at + done, mask=inside, other=0.0)
                part = tl.load(x_at + done, mask=real & inside, other=0.0)
            acc = tl.dot(w, part.T, acc, input_precision=PRECISION)
    else:
        PACK: tl.constexpr = 128 // weight.dtype.element_ty.primitive_bitwidth      # of 16 bytes, which a thread reads
        sums = tl.zeros((COLUMNS, DEPTH // PACK, ROWS), tl.float32)
        first = tl.program_id(0) * ROWS
        for done in range(0, SHARE, DEPTH):
            inside = k + done < LENGTH
            if EVEN:
                w = tl.load(w_at + done).to(tl.float32)
            else:
                w = tl.load(w_at + done, mask=inside[None, :], other=0.0).to(tl.float32)
            for r in tl.static_range(ROWS):
                part = x + tl.minimum(first + r, R - 1) * LENGTH + k + done
                part = (tl.load(part) if EVEN else tl.load(part, mask=inside, other=0.0)).to(tl.float32)
                part = tl.sum(tl.reshape(w * part[None, :], (COLUMNS, DEPTH // PACK, PACK)), 2)
                sums += tl.where((tl.arange(0, ROWS) == r)[None, None, :], part[:, :, None], 0.0)
        acc = tl.sum(sums, 1)
    return acc


@triton.jit
def meet(acc, parts, arrivals, place, split, SPLITS: tl.constexpr):
    """(sum of the SPLITS programs' acc, True) for the last of them to come to `place`; (acc, False) for the others."""
    last = True
    if SPLITS > 1:
        SIZE: tl.constexpr = acc.shape[0] * acc.shape[1]
        at = tl.arange(0, acc.shape[0])[:, None] * acc.shape[1] + tl.arange(0, acc.shape[1])[None, :]
        at = parts + place.to(tl.int64) * (SPLITS * SIZE) + at
        tl.store(at + split * SIZE, acc)
        tl.debug_barrier()                                  # all threads have stored before one of them says so
        last = tl.atomic_add(arrivals + place, 1, sem="acq_rel") == SPLITS - 1
        if last:
            acc = tl.zeros_like(acc)
            for i in tl.static_range(SPLITS):
                acc += tl.load(at + i * SIZE, cache_modifier=".cg")
            tl.store(arrivals + place, 0)                   # for the next kernel
    return acc, last


@triton.jit
def scales(squares, rows, R, eps, WIDTH: tl.constexpr, PARTS: tl.constexpr, SOME: tl.constexpr):
    """RMSNorm's scale of each row, [ROWS], from squares[R, PARTS]; SOME ≥ PARTS, a power of 2."""
    p = tl.arange(0, SOME)
    found = tl.load(squares + rows[:, None] * PARTS + p[None, :], mask=(rows < R)[:, None] & (p < PARTS)[None, :],
                    other=0.0)
    return 1.0 / tl.sqrt(tl.sum(found, 1) / WIDTH + eps)


@triton.jit
def two_halves(tile, EACH: tl.constexpr):
    """tile[2 · EACH, ROWS] -> its first EACH rows and its others."""
    return tl.reshape(tile, (2, EACH, tile.shape[1])).permute(1, 2, 0).split()


@triton.jit
def start_kernel(source, ids, gain, hidden, scaled, squares, WIDTH: tl.constexpr, SOME: tl.constexpr,
                 EMBED: tl.constexpr, OVERLAP: tl.constexpr):
    """One row: hidden = source[ids[row]] or source[row]; scaled = hidden · gain; the sum of hidden's squares."""
    row, k = tl.program_id(0), tl.arange(0, SOME)
    inside = k < WIDTH
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    place = tl.load(ids + row) if EMBED else row
    x = tl.load(source + place.to(tl.int64) * WIDTH + k, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gain + k, mask=inside, other=0.0).to(tl.float32)
    if EMBED:
        tl.store(hidden + row * WIDTH + k, x, mask=inside)
    tl.store(scaled + row * WIDTH + k, (x * g).to(scaled.dtype.element_ty), mask=inside)
    tl.store(squares + row, tl.sum(x * x, 0))


@triton.jit(do_not_specialize=["R"])
def qkv_kernel(x, weight, squares, eps, cos, sin, positions, slots, q, keys, values, parts, arrivals, R,
               H: tl.constexpr, K: tl.constexpr, HALF: tl.constexpr, PARTS: tl.constexpr, SOME: tl.constexpr,
               LENGTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
               SHARE: tl.constexpr, SPLITS: tl.constexpr, EVEN: tl.constexpr,
               AHEAD: tl.constexpr, OVERLAP: tl.constexpr):
    """Some columns of a head of queries, keys or values, and those that rotation mixes with them, half a head further.

    Queries go to q[R, H, D]; keys and values to slots[R] of their pools [slots, K, D]. cos, sin: [positions, HALF].
    """
    tile, split = tl.program_id(1), tl.program_id(2)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    EACH: tl.constexpr = COLUMNS // 2
    D: tl.constexpr = 2 * HALF
    head, first = tile // (HALF // EACH), tile % (HALF // EACH) * EACH
    both = tl.arange(0, COLUMNS)
    which = head * D + both // EACH * HALF + first + both % EACH
    begin(weight, which, split * SHARE, LENGTH, COLUMNS, AHEAD, OVERLAP)
    acc = product(x, weight, rows, which, R, split * SHARE, LENGTH, ROWS, COLUMNS, DEPTH, SHARE, EVEN)
    acc, last = meet(acc, parts, arrivals, tl.program_id(0) * tl.num_programs(1) + tile, split, SPLITS)
    if not last:
        return
    real = rows < R
    low, high = two_halves(acc * scales(squares, rows, R, eps, LENGTH, PARTS, SOME)[None, :], EACH)
    column = first + tl.arange(0, EACH)
    if head < H + K:
        at = tl.load(positions + rows, mask=real, other=0)[None, :] * HALF + column[:, None]
        c, s = tl.load(cos + at), tl.load(sin + at)
        low, high = low * c - high * s, high * c + low * s
    low, high = low.to(q.dtype.element_ty), high.to(q.dtype.element_ty)
    if head < H:
        to = q + (rows * (H * D) + head * D)[None, :] + column[:, None]
    else:
        slot = tl.load(slots + rows, mask=real, other=0) * (K * D)
        if head < H + K:
            to = keys + (slot + (head - H) * D)[None, :] + column[:, None]
        else:
            to = values + (slot + (head - H - K) * D)[None, :] + column[:, None]
    tl.store(to, low, mask=real[None, :])
    tl.store(to + HALF, high, mask=real[None, :])


@triton.jit(do_not_specialize=["R"])
def add_kernel(x, weight, gain, hidden, scaled, squares, parts, arrivals, R, WIDTH: tl.constexpr, NORM: tl.constexpr,
               LENGTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
               SHARE: tl.constexpr, SPLITS: tl.constexpr, EVEN: tl.constexpr,
               AHEAD: tl.constexpr, OVERLAP: tl.constexpr):
    """hidden[R, WIDTH] += x[R, LENGTH] times weight[WIDTH, LENGTH], transposed. scaled = hidden · gain, for the norm to
    come, with the sum of squares of these columns; without NORM scaled = hidden."""
    tile, split = tl.program_id(1), tl.program_id(2)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tile * COLUMNS + tl.arange(0, COLUMNS)
    which = tl.minimum(column, WIDTH - 1)
    begin(weight, which, split * SHARE, LENGTH, COLUMNS, AHEAD, OVERLAP)
    acc = product(x, weight, rows, which, R, split * SHARE, LENGTH, ROWS, COLUMNS, DEPTH, SHARE, EVEN)
    acc, last = meet(acc, parts, arrivals, tl.program_id(0) * tl.num_programs(1) + tile, split, SPLITS)
    if not last:
        return
    at = rows[None, :] * WIDTH + column[:, None]
    real = (rows < R)[None, :] & (column < WIDTH)[:, None]
    total = tl.load(hidden + at, mask=real, other=0.0) + tl.where(real, acc, 0.0)
    tl.store(hidden + at, total, mask=real)
    if NORM:
        tl.store(squares + rows * tl.num_programs(1) + tile, tl.sum(total * total, 0), mask=rows < R)
        total *= tl.load(gain + which).to(tl.float32)[:, None]
    tl.store(scaled + at, total.to(scaled.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["R"])
def gate_up_kernel(x, weight, squares, eps, out, parts, arrivals, R, WIDE: tl.constexpr, PARTS: tl.constexpr,
                   SOME: tl.constexpr, LENGTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
                   DEPTH: tl.constexpr, SHARE: tl.constexpr, SPLITS: tl.constexpr, EVEN: tl.constexpr,
                   AHEAD: tl.constexpr, OVERLAP: tl.constexpr):
    """out[R, WIDE] = silu(gate) · up, both of the normed x; weight[2 · WIDE, LENGTH] holds gate's rows, then up's."""
    tile, split = tl.program_id(1), tl.program_id(2)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    EACH: tl.constexpr = COLUMNS // 2
    both = tl.arange(0, COLUMNS)
    which = both // EACH * WIDE + tl.minimum(tile * EACH + both % EACH, WIDE - 1)
    begin(weight, which, split * SHARE, LENGTH, COLUMNS, AHEAD, OVERLAP)
    acc = product(x, weight, rows, which, R, split * SHARE, LENGTH, ROWS, COLUMNS, DEPTH, SHARE, EVEN)
    acc, last = meet(acc, parts, arrivals, tl.program_id(0) * tl.num_programs(1) + tile, split, SPLITS)
    if not last:
        return
    gate, up = two_halves(acc * scales(squares, rows, R, eps, LENGTH, PARTS, SOME)[None, :], EACH)
    column = tile * EACH + tl.arange(0, EACH)
    tl.store(out + rows[None, :] * WIDE + column[:, None], (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty),
             mask=(rows < R)[None, :] & (column < WIDE)[:, None])


@triton.jit(do_not_specialize=["R"])
def logits_kernel(x, weight, squares, eps, out, parts, arrivals, R, V: tl.constexpr, PARTS: tl.constexpr,
                  SOME: tl.constexpr, LENGTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
                  DEPTH: tl.constexpr, SHARE: tl.constexpr, SPLITS: tl.constexpr, EVEN: tl.constexpr,
                  AHEAD: tl.constexpr, OVERLAP: tl.constexpr):
    """out[R, V] = the normed x times weight[V, LENGTH], transposed."""
    tile, split = tl.program_id(1), tl.program_id(2)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tile * COLUMNS + tl.arange(0, COLUMNS)
    which = tl.minimum(column, V - 1)
    begin(weight, which, split * SHARE, LENGTH, COLUMNS, AHEAD, OVERLAP)
    acc = product(x, weight, rows, which, R, split * SHARE, LENGTH, ROWS, COLUMNS, DEPTH, SHARE, EVEN)
    acc, last = meet(acc, parts, arrivals, tl.program_id(0) * tl.num_programs(1) + tile, split, SPLITS)
    if not last:
        return
    acc = acc * scales(squares, rows, R, eps, LENGTH, PARTS, SOME)[None, :]
    tl.store(out + rows[None, :].to(tl.int64) * V + column[:, None], acc.to(out.dtype.element_ty),
             mask=(rows < R)[None, :] & (column < V)[:, None])
