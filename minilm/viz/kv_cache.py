"""The KV cache growing token by token, replayed from a decoder's trace of `Pass`es.

Two triangles side by side: row t is token t as a reader, column s is what it reads. Without a cache every pass
computes every row again; with one it computes the new rows only, and reads the old keys and values from memory.
"""
from collections.abc import Sequence

from minilm.generation import Pass
from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

COMPUTED, READ, DONE = theme.ORANGE, theme.SKY, "#C8CCD0"
CELL, NAMES, GAP, TOP = 14, 118, 46, 40


def frames(tokens: Sequence[str], trace: Sequence[Pass], bytes_per_token: float, *, capacity: int | None = None):
    """A function from a pass's number to its picture, for `widgets.player(frames, length=len(trace))`.

    tokens: texts of the prompt and of what was generated. bytes_per_token: what one token's keys and values take.
    capacity: tokens that the cache has room for (default: as many as there are). Raises ValueError when the trace
    has passes over more tokens than given.
    """
    held = max(step.context + step.fed for step in trace)
    if held > len(tokens):
        raise ValueError(f"the trace reaches {held} tokens, but only {len(tokens)} texts were given")
    return lambda i: view(tokens, trace, i, bytes_per_token, capacity=capacity or held)


def recomputed(trace: Sequence[Pass], i: int) -> int:
    """Tokens that go through the model in passes 0 to i when nothing is kept: the whole text each time."""
    return sum(step.context + step.fed for step in trace[: i + 1])


def computed(trace: Sequence[Pass], i: int) -> int:
    """Tokens that go through the model in passes 0 to i with a cache."""
    return sum(step.fed for step in trace[: i + 1])


def view(tokens: Sequence[str], trace: Sequence[Pass], i: int, bytes_per_token: float, *, capacity: int) -> str:
    """Pass i: what is computed, what is read, what is held."""
    step, rows = trace[i], max(one.context + one.fed for one in trace)
    side = rows * CELL
    right = NAMES + side + GAP
    now = step.context + step.fed
    shapes = [svg.label(NAMES, 12, "without a cache", size=13, bold=True), svg.label(right, 12, "with a cache", size=13, bold=True),
              svg.label(NAMES, 29, f"{_count(now, 'row')} computed now, {recomputed(trace, i):,} so far", size=11, color=theme.MUTED),
              svg.label(right, 29, f"{_count(step.fed, 'row')} computed now, {computed(trace, i):,} so far", size=11,
                        color=theme.MUTED)]
    for row in range(rows):
        y = TOP + row * CELL
        new = step.context <= row < now
        if row < now:
            shapes.append(svg.label(NAMES - 8, y + CELL / 2, _short(tokens[row]), size=11, anchor="end", mono=True, bold=new))
        shapes += _row(NAMES, y, row, "computed" if row < now else "later", 0)
        shapes += _row(right, y, row, "computed" if new else "done" if row < now else "later", step.context)
    shapes += _memory(right, TOP + side + 12, rows, step)
    shapes.append(svg.label(NAMES + side, TOP + side + 20, "nothing kept", size=11, color=theme.MUTED, anchor="end"))
    picture = svg.drawing(right + side + 12, TOP + side + 34, *shapes, title=f"pass {i + 1} of {len(trace)}")
    return html.card(html.stack(_headline(tokens, trace, i), picture, _bar(now, capacity, bytes_per_token), key(), gap=6))


def _row(x: float, y: float, row: int, state: str, read: int) -> list[str]:
    """Cells of one reader: columns 0 to `row`; the first `read` of a computed row come from the cache."""
    if state == "later":
        return [svg.box(x, y, (row + 1) * CELL - 1, CELL - 1, stroke=theme.RULE, radius=0)]
    if state == "done":
        return [svg.box(x, y, (row + 1) * CELL - 1, CELL - 1, fill=DONE, stroke="none", radius=0)]
    shapes = [svg.box(x, y, read * CELL - 1, CELL - 1, fill=READ, stroke="none", radius=0)] if read else []
    shapes += [svg.circle(x + (s + 0.5) * CELL - 0.5, y + CELL / 2 - 0.5, 2, fill="#0B4F7D", stroke="none") for s in range(read)]
    return [*shapes, svg.box(x + read * CELL, y, (row + 1 - read) * CELL - 1, CELL - 1, fill=COMPUTED, stroke="none", radius=0)]


def _memory(x: float, y: float, slots: int, step: Pass) -> list[str]:
    """The cache's slots under the right triangle: one a token, over the column that reads it."""
    shapes = []
    for s in range(slots):
        fill = READ if s < step.context else COMPUTED if s < step.context + step.fed else "none"
        shapes.append(svg.box(x + s * CELL, y, CELL - 1, 14, fill=fill, stroke=theme.MUTED, radius=2, dashed=fill == "none"))
        if fill == READ:
            shapes.append(svg.circle(x + (s + 0.5) * CELL - 0.5, y + 7, 2, fill="#0B4F7D", stroke="none"))
    return [*shapes, svg.label(x - 6, y + 7, "K, V", size=11, anchor="end", color=theme.MUTED)]


def _headline(tokens: Sequence[str], trace: Sequence[Pass], i: int) -> str:
    """Pass, phase, what goes in and what comes out."""
    step = trace[i]
    name = "prefill" if step.context == 0 else "decode"
    fed = tokens[step.context: step.context + step.fed]
    inner = "".join(html.chip(t, color=COMPUTED) for t in fed[:1]) if step.fed == 1 else f"{step.fed} tokens of the prompt"
    out = step.context + step.fed
    chosen = html.chip(tokens[out], color=theme.role("current").color, mark="▸") if out < len(tokens) and step.emitted else ""
    tag = html.chip(name, color=theme.role(name).color, mark=theme.role(name).mark)
    return (f'<div style="display:flex;flex-wrap:wrap;gap:8px;align-items:center;font:13px {theme.FONT}">'
            f"<b>pass {i + 1} of {len(trace)}</b> {tag} <span>in: {inner}</span> <span>out: {chosen}</span></div>")


def _bar(held: int, capacity: int, bytes_per_token: float) -> str:
    """How full the cache is, and what that takes."""
    width = 420
    shapes = [svg.box(0, 2, width, 14, stroke=theme.MUTED, radius=2),
              svg.box(0, 2, width * held / capacity, 14, fill=READ, stroke="none", radius=2),
              svg.label(width + 10, 9, f"{held} tokens × {size(bytes_per_token)} = {size(held * bytes_per_token)} held", size=12)]
    return svg.drawing(width + 300, 18, *shapes, title="memory held")


def key() -> str:
    """What the colours mean."""
    return (f'<div style="display:flex;gap:8px;flex-wrap:wrap">{html.chip("computed in this pass", color=COMPUTED)}'
            f'{html.chip("read from the cache", color=READ, mark="•")}{html.chip("computed in an earlier pass", color=DONE)}'
            f'{html.chip("still to come")}</div>')


def chart(trace: Sequence[Pass], bytes_per_token: float) -> Chart:
    """Still: tokens through the model, pass by pass and summed, without and with a cache; bytes held."""
    fig, (work, memory) = theme.figure(1, 2, height=2.9, width_ratios=(3, 2))
    passes = range(1, len(trace) + 1)
    without = [recomputed(trace, i) for i in range(len(trace))]
    cached = [computed(trace, i) for i in range(len(trace))]
    work.plot(passes, without, **theme.ours(theme.VERMILLION))
    work.plot(passes, cached, **theme.ours(theme.BLUE))
    theme.label(work, len(trace), without[-1], f"{without[-1]:,} without", theme.VERMILLION)
    theme.label(work, len(trace), cached[-1], f"{cached[-1]:,} with a cache", theme.BLUE)
    theme.title(work, "Tokens through the model, summed")
    work.set(xlabel="pass", ylim=(0, None), xlim=(1, len(trace) * 1.42))
    held = [(step.context + step.fed) * bytes_per_token / 1024 for step in trace]
    memory.bar(passes, held, color=[theme.ORANGE if step.context == 0 else theme.SKY for step in trace])
    theme.title(memory, "The price: memory held")
    memory.set(xlabel="pass", ylabel="KiB")
    return Chart(fig, f"work and memory of {len(trace)} passes")


def size(num_bytes: float) -> str:
    """46080 -> "45.0 KiB"."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:,.1f} {name}"
    return f"{num_bytes:,.0f} B"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _short(text: str, most: int = 13) -> str:
    shown = html.visible(text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
