"""Wrong versions of the steps of real size, each a single edit; see `edits`."""
import importlib

from mutants.edits import edit

FILE = importlib.import_module("minilm.bench.big_steps")
MAKE, ATTEND, CHECK = (FILE.Step, "__init__"), (FILE.Step, "attend"), "check_step"

BIG_STEPS = [
    edit("the new tokens are not counted", CHECK, *MAKE, "torch.full((batch,), context + width",
         "torch.full((batch,), context"),
    edit("positions of another context", CHECK, *MAKE, "torch.arange(context, context + width, device=device)",
         "torch.arange(width, device=device)"),
    edit("all texts write to the first one's blocks", CHECK, *MAKE, "(self.tables[:, self.positions",
         "(self.tables[:1].expand(batch, -1)[:, self.positions"),
    edit("every token at its block's first place", CHECK, *MAKE, " + self.positions % BLOCK", ""),
    edit("values are kept as keys", CHECK, *ATTEND, "(self.values[layer], v)", "(self.keys[layer], v)"),
    edit("heads and tokens mixed up", CHECK, *ATTEND, "return y.transpose(1, 2)",
         "return y.reshape(y.shape[0], y.shape[2], y.shape[1], -1)"),
    edit("one layer too many", CHECK, FILE, "cut", "model.layers[:layers]", "model.layers[: layers + 1]"),
]
