"""The logit lens: what the model would say if it stopped after each layer (nostalgebraist 2020)."""
from dataclasses import dataclass

import torch
from torch import Tensor

from minilm.viz import html, theme
from minilm.viz.picture import Chart


@dataclass
class Reading:
    """One text seen through the lens. L layers, T positions; `texts` are the tokens read.

    top: most probable next token, [L, T], as text.  ids: the same as ids.  confidence: its probability, [L, T].
    """

    texts: list[str]
    top: list[list[str]]
    ids: Tensor
    confidence: Tensor

    @property
    def agrees(self) -> Tensor:
        """Whether each layer already says what the last one will say, [L, T] bool."""
        return self.ids == self.ids[-1]


@torch.no_grad()
def read(model, tokenizer, ids: list[int]) -> Reading:
    """Put the head on every layer's hidden state of one text."""
    confidences, tops = [], []
    for hidden in model.layer_outputs(torch.tensor([ids], device=model.device)):
        confidence, top = model.head(hidden)[0].softmax(-1).max(-1)             # (T), (T)
        confidences.append(confidence)
        tops.append(top)
    top = torch.stack(tops)
    return Reading(html.texts(tokenizer, ids), [html.texts(tokenizer, row.tolist()) for row in top], top,
                   torch.stack(confidences))


def table(reading: Reading, *, upto: int | None = None, first: int = 0, last: int | None = None,
          width: int = 62) -> str:
    """Layers from the last (top) down to the first, one column a position; shade is the confidence in that token.

    upto: layers to fill in, from 1; the rest stay empty. first, last: columns to show. A guess that equals the last
    layer's is bold and marked ✓.
    """
    agrees, columns = reading.agrees, range(len(reading.texts))[first:last]
    L = len(reading.top)
    rows = []
    for layer in reversed(range(L)):
        row = [html.cell(f"{layer + 1}", mono=False)]
        for t in columns:
            if layer >= (L if upto is None else upto):
                row.append(html.cell(" ", width=width))
                continue
            same = bool(agrees[layer, t])
            share = round(float(reading.confidence[layer, t]), 2)
            text = html.visible(reading.top[layer][t])
            row.append(html.cell(text + (" ✓" if same else ""), color=theme.confidence(share), bold=same, width=width,
                                 size=11, title=f"layer {layer + 1} after {reading.texts[t]!r}: {text} ({share:.2f})"))
        rows.append(row)
    read_row = [html.cell("reads", mono=False, size=11)]
    read_row += [html.cell(html.visible(reading.texts[t]), width=width, size=11, bold=True) for t in columns]
    grid = html.table([*rows, read_row], ["layer", *("" for _ in columns)])
    return html.stack(grid, html.scale_key("confidence 0", "1"), gap=2)


def frames(reading: Reading, **kwargs) -> list[str]:
    """`table` filled one layer more in each frame, for `widgets.player`."""
    return [table(reading, upto=layer + 1, **kwargs) for layer in range(len(reading.top))]


def chart(agreement: dict[str, list[float]]) -> Chart:
    """How often each layer already says what the last one says: a line for each model, over depth."""
    fig, ax = theme.figure(height=2.9)
    for (name, shares), color in zip(agreement.items(), theme.CATEGORIES, strict=False):
        depth = [(layer + 1) / len(shares) for layer in range(len(shares))]
        ax.plot(depth, shares, **theme.ours(color))
        middle = len(shares) // 2
        theme.label(ax, depth[middle], shares[middle], f"{name} ({len(shares)} layers)", color, dx=8, dy=-12)
    ax.axhline(1, **theme.limit())
    ax.set(xlim=(0, 1.01), ylim=(0, 1.05), xlabel="share of the layers run", ylabel="same token as the last layer")
    theme.title(ax, "How early the answer is there")
    ax.grid(axis="y")
    return Chart(fig, f"agreement by depth of {len(agreement)} models")
