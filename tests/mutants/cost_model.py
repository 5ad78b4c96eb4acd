"""Wrong versions of the cost model, each a single edit; see `edits`."""
import importlib

from mutants.edits import edit

FILE = importlib.import_module("minilm.bench.cost_model")
LAYERS, HEAD, EXIT = (FILE.Model, "layers"), (FILE.Model, "head"), (FILE, "early_exit")

COST_MODEL = [
    edit("reading and multiplying one after the other", "check_binds", FILE.Part, "seconds",
         "max(self.bytes / machine.bytes_per_second, self.flops / machine.flops_per_second)",
         "self.bytes / machine.bytes_per_second + self.flops / machine.flops_per_second"),
    edit("a multiply-add is one", "check_pass", *LAYERS, "2 * rows * numbers", "rows * numbers"),
    edit("weights read once for each text", "check_pass", *LAYERS, "b * numbers", "b * batch * numbers"),
    edit("weights read for each token", "check_speculation", *LAYERS, "2 * rows * numbers", "2 * batch * numbers"),
    edit("keys and values of one text", "check_pass", *LAYERS, "share * batch * kv", "share * kv"),
    edit("new tokens don't see each other", "check_pass", *LAYERS, "+ width * (width + 1) / 2", ""),
    edit("key-value heads for query heads", "check_pass", *LAYERS, "c.num_heads", "c.num_kv_heads"),
    edit("keys and values of all layers", "check_pass", *LAYERS, "share * batch * kv", "batch * kv"),
    edit("launches once a pass", "check_pass", *LAYERS, "count * self.launches.per_layer", "self.launches.per_layer"),
    edit("logits cost nothing", "check_pass", *HEAD, "(numbers + logits)", "numbers"),
    edit("one row's logits", "check_pass", FILE.Model, "forward", "batch * width if heads is None else heads", "1"),
    edit("the shorter one counts", "check_binds", FILE.Work, "shares", "+= max(reading", "+= min(reading"),
    edit("the least binds", "check_binds", FILE.Work, "binds", "max(shares", "min(shares"),
    edit("verification is a plain pass", "check_speculation", FILE, "speculation",
         "target.forward(batch, gamma + 1", "target.forward(batch, 1"),
    edit("the draft is free", "check_speculation", FILE, "speculation", "gamma * draft.forward", "0 * draft.forward"),
    edit("one draft pass a round", "check_speculation", FILE, "speculation", "gamma * draft.forward",
         "1 * draft.forward"),
    edit("one text's tokens", "check_limits", FILE, "speculation", "batch * expected_tokens", "expected_tokens"),
    edit("slow-downs upside down", "check_limits", FILE, "speed_up",
         "technique.tokens_per_second(machine, drafter) / plain.tokens_per_second(machine)",
         "plain.tokens_per_second(machine) / technique.tokens_per_second(machine, drafter)"),
    edit("a batch goes as deep as its mean text", "check_exit", *EXIT, "1 - (1 - there) ** batch", "there"),
    edit("checks cost nothing", "check_exit", *EXIT, "work += anyone * target.head(max(1, round(rows)))", "pass"),
    edit("skipped layers need no keys", "check_exit", *EXIT, "(1 - (1 - gone / batch) ** batch) * kv_share",
         "0 * kv_share"),
    edit("those who leave still run the next layer", "check_exit", *EXIT, "there -= leaving[layer - 1]",
         "there -= leaving[layer - 2] if layer > 1 else 0"),
    edit("self-speculation: the last draft's first layers are free", "check_self_speculation", FILE,
         "self_speculation", "target.layers(batch, 1, context, exit_layer)\n", "0 * target.head()\n"),
    edit("self-speculation: verification over all layers", "check_self_speculation", FILE, "self_speculation",
         "L - exit_layer)", "L)"),
    edit("lookahead: all tokens get logits", "check_lookahead", FILE, "lookahead",
         "batch * (window + 1 + guesses * (ngram - 1))", "batch * fed"),
    edit("lookahead: every pass has a guess", "check_lookahead", FILE, "lookahead", "guesses), f)", "guesses), 1.0)"),
    edit("break-even: the other half", "check_break_even", FILE, "break_even",
         "(low, middle) if pays(middle) else (middle, high)", "(middle, high) if pays(middle) else (low, middle)"),
    edit("break-even: always one", "check_break_even", FILE, "break_even", "return None", "return 1.0"),
]
