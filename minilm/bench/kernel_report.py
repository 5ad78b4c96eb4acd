"""What the rows of `minilm bench kernels` say: shares of the limits, ratios to peers, and the table of it all.

A row is a dict: part, cell (its shape, bytes, flops), name, ours, error, seconds (one a round); `refused` in place of
seconds says why a contestant was not timed. Everything here is arithmetic on rows: it needs no GPU.
"""
import statistics
from collections.abc import Iterable, Sequence

from minilm.bench.kernel_timing import geometric_mean, paired_ratio

KIB = 1024
OWN = {"decode": "flash_decoding", "verify": "paged_attention", "prefill": "flash_attention"}


# --- one row ---------------------------------------------------------------------------------------------------------

def median(row: dict) -> float:
    """Median seconds of a launch."""
    return statistics.median(row["seconds"])


def read_share(row: dict, limits: dict) -> float:
    """Share of the read limit: the bytes that must move, over the time, over the copy bandwidth measured here."""
    return row["cell"]["bytes"] / median(row) / max(limits["copy"])


def flop_rate(row: dict) -> float:
    """FLOP/s, of the FLOPs that the mask leaves."""
    return row["cell"]["flops"] / median(row)


def label(cell: dict) -> str:
    """A cell's shape, in short."""
    if "width" in cell:
        return f"{cell['rows']} × {cell['width']}"
    tokens = cell["context"]
    context = f"{tokens // KIB}k" if tokens % KIB == 0 else str(tokens)
    if cell["queries"] == tokens:
        return f"T={context} D={cell['head_size']}"
    return f"B={cell['batch']} T={context}" + (f" m={cell['queries']}" if cell["queries"] > 1 else "")


def size(num_bytes: float) -> str:
    """17 MB, 2.1 GB."""
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.1f} GB"


# --- the rows of a cell ----------------------------------------------------------------------------------------------

def cells(rows: Sequence[dict], part: str) -> list[list[dict]]:
    """The part's rows, cell by cell, in order; rows without a cell left out."""
    grouped: dict[str, list[dict]] = {}
    for row in rows:
        if row["part"] == part and "cell" in row:
            grouped.setdefault(repr(row["cell"]), []).append(row)
    return list(grouped.values())


def timed(rows: Iterable[dict]) -> list[dict]:
    return [row for row in rows if row.get("seconds")]


def named(rows: Iterable[dict], name: str) -> dict | None:
    """The timed row of this contestant."""
    return next((row for row in timed(rows) if row["name"] == name), None)


def best_peer(rows: Sequence[dict], *, paged: bool | None = None) -> dict | None:
    """The fastest row of a cell that is not ours; only paged ones, or only contiguous ones, if asked."""
    peers = [row for row in timed(rows) if not row["ours"] and (paged is None or row["paged"] == paged)]
    return min(peers, key=median, default=None)


def lead(rows: Sequence[dict], name: str, peer: dict | None) -> float | None:
    """How many times as fast as `peer` the contestant `name` is, as the median over paired rounds."""
    own = named(rows, name)
    return paired_ratio(peer["seconds"], own["seconds"]) if own and peer else None


def leads(rows: Sequence[dict], part: str, name: str, *, paged: bool | None = None) -> dict[str, float]:
    """cell -> how many times as fast as the best peer there `name` is, for the cells where both ran."""
    found = {label(cell[0]["cell"]): lead(cell, name, best_peer(cell, paged=paged)) for cell in cells(rows, part)}
    return {cell: ratio for cell, ratio in found.items() if ratio is not None}


def price(rows: Sequence[dict], name: str, base: str) -> float | None:
    """Time of `name` over time of `base` in a cell, as the median over paired rounds."""
    return lead(rows, base, named(rows, name))


def prices(rows: Sequence[dict], part: str, name: str, base: str) -> dict[str, float]:
    """cell -> time of `name` over time of `base`, for the cells where both ran."""
    found = {label(cell[0]["cell"]): price(cell, name, base) for cell in cells(rows, part)}
    return {cell: ratio for cell, ratio in found.items() if ratio is not None}


def paging(rows: Sequence[dict]) -> dict[str, float]:
    """cell -> time of paged_attention over flash_decoding's: what a cache in blocks costs."""
    return prices(rows, "decode", "paged_attention", "flash_decoding")


def growth(rows: Sequence[dict], name: str = "paged_attention") -> dict[str, float]:
    """cell -> time of verifying so many tokens over the time of one, for the most tokens of each batch and context."""
    times: dict[tuple[int, int], dict[int, float]] = {}
    for cell in cells(rows, "verify"):
        shape, row = cell[0]["cell"], named(cell, name)
        if row:
            times.setdefault((shape["batch"], shape["context"]), {})[shape["queries"]] = median(row)
    return {label({"batch": b, "context": t, "queries": max(by)}): by[max(by)] / by[1]
            for (b, t), by in times.items() if 1 in by and max(by) > 1}


# --- all of it as text -----------------------------------------------------------------------------------------------

def line(last: dict, rows: Sequence[dict]) -> str:
    """The cell of the last row in one line: microseconds of everyone, in the order of the field."""
    cell = [row for row in rows if row["part"] == last["part"] and row.get("cell") == last.get("cell")]
    told = [f"{row.get('key', row['name'])} {median(row) * 1e6:.1f}" if row.get("seconds") else f"{row['name']} -"
            for row in cell]
    return f"{last['part']} {label(last['cell'])}: " + ", ".join(told) + " µs"


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they need be; the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]
    return ["  ".join(f"{text:{'<' if i == 0 else '>'}{width}}" for i, (text, width) in
                      enumerate(zip(row, widths, strict=True))).rstrip() for row in (header, *body)]


def show(measured: dict) -> str:
    """The measurement as short tables."""
    rows, limits = measured["rows"], measured["limits"]
    lines = [f"copy {max(limits['copy']) / 1e12:.2f} TB/s, read {max(limits['read']) / 1e12:.2f} TB/s, bf16 products "
             f"{max(limits['multiply']) / 1e12:.0f} TFLOP/s; medians of {measured['rounds']} rounds"]
    parts = {"decode": ("one new token: share of the copy bandwidth", lambda row: f"{read_share(row, limits):.2f}"),
             "verify": ("several new tokens: µs", lambda row: f"{median(row) * 1e6:.1f}"),
             "splits": ("split policies: µs", lambda row: f"{median(row) * 1e6:.1f}"),
             "prefill": ("whole prompts: TFLOP/s", lambda row: f"{flop_rate(row) / 1e12:.0f}")}
    for part, (title, show_row) in parts.items():
        if cells(rows, part):
            lines += ["", title, *part_table(rows, part, show_row)]
            lines += _means(rows, part)
    for operation in ("softmax", "rms_norm"):
        if any(row.get("operation") == operation for row in rows):
            lines += ["", f"{operation}: share of a copy of the same bytes", *_row_table(rows, operation)]
    lines += [f"{row['name']}: row 0 has the same bits among other neighbours: {row['same_bits']}"
              for row in rows if "same_bits" in row]
    return "\n".join(lines + _refusals(rows))


def part_table(rows: Sequence[dict], part: str, show_row) -> list[str]:
    """A line for each cell, a column for each contestant, and how far ahead of the best peer ours is."""
    names = list(dict.fromkeys(row["name"] for cell in cells(rows, part) for row in cell))
    body = []
    for cell in cells(rows, part):
        ratio = lead(cell, OWN[part], best_peer(cell)) if part in OWN else None
        found = [named(cell, name) for name in names]
        body.append([label(cell[0]["cell"]), size(cell[0]["cell"]["kv_bytes"]),
                     *(show_row(row) if row else "-" for row in found), f"{ratio:.2f}" if ratio else ""])
    return table(["", "K and V", *names, "lead" if part in OWN else ""], body)


def _means(rows: Sequence[dict], part: str) -> list[str]:
    lines = []
    for name, paged in ((OWN.get(part), None), ("paged_attention", True)):
        ratios = leads(rows, part, name, paged=paged) if name and (part, paged) != ("verify", None) else {}
        if ratios:
            against = "paged peer" if paged else "peer"
            mean, least = geometric_mean(list(ratios.values())), min(ratios, key=ratios.get)
            lines.append(f"{name}, times the best {against}: geometric mean {mean:.2f}, "
                         f"least {ratios[least]:.2f} at {least}")
    costs = {"decode": {"blocks cost": paging(rows)}, "verify": {"the most tokens, times one token": growth(rows)},
             "splits": {f"{name}, times the heuristic": prices(rows, part, name, "heuristic") for name in
                        dict.fromkeys(row["name"] for row in rows if row["name"].startswith("fixed"))}}
    for what, ratios in costs.get(part, {}).items():
        if ratios:
            mean, most = geometric_mean(list(ratios.values())), max(ratios, key=ratios.get)
            lines.append(f"{what}: geometric mean {mean:.3f}, most {ratios[most]:.3f} at {most}")
    return lines


def _row_table(rows: Sequence[dict], operation: str) -> list[str]:
    names = list(dict.fromkeys(row["name"] for row in rows if row.get("operation") == operation))
    body = []
    for cell in cells(rows, "rows"):
        copy = next((row for row in timed(cell) if row["operation"] == "copy"), None)
        own = {row["name"]: row for row in timed(cell) if row["operation"] == operation}
        body.append([label(cell[0]["cell"]), *(f"{paired_ratio(copy['seconds'], own[n]['seconds']):.2f}"
                                               if copy and n in own else "-" for n in names)])
    return table(["", *names], body)


def _refusals(rows: Sequence[dict]) -> list[str]:
    """Who was not timed, and why; the cells of one reason together."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if "refused" in row:
            reasons.setdefault((row.get("key", row["name"]), row["refused"]), []).append(
                label(row["cell"]) if "cell" in row else row["part"])
    told = [f"not timed: {name} at {', '.join(where)}: {why}" for (name, why), where in reasons.items()]
    loops = sorted({row["name"] for row in rows if row.get("captured") is False})
    return ([""] if told or loops else []) + told + [f"{name}: not captured; launches from Python" for name in loops]
