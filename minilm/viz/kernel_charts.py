"""Charts of `minilm bench kernels`, for lessons 09 to 11: ours in blue, each peer with a colour and a mark of its own.

Every chart takes the recorded measurement (`bench.record.read("h100_kernels")`) and draws medians; a contestant that
was not timed in a cell has no mark there. FlashInfer has two decode kernels: the faster of them stands for it, where
both were timed.
"""
from collections.abc import Callable, Sequence

from minilm.bench.kernel_report import cells, flop_rate, label, median, named, read_share, size, timed
from minilm.viz import theme
from minilm.viz.picture import Chart

# contestant -> colour and mark, the same in every chart
STYLES = {"flash_decoding": (theme.BLUE, "o"), "flash_attention": (theme.BLUE, "o"),
          "paged_attention": (theme.SKY, "D"), "SDPA flash": (theme.VERMILLION, "s"),
          "SDPA cuDNN": (theme.GREEN, "^"), "FlexAttention": (theme.PURPLE, "v"),
          "FlashInfer": (theme.ORANGE, "P"), "FlashInfer paged": ("#7A5C00", "X")}
OURS = ("flash_decoding", "flash_attention", "paged_attention", "softmax", "rms_norm")
MISSING = (theme.GREY, ".")


def contestants(rows: Sequence[dict]) -> dict[str, dict]:
    """name -> its timed row in a cell. "FlashInfer, CUDA cores" gives way to "FlashInfer" where that was timed too."""
    found: dict[str, dict] = {}
    ran = {row["name"] for row in timed(rows)}
    for row in timed(rows):
        family = row["name"].split(",")[0]
        name = family if family in ran else row["name"]
        if name not in found or median(row) < median(found[name]):
            found[name] = row
    return found


def style(name: str) -> tuple[str, str]:
    """Colour and mark of a contestant, or of the family it belongs to."""
    return STYLES.get(name.split(",")[0], MISSING)


def read_shares(measured: dict, names: Sequence[str] | None = None) -> Chart:
    """Decode, a line for each cell: share of a copy's pace, a mark for each contestant (or those in `names`).

    A copy reads and writes by turns, so that work that only reads can pass it by a few hundredths.
    """
    grid = cells(measured["rows"], "decode")
    fig, ax = theme.figure(height=1.3 + 0.33 * len(grid))
    for y, cell in enumerate(grid):
        drawn = {name: read_share(row, measured["limits"]) for name, row in contestants(cell).items()
                 if names is None or name in names}
        if drawn:
            ax.plot([min(drawn.values()), max(drawn.values())], [y, y], color="#D8D8D8", linewidth=5, zorder=1)
        for name, share in drawn.items():
            (color, mark), mine = style(name), name in OURS
            ax.plot(share, y, mark, color=color, markersize=8 if mine else 7, zorder=3 if mine else 2, alpha=0.9,
                    markeredgecolor="white", markeredgewidth=0.7, label=name)
    _limit(ax, "x", 1, "a copy's pace")
    ax.set_yticks(range(len(grid)), [f"{label(c[0]['cell'])}   {size(c[0]['cell']['kv_bytes'])}" for c in grid])
    ax.set(xlabel="bytes/s of keys and values, as a share of a copy's (read + written)", xlim=(0, None),
           ylim=(len(grid) - 0.5, -0.9))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    _legend(fig, ax)
    theme.title(ax, "Decoding one token: how near to the memory's pace")
    return Chart(fig, f"share of the read limit in {len(grid)} cells")


def prefill_rates(measured: dict) -> Chart:
    """Prefill: TFLOP/s by length, a panel for each head size; the measured matrix rate as the limit."""
    grid = cells(measured["rows"], "prefill")
    sizes = sorted({cell[0]["cell"]["head_size"] for cell in grid})
    fig, axes = theme.figure(1, len(sizes), height=3.4, sharey=True, squeeze=False)
    top = max(measured["limits"]["multiply"]) / 1e12
    for ax, head_size in zip(axes[0], sizes, strict=True):
        mine = [cell for cell in grid if cell[0]["cell"]["head_size"] == head_size]
        lengths = [cell[0]["cell"]["context"] for cell in mine]
        _lines(ax, lengths, [contestants(cell) for cell in mine], lambda row: flop_rate(row) / 1e12)
        ax.set_xscale("log", base=2)
        ax.set_xticks(lengths, [f"{n // 1024}k" for n in lengths])
        ax.set(xlabel="tokens, causal", ylim=(0, top * 1.12), xlim=(lengths[0] / 1.25, lengths[-1] * 1.25))
        _limit(ax, "y", top, f"matrix rate measured: {top:.0f}")
        ax.minorticks_off()
        ax.grid(axis="y")
        theme.title(ax, f"head size {head_size}")
    axes[0][0].set_ylabel("TFLOP/s, bf16")
    _legend(fig, axes[0][0])
    return Chart(fig, f"prefill TFLOP/s, {len(sizes)} head sizes")


def verify_times(measured: dict) -> Chart:
    """Verify: the time of m new tokens over our time of one, a panel for each batch and context."""
    grid = cells(measured["rows"], "verify")
    shapes = list(dict.fromkeys((cell[0]["cell"]["batch"], cell[0]["cell"]["context"]) for cell in grid))
    fig, axes = theme.figure(1, len(shapes), height=3.0, sharey=True, squeeze=False)
    for ax, shape in zip(axes[0], shapes, strict=True):
        mine = [cell for cell in grid if (cell[0]["cell"]["batch"], cell[0]["cell"]["context"]) == shape]
        lengths = [cell[0]["cell"]["queries"] for cell in mine]
        one = next((named(cell, "paged_attention") for cell in mine if cell[0]["cell"]["queries"] == 1), None)
        base = median(one) if one else None
        if base:
            _lines(ax, lengths, [contestants(cell) for cell in mine], lambda row, base=base: median(row) / base)
        else:
            ax.text(0.5, 0.5, "not timed", transform=ax.transAxes, ha="center")
        _limit(ax, "y", 1, "")
        first = mine[0][0]["cell"] | {"queries": 1}
        ax.set(xlabel="new tokens m", xticks=lengths, xlim=(0.5, max(lengths) + 0.5))
        ax.grid(axis="y")
        ax.set_title(f"{label(first)}\nm = 1: {base * 1e6:.0f} µs" if base else label(first), loc="left", fontsize=9)
    axes[0][0].set_ylabel("time, times ours for one token")
    axes[0][0].set_ylim(bottom=0)
    _legend(fig, axes[0][0])
    return Chart(fig, f"verify time by number of tokens, {len(shapes)} shapes")


def row_shares(measured: dict) -> Chart:
    """Softmax and RMSNorm: share of the rate of a copy of the same bytes, ours beside eager PyTorch's."""
    grid = cells(measured["rows"], "rows")
    fig, axes = theme.figure(1, 2, height=2.9, sharey=True)
    for ax, operation in zip(axes, ("softmax", "rms_norm"), strict=True):
        names = list(dict.fromkeys(r["name"] for cell in grid for r in cell if r["operation"] == operation))
        for i, name in enumerate(names):
            color = (theme.BLUE, theme.VERMILLION, theme.ORANGE)[i % 3]
            told = "ours" if name == operation else name
            places = [(x + (i - (len(names) - 1) / 2) * 0.27, _share_of_copy(cell, operation, name))
                      for x, cell in enumerate(grid)]
            kept = [(x, share) for x, share in places if share is not None]
            ax.bar([x for x, _ in kept], [share for _, share in kept], width=0.25, color=color, label=told,
                   hatch=("", "//", "..")[i % 3], edgecolor="white", linewidth=0)
            for x, share in kept:
                ax.text(x, share + 0.02, f"{share:.2f}", ha="center", fontsize=7, color=theme.DARK,
                        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "linewidth": 0})
        _limit(ax, "y", 1, "")
        ax.set_xticks(range(len(grid)), [label(cell[0]["cell"]).replace(" × ", "\n× ") for cell in grid])
        ax.set_ylim(0, 1.15)
        ax.tick_params(axis="x", length=0)
        theme.title(ax, {"softmax": "softmax", "rms_norm": "RMSNorm"}[operation])
    axes[0].set_ylabel("rate, of a copy's")
    _legend(fig, *axes)
    return Chart(fig, f"softmax and RMSNorm in {len(grid)} shapes")


def _share_of_copy(cell: Sequence[dict], operation: str, name: str) -> float | None:
    rows = {row["operation"]: row for row in timed(cell) if row["operation"] == "copy" or
            (row["operation"], row["name"]) == (operation, name)}
    return median(rows["copy"]) / median(rows[operation]) if {"copy", operation} <= rows.keys() else None


def _lines(ax, xs: Sequence[int], found: Sequence[dict[str, dict]], value: Callable[[dict], float]) -> None:
    """A line for each contestant over `xs`, where it was timed."""
    for name in dict.fromkeys(name for rows in found for name in rows):
        points = [(x, value(rows[name])) for x, rows in zip(xs, found, strict=True) if name in rows]
        (color, mark), mine = style(name), name in OURS
        ax.plot(*zip(*points, strict=True), color=color, marker=mark, markersize=6 if mine else 5,
                linewidth=2.2 if mine else 1.3, zorder=3 if mine else 2, label=name)


def _limit(ax, axis: str, value: float, text: str) -> None:
    """The grey line of what can't be passed, named."""
    (ax.axvline if axis == "x" else ax.axhline)(value, **theme.limit())
    if axis == "x":
        theme.label(ax, value, -0.62, text, theme.GREY, dx=-4, ha="right")
    elif text:
        theme.label(ax, ax.get_xlim()[0], value, text, theme.GREY, dx=4, dy=9,
                    bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "linewidth": 0})


def _legend(fig, *axes) -> None:
    """Each contestant once, below the chart."""
    handles = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", fontsize=9, frameon=False,
               ncols=4 if max(map(len, handles), default=0) < 20 else 3)
