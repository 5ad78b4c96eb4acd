"""Requests over time in the engine: a lane each, and beside it what one of them does and holds at one step.

A lane reads from left to right, a column for each step. Every token that a pass gave is a small square in its role's
colour, drafts that were thrown away are hollow and dashed; a blue bar is a piece of the prompt.

    Html(timeline.lanes(lives))                                         # all of it, still
    widgets.explorer(lambda request, step: timeline.view(lives, request, step, tokenizer, prompts), ...)
"""
from collections.abc import Mapping, Sequence
from html import escape

from minilm.text import counted
from minilm.viz import html, svg, theme
from minilm.viz.lives import Moment

LEFT, LANE, TOP, DOT = 96, 46, 20, 6.5          # pixels: names, a lane's height, the scale above, a token's square
LOST, READ = theme.role("rejected").color, theme.role("prefill").color
CELL = 46                                       # a block's width
Lives = Mapping[str, Sequence[Moment]]


def letter(lives: Lives, name: str) -> str:
    """A request's letter: A for the first."""
    return theme.owner(list(lives).index(name))[0]


def lanes(lives: Lives, chosen: str | None = None, step: int | None = None) -> str:
    """All requests, a lane each; with `chosen` and `step` (from 1), that lane and that column stand out."""
    if not lives:
        raise ValueError("there are no requests to show: give what lives.read returned")
    steps = len(next(iter(lives.values())))
    wide = (theme.PIXELS - LEFT - 8) / steps
    shapes = []
    high = TOP + LANE * len(lives)
    if chosen is not None:
        row = list(lives).index(chosen)
        shapes.append(svg.box(0, TOP + LANE * row, theme.PIXELS, LANE, fill=theme.PANEL, stroke="none", radius=4))
    if step is not None:
        shapes.append(svg.box(LEFT + wide * (step - 1), TOP - 3, wide, high - TOP + 6, fill=theme.YELLOW + "38",
                              stroke=theme.MUTED, radius=2))
    for tick in range(1, steps + 1):
        if tick == 1 or tick % 5 == 0:
            shapes.append(svg.label(LEFT + wide * (tick - 0.5), 9, str(tick), size=10, anchor="middle",
                                    color=theme.MUTED))
    shapes.append(svg.label(0, 9, "step", size=10, color=theme.MUTED))
    for row, life in enumerate(lives.values()):
        shapes += _lane(life, TOP + LANE * row, wide, *theme.owner(row))
    return html.card(svg.drawing(theme.PIXELS, high + 26, *shapes, *_key(high + 16), title="requests over time"))


def _lane(life: Sequence[Moment], y: float, wide: float, name: str, color: str) -> list[str]:
    new, passes = sum(len(m.passed.emitted) for m in life if m.passed), sum(m.passed is not None for m in life)
    shapes = [svg.box(4, y + 8, 20, 19, fill=color, stroke="none", text=name, size=12),
              svg.label(30, y + 13, f"{new} tokens", size=10), svg.label(30, y + 25, f"{passes} passes", size=10,
                                                                         color=theme.MUTED),
              svg.line(0, y + LANE, theme.PIXELS, y + LANE, color=theme.RULE, width=0.7)]
    foot = y + LANE - 4
    for i, moment in enumerate(life):
        x = LEFT + wide * i
        shapes.append(f"<g><title>step {i + 1}, {name}: {escape(_words(life, i + 1))}</title>"
                      + "".join(_column(moment, x, foot, wide)) + "</g>")
    end = next((i for i, moment in enumerate(life) if moment.ends), None)
    if end is not None:
        x = LEFT + wide * (end + 1)
        shapes.append(svg.line(x - 1, y + 8, x - 1, foot, color=theme.MUTED, width=2))
        if x < theme.PIXELS - 40:
            shapes.append(svg.label(x + 4, foot - 6, "done", size=9.5, color=theme.MUTED))
    return shapes


def _column(moment: Moment, x: float, foot: float, wide: float) -> list[str]:
    """What one step did for one text, from the lane's foot upwards."""
    middle = x + wide / 2
    if moment.doing == "waiting":
        return [svg.line(x + 1, foot - 10, x + wide - 1, foot - 10, color=theme.MUTED, width=1.5, dashed=True)]
    if moment.doing == "preempted":
        return [svg.line(middle - 2, foot - 17, middle - 2, foot - 4, color=LOST, width=2.4),
                svg.line(middle + 2.5, foot - 17, middle + 2.5, foot - 4, color=LOST, width=2.4)]
    if moment.doing == "paused":
        return [svg.line(x + 1, foot - 2, x + wide - 1, foot - 2, color=theme.MUTED, width=2)]
    if moment.doing in ("absent", "done"):
        return []
    shapes, y = [], foot
    if moment.doing == "prompt":
        y -= 15
        shapes.append(svg.box(x + 0.7, y, wide - 1.4, 15, fill=READ, stroke="none", radius=2,
                              text=str(moment.fed) if wide >= 13 else "", size=9 if wide < 16 else 10))
    side = min(DOT, wide - 2)
    given = len(moment.passed.emitted) if moment.passed else 0
    roles = (["accepted"] * moment.kept + [_own(moment)] * (given - moment.kept)
             + ["rejected"] * (len(moment.drafted) - moment.kept))
    tall = min(side, (y - foot + LANE - 8) / max(len(roles), 1))
    for role in roles:
        y -= tall
        shapes.append(_square(middle - side / 2, y, side, tall - 0.9, role))
    return shapes


def _own(moment: Moment) -> str:
    """The role of the token that the target chose itself."""
    return "decode" if not moment.drafted else "bonus" if moment.kept == len(moment.drafted) else "recovered"


def _square(x: float, y: float, wide: float, high: float, role: str) -> str:
    lost = role == "rejected"
    return svg.box(x, y, wide, high, radius=0.5, dashed=lost, stroke=LOST if lost else "none",
                   fill="none" if lost else theme.role(role).color)


def _key(y: float) -> list[str]:
    """A line that says what the marks are, in the marks themselves."""
    shapes, x = [], 2.0
    for kind, word in (("waits", "waits"), ("piece", "reads so many tokens"), ("accepted", "draft accepted"),
                       ("rejected", "rejected"), ("recovered", "recovered"), ("bonus", "bonus"),
                       ("decode", "without drafts"), ("pause", "preempted")):
        if kind == "waits":
            shapes.append(svg.line(x, y, x + 14, y, width=1.5, dashed=True))
        elif kind == "piece":
            shapes.append(svg.box(x, y - 6, 14, 12, fill=READ, stroke="none", text="9", size=9, radius=2))
        elif kind == "pause":
            shapes += [svg.line(x + dx, y - 6, x + dx, y + 6, color=LOST, width=2.4) for dx in (5, 9.5)]
        else:
            shapes.append(_square(x + 4, y - 4, 8, 8, kind))
        shapes.append(svg.label(x + 18, y, word, size=10.5, color=theme.MUTED))
        x += 26 + 5.6 * len(word)
    return shapes


# --- one request at one step -----------------------------------------------------------------------------------------

def view(lives: Lives, name: str, step: int, tokenizer, texts: Mapping[str, tuple[list[int], list[int]]]) -> str:
    """The lanes, and below them what request `name` does in `step` (from 1), its tokens and its blocks.

    texts[name]: its prompt and its new tokens.
    """
    life = lives[name]
    if not 1 <= step <= len(life):
        raise ValueError(f"step must be one of 1 to {len(life)}, not {step}")
    moment = life[step - 1]
    head = (f'<div style="font:13px/1.5 {theme.FONT};min-height:42px"><b>step {step}, request {letter(lives, name)}'
            f"</b>: {escape(_words(life, step))}</div>")
    return (lanes(lives, name, step)
            + html.card(html.stack(head, _tokens(life, step, tokenizer, *texts[name]), _blocks(lives, moment, name),
                                   gap=4)))


def _words(life: Sequence[Moment], step: int) -> str:
    """A sentence on what it does in this step, and why."""
    moment = life[step - 1]
    was = life[step - 2].doing if step > 1 else "absent"
    if moment.doing == "absent":
        return "has not been sent yet"
    if moment.doing == "waiting":
        return "waits in line: no room for it yet, in blocks or in this pass"
    if moment.doing == "preempted":
        return ("a block was needed and none was left; it came last, so it gives all of its own back, and keeps its "
                "text" if was != "preempted" else "waits to come back; it will be the first to")
    if moment.doing == "paused":
        return "holds its blocks, but the pass had no room for it"
    if moment.doing == "done":
        return "is done; its blocks are free again"
    end = " That was its last: its blocks are free." if moment.ends else ""
    if moment.doing == "prompt":
        found = f"finds {counted(moment.found, 'token')} in blocks that others filled, and " if moment.found else ""
        rest = "and gets its first token" if moment.passed and not moment.again else (
            "and goes on where it was" if moment.passed else "more to come in the next pass")
        return f"{found}reads {counted(moment.fed, 'token')}{' again' * moment.again}, {rest}.{end}"
    given, drafts = len(moment.passed.emitted), len(moment.drafted)
    if not drafts:
        return f"feeds its last token and gets one more; nothing was drafted.{end}"
    right = "all accepted" if moment.kept == drafts else f"{moment.kept or 'none'} accepted"
    at_once = " at once" * (given > 1)
    return f"{counted(drafts, 'draft')} checked in one pass, {right}: {counted(given, 'token')}{at_once}.{end}"


def _tokens(life: Sequence[Moment], step: int, tokenizer, prompt: list[int], new: list[int]) -> str:
    """The text so far, the tokens of this step marked by what they are."""
    moment = life[step - 1]
    before = sum(len(m.passed.emitted) for m in life[: step - 1] if m.passed)
    given = list(moment.passed.emitted) if moment.passed else []
    if moment.doing == "prompt":
        piece = (prompt + new)[max(0, moment.length - moment.fed): moment.length]
        tokens, roles = piece[-9:], ["prefill"] * min(9, len(piece))
    else:
        tail = (prompt + new[:before])[-9:] if moment.doing not in ("absent", "waiting") else prompt[:9]
        tokens, roles = list(tail), ["plain"] * len(tail)
    tokens += given
    roles += ["accepted"] * moment.kept + [_own(moment)] * (len(given) - moment.kept)
    lost = [t for i, t in enumerate(moment.drafted) if i not in moment.accepted]
    tokens += lost
    roles += ["rejected"] * len(lost)
    return f'<div style="min-height:54px">{html.token_strip(html.texts(tokenizer, tokens), roles)}</div>'


def _blocks(lives: Lives, moment: Moment, name: str) -> str:
    """Its blocks in the text's order: the block's number, and who else reads it."""
    order = list(lives)
    color = theme.owner(order.index(name))[1]
    size = max((CELL + 4) * len(moment.blocks) + 110, 300)
    held = f"{counted(len(moment.blocks), 'block')} held" if moment.blocks else "holds no blocks"
    shapes = [svg.label(0, 14, held, size=11.5, color=theme.MUTED)]
    for i, block in enumerate(moment.blocks):
        x = 104 + (CELL + 4) * i
        others = " ".join(theme.owner(order.index(other))[0] for other in moment.shared[i] if other in order)
        shapes += [svg.box(x, 2, CELL, 24, fill=color, stroke="none", text=str(block), size=12),
                   svg.label(x + CELL / 2, 36, f"also {others}" if others else "", size=10, anchor="middle",
                             color=theme.MUTED)]
    return f'<div style="min-height:48px">{svg.drawing(min(size, theme.PIXELS), 46, *shapes, title="its blocks")}</div>'
