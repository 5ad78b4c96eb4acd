"""Wrong versions of the decode kernels and of the merge: each a single edit that a check must reject."""
import importlib

from minilm.kernels import splits
from mutants.edits import edit
from mutants.kernel_edits import KernelEdit

split_kv = importlib.import_module("minilm.kernels.split_kv")
RAGGED, NUMBER, EMPTY, SCORES = "check_ragged", "check_number_of_splits", "check_empty_rows", "check_large_scores"


def attend(says: str, check: str, old: str, new: str) -> KernelEdit:
    return KernelEdit(says, check, split_kv, "attend", old, new)


DECODE = [
    # the splits
    attend("the row's last key is left out", RAGGED, "num_splits * TILE, length\n", "num_splits * TILE, length - 1\n"),
    attend("a key past the row's end", RAGGED, "num_splits * TILE, length\n", "num_splits * TILE, length + 1\n"),
    attend("a piece's last key is left out", NUMBER, "last = tl.minimum(first + SPLIT_SIZE, length)",
           "last = tl.minimum(first + SPLIT_SIZE - 1, length)"),
    attend("a piece holds a key of the next", NUMBER, "last = tl.minimum(first + SPLIT_SIZE, length)",
           "last = tl.minimum(first + SPLIT_SIZE + 1, length)"),
    attend("a piece rounded up to whole tiles", NUMBER, "last = tl.minimum(first + SPLIT_SIZE, length)",
           "last = tl.minimum(first + tl.cdiv(SPLIT_SIZE, TILE) * TILE, length)"),
    attend("all splits are the first", RAGGED, "first, step, last = split * TILE,", "first, step, last = 0 * split,"),
    attend("every split reads on to the end", RAGGED, "num_splits * TILE, length\n", "TILE, length\n"),
    attend("an empty row leaves without zeros", EMPTY, "if split > 0 and first >= length:", "if first >= length:"),
    attend("the last piece of a row is lost", NUMBER, "tl.cdiv(tl.load(lengths + b).to(tl.int32), SPLIT_SIZE), 1)",
           "tl.load(lengths + b).to(tl.int32) // SPLIT_SIZE, 1)"),
    attend("the merge reads pieces that nobody wrote", NUMBER,
           "splits = tl.maximum(tl.cdiv(tl.load(lengths + b).to(tl.int32), SPLIT_SIZE), 1)", "splits = num_splits"),
    # online softmax
    attend("what came before is not scaled down", RAGGED, "acc = acc * before[:, None] +", "acc = acc +"),
    attend("the sum before is not scaled down", RAGGED, "total * before + tl.sum(weight, 1), acc",
           "total + tl.sum(weight, 1), acc"),
    attend("no maximum is subtracted", SCORES, "weight = tl.exp2(score - base[:, None])", "weight = tl.exp2(score)"),
    attend("the scale is forgotten", RAGGED, "input_precision=\"ieee\") * scale ", "input_precision=\"ieee\") "),
    attend("keys past the row's end count", RAGGED, "visible & inside[None, :], score,", "visible, score,"),
    attend("values past the row's end are read", RAGGED, "v_at[:, None] + d[None, :], mask=there,",
           "v_at[:, None] + d[None, :], mask=(d < D)[None, :],"),
    attend("an empty row divides by zero", EMPTY, "some = tl.where(total > 0, total, 1.0)", "some = total"),
    # heads
    attend("the wrong key-value head", RAGGED, "k += head.to(tl.int64) * k_head",
           "k += ((head + 1) % kv_heads).to(tl.int64) * k_head"),
    attend("values lie as keys do, whatever their strides", "check_strides", '"ALIKE": strides[0] == strides[1]',
           '"ALIKE": True'),
    attend("values of the first head for all", RAGGED, "v += head.to(tl.int64) * v_head", "v += 0 * v_head"),
    attend("heads of a group are strided over key-value heads", RAGGED,
           "(head * GROUP + r % GROUP) * q_head", "(head + r % GROUP * kv_heads) * q_head"),
    attend("the keys of the first sequence for all", RAGGED, "k += b * k_row", "k += 0 * k_row"),
    attend("a group's last head is the first again", RAGGED, "mask=real, other=0.0)\n    if TREE",
           "mask=real & (r < R - 1)[:, None], other=0.0)\n    if TREE"),
    # the merge
    attend("log-sum-exp without the sum", RAGGED, "top + tl.log2(some)", "top"),
    attend("log-sum-exp in another base", RAGGED, "top + tl.log2(some)", "top + tl.log(some)"),
    attend("the log-sum-exp is not used", RAGGED, "share = tl.exp2(lse - base[None, :])",
           "share = tl.where(lse > float(\"-inf\"), 1.0, 0.0)"),
    attend("the merge forgets the last split", RAGGED, "for start in range(0, splits, CHUNK):",
           "splits = tl.maximum(splits - 1, 1)\n    for start in range(0, splits, CHUNK):"),
    attend("not divided by the shares", RAGGED,
           "merged = merged / tl.where(total > 0, total, 1.0)[:, None]", "merged = merged * 1"),
    attend("a chunk of splits is not scaled to the next", "check_chunks",
           "merged = merged * before[:, None] +", "merged = merged +"),
    attend("the merged rows of another head", RAGGED, "kv_heads * GROUP + head * GROUP + r",
           "kv_heads * GROUP + (kv_heads - 1 - head) * GROUP + r"),
]

TREE = "((sees[:, None] >> tl.maximum(new, 0).to(tl.int64)) & 1) != 0"
CASES = "check_cases"
PAGED = [
    attend("the first row's block table for all", CASES, "tables += b * table_row", "tables += 0 * table_row"),
    attend("block tables one tile late", NUMBER, "tables + (j + step) // PAGE", "tables + j // PAGE"),
    attend("block tables go on by one tile", NUMBER, "tables + (j + step) // PAGE", "tables + (j + TILE) // PAGE"),
    attend("tokens count from the tile, not the block", NUMBER, "k_at = page * k_row + (j % PAGE) * k_token",
           "k_at = page * k_row + (j - start) % PAGE * k_token"),
    attend("values of the block before", CASES, "k_at if ALIKE else page * v_row", "tl.maximum(page - 1, 0) * v_row"),
    attend("the last partial block is read whole", CASES, "num_splits * TILE, length\n",
           "num_splits * TILE, tl.cdiv(length, PAGE) * PAGE\n"),
    attend("a new token sees the next", CASES,
           "visible = new <= token[:, None]", "visible = new <= token[:, None] + 1"),
    attend("a new token does not see itself", CASES,
           "visible = new <= token[:, None]", "visible = new < token[:, None]"),
    attend("no mask among the new tokens", CASES, "visible = new <= token[:, None]", "visible = new <= M"),
    attend("the length does not count the new keys", CASES,
           "new = j[None, :] - (length - M)", "new = j[None, :] - length"),
    attend("the new tokens are the last of each piece", NUMBER, "new = j[None, :] - (length - M)",
           "new = j[None, :] - (last - M)"),
    attend("the tree mask transposed", CASES, "token[:, None] * tree_token + p[None, :] * tree_other",
           "token[:, None] * tree_other + p[None, :] * tree_token"),
    attend("the first row's tree for all", CASES, "tree_bits(tree + b * tree_row", "tree_bits(tree + 0 * tree_row"),
    attend("a tree hides the older keys", CASES, f"visible = (new < 0) | ({TREE})", f"visible = (new >= 0) & ({TREE})"),
    attend("a tree of 32 tokens at most", "check_many_rows", "(sees != 0).to(tl.int64) << p[None, :]",
           "(sees != 0).to(tl.int32) << p[None, :]"),
    attend("rows are heads first", CASES, "token = r // GROUP", "token = r % M"),
    attend("a masked split gives nan", "check_early_tokens_see_nothing_of_the_last_split",
           "weight = tl.exp2(score - base[:, None])", "weight = tl.exp2(score - highest[:, None])"),
    attend("rows past the first tile are the first's", "check_many_rows", "r = block * ROWS + tl.arange(0, ROWS)",
           "r = 0 * block + tl.arange(0, ROWS)"),
    attend("a merge of empty splits gives nan", "check_only_new_tokens", "share = tl.exp2(lse - base[None, :])",
           "share = tl.exp2(lse - highest[None, :])"),
]

MERGE = [
    edit("an empty split's output counts", "check_empty", splits, "_part", "torch.where(weight > 0, out * weight, 0)",
         "out * weight"),
    edit("two empty splits give nan", "check_empty", splits, "_part", "torch.where(weight > 0, out * weight, 0)",
         "out.nan_to_num() * weight"),
    edit("the log-sum-exp is not used", "check_merge", splits, "_part", "(lse - of).exp()[..., None]",
         "(lse > -torch.inf).to(out.dtype)[..., None] / 2"),
    edit("log-sum-exps are added", "check_merge", splits, "merge", "torch.logaddexp(lse_a, lse_b)", "lse_a + lse_b"),
    edit("the larger log-sum-exp is kept", "check_merge", splits, "merge", "torch.logaddexp(lse_a, lse_b)",
         "torch.maximum(lse_a, lse_b)"),
]
