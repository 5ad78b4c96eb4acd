"""The KV cache growing token by token, replayed from a decoder's trace of `Pass`es.

Two triangles side by side: row t is token t as a reader, column s is what it reads. Without a cache every pass
computes every row again; with one it computes the new rows only, and reads the old keys and values from memory.
"""
from collections.abc import Sequence

from minilm.generation import Pass
from minilm.text import counted
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
    shapes = []
    for x, name, rows_now, total in ((NAMES, "without a cache", now, recomputed(trace, i)),
                                     (right, "with a cache", step.fed, computed(trace, i))):
        shapes.append(svg.label(x, 12, name, size=13, bold=True))
        shapes.append(svg.label(x, 29, f"{counted(rows_now, 'row')} computed now, {total:,} so far", size=11,
                                color=theme.MUTED))
    for row in range(rows):
        y = TOP + row * CELL
        new = step.context <= row < now
        if row < now:
            shapes.append(svg.label(NAMES - 8, y + CELL / 2, html.short(tokens[row], 13), size=11, anchor="end",
                                    mono=True, bold=new))
        shapes += _row(NAMES, y, row, "computed" if row < now else "later", 0)
        shapes += _row(right, y, row, "computed" if new else "done" if row < now else "later", step.context)
    shapes += _memory(right, TOP + side + 12, rows, step)
    shapes.append(svg.label(NAMES + side, TOP + side + 20, "nothing kept", size=11, color=theme.MUTED, anchor="end"))
    picture = svg.drawing(right + side + 12, TOP + side + 34, *shapes, title=f"pass {i + 1} of {len(trace)}")
    return html.card(html.stack(_headline(tokens, trace, i), picture, _bar(now, capacity, bytes_per_token), key(),
                                gap=6))


def _row(x: float, y: float, row: int, state: str, read: int) -> list[str]:
    """Cells of one reader: columns 0 to `row`; the first `read` of a computed row come from the cache."""
    if state == "later":
        return [_run(x, y, row + 1, "none", stroke=theme.RULE)]
    if state == "done":
        return [_run(x, y, row + 1, DONE)]
    old = [_run(x, y, read, READ), *(_dot(x, y, s) for s in range(read))] if read else []
    return [*old, _run(x + read * CELL, y, row + 1 - read, COMPUTED)]


def _run(x: float, y: float, cells: int, fill: str, stroke: str = "none") -> str:
    return svg.box(x, y, cells * CELL - 1, CELL - 1, fill=fill, stroke=stroke, radius=0)


def _dot(x: float, y: float, cell: int) -> str:
    """The mark of a cell that is read from the cache."""
    return svg.circle(x + (cell + 0.5) * CELL - 0.5, y + CELL / 2 - 0.5, 2, fill="#0B4F7D", stroke="none")


def _memory(x: float, y: float, slots: int, step: Pass) -> list[str]:
    """The cache's slots under the right triangle: one a token, over the column that reads it."""
    shapes = []
    for s in range(slots):
        fill = READ if s < step.context else COMPUTED if s < step.context + step.fed else "none"
        shapes.append(svg.box(x + s * CELL, y, CELL - 1, CELL, fill=fill, stroke=theme.MUTED, radius=2,
                              dashed=fill == "none"))
        if fill == READ:
            shapes.append(_dot(x, y, s))
    return [*shapes, svg.label(x - 6, y + 7, "K, V", size=11, anchor="end", color=theme.MUTED)]


def _headline(tokens: Sequence[str], trace: Sequence[Pass], i: int) -> str:
    """Pass, phase, what goes in and what comes out."""
    step = trace[i]
    name = "prefill" if step.context == 0 else "decode"
    fed = tokens[step.context: step.context + step.fed]
    inner = html.chip(fed[0], color=COMPUTED) if step.fed == 1 else f"{step.fed} tokens of the prompt"
    out = step.context + step.fed
    current = theme.role("current")
    chosen = html.chip(tokens[out], color=current.color, mark=current.mark) if out < len(tokens) else ""
    tag = html.chip(name, color=theme.role(name).color, mark=theme.role(name).mark)
    return (f'<div style="display:flex;flex-wrap:wrap;gap:8px;align-items:center;font:13px {theme.FONT}">'
            f"<b>pass {i + 1} of {len(trace)}</b> {tag} <span>in: {inner}</span> <span>out: {chosen}</span></div>")


def _bar(held: int, capacity: int, bytes_per_token: float) -> str:
    """How full the cache is, and what that takes."""
    width = 420
    shapes = [svg.box(0, 2, width, 14, stroke=theme.MUTED, radius=2),
              svg.box(0, 2, width * held / capacity, 14, fill=READ, stroke="none", radius=2),
              svg.label(width + 10, 9, f"{held} tokens × {size(bytes_per_token)} = {size(held * bytes_per_token)} held",
                        size=12)]
    return svg.drawing(width + 300, 18, *shapes, title="memory held")


def key() -> str:
    """What the colours mean."""
    kinds = (("computed in this pass", COMPUTED, ""), ("read from the cache", READ, "•"),
             ("computed in an earlier pass", DONE, ""), ("still to come", "transparent", ""))
    style = f"display:inline-block;width:13px;height:13px;border:1px solid {theme.MUTED};text-align:center"
    items = (f'<span><span style="{style};background:{color};color:#0B4F7D;font:bold 13px/11px {theme.FONT}">{mark}'
             f"&nbsp;</span> {name}</span>" for name, color, mark in kinds)
    return (f'<div style="display:flex;gap:18px;flex-wrap:wrap;font:12px {theme.FONT};color:{theme.MUTED}">'
            f'{"".join(items)}</div>')


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
    ticks = range(1, len(trace) + 1, max(1, len(trace) // 6))
    work.set(xlabel="pass", ylabel="tokens", ylim=(0, None), xlim=(0.5, len(trace) * 1.42), xticks=ticks)
    held = [(step.context + step.fed) * bytes_per_token / 1024 for step in trace]
    memory.bar(passes, held, color=[theme.ORANGE if step.context == 0 else theme.SKY for step in trace])
    if trace[0].context == 0:
        memory.text(1, held[0] / 2, "prompt", rotation=90, ha="center", va="center", fontsize=8.5,
                    color=theme.ink(theme.ORANGE))
    theme.title(memory, "The price: memory held")
    memory.set(xlabel="pass", ylabel="KiB", xticks=ticks)
    return Chart(fig, f"work and memory of {len(trace)} passes")


def size(num_bytes: float) -> str:
    """46080 -> "45.0 KiB"."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:,.1f} {name}"
    return f"{num_bytes:,.0f} B"


def memory(name: str, weights: float, bytes_per_token: float, context: int, batch: int, *, room: float = 80e9) -> str:
    """Weights and KV cache as one bar against a device's memory of `room` bytes, for `batch` conversations of
    `context` tokens."""
    cache = bytes_per_token * context * batch
    width, scale = 560, 560 / (1.25 * room)
    fit = weights + cache <= room
    x = 8 + min(weights * scale, width + 40)
    end = min(x + cache * scale, 8 + width + 90)
    shapes = [svg.box(8, 26, max(x - 8, 1), 30, fill=theme.BLUE, stroke="none", radius=0,
                      text="weights" if x > 70 else ""),
              svg.box(x, 26, max(end - x, 1), 30, fill=COMPUTED, stroke="none", radius=0,
                      text="KV cache" if end - x > 64 else ""),
              svg.line(8 + room * scale, 14, 8 + room * scale, 66, color="#9A9A9A", width=2.5),
              svg.label(8 + room * scale, 6, f"room: {room / 1e9:.0f} GB", size=12, anchor="middle", color=theme.MUTED)]
    if weights + cache > 1.25 * room:
        shapes.append(svg.arrow(end, 41, end + 18, 41, color=theme.VERMILLION, width=3, head=10))
    words = (f"{name}: weights {weights / 1e9:.1f} GB + cache {counted(batch, 'conversation')} × {context:,} tokens × "
             f"{size(bytes_per_token)} = {cache / 1e9:.1f} GB")
    most = max(int((room - weights) // (bytes_per_token * context)), 0)
    limit = f"the most that fit is {most:,} {'conversation' if most == 1 else 'conversations'} of {context:,} tokens"
    verdict = f"{'✓ fits' if fit else '✗ does not fit'}; {limit}"
    lines = "".join(f'<div style="font:13px/1.5 {theme.FONT}">{line}</div>' for line in (words, verdict))
    return html.card(svg.drawing(690, 72, *shapes, title=words) + lines)


def growth_chart(lengths: Sequence[int], series: dict[str, Sequence[float]]) -> Chart:
    """Milliseconds of one new token against the length of the text, a line for each way (seconds in `series`)."""
    fig, ax = theme.figure(height=3.0)
    colors = (theme.VERMILLION, theme.BLUE, theme.GREEN)
    for (name, seconds), color in zip(series.items(), colors, strict=False):
        ax.plot(lengths, [1e3 * s for s in seconds], **theme.ours(color))
        theme.label(ax, lengths[-1], 1e3 * seconds[-1], f"{name}\n{1e3 * seconds[-1]:,.3g} ms", color)
    theme.title(ax, "Time for one more token")
    ax.set(xlabel="tokens of text so far", ylabel="ms", yscale="log", xlim=(0, lengths[-1] * 1.3), xticks=lengths)
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.yaxis.set_minor_formatter(lambda v, _: "")
    slowest, fastest = (1e3 * pick(s for line in series.values() for s in line) for pick in (max, min))
    ticks = [digit * 10 ** e for e in range(-3, 6) for digit in (1, 2, 5)]
    ax.set_yticks([t for t in ticks if fastest / 1.5 <= t <= slowest * 1.5])
    return Chart(fig, f"time for a token at {len(lengths)} lengths")
