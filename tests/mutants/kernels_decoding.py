"""Wrong versions of the decode kernels, of their launch and of the merge: each a single edit that a check must reject."""
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
    attend("the last key of a split is left out", RAGGED, "last = tl.minimum(first + size, length)",
           "last = tl.minimum(first + size - 1, length)"),
    attend("a split reads a key of the next", NUMBER, "last = tl.minimum(first + size, length)",
           "last = tl.minimum(first + size + 1, length)"),
    attend("the last split is cut at the batch's end, not the row's", RAGGED,
           "last = tl.minimum(first + size, length)", "last = first + size"),
    attend("all splits are the first", RAGGED, "first = split * size", "first = 0 * split"),
    attend("the first split too leaves when it is empty", EMPTY, "if split >= splits:", "if split * size >= length:"),
    attend("split sizes rounded down", RAGGED, "tl.cdiv(tl.cdiv(length, num_splits), TILE) * TILE", "length // num_splits // TILE * TILE"),
    attend("one split too few for the rest", RAGGED, "tl.cdiv(length, size), 1",
                "length // size, 1"),
    # online softmax
    attend("what came before is not scaled down", RAGGED, "acc = acc * before[:, None] +", "acc = acc +"),
    attend("the sum before is not scaled down", RAGGED, "total = total * before + tl.sum(weight, 1)",
           "total = total + tl.sum(weight, 1)"),
    attend("no maximum is subtracted", SCORES, "base = tl.where(highest == float(\"-inf\"), 0.0, highest)",
           "base = highest * 0.0"),
    attend("the scale is forgotten", RAGGED, "input_precision=\"ieee\") * scale ", "input_precision=\"ieee\") "),
    attend("keys past the row's end count", RAGGED, "score = tl.where(visible & inside[None, :], score, float(\"-inf\"))",
           "score = tl.where(visible, score, float(\"-inf\"))"),
    attend("values past the row's end are read", RAGGED, "value = tl.load(v + v_at[:, None] + d[None, :], mask=there,",
           "value = tl.load(v + v_at[:, None] + d[None, :], mask=(d < D)[None, :],"),
    attend("an empty row divides by zero", EMPTY, "some = tl.where(total > 0, total, 1.0)", "some = total"),
    # heads
    attend("the wrong key-value head", RAGGED, "k += head.to(tl.int64) * k_head",
           "k += ((head + 1) % kv_heads).to(tl.int64) * k_head"),
    attend("values of the first head for all", RAGGED, "v += head.to(tl.int64) * v_head", "v += 0 * v_head"),
    attend("heads of a group are strided over key-value heads", RAGGED,
           "(head * GROUP + r % GROUP) * q_head", "(head + r % GROUP * kv_heads) * q_head"),
    attend("the tile's padded rows are stored as the next head's", RAGGED,
           "tl.store(out_at, acc.to(out.dtype.element_ty), mask=(r < R)[:, None] & (d < D)[None, :])",
           "tl.store(out_at, acc.to(out.dtype.element_ty), mask=(r < R + 1)[:, None] & (d < D)[None, :])"),
    attend("the tile's padded rows of a state overwrite the next split's", RAGGED,
           "tl.store(states + place[:, None] * D + d[None, :], acc, mask=(r < R)[:, None]",
           "tl.store(states + place[:, None] * D + d[None, :], acc, mask=(r < R + 1)[:, None]"),
    # the merge
    attend("log-sum-exp without the sum", RAGGED, "top + tl.log2(some)", "top"),
    attend("log-sum-exp in another base", RAGGED, "top + tl.log2(some)", "top + tl.log(some)"),
    attend("the first to arrive merges", RAGGED, "sem=\"acq_rel\") == splits - 1", "sem=\"acq_rel\") == 0"),
    attend("empty splits are waited for", RAGGED, "sem=\"acq_rel\") == splits - 1", "sem=\"acq_rel\") == num_splits - 1"),
    attend("the count is left as it is", "check_counters", "tl.store(counter, 0)", "pass"),
    attend("rows share a count", RAGGED, "arrived + b * tl.num_programs(0) + tl.program_id(0)",
           "arrived + tl.program_id(0)"),
    attend("every split weighs the same", RAGGED, "weight = tl.exp2(lse - base[None, :])",
            "weight = tl.where(lse > float(\"-inf\"), 1.0, 0.0)"),
    attend("the merge reads empty splits", RAGGED, "there = (s < splits)[:, None] & (r < R)[None, :]",
            "there = (s < splits + 1)[:, None] & (r < R)[None, :]"),
    attend("not divided by the weights", RAGGED, "merged / tl.where(total > 0, total, 1.0)[:, None]", "merged"),
    attend("a chunk of splits is not scaled to the next", "check_chunks", "merged = merged * before[:, None] +",
            "merged = merged +"),
]

TREE = "((sees[:, None] >> tl.maximum(new, 0).to(tl.int64)) & 1) != 0"
CASES = "check_cases"
PAGED = [
    attend("the first row's block table for all", CASES, "tables += b * table_row", "tables += 0 * table_row"),
    attend("block tables one entry late", CASES, "page = tl.load(tables + (j + TILE) // PAGE, mask=j + TILE < last",
           "page = tl.load(tables + j // PAGE, mask=j + TILE < last"),
    attend("the block's own tokens in the table's order", CASES, "k_at = page.to(tl.int64) * k_row + (j % PAGE) * k_token",
           "k_at = page.to(tl.int64) * k_row + (j - start) % PAGE * k_token + 0 * (j % PAGE)"),
    attend("values from the key's place in another layout", CASES, "v_at = page.to(tl.int64) * v_row + (j % PAGE) * v_token",
           "v_at = j * v_token"),
    attend("the last partial block is read whole", CASES, "last = tl.minimum(first + size, length)",
           "last = tl.minimum(first + size, tl.cdiv(length, PAGE) * PAGE)"),
    attend("a new token sees the next", CASES, "visible = new <= token[:, None]", "visible = new <= token[:, None] + 1"),
    attend("a new token does not see itself", CASES, "visible = new <= token[:, None]", "visible = new < token[:, None]"),
    attend("no mask among the new tokens", CASES, "visible = new <= token[:, None]", "visible = new <= M"),
    attend("the length does not count the new keys", CASES, "new = j[None, :] - (length - M)", "new = j[None, :] - length"),
    attend("the mask counts from the split", CASES, "new = j[None, :] - (length - M)",
           "new = j[None, :] - (last - M)"),
    attend("the tree mask transposed", CASES, "token[:, None] * tree_token + p[None, :] * tree_other",
           "token[:, None] * tree_other + p[None, :] * tree_token"),
    attend("the first row's tree for all", CASES, "tree + b * tree_row", "tree + 0 * tree_row"),
    attend("a tree hides the older keys", CASES, f"visible = (new < 0) | ({TREE})", f"visible = (new >= 0) & ({TREE})"),
    attend("a tree of 32 tokens at most", "check_many_rows", "(sees != 0).to(tl.int64) << p[None, :]",
           "(sees != 0).to(tl.int32) << p[None, :]"),
    attend("rows are heads first", CASES, "token = r // GROUP", "token = r % M"),
    attend("a masked split gives nan", "check_early_tokens_see_nothing_of_the_last_split",
           "base = tl.where(highest == float(\"-inf\"), 0.0, highest)", "base = highest"),
    attend("rows past the first tile are the first's", "check_many_rows", "r = block * ROWS + tl.arange(0, ROWS)",
           "r = 0 * block + tl.arange(0, ROWS)"),
    attend("splits without keys give nan", "check_early_tokens_see_nothing_of_the_last_split",
            "base = tl.where(new == float(\"-inf\"), 0.0, new)", "base = new"),
]

MERGE = [
    edit("two empty splits give nan", "check_empty", splits, "merge", "lse.masked_fill(lse == -torch.inf, 0)", "lse"),
    edit("an empty split's output counts", "check_empty", splits, "_part", "torch.where(weight > 0, out * weight, 0)",
         "out * weight"),
    edit("the log-sum-exp is not used", "check_merge", splits, "_part", "(lse - base).exp()[..., None]",
         "(lse > -torch.inf).to(out.dtype)[..., None] / 2"),
    edit("log-sum-exps are added", "check_merge", splits, "merge", "torch.logaddexp(lse_a, lse_b)", "lse_a + lse_b"),
    edit("the larger log-sum-exp is kept", "check_merge", splits, "merge", "torch.logaddexp(lse_a, lse_b)",
         "torch.maximum(lse_a, lse_b)"),
]
