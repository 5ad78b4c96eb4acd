"""Early exit in a batch: how deep each row goes in a step, and how deep the batch has to go for the last of them.

depths[text][i]: layers that the i-th decoding pass of that text ran.
"""
from collections.abc import Sequence

from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

Depths = Sequence[Sequence[int]]
LEFT, ROW = 60, 24


def deepest(depths: Depths, batch: int) -> float:
    """Mean over steps of the layers that the deepest of `batch` rows ran, over all disjoint batches of texts."""
    if not 1 <= batch <= len(depths):
        raise ValueError(f"a batch has 1 to {len(depths)} of these texts, not {batch}")
    found = [max(row[step] for row in depths[first : first + batch])
             for first in range(0, len(depths) - batch + 1, batch) for step in range(min(map(len, depths)))]
    return sum(found) / len(found)


def expected_deepest(depths: Depths, batch: int, num_layers: int) -> float:
    """The same if rows were independent draws: E[max] = Σ_l (1 - F(l)^B), F(l) the share that left by layer l."""
    flat = [depth for row in depths for depth in row]
    return sum(1 - (sum(depth <= layer for depth in flat) / len(flat)) ** batch for layer in range(num_layers))


def frame(depths: Depths, step: int, num_layers: int) -> str:
    """One step of a batch: a row of layers for each text, filled as far as it ran; the deepest holds all."""
    now = [row[step] for row in depths]
    wide = (theme.PIXELS - LEFT - 150) / num_layers
    most, y = max(now), 22.0
    shapes = [svg.label(LEFT + wide * (layer + 0.5), 8, str(layer + 1), size=10, anchor="middle", color=theme.MUTED)
              for layer in range(num_layers)]
    shapes.append(svg.label(0, 8, "layer", size=10, color=theme.MUTED))
    for i, depth in enumerate(now):
        shapes.append(svg.label(LEFT - 8, y + ROW / 2 - 2, f"text {i + 1}", size=11, anchor="end"))
        for layer in range(num_layers):
            ran = layer < depth
            shapes.append(svg.box(LEFT + wide * layer + 1, y, wide - 2, ROW - 5, radius=2, dashed=not ran,
                                  fill=theme.depth(layer / (num_layers - 1)) if ran else "none",
                                  stroke="none" if ran else theme.RULE))
        word = f"leaves after {depth}" if depth < num_layers else "runs all"
        shapes.append(svg.label(LEFT + wide * num_layers + 8, y + ROW / 2 - 2, word, size=11, bold=depth == most,
                                color=theme.TEXT if depth == most else theme.MUTED))
        y += ROW
    x = LEFT + wide * most
    shapes += [svg.line(x, 14, x, y + 4, color=theme.VERMILLION, width=2.5),
               svg.label(min(x, LEFT + wide * num_layers - 4), y + 14,
                         f"the batch reads the weights of {most} layers; its rows compute {sum(now) / len(now):.1f} on "
                         "average", size=12, bold=True, anchor="end" if most > num_layers / 2 else "start")]
    return html.card(svg.drawing(theme.PIXELS, y + 26, *shapes, title="how deep each row goes"))


def chart(depths: Depths, batches: Sequence[int], num_layers: int) -> Chart:
    """Layers whose weights are read, over the batch: counted, and as the formula says; a row's own mean below."""
    fig, ax = theme.figure(height=3.2)
    mean = sum(sum(row) for row in depths) / sum(map(len, depths))
    ax.plot(batches, [deepest(depths, batch) for batch in batches], **theme.ours(theme.BLUE))
    ax.plot(batches, [expected_deepest(depths, batch, num_layers) for batch in batches], **theme.paper(theme.BLUE))
    ax.plot([batches[0], batches[-1]], [mean, mean], **theme.ours(theme.ORANGE) | {"marker": ""})
    ax.axhline(num_layers, **theme.limit())
    theme.label(ax, batches[-1], deepest(depths, batches[-1]), "layers read:\nthe deepest row's", theme.BLUE, dx=8)
    theme.label(ax, batches[-1], mean, "layers computed:\na row's mean", theme.ORANGE, dx=8)
    theme.label(ax, batches[0], num_layers, f"all {num_layers} layers", theme.GREY, dy=7)
    ax.set(xscale="log", xticks=list(batches), ylim=(0, num_layers * 1.15), xlim=(batches[0] * 0.9, batches[-1] * 2.2),
           xlabel="texts in the batch", ylabel="layers a step",
           yticks=range(0, num_layers + 1, max(num_layers // 4, 1)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.minorticks_off()
    ax.grid(axis="y")
    theme.title(ax, "Early exit in a batch; dashed: 1 - F(l)^B, summed")
    return Chart(fig, f"layers read and computed in batches of {len(batches)} sizes")
