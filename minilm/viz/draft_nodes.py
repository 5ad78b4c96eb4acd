"""One round's tree of drafts as a drawing: the part of `drafts` that knows about branches."""
from html import escape

from minilm.viz import html, svg, theme

WORDS = {"prefill": "the prompt's own pass", "plain": "nothing was drafted", "accepted": "drafted, and accepted",
         "rejected": "drafted, and thrown away", "recovered": "the target's, in place of a rejected draft",
         "bonus": "the target's own, after all drafts"}


def drawing(now) -> str:
    """A `drafts.Round`: nodes by depth from left to right, a leaf a line, the accepted way thick to the last token."""
    place = layout(now.parents)
    deepest = max(depth for depth, _ in place)
    wide, high, left, size = min(132, (theme.PIXELS - 70) / (deepest + 2)), 24, 46, 11
    at = lambda depth, line: (left + depth * wide, 14 + line * high)  # noqa: E731
    middle = max(line for _, line in place) / 2
    text_at = at(0, middle)
    shapes, boxes = [svg.label(4, text_at[1], "text", size=11, color=theme.MUTED)], []
    room = max(int((wide - 30) / 6.8), 2)
    for node, (depth, line) in enumerate(place):
        x, y = at(depth, line)
        parent = now.parents[node]
        px, py = (left - 10, text_at[1]) if parent < 0 else at(*place[parent])
        px = px if parent < 0 else px + wide - 22
        ok = now.roles[node] == "accepted"
        shapes.append(svg.line(px, py, x, y, color=theme.GREEN if ok else theme.RULE, width=2.5 if ok else 1))
        boxes.append(_node(x, y, wide - 22, now.drafted[node], now.roles[node], room, size))
    if now.last is not None:
        end = now.path[-1] if now.path else None
        depth, line = place[end] if end is not None else (-1, middle)
        x, y = at(depth + 1, line)
        taken = {at(*p) for p in place}
        while (x, y) in taken or any(abs(x - a) < 1 and abs(y - b) < high - 4 for a, b in taken):
            y += high
        px, py = (at(depth, line)[0] + wide - 22, at(depth, line)[1]) if end is not None else (left - 10, text_at[1])
        shapes.append(svg.line(px, py, x, y, color=theme.role(now.last_role).color, width=2.5))
        boxes.append(_node(x, y, wide - 22, now.last, now.last_role, room, size))
        height = max(y, at(0, 2 * middle)[1]) + 16
    else:
        height = at(0, 2 * middle)[1] + 16
    return svg.drawing(left + (deepest + 2) * wide, height, *shapes, *boxes, title="the drafted tree")


def _node(x: float, y: float, width: float, shown: str, name: str, room: int, size: float) -> str:
    role, words = theme.role(name), html.short(shown, room)
    fill = role.color + ("55" if name == "rejected" else "")
    box = svg.box(x, y - 9, width, 18, fill=fill if len(fill) == 7 else "none", dashed=role.line == "dashed",
                  stroke=role.color, text=f"{role.mark}{words}", size=size, mono=True)
    return f"<g><title>{escape(WORDS[name])}: {escape(html.visible(shown))}</title>{box}</g>"


def layout(parents: tuple[int, ...]) -> list[tuple[int, float]]:
    """(depth from 0, line) of each node of a tree: leaves on lines of their own, a parent half-way between children."""
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        children.setdefault(parent, []).append(node)
    place: dict[int, tuple[int, float]] = {}
    lines = 0

    def put(node: int, depth: int) -> float:
        nonlocal lines
        below = [put(child, depth + 1) for child in children.get(node, [])]
        if below:
            line = (below[0] + below[-1]) / 2
        else:
            line, lines = float(lines), lines + 1
        if node >= 0:
            place[node] = (depth, line)
        return line

    put(-1, -1)
    return [place[node] for node in range(len(parents))]
