"""Wrong versions of softmax, RMSNorm and FlashAttention, each a single edit; checks must reject every one."""
import importlib

from mutants.kernel_edits import KernelEdit

fa = importlib.import_module("minilm.kernels.flash_attention")
sm = importlib.import_module("minilm.kernels.softmax")
rn = importlib.import_module("minilm.kernels.rms_norm")


def flash(says, check, old, new):
    return KernelEdit(says, check, fa, "flash_attention", old, new)


def softmax(says, check, old, new):
    return KernelEdit(says, check, sm, "softmax", old, new)


def norm(says, check, old, new):
    return KernelEdit(says, check, rn, "rms_norm", old, new)


GROWS, CAUSAL, OFFSET, LENGTHS = "check_growing_maximum", "check_causal", "check_offset", "check_lengths"
FLASH = [
    # the running three
    flash("the accumulator is not rescaled", GROWS, "acc = acc * shrink[:, None]", "acc = acc"),
    flash("the sum is not rescaled", GROWS, "l = l * shrink + tl.sum(p, 1)", "l = l + tl.sum(p, 1)"),
    flash("the maximum is not carried", GROWS, "        m = m_new\n", ""),
    flash("the maximum is this tile's alone", "check_large_logits", "m_new = tl.maximum(m, tl.max(scores, 1) * scale)",
          "m_new = tl.max(scores, 1) * scale"),
    flash("rescaled the wrong way round", GROWS, "shrink = tl.exp2(m - m_new)", "shrink = tl.exp2(m_new - m)"),
    flash("exp without the maximum", "check_large_logits", "p = tl.exp2(scores * scale - m_new[:, None])",
          "p = tl.exp2(scores * scale)"),
    flash("the maximum of unscaled scores", "check_scale_down", "tl.max(scores, 1) * scale)", "tl.max(scores, 1))"),
    flash("divided in every step and at the end", CAUSAL, "        m = m_new\n",
          "        m = m_new\n        acc = acc / tl.where(l == 0.0, 1.0, l)[:, None]\n"),
    flash("never divided", CAUSAL, "acc = acc / tl.where(l == 0.0, 1.0, l)[:, None]", "acc = acc"),
    flash("the sum of the last tile only", CAUSAL, "l = l * shrink + tl.sum(p, 1)", "l = tl.sum(p, 1)"),
    flash("e to the power, units of log 2", CAUSAL, "* LOG2_E.value", "* 1.0"),
    # masks
    flash("a token sees the one after it", CAUSAL, "last_seen = n - T + top + tl", "last_seen = n - T + 1 + top + tl"),
    flash("a token does not see itself", CAUSAL, "last_seen = n - T + top + tl", "last_seen = n - T - 1 + top + tl"),
    flash("no mask", CAUSAL, "places[None, :] <= last_seen[:, None]",
          "places[None, :] < S_MAX + last_seen[:, None]".replace("S_MAX", "10**6")),
    flash("diagonal tiles are skipped", CAUSAL, "full, end, n", "end, end, n"),
    flash("diagonal tiles without a mask", CAUSAL, "True, RAGGED", "False, RAGGED"),
    flash("one unmasked tile too many", CAUSAL, "full = full // TILE * TILE",
          "full = (full + TILE - 1) // TILE * TILE"),
    flash("the keys end a tile early", CAUSAL, "end = tl.minimum(n, n - T + top + ROWS)",
          "end = tl.minimum(n, n - T + top)"),
    flash("full tiles are folded twice", CAUSAL, "full, end, n", "0, end, n"),
    flash("the rest of the keys is left out", "check_full", "end, full = n, n", "end, full = n // TILE * TILE, n"),
    flash("the cached prefix is forgotten", OFFSET, "last_seen = n - T + top + tl", "last_seen = top + tl"),
    flash("the tensor's length for the row's", LENGTHS, "if RAGGED else S", "if RAGGED and False else S"),
    flash("lengths of the first row for all", LENGTHS, "tl.load(lengths + row)", "tl.load(lengths)"),
    flash("queries stand at the tensor's end, not the row's", LENGTHS, "last_seen = n - T + top + tl",
          "last_seen = S - T + top + tl"),
    flash("what lies past a row's end is read", LENGTHS, "if MASKED and RAGGED:", "if False:"),
    flash("a query without keys divides by zero", "check_no_key", "tl.where(l == 0.0, 1.0, l)", "l"),
    flash("a query without keys subtracts infinities", "check_no_key", 'tl.where(m_new == float("-inf"), 0.0, m_new)',
          "m_new"),
    # shapes
    flash("padding of the head size is not masked", "check_head_size", "list(x.shape), list(x.stride())",
          "[*x.shape[:3], head if x.stride(2) > head else x.shape[3]], list(x.stride())"),
    flash("scaled by the padded head size", "check_head_size", "scale = (D**-0.5",
          "scale = (D**-0.5 * (D / triton.next_power_of_2(D))**0.5"),
    flash("the scale given is ignored", "check_scale", "D**-0.5 if scale is None else scale", "D**-0.5"),
    flash("query heads dealt out in turn", "check_groups", "kv_head = head // GROUP", "kv_head = head % (H // GROUP)"),
    flash("every query head its own key head", "check_groups", "kv_head = head // GROUP",
          "kv_head = tl.minimum(head, H // GROUP - 1)"),
    flash("batch rows share their keys", "check_batch", "tile_of(k, row,", "tile_of(k, 0,"),
    flash("head and row of a program swapped", "check_batch", "tl.program_id(0) // H",
          "tl.program_id(0) % (tl.num_programs(0) // H)"),
    flash("values read where the keys lie", "check_strides", "described(v, tile, head)",
          "described(v.as_strided(k.shape, k.stride()), tile, head)"),
    flash("every query tile is the first", CAUSAL, "tile_of(q, row, head, top,", "tile_of(q, row, head, 0,"),
    flash("keys for values", CAUSAL, "tile_of(v, row, kv_head", "tile_of(k, row, kv_head"),
]
SHORT, LONG = "check_short_rows", "check_long_rows"
SOFTMAX = [
    softmax("the maximum is not subtracted", "check_large", "tile - tl.max(tile, 1)[:, None]", "tile"),
    softmax("one maximum for all rows of a program", "check_large", "tl.max(tile, 1)[:, None]",
            "tl.max(tl.max(tile, 1), 0)"),
    softmax("padding counts as 0, not as -inf", SHORT, 'mask=inside, other=float("-inf"))\n    tile',
            "mask=inside, other=0.0)\n    tile"),
    softmax("sums over columns", SHORT, "tl.sum(e, 1)[:, None]", "tl.sum(e, 0)[None, :]"),
    softmax("powers of 2, not of e", SHORT, "tile = tile.to(tl.float32) * LOG2_E", "tile = tile.to(tl.float32)"),
    softmax("rows taken for contiguous", "check_strides", "x + rows[:, None] * x_row", "x + rows[:, None] * N"),
    softmax("the last rows are left out", SHORT, "triton.cdiv(num_rows, at_once)", "max(num_rows // at_once, 1)"),
    softmax("the running sum is not corrected", LONG, "l = l * tl.exp2(m - shift) +", "l = l +"),
    softmax("the running maximum is not carried", LONG, "        m = m_new\n", "        m = tl.max(tile, 0)\n"),
    softmax("only the last tile is summed", LONG, "l = l * tl.exp2(m - shift) +", "l ="),
    softmax("the rest of a long row is left out", LONG, "for start in range(0, N, TILE):\n        inside",
            "for start in range(0, N // TILE * TILE, TILE):\n        inside"),
    softmax("a tile of -inf spoils the row", "check_minus_infinity", 'tl.where(m_new == float("-inf"), 0.0, m_new)',
            "m_new"),
]
NORM = [
    norm("the mean over the tile, padding and all", "check_norm", "tl.sum(tile * tile, 1) / N",
         "tl.sum(tile * tile, 1) / TILE"),
    norm("no eps", "check_small", "/ N + eps", "/ N"),
    norm("the mean is subtracted", "check_norm", "    if ADD:",
         "    tile = tl.where(inside, tile - tl.sum(tile, 1)[:, None] / N, 0.0)\n    if ADD:"),
    norm("the sum of squares, not their mean", "check_norm", "tl.sum(tile * tile, 1) / N", "tl.sum(tile * tile, 1)"),
    norm("no root", "check_norm", "tl.rsqrt(tl.sum(tile * tile, 1) / N + eps)",
         "1.0 / (tl.sum(tile * tile, 1) / N + eps)"),
    norm("no weight", "check_norm", "* w[None, :]", ""),
    norm("the residual is normed without x", "check_residual", "tile += more.to(tl.float32)",
         "tile = more.to(tl.float32)"),
    norm("the sum is not what is normed", "check_residual", "tl.sum(tile * tile, 1)",
         "tl.sum((tile - more) * (tile - more), 1) if ADD else tl.sum(tile * tile, 1)"),
    norm("the residual comes back as it was", "check_residual", "tl.store(total + place, tile.to",
         "tl.store(total + place, more.to"),
    norm("the residual's rows taken for x's", "check_strides", "residual + rows[:, None] * residual_row",
         "residual + rows[:, None] * x_row"),
    norm("rows taken for contiguous", "check_strides", "x + rows[:, None] * x_row", "x + rows[:, None] * N"),
    norm("squares summed in half precision", "check_half", "tile * tile, 1)",
         "(tile * tile).to(tl.float16), 1).to(tl.float32)"),
]
