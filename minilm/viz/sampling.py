"""What temperature, top-k and top-p do to one distribution: bars with the tokens' text, kept or cut.

Kept tokens are filled bars with ✓; cut ones are dashed outlines with ✗; a thin line shows where each stood at
temperature 1 with nothing cut. Redrawn live from stored logits: the model does not run again.
"""
import torch
from torch import Tensor

from minilm.sampling import Sampling, draw
from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

KEPT, CUT, DRAWN = theme.BLUE, theme.VERMILLION, theme.YELLOW
TEXT_WIDTH, BAR_WIDTH, ROW = 132, 440, 19
WIDTH = TEXT_WIDTH + BAR_WIDTH + 150


def view(tokens: list[str], logits: Tensor, sampling: Sampling, uniform: float | None = None, *,
         rows: int = 14) -> str:
    """The most probable tokens after logits[V] under `sampling`, as bars; with `uniform` in [0, 1), also the draw.

    tokens: the text of every token of the vocabulary.
    """
    logits = logits.detach().double().cpu()
    before, after = torch.softmax(logits, -1), sampling.probs(logits)
    top = before.topk(min(rows, len(logits))).indices.tolist()
    drawn = None if uniform is None else draw(after, uniform)
    scale = BAR_WIDTH / max(0.05, before.max().item(), after.max().item())
    shapes = []
    for row, token in enumerate(top):
        shapes += _bar(row, tokens[token], before[token].item(), after[token].item(), scale, token == drawn)
    shapes += _rest(len(top), before, after, top, drawn)
    picture = svg.drawing(WIDTH, (len(top) + 1) * ROW + 8, *shapes, title="probabilities of the next token")
    parts = [_headline(sampling, before, after), picture]
    if uniform is not None:
        parts.append(_strip(tokens, after, uniform, drawn))
    return html.card(html.stack(*parts, gap=4))


def _headline(sampling: Sampling, before: Tensor, after: Tensor) -> str:
    kept = after > 0
    entropy = abs((after[kept] * after[kept].log2()).sum().item())
    words = (f"{int(kept.sum()):,} of {len(after):,} tokens kept, which have {before[kept].sum().item():.1%} of the "
             f"model's own probability · entropy {entropy:.2f} bits")
    knobs = ""
    if isinstance(sampling, Sampling):
        knobs = f"temperature {sampling.temperature:g} · top-k {sampling.top_k or 'off'} · top-p {sampling.top_p:g}<br>"
    greedy = "greedy: the largest logit wins · " if sampling.greedy else ""
    key = (f'<span style="color:{KEPT}">✓ kept: bar</span> · <span style="color:{CUT}">✗ cut: dashed</span> · '
           f"│ where it stood before (temperature 1, nothing cut)")
    return (f'<div style="font:13px/1.6 {theme.FONT}">{knobs}{greedy}{words}<br>'
            f'<span style="font-size:12px;color:{theme.MUTED}">{key}</span></div>')


def _bar(row: int, text: str, before: float, after: float, scale: float, drawn: bool) -> list[str]:
    y, x = row * ROW + 4, TEXT_WIDTH
    kept = after > 0
    shapes = [svg.label(x - 24, y + 7, html.short(text, 13), size=13, anchor="end", mono=True),
              svg.label(x - 12, y + 7, "✓" if kept else "✗", size=12, color=KEPT if kept else CUT, anchor="middle")]
    if kept:
        fill = DRAWN if drawn else KEPT
        shapes.append(svg.box(x, y, max(after * scale, 1.5), 14, fill=fill, stroke="none", radius=1))
        shapes.append(svg.line(x + before * scale, y - 2, x + before * scale, y + 16, color=theme.MUTED, width=2))
    else:
        shapes.append(svg.box(x, y, max(before * scale, 3), 14, stroke=CUT, dashed=True, radius=1))
    end = x + max(after, before) * scale + 6
    words = f"{after:.3f}" + (" ← drawn" if drawn else "") if kept else "cut"
    return [*shapes, svg.label(end, y + 7, words, size=11, color=theme.TEXT if drawn else theme.MUTED, bold=drawn)]


def _rest(row: int, before: Tensor, after: Tensor, top: list[int], drawn: int | None) -> list[str]:
    rest = torch.ones_like(after, dtype=torch.bool)
    rest[top] = False
    kept = int((after[rest] > 0).sum())
    words = f"{int(rest.sum()):,} others: {kept:,} kept, together {after[rest].sum().item():.3f}"
    if drawn is not None and drawn not in top:
        words += " ← one of these is drawn"
    return [svg.label(TEXT_WIDTH, row * ROW + 12, words, size=12, color=theme.MUTED)]


def _strip(tokens: list[str], after: Tensor, uniform: float, drawn: int) -> str:
    """The interval from 0 to 1, shared out among the kept tokens by id; the needle is the uniform number."""
    left, width, y, height = 8, WIDTH - 24, 22, 26
    edges = torch.cat((torch.zeros(1, dtype=after.dtype), after.cumsum(0)))
    shapes, shade = [], 0
    wide = (after * width >= 3).nonzero().flatten().tolist()
    shapes.append(svg.box(left, y, width, height, fill="#D9D9D9", stroke="none", radius=0))
    for token in wide:
        x, w = left + edges[token].item() * width, after[token].item() * width
        fill = DRAWN if token == drawn else (theme.confidence(0.55), theme.confidence(0.3))[shade]
        shade = 1 - shade
        name = html.visible(tokens[token])
        shapes.append(svg.box(x, y, w, height, fill=fill, stroke=theme.DARK if token == drawn else "#FFFFFF", radius=0,
                              text=name if 8 * len(name) + 4 < w else "", mono=True))
    x = left + uniform * width
    shapes += [svg.line(x, y - 7, x, y + height + 5, color=theme.VERMILLION, width=2.5),
               svg.label(min(max(x, left + 45), left + width - 45), 7, f"u = {uniform:.2f}", size=12, anchor="middle",
                         bold=True),
               svg.label(left, y + height + 14, "0", size=11, color=theme.MUTED),
               svg.label(left + width, y + height + 14, "1", size=11, color=theme.MUTED, anchor="end"),
               svg.label(left + width / 2, y + height + 14,
                         "the draw: each token owns as much of the line as it has probability; grey: many small ones",
                         size=11, color=theme.MUTED, anchor="middle")]
    return svg.drawing(WIDTH, y + height + 24, *shapes, title=f"inverse CDF: u = {uniform:.2f} draws token {drawn}")


def chart(tokens: list[str], logits: Tensor, settings: dict[str, Sampling], *, rows: int = 12) -> Chart:
    """The same still: one panel for each named setting, bars filled where kept and dashed where cut, and the count."""
    logits = logits.detach().double().cpu()
    before = torch.softmax(logits, -1)
    top = before.topk(min(rows, len(logits))).indices.tolist()
    fig, axes = theme.figure(1, len(settings), height=0.9 + 0.21 * len(top), sharey=True, sharex=True, squeeze=False)
    for ax, (name, sampling) in zip(axes[0], settings.items(), strict=True):
        after = sampling.probs(logits)
        for row, token in enumerate(top):
            if after[token] > 0:
                ax.barh(row, after[token].item(), height=0.72, color=KEPT)
            else:
                ax.barh(row, before[token].item(), height=0.72, facecolor="none", edgecolor=CUT, linestyle=(0, (2, 2)))
                ax.text(before[token].item(), row, " ✗", color=CUT, va="center", fontsize=8)
        theme.title(ax, name)
        ax.text(0.97, 0.03, f"{int((after > 0).sum()):,} of\n{len(after):,} kept", transform=ax.transAxes, ha="right",
                va="bottom", fontsize=8.5, color=theme.readable(KEPT))
        ax.set_xlabel("probability")
        ax.set_yticks(range(len(top)), [html.visible(tokens[t])[:12] for t in top], family="monospace")
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=2)
    axes[0][0].invert_yaxis()
    return Chart(fig, f"{len(settings)} sampling settings, {len(top)} tokens")
