"""Wrong versions of early exit, CALM and trained heads, each a single edit; their tests must reject every one."""
import importlib
import inspect
import textwrap
from typing import Any

from minilm import heads
from minilm.decoding import calm
from minilm.model import Attention
from mutants.core import Change

ee = importlib.import_module("minilm.decoding.early_exit")


def edit(says: str, check: str, owner: Any, name: str, old: str, new: str) -> Change:
    """owner.name with the one place that reads `old` made to read `new`."""
    function = inspect.unwrap(getattr(owner, name))
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(old) != 1:
        raise LookupError(f"{name} holds {old!r} {source.count(old)} times: this wrong version needs to be rewritten")
    source = source.replace(old, new)
    if inspect.isclass(owner):
        source = source.replace("super()", f"super({owner.__name__}, self)")    # outside a class, it needs both names
    made: dict = {}
    exec(compile(source, f"<{says}>", "exec"), function.__globals__, made)
    return Change(says, check, owner, name, made[name])


SCHEDULE, TRACE, DESCEND = "check_schedule", "check_trace", (ee, "descend")
CATCH_UP = (ee.ExitCache, "catch_up")
EARLY_EXIT = [
    # entropy and patience
    edit("entropy in bits", "check_entropy", ee, "entropy", ".sum(-1)", ".sum(-1) / math.log(2)"),
    edit("entropy with its sign flipped", "check_entropy", ee, "entropy", "return ", "return -"),
    edit("0 · log 0 is NaN", "check_entropy", ee, "entropy", "torch.special.entr(logits.softmax(-1)).sum(-1)",
         "-(logits.softmax(-1) * logits.softmax(-1).log()).sum(-1)"),
    edit("entropy leaves at its threshold", "check_entropy", ee.Entropy, "leaves", "<", "<="),
    edit("entropy leaves when unsure", "check_entropy", ee.Entropy, "leaves", "<", ">"),
    edit("patience not reset between tokens", "check_patience", ee.Patience, "begin", "None, 0",
         "self._last, self._count"),
    edit("the first exit counts as agreement", "check_patience", ee.Patience, "score", "else 0", "else 1"),
    edit("a change of mind is forgiven", "check_patience", ee.Patience, "score", "else 0", "else self._count"),
    edit("compared with the first name", "check_patience", ee.Patience, "score", "self._last = named",
         "self._last = named if self._last is None else self._last"),
    edit("patience asks for one more", "check_patience", ee.Patience, "leaves", ">=", ">"),
    # what a skipped layer gets
    edit("keys of skipped layers are not turned", SCHEDULE, *CATCH_UP, "torch.arange(start, end, device=x.device)",
         "torch.zeros(end - start, dtype=torch.long)"),
    edit("skipped positions one too large", SCHEDULE, *CATCH_UP, "torch.arange(start, end,",
         "torch.arange(start + 1, end + 1,"),
    edit("skipped positions counted from the first waiting token", SCHEDULE, *CATCH_UP, "torch.arange(start, end,",
         "torch.arange(0, end - start,"),
    edit("attention_norm forgotten", SCHEDULE, *CATCH_UP, "block.attention_norm(self.states[None, start:end])",
         "self.states[None, start:end]"),
    edit("mlp_norm for attention_norm", SCHEDULE, *CATCH_UP, "block.attention_norm", "block.mlp_norm"),
    edit("the weights of the layer before", SCHEDULE, *CATCH_UP, "self.model.layers[layer]",
         "self.model.layers[layer - 1]"),
    edit("only the last waiting token catches up", SCHEDULE, *CATCH_UP, "self.filled[layer], self.length\n",
         "max(self.filled[layer], self.length - 1), self.length\n"),
    edit("the first waiting token is forgotten", SCHEDULE, *CATCH_UP, "self.filled[layer], self.length\n",
         "min(self.filled[layer] + (self.filled[layer] < self.length), self.length), self.length\n"),
    edit("caught up again and again", SCHEDULE, *CATCH_UP, "self.filled[layer] = end", "pass"),
    edit("nobody catches up", SCHEDULE, *CATCH_UP, "start == end", "True"),
    edit("only the loop catches up", "check_many_tokens_at_once", ee.ExitCache, "attend", "self.catch_up(layer)",
         "pass"),
    edit("catching up is not told", TRACE, *DESCEND, "cache.catch_up(layer)", "0"),
    edit("the state one layer too early is copied", SCHEDULE, *DESCEND, "cache.leave(layer + 1, look.hidden)",
         "cache.leave(layer + 1, look.before)"),
    edit("the state is kept at the next token's place", SCHEDULE, ee.ExitCache, "leave", "self.states[self.length]",
         "self.states[self.length + 1]"),
    edit("truncate leaves the depths", SCHEDULE, ee.ExitCache, "truncate", "self.depth[length:] =", "_ ="),
    edit("truncate forgets who is waiting", SCHEDULE, ee.ExitCache, "truncate", "min(tokens, length)", "length"),
    edit("skipped keys without their norm", SCHEDULE, Attention, "keys_values",
         "k if self.k_norm is None else self.k_norm(k)", "k"),
    edit("skipped keys and values without their bias", SCHEDULE, Attention, "keys_values", "self.qkv.bias[first:]",
         "None"),
    edit("skipped keys and values swapped", SCHEDULE, Attention, "keys_values", "k, v = kv", "v, k = kv"),
    edit("projected: copied from layer 1", "check_projected_differs", *CATCH_UP, "self.depth[t] - 1", "0"),
    edit("projected: copied from the layer below", "check_projected_differs", *CATCH_UP, "self.depth[t] - 1",
         "max(self.depth[t] - 2, 0)"),
    edit("projected is the same as hidden", "check_projected_differs", *CATCH_UP, 'self.skipped == "hidden"', "True"),
    # the loop
    edit("exits counted from 0", "check_always_leaves", *DESCEND, "layer + 1 in exits", "layer in exits"),
    edit("the policy is asked everywhere", "check_always_leaves", *DESCEND, "if layer + 1 in exits:",
         "if layer + 1 < len(model.layers):"),
    edit("leaves at the last layer asked only", "check_always_leaves", *DESCEND, "if leaves:",
         "if leaves and layer + 1 == max(exits):"),
    edit("the exit's token is that of the layer before", "check_always_leaves", *DESCEND, "return look.logits,",
         "return exit_head(layer, look.before),"),
    edit("never told that a token begins", "check_generation", *DESCEND, "policy.begin(t)", "pass"),
    edit("the token's number is one too small", "check_generation", ee, "early_exit", "len(out.tokens), cache",
         "len(out.tokens) - 1, cache"),
    edit("the lens is not used", "check_generation", ee, "early_exit", "model.head(lens(layer, x))", "model.head(x)"),
    edit("the last token is fed twice", "check_never_leaves", ee, "early_exit", "out.tokens[-1]",
         "out.tokens[max(-2, -len(out.tokens))]"),
    edit("the generator is not passed on", "check_never_leaves", ee, "early_exit",
         "[choose(logits, sampling, generator)], ExitPass, **told", "[choose(logits, sampling)], ExitPass, **told"),
    edit("the product at leaving is not counted", TRACE, *DESCEND, "head_products += not look.paid", "pass"),
    edit("the last product is not counted", TRACE, *DESCEND, "head_products + 1}", "head_products}"),
    edit("products counted twice", TRACE, *DESCEND, "head_products += not look.paid", "head_products += 1"),
    edit("the score at leaving is not told", TRACE, *DESCEND, '"layers": layer + 1, "scores": tuple(scores)',
         '"layers": layer + 1, "scores": tuple(scores[:-1])'),
    edit("depth told from 0", TRACE, *DESCEND, '{"layers": layer + 1', '{"layers": layer'),
    edit("one token caught up, however many did", TRACE, *CATCH_UP, "return end - start", "return 1"),
]


CONFIDENCE, DECAY, P_VALUE, WALK = "check_confidences", "check_decay", "check_p_value", "check_walk"
CALM = [
    # confidences
    edit("the best probability alone", CONFIDENCE, calm, "softmax_response", "best[..., 0] - best[..., 1]",
         "best[..., 0]"),
    edit("the gap between logits", CONFIDENCE, calm, "softmax_response", "logits.softmax(-1)", "logits"),
    edit("the gap to the third", CONFIDENCE, calm, "softmax_response", "best[..., 1]", "best[..., -1] * 0.5"),
    edit("saturation below 0", CONFIDENCE, calm, "saturation", ".clamp(0, 1)", ""),
    edit("saturation by its size", CONFIDENCE, calm, "saturation", ".clamp(0, 1)", ".abs()"),
    edit("saturation against the embedding", "check_against_the_oracle", ee, "descend",
         "before, x = x, block(", "before, x = (before if layer else x), block("),
    edit("confidence must exceed its threshold", CONFIDENCE, calm._Confidence, "leaves", ">=", ">"),
    edit("threshold 1 may leave", CONFIDENCE, calm._Confidence, "leaves", " and self.threshold < 1", ""),
    edit("classifier without the normalised state", CONFIDENCE, calm.ExitHead, "__call__",
         "torch.nn.functional.rms_norm(hidden, hidden.shape[-1:], eps=1e-6)", "hidden"),
    edit("classifier without its bias", CONFIDENCE, calm.ExitHead, "__call__", " + self.bias", ""),
    edit("classifier on unit length", CONFIDENCE, calm.ExitHead, "__call__", "eps=1e-6)",
         "eps=1e-6) / len(hidden) ** 0.5"),
    # decay
    edit("paper's and released form swapped", DECAY, calm, "decayed", 'form == "paper"', 'form != "paper"'),
    edit("the plus inside the brackets", DECAY, calm, "decayed", "0.9 * threshold + fade", "0.9 * (threshold + fade)"),
    edit("the threshold grows", DECAY, calm, "decayed", "math.exp(-tau", "math.exp(tau"),
    edit("the length does not count", DECAY, calm, "decayed", "tau * t / horizon", "tau * t"),
    edit("no clip", DECAY, calm, "decayed", "min(max(value, 0.0), 1.0)", "value"),
    edit("every token is the first", DECAY, calm.Decaying, "begin", "threshold, t,", "threshold, 0,"),
    edit("the form is forgotten", DECAY, calm.Decaying, "begin", ", self.form", ""),
    edit("1 decays too", DECAY, calm.Decaying, "begin", "threshold < 1:", "True:"),
    edit("decay uses up the policy", DECAY, calm.Decaying, "begin",
         "self._now = replace(self.policy, threshold=threshold)",
         "self._now.threshold = threshold"),
    # p-values
    edit("Bentkus without e", P_VALUE, calm, "hb_p_value", "math.e * ", ""),
    edit("floor for ceil", P_VALUE, calm, "hb_p_value", "math.ceil(n * mean_loss - 1e-9)", "math.floor(n * mean_loss)"),
    edit("rounding counts as a loss", P_VALUE, calm, "hb_p_value", " - 1e-9", ""),
    edit("the worse of the two bounds", P_VALUE, calm, "hb_p_value", "min(hoeffding, bentkus, 1.0)",
         "min(max(hoeffding, bentkus), 1.0)"),
    edit("Hoeffding's bound alone", P_VALUE, calm, "hb_p_value", "min(hoeffding, bentkus, 1.0)", "min(hoeffding, 1.0)"),
    edit("Bentkus' bound alone", P_VALUE, calm, "hb_p_value", "min(hoeffding, bentkus, 1.0)", "min(bentkus, 1.0)"),
    edit("Hoeffding by the square", P_VALUE, calm, "hb_p_value", "-n * divergence", "-2 * n * (m - delta) ** 2"),
    edit("large losses look surprising too", P_VALUE, calm, "hb_p_value", "m = min(mean_loss, delta)",
         "m = min(mean_loss, 1 - 1e-9)"),
    edit("the binomial stops one short", P_VALUE, calm, "_binomial_cdf", "range(k + 1)", "range(k)"),
    edit("p-values half as large", "check_super_uniform", calm, "hb_p_value", "min(hoeffding, bentkus, 1.0)",
         "min(hoeffding / 4, bentkus / 4, 1.0)"),
    edit("a normal approximation", "check_super_uniform", calm, "hb_p_value", "return min(hoeffding, bentkus, 1.0)",
         "return 0.5 * math.erfc((delta - mean_loss) / math.sqrt(2 * max(mean_loss * (1 - mean_loss), 1e-12) / n))"),
    # calibration
    edit("the walk goes on after a failure", WALK, calm, "certified", "break", "continue"),
    edit("the first that failed is returned", WALK, calm, "certified",
         "        break\n        passed.append(threshold)",
         "        passed.append(threshold)\n            break\n        passed.append(threshold)"),
    edit("the safest is returned", WALK, calm, "calibrate", "passed[-1]", "passed[0]"),
    edit("mean <= delta is enough", "check_promise", calm, "certified",
         "hb_p_value(mean, len(losses), delta) > epsilon",
         "mean > delta"),
    edit("delta and epsilon swapped", WALK, calm, "certified", "len(losses), delta) > epsilon",
         "len(losses), epsilon) > delta"),
    edit("epsilon shared out among all", WALK, calm, "certified", "> epsilon", "> epsilon / len(thresholds)"),
    edit("the largest loss for the mean", WALK, calm, "certified", "losses.mean(0)", "losses.amax(0)"),
    edit("nothing certified: the safest anyway", WALK, calm, "calibrate", "return full", "return thresholds[0]"),
    edit("one example too few is let through", "check_fewest_examples", calm, "examples_needed", "math.ceil",
         "math.floor"),
    edit("one example too many is asked for", "check_fewest_examples", calm, "examples_needed", "math.ceil(",
         "1 + math.ceil("),
]


HEADS = [
    edit("the owner is not looked at", "check_another_model", heads, "read", "owner != fingerprint(model)",
         "owner is None"),
    edit("a file without an owner is let through", "check_another_model", heads, "read",
         "if owner != fingerprint(model):",
         "if owner and owner != fingerprint(model):"),
    edit("the fingerprint sees the shape only", "check_fingerprint", heads, "fingerprint",
         "(model.norm, *(block.mlp_norm for block in model.layers))", "()"),
    edit("the fingerprint depends on the precision", "check_fingerprint", heads, "fingerprint",
         '.to("cpu", torch.bfloat16).view(torch.int16)', ".cpu().float()"),
    edit("the file's precision is kept", "check_round_trip", heads, "read", ".to(model.device, model.dtype)", ""),
]
