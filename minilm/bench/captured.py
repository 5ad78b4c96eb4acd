"""Decoding on a GPU with passes as CUDA graphs, at batch 1: plain, lookahead and speculative, beside the same without
graphs, beside `transformers`, and beside the floor that launching sets.

A model of 14 million parameters asks a GPU for so little that the launches are what takes the time: first Python's,
and once a graph has done away with those, the GPU's own, some microseconds for each kernel whatever it computes.
"""
import statistics
import time
from collections.abc import Callable, Sequence

import torch

import minilm
from minilm.bench.contestants import TransformersPeer
from minilm.bench.drafters import draft_of
from minilm.bench.lookahead_steps import prompt_sets
from minilm.captured import Captured, Recorded
from minilm.decoding import autoregressive, lookahead, speculative
from minilm.decoding.proposers import DraftModel
from minilm.generation import Generation
from minilm.model import GPT
from minilm.race import first_difference, rotated
from minilm.text import counted
from minilm.tokenizer import Tokenizer

EAGER, PLAIN = "autoregressive, eager", "autoregressive, graphs"
SETTINGS = ((20, 4, 20), (20, 5, 20), (15, 5, 15), (7, 5, 7))   # the first one also beside `transformers`
DRAFTS = (3, 5)
PEER, STATIC = "transformers", "transformers, static cache, compiled"
Run = Callable[[list[int]], Generation]


def measure(name: str = "minilm-14m", *, dtypes: Sequence[str] = ("float32", "bfloat16"), python: int = 8,
            mixed: int = 8, peers: int = 2, new_tokens: int = 128, rounds: int = 5, static: bool = True,
            settings: Sequence[tuple[int, int, int]] = SETTINGS, say: Callable[[str], None] = print) -> dict:
    """In each dtype: the decoders with graphs on both sets of prompts, in turn in every round; then, on `peers` prompts
    of the first set, the eager decoder and `transformers` beside plain decoding and the first setting of lookahead,
    since they are many times slower; then every pass alone, and its floor. Raises ValueError where there is no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError("CUDA graphs need an NVIDIA GPU, and this machine has none that PyTorch can use")
    rows, passes = [], []
    for kind in dtypes:
        model, tokenizer = minilm.load(name, device="cuda", dtype=getattr(torch, kind))
        runs, captured = with_graphs(model, tokenizer, new_tokens, settings)
        slow = without_graphs(model, tokenizer, new_tokens, static)
        sets = prompt_sets(tokenizer, python, mixed)
        races = [(which, runs, prompts) for which, prompts in sets.items() if prompts]
        few = {PLAIN: runs[PLAIN], lookahead_name(*settings[0]): runs[lookahead_name(*settings[0])]}
        races += [(f"{next(iter(sets))}, {peers}", slow | few, next(iter(sets.values()))[:peers])] * bool(peers)
        for which, some, prompts in races:
            base = [slow[EAGER](prompt).tokens for prompt in prompts]
            for row in timed(some, prompts, rounds):
                row |= {"prompts": which, "dtype": kind,
                        "divergences": divergences(model, prompts, base, row.pop("texts"))}
                rows.append(row)
                say(line(row))
        passes += [{"dtype": kind, **row} for row in of_passes(captured)]
    return {"benchmark": "captured", "model": name, "new_tokens": new_tokens, "rounds": rounds, "rows": rows,
            "num_prompts": {"python": python, "mixed": mixed}, "passes": passes}


def lookahead_name(window: int, ngram: int, guesses: int) -> str:
    return f"lookahead {window},{ngram},{guesses}, graphs"


def with_graphs(model: GPT, tokenizer: Tokenizer, new_tokens: int,
                settings: Sequence[tuple[int, int, int]]) -> tuple[dict[str, Run], Captured]:
    """name -> run(prompt), greedy to the end token; and the captured model that they share."""
    graphs, draft, eos = Captured(model), draft_of(model), tokenizer.eos_id
    runs: dict[str, Run] = {PLAIN: lambda prompt: autoregressive(graphs, prompt, new_tokens, eos=eos)}
    for setting in settings:
        options = dict(zip(("window", "ngram", "guesses"), setting, strict=True))
        runs[lookahead_name(*setting)] = (
            lambda prompt, options=options: lookahead(graphs, prompt, new_tokens, eos=eos, **options))
    if draft is not None:
        small = Captured(draft)
        for count in DRAFTS:
            runs[f"speculative {count}, graphs"] = lambda prompt, count=count: speculative(
                graphs, prompt, new_tokens, DraftModel(small, count), eos=eos)
    return runs, graphs


def without_graphs(model: GPT, tokenizer: Tokenizer, new_tokens: int, static: bool) -> dict[str, Run]:
    """Our plain decoder as it is, and `transformers`; static: also with its cache of fixed size, compiled."""
    peer, eos = TransformersPeer(model), tokenizer.eos_id
    runs: dict[str, Run] = {EAGER: lambda prompt: autoregressive(model, prompt, new_tokens, eos=eos),
                            PEER: lambda prompt: peer.generate(prompt, new_tokens, eos=eos)}
    if static:
        runs[STATIC] = lambda prompt: peer.generate(prompt, new_tokens, eos=eos, cache_implementation="static")
    return runs


def timed(runs: dict[str, Run], prompts: Sequence[list[int]], rounds: int) -> list[dict]:
    """A row for each run: seconds a token over all prompts, round by round, prefill included, after a warm-up round.

    Every round begins with another run. against_eager, against_graphs: medians over rounds of the ratio of the time of
    plain decoding, eager or with graphs, to the run's own; None where that one does not take part.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    last: dict[str, list[Generation]] = {}
    for number in range(rounds + 1):
        for name in rotated(list(runs), number):
            last[name] = [runs[name](prompt) for prompt in prompts]
            if number:
                stats = [out.stats for out in last[name]]
                seconds[name].append(sum(s.seconds for s in stats) / sum(s.new_tokens for s in stats))
    rows = []
    for name, outs in last.items():
        tokens, passes = sum(len(out.tokens) for out in outs), sum(out.stats.target_passes for out in outs)
        rows.append({"name": name, "seconds_per_token": seconds[name], "tokens": tokens, "passes": passes,
                     "tokens_per_pass": round(tokens / passes, 4), "texts": [out.tokens for out in outs],
                     "tokens_per_second": round(1 / statistics.median(seconds[name]), 1),
                     "against_eager": against(seconds, EAGER, name), "against_graphs": against(seconds, PLAIN, name)})
    order = list(runs)
    return sorted(rows, key=lambda row: order.index(row["name"]))


def against(seconds: dict[str, list[float]], baseline: str, name: str) -> float | None:
    """How many times as fast as the baseline: the median of the paired rounds."""
    if baseline not in seconds:
        return None
    return round(statistics.median(b / own for b, own in zip(seconds[baseline], seconds[name], strict=True)), 4)


@torch.inference_mode()
def divergences(model: GPT, prompts: Sequence[list[int]], base: Sequence[list[int]],
                texts: Sequence[list[int]]) -> list[dict]:
    """Where texts leave the base: the prompt's number, the token, and by how much logit the model preferred
    its own token there to the one that came. Rounding can turn a margin of its own size, and no larger one."""
    found = []
    for number, (prompt, own, text) in enumerate(zip(prompts, base, texts, strict=True)):
        at = first_difference(own, text)
        if at is None:
            continue
        if at >= min(len(own), len(text)):
            found.append({"prompt": number, "at": at, "margin": None})          # one stops where the other goes on
            continue
        logits = model(torch.tensor([prompt + own[:at]], device=model.device))[0, -1].double()
        found.append({"prompt": number, "at": at, "margin": float(logits[own[at]] - logits[text[at]])})
    return found


def of_passes(captured: Captured, *, repeats: int = 50, batches: int = 7) -> list[dict]:
    """Each recorded pass, replayed: microseconds (medians of batches of `repeats`), its kernels, and the floor: the
    same number of kernels that do next to nothing, one after the other, in a graph."""
    rows = []
    floors: dict[int, float] = {}
    for (width, reach, tree), one in sorted(captured.passes.items()):
        kernels = kernels_of(one)
        if kernels not in floors:
            floors[kernels] = replay_time(empty_graph(kernels, captured.device), repeats, batches)
        rows.append({"width": width, "reach": reach, "tree": tree, "kernels": kernels,
                     "microseconds": round(replay_time(one.graph, repeats, batches), 2),
                     "floor_microseconds": round(floors[kernels], 2)})
    return rows


def kernels_of(one: Recorded) -> int:
    """How many kernels a replay launches, by the profiler."""
    from torch.profiler import ProfilerActivity, profile
    one.graph.replay()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        one.graph.replay()
        torch.cuda.synchronize()
    return sum(event.count for event in seen.key_averages() if event.device_time_total)


def empty_graph(kernels: int, device: torch.device) -> torch.cuda.CUDAGraph:
    """That many kernels on one number each, which the GPU must run in turn."""
    number = torch.zeros(1, device=device)
    number.add_(1)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(kernels):
            number.add_(1)
    return graph


def replay_time(graph: torch.cuda.CUDAGraph, repeats: int, batches: int) -> float:
    """Microseconds a replay, with the next one waiting: what the GPU itself takes."""
    times = []
    for _ in range(batches + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            graph.replay()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / repeats * 1e6)
    return statistics.median(times[1:])


def line(row: dict) -> str:
    """A row as text."""
    far = [gap["margin"] for gap in row["divergences"] if gap["margin"] is not None]
    same = "the same texts" if not row["divergences"] else (
        f"{counted(len(row['divergences']), 'text')} another" + (f", margins up to {max(far):.1e}" if far else ""))
    ratio = "" if row["against_graphs"] is None else f"{row['against_graphs']:5.2f} × {PLAIN}  "
    return (f"{row['dtype']:8} {row['prompts']:9} {row['name']:36} {row['tokens_per_second']:7.0f} tokens/s  {ratio}"
            f"{row['tokens_per_pass']:5.2f} tokens a pass, {same}")


def show(measured: dict) -> str:
    """All rows, then the passes of one token and the widest ones, as lines of text."""
    lines = [f"{measured['model']}, batch 1, greedy, up to {measured['new_tokens']} new tokens, prefill included; "
             f"medians of {counted(measured['rounds'], 'paired round')}", *map(line, measured["rows"])]
    for row in measured["passes"]:
        lines.append(f"{row['dtype']:8} a pass of {row['width']:3} tokens, {row['reach']:4} slots, "
                     f"{'a tree ' if row['tree'] else 'a chain'}: {row['microseconds']:6.0f} µs for {row['kernels']} "
                     f"kernels; as many empty ones {row['floor_microseconds']:.0f} µs")
    return "\n".join(lines)
