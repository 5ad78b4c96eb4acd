"""Wrong versions of combined drafting and of the lean pass, each a single edit; see `edits`."""
import importlib

from mutants.edits import edit

COMBINED, LEAN = (importlib.import_module(f"minilm.{name}") for name in ("decoding.proposers.combined", "lean"))
ASK, GROW, STEP = ((COMBINED.Combined, "propose"), (COMBINED.SurvivalDraft, "propose"), (LEAN.Lean, "_step"))
ORDER, STOP, PASS = "check_order", "check_survival", "check_pass"

RULES = [
    edit("the last one always has the word", ORDER, *ASK, "        if draft.tokens:\n            break\n", ""),
    edit("the first one has the word even when silent", ORDER, *ASK, "if draft.tokens:", "if True:"),
    edit("the last is asked first", ORDER, *ASK, "in self.sources:", "in reversed(self.sources):"),
    edit("others than the first never begin a text", ORDER, COMBINED.Combined, "start", "self.sources:",
         "self.sources[:1]:"),
    edit("the first verifies for all", "check_own_ways", COMBINED._OwnWays, "verify", "self.speaker.verify",
         "self.sources[0].verify"),
    edit("copies share their sources", "check_copies", COMBINED.Combined, "__copy__",
         "[copy.copy(source) for source in self.sources]", "self.sources"),
    edit("stops at a sure token", STOP, *GROW, "reached < self", "reached > self"),
    edit("doubts the free ones", STOP, *GROW, " and len(tokens) >= self.free", ""),
    edit("one more is free", STOP, *GROW, "len(tokens) >= self.free", "len(tokens) > self.free"),
    edit("the doubted token is drafted, greedy or not", STOP, *GROW,
         "        if doubtful and sampling.greedy:\n            break\n", ""),
    edit("one doubtful token, not the product", STOP, *GROW, "reached /= float", "reached = 1 / float"),
    edit("never stops when sampling", STOP, *GROW, "        if doubtful:\n            break\n", ""),
    edit("the chance of another token", STOP, *GROW, "logits[token]).exp", "logits.max() + 1).exp"),
    edit("rejected drafts stay in the cache", STOP, *GROW, "self.cache.truncate(shared)", "pass"),
    edit("one token short", STOP, *GROW, "while len(tokens) < limit", "while len(tokens) < limit - 1"),
]

LAW = [
    edit("the doubted token is dropped", "survival", *GROW, "        if doubtful:\n            break",
         "        if doubtful:\n            tokens.pop(), probs.pop()\n            break"),
    edit("a greedy draft, a soft q", "survival", *GROW, "draw(q, uniform(generator))", "int(q.argmax())"),
    edit("q before temperature and cuts", "survival", *GROW, "probs.append(q)",
         "probs.append(torch.softmax(logits, -1))"),
    edit("q one place late", "combined", *GROW, "torch.stack(probs)", "torch.stack(probs[:1] + probs[:-1])"),
]

LEAN_PASS = [
    edit("positions one late", PASS, *STEP, "self.cos[n], self.sin[n]", "self.cos[n + 1], self.sin[n + 1]"),
    edit("the new token does not see itself", PASS, *STEP, "weights = np.exp(scores",
         "scores[..., n] = -1e9\n        weights = np.exp(scores"),
    edit("keys are not turned", PASS, *STEP, "= turned[H:], heads", "= heads[H : H + K], heads"),
    edit("values under the keys' name", PASS, *STEP, "heads[H + K :]\n", "turned[H:]\n"),
    edit("query heads share the wrong keys", PASS, *STEP, "turned[:H].reshape(K, H // K, D)",
         "turned[:H].reshape(H // K, K, D).transpose(1, 0, 2)"),
    edit("the softmax is not made to sum to 1", PASS, *STEP, " / weights.sum(-1, keepdims=True)", ""),
    edit("no residual around the MLP", PASS, *STEP, "x = x + down", "x = down"),
    edit("no residual around attention", PASS, *STEP, "x = x + out", "x = out"),
    edit("gate and up swapped", PASS, *STEP, "gate, up = both[: c.mlp_width], both[c.mlp_width :]",
         "up, gate = both[: c.mlp_width], both[c.mlp_width :]"),
    edit("the MLP's norm is left out", PASS, *STEP, "both = gate_up.dot(x) * self._scale(x)", "both = gate_up.dot(x)"),
    edit("the token does not join the cache", PASS, *STEP, "cache.length = n + 1", "pass"),
    edit("the head's last rows are left out", PASS, LEAN.Lean, "head", "in self.blocks:", "in self.blocks[:-1]:"),
    edit("the head without its norm", PASS, LEAN.Lean, "head", "    logits *= self._scale(x)\n", ""),
    edit("RMS without its eps", PASS, LEAN.Lean, "_scale", " + self.config.norm_eps", ""),
    edit("a branched cache is read as a chain", "check_falls_back", LEAN.Lean, "read", "cache._parents is not None",
         "False"),
]
