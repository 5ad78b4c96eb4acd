"""Wrong versions of the matrix of combinations and of its predictions, each a single edit; see `edits`."""
import importlib

from mutants.edits import edit

MATRIX, PREDICT, GPU = (importlib.import_module(f"minilm.bench.{name}")
                        for name in ("combinations", "predict", "gpu_combinations"))

COMBINATIONS = [
    edit("hurts: slower than the slower one", "check_hurts", MATRIX, "mark", "max((", "min(("),
    edit("hurts: medians apart", "check_hurts", MATRIX, "mark", 'ratio(cell["ratios"], best["ratios"]) < 1',
         'cell["speed_up"] < best["speed_up"]'),
    edit("a draft pass by Lean costs what PyTorch's does", "check_paper", PREDICT, "draft_seconds",
         "fast = lean and width <= 3", "fast = False"),
    edit("prompts read by Lean", "check_paper", PREDICT, "draft_seconds", "width <= 3", "width <= 300"),
    edit("drafting is free", "check_paper", PREDICT, "seconds", "for draft in drafts)", "for draft in ())"),
    edit("self-speculation: a plain pass", "check_paper_of_parts", PREDICT, "one_pass", "if own is not None and",
         "if False and"),
    edit("heads that look ahead are free", "check_paper_of_parts", PREDICT, "one_pass",
         "passed + heads_ahead(target, ahead) if", "passed if"),
    edit("a batch reads the weights for each text", "check_paper_of_parts", PREDICT, "step_of_batch",
         "if part.reads == WEIGHTS)", "for _ in widths if part.reads == WEIGHTS)"),
    edit("the draft runs once a round", "check_points", GPU, "all_points",
         "(draft, batch, 1, Ld, context): width - 1", "(draft, batch, 1, Ld, context): 1"),
    edit("a fill of all layers", "check_step_on_paper", GPU, "work_of", "(config.num_layers - layers)",
         "config.num_layers"),
    edit("kernels cost nothing", "check_step_on_paper", GPU, "work_of", "Part(WEIGHTS, 0.0, 0.0, kernels)",
         "Part(WEIGHTS, 0.0, 0.0, 0.0)"),
    edit("a check of one row", "check_step_on_paper", GPU, "work_of", "model.head(batch) + started",
         "model.head(1) + started"),
    edit("half the batch leaves when one does", "check_points", GPU, "exit_cost", "LEAVING**batch", "LEAVING"),
    edit("checks are free", "check_points", GPU, "exit_cost",
         "(shape, batch, CHECK, L // 2, context): 1 - all_leave", "(shape, batch, CHECK, L // 2, context): 0.0"),
    edit("upside down", "check_points", GPU, "point", "tokens * known[plain][kind] / sum(",
         "1 / known[plain][kind] * sum("),
]
