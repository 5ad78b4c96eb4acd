"""The trie of Lookahead (Zhao et al.) at work: the path that the text's end matched, what the trie knows after it.

    watched = trie_view.watch(Trie(12, branch=5, match=3))
    run = speculative(model, prompt, 40, watched)
    widgets.player(trie_view.frames(watched, run, tokenizer), label="round")

`watch` notes what is looked up in each round, so that pictures need no second run.
"""
from dataclasses import dataclass
from html import escape

from minilm.decoding.proposers.trie import Trie
from minilm.generation import Generation
from minilm.viz import draft_nodes, html, svg, theme

SHOWN = 14                                  # nodes of the trie in a picture


@dataclass(frozen=True)
class Look:
    """One look-up. matched[k]: the text's end that was found.

    counts[k], others[k]: how often it was seen up to there, and how many other tokens were seen in its place.

    tokens[n], parents[n], seen[n]: what the trie knows after the match, best first; drafted[n]: whether proposed.
    length: of the text at that moment.  size: the trie's nodes.
    """

    length: int
    matched: tuple[int, ...]
    counts: tuple[float, ...]
    others: tuple[int, ...]
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    seen: tuple[float, ...]
    drafted: tuple[int, ...]
    more: int
    size: int


def watch(trie: Trie) -> Trie:
    """The same trie; from now on it notes its look-ups of the current text in `trie.looks`."""
    trie.looks = []
    start, propose = trie.start, trie.propose

    def started(model, cache):
        trie.looks.clear()
        start(model, cache)

    def proposed(text, limit, *rest):
        draft = propose(text, limit, *rest)
        trie.looks.append(look(trie, draft, min(trie.branch, limit)))
        return draft

    trie.start, trie.propose = started, proposed
    return trie


def look(trie: Trie, draft, reach: int) -> Look:
    """What the trie knows after the text as far as read, and which of it `draft` proposes."""
    end = trie.longest_end()
    if end is None:
        return Look(trie.read, (), (), (), (), (), (), (), 0, trie.size)
    path, node = [], end
    while node.parent is not None:
        path.append(node)
        node = node.parent
    path.reverse()
    below, frontier = [], [(child, -1) for child in end.children.values()]
    while frontier:                                             # all nodes within reach, parents before children
        frontier.sort(key=lambda pair: pair[0].rank)
        node, parent = frontier.pop(0)
        below.append((node, parent))
        if node.depth - end.depth < reach:
            frontier += [(child, len(below) - 1) for child in node.children.values()]
        if len(below) >= 400:
            break
    parents = range(-1, len(draft.tokens) - 1) if draft.parents is None else draft.parents
    where: dict[tuple[int, int], int] = {}                      # (parent, token) -> index in below
    for i, (node, parent) in enumerate(below):
        where[parent, node.token] = i
    proposed: list[int] = []
    for token, parent in zip(draft.tokens, parents, strict=True):
        proposed.append(where[-1 if parent < 0 else proposed[parent], token])
    keep = sorted({*proposed, *range(min(SHOWN, len(below)))})[: max(SHOWN, len(proposed))]
    keep = sorted({*proposed, *keep})
    place = {old: new for new, old in enumerate(keep)} | {-1: -1}
    return Look(trie.read, tuple(n.token for n in path), tuple(n.count for n in path),
                tuple(len(n.parent.children) - 1 for n in path), tuple(below[i][0].token for i in keep),
                tuple(place[below[i][1]] for i in keep), tuple(below[i][0].count for i in keep),
                tuple(place[i] for i in proposed), len(below) - len(keep), trie.size)


def frames(trie: Trie, generation: Generation, tokenizer) -> list[str]:
    """One picture for each look-up of the last run with a watched trie."""
    passes = {step.context + 1: step for step in generation.trace}
    return [_frame(n, one, passes[one.length], tokenizer) for n, one in enumerate(trie.looks, start=1)]


def _frame(n: int, one: Look, step, tokenizer) -> str:
    told = "the text's end was never seen before: nothing proposed"
    if one.matched:
        told = (f"the last {_count(len(one.matched))} stood in it before: {len(one.drafted)} nodes proposed, "
                f"{len(step.accepted)} accepted")
    head = (f'<div style="font:13px {theme.FONT};margin-bottom:4px"><b>round {n}</b>: {told} <span style="color:'
            f'{theme.MUTED}">· trie: {one.size:,} nodes</span></div>')
    if not one.matched:
        own = html.texts(tokenizer, step.emitted)
        return html.card(head + html.chip(own[0], color=theme.role("decode").color, mark="›"))
    return html.card(head + _drawing(one, step, tokenizer) + _key())


def _count(n: int) -> str:
    return "token" if n == 1 else f"{n} tokens"


def _drawing(one: Look, step, tokenizer) -> str:
    """Left to right: the root, the matched path, and the branches below it."""
    place = draft_nodes.layout(one.parents)
    matched = html.texts(tokenizer, one.matched)
    columns = len(matched) + 1 + max(depth for depth, _ in place)
    high, left = 23, 34
    wide = min(104, (theme.PIXELS - left) / columns)
    middle = max(line for _, line in place) / 2
    y = lambda line: 24 + high * line                                                       # noqa: E731
    accepted = {one.drafted[node] for node in step.accepted}
    shapes = [svg.circle(12, y(middle), 6, fill=theme.role("prompt").color, stroke="none"),
              svg.label(12, y(middle) - 15, "root", size=10, anchor="middle", color=theme.MUTED)]
    x0 = lambda column: left + wide * column                                                # noqa: E731
    for k, (word, count, others) in enumerate(zip(matched, one.counts, one.others, strict=True)):
        start = 18 if k == 0 else x0(k - 1) + wide - 16
        shapes.append(svg.line(start, y(middle), x0(k), y(middle), color=theme.role("current").color, width=3))
        shapes.append(_node(x0(k), y(middle), wide - 16, word, count, theme.role("current").color, "▸", "solid"))
        if others:
            dx = start + 3
            shapes += [svg.line(start, y(middle), dx + 5, y(middle) + 15, color=theme.RULE),
                       svg.label(dx + 2, y(middle) + 22, f"+{others}", size=9.5, color=theme.MUTED)]
    for i, (depth, line) in enumerate(place):
        parent = one.parents[i]
        px = x0(len(matched) - 1 if parent < 0 else len(matched) + place[parent][0]) + wide - 16
        py = y(middle if parent < 0 else place[parent][1])
        column = len(matched) + depth
        name = "accepted" if i in accepted else "rejected" if i in one.drafted else None
        color = theme.role(name).color if name else theme.RULE
        shapes.insert(0, svg.line(px, py, x0(column), y(line), color=color if name == "accepted" else theme.RULE,
                                  width=2.5 if name == "accepted" else 1))
        shapes.append(_node(x0(column), y(line), wide - 16, html.texts(tokenizer, [one.tokens[i]])[0], one.seen[i],
                            color if name == "accepted" else "none", theme.role(name).mark if name else "",
                            "dashed" if name == "rejected" else "solid", color))
    tail = svg.label(left, y(2 * middle) + 22, f"and {one.more} more within reach", size=10.5,
                     color=theme.MUTED) if one.more else ""
    return svg.drawing(theme.PIXELS, y(2 * middle) + (34 if one.more else 16), *shapes, tail,
                       title="the trie after the matched path")


def _node(x: float, y: float, wide: float, shown: str, count: float, fill: str, mark: str, line: str,
          stroke: str = theme.RULE) -> str:
    times = f"{count:.3g}"
    room = max(int((wide - 12 - 6 * len(times)) / 6.2) - len(mark), 1)
    word = html.short(shown, room)
    ink = theme.ink(fill) if fill.startswith("#") else theme.TEXT
    return (f"<g><title>{escape(html.visible(shown))}, seen {times} times</title>"
            + svg.box(x, y - 9, wide, 18, fill=fill, stroke=stroke, dashed=line == "dashed")
            + svg.label(x + 4, y, mark + word, size=10.5, mono=True, color=ink)
            + svg.label(x + wide - 4, y, times, size=9, anchor="end", color=ink) + "</g>")


def _key() -> str:
    current, accepted = theme.role("current"), theme.role("accepted")
    chips = "".join(f"<span>{chip} {words}</span>" for chip, words in (
        (html.chip("a", color=current.color, mark=current.mark), "matched"),
        (html.chip("a", color=accepted.color, mark=accepted.mark), "proposed, accepted"),
        (html.chip("a", mark=theme.role("rejected").mark), "proposed in vain"),
        (html.chip("a"), "known, not proposed")))
    return (f'<div style="display:flex;flex-wrap:wrap;gap:10px;align-items:center;font:12px {theme.FONT};'
            f'color:{theme.MUTED};margin-top:6px">{chips}<span>small number: how often seen; +n: other branches</span>'
            "</div>")
