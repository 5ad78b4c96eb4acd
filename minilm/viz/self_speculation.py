"""Self-speculation as a grid of layers and tokens: which layers run while drafting, which while verifying, and when.

`frames` replays a run of `speculative` with `SelfSpeculative` step by step: each draft, the verification, what stays.
"""
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.generation import Generation
from minilm.viz import html, svg, theme

HELD, DRAFTS, VERIFIES = "#C8CCD0", theme.ORANGE, theme.BLUE
BEFORE = 3                                      # columns for the text before the round


@dataclass(frozen=True)
class Round:
    """One round: `before`, the last words held; `fed`, the text's last token and the drafts; how many were accepted;
    `said`, the tokens that came out."""

    number: int
    held: int
    before: tuple[str, ...]
    fed: tuple[str, ...]
    accepted: int
    said: tuple[str, ...]


def rounds(generation: Generation, prompt: Sequence[int], tokenizer) -> list[Round]:
    """The rounds of a run, with the texts of their tokens."""
    out, text = [], list(prompt)
    for n, step in enumerate(generation.trace):
        if n:
            out.append(Round(n, step.context, tuple(html.texts(tokenizer, text[-BEFORE - 1 : -1])),
                             tuple(html.texts(tokenizer, [text[-1], *step.drafted])), len(step.accepted),
                             tuple(html.texts(tokenizer, step.emitted))))
        text += step.emitted
    return out


def frames(told: Sequence[Round], exit_layer: int, num_layers: int) -> tuple[list[str], list[str]]:
    """(pictures, captions): for each round its drafts one by one, then the verification, then what stays."""
    pictures, captions = [], []
    for one in told:
        drafts = len(one.fed) - 1
        for phase in range(1, drafts + 3):
            pictures.append(grid(one, exit_layer, num_layers, phase))
            captions.append(f"<b>round {one.number}</b>: " + _words(one, phase, exit_layer, num_layers))
    return pictures, captions


def _words(one: Round, phase: int, E: int, L: int) -> str:
    drafts = len(one.fed) - 1
    if phase <= drafts:
        return f"draft {phase} of {drafts}: layers 1 to {E} read “{_escape(one.fed[phase - 1])}”"
    if phase == drafts + 1:
        last = f"layers 1 to {E} read the last draft, then " if drafts else ""
        return f"verify: {last}layers {E + 1} to {L} take up all {drafts + 1} states in one pass"
    return f"keep {one.accepted} of {drafts} drafts and the model's own next token"


def _escape(text: str) -> str:
    return html.visible(text).replace("&", "&amp;").replace("<", "&lt;")


def grid(one: Round, exit_layer: int, num_layers: int, phase: int | None = None) -> str:
    """A round after `phase` steps (default: all): drafts 1 to n, n + 1 the verification, n + 2 what stays."""
    E, L, n = exit_layer, num_layers, len(one.fed) - 1
    phase = n + 2 if phase is None else phase
    w, h, left, top = 78, 11 if L <= 16 else 7, 76, 46
    columns = len(one.before) + len(one.fed)
    x = lambda column: left + column * w + (8 if column >= len(one.before) else 0)          # noqa: E731
    y = lambda layer: top + (L - layer) * h                                                 # noqa: E731
    shapes = [svg.label(left - 8, y(layer) + h / 2, f"layer {layer}", size=10, anchor="end", color=theme.MUTED)
              for layer in (1, E, E + 1, L)]
    for column, word in enumerate(one.before):
        shapes += [svg.box(x(column) + 2, y(layer) + 1, w - 4, h - 2, fill=HELD, stroke="none", radius=1)
                   for layer in range(1, L + 1)]
        shapes.append(_text(word, x(column) + w / 2, top + L * h + 12, color=theme.MUTED))
    for i, word in enumerate(one.fed):
        shapes.append(_column(one, i, word, x(len(one.before) + i), y, w, h, E, L, phase))
    shapes.append(svg.line(left, y(E) - 0.5, x(columns - 1) + w, y(E) - 0.5, color=theme.TEXT, width=1, dashed=True))
    shapes.append(svg.label(left - 8, top + L * h + 12, "reads", size=10, anchor="end", color=theme.MUTED))
    shapes.append(svg.label(left - 8, top - 10, "verified", size=10, anchor="end", color=theme.MUTED))
    shapes.append(svg.label(left - 8, top - 28, "drafted", size=10, anchor="end", color=theme.MUTED))
    return html.card(svg.drawing(theme.PIXELS + 20, top + L * h + 24, *shapes, title="layers and tokens of one round")
                     + _key(E, L))


def _column(one: Round, i: int, word: str, x: float, y, w: float, h: float, E: int, L: int, phase: int) -> str:
    """Fed token i: orange where drafting ran it, blue where verifying did, outlines where nothing ran yet."""
    n = len(one.fed) - 1
    gone = phase == n + 2 and i > one.accepted
    drafted, verified = i < min(phase, n), phase > n
    out = []
    for layer in range(1, L + 1):
        ran = verified or (drafted and layer <= E)
        color = DRAFTS if layer <= E and i < n else VERIFIES
        fill = "none" if not ran else color + ("38" if gone else "")
        out.append(svg.box(x + 2, y(layer) + 1, w - 4, h - 2, fill=fill, radius=1,
                           stroke=theme.RULE if not ran else "none"))
        if ran and not gone:                                    # when it ran, for those who see no colours
            mark = f"{i + 1}" if color == DRAFTS else "v"
            if layer in (1, E + 1):
                out.append(svg.label(x + w / 2, y(layer) + h / 2, mark, size=min(10, h), anchor="middle", bold=True,
                                     color=theme.ink(color)))
    shown = i == 0 or i < phase + 1
    if shown:
        out.append(_text(word, x + w / 2, y(1) + h + 12, strike=gone))
    if i < n and i < phase:
        out.append(svg.box(x + 3, y(L) - 37, w - 6, 15, stroke=DRAFTS))
        out.append(_text(one.fed[i + 1], x + w / 2, y(L) - 29))
    if phase > n and i < len(one.said):
        role = theme.role("accepted" if i < one.accepted else "recovered" if one.accepted < n else "bonus")
        said = html.short(one.said[i], 9)
        out.append(svg.box(x + 3, y(L) - 20, w - 6, 16, fill=role.color, stroke="none", size=10.5, mono=True,
                           text=role.mark + said))
    elif phase > n:
        out.append(svg.label(x + w / 2, y(L) - 12, "✗", size=11, anchor="middle", color=theme.VERMILLION))
    return "<g>" + "".join(out) + "</g>"


def _text(text: str, x: float, y: float, *, color: str = theme.TEXT, strike: bool = False) -> str:
    word = svg.label(x, y, html.short(text, 10), size=10.5, anchor="middle", mono=True,
                     color=theme.VERMILLION if strike else color)
    wide = 3.2 * min(len(html.visible(text)), 10)
    return word + (svg.line(x - wide, y, x + wide, y, color=theme.VERMILLION, width=1) if strike else "")


def _key(E: int, L: int) -> str:
    """What the colours mean."""
    items = ((HELD, "", "held in the cache"), (DRAFTS, "1", f"drafting: layers 1–{E}, one pass a number"),
             (VERIFIES, "v", f"verifying: layers {E + 1}–{L}, one pass"))
    spans = "".join(f'<span><span style="display:inline-block;width:16px;height:14px;background:{color};'
                    f'color:{theme.ink(color)};font:bold 11px/14px {theme.FONT};text-align:center">{mark or "&nbsp;"}'
                    f"</span> {words}</span>" for color, mark, words in items)
    return (f'<div style="display:flex;flex-wrap:wrap;gap:16px;font:12px {theme.FONT};color:{theme.MUTED};'
            f'margin-top:4px">{spans}</div>')
