"""The Triton kernels beside the best there is, on this GPU: correctness first, then time, against measured limits.

    decode      one new token, 32 query and 8 key-value heads of 128: a grid from one long sequence to many short ones
    verify      1, 2, 4, 8 new tokens at once over the paged cache
    splits      fixed split size against the heuristic: its price, and whether a row's bits depend on its neighbours
    prefill     causal, 2k to 16k tokens, head sizes 64 and 128
    rows        softmax and RMSNorm, beside a copy of the same bytes

Every kernel is compared with float64 on the same inputs at the same size; one that is wrong is not timed. How the
others are, `kernel_timing` says; what the rows mean, `kernel_report`.
"""
import gc
from collections.abc import Callable, Sequence
from functools import partial

import torch

from minilm.bench import limits
from minilm.bench.kernel_cells import DECODE, DTYPE, PREFILL, ROWS, VERIFY, Attention, Inputs, reference
from minilm.bench.kernel_cells import Rows as RowShape
from minilm.bench.kernel_report import line, show
from minilm.bench.kernel_timing import Replay, in_turn, launches_needed, relative_error, sets_needed

__all__ = ["PARTS", "measure", "show"]
PARTS = ("decode", "verify", "splits", "prefill", "rows")
BOUND = 5e-3                    # relative error of a bf16 kernel against float64
FIXED_SPLITS = (256, 512, 1024)  # keys
SPLIT_CELLS = tuple(cell for cell in DECODE if cell.context >= 4096)


def measure(parts: Sequence[str] = PARTS, *, rounds: int = 7, on_update: Callable[[str], None] = print) -> dict:
    """All parts, on the first CUDA GPU. Raises ValueError where there is none, or for a part that is not there."""
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise ValueError(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not torch.cuda.is_available():
        raise ValueError("`minilm bench kernels` needs a CUDA GPU and PyTorch built for it; this machine has none. "
                         "Lessons 09 to 11 show a recorded run")
    from minilm.bench import kernel_peers as peers
    found = ceilings(rounds)
    on_update(", ".join(f"{name} {max(samples) / 1e12:.3g} T" for name, samples in found.items()))
    rows: list[dict] = []
    fields = {"decode": (DECODE, peers.decoders), "verify": (VERIFY, peers.verifiers),
              "prefill": (PREFILL, peers.prefillers)}
    with torch.no_grad(), peers.many_shapes():
        for part in parts:
            if part in fields:
                for cell in fields[part][0]:
                    rows += attention_rows(part, cell, fields[part][1](cell), rounds, found)
                    on_update(line(rows[-1], rows))
            elif part == "splits":
                rows += split_rows(rounds, found, on_update)
            else:
                rows += normaliser_rows(rounds, found, on_update)
    return {"benchmark": "kernels", "rounds": rounds, "dtype": "bfloat16", "bound": BOUND, "versions": versions(),
            "limits": found, "rows": rows}


def versions() -> dict[str, str | None]:
    """What the contestants are made of."""
    from minilm.bench.kernel_peers import flashinfer_version
    try:
        import triton
    except ImportError:
        triton = None
    return {"torch": torch.__version__, "triton": getattr(triton, "__version__", None), "cuda": torch.version.cuda,
            "cudnn": str(torch.backends.cudnn.version()), "flashinfer": flashinfer_version()}


def ceilings(rounds: int, device: str = "cuda") -> dict[str, list[float]]:
    """Samples of the limits: bytes/s of a copy (read + written) and of reductions (read), FLOP/s of bf16 products."""
    return {"copy": list(limits.copy_rates(device, megabytes=8192, repeats=rounds)),
            "read": list(limits.read_rates(device, megabytes=8192, repeats=rounds)),
            "multiply": list(limits.matrix_rates(device, (4096, 8192, 16384), repeats=rounds, dtype=DTYPE))}


# --- one cell --------------------------------------------------------------------------------------------------------

def attention_rows(part: str, cell: Attention, field: Sequence, rounds: int, found: dict) -> list[dict]:
    """A row for every contestant of `field`: its error, and when that is within bounds, the seconds of every round."""
    try:
        return _attention_rows(part, cell, field, rounds, found)
    finally:
        free()


def _attention_rows(part: str, cell: Attention, field: Sequence, rounds: int, found: dict) -> list[dict]:
    sets = [Inputs(cell, seed) for seed in range(sets_needed(cell.bytes))]
    want = reference(sets[0])
    rows, runs = [], {}
    launches = launches_needed(least_seconds(cell, found), len(sets))
    for contestant in field:
        row = {"part": part, "cell": cell.as_dict(), "name": contestant.name, "ours": contestant.ours,
               "paged": contestant.paged, "launches": launches, "sets": len(sets)}
        make = partial(contestant.make, cell, sets)
        rows.append(row | prepared(make, contestant.view, want, launches, runs, contestant.name))
    seconds = in_turn(runs, rounds)
    return [row | ({"seconds": seconds[row["name"]]} if row["name"] in seconds else {}) for row in rows]


def free() -> None:
    """Give the memory of the cell before back to the card: the next one may need all of it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def prepared(make: Callable, view: Callable, want: torch.Tensor, launches: int, runs: dict, name: str) -> dict:
    """Make the calls, compare the first one's output, and enter a replay into `runs` only when it is right."""
    try:
        calls = make()
        error = relative_error(view(calls[0]()), want)
        if error > BOUND:
            return {"error": error, "refused": f"relative error {error:.1e} exceeds {BOUND:.0e}"}
        runs[name] = Replay(calls, launches)
        return {"error": error, "captured": runs[name].captured} | ({"why": runs[name].why} if runs[name].why else {})
    except Exception as failure:                            # whatever it is, it is told, and the others run on
        return {"refused": f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"}


def least_seconds(cell: Attention, found: dict) -> float:
    """What the limits allow: all bytes and all FLOPs of the cell, at the same time."""
    return max(cell.bytes / max(found["copy"]), cell.flops / max(found["multiply"]))


# --- fixed splits ----------------------------------------------------------------------------------------------------

def split_rows(rounds: int, found: dict, on_update: Callable[[str], None]) -> list[dict]:
    """flash_decoding by the heuristic and with fixed split sizes; and the bits of a row among other neighbours."""
    from minilm.bench import kernel_peers as peers
    policies = {"heuristic": {}} | {f"fixed {size}": {"split_size": size} for size in FIXED_SPLITS}
    rows = []
    for cell in SPLIT_CELLS:
        field = [peers.Contestant(name, partial(peers.flash_decoding, **options), peers.one_query, ours=True)
                 for name, options in policies.items()]
        rows += attention_rows("splits", cell, field, rounds, found)
        on_update(line(rows[-1], rows))
    for name, options in policies.items():
        rows.append({"part": "splits", "name": name, "ours": True, "options": options}
                    | guarded(lambda options=options: {"same_bits": same_bits(**options)}))
    return rows


def guarded(run: Callable[[], dict]) -> dict:
    """What `run` gives, or what it failed with."""
    try:
        return run()
    except Exception as failure:
        return {"refused": f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"}


def same_bits(batches: Sequence[int] = (1, 2, 8, 64, 256), context: int = 4096, **options) -> dict[str, bool]:
    """Batch size -> whether row 0's output has the bits that it has alone, with neighbours of other lengths."""
    from minilm import kernels
    x = Inputs(Attention(max(batches), context), seed=0)
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, context + 1, (max(batches),), generator=generator, dtype=torch.int32).cuda()
    lengths[0] = context - 5
    run = lambda n: kernels.flash_decoding(x.q[:n].squeeze(2).contiguous(), x.k[:n], x.v[:n], lengths[:n],   # noqa: E731
                                           **options)[0]
    alone = run(1)
    return {str(n): bool(torch.equal(run(n), alone)) for n in batches}


# --- softmax and RMSNorm ---------------------------------------------------------------------------------------------

def normaliser_rows(rounds: int, found: dict, on_update: Callable[[str], None]) -> list[dict]:
    """Softmax and RMSNorm, ours and eager, and a copy of the same bytes in the same rounds."""
    rows: list[dict] = []
    for shape in ROWS:
        rows += normaliser_cell(shape, rounds, found)
        free()
        on_update(line(rows[-1], rows))
    return rows


def normaliser_cell(shape: RowShape, rounds: int, found: dict) -> list[dict]:
    from minilm.bench import kernel_peers as peers
    draw = lambda *size: torch.randn(*size, device="cuda", dtype=DTYPE)                                 # noqa: E731
    inputs = [draw(shape.rows, shape.width) for _ in range(sets_needed(shape.bytes))]
    weight = draw(shape.width)
    launches = launches_needed(shape.bytes / max(found["copy"]), len(inputs))
    rows, runs = [], {}
    field = [(operation, name, run) for operation, some in peers.row_kernels(weight).items()
             for name, run in some.items()]
    for operation, name, run in [("copy", "copy", torch.clone), *field]:
        want = inputs[0].double() if operation == "copy" else peers.row_reference(operation, inputs[0], weight)
        key = f"{operation}: {name}"
        row = {"part": "rows", "operation": operation, "cell": shape.as_dict(), "name": name, "ours": name == operation
               and name != "copy", "launches": launches, "sets": len(inputs), "key": key}
        calls = [partial(run, x) for x in inputs]
        rows.append(row | prepared(lambda calls=calls: calls, lambda out: out, want, launches, runs, key))
    seconds = in_turn(runs, rounds)
    return [row | ({"seconds": seconds[row["key"]]} if row["key"] in seconds else {}) for row in rows]
