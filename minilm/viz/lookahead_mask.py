"""The attention mask of one pass of lookahead decoding: which token reads which, branch by branch.

    widgets.explorer(lambda token: lookahead_mask.view(step, tokenizer, token), token=(0, step.fed - 1, 5))
"""
from dataclasses import dataclass
from html import escape

from minilm.decoding.lookahead import LookaheadPass
from minilm.viz import html, svg, theme

LOOK, VERIFY, ROOT = theme.BLUE, theme.PURPLE, theme.GREY
TINTS = {LOOK: "#9CC8E8", VERIFY: "#EBC4DA", ROOT: "#C8CCD0"}
TOP, NAMES, WORDS, TEXT = 34, 92, 76, 60    # pixels: head, branch names, tokens, the strip for the text before


@dataclass(frozen=True)
class Fed:
    """What one pass fed. tokens[n], parents[n] (-1: none), branch[n]: a name, color[n], depth[n]."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    branch: tuple[str, ...]
    color: tuple[str, ...]
    depth: tuple[int, ...]

    def seen(self, node: int) -> list[int]:
        """Who `node` reads among the fed tokens, itself last."""
        path = []
        while node >= 0:
            path.append(node)
            node = self.parents[node]
        return path[::-1]


def read(step: LookaheadPass) -> Fed:
    """The tokens of a pass in the order fed: the window row by row, then the guesses as one tree."""
    if not step.window:
        raise ValueError("this pass fed no window: take one from the middle of a run")
    width, first = len(step.window[0]), len(step.window) * len(step.window[0])
    tokens = [token for row in step.window for token in row]
    parents = [*range(-1, width - 1), *range(first - width)]
    branch = ["last token"] + [f"window, row {1 + k // width}" for k in range(1, first)]
    color = [ROOT] + [LOOK] * (first - 1)
    chains = 0
    for parent, token in zip(step.parents, step.drafted, strict=True):
        chains += parent < 0 or parent != len(tokens) - first - 1
        parents.append(first + parent if parent >= 0 else 0)
        tokens.append(token)
        branch.append(f"guess {chains}")
        color.append(VERIFY)
    depth: list[int] = []
    for parent in parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    return Fed(tuple(tokens), tuple(parents), tuple(branch), tuple(color), tuple(depth))


def view(step: LookaheadPass, tokenizer, token: int | None = None) -> str:
    """Rows read, columns are read. token: the one to look at, whose row is framed and whose path is spelt out."""
    fed = read(step)
    words, n = html.texts(tokenizer, fed.tokens), len(fed.tokens)
    cell = min(19.0, (theme.PIXELS - NAMES - WORDS - TEXT - 46) / n)
    left = NAMES + WORDS + 32
    shapes = [svg.label(0, 8, "fed in one pass", size=11, bold=True),
              svg.label(left - 6, 24, "position", size=9.5, anchor="end", color=theme.MUTED),
              svg.label(left, 8, "what each reads", size=11, bold=True),
              svg.label(left + TEXT / 2, 24, f"text, {step.context}", size=9.5, anchor="middle", color=theme.MUTED)]
    shapes += _names(fed, cell, left)
    for node in range(n):
        shapes.append(_row(fed, node, words, step.context, cell, left, node == token))
    if token is not None:
        y = TOP + cell * token
        shapes.append(svg.box(NAMES - 2, y - 1, left - NAMES + TEXT + 8 + cell * n, cell + 1, stroke=theme.DARK,
                              radius=2) + svg.box(NAMES - 3, y - 2, left - NAMES + TEXT + 10 + cell * n, cell + 3,
                                                  stroke=theme.YELLOW, radius=3))
    drawing = svg.drawing(theme.PIXELS, TOP + cell * n + 4, *shapes, title="the attention mask of one pass")
    return html.card(drawing + _key() + (_told(fed, words, token, step, tokenizer) if token is not None else ""))


def _names(fed: Fed, cell: float, left: float) -> list[str]:
    """Branch names at the side, and thin lines between the branches, both ways."""
    shapes, n, start = [], len(fed.tokens), 0
    for node in range(1, n + 1):
        if node == n or fed.branch[node] != fed.branch[start]:
            y0, y1 = TOP + cell * start, TOP + cell * node
            color = theme.MUTED if fed.color[start] == ROOT else fed.color[start]
            shapes += [svg.box(NAMES - 7, y0 + 1, 3, y1 - y0 - 2, fill=color, stroke="none", radius=1),
                       svg.label(NAMES - 11, (y0 + y1) / 2, fed.branch[start], size=10, anchor="end")]
            if node < n:
                x = left + TEXT + 4 + cell * node
                shapes += [svg.line(left, y1, left + TEXT + 4 + cell * n, y1, color=theme.RULE, width=0.8),
                           svg.line(x, TOP, x, TOP + cell * n, color=theme.RULE, width=0.8)]
            start = node
    return shapes


def _row(fed: Fed, node: int, words: list[str], held: int, cell: float, left: float, framed: bool) -> str:
    y = TOP + cell * node
    shapes = [svg.label(NAMES, y + cell / 2, html.short(words[node], 10), size=min(10.5, cell - 2), mono=True,
                        bold=framed),
              svg.label(left - 6, y + cell / 2, f"{held + fed.depth[node]}", size=min(9.5, cell - 2), anchor="end",
                        color=theme.MUTED),
              svg.box(left, y + 0.5, TEXT, cell - 1, fill=TINTS[ROOT], stroke="none", radius=1)]
    for other in fed.seen(node):
        mine, x = other == node, left + TEXT + 4 + cell * other
        fill = fed.color[other] if mine else TINTS[fed.color[other]]
        shapes.append(svg.box(x + 0.5, y + 0.5, cell - 1, cell - 1, fill=fill, stroke="none", radius=1))
        shapes.append(svg.circle(x + cell / 2, y + cell / 2, 1.7, stroke="none",
                                 fill=theme.LIGHT if mine else fed.color[other]))
    return (f"<g><title>{escape(fed.branch[node])}: {escape(html.visible(words[node]))} reads the text and "
            f"{len(fed.seen(node))} of the tokens fed</title>{''.join(shapes)}</g>")


def _told(fed: Fed, words: list[str], token: int, step: LookaheadPass, tokenizer) -> str:
    path = "".join(html.chip(words[node], color=TINTS[fed.color[node]] if node != token else theme.YELLOW)
                   for node in fed.seen(token))
    first = len(step.window) * len(step.window[0])
    newest = token - (first - len(step.window[0]))
    says = ""
    if 0 <= newest < len(step.renewed):
        says = f"names {html.chip(html.texts(tokenizer, [step.renewed[newest]])[0], color=theme.role('current').color)}"
    elif 0 < token < first:
        says = "is only read: nobody asks what it names"
    elif token:
        says = "says whether the guess goes on rightly"
    small = f"font:12px {theme.FONT};color:{theme.MUTED}"
    return (f'<div style="display:flex;flex-wrap:wrap;gap:4px;align-items:center;margin-top:6px"><span style="{small}">'
            f'{escape(fed.branch[token])} reads the text and</span>{path}<span style="{small}">{says}</span></div>')


def _key() -> str:
    def one(color: str, words: str) -> str:
        block = "".join(f'<span style="display:inline-block;width:13px;height:13px;background:{fill};margin-right:2px">'
                        "</span>" for fill in (TINTS[color], color))
        return f"<span>{block} {words}</span>"
    return (f'<div style="display:flex;flex-wrap:wrap;gap:16px;font:12px {theme.FONT};color:{theme.MUTED}">'
            + one(LOOK, "lookahead branch: read, itself") + one(VERIFY, "verification branch: read, itself")
            + one(ROOT, "text and its last token: read by all") + "</div>")
