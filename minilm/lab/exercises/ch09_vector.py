"""Exercise 09.1: a kernel for vectors of any length."""

import torch

from minilm.lab.exercise import Exercise, agree
from minilm.lab.expect import Failed
from minilm.lab.kernel import UNWRITTEN, empty, launch, memory

ex1 = Exercise(
    "09.1",
    "A masked kernel",
    answer="axpb_kernel(x, out, a, b, N, TILE)",
    task="out[i] = a · x[i] + b for all i < N; program p takes the p-th tile",
    hints=(
        "Which elements are this program's? The first program has 0 to TILE - 1, the next TILE to 2 · TILE - 1, and so "
        "on. The last one may reach past N.",
        "offsets = tl.program_id(0) * TILE + tl.arange(0, TILE) are its elements, and offsets < N says which of them "
        "exist. x + offsets are their addresses; both tl.load and tl.store take mask=.",
        "tile = tl.load(x + offsets, mask=offsets < N), then tl.store(out + offsets, a * tile + b, mask=offsets < N)",
    ),
)

BEYOND = ("you write behind the end of out, over what belongs to someone else: the store needs mask=offsets < N, "
          "offsets and not tl.arange alone")
NO_MASK = ("the load reads past the end of x; nothing shows it here, since the store is masked, but that memory is not "
           "yours: mask=offsets < N in tl.load, too")
ALL_TILES = "every program goes through all tiles: program p loads and stores the p-th alone"
NOTHING = "nothing is written to out: a kernel returns nothing, tl.store(out + offsets, ...) writes a tile"
UNWRITTEN_1 = "part of out is never written: program p takes the elements tl.program_id(0) * TILE + tl.arange(0, TILE)"


def reference(x, a, b, tile):
    """[N], in float64 on the way"""
    return (a * x.double() + b).to(x.dtype)


def run(answer):
    """The kernel as a function of x[N], a, b and the tile."""
    def axpb(x, a, b, tile):
        N = len(x)
        out = empty(x.shape, dtype=x.dtype)
        programs = -(-N // tile)
        loads = launch(answer, (programs,), x=memory(x), out=out, a=a, b=b, N=N, TILE=tile)
        missing = out.places()[0] == UNWRITTEN
        written = out.rows(_left_out(missing, tile), _beyond(out, N))[0]
        if loads and loads.unmasked and N % tile and not loads.used & {"minimum", "clamp"}:
            raise Failed(NO_MASK, [("input", answer.shown)])
        if loads and loads.count > programs:
            raise Failed(ALL_TILES, [("input", answer.shown), ("loads", f"{loads.count} tiles by {programs} programs")])
        return written
    return axpb


def _left_out(missing, tile):
    """What is missing tells what was done."""
    written = (~missing).nonzero().flatten()
    if not len(written):
        return NOTHING
    if len(written) and int(written[-1]) < tile and not missing[: int(written[-1])].any():
        return ("every program writes the first tile: add where its own begins, tl.program_id(0) * TILE")
    if len(missing) % tile and len(written) == len(missing) - 1 and bool(missing[-1]):
        return "the last number is left out: the mask is offsets < N, and offsets begin at 0"
    return UNWRITTEN_1


def _beyond(out, N):
    past = (out.flat[N:] != UNWRITTEN).nonzero().flatten()
    if len(past) == 1 and int(past[0]) == 0:
        return "you write one number too many: the elements are 0 to N - 1, so the mask is offsets < N, not <="
    return BEYOND


WRONG_1 = {
    "b is added before a multiplies: a · x + b, not a · (x + b)": lambda x, a, b, tile: a * (x + b),
    "a is missing: a · x + b": lambda x, a, b, tile: x + b,
    "b is missing: a · x + b": lambda x, a, b, tile: a * x,
    "you have a and b the wrong way round: a multiplies, b is added": lambda x, a, b, tile: b * x + a,
}


def case(N, tile, a=2.0, b=0.5):
    return torch.arange(N, dtype=torch.float32) / 4 - 1, a, b, tile


@ex1.check("whole tiles", mistake="a tile is loaded at x + offsets and stored at out + offsets")
def _(answer):
    agree(run(answer), reference, [case(4, 4), case(8, 4), case(32, 8, -1.5, 3.0)], wrong=WRONG_1)


@ex1.check("lengths that are no multiple of the tile", mistake="a tile is loaded at x + offsets and stored at out + "
           "offsets, both with mask=offsets < N")
def _(answer):
    cases = [case(1, 4), case(3, 4), case(5, 4), case(15, 16), case(17, 16), case(77, 32), case(130, 64, -0.25, 7.0)]
    agree(run(answer), reference, cases, wrong=WRONG_1)


@ex1.check("float16 stays float16", mistake="tl.store turns what it stores into out's dtype")
def _(answer):
    x = torch.tensor([1.0, -2.0, 4.0, 0.5, 3.0], dtype=torch.float16)
    agree(run(answer), reference, [(x, 2.0, 0.5, 8)], wrong=WRONG_1, tol=2e-3)
