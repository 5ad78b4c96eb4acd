"""Charts of drafters: which wins for which kind of prompt, how good the look-ahead heads are, what rows cost."""
import math
from collections.abc import Callable, Sequence
from html import escape

import torch

from minilm.decoding.proposers.blockwise import choose_tree
from minilm.text import counted
from minilm.viz import html, svg, theme, token_tree
from minilm.viz.picture import Chart

SHADES = (0.95, 0.72, 0.55, 0.42, 0.32, 0.24, 0.18, 0.12, 0.08, 0.05)


def table(values: dict[str, dict[str, float]], *, unit: str = "", best: float | None = None, even: float = 1.0,
          caption: str = "") -> str:
    """One row a drafter, one column a kind of prompt. The larger the deeper; ★ the best of a column; ✗ below `even`.

    values: name -> kind -> number.  best: the number of the deepest colour (default: the largest).
    """
    kinds = list(next(iter(values.values())))
    most = best or max(max(row.values()) for row in values.values())
    winner = {kind: max(row[kind] for row in values.values()) for kind in kinds}
    rows = []
    for name, row in values.items():
        cells = [html.cell(name, mono=False, align="left", size=13)]
        for kind in kinds:
            share = (row[kind] - even) / max(most - even, 1e-9)
            mark = " ★" if row[kind] == winner[kind] else " ✗" if row[kind] < even else ""
            color = theme.confidence(min(max(share, 0), 1)) if row[kind] >= even else theme.diverging(-0.45)
            cells.append(html.cell(f"{row[kind]:.2f}{unit}{mark}", color=color, bold=row[kind] == winner[kind], size=13,
                                   width=78))
        rows.append(cells)
    return html.table(rows, ["", *kinds], caption=caption)


def accuracy_chart(accuracy: torch.Tensor, *, others: dict[str, Sequence[float]] | None = None) -> Chart:
    """How often each head's first, first two, ... first R guesses hold the token: one bar a head, a shade a rank.

    others: name -> top-1 accuracies published for other models' heads, drawn as triangles over the bars.
    """
    K, R = accuracy.shape
    fig, ax = theme.figure(height=0.9 + 0.5 * K)
    for k, row in enumerate(accuracy.tolist()):
        at = 0.0
        for rank, share in enumerate(row):
            color = theme.confidence(SHADES[min(rank, len(SHADES) - 1)])
            ax.barh(k, share, left=at, color=color, edgecolor="white", linewidth=0.8, height=0.66)
            if share > 0.035:
                ax.text(at + share / 2, k, f"{share:.0%}" if rank else f"best guess {share:.0%}", ha="center",
                        va="center", fontsize=8, color=theme.ink(color))
            at += share
        theme.label(ax, at, k, f"{at:.0%} in {R}")
    for name, shares in (others or {}).items():
        ax.plot(list(shares)[:K], [k - 0.43 for k in range(min(K, len(shares)))], "v", color=theme.VERMILLION,
                markersize=6)
        theme.label(ax, shares[0], -0.43, f"best guess of {name}", theme.VERMILLION, dx=7, fontsize=8)
    ax.set(yticks=range(K), yticklabels=[f"head {k + 1}: {k + 2} places on" for k in range(K)], xlim=(0, 1.08),
           xlabel="share of places at which the token is the head's guess of rank 1, 2, 3, ...")
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
    ax.set_ylim(K - 0.45, -0.75)
    ax.tick_params(axis="y", length=0)
    return Chart(fig, f"accuracy of {K} heads by rank")


def chances(accuracy: torch.Tensor, paths: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], float]:
    """What `choose_tree` takes a path's chance to be: the product of its guesses' accuracies."""
    out: dict[tuple[int, ...], float] = {}
    for path in sorted(paths, key=len):
        out[path] = out.get(path[:-1], 1.0) * float(accuracy[len(path) - 1, path[-1]])
    return out


def budget_frames(accuracy: torch.Tensor, measured: Callable[[list[tuple[int, ...]]], float],
                  budgets: Sequence[int]) -> list[str]:
    """For each node budget: the best tree, and tokens a pass as expected (1 + Σ chances) and as `measured`(paths)."""
    trees = [choose_tree(accuracy, nodes) for nodes in budgets]
    hoped = [1 + sum(chances(accuracy, tree).values()) for tree in trees]
    found = [measured(tree) for tree in trees]
    out = []
    for i, tree in enumerate(trees):
        head = (f'<div style="font:13px {theme.FONT};margin-bottom:4px"><b>{counted(budgets[i], "node")}</b>: '
                f"expected {hoped[i]:.2f} tokens a pass, measured {found[i]:.2f}</div>")
        out.append(html.card(head + token_tree.shape(tree, chances(accuracy, tree))
                             + _curve(budgets, hoped, found, i)))
    return out


def _curve(budgets: Sequence[int], hoped: Sequence[float], found: Sequence[float], now: int) -> str:
    """Tokens a pass against nodes, with the budget at hand marked."""
    left, right, top, bottom = 60, theme.PIXELS - 110, 14, 150
    low, high = 1.0, 1 + 0.5 * math.ceil(2 * (max(*hoped, *found) - 1) - 1e-9)
    x = lambda n: left + (right - left) * n / max(budgets)                                  # noqa: E731
    y = lambda t: bottom - (bottom - top) * (t - low) / max(high - low, 1e-9)               # noqa: E731
    shapes = [svg.label(left, 4, "tokens a pass", size=11, bold=True)]
    for tick in (low + 0.5 * step for step in range(round(2 * (high - low)) + 1)):
        shapes += [svg.line(left, y(tick), right, y(tick), color=theme.RULE, width=0.8),
                   svg.label(left - 8, y(tick), f"{tick:g}", size=10, anchor="end", color=theme.MUTED)]
    for n in budgets:
        if n in (1, 8, 16, 32, 48, 63, 64):
            shapes.append(svg.label(x(n), bottom + 12, f"{n}", size=10, anchor="middle", color=theme.MUTED))
    shapes.append(svg.label(right + 22, bottom + 12, "nodes", size=10, color=theme.MUTED))
    shapes.append(svg.line(x(budgets[now]), top, x(budgets[now]), bottom, color=theme.MUTED, dashed=True))
    shapes.append(svg.path([(x(n), y(t)) for n, t in zip(budgets, hoped, strict=True)], color=theme.MUTED, dashed=True))
    shapes.append(svg.path([(x(n), y(t)) for n, t in zip(budgets, found, strict=True)], color=theme.BLUE, width=2.2))
    shapes += [svg.circle(x(n), y(t), 2.5, fill=theme.BLUE, stroke="none")
               for n, t in zip(budgets, found, strict=True)]
    shapes += [svg.circle(x(budgets[now]), y(found[now]), 6, stroke=theme.VERMILLION, width=2)]
    apart = 0 if abs(y(hoped[-1]) - y(found[-1])) > 13 else 7
    sign = 1 if hoped[-1] >= found[-1] else -1
    shapes += [svg.label(right + 8, y(hoped[-1]) - sign * apart, "expected", size=11, color=theme.MUTED),
               svg.label(right + 8, y(found[-1]) + sign * apart, "measured", size=11, color="#3B8FCB", bold=True)]
    return svg.drawing(theme.PIXELS, bottom + 22, *shapes, title="tokens a pass against nodes")


def rows_chart(rows: Sequence[int], seconds: Sequence[float], tokens: dict[int, float]) -> Chart:
    """Left: a pass over some rows, in passes over one. Right: what that leaves of a tree's tokens.

    rows, seconds: measured passes; the first is over one row.  tokens: nodes -> tokens a pass of the best tree.
    """
    cost = {n: s / seconds[0] for n, s in zip(rows, seconds, strict=True)}
    fig, (left, right) = theme.figure(1, 2, height=2.9)
    left.plot(list(cost), list(cost.values()), **theme.ours(theme.VERMILLION))
    left.axhline(1, **theme.limit())
    theme.label(left, rows[-1], cost[rows[-1]], f"{cost[rows[-1]]:.1f}×", theme.VERMILLION)
    left.set(xlabel="rows in a pass", ylabel="time, in passes over one row", ylim=(0, None), xlim=(0, rows[-1] * 1.15),
             xticks=_apart(rows))
    theme.title(left, "The price of a row")
    nodes = [n for n in tokens if n + 1 in cost]
    gain = [tokens[n] / cost[n + 1] for n in nodes]
    right.plot(nodes, [tokens[n] for n in nodes], **theme.paper(theme.GREY))
    right.plot(nodes, gain, **theme.ours(theme.BLUE))
    right.axhline(1, **theme.limit())
    theme.label(right, nodes[-1], tokens[nodes[-1]], "tokens\na pass", theme.GREY)
    theme.label(right, nodes[-1], gain[-1], "tokens in\nthe time of\none pass", theme.BLUE)
    right.set(xlabel="nodes of the tree", ylim=(0, None), xlim=(0, nodes[-1] * 1.3), xticks=_apart(nodes))
    theme.title(right, "What is left")
    return Chart(fig, f"cost of {len(rows)} numbers of rows")


def _apart(numbers: Sequence[int]) -> list[int]:
    """Those that leave room for their labels on an axis."""
    out: list[int] = []
    for n in numbers:
        if not out or n - out[-1] >= numbers[-1] / 9:
            out.append(n)
    return out


def exit_frame(tokens: dict[tuple[int, int], float], predicted: dict[tuple[int, int], float], length: int,
               kinds: str = "") -> str:
    """Self-speculation with drafts of `length`: tokens a pass and predicted speed-up over the exit layer, as bars.

    tokens, predicted: (exit layer, length) -> number.
    """
    layers = sorted({layer for layer, _ in tokens})
    left, top, h, wide = 70, 26, 17, 250
    most = max(tokens.values())
    fast = max(predicted.values())
    best = max(layers, key=lambda layer: predicted[layer, length])
    middle = left + wide + 90
    shapes = [svg.label(left, 8, f"tokens a pass{kinds}", size=11, bold=True),
              svg.label(middle, 8, "speed-up that the bytes allow", size=11, bold=True)]
    for row, layer in enumerate(layers):
        y = top + row * h
        number, factor = tokens[layer, length], predicted[layer, length]
        shapes += [svg.label(left - 8, y + h / 2, f"exit {layer}", size=10.5, anchor="end", color=theme.MUTED),
                   svg.box(left, y + 2, wide * number / most, h - 4, fill=theme.BLUE, stroke="none", radius=1),
                   svg.label(left + wide * number / most + 6, y + h / 2, f"{number:.2f}", size=10.5),
                   svg.box(middle, y + 2, wide * factor / fast * 0.85, h - 4, stroke="none", radius=1,
                           fill=theme.GREEN if factor >= 1 else theme.VERMILLION),
                   svg.label(middle + wide * factor / fast * 0.85 + 6, y + h / 2, size=10.5, bold=layer == best,
                             text=f"{factor:.2f}×" + (" ★" if layer == best else " ✗" if factor < 1 else ""))]
    one = middle + wide / fast * 0.85
    shapes.append(svg.line(one, top - 4, one, top + len(layers) * h, color=theme.MUTED, dashed=True))
    return html.card(svg.drawing(theme.PIXELS, top + len(layers) * h + 6, *shapes,
                                 title=f"exit layers with drafts of {length}"))


def lengths_chart(rounds: dict[str, dict[str, Sequence[tuple[int, int]]]], *, first: int = 24) -> str:
    """Draft lengths as they adapt, as (drafted, accepted) a round: text -> way -> rounds. A panel each, texts side by
    side; a column is a round, filled as far as its drafts were accepted."""
    ways = list(next(iter(rounds.values())))
    highest = {way: max(drafted for strips in rounds.values() for drafted, _ in list(strips[way])[:first])
               for way in ways}
    cells = []
    for way in ways:
        for text, strips in rounds.items():
            told = (f"{text}, {way}: {len(strips[way])} rounds, {sum(d for d, _ in strips[way])} drafted, "
                    f"{sum(a for _, a in strips[way])} accepted")
            cells.append(f'<div style="align-self:end"><div style="font:12px {theme.FONT}">{escape(told)}</div>'
                         + _strip(list(strips[way])[:first], highest[way], told) + "</div>")
    note = (f'<div style="font:12px {theme.FONT};color:{theme.MUTED}">a column is a round: filled boxes are accepted '
            "drafts, open ones rejected</div>")
    grid = f'display:grid;grid-template-columns:repeat({len(rounds)},1fr);gap:10px 20px;max-width:{theme.PIXELS}px'
    return html.card(f'<div style="{grid}">{"".join(cells)}</div>{note}')


def _strip(strip: Sequence[tuple[int, int]], highest: int, title: str) -> str:
    cell, w, shapes = 6, 13, []
    foot = highest * cell + 2
    for r, (drafted, accepted) in enumerate(strip):
        for i in range(drafted):
            ok = i < accepted
            shapes.append(svg.box(r * w + 1, foot - (i + 1) * cell, w - 3, cell - 1.5, radius=1,
                                  fill=theme.GREEN if ok else "none", stroke="none" if ok else theme.VERMILLION))
    shapes.append(svg.line(0, foot, len(strip) * w, foot, color=theme.RULE, width=1))
    return svg.drawing(len(strip) * w + 4, foot + 3, *shapes, title=title)
