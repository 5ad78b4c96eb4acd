"""The product of a few rows with a weight matrix: the library's call against `minilm.linear`'s, in pairs."""
import statistics
import time

import torch
import torch.nn.functional as F

from minilm.linear import few_rows

SHAPES = {"minilm-14m mlp": (256, 1408), "smollm2-135m mlp": (576, 3072), "smollm2-135m head": (576, 49152)}


def measure(*, rows: tuple[int, ...] = (1, 2, 4, 5, 8, 16), megabytes: int = 200, rounds: int = 9) -> dict:
    """Seconds for reading `megabytes` of weights, by each call; copies of a matrix, so that no cache holds them."""
    table = []
    for name, (width, out) in SHAPES.items():
        copies = max(1, megabytes * 2**20 // (4 * width * out))
        weights = [torch.randn(out, width) for _ in range(copies)]
        for count in rows:
            x = torch.randn(1, count, width)
            seconds: dict[str, list[float]] = {"linear": [], "few_rows": []}
            with torch.inference_mode():
                for _ in range(rounds + 1):
                    for call, product in (("linear", F.linear), ("few_rows", few_rows)):
                        started = time.perf_counter()
                        for weight in weights:
                            product(x, weight)
                        seconds[call].append(time.perf_counter() - started)
            medians = {call: statistics.median(samples[1:]) for call, samples in seconds.items()}
            table.append({"shape": name, "rows": count, "bytes": 4 * width * out * copies, **medians,
                          "speed_up": medians["linear"] / medians["few_rows"]})
    return {"benchmark": "few_rows", "rounds": rounds, "rows": table}


def show(measured: dict) -> str:
    """The measurement as a table of text."""
    lines = ["a few rows times a weight matrix: GB/s read by F.linear, by minilm.linear, and the ratio"]
    for row in measured["rows"]:
        rates = [row["bytes"] / row[call] / 1e9 for call in ("linear", "few_rows")]
        lines.append(f"{row['shape']:20} {row['rows']:3} rows  {rates[0]:6.1f}  {rates[1]:6.1f}  "
                     f"{row['speed_up']:5.2f}×")
    return "\n".join(lines)
