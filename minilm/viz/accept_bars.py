"""Where acceptance comes from: p, q, what they share and what they don't, at each place of a text.

One bar a token says all of it. Green is min(p, q), what both give it: accepted (✓). Orange after it is what the target
gives more, max(0, p - q): the residual, from which recovered tokens are drawn (↺). Dashed red is what the draft gives
more, max(0, q - p): drafted and rejected (✗). So p = green + orange, q = green + red, and the green of all tokens
together is the chance that a draft is accepted. Redrawn from stored logits: no model runs when a slider moves.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from minilm.sampling import Sampling, draw
from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

SHARED, MORE, LESS = (theme.ROLES[name].color for name in ("accepted", "recovered", "rejected"))
TEXT, BAR, ROW = 118, 390, 20
WIDTH = TEXT + BAR + 200


@dataclass(frozen=True)
class Pair:
    """What a target and a draft each said at T places of one text.

    ids[T]: the tokens that stand there.  target[T, V], draft[T, V]: logits, float64.  tokenizer: for the tokens' texts.
    """

    ids: list[int]
    target: Tensor
    draft: Tensor
    tokenizer: object

    def __len__(self) -> int:
        return len(self.ids)

    def probs(self, place: int, sampling: Sampling) -> tuple[Tensor, Tensor]:
        """(p[V], q[V]) at one place, both under `sampling`."""
        return sampling.probs(self.target[place]), sampling.probs(self.draft[place])


@torch.inference_mode()
def read(target, draft, tokenizer, prompt: list[int], tokens: list[int]) -> Pair:
    """Read prompt + tokens with both models, one pass each; place t is where new token t stands."""
    if not prompt or not tokens:
        raise ValueError("give a prompt and the tokens that were written after it: at least one of each")
    ids = torch.tensor([[*prompt, *tokens[:-1]]])
    said = (model(ids.to(model.device))[0, len(prompt) - 1:].double().cpu() for model in (target, draft))
    return Pair(list(tokens), *said, tokenizer)


def acceptance(pair: Pair, sampling: Sampling, draft_sampling: Sampling | None = None) -> Tensor:
    """β at each place, Σ_x min(p(x), q(x)), [T]: the chance that a draft drawn from q is accepted there.

    draft_sampling: of q, where it is not the target's. A greedy draft that is rightly called one-hot has β = p(draft).
    """
    p = sampling.probs(pair.target)
    return torch.minimum(p, (draft_sampling or sampling).probs(pair.draft)).sum(-1)


def view(pair: Pair, place: int, sampling: Sampling, *, rows: int = 10,
         chance: tuple[float, float, float] | None = None) -> str:
    """The text with its cursor, and below it the bars at that place.

    chance: three numbers in [0, 1) that play one draft: the first draws it from q, the second accepts or rejects it,
    the third draws the recovered token.
    """
    p, q = pair.probs(place, sampling)
    top = torch.maximum(p, q).topk(min(rows, len(p))).indices.tolist()
    played = None if chance is None else play(p, q, chance)
    for token in (played or ())[:2]:
        if token is not None and token not in top:
            top[-1 if token == played[0] else -2] = token
    shared = torch.minimum(p, q)
    scale = BAR / max(0.05, float(torch.maximum(p, q).max()))
    shapes = [svg.label(TEXT + BAR + 62 + 48 * i, 8, name, size=11, anchor="end", color=theme.MUTED)
              for i, name in enumerate(("p", "q", "accept"))]
    for row, token in enumerate(top):
        mark = _mark(token, played)
        shapes += _bar(20 + row * ROW, _name(pair, token), float(p[token]), float(q[token]), scale, mark)
    rest = torch.ones(len(p), dtype=torch.bool)
    rest[top] = False
    away = float((p - q).clamp(min=0)[rest].sum()), float((q - p).clamp(min=0)[rest].sum())
    shapes += _rest(24 + len(top) * ROW, int(rest.sum()), float(shared[rest].sum()), *away, scale)
    picture = svg.drawing(WIDTH, 48 + len(top) * ROW, *shapes, title="p and q at one place")
    parts = [strip(pair, sampling, place), picture, _totals(float(shared.sum()))]
    if played:
        parts.append(_told(pair, p, q, played, chance))
    return html.card(html.stack(*parts, gap=6))


def play(p: Tensor, q: Tensor, chance: tuple[float, float, float]) -> tuple[int, int | None]:
    """(the token drafted, the token recovered in its place or None if it is accepted)."""
    drafted = draw(q, chance[0])
    if chance[1] * q[drafted] < p[drafted]:
        return drafted, None
    return drafted, draw((p - q).clamp(min=0), chance[2])


def strip(pair: Pair, sampling: Sampling, place: int | None = None) -> str:
    """The text, shaded by β; the cursor ▸ stands at `place`."""
    share = acceptance(pair, sampling).clamp(0, 1).tolist()
    chips = []
    for t, (name, beta) in enumerate(zip(html.texts(pair.tokenizer, pair.ids), share, strict=True)):
        chip = html.chip(name, color=theme.confidence(beta), mark="▸" if t == place else "",
                         title=f"accepted here with probability {beta:.2f}")
        ring = f"outline:2.5px solid {MORE};border-radius:4px"
        chips.append(f'<span style="{ring}">{chip}</span>' if t == place else chip)
    row = f'<div style="display:flex;flex-wrap:wrap;gap:4px;margin-bottom:4px">{"".join(chips)}</div>'
    return html.card(row + html.scale_key("never accepted here", "always", theme.confidence))


def _name(pair: Pair, token: int) -> str:
    return html.short(html.texts(pair.tokenizer, [token])[0], 12)


def _mark(token: int, played: tuple[int, int | None] | None) -> str:
    if played is None or token not in played:
        return ""
    if token == played[0]:
        return "✓" if played[1] is None else "✗"
    return "↺"


def _bar(y: float, name: str, p: float, q: float, scale: float, mark: str) -> list[str]:
    shared, x = min(p, q) * scale, TEXT
    shapes = [svg.label(x - 22, y + 7, name, size=13, anchor="end", mono=True, bold=bool(mark)),
              svg.label(x - 10, y + 7, mark, size=13, anchor="middle", bold=True)]
    shapes += _pieces(x, y, shared, (p - q) * scale if p > q else 0, (q - p) * scale if q > p else 0)
    odds = f"{min(1, p / q):.2f}" if q > 0 else "–"
    return [*shapes, *(svg.label(x + BAR + 62 + 48 * i, y + 7, word, size=11, anchor="end", bold=i == 2)
                       for i, word in enumerate((f"{p:.3f}", f"{q:.3f}", odds)))]


def _pieces(x: float, y: float, shared: float, more: float, less: float) -> list[str]:
    """Green, then orange or dashed red: as wide as given, in pixels; narrow ones have no mark."""
    shapes = [svg.box(x, y, shared, 14, fill=SHARED, stroke="none", radius=1, text="✓" if shared > 14 else "", size=10)]
    if more:
        shapes.append(svg.box(x + shared, y, more, 14, fill=MORE, stroke="none", radius=1,
                              text="↺" if more > 14 else "", size=10))
    if less:
        shapes.append(svg.box(x + shared, y, less, 14, stroke=LESS, dashed=True, radius=1,
                              text="✗" if less > 14 else "", size=10))
    return shapes


def _rest(y: float, count: int, shared: float, more: float, less: float, scale: float) -> list[str]:
    """All other tokens in one row; both residuals stand one after the other."""
    shapes = [svg.label(TEXT - 22, y + 7, f"{count:,} others", size=12, anchor="end", color=theme.MUTED)]
    width = shared + more + less
    shrink = scale * min(1, BAR / max(width * scale, 1e-9))
    shapes += _pieces(TEXT, y, shared * shrink, more * shrink, 0)
    shapes += _pieces(TEXT + (shared + more) * shrink, y, 0, 0, less * shrink)
    numbers = (f"{shared + more:.3f}", f"{shared + less:.3f}", "")
    return shapes + [svg.label(TEXT + BAR + 62 + 48 * i, y + 7, word, size=11, anchor="end", color=theme.MUTED)
                     for i, word in enumerate(numbers)]


def _totals(shared: float) -> str:
    """p and q as two bars of length 1: the same green in both, and rests of the same length."""
    wide, shapes = WIDTH - 190, []
    for row, (letter, part) in enumerate((("p", MORE), ("q", LESS))):
        y = 4 + row * 22
        shapes.append(svg.label(16, y + 8, f"all of {letter}", size=12, color=theme.MUTED))
        words = f"accepted {shared:.2f}" if row else f"Σ min(p, q) = {shared:.2f}"
        other = f"rejected {1 - shared:.2f}" if row else f"residual {1 - shared:.2f}"
        shapes.append(svg.box(80, y, shared * wide, 16, fill=SHARED, stroke="none", radius=1, size=11,
                              text=words if shared * wide > 130 else ""))
        shapes.append(svg.box(80 + shared * wide, y, (1 - shared) * wide, 16, fill="none" if row else part, size=11,
                              stroke=part if row else "none", dashed=bool(row), radius=1,
                              text=other if (1 - shared) * wide > 92 else ""))
    return svg.drawing(WIDTH, 48, *shapes, title=f"accepted with probability {shared:.3f}")


def _told(pair: Pair, p: Tensor, q: Tensor, played: tuple[int, int | None], chance: Sequence[float]) -> str:
    token, recovered = played
    odds = min(1.0, float(p[token] / q[token]))
    drafted = f"{chance[0]:.2f} drafts {escape(_name(pair, token))} from q; u = {chance[1]:.2f}"
    if recovered is None:
        told = (f"{drafted} &lt; min(1, p/q) = {odds:.2f}: <b>✓ accepted</b> "
                f'<span style="color:{theme.MUTED}">({chance[2]:.2f} is not needed)</span>')
    else:
        told = (f"{drafted} ≥ min(1, p/q) = {odds:.2f}: <b>✗ rejected</b>; {chance[2]:.2f} draws "
                f"<b>↺ {escape(_name(pair, recovered))}</b> from the orange")
    return f'<div style="font:13px/1.5 {theme.FONT}">{told}</div>'


def chart(pair: Pair, place: int, settings: dict[str, Sampling], *, rows: int = 9) -> Chart:
    """The same still: one panel for each named setting, the chance of acceptance written in."""
    first = next(iter(settings.values()))
    top = torch.maximum(*pair.probs(place, first)).topk(rows).indices.tolist()
    fig, axes = theme.figure(1, len(settings), height=0.95 + 0.22 * rows, sharey=True, squeeze=False)
    for ax, (name, sampling) in zip(axes[0], settings.items(), strict=True):
        p, q = (x[top].numpy() for x in pair.probs(place, sampling))
        shared = torch.minimum(*pair.probs(place, sampling)).sum().item()
        both = p.clip(max=q)
        at = range(rows)
        ax.barh(at, both, height=0.7, color=SHARED, label="✓ min(p, q): accepted")
        ax.barh(at, (p - q).clip(min=0), left=both, height=0.7, color=MORE, hatch="//", edgecolor="white", linewidth=0,
                label="↺ p - q: the residual")
        ax.barh(at, (q - p).clip(min=0), left=both, height=0.7, facecolor="none", edgecolor=LESS,
                linestyle=(0, (3, 2)), label="✗ q - p: rejected")
        theme.title(ax, name)
        ax.text(0.98, 0.04, f"accepted with\nprobability {shared:.2f}", transform=ax.transAxes, ha="right", va="bottom",
                fontsize=9)
        ax.set_xlabel("probability")
        ax.tick_params(axis="y", length=0)
    axes[0][0].set_yticks(range(rows), [_name(pair, token) for token in top], family="monospace")
    axes[0][0].invert_yaxis()
    fig.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return Chart(fig, f"p and q of {rows} tokens, {len(settings)} settings")
