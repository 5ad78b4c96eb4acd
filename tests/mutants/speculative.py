"""Wrong acceptance rules for speculative decoding, each a single edit; the law or check that it names must reject it.

Released libraries had several of them: the residual by softmax, a greedy draft treated as a drawn one, a q that is not
what was drawn from, `<=` at a uniform of 0. Those that a `law_...` rejects bend the output's distribution by more than
1e-3, in total variation.
"""
from minilm.decoding import verify
from mutants.core import Change
from mutants.edits import edit

RULE, BLOCK, TREE, RESIDUAL = ((verify, name) for name in (
    "rejection_sample", "block_verify", "tree", "_from_residual"))
ACCEPTS = "uniforms[i] * q[i, token] >= p[i, token]"
REPLACES = "_from_residual(p[i], q[i], uniforms[-1])"

VERIFY = [
    # the recovered token
    edit("the residual by softmax", "law_rejection", *RESIDUAL, "(p - q).clamp(min=0)",
         "torch.softmax((p - q).clamp(min=0), -1)"),
    edit("recovered from p", "law_rejection", *RESIDUAL, "draw(residual if residual.sum() > 0 else p, uniform)",
         "draw(p, uniform)"),
    edit("recovered from q", "law_rejection", *RESIDUAL, "(p - q).clamp(min=0)", "q"),
    edit("the residual not clamped", "law_rejection", *RESIDUAL, ".clamp(min=0)", ".abs()"),
    edit("the residual's sign flipped", "law_rejection", *RESIDUAL, "(p - q)", "(q - p)"),
    edit("only the rejected token is ruled out", "law_rejection", *RULE, REPLACES,
         "_from_residual(p[i], torch.nn.functional.one_hot(torch.tensor(token), p.shape[-1]), uniforms[-1])"),
    edit("the residual of the next place", "law_rejection", *RULE, REPLACES,
         "_from_residual(p[i + 1], q[i], uniforms[-1])"),
    edit("the residual of the place before", "law_rejection", *RULE, REPLACES,
         "_from_residual(p[i - 1], q[i - 1], uniforms[-1])"),
    edit("the first place's residual everywhere", "law_rejection", *RULE, REPLACES,
         "_from_residual(p[0], q[0], uniforms[-1])"),
    edit("the rejected token stays", "law_rejection", *RULE, "*drafted[:i], _from", "*drafted[:i + 1], _from"),
    edit("nothing in the place of a rejected token", "check_acceptance", *RULE, f"[*drafted[:i], {REPLACES}]",
         "list(drafted[:i])"),
    # acceptance
    edit("accepted with probability p", "law_rejection", *RULE, ACCEPTS, "uniforms[i] >= p[i, token]"),
    edit("accepted where p > q, else never", "law_rejection", *RULE, ACCEPTS, "q[i, token] > p[i, token]"),
    edit("the ratio upside down", "law_rejection", *RULE, ACCEPTS, "uniforms[i] * p[i, token] >= q[i, token]"),
    edit("accepted with probability p / max p", "law_rejection", *RULE, ACCEPTS,
         "uniforms[i] * p[i].max() >= p[i, token]"),
    edit("all drafts accepted", "law_rejection", *RULE, ACCEPTS, "False"),
    edit("the first place's p for all", "law_rejection", *RULE, "p[i, token]:", "p[0, token]:"),
    edit("the first place's q for all", "law_rejection", *RULE, "* q[i, token]", "* q[0, token]"),
    edit("one uniform for all places", "law_rejection", *RULE, "uniforms[i]", "uniforms[0]"),
    edit("the deciding uniform recovers, too", "law_rejection", *RULE, REPLACES,
         "_from_residual(p[i], q[i], uniforms[i])"),
    edit("the bonus by the last decision's uniform", "law_rejection", *RULE, "draw(p[-1], uniforms[-1])",
         "draw(p[-1], uniforms[-2])"),
    edit("u <= p / q, at u = 0 and p = 0", "check_corners", *RULE, ACCEPTS, "uniforms[i] * q[i, token] > p[i, token]"),
    edit("drawn drafts treated as chosen", "check_acceptance", *RULE, "for i, token",
         "q = torch.nn.functional.one_hot(torch.tensor(drafted), p.shape[-1])\n    for i, token"),
    # the bonus token
    edit("the bonus from q", "law_rejection", *RULE, "draw(p[-1],", "draw(q[-1],"),
    edit("the bonus from the last draft's p", "law_rejection", *RULE, "draw(p[-1],", "draw(p[-2],"),
    edit("the bonus omitted", "check_corners", *RULE, "[*drafted, draw(p[-1], uniforms[-1])]", "list(drafted)"),
    edit("the likeliest bonus", "law_rejection", *RULE, "draw(p[-1], uniforms[-1])", "int(p[-1].argmax())"),
    # block verification
    edit("block: the ratio not cut at 1", "law_block", *BLOCK, "min(1.0, ratio * float(p[i, token] / q[i, token]))",
         "ratio * float(p[i, token] / q[i, token])"),
    edit("block: cut once, at the end", "law_block", *BLOCK,
         "min(1.0, ratio * float(p[i, token] / q[i, token]))",
         "float((p[range(i + 1), drafted[: i + 1]] / q[range(i + 1), drafted[: i + 1]]).prod().clamp(max=1))"),
    edit("block: the last draft's ratio alone", "law_block", *BLOCK, "ratio * float(", "float("),
    edit("block: a prefix accepted with its ratio", "law_block", *BLOCK, "if i + 1 < n:", "if False:"),
    edit("block: the residual without the ratio", "law_block", *BLOCK, "kept_ratio * p[kept]", "p[kept]"),
    edit("block: the residual with the whole draft's ratio", "law_block", *BLOCK, "kept_ratio * p[kept]",
         "ratio * p[kept]"),
    edit("block: the residual of the place before", "law_block", *BLOCK, "ratio * p[i + 1] - q[i + 1]",
         "ratio * p[i] - q[i]"),
    edit("block: the sum without 1 - ratio", "law_block", *BLOCK, "residual + 1 - ratio", "residual + 1"),
    edit("block: stops at the first refusal", "law_block", *BLOCK, "kept, kept_ratio = i + 1, ratio",
         "kept, kept_ratio = i + 1, ratio\n        else:\n            break"),
    edit("block: one uniform for all places", "law_block", *BLOCK, "uniforms[i] <", "uniforms[0] <"),
    edit("block: the bonus from q", "law_block", *BLOCK, "draw(p[-1],", "draw(q[-1],"),
    Change("block: rejection sampling under its name", "check_block_accepts_more", verify, "block_verify",
           verify.rejection_sample),
    # trees
    edit("tree: siblings not renormalised", "law_tree", *TREE, "p[tokens[child]] / p.sum()", "p[tokens[child]]"),
    edit("tree: refused siblings not zeroed", "law_tree", *TREE, "p[tokens[child]] = 0.0", "pass"),
    edit("tree: the recovered token from all of p", "law_tree", *TREE, "draw(p,", "draw(target_probs[node + 1],"),
    edit("tree: one uniform for all nodes", "law_tree", *TREE, "uniforms[child]", "uniforms[0]"),
    edit("tree: the likeliest child or none", "law_tree", *TREE, "uniforms[child] < share", "share > 0.5"),
    edit("tree: p after the node before", "law_tree", *TREE, "target_probs[node + 1].clone()",
         "target_probs[max(node, 0)].clone()"),
    edit("tree: children of the text only", "check_tree_accepts", *TREE, "if parent == node",
         "if parent == node == -1"),
    edit("tree: the first child alone is tried", "check_tree_accepts", *TREE, "p[tokens[child]] = 0.0",
         "p[tokens[child]] = 0.0\n            return [*path, draw(p, uniforms[-1])]"),
    # lossy rules sold as exact
    Change("typical acceptance called exact", "law_rejection", verify, "rejection_sample",
           lambda p, q, drafted, uniforms: verify.typical(p, drafted, uniforms[-1])),
    Change("greedy acceptance while sampling", "law_rejection", verify, "rejection_sample",
           lambda p, q, drafted, uniforms: verify.greedy(p, drafted)),
    edit("typical: the larger of the two bounds", "check_typical", verify, "typical", "min(epsilon", "max(epsilon"),
    edit("typical: epsilon and delta swapped", "check_typical", verify, "typical",
         "min(epsilon, delta * ", "min(delta, epsilon * "),
    edit("typical: the entropy's sign", "check_typical", verify, "typical", "exp(-entropy)", "exp(entropy)"),
    edit("greedy: matches after a mismatch count", "check_greedy", verify, "greedy",
         "while accepted < len(drafted) and drafted[accepted] == best[accepted]:\n        accepted += 1",
         "accepted = sum(a == b for a, b in zip(drafted, best, strict=False))"),
    edit("greedy: no token after the drafts", "check_greedy", verify, "greedy", ", best[accepted]]", "]"),
    # input
    edit("sums that rounding left beside 1 are taken as they are", "law_rounded", verify, "_probabilities",
         "probs / total", "probs"),
    edit("bfloat16's sums are refused", "check_bfloat16", verify, "_probabilities", "< 1e-2", "< 1e-3"),
    edit("any sum will do", "check_bad_input", verify, "_probabilities", "< 1e-2", "< 1e9"),
    edit("negative probabilities pass", "check_bad_input", verify, "_probabilities", "probs >= 0", "probs > -1"),
    edit("NaN passes", "check_bad_input", verify, "_probabilities",
         "not bool((probs >= 0).all()) or not bool(((total - 1).abs() < 1e-2).all())",
         "bool((probs < 0).any()) or bool(((total - 1).abs() >= 1e-2).any())"),
    edit("tokens outside the vocabulary wrap around", "check_bad_input", verify, "_check_shapes", "not 0 <= token < V",
         "not -V <= token < V"),
    edit("drafts that q rules out pass", "check_bad_input", verify, "_check", "q[i, token] == 0", "False"),
    edit("a node may continue itself", "check_bad_input", verify, "check_parents", "-1 <= parent < node",
         "-1 <= parent <= node"),
]
