"""Wrong versions of the sampler: each a single edit that a check must reject."""
from minilm.kernels import sampler
from mutants.kernel_edits import KernelEdit

DRAWS, CUTS, TIES, HALF = "check_draws", "check_cuts", "check_ties", "check_half"
GREEDY = "check_greedy"


def edit(says: str, check: str, old: str, new: str) -> KernelEdit:
    return KernelEdit(says, check, sampler, "sample", old, new)


SAMPLER = [
    edit("the last of equals", GREEDY, "x > best, i, place", "x >= best, i, place"),
    edit("logits past the row count", GREEDY, "best == top, place, V - 1", "best == top, place, 0"),
    edit("nobody is greedy", GREEDY, "if temperature > 0:", "if temperature >= 0:"),
    edit("temperature multiplies", DRAWS, "inverse = 1.0 / tl.maximum(temperature.to(tl.float32), TINY)",
         "inverse = tl.maximum(temperature.to(tl.float32), TINY)"),
    edit("always the uniform before 1", DRAWS, "to(tl.float64) * total", "to(tl.float64) * 0 + total * 0.999999"),
    edit("top-k keeps one more", CUTS, "k.to(tl.float64), False", "(k + 1).to(tl.float64), False"),
    edit("top-k is ignored", CUTS, "if (k > 0) & (k < V):", "if (k > 0) & (k > V):"),
    edit("top-p is ignored", CUTS, "if p < 1:", "if p < 0:"),
    edit("p of everything, not of what top-k kept", CUTS, "goal = p * total",
         "goal = p * walk(row, V, top, inverse, -(2**31), 0, 0, True, TILE)[0]"),
    edit("the token that crosses p is dropped", CUTS, "tl.maximum(tl.ceil((goal - above) / each), 1.0)",
         "tl.maximum(tl.ceil((goal - above) / each) - 1, 0.0)"),
    edit("what p keeps is not made to sum to 1", DRAWS, "total = above + ties * each", "pass"),
    edit("a threshold one bit short", HALF, "torch.float16: 20", "torch.float16: 18"),
    edit("negative numbers in reverse", HALF, "return i ^ ((i >> 31) & 0x7FFFFFFF)", "return i"),
    edit("minus zero below zero", HALF, ".to(tl.float32) + 0.0", ".to(tl.float32)"),
    edit("all equals of the cut stay", TIES, "<= ties)", "<= ties + 9)"),
    edit("equals are counted anew in every tile", TIES, "(at_tied + tl.cumsum", "(0 * at_tied + tl.cumsum"),
    edit("the mass before a tile is forgotten", TIES, "at_before + tl.cumsum(mass, 0)", "tl.cumsum(mass, 0)"),
    edit("a boundary belongs to the token before", TIES, "tl.cumsum(mass, 0) > target",
         "tl.cumsum(mass, 0) >= target"),
]
