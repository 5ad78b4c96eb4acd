"""Lookahead decoding pass by pass: the window of guesses, the n-grams it gives to the pool, the guesses verified.

    widgets.player(lookahead_window.frames(generation, prompt, tokenizer), label="pass")

A row of the window is what one pass named; it stands one place further right than the row above, since it continues it.
So an n-gram runs down a diagonal. Rows age upwards: each pass adds one at the bottom and the top one leaves.
"""
from collections.abc import Sequence
from html import escape

from minilm.decoding.lookahead import LookaheadPass
from minilm.generation import Generation
from minilm.text import shortened
from minilm.viz import html, svg, theme

LEFT, WINDOW, ROW = 74, 420, 30             # pixels: row names, the window, a row


def frames(generation: Generation, prompt: Sequence[int], tokenizer) -> list[str]:
    """One picture for each pass after the prompt's. Raises ValueError for another decoder's generation."""
    if not generation.trace or not all(isinstance(step, LookaheadPass) for step in generation.trace):
        raise ValueError("this trace has no window: give a Generation that decoding.lookahead returned")
    out, text, pool = [], list(prompt), set()
    for n, step in enumerate(generation.trace):
        if n:
            out.append(_frame(n, text, step, pool, tokenizer, len(text) - len(prompt)))
        pool.update(step.ngrams)
        text += step.emitted
    return out


def _frame(n: int, text: list[int], step: LookaheadPass, pool: set, tokenizer, made: int) -> str:
    new = len(set(step.ngrams) - pool)
    told = (f"{len(step.renewed)} tokens named, {len(set(step.ngrams))} n-grams made, {new} of them new"
            if step.ngrams else f"{len(step.renewed)} tokens named, no n-gram yet: the window still holds first guesses"
            if step.window else "the window rests: the text is about to end")
    grams = "n-gram" if len(pool | set(step.ngrams)) == 1 else "n-grams"
    head = (f'<div style="font:13px {theme.FONT};margin-bottom:2px"><b>pass {n}</b>: {told} <span style="color:'
            f'{theme.MUTED}">· so far {len(pool | set(step.ngrams))} {grams}, {made + len(step.emitted)} tokens in '
            f"{n + 1} passes</span></div>")
    body = _window(step, pool, tokenizer) if step.window else ""
    return html.card(head + body + _asked(text, step, tokenizer))


def _window(step: LookaheadPass, pool: set, tokenizer) -> str:
    """The window at the left, n-grams at the right."""
    rows = [html.texts(tokenizer, row) for row in (*step.window, step.renewed)]
    count, width = len(rows), len(rows[0])
    wide = WINDOW / (width + count - 1)
    x = lambda row, column: LEFT + wide * (row + column)                                    # noqa: E731
    y = lambda row: 22 + ROW * row                                                          # noqa: E731
    shapes = [svg.label(LEFT, 8, "lookahead branch: the window", size=11, bold=True)]
    for row in range(count - 1):                                # diagonals first, below the boxes
        shapes += [svg.line(x(row, i) + wide / 2, y(row) + ROW / 2, x(row + 1, i) + wide / 2, y(row + 1) + ROW / 2,
                            color=theme.MUTED) for i in range(width)]
    for row, words in enumerate(rows):
        ages = {count - 1: "named now", count - 2: "newest", 0: "oldest" if count > 2 else "newest"}
        name = ages.get(row, "")
        shapes.append(svg.label(LEFT - 6, y(row) + ROW / 2, name, size=10, anchor="end", color=theme.MUTED,
                                bold=row == count - 1))
        for i, word in enumerate(words):
            last = row == i == 0
            fill = (theme.role("prompt").color if last else theme.role("current").color if row == count - 1 else
                    theme.confidence(0.1 + 0.4 * row / max(count - 2, 1)))
            shapes.append(_box(x(row, i), y(row), wide, word, fill, "the text's last token" if last else name or "row"))
    shapes += _grams(step, pool, tokenizer, LEFT + WINDOW + 26)
    height = max(y(count) + 6, 26 + 17 * len(dict.fromkeys(step.ngrams)) + 6)
    return svg.drawing(theme.PIXELS, height, *shapes, title="the window and the n-grams it makes")


def _box(x: float, y: float, wide: float, shown: str, fill: str, told: str) -> str:
    word = html.short(shown, max(int((wide - 5) / 6.1), 1))
    return (f"<g><title>{escape(told)}: {escape(html.visible(shown))}</title>"
            + svg.box(x + 1, y + 4, wide - 2, ROW - 9, fill=fill, stroke=theme.RULE, text=word, size=10, mono=True)
            + "</g>")


def _grams(step: LookaheadPass, pool: set, tokenizer, left: float) -> list[str]:
    """The n-grams of this pass, on their way into the pool."""
    shapes = [svg.label(left, 8, "n-grams into the pool", size=11, bold=True)]
    if not step.ngrams:
        return shapes
    room = int((theme.PIXELS - left - 14) / 5.75)
    for line, gram in enumerate(dict.fromkeys(step.ngrams)):
        y, new = 30 + 17 * line, gram not in pool
        words = "│".join(map(html.visible, html.texts(tokenizer, gram)))
        shapes.append(f"<g><title>{escape(words)}{'' if new else ': in the pool already'}</title>"
                      + svg.label(left, y, "+" if new else "=", size=11, bold=True,
                                  color=theme.TEXT if new else theme.MUTED)
                      + svg.label(left + 12, y, shortened(words, room), size=9.6, mono=True,
                                  color=theme.TEXT if new else theme.MUTED) + "</g>")
    foot = 22 + ROW * (len(step.window) + 0.5)
    shapes.append(svg.arrow(LEFT + WINDOW + 4, foot, LEFT + WINDOW + 22, 36))
    return shapes


def _asked(text: list[int], step: LookaheadPass, tokenizer) -> str:
    """The verification branch: what the pool knows to follow the last token, judged; then the text."""
    path = [step.drafted[node] for node in step.accepted]
    small = f"font:12px/1.5 {theme.FONT};color:{theme.MUTED}"
    rows = []
    for guess in step.guesses:
        right = 0
        while right < min(len(path), len(guess)) and guess[right] == path[right]:
            right += 1
        rows.append("".join(_chip(word, "accepted" if i < right else "rejected", i <= right)
                            for i, word in enumerate(html.texts(tokenizer, guess))))
    kept, own = html.texts(tokenizer, step.emitted[: len(path)]), html.texts(tokenizer, step.emitted[len(path):])
    name = "recovered" if step.guesses and all(len(guess) > len(path) for guess in step.guesses) else "bonus"
    before = "".join(html.chip(word) for word in html.texts(tokenizer, text[-6:-1]))
    last = html.chip(html.texts(tokenizer, text[-1:])[0], color=theme.role("prompt").color)
    flow = (before + last + "".join(_chip(word, "accepted") for word in kept)
            + "".join(_chip(word, name if step.guesses else "decode") for word in own))
    told = ("verification branch: what the pool has after the last token" if rows else
            "verification branch: empty, the pool knows nothing after the last token")
    lines = "".join(f'<div style="display:flex;flex-wrap:wrap;gap:3px;margin:2px 0">{row}</div>' for row in rows)
    return (f'<div style="{small}"><b>{told}</b></div>{lines}<div style="{small};margin-top:4px">the text</div>'
            f'<div style="display:flex;flex-wrap:wrap;gap:3px">{flow}</div>')


def _chip(word: str, name: str, judged: bool = True) -> str:
    role = theme.role(name)
    chip = html.chip(word, color=role.color if judged else "transparent", mark=role.mark, line=role.line,
                     strike=name == "rejected")
    return chip if judged else f'<span style="opacity:.6">{chip}</span>'
