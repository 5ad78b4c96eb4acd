"""A tree of guesses with its attention mask beside it, and the trees that a node budget buys.

In `draw` each fed token has one row: its place in the tree at the left, what it sees at the right. Rows stand branch by
branch; the pass itself feeds shallow nodes first, which changes nothing, since mask and positions go with the tokens.
"""
from collections.abc import Sequence
from html import escape

from minilm.decoding.speculative import SpeculativePass
from minilm.generation import Generation
from minilm.text import counted
from minilm.viz import html, svg, theme

SEES, MINE = "#9CC8E8", "#0072B2"           # an ancestor, the token itself
WORD, STEP, TEXT_WIDTH = 74, 82, 92         # pixels: a token's box, one depth, the strip for the text so far


def frames(generation: Generation, prompt: Sequence[int], tokenizer) -> list[str]:
    """One picture for each round of a run of `speculative` that drafted a tree (the others are left out)."""
    out, written = [], list(prompt)
    for n, step in enumerate(generation.trace):
        if isinstance(step, SpeculativePass) and step.parents is not None:
            root = html.texts(tokenizer, written[-1:])[0]
            last = step.emitted[len(step.accepted):]
            before = tokenizer.decode(written[-14:]).replace("\n", " ")[-44:]
            out.append(html.card(
                f'<div style="font:13px {theme.FONT};margin-bottom:6px;white-space:nowrap;overflow:hidden">'
                f'<b>round {n}</b>: {len(step.drafted)} guesses, {len(step.accepted)} accepted, '
                f'{counted(len(step.emitted), "token")} more '
                f'<span style="color:{theme.MUTED}">after “…{escape(before)}”</span>'
                "</div>"
                + draw(html.texts(tokenizer, step.drafted), step.parents, step.accepted, root=root, held=step.context,
                       last=html.texts(tokenizer, last)[0] if last else "")))
        written += step.emitted
    return out


def draw(tokens: Sequence[str], parents: Sequence[int], accepted: Sequence[int] = (), *, root: str, held: int,
         last: str = "") -> str:
    """The tree of `tokens` after `root`, the text's last token, with the mask; `held` tokens are in the cache.

    accepted: the nodes kept.  last: the token that the target adds after them.
    """
    order = _depth_first(parents)
    row = {node: r for r, node in enumerate(order)}                         # node -1, the root, is row 0
    depth = _depths(parents)
    h = 22 if len(order) <= 18 else 15
    mask_left = 26 + STEP * max(depth.values()) + WORD + 46
    cell = min(h, (theme.PIXELS - mask_left - TEXT_WIDTH - 8) / len(order))
    top, shapes = 34, []
    path = {-1, *accepted}
    shapes += _heads(mask_left, TEXT_WIDTH, cell, len(order), held)
    for node in order:
        y = top + row[node] * h
        if node >= 0:
            shapes.append(_branch(node, parents[node], row, depth, top, h, node in path))
    for node in order:
        y, kept = top + row[node] * h, node in path
        text = root if node < 0 else tokens[node]
        shapes.append(svg.label(16, y + h / 2, f"{row[node]}", size=10, anchor="end", color=theme.MUTED))
        shapes.append(_word(text, 26 + STEP * depth[node], y, h, node, kept))
        shapes.append(svg.label(mask_left - 12, y + h / 2, f"{held + depth[node]}", size=10, anchor="end",
                                color=theme.MUTED))
        shapes.append(_row(node, parents, row, mask_left, y, h, cell, kept, text))
    if last:
        end = accepted[-1] if accepted else -1
        shapes.append(_last(last, depth[end] + 1, top + len(order) * h, max(depth.values()), end in parents))
    return svg.drawing(theme.PIXELS, top + len(order) * h + (h + 8 if last else 4), *shapes,
                       title="a tree of guesses and its attention mask") + _key()


def _heads(left: float, strip: float, cell: float, count: int, held: int) -> list[str]:
    """The titles over the columns."""
    out = [svg.label(26, 10, "fed in one pass", size=11, bold=True),
           svg.label(left - 12, 24, "position", size=10, anchor="end", color=theme.MUTED),
           svg.label(left, 10, "what each sees", size=11, bold=True),
           svg.label(left + strip / 2, 24, f"text, {held} tokens", size=10, anchor="middle", color=theme.MUTED)]
    if cell >= 11:
        out += [svg.label(left + strip + 4 + cell * (r + 0.5), 24, f"{r}", size=9, anchor="middle", color=theme.MUTED)
                for r in range(count)]
    return out


def _branch(node: int, parent: int, row: dict, depth: dict, top: float, h: float, kept: bool) -> str:
    """An elbow from the parent's box to the node's."""
    x = 26 + STEP * depth[parent] + 14
    y0, y1 = top + (row[parent] + 1) * h - 2, top + (row[node] + 0.5) * h
    return svg.path([(x, y0), (x, y1), (26 + STEP * depth[node], y1)], width=2.5 if kept else 1,
                    color=theme.GREEN if kept else theme.RULE)


def _word(text: str, x: float, y: float, h: float, node: int, kept: bool) -> str:
    """A token's box, in its role's colour."""
    role = theme.role("accepted" if kept else "rejected")
    word = html.short(text, 9) if node < 0 else role.mark + html.short(text, 8)
    fill = theme.role("prompt").color if node < 0 else role.color if kept else "none"
    stroke = "none" if kept else theme.VERMILLION
    box = svg.box(x, y + 2, WORD, h - 4, fill=fill, stroke=stroke, dashed=not kept, text=word, mono=True,
                  size=min(11.5, h - 5))
    return f"<g><title>{escape(html.visible(text))}</title>{box}</g>"


def _row(node: int, parents: Sequence[int], row: dict, left: float, y: float, h: float, cell: float, kept: bool,
         text: str) -> str:
    """One row of the mask: the whole text, then the fed tokens, of which only ancestors and itself are seen."""
    seen, at = {node}, node
    while at >= 0:
        at = parents[at]
        seen.add(at)
    cells = [svg.box(left, y + 1, TEXT_WIDTH, h - 2, fill=SEES, stroke="none", radius=1)]
    if kept:
        cells.append(svg.box(left - 5, y + 1, 3, h - 2, fill=theme.GREEN, stroke="none", radius=1))
    for other, r in row.items():
        x = left + TEXT_WIDTH + 4 + cell * r
        if other in seen:
            mine = other == node
            cells.append(svg.box(x + 0.5, y + 1, cell - 1, h - 2, fill=MINE if mine else SEES, stroke="none", radius=1))
            cells.append(svg.circle(x + cell / 2, y + h / 2, 1.8, fill=theme.LIGHT if mine else MINE, stroke="none"))
        else:
            cells.append(svg.box(x + 0.5, y + 1, cell - 1, h - 2, stroke=theme.RULE, radius=1))
    return f"<g><title>{escape(html.visible(text))} sees {len(seen)} of the tokens fed</title>{''.join(cells)}</g>"


def _last(text: str, depth: int, y: float, deepest: int, recovered: bool) -> str:
    """The target's own token, under the tree."""
    role = theme.role("recovered" if recovered else "bonus")
    x = 26 + STEP * min(depth, deepest)
    box = svg.box(x, y + 4, WORD, 18, fill=role.color, stroke="none", size=11.5, mono=True,
                  text=role.mark + html.short(text, 8))
    side = (x - 6, "end") if depth > 1 else (x + WORD + 6, "start")
    return box + svg.label(side[0], y + 13, "the model's own", size=10, anchor=side[1], color=theme.MUTED)


def _key() -> str:
    """What the cells mean; the tokens' marks are the usual ones."""
    def cell(color: str, dot: str, words: str) -> str:
        style = f"display:inline-block;width:14px;height:14px;border:1px solid {theme.RULE};background:{color}"
        dot = f'<span style="color:{dot}">•</span>' if dot else "&nbsp;"
        font = f"font:bold 13px/13px {theme.FONT};text-align:center"
        return f'<span><span style="{style};{font}">{dot}</span> {words}</span>'
    cells = cell(MINE, theme.LIGHT, "itself") + cell(SEES, MINE, "an ancestor") + cell("transparent", "", "not seen")
    return (f'<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:center;font:12px {theme.FONT};'
            f'color:{theme.MUTED}">{html.key("accepted", "rejected", "recovered", "bonus")}{cells}</div>')


def _depths(parents: Sequence[int]) -> dict[int, int]:
    """How many steps each node stands after the text's last token, which is node -1."""
    depth = {-1: 0}
    for node, parent in enumerate(parents):
        depth[node] = depth[parent] + 1
    return depth


def _depth_first(parents: Sequence[int]) -> list[int]:
    """The nodes branch by branch, -1 first."""
    out, open_nodes = [], [-1]
    while open_nodes:
        node = open_nodes.pop()
        out.append(node)
        open_nodes += [child for child in reversed(range(len(parents))) if parents[child] == node]
    return out


# --- what a budget buys ----------------------------------------------------------------------------------------------

def shape(paths: Sequence[tuple[int, ...]], chances: dict[tuple[int, ...], float], *, height: float = 190) -> str:
    """A tree of ranks from the top down; a node's number is its rank, 1 the best; the deeper, the likelier its path."""
    paths = sorted(map(tuple, paths))
    leaves = [p for p in paths if not any(q[:-1] == p for q in paths)]
    gap = (theme.PIXELS - 90) / max(len(leaves), 1)
    deepest = max(map(len, paths))
    x = {leaf: 60 + gap * (i + 0.5) for i, leaf in enumerate(leaves)}
    for path in sorted(paths, key=len, reverse=True):
        if path not in x:
            below = [x[q] for q in paths if q[:-1] == path]
            x[path] = sum(below) / len(below)
    x[()] = sum(x[p] for p in paths if len(p) == 1) / sum(len(p) == 1 for p in paths)
    step = (height - 34) / 4
    y = lambda path: 16 + step * len(path)  # noqa: E731
    radius = max(5.5, min(9, gap / 2 - 1))
    shapes = [svg.label(4, 16, "text", size=10, color=theme.MUTED)]
    shapes += [svg.label(4, 16 + step * d, f"head {d}", size=10, color=theme.MUTED) for d in range(1, deepest + 1)]
    shapes += [svg.line(x[p[:-1]], y(p[:-1]), x[p], y(p), color=theme.RULE, width=1 + 3 * chances[p]) for p in paths]
    shapes.append(svg.circle(x[()], 16, radius, fill=theme.role("prompt").color))
    for p in paths:
        color = theme.confidence(min(chances[p], 1.0) ** 0.6)
        told = f"guess {p[-1] + 1} of head {len(p)}, right with all before it: {chances[p]:.1%}"
        number = svg.label(x[p], y(p), f"{p[-1] + 1}", size=min(10, radius + 2), anchor="middle",
                           color=theme.ink(color))
        shapes.append(f"<g><title>{told}</title>{svg.circle(x[p], y(p), radius, fill=color)}{number}</g>")
    return svg.drawing(theme.PIXELS, height, *shapes, title=f"a tree of {len(paths)} nodes")
