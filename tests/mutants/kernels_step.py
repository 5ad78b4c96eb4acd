"""Wrong versions of the kernels of a decode step: each a single edit that a check must reject."""
from minilm.kernels import decode_layers, few_rows
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
    host("an older token's queries for the next", DEEP, "self.q[:N].unflatten(0, (B, N // B))",
         "self.q[:N].unflatten(0, (B, N // B)).flip(1)"),
    host("keys in the place of values", ROWS, "attend(q, keys[i], values[i]", "attend(q, keys[i], keys[i]"),
    host("all layers on the first one's keys", DEEP, "attend(q, keys[i], values[i]", "attend(q, keys[0], values[i]"),
    host("the new tokens are not counted", ROWS, "values[i], lengths, tables", "values[i], lengths - 1, tables"),
    host("the tree is a chain", TREE, "tree=tree_mask", "tree=None"),
]
