"""How many passes lookahead decoding saves on a model, over prompts and settings (W, N, G): counts, so no clock.

Two sets of held-out prompts: "python", requests for a function or a class, and "mixed", all kinds alike.
"""
from collections.abc import Callable, Iterable, Sequence

import minilm
from minilm.decoding.lookahead import lookahead
from minilm.decoding.speedup import lookahead_tokens
from minilm.model import GPT
from minilm.tokenizer import Tokenizer
from minilm.training.prompts import KINDS, held_out

NEW_TOKENS, PYTHON_PROMPTS, MIXED_PROMPTS = 128, 24, 36
GRID = ((1, 2, 1), (5, 2, 5), (15, 2, 15), (5, 3, 5), (10, 3, 10), (15, 3, 15), (5, 5, 5), (7, 5, 7), (10, 5, 10),
        (15, 5, 15), (20, 5, 20), (7, 7, 7), (10, 7, 10), (15, 7, 15), (20, 7, 20), (15, 10, 15))


def prompt_sets(tokenizer: Tokenizer, python: int = PYTHON_PROMPTS, mixed: int = MIXED_PROMPTS) -> dict[str, list]:
    """{"python": [...], "mixed": [...]}: held-out requests, ready for the assistant's answer, as token ids."""
    of_python = [prompt for prompt in held_out(python * len(KINDS), seed=1) if prompt.kind == "python"]
    return {name: [tokenizer.chat(prompt.text) for prompt in some]
            for name, some in (("python", of_python), ("mixed", held_out(mixed, seed=2)))}


def steps_saved(model: GPT, prompts: Iterable[Sequence[int]], max_new_tokens: int, *, window: int, ngram: int,
                guesses: int, eos: int | None = None, pool_from_prompt: bool = False) -> dict[str, float]:
    """Greedy answers to all prompts; what they took. Prefill counts as a pass, for both ways of decoding.

    saved: passes of plain decoding, one a token, over passes of lookahead.  fed: tokens a pass after prefill.
    tried: share of these passes that had a guess to verify, the formula's 1 / f.  given: tokens that such a pass gave,
    its E; so `speedup.step_compression(given, 1 / tried)` is `saved` but for prefill.
    """
    tokens = passes = later = fed = tried = given = 0
    for prompt in prompts:
        out = lookahead(model, list(prompt), max_new_tokens, window=window, ngram=ngram, guesses=guesses, eos=eos,
                        pool_from_prompt=pool_from_prompt and len(prompt) >= ngram)
        tokens, passes, later = tokens + len(out.tokens), passes + len(out.trace), later + len(out.trace) - 1
        fed += sum(step.fed for step in out.trace[1:])
        given += sum(len(step.emitted) for step in out.trace if step.guesses)
        tried += sum(bool(step.guesses) for step in out.trace)
    return {"tokens": tokens, "passes": passes, "saved": round(tokens / passes, 4),
            "fed": round(fed / max(later, 1), 2), "tried": round(tried / max(later, 1), 4),
            "given": round(given / max(tried, 1), 4)}


def measure(name: str = "minilm-14m", *, grid: Sequence[tuple[int, int, int]] = GRID, python: int = PYTHON_PROMPTS,
            mixed: int = MIXED_PROMPTS, new_tokens: int = NEW_TOKENS, pool_from_prompt: Sequence[bool] = (False, True),
            say: Callable[[str], None] = print) -> dict:
    """Every setting of the grid on both sets: rows of settings and counts, and the best of each set."""
    model, tokenizer = minilm.load(name)
    sets = prompt_sets(tokenizer, python, mixed)
    rows = []
    for which, prompts in sets.items():
        for from_prompt in pool_from_prompt:
            for window, ngram, guesses in grid:
                counts = steps_saved(model, prompts, new_tokens, window=window, ngram=ngram, guesses=guesses,
                                     eos=tokenizer.eos_id, pool_from_prompt=from_prompt)
                rows.append({"prompts": which, "window": window, "ngram": ngram, "guesses": guesses,
                             "pool_from_prompt": from_prompt,
                             "tokens_per_step": lookahead_tokens(window, ngram, guesses), **counts})
                say(f"{which:7} W {window:2} N {ngram:2} G {guesses:2} {'pool from prompt' if from_prompt else '':16} "
                    f"{counts['saved']:.3f}x, {counts['fed']:.0f} tokens a pass")
    best = {which: max((row for row in rows if row["prompts"] == which), key=lambda row: row["saved"])
            for which in sets}
    return {"benchmark": "lookahead", "model": name, "new_tokens": new_tokens,
            "num_prompts": {which: len(prompts) for which, prompts in sets.items()}, "rows": rows, "best": best}


def show(measured: dict) -> str:
    """The best setting of each set, as a few lines of text."""
    lines = [f"{measured['model']}, greedy, up to {measured['new_tokens']} new tokens: passes of plain decoding over "
             "passes of lookahead, at the best (W, N, G)"]
    for which, row in measured["best"].items():
        lines.append(f"{which:7} {row['saved']:.2f} × over {measured['num_prompts'][which]} prompts at "
                     f"({row['window']}, {row['ngram']}, {row['guesses']}), {row['fed']:.0f} tokens a pass")
    return "\n".join(lines)
