"""Early exit seen from one full-depth run: what every layer would have said, and where a policy would have left.

`read` runs the model once. `exit_layers` replays a policy on what was read, as often as a slider moves, and the
pictures draw both: the map of tokens and layers, and the text coloured by depth. Charts of them are in `exit_charts`.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from minilm.decoding.calm import saturation, softmax_response
from minilm.decoding.early_exit import check_exits, entropy
from minilm.viz import html, svg, theme

MEASURES = ("entropy", "patience", "softmax response", "saturation", "classifier")
WRONG = "✗"


@dataclass
class Readings:
    """What each of L layers says at each of T places, in a run at full depth.

    reads: the token read there, T texts (or, for a classifier, the whole request).  named: what each exit names,
    [L, T] ids.  texts: the same as text, L lists of T.  scores: name of a measure -> [L, T]; "patience" counts with an
    exit at every layer.  whole: how many first places always run all layers (1: the token that the prompt's own pass
    names).
    """

    reads: list[str]
    named: Tensor
    texts: list[list[str]]
    scores: dict[str, Tensor]
    whole: int = 1

    @property
    def num_layers(self) -> int:
        return len(self.named)

    @property
    def agrees(self) -> Tensor:
        """Whether each layer already names what the last one names, [L, T] bool."""
        return self.named == self.named[-1]


@torch.inference_mode()
def read(model, tokenizer, prompt: list[int], tokens: list[int], *, lens: Callable[[int, Tensor], Tensor] | None = None,
         head: Callable[[Tensor], Tensor] | None = None) -> Readings:
    """Read a text of `prompt` and the new `tokens` once, at full depth; place t is where new token t was made.

    lens: (layer, hidden[T, d]) -> hidden[T, d], as for `early_exit`; layers that are not among its `exits`, if it has
    any, are not read: they name nothing (id -1) and are sure of nothing.  head: an exit classifier, hidden[T, d] ->
    probability[T]; adds the measure "classifier". Raises ValueError when there is nothing to read.
    """
    if not prompt or not tokens:
        raise ValueError("give a prompt and the new tokens that were written after it: at least one of each")
    ids = [*prompt, *tokens[:-1]]
    where = slice(len(prompt) - 1, None)
    before = model.embed(torch.tensor([ids], device=model.device))[0, where]                    # (T, d)
    rows: dict[str, list[Tensor]] = {"named": [], "entropy": [], "softmax response": [], "saturation": []}
    if head is not None:
        rows["classifier"] = []
    for layer, x in enumerate(model.layer_outputs(torch.tensor([ids], device=model.device)), start=1):
        hidden = x[0, where]                                                                    # (T, d)
        last = layer == model.config.num_layers
        read_here = last or layer in getattr(lens, "exits", (layer,))
        logits = model.head(hidden if lens is None or last else lens(layer, hidden)) if read_here else \
            hidden.new_zeros(len(hidden), model.config.vocab_size)                              # (T, V)
        rows["named"].append(logits.argmax(-1) if read_here else hidden.new_full((len(hidden),), -1).long())
        rows["entropy"].append(entropy(logits))
        rows["softmax response"].append(softmax_response(logits))
        rows["saturation"].append(saturation(hidden, before))
        if head is not None:
            rows["classifier"].append(head(hidden))
        before = hidden
    named, *_ = scores = [torch.stack(row).cpu() for row in rows.values()]
    found = dict(zip(list(rows)[1:], scores[1:], strict=True))
    found["patience"] = patience_counts(named)
    texts = [html.texts(tokenizer, row.tolist()) if row[0] >= 0 else ["–"] * len(row) for row in named]
    return Readings(html.texts(tokenizer, ids[where]), named, texts, found)


@torch.inference_mode()
def read_requests(model, classifiers, requests: Sequence[list[int]], names: Sequence[str]) -> Readings:
    """What each layer's own head (`decoding.classify.InternalClassifiers`) calls each request, a column each.

    requests: token ids, one list each; names: what to write at their columns. A replay of these is exact.
    """
    rows = []
    for ids in requests:
        states = model.layer_outputs(torch.tensor([ids], device=model.device))
        rows.append(torch.stack([classifiers(layer, x[0, -1]) for layer, x in enumerate(states, start=1)]))
    logits = torch.stack(rows, dim=1).cpu()                                                     # (L, N, K)
    named = logits.argmax(-1)
    texts = [[classifiers.labels[k] for k in row] for row in named.tolist()]
    scores = {"entropy": entropy(logits), "softmax response": softmax_response(logits)}
    return Readings(list(names), named, texts, scores | {"patience": patience_counts(named)}, whole=0)


def patience_counts(named: Tensor) -> Tensor:
    """named[E, T], one row an exit -> how many exits in a row named the same as the one before, [E, T]."""
    counts = torch.zeros_like(named)
    for row in range(1, len(named)):
        counts[row] = torch.where(named[row] == named[row - 1], counts[row - 1] + 1, 0)
    return counts


def exit_layers(readings: Readings, measure: str, threshold: float, exits: Sequence[int] | None = None) -> list[int]:
    """How many layers each of the T places runs if it leaves by `measure` at `threshold`: a replay, no model runs.

    exits: after which layers one may leave (default: all but the last). The rules are those of `Entropy`, `Patience`
    and
    CALM's confidences. A replay assumes that the text stays as it was read, and that each token sees the tokens before
    it at full depth. A real run differs on both once a token leaves: it may write another token, and later ones then
    read a copied state. Up to the first token that leaves, both agree.
    """
    if measure not in readings.scores:
        raise ValueError(f"these readings have no measure {measure!r}; they have {', '.join(readings.scores)}")
    exits = check_exits(readings.num_layers, exits)
    rows = torch.tensor(exits) - 1
    if measure == "patience":
        leaves = patience_counts(readings.named[rows]) >= threshold
    elif measure == "entropy":
        leaves = readings.scores[measure][rows] < threshold
    else:
        leaves = (readings.scores[measure][rows] >= threshold) & (threshold < 1)
    first = torch.where(leaves.any(0), torch.tensor(exits)[leaves.int().argmax(0)], readings.num_layers)
    first[: readings.whole] = readings.num_layers
    return first.tolist()


def oracle_layers(readings: Readings, exits: Sequence[int] | None = None) -> list[int]:
    """The first exit that names what the last layer names: the fewest layers one could hope for without a change."""
    exits = check_exits(readings.num_layers, exits)
    agrees = readings.agrees[torch.tensor(exits) - 1]
    first = torch.where(agrees.any(0), torch.tensor(exits)[agrees.int().argmax(0)], readings.num_layers)
    first[: readings.whole] = readings.num_layers
    return first.tolist()


def right(readings: Readings, layers: Sequence[int]) -> list[bool]:
    """For each place, whether what is named after that many layers is what the last layer names."""
    return [bool(readings.agrees[n - 1, t]) for t, n in enumerate(layers)]


def summary(readings: Readings, layers: Sequence[int]) -> tuple[float, float]:
    """(mean layers, share named as the last layer names them), over the places that may leave."""
    free = slice(readings.whole, None)
    count = max(len(layers) - readings.whole, 1)
    return sum(layers[free]) / count, sum(right(readings, layers)[free]) / count


# --- pictures --------------------------------------------------------------------------------------------------------

def depth_color(layers: int, num_layers: int) -> str:
    """The colour of an exit after `layers` of `num_layers`."""
    return theme.depth((layers - 1) / max(num_layers - 1, 1))


def text(readings: Readings, layers: Sequence[int], *, caption: str = "", numbers: bool = True) -> str:
    """The new tokens, as the exits name them, coloured by exit depth, the layers below each.

    One that differs from the full model's is marked ✗, with a dashed edge; hovering tells both.
    """
    L, chips = readings.num_layers, []
    for t, (n, ok) in enumerate(zip(layers, right(readings, layers), strict=True)):
        said, full = readings.texts[n - 1][t], readings.texts[-1][t]
        told = f"{n} of {L} layers" + ("" if ok else f"; the full model says {html.visible(full)}")
        edge = {} if ok else {"mark": WRONG, "line": "dashed"}
        chips.append(html.chip(said, color=depth_color(n, L), title=told, below=f"{n}" if numbers else "", **edge))
    row = f'<div style="display:flex;flex-wrap:wrap;gap:2px;align-items:flex-start">{"".join(chips)}</div>'
    return html.card(row + depth_key(L), caption=caption)


def depth_key(num_layers: int) -> str:
    """What the colours and marks of `text` and `exit_map` mean."""
    note = (f'<span style="font:12px {theme.FONT};color:{theme.MUTED}">'
            f'{WRONG} not what the full model says</span>')
    scale = html.scale_key("left after 1 layer", f"{num_layers} (all)", theme.depth)
    return f'<div style="display:flex;flex-wrap:wrap;gap:18px;align-items:center;margin-top:4px">{scale}{note}</div>'


def exit_map(readings: Readings, layers: Sequence[int], *, exits: Sequence[int] | None = None, first: int = 0,
             last: int | None = None, upto: int | None = None) -> str:
    """Tokens across, layers upwards. A column is filled as far as the token went, and its last cell says what it named.

    exits: where the policy looked (a dot: it would have been right there; ○: wrong).  first, last: columns to show; up
    to 14 have room for text in the cells, more get narrow columns.  upto: how many of the columns to fill in.
    """
    columns = range(len(layers))[first:last]
    exits = check_exits(readings.num_layers, exits)
    L, roomy = readings.num_layers, len(columns) <= 14
    w, h = min((theme.PIXELS - 44) / max(len(columns), 1), 62), 16 if L <= 16 else 12
    top, left = 20 if roomy else 6, 40
    shapes = [svg.label(left - 6, top + (L - n + 0.5) * h, f"{n}", size=10, anchor="end", color=theme.MUTED)
              for n in range(1, L + 1) if h > 14 or n % 2 == 0]
    for place, t in enumerate(columns):
        x, filled = left + place * w, upto is None or place < upto
        shapes.append(_column(readings, t, layers[t] if filled else 0, exits, x, top, w, h, roomy))
    foot = top + L * h
    shapes += [svg.label(left - 6, foot + 12, "reads" if roomy else "says", size=10, anchor="end", color=theme.MUTED)]
    if roomy:
        shapes.append(svg.label(left - 6, 10, "full", size=10, anchor="end", color=theme.MUTED))
    height = foot + (22 if roomy else 66)
    return svg.drawing(left + len(columns) * w + 2, height, *shapes, title="how many layers each token ran")


def _column(readings: Readings, t: int, n: int, exits: Sequence[int], x: float, top: float, w: float, h: float,
            roomy: bool) -> str:
    """One token's column; n layers were run (0: not made yet)."""
    L, full = readings.num_layers, readings.texts[-1][t]
    y = lambda layer: top + (L - layer) * h  # noqa: E731
    cells = [svg.box(x + 1, y(layer) + 1, w - 2, h - 2, stroke=theme.RULE, radius=1, dashed=True)
             for layer in range(n + 1, L + 1) if roomy]
    color = depth_color(max(n, 1), L)
    for layer in range(1, n):
        cells.append(svg.box(x + 1, y(layer) + 1, w - 2, h - 2, fill=color + "66", stroke="none", radius=2))
        if layer in exits and t >= readings.whole:
            ok = bool(readings.agrees[layer - 1, t])
            cells.append(svg.circle(x + w / 2, y(layer) + h / 2, 2.2, fill=theme.MUTED if ok else "none"))
    if n:
        ok, said = bool(readings.agrees[n - 1, t]), readings.texts[n - 1][t]
        word = (_short(said, w - (10 if not ok else 0)) if roomy else "")
        cells.append(svg.box(x + 1, y(n) + 1, w - 2, h - 2, fill=color, radius=2, mono=True, size=min(10, h - 2),
                             stroke="none" if ok else theme.VERMILLION, dashed=not ok,
                             text=word if ok else f"{WRONG}{word}"))
    if roomy:
        cells.append(svg.label(x + w / 2, 10, _short(full, w), size=10, anchor="middle", mono=True, color=theme.MUTED))
        cells.append(svg.label(x + w / 2, top + L * h + 12, _short(readings.reads[t], w), size=10, anchor="middle",
                               mono=True))
    else:
        cells.append(upright(x + w / 2, top + L * h + 8, html.visible(full)[:9]))
    told = f"{n} of {L} layers; the full model says {html.visible(full)}" if n else html.visible(full)
    return f"<g><title>{escape(told)}</title>{''.join(cells)}</g>"


def _short(text: str, width: float) -> str:
    """A token's text cut to what fits into `width` pixels at size 10."""
    return html.short(text, max(int(width / 6.2), 2))


def upright(x: float, y: float, text: str, *, bold: bool = False) -> str:
    """Text that reads downwards from (x, y)."""
    weight = "font-weight:700;" if bold else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" transform="rotate(90 {x:.1f} {y:.1f})" dy=".35em" '
            f'style="fill:currentColor;{weight}font-size:10px;font-family:{theme.MONO};white-space:pre">{escape(text)}</text>')
