"""Wrong versions of the steps of real size, each a single edit; see `edits`."""
import importlib

from mutants.edits import edit

FILE = importlib.import_module("minilm.bench.big_steps")
MAKE, ATTEND, CHECK = (FILE.Step, "__init__"), (FILE.Step, "_attend"), "check_step"

BIG_STEPS = [
    edit("the new tokens are not counted", CHECK, *MAKE, "torch.full((batch,), context + width",
         "torch.full((batch,), context"),
    edit("positions of another context", CHECK, *MAKE, "torch.arange(context, context + width, device=device)",
         "torch.arange(width, device=device)"),
    edit("all texts write to the first one's blocks", CHECK, *MAKE, "(self.tables[:, self.positions",
         "(self.tables[:1].expand(batch, -1)[:, self.positions"),
    edit("every token at its block's first place", CHECK, *MAKE, " + self.positions % BLOCK", ""),
    edit("values are kept as keys", CHECK, FILE.Step, "logits", "self.keys, self.values", "self.keys, self.keys"),
    edit("texts and tokens mixed up", CHECK, *ATTEND, "q.unflatten(0, (self.batch, self.width))",
         "q.unflatten(0, (self.width, self.batch)).transpose(0, 1)"),
    edit("one layer too many", CHECK, FILE, "cut", "model.layers[:layers]", "model.layers[: layers + 1]"),
]
