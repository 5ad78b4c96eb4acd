"""Predicted beside measured at real size: speculation, early exit, batching and their pairs on a GPU, random weights.

Measured are steps (see `big_steps`); a technique is so many of them for so many tokens, at a stated acceptance or rate
of leaving. Predicted are the same steps from ceilings measured in the same run: a copy's bytes/s, the matrix rate, the
rate of one product alone (the vocabulary's) at so many rows, and what each kernel costs in a model of the same make but
next to no size. Kernels of a step are counted. No step's time goes into any prediction.
"""
import dataclasses
import gc
import statistics
from collections.abc import Callable, Iterator

import torch

from minilm.bench import limits
from minilm.bench.big_decode import Graph
from minilm.bench.big_steps import DRAFTS, MOST_BY_KERNELS, SHAPES, Extras, Pool, Step, cut, random_gpt
from minilm.bench.captured import empty_graph
from minilm.bench.cost_model import WEIGHTS, Launches, Machine, Model, Part, Work
from minilm.bench.kernel_timing import in_turn
from minilm.decoding.speedup import expected_tokens
from minilm.kernels.decode_layers import DecodeLayers
from minilm.model import GPT, GPTConfig

SHORT, LONG = 1024, 8192                            # tokens held of each text
BATCHES = {SHORT: (1, 8, 32, 128), LONG: (1, 8, 32)}
WIDTHS = (1, 4, 8)                                  # tokens fed of each text: one, or γ + 1
ALPHAS = (0.6, 0.8)
LEAVING = 0.8                                       # share of tokens that leave at half the layers
Key = tuple[str, int, int, int, int]                # shape, batch, width, layers, context
CHECK, FILL = 0, -1                                 # "widths": a check at half the layers; filling in the rest
EMPTY = 400                                         # kernels of the graph that tells what an empty one costs
NOTHING = GPTConfig(256, 16, 128, 2, 1, 64, 128, 64)


def ceilings(device: str = "cuda") -> tuple[Machine, dict[str, float]]:
    """(copies, products of large matrices, one empty kernel in a graph), and seconds of a kernel of each way's steps.

    The last are those of a model that is next to nothing: what a kernel takes when it has hardly anything to read.
    """
    graph = Graph.of(empty_graph(EMPTY, torch.device(device)))
    graph()
    model = random_gpt(NOTHING, device)
    pool, floors = Pool(model, 64), {}
    for way in ("kernels", "many rows"):
        replay = Graph(Step(model, pool, 1, 1, 16, way).tokens)
        floors[way] = statistics.median(replay() for _ in range(9)) / replay.kernels()
    return Machine(max(limits.copy_rates(device, megabytes=1024, repeats=9)),
                   max(limits.matrix_rates(device, (8192,), repeats=9, dtype=torch.bfloat16)),
                   statistics.median(graph() for _ in range(9)) / EMPTY), floors


def products(model: GPT, rows: list[int], rounds: int) -> list[tuple[int, float]]:
    """(rows, bytes of weights a second) of the vocabulary product alone, by the way that such a step takes."""
    graphs, kernels = {}, DecodeLayers(model, max(r for r in rows if r <= MOST_BY_KERNELS))
    weight = model.vocabulary.weight
    for count in rows:
        x = torch.randn(count, model.config.width, device=model.device).to(model.dtype)
        graphs[count] = Graph((lambda x=x: kernels.logits(x)) if count <= MOST_BY_KERNELS else
                              (lambda x=x: torch.nn.functional.linear(x, weight)))
    num_bytes = weight.numel() * weight.element_size()
    return [(count, num_bytes / statistics.median(samples)) for count, samples in in_turn(graphs, rounds).items()]


def wanted() -> Iterator[Key]:
    """Every step that a point needs, a target's and its draft's beside each other."""
    for shape, draft in DRAFTS.items():
        L = SHAPES[shape].num_layers
        for context, batches in BATCHES.items():
            for batch in batches:
                yield from ((shape, batch, width, L, context) for width in WIDTHS)
                if context == SHORT:
                    yield from ((shape, batch, width, L // 2, context) for width in (1, CHECK, FILL))
                yield draft, batch, 1, SHAPES[draft].num_layers, context


def measure(*, rounds: int = 5, say: Callable[[str], None] = print) -> dict:
    """All steps and all points. Raises ValueError where there is no GPU."""
    if not torch.cuda.is_available():
        raise ValueError("steps of this size need an NVIDIA GPU, and this machine has none that PyTorch can use")
    (machine, floors), keys = ceilings(), list(dict.fromkeys(wanted()))
    say(f"copies {machine.bytes_per_second / 1e12:.2f} TB/s, multiplies {machine.flops_per_second / 1e12:.0f} TFLOP/s, "
        f"an empty kernel {machine.launch_seconds * 1e6:.2f} µs, of a step's {floors}")
    steps, roofs = [], {}
    for shape in dict.fromkeys(key[0] for key in keys):
        rows, roofs[shape] = run_shape(shape, [key for key in keys if key[0] == shape], rounds)
        say(f"{shape}: " + ", ".join(f"{count} rows {rate / 1e12:.2f} TB/s" for count, rate in roofs[shape]))
        for row in rows:
            on = dataclasses.replace(machine, launch_seconds=floors[row["way"]], products=tuple(roofs[shape]))
            steps.append(told(row, on, machine))
            say(line(steps[-1]))
    points = list(all_points(steps))
    return {"benchmark": "combinations", "device": "cuda", "dtype": "bfloat16", "rounds": rounds,
            "limits": {"read_bytes_per_second": machine.bytes_per_second, "flops_per_second": machine.flops_per_second,
                       "launch_seconds": machine.launch_seconds, "kernel_seconds": floors,
                       "products": {shape: [list(pair) for pair in roof] for shape, roof in roofs.items()}},
            "shapes": {name: vars(config) for name, config in SHAPES.items()}, "steps": steps, "points": points,
            "worst_error": max(abs(point["error"]) for point in points),
            "within_20_percent": sum(abs(point["error"]) <= 0.2 for point in points), "of": len(points),
            "roofline_within_20_percent": sum(abs(p["roofline"] / p["measured"] - 1) <= 0.2 for p in points)}


@torch.inference_mode()
def run_shape(shape: str, keys: list[Key], rounds: int) -> tuple[list[dict], list[tuple[int, float]]]:
    """(seconds of each step of one model, those of one batch and context in turn; its products' rates by rows)."""
    model = random_gpt(SHAPES[shape], "cuda")
    room = max(batch * (context + max(WIDTHS) + 16) for _, batch, _, _, context in keys)
    pool, parts, rows = Pool(model, room), {model.config.num_layers: model}, []
    for batch, context in dict.fromkeys((key[1], key[4]) for key in keys):
        runs, about = {}, {}
        for key in keys:
            if (key[1], key[4]) != (batch, context):
                continue
            _, _, width, layers, _ = key
            if layers not in parts:
                parts[layers] = cut(model, layers)
            if width > 0:
                step = Step(parts[layers], pool, batch, width, context)
                runs[key], way = Graph(step.tokens), step.way
            else:
                extras = Extras(model, batch, layers)
                runs[key], way = Graph(extras.check if width == CHECK else extras.fill), "many rows"
            about[key] = {"way": way, "kernels": runs[key].kernels()}
        for key, samples in in_turn(runs, rounds).items():
            rows.append({"key": key, "seconds": samples, **about[key]})
        del runs
        gc.collect()
        torch.cuda.empty_cache()
    fed = sorted({batch * max(width, 1) for _, batch, width, _, _ in keys})
    return rows, products(model, fed, rounds)


def told(row: dict, machine: Machine, roof: Machine) -> dict:
    """A step as it is recorded, with what the cost model says of it, and what the bare roofline says: no more than
    copies, matrix rate and empty kernels."""
    shape, batch, width, layers, context = row["key"]
    work = work_of(SHAPES[shape], batch, width, layers, context, row["kernels"])
    return {"shape": shape, "batch": batch, "width": width, "layers": layers, "context": context,
            "microseconds": [round(seconds * 1e6, 2) for seconds in row["seconds"]],
            "median": round(statistics.median(row["seconds"]) * 1e6, 2),
            "predicted": round(work.seconds(machine) * 1e6, 2), "roofline": round(work.seconds(roof) * 1e6, 2),
            "kernels": row["kernels"],
            "binds": work.binds(machine), "way": row["way"]}


def work_of(config: GPTConfig, batch: int, width: int, layers: int, context: int, kernels: int) -> Work:
    """What a step has to do, on paper. kernels: how many it launches."""
    started = Work((Part(WEIGHTS, 0.0, 0.0, kernels),))
    model = Model(config, 2, Launches())
    if width == CHECK:
        return model.head(batch) + started
    if width == FILL:
        numbers = (config.num_layers - layers) * 2 * config.width * config.num_kv_heads * config.head_size
        return Work((Part(WEIGHTS, 2 * numbers, 2 * batch * numbers, 0.0, batch),)) + started
    return model.layers(batch, width, context, layers) + model.head(batch * width) + started


def all_points(steps: list[dict]) -> Iterator[dict]:
    """Every technique and pair that the steps tell of: its measured speed-up, and the predicted one."""
    known = {(s["shape"], s["batch"], s["width"], s["layers"], s["context"]): s for s in steps}
    for shape, draft in DRAFTS.items():
        L, Ld = SHAPES[shape].num_layers, SHAPES[draft].num_layers
        for context, batches in BATCHES.items():
            for batch in batches:
                where = {"shape": shape, "batch": batch, "context": context}
                plain = shape, batch, 1, L, context
                if plain not in known:
                    continue
                for width in WIDTHS[1:]:
                    for alpha in ALPHAS:
                        cost = {(draft, batch, 1, Ld, context): width - 1, (shape, batch, width, L, context): 1}
                        yield from point("speculation", known, plain, cost, expected_tokens(alpha, width - 1),
                                         where | {"width": width, "layers": L, "gamma": width - 1, "alpha": alpha})
                half = {"width": 1, "layers": L // 2, "gamma": None, "alpha": LEAVING}
                yield from point("early exit", known, plain, exit_cost(shape, batch, context), 1.0, where | half)
                one = shape, 1, 1, L, context
                if batch > 1:
                    yield from point("batching", known, one, {plain: 1}, batch,
                                     where | {"width": 1, "layers": L, "gamma": None, "alpha": None})


def exit_cost(shape: str, batch: int, context: int) -> dict[Key, float]:
    """Steps of a token, on average, when each text leaves at half the layers with LEAVING, whatever the others do.

    If all leave, half the layers run, and the check has named the tokens. If any stays, all layers run for it, and the
    check came on top. Whoever left needs keys and values in the layers above.
    """
    L = SHAPES[shape].num_layers
    all_leave, any_leaves = LEAVING**batch, 1 - (1 - LEAVING) ** batch
    return {(shape, batch, 1, L // 2, context): all_leave, (shape, batch, 1, L, context): 1 - all_leave,
            (shape, batch, CHECK, L // 2, context): 1 - all_leave, (shape, batch, FILL, L // 2, context): any_leaves}


def point(technique: str, known: dict[Key, dict], plain: Key, cost: dict[Key, float], tokens: float,
          about: dict) -> Iterator[dict]:
    """The speed-up of `tokens` for the steps of `cost`, over one for the plain step; nothing where a step is missing.

    Leviathan et al. 2023, theorem 3.8, with every pass at its own cost: S(B) = E t(B, 1) / (γ t_d(B, 1) + t(B, γ + 1)).
    """
    if not {plain, *cost} <= known.keys():
        return
    measured, predicted, bare = (
        tokens * known[plain][kind] / sum(times * known[key][kind] for key, times in cost.items())
        for kind in ("median", "predicted", "roofline"))
    main = max(cost, key=lambda key: cost[key] * known[key]["median"])
    yield {"technique": technique, **about, "label": label(technique, about), "measured": round(measured, 4),
           "predicted": round(predicted, 4), "roofline": round(bare, 4),
           "error": round(predicted / measured - 1, 4), "slow_down": measured < 1,
           "predicted_slow_down": predicted < 1, "binds": known[main]["binds"]}


def label(technique: str, about: dict) -> str:
    """A point in a few words."""
    long = " 8k" if about["context"] == LONG else ""
    base = f"{about['shape']} B {about['batch']}{long}"
    if technique == "speculation":
        return f"{base} γ {about['gamma']} α {about['alpha']:g}".replace("0.", ".")
    return f"{base} exit {about['alpha']:.0%}" if technique == "early exit" else f"{base} batching"


def line(row: dict) -> str:
    """A step as text."""
    what = {CHECK: "check", FILL: "fill"}.get(row["width"], f"m {row['width']}")
    return (f"{row['shape']:8} B {row['batch']:3} {what:5} {row['layers']:2} layers, {row['context']:4} held: "
            f"{row['median']:8.0f} µs, predicted {row['predicted']:8.0f} ({row['predicted'] / row['median']:.2f}), "
            f"{row['kernels']} kernels, {row['way']}, {row['binds']}")


def show(measured: dict) -> str:
    """The points, and how many the cost model meets."""
    lines = [f"{p['technique']:12} {p['label']:24} measured {p['measured']:6.2f} × predicted {p['predicted']:6.2f} × "
             f"({p['error']:+.0%}) {p['binds']}{'  slower' if p['slow_down'] else ''}" for p in measured["points"]]
    slower = [p for p in measured["points"] if p["slow_down"] and p["predicted_slow_down"]]
    lines.append(f"{measured['within_20_percent']} of {measured['of']} points within 20 %, worst "
                 f"{measured['worst_error']:.0%} (by the bare roofline {measured['roofline_within_20_percent']}); "
                 f"{len(slower)} slow-downs, predicted and measured")
    return "\n".join(lines)


