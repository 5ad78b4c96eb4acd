"""Who looks at whom: attention weights, recorded at the seam between the model and its cache."""
import torch
from torch import Tensor

from minilm.cache import FullAttention
from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart


class Recording(FullAttention):
    """A cache that computes attention the long way and keeps the weights: `.weights[layer]` is [B, H, T, T]."""

    def __init__(self, max_positions: int):
        super().__init__(max_positions)
        self.weights: dict[int, Tensor] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        T, group = q.shape[2], q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)     # (B, H, T, D)
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5                           # (B, H, T, T)
        future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
        self.weights[layer] = scores.masked_fill(future, float("-inf")).softmax(-1)
        return self.weights[layer] @ v


@torch.no_grad()
def record(model, ids: list[int]) -> Tensor:
    """Attention weights of one text, [L, H, T, T]; row t is what token t reads, and sums to 1."""
    cache = Recording(model.config.max_positions)
    model.hidden(torch.tensor([ids], device=model.device), cache)
    return torch.stack([cache.weights[layer][0] for layer in range(model.config.num_layers)])


def heat_map(tokens: list[str], weights: Tensor, *, size: int = 22) -> str:
    """One head as SVG: weights[T, T], row t is what token t reads. Darker is more; the number shows on hovering."""
    names = [html.short(token, 10) for token in tokens]
    left, top, T = 88, 74, len(tokens)
    shapes = [svg.label(left - 6, top - 12, "reads from →", size=11, color=theme.MUTED, anchor="end")]
    for t, name in enumerate(names):
        y = top + (t + 0.5) * size
        shapes.append(svg.label(left - 6, y, name, size=12, anchor="end", mono=True))
        x = left + (t + 0.5) * size
        turned = svg.label(x, top - 6, name, size=12, mono=True)
        shapes.append(f'<g transform="rotate(-55 {x:.0f} {top - 6})">{turned}</g>')
        for s in range(t + 1):
            share = float(weights[t, s])
            hover = f"<title>{names[t]} reads {names[s]}: {share:.2f}</title>"
            fill = theme.confidence(round(min(share, 1.0), 2))
            shapes.append(f'<rect x="{left + s * size}" y="{top + t * size}" width="{size - 1}" height="{size - 1}" '
                          f'fill="{fill}">{hover}</rect>')
    return svg.drawing(left + T * size + 60, top + T * size + 4, *shapes, title="attention weights of one head")


def view(tokens: list[str], weights: Tensor, layer: int, head: int) -> str:
    """The heat map of weights[L, H, T, T] at one layer and head (from 1), with where its attention goes in words."""
    one = weights[layer - 1, head - 1]
    words = html.table([[place, f"{share:.2f}"] for place, share in places(one, tokens).items()],
                       ["mean weight on", f"layer {layer}, head {head}"])
    side = html.stack(words, html.scale_key("0", "1"), gap=12)
    return (f'<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:center">{heat_map(tokens, one)}'
            f"<div>{side}</div></div>")


def places(weights: Tensor, tokens: list[str]) -> dict[str, float]:
    """Mean share that one head's weights[T, T] put on four places.

    The first three rows, which have little choice, are left out. "after its copy" is the token that followed the last
    earlier copy of the reading token, over the rows that have one (0 when none has).
    """
    T = len(tokens)
    rows = range(3, T)
    mean = lambda pairs: float(torch.stack([weights[t, s] for t, s in pairs]).mean()) if pairs else 0.0  # noqa: E731
    copies = [(t, max(s for s in range(t) if tokens[s] == tokens[t]) + 1) for t in rows if tokens[t] in tokens[:t]]
    return {"the first token": mean([(t, 0) for t in rows]), "the token itself": mean([(t, t) for t in rows]),
            "the one before": mean([(t, t - 1) for t in rows]), "after its copy": mean(copies)}


def strongest(tokens: list[str], weights: Tensor, place: str) -> tuple[int, int]:
    """(layer, head), from 1, that puts most on one of the `places`."""
    L, H = weights.shape[:2]
    return max(((layer, head) for layer in range(1, L + 1) for head in range(1, H + 1)),
               key=lambda at: places(weights[at[0] - 1, at[1] - 1], tokens)[place])


def overview(tokens: list[str], weights: Tensor) -> Chart:
    """Four maps of weights[L, H, T, T], one square a head: what each head of each layer reads on average."""
    L, H = weights.shape[:2]
    shares = [[places(weights[layer, head], tokens) for head in range(H)] for layer in range(L)]
    fig, axes = theme.figure(1, 4, height=1.0 + 0.14 * L, sharey=True)
    for ax, place in zip(axes, shares[0][0], strict=True):
        image = ax.imshow([[one[place] for one in row] for row in shares], cmap=theme.colormap(theme.confidence),
                          vmin=0, vmax=1, aspect="auto", origin="lower")
        theme.title(ax, place)
        ax.set_xticks(range(H), range(1, H + 1))
        ax.set_yticks(range(0, L, 5), range(1, L + 1, 5))
        ax.set_xlabel("head")
    axes[0].set_ylabel("layer")
    fig.colorbar(image, ax=axes, label="mean weight", shrink=0.9)
    return Chart(fig, f"attention of {L} layers with {H} heads")


def chart(tokens: list[str], weights: Tensor, heads: list[tuple[int, int]]) -> Chart:
    """A few heads side by side, still: heads are (layer, head) from 1, weights[L, H, T, T]."""
    names = [html.short(token, 10) for token in tokens]
    fig, axes = theme.figure(1, len(heads), height=theme.WIDTH / len(heads) + 0.75, sharey=True, squeeze=False)
    for ax, (layer, head) in zip(axes[0], heads, strict=True):
        one = weights[layer - 1, head - 1].clone().float()
        one[torch.ones_like(one, dtype=torch.bool).triu(1)] = float("nan")
        ax.imshow(one.numpy(), cmap=theme.colormap(theme.confidence), vmin=0, vmax=1)
        theme.title(ax, f"layer {layer}, head {head}")
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=7, family="monospace")
        ax.set_yticks(range(len(names)), names, fontsize=7, family="monospace")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[0][0].set_ylabel("this token reads ...")
    return Chart(fig, f"{len(heads)} heads of {len(tokens)} tokens")
