"""Wrong versions of synthetic acceptance, each a single edit; see `edits`."""
import importlib

from mutants.edits import edit

FILE = importlib.import_module("minilm.decoding.proposers.synthetic")
LOOP = FILE, "synthetic_speculative"

SYNTHETIC = [
    edit("rejected at the rate", "check_rate", FILE, "accepted_at_rate", "u >= rate", "u < rate"),
    edit("accepted drafts after a rejected one count", "check_rate", FILE, "accepted_at_rate",
         "next((i for i, u in enumerate(uniforms) if u >= rate), len(uniforms))", "sum(u < rate for u in uniforms)"),
    edit("a uniform of 0 is accepted at rate 0", "check_ends", FILE, "accepted_at_rate", "u >= rate", "u > rate"),
    edit("one uniform for all of a round", "check_passes", *LOOP, "[uniform(generator) for _ in draft.tokens]",
         "[uniform(generator)] * len(draft.tokens) if len(draft.tokens) < 2 else [0.1, 0.9, 0.9]"),
    edit("the cache keeps rejected drafts", "check_passes", *LOOP, "cache.keep(context, list(range(kept + 1)))",
         "pass"),
    edit("the cache loses the last accepted draft", "check_last_token", *LOOP, "range(kept + 1)))", "range(kept)))"),
    edit("the token after the text, not after the drafts", "check_last_token", *LOOP, "best[kept]", "best[0]"),
    edit("no token after the drafts", "check_ends", *LOOP, "[*draft.tokens[:kept], best[kept]]",
         "draft.tokens[:kept] or [best[kept]]"),
    edit("the target judges after all", "check_passes", *LOOP, "kept = accepted_at_rate(",
         "kept = 0 and accepted_at_rate("),
]
