"""What early exit loses against what it costs, by layers and by the weights that a token really reads."""
from collections.abc import Sequence

import torch
from torch import Tensor

from minilm.bench.cost import head_weights, layer_weights
from minilm.model import GPTConfig
from minilm.viz import theme
from minilm.viz.picture import Chart

WHITE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
FREE_LOOKS = ("saturation", "classifier")             # measures that don't need the vocabulary
STYLES = {"softmax @ 4": (theme.BLUE, "o", "-"), "softmax": (theme.SKY, "s", "-"),
          "saturation": (theme.ORANGE, "^", "--"), "classifier": (theme.GREEN, "D", "-"),
          "entropy": (theme.PURPLE, "v", "--"), "patience": (theme.VERMILLION, "X", "-")}


def style(name: str) -> tuple[str, str, str]:
    """(colour, marker, line) of a measure by the start of its name, as in "softmax @ every layer"."""
    return next((STYLES[start] for start in STYLES if name.startswith(start)), (theme.GREY, "o", ":"))


def vocabulary_products(name: str, exits: Sequence[int], layers: Tensor, num_layers: int) -> Tensor:
    """How often a token meets the vocabulary matrix, from the layers it ran: once an exit passed, once at the end.

    layers may be means over tokens. Between exits it is interpolated: exact where all of a mean's tokens leave at
    neighbouring exits, and at most a little too large otherwise, since the count rises ever more slowly. With an exit
    at every layer it is the number of layers, exactly.
    """
    if name.startswith(FREE_LOOKS):
        return torch.ones_like(layers)
    x = torch.tensor([*exits, num_layers], dtype=layers.dtype)
    right = torch.searchsorted(x, layers.contiguous()).clamp(1, len(x) - 1)
    share = (layers - x[right - 1]) / (x[right] - x[right - 1])
    return right + share.clamp(0, 1)


def weight_megabytes(config: GPTConfig, name: str, exits: Sequence[int], layers: Tensor,
                     bytes_per_number: float = 4) -> Tensor:
    """Weights that a new token reads, in MB: its layers, and its vocabulary products. Re-projection is left out."""
    products = vocabulary_products(name, exits, layers, config.num_layers)
    per_layer = layer_weights(config) / config.num_layers
    return bytes_per_number * (layers * per_layer + products * head_weights(config)) / 1e6


def frontier(config: GPTConfig, measures: Sequence[dict], *, loss: str = "textual", title: str = "",
             highest: float | None = None) -> Chart:
    """Mean loss against mean layers, and against the megabytes of weights read: down and left is better.

    measures: as `minilm.bench.exit_losses.load_losses` gives them; one dot a threshold. The full model is the star.
    """
    fig, (left, right) = theme.figure(1, 2, height=3.7, sharey=True)
    for one in measures:
        color, marker, line = style(one["name"])
        means = one[loss].mean(0)
        cost = weight_megabytes(config, one["name"], one["exits"], one["layers"]).mean(0)
        for ax, xs in ((left, one["layers"].mean(0)), (right, cost)):
            ax.plot(xs, means, color=color, marker=marker, linestyle=line, markersize=5, linewidth=1.5,
                    label=one["name"])
    full = torch.tensor([float(config.num_layers)], dtype=torch.float64)
    whole = weight_megabytes(config, "saturation", (), full).item()         # one vocabulary product
    for ax, x, unit in ((left, config.num_layers, f"{config.num_layers} layers"), (right, whole, f"{whole:.0f} MB")):
        ax.plot([x], [0], marker="*", markersize=14, color=theme.DARK, linestyle="", clip_on=False, zorder=4)
        ax.axvline(x, **theme.limit())
        ax.set_ylim(0, highest)
        side = {"dx": 4, "ha": "left"} if x < sum(ax.get_xlim()) / 2 else {"dx": -4, "ha": "right"}
        theme.label(ax, x, ax.get_ylim()[1], f"full model, {unit}", theme.GREY, dy=-8, bbox=WHITE, **side)
    left.set(xlabel="layers run, mean over tokens", ylabel=f"mean {loss} loss")
    right.set(xlabel="weights read a token, MB")
    theme.title(left, title or "by layers")
    theme.title(right, "by bytes, checks included")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return Chart(fig, f"frontier of {len(measures)} policies")
