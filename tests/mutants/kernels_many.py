"""Wrong versions of packed attention and of the kernels between products: each a single edit, to be rejected."""
import importlib

from mutants.kernel_edits import KernelEdit

mr = importlib.import_module("minilm.kernels.many_rows")
pa = importlib.import_module("minilm.kernels.packed_attention")


def packed(says: str, check: str, old: str, new: str) -> KernelEdit:
    return KernelEdit(says, check, pa, "packed_attention", old, new)


def packing(says: str, check: str, old: str, new: str) -> KernelEdit:
    return KernelEdit(says, check, pa, "Packing", old, new)


def turned(says: str, check: str, old: str, new: str) -> KernelEdit:
    return KernelEdit(says, check, mr, "rotate_and_store", old, new)


def gated(says: str, check: str, old: str, new: str) -> KernelEdit:
    return KernelEdit(says, check, mr, "swiglu", old, new)


def layers(says: str, old: str, new: str) -> KernelEdit:
    return KernelEdit(says, "check_model", mr, "ManyRows", old, new)


LENGTHS, HELD, HEADS = "check_lengths", "check_held", "check_heads"
PACKED = [
    packed("keys from the first text's on", LENGTHS, "start = tl.load(first + top)", "start = 0"),
    packed("the next text's rows are written too", LENGTHS, "mask=ours[:, None] & (d < D)", "mask=(d < D)"),
    packed("a token sees the one after it", LENGTHS, "last_seen = tl.load(last + rows, mask=ours, other=-1)",
           "last_seen = tl.load(last + rows, mask=ours, other=-1) + 1"),
    packed("a token does not see itself", HELD, "last_seen = tl.load(last + rows, mask=ours, other=-1)",
           "last_seen = tl.load(last + rows, mask=ours, other=-1) - 1"),
    packed("what all see ends where the last one's ends", HELD, "tl.min(tl.where(ours, last_seen, end), 0)",
           "tl.max(tl.where(ours, last_seen, 0), 0)"),
    packed("tiles counted from the first text's keys", HELD, "start + tl.maximum(full - start, 0) // TILE * TILE",
           "tl.maximum(full, 0) // TILE * TILE"),
    packed("the keys held are forgotten", HELD, "start, full, end,", "full, full, end,"),
    packed("the next text's values are multiplied by 0", "check_apart", "True, True, TILE", "True, False, TILE"),
    packed("query heads dealt out in turn", HEADS, "v, 0, head // GROUP, start", "v, 0, head % (H // GROUP), start"),
    packed("padding of the head size is written", HEADS, " & (d < D)[None, :]", ""),
    packed("never divided", LENGTHS, "acc = acc / tl.where(l == 0.0, 1.0, l)[:, None]", "acc = acc"),
    packed("e to the power, units of log 2", LENGTHS, "D**-0.5 * LOG2_E.value", "D**-0.5"),
    packing("others' rows are a text", "check_nobody", "if first[start] >= 0\n", "if True\n"),
    packing("only the first tile of a text", LENGTHS, "range(start, stop, self.rows)]", "[start]]"),
    packing("tiles that run into the next text", "check_nobody", "min(top + self.rows, stop)",
            "min(top + self.rows, len(first))"),
]

TURNS, ODD, SWIGLU = "check_rotation", "check_odd_heads", "check_swiglu"
MANY = [
    turned("turned the other way", TURNS, "first * cos[None, :] - second", "first * cos[None, :] + second"),
    turned("values are turned", TURNS, "MOST_K, PAIRS, False)", "MOST_K, PAIRS, True)"),
    turned("keys are not turned", TURNS, "turn(qkv + H * D, keys + slot * (K * D), c, s, K, HALF, MOST_K, PAIRS, True)",
           "turn(qkv + H * D, keys + slot * (K * D), c, s, K, HALF, MOST_K, PAIRS, False)"),
    turned("keys to the row, not the slot", TURNS, "keys + slot * (K * D)", "keys + row * (K * D)"),
    turned("angles of the row, not the position", TURNS, "cos + position * HALF", "cos + row * HALF"),
    turned("values where the keys are", TURNS, "qkv + (H + K) * D", "qkv + H * D"),
    turned("the last of three heads is left out", ODD, "(heads < HEADS)[:, None] &", "(heads < MOST // 2)[:, None] &"),
    turned("the last pairs are left out", ODD, "& (pairs < HALF)[None, :]", "& (pairs < HALF // 16 * 16)[None, :]"),
    turned("rows taken for contiguous", "check_rows_apart", "qkv += row * row_size", "qkv += row * ((H + 2 * K) * D)"),
    gated("no gate", SWIGLU, "gate * tl.sigmoid(gate) * up", "gate * up"),
    gated("up is the gate", SWIGLU, "(gate * tl.sigmoid(gate) * up)", "(up * tl.sigmoid(up) * gate)"),
    gated("up lies beside its gate", SWIGLU, "row * row_size + W + columns", "row * row_size + 1 + columns"),
    gated("every tile has the gate of the first", SWIGLU, "x + row * row_size + columns,",
          "x + row * row_size + columns % COLUMNS,"),
    gated("rows taken for contiguous", "check_swiglu_strides", "x + row * row_size + columns,",
          "x + row * 2 * W + columns,"),
    layers("the residual is the norm", "normed, x = rms_norm(y, layer.mlp_norm.weight, eps, residual=x)",
           "normed = x = rms_norm(y, layer.mlp_norm.weight, eps, residual=x)[0]"),
    layers("the layer's input is forgotten", "rms_norm(y, weight, eps, residual=x)\n            q",
           "(rms_norm(y, weight, eps), y)\n            q"),
    layers("the last sum is left out", "return x + y", "return y"),
    layers("one norm for both", "rms_norm(y, layer.mlp_norm.weight", "rms_norm(y, weight"),
    layers("all write to the first layer's keys", "keys[i], values[i])", "keys[0], values[i])"),
]
