"""What adds up and what doesn't: every technique alone, in pairs, and all together, measured beside predicted.

One model on a CPU, greedy, held-out prompts of five kinds, prefill included. A cell of the matrix is a pair of
techniques in one run; the baseline is plain decoding of one text after another. The prediction knows three ceilings of
the machine and how many tokens each pass gave, no technique's time (see `predict`). A pair that can't be has a reason.
"""
import statistics
from collections.abc import Callable

from minilm.bench.matrix import ALL, BATCH, DRAFT, EXIT, LOOKUP, PYTORCH, REASONS, TECHNIQUES, Outcome, Setup, pairs
from minilm.bench.speculative import prompt_sets
from minilm.race import rotated
from minilm.text import counted


def measure(name: str = "minilm-14m", *, prompts: int = 2, new_tokens: int = 64, rounds: int = 5, device: str = "cpu",
            say: Callable[[str], None] = print) -> dict:
    """Everything in turn in every round, each round beginning with another one; see the module's text.

    device: on "cuda" another experiment, steps of random weights at real size: see `gpu_combinations`.
    """
    if device != "cpu":
        from minilm.bench import gpu_combinations
        return gpu_combinations.measure(rounds=rounds, say=say)
    setup = Setup.of(name, new_tokens)
    sets = prompt_sets(setup.tokenizer, prompts)
    asked = [prompt for some in sets.values() for prompt in some]
    runs: dict[tuple[str, str], Callable[..., Outcome]] = {
        pair: lambda on_paper=False, pair=pair: setup.run(*pair, asked, on_paper)
        for pair in [("autoregressive",) * 2, *pairs(), (ALL, ALL), (PYTORCH, PYTORCH)]}
    runs[BATCH, ALL] = lambda on_paper=False: setup.batched(asked, ALL, on_paper)
    runs["paged engine", "paged engine"] = lambda on_paper=False: setup.batched(asked, None, on_paper, together=False)
    first = {pair: run(on_paper=True) for pair, run in runs.items()}            # the warm-up: what is said, and counted
    outs: dict[tuple[str, str], list[Outcome]] = {pair: [] for pair in runs}
    for number in range(rounds):
        for pair in rotated(list(runs), number):
            outs[pair].append(runs[pair]())
    seconds = {pair: [out.seconds / out.tokens for out in every] for pair, every in outs.items()}
    base = "autoregressive", "autoregressive"
    told = {pair: row(pair, first[pair], first[base], seconds[pair], seconds[base], setup) for pair in runs}
    for cell in told.values():
        say(line(cell))
    cells = [told.get((a, b)) or empty(a, b) for i, a in enumerate(TECHNIQUES) for b in TECHNIQUES[i:]]
    mark(cells)
    machine = setup.ceilings.torch
    return {"benchmark": "combinations", "device": "cpu", "model": name, "dtype": "float32", "new_tokens": new_tokens,
            "rounds": rounds, "batch": len(asked), "prompts": {kind: len(some) for kind, some in sets.items()},
            "limits": {"read_bytes_per_second": machine.bytes_per_second, "flops_per_second": machine.flops_per_second,
                       "launch_seconds": machine.launch_seconds,
                       "launches_per_layer": setup.ceilings.launches.per_layer,
                       "lean_read_bytes_per_second": setup.ceilings.lean.bytes_per_second,
                       "lean_layer_seconds": setup.ceilings.lean.launch_seconds},
            "techniques": list(TECHNIQUES), "cells": cells,
            "all": told[ALL, ALL] | {"parts": [LOOKUP, DRAFT]},
            "all_batched": told[BATCH, ALL] | {"a": ALL, "b": ALL, "parts": [BATCH, LOOKUP, DRAFT]},
            "paged_alone": told["paged engine", "paged engine"],
            "draft_by_pytorch": told[PYTORCH, PYTORCH],
            "by_kind": by_kind([kind for kind, some in sets.items() for _ in some], outs)}


def by_kind(kinds: list[str], outs: dict[tuple[str, str], list[Outcome]]) -> list[dict]:
    """How the techniques for one text do on each kind of prompt. kinds: of each text.  outs: every round's outcomes."""
    plain, rows = outs["autoregressive", "autoregressive"], []
    for (name, other), own in outs.items():
        if name != other or not own[0].each or name == "autoregressive":
            continue
        for kind in dict.fromkeys(kinds):
            some = [i for i, of_text in enumerate(kinds) if of_text == kind]
            seconds = [[sum(out.each[i][0] for i in some) / sum(len(out.texts[i]) for i in some) for out in every]
                       for every in (plain, own)]
            tokens, passes = (sum(len(own[0].texts[i]) for i in some), sum(own[0].each[i][1] for i in some))
            rows.append({"name": name, "kind": kind, "speed_up": ratio(*seconds),
                         "tokens_per_pass": round(tokens / passes, 4)})
    return rows


def row(pair: tuple[str, str], first: Outcome, base: Outcome, own: list[float], plain: list[float],
        setup: Setup) -> dict:
    """A cell as it is recorded."""
    paper = (base.paper / base.tokens) / (first.paper / first.tokens)
    return {"a": pair[0], "b": pair[1], "reason": None, "exact": EXIT not in pair,
            "same": sum(a == b for a, b in zip(first.texts, base.texts, strict=True)), "of": len(base.texts),
            "speed_up": ratio(plain, own), "ratios": [round(a / b, 4) for a, b in zip(plain, own, strict=True)],
            "seconds_per_token": own, "tokens_per_pass": round(first.tokens / first.passes, 4),
            "predicted": round(paper, 4) if paper == paper else None,
            "binds": first.work.binds(setup.ceilings.torch) if first.work.parts else None, "hurts": None}


def mark(cells: list[dict]) -> None:
    """Say of each pair whether it hurts: slower than the faster of the two alone, by the median over rounds."""
    alone = {cell["a"]: cell for cell in cells if cell["a"] == cell["b"]}
    for cell in cells:
        if cell["a"] != cell["b"] and cell["reason"] is None:
            best = max((alone[cell["a"]], alone[cell["b"]]), key=lambda one: one["speed_up"])
            cell["hurts"] = ratio(cell["ratios"], best["ratios"]) < 1


def empty(a: str, b: str) -> dict:
    """The cell of a pair that can't be."""
    fields = ("exact", "same", "of", "speed_up", "ratios", "seconds_per_token", "tokens_per_pass", "predicted", "binds",
              "hurts")
    return {"a": a, "b": b, "reason": REASONS[frozenset((a, b))], **dict.fromkeys(fields)}


def ratio(plain: list[float], own: list[float]) -> float:
    """The speed-up: the median over paired rounds."""
    return round(statistics.median(a / b for a, b in zip(plain, own, strict=True)), 4)


def line(cell: dict) -> str:
    """A cell as text."""
    name = cell["a"] if cell["a"] == cell["b"] else f"{cell['a']} + {cell['b']}"
    predicted = "" if cell["predicted"] is None else (
        f"predicted {cell['predicted']:5.2f} × ({cell['predicted'] / cell['speed_up'] - 1:+.0%}), {cell['binds']}; ")
    return (f"{name:34} {cell['speed_up']:5.2f} ×  {predicted}{cell['tokens_per_pass']:5.2f} tokens a pass, "
            f"{cell['same']} of {cell['of']} texts the same{'; hurts' if cell['hurts'] else ''}")


def show(measured: dict) -> str:
    """The matrix in a few lines: each technique, the pairs that hurt, all."""
    if measured["device"] == "cuda":
        from minilm.bench import gpu_combinations
        return gpu_combinations.show(measured)
    lines = [f"{measured['model']}: speed-up over plain decoding of one text, prefill included; "
             f"{measured['new_tokens']} new tokens at most, {sum(measured['prompts'].values())} prompts, medians of "
             f"{counted(measured['rounds'], 'paired round')}"]
    lines += [line(cell) for cell in measured["cells"] if cell["reason"] is None]
    lines += [line(measured["all"]), line(measured["all_batched"]), line(measured["paged_alone"])]
    told = [cell for cell in measured["cells"] if cell["predicted"] is not None]
    within = sum(abs(cell["predicted"] / cell["speed_up"] - 1) <= 0.2 for cell in told)
    lines.append(f"predicted within 20 %: {within} of {len(told)}")
    return "\n".join(lines)
