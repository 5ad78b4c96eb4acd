"""Charts of serving: block size against waste and speed, blocks saved by sharing, tokens/s of each way to batch."""
from collections.abc import Mapping, Sequence

from minilm.viz import theme
from minilm.viz.picture import Chart


def sharing_formula(n: int, prompt: int, output: int, block_size: int) -> float:
    """Share of the memory that n samples of one prompt save: (n − 1)·⌊P/bs⌋·bs / (n (P + O)), in tokens."""
    return (n - 1) * (prompt // block_size) * block_size / (n * (prompt + output))


def waste_formula(block_size: int, tokens: float) -> float:
    """Half a block of each sequence is empty on average: ((bs − 1)/2) / (S + (bs − 1)/2) for mean length S."""
    half = (block_size - 1) / 2
    return half / (tokens + half)


def block_size_chart(waste: Mapping[int, float], mean_held: float, speed: Mapping[int, float] | None = None,
                     recorded: Mapping[int, float] | None = None) -> Chart:
    """Waste by block size (left; dashed: half a block on average) and tokens/s (right), ours and recorded."""
    fig, axes = theme.figure(1, 1 + bool(speed), height=3.1, width=theme.WIDTH if speed else theme.WIDTH * 0.62)
    left, right = axes if speed else (axes, None)
    sizes = list(waste)
    left.plot(sizes, [100 * waste[size] for size in sizes], **theme.ours(theme.ORANGE))
    left.plot(sizes, [100 * waste_formula(size, mean_held) for size in sizes],
              **theme.paper(theme.PURPLE) | {"zorder": 5})
    left.axhline(4, **theme.limit())
    theme.label(left, sizes[0], 4, "4 %: the blog's claim", theme.GREY, dy=6, fontsize=8)
    for size in sizes:
        theme.label(left, size, 100 * waste[size], f"{100 * waste[size]:.1f}", theme.ORANGE, dx=-6, dy=6, ha="right",
                    fontsize=8)
    left.set(xscale="log", xlabel="block size, tokens", ylabel="waste, % of blocks taken", xticks=sizes,
             xlim=(sizes[0] * 0.7, None), ylim=(0, 115 * max(waste.values())))
    theme.title(left, "Waste; dashed: the formula")
    if right is not None:
        right.plot(list(speed), list(speed.values()), **theme.ours(theme.BLUE))
        theme.label(right, list(speed)[-1], list(speed.values())[-1], "here", theme.BLUE)
        if recorded:
            right.plot(list(recorded), list(recorded.values()), **theme.ours(theme.GREY))
            theme.label(right, list(recorded)[-1], list(recorded.values())[-1], "recorded", theme.GREY)
        right.set(xscale="log", xlabel="block size, tokens", ylabel="tokens/s", xticks=list(speed),
                  ylim=(0, 1.1 * max([*speed.values(), *(recorded or {}).values()])))
        theme.title(right, "Speed of the engine")
    for ax in (left, right) if speed else (left,):
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.minorticks_off()
        ax.grid(axis="y")
    return Chart(fig, f"waste and speed at {len(sizes)} block sizes" if speed else f"waste at {len(sizes)} block sizes")


def sharing_chart(samples: Mapping[int, Sequence[float]], beams: Mapping[int, Sequence[float]], prompt: int,
                  block_size: int) -> Chart:
    """Blocks saved, step by step: parallel samples against the formula (dashed), beams beside them.

    samples[n], beams[width]: the share saved when 1, 2, ... new tokens are in the cache.
    """
    fig, (left, right) = theme.figure(1, 2, height=3.1, sharey=True)
    for i, (n, saved) in enumerate(samples.items()):
        color, new = theme.CATEGORIES[i], range(1, len(saved) + 1)
        left.plot(new, [100 * share for share in saved], **theme.ours(color) | {"marker": ""})
        left.plot(new, [100 * sharing_formula(n, prompt, output, block_size) for output in new], **theme.paper(color))
        theme.label(left, len(saved), 100 * saved[-1], f"n = {n}", color, dy=(-1, -5, 5)[i % 3])
    for i, (width, saved) in enumerate(beams.items()):
        color = theme.CATEGORIES[i]
        right.plot(range(1, len(saved) + 1), [100 * share for share in saved], **theme.ours(color) | {"marker": ""})
        theme.label(right, len(saved), 100 * saved[-1], f"{width} beams", color)
    for ax in (left, right):
        ax.set(xlabel="new tokens of each", ylim=(0, 100))
        ax.margins(x=0.02)
        ax.set_xlim(0, max(len(saved) for saved in (*samples.values(), *beams.values())) * 1.22)
        ax.grid(axis="y")
    left.set_ylabel("blocks saved by sharing, %")
    theme.title(left, "Parallel samples; dashed: formula")
    theme.title(right, "Beam search")
    return Chart(fig, f"blocks saved by {len(samples)} numbers of samples and {len(beams)} of beams")


def throughput_chart(here: Mapping[str, float], recorded: Mapping[str, float]) -> Chart:
    """Speed of each way to batch, as a ratio to one request at a time: this run filled, a recorded one dashed."""
    names = list(dict.fromkeys([*here, *recorded]))
    fig, ax = theme.figure(height=0.9 + 0.5 * len(names))
    for row, name in enumerate(names):
        if name in here:
            ax.barh(row - 0.19, here[name], height=0.34, color=theme.BLUE)
            theme.label(ax, here[name], row - 0.19, f"{here[name]:.2f} × here", theme.BLUE)
        if name in recorded:
            ax.barh(row + 0.19, recorded[name], height=0.3, color="#F4F4F4", edgecolor=theme.GREY, linestyle="--")
            theme.label(ax, recorded[name], row + 0.19, f"{recorded[name]:.2f} × recorded", theme.GREY)
    ax.axvline(1, **theme.limit())
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel="times one request at a time")
    ax.set_xlim(0, 1.25 * max((*here.values(), *recorded.values())))
    ax.invert_yaxis()
    theme.title(ax, "Tokens a second, many requests")
    return Chart(fig, f"throughput of {len(names)} ways")
