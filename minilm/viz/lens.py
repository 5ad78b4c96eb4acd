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
          width: int = 58) -> str:
    """Layers from the last (top) down to the first, one column a position; shade is the confidence in that token.

    upto: how many layers to fill in; the rest stay empty. first, last: columns to show. A guess that equals the last
    layer's is bold and stands on a bar.
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
            row.append(html.cell(text, color=theme.confidence(share), bold=same, bar=same, width=width, size=11,
                                 title=f"layer {layer + 1}: {text} ({share:.2f})"))
        rows.append(row)
    read_row = [html.cell("reads", mono=False, size=11)]
    read_row += [html.cell(html.visible(reading.texts[t]), width=width, size=11, bold=True) for t in columns]
    grid = html.table([*rows, read_row], ["layer", *("" for _ in columns)])
    return html.stack(grid, html.scale_key("confidence 0", "1"), gap=2)


def frames(reading: Reading, **kwargs) -> list[str]:
    """`table` filled with 0, 1, ... L layers, for `widgets.player`: the frame's number is the layers run."""
    return [table(reading, upto=layers, **kwargs) for layers in range(len(reading.top) + 1)]


def chart(agreement: dict[str, list[float]]) -> Chart:
    """How often each layer already says what the last one says: a line for each model, over depth."""
    fig, ax = theme.figure(height=2.9)
    for (name, shares), color in zip(agreement.items(), theme.CATEGORIES, strict=False):
        ax.plot([(layer + 1) / len(shares) for layer in range(len(shares))], shares, **theme.ours(color))
        x, y, above = _room(shares, [other for key, other in agreement.items() if key != name])
        theme.label(ax, x, y, f"{name} ({len(shares)} layers)", color, dx=0, dy=13 if above else -13, ha="center")
    ax.axhline(1, **theme.limit())
    ax.set(xlim=(0, 1.01), ylim=(0, 1.08), xlabel="share of the layers run", ylabel="same token as the last layer")
    theme.title(ax, "How early the answer is there")
    ax.grid(axis="y")
    return Chart(fig, f"agreement by depth of {len(agreement)} models")


def _room(shares: list[float], others: list[list[float]]) -> tuple[float, float, bool]:
    """(x, y, above): where on a curve its name fits best and on which side, clear of all curves and of 0 and 1."""
    best = (-1.0, 0.5, 0.5, True)
    for x in (0.25, 0.35, 0.45, 0.55, 0.65, 0.75):
        span = [x + dx for dx in (-0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15)]        # the name is about 0.3 wide
        at = lambda curve, where: curve[max(round(where * len(curve)) - 1, 0)]  # noqa: E731
        for above in (True, False):
            middle = at(shares, x) + (0.11 if above else -0.11)
            lines = [at(curve, where) for curve in (shares, *others) for where in span] + [0.0, 1.0]
            best = max(best, (min(abs(line - middle) for line in lines), x, at(shares, x), above))
    return best[1:]
