"""Wrong versions of the kernels of a decode step: each a single edit that a check must reject."""
from minilm.kernels import decode_layers, few_rows, step_attention
from mutants.kernel_edits import KernelEdit, edit_kernel

ONE, FEW, ROWS, TILES = "check_one_row", "check_few_rows", "check_rows", "check_two_tiles"
DEEP, TREE, SPLIT = "check_deep", "check_tree", "check_half"


def qkv(says: str, check: str, old: str, new: str) -> KernelEdit:
    return edit_kernel(says, check, few_rows, "qkv_kernel", old, new)


def add(says: str, check: str, old: str, new: str) -> KernelEdit:
    return edit_kernel(says, check, few_rows, "add_kernel", old, new)


def gate_up(says: str, check: str, old: str, new: str) -> KernelEdit:
    return edit_kernel(says, check, few_rows, "gate_up_kernel", old, new)


def shared(says: str, check: str, old: str, new: str, kernel: str = "gate_up_kernel") -> KernelEdit:
    return KernelEdit(says, check, few_rows, kernel, old, new)


def attend(says: str, check: str, old: str, new: str) -> KernelEdit:
    return edit_kernel(says, check, step_attention, "attend_kernel", old, new)


def host(says: str, check: str, old: str, new: str) -> KernelEdit:
    return KernelEdit(says, check, decode_layers, "DecodeLayers", old, new)


STEP = [
    # rotation
    qkv("nothing is rotated", ROWS, "if head < H + K:\n        at", "if head < 0:\n        at"),
    qkv("keys are not rotated", ROWS, "if head < H + K:\n        at", "if head < H:\n        at"),
    qkv("values are rotated too", ROWS, "if head < H + K:\n        at", "if head < H + 2 * K:\n        at"),
    qkv("rotated backwards", ROWS, "low * c - high * s, high * c + low * s", "low * c + high * s, high * c - low * s"),
    qkv("all at the first row's position", ROWS, "tl.load(positions + rows,", "tl.load(positions + rows * 0,"),
    qkv("each tile turns by the first tile's angles", TREE, "* HALF + column[:, None]\n        c, s",
        "* HALF + (column - first)[:, None]\n        c, s"),
    # the pool
    qkv("a slot too far", ROWS, "mask=real, other=0) * (K * D)", "mask=real, other=0) * (K * D) + K * D"),
    qkv("slots of one head's size", DEEP, "mask=real, other=0) * (K * D)", "mask=real, other=0) * D"),
    qkv("values in the place of keys", ROWS, "to = values +", "to = keys +"),
    # norms
    shared("no eps", ONE, "/ WIDTH + eps)", "/ WIDTH)"),
    shared("the sum of squares, not their mean", ONE, "/ WIDTH + eps)", "+ eps)"),
    shared("squares of the first columns only", ROWS, "(p < PARTS)[None, :]", "(p < 1)[None, :]"),
    shared("every row by the first one's scale", ROWS, "squares + rows[:, None] * PARTS",
        "squares + rows[:, None] * 0"),
    add("squares before the sum", ROWS, "tl.sum(total * total, 0)", "tl.sum(acc * acc, 0)"),
    add("no gain", ROWS, "total *= tl.load(gain + which).to(tl.float32)[:, None]", "total *= 1.0"),
    add("the first columns' gain for all", ROWS, "tl.load(gain + which)", "tl.load(gain + which % COLUMNS)"),
    host("the next layer's norm with this one's gain", DEEP, "layers[i + 1].attention_norm",
        "layers[i].attention_norm"),
    # the residual
    add("nothing is added to", ROWS, "total = tl.load(hidden + at, mask=real, other=0.0) + ", "total = "),
    add("added twice", ROWS, "tl.load(hidden + at, mask=real, other=0.0) +",
        "2 * tl.load(hidden + at, mask=real, other=0.0) +"),
    add("the sum is not kept", ROWS, "tl.store(hidden + at, total, mask=real)", "pass"),
    # the MLP
    gate_up("gate and up swapped", ROWS, "(gate * tl.sigmoid(gate) * up)", "(up * tl.sigmoid(up) * gate)"),
    gate_up("sigmoid for silu", ROWS, "(gate * tl.sigmoid(gate) * up)", "(tl.sigmoid(gate) * up)"),
    gate_up("up's rows one too far", ROWS, "both // EACH * WIDE +", "both // EACH * (WIDE - 1) +"),
    # shared sums
    shared("the last part is left out", ROWS, "tl.static_range(SPLITS)", "tl.static_range(SPLITS - 1)"),
    shared("the count is not set back", ROWS, "tl.store(arrivals + place, 0) ", "tl.store(arrivals + place, 1) "),
    shared("all programs sum the first share", ROWS, "k = start + tl.arange(0, DEPTH)", "k = tl.arange(0, DEPTH)"),
    # rows
    shared("the first row for all, in registers", FEW, "tl.minimum(first + r, R - 1)",
           "tl.minimum(first, R - 1)"),
    gate_up("every tile of rows is the first", TILES, "rows = tl.program_id(0) * ROWS +", "rows = 0 * ROWS +"),
    # attention
    attend("a key past the end", ROWS, "inside = j < length", "inside = j < length + 1"),
    attend("all new tokens see all", DEEP, "visible = new <= token[:, None]", "visible = new < M"),
    attend("the tree is a chain", TREE, "        if TREE:\n            visible",
           "        if TREE and M < 0:\n            visible"),
    attend("the first block for all", ROWS, "tables + j // PAGE", "tables + j // PAGE * 0"),
    attend("a tile's blocks are those before", DEEP, "tables + (j + step) // PAGE", "tables + j // PAGE"),
    attend("the first text's blocks", ROWS, "tables += b * table_width", "tables += 0 * table_width"),
    attend("values in the place of keys", ROWS, "tl.load(keys + at", "tl.load(values + at"),
    attend("programs walk over each other's tiles", SPLIT, "step = used * TILE", "step = TILE"),
    attend("programs without keys are waited for", SPLIT, "< used - 1:", "< splits - 1:"),
    attend("the merge leaves the last out", SPLIT, "there = (s < used)", "there = (s < used - 1)"),
    attend("states count alike", SPLIT, "share, before = tl.exp2(lse - base[None, :])",
           "share, before = tl.exp2(0 * lse + 0 * base[None, :])"),
    attend("arrivals are not set back", SPLIT, "tl.store(place, 0) ", "tl.store(place, 1) "),
]
