"""Jacobi decoding seen whole: a row for each pass, a column for each place, and when each token became certain.

    told = jacobi.read(decoding.jacobi(model, prompt, 16), tokenizer)
    widgets.player([jacobi.frame(told[0], n) for n in range(len(told[0].rows))], label="pass")
"""
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from minilm.decoding.lookahead import JacobiPass
from minilm.generation import Generation
from minilm.viz import html, svg, theme

EARLY = theme.confidence(0.22)              # as in the finished text, though no one can know it yet
LEFT, ROW = 66, 23


@dataclass(frozen=True)
class Block:
    """One block of m tokens. rows[t][m]: texts after pass t, row 0 being the first guess.

    fixed[t]: how many are certain after pass t.  right[t][m]: whether the token is the finished text's.
    """

    rows: tuple[tuple[str, ...], ...]
    right: tuple[tuple[bool, ...], ...]
    fixed: tuple[int, ...]


def read(generation: Generation, tokenizer) -> list[Block]:
    """The blocks of a run of `decoding.jacobi`. Raises ValueError for another decoder's generation."""
    if not generation.trace or not all(isinstance(step, JacobiPass) for step in generation.trace):
        raise ValueError("this trace has no iterates: give a Generation that decoding.jacobi returned")
    return [_block([step for step in generation.trace if step.block == number], tokenizer)
            for number in range(generation.trace[-1].block + 1)]


def _block(steps: Sequence[JacobiPass], tokenizer) -> Block:
    rows, fixed, certain = [list(steps[0].guess)], [0], []
    for step in steps:
        rows.append([*certain, *step.renewed])
        agreed = [a == b for a, b in zip(step.guess, step.renewed, strict=True)]
        certain += step.renewed[: min(agreed.index(False) + 1 if False in agreed else len(agreed), len(agreed))]
        fixed.append(len(certain))
    end = rows[-1]
    return Block(tuple(tuple(html.texts(tokenizer, row)) for row in rows),
                 tuple(tuple(a == b for a, b in zip(row, end, strict=True)) for row in rows), tuple(fixed))


def frame(block: Block, n: int | None = None) -> str:
    """The passes up to the n-th (default: all): each token certain, right by chance so far, or wrong."""
    last = len(block.rows) - 1
    n = last if n is None else n
    if not 0 <= n <= last:
        raise ValueError(f"this block has rows 0 to {last}, not {n}")
    places = len(block.rows[0])
    wide = (theme.PIXELS - LEFT) / places
    shapes = [svg.label(LEFT + wide * (i + 0.5), 8, f"{i + 1}", size=10, anchor="middle", color=theme.MUTED)
              for i in range(places)]
    for t, row in enumerate(block.rows[: n + 1]):
        y = 20 + ROW * t
        shapes.append(svg.label(LEFT - 8, y + ROW / 2, "first guess" if t == 0 else f"pass {t}", size=11, anchor="end",
                                bold=t == n, color=theme.TEXT if t == n else theme.MUTED))
        for i, shown in enumerate(row):
            new = t > 0 and block.fixed[t - 1] <= i < block.fixed[t]
            shapes.append(_cell(LEFT + wide * i, y, wide, shown, new, i < block.fixed[t], block.right[t][i], t, i))
    early = sum(block.right[n][block.fixed[n]:]) if n < last else 0
    fixed = block.fixed[n] - (block.fixed[n - 1] if n else 0)
    told = "nothing is known yet" if n == 0 else f"{fixed} more certain, {block.fixed[n]} of {places}"
    side = f"{early} beyond that {'is' if early == 1 else 'are'} right already, unknown to anyone" if early else ""
    head = (f'<div style="font:13px {theme.FONT};margin-bottom:4px"><b>{"first guess" if n == 0 else f"pass {n}"}</b>: '
            f'{told} <span style="color:{theme.MUTED}">{side}</span></div>')
    return html.card(head + svg.drawing(theme.PIXELS, 22 + ROW * (last + 1), *shapes, title="Jacobi iteration") + key())


def _cell(x: float, y: float, wide: float, shown: str, new: bool, fixed: bool, right: bool, t: int, i: int) -> str:
    word = html.short(shown, max(int((wide - (13 if new else 5)) / 5.9), 1))
    green = theme.role("accepted")
    fill = green.color if new else green.color + "40" if fixed else EARLY if right else "none"
    ink = theme.ink(green.color) if new else theme.TEXT if fixed else theme.DARK if right else theme.MUTED
    told = "certain" if new or fixed else "as in the finished text, not yet certain" if right else "wrong here"
    return (f"<g><title>{'first guess' if not t else f'pass {t}'}, place {i + 1}: {escape(html.visible(shown))}, {told}"
            "</title>"
            + svg.box(x + 1, y + 1, wide - 2, ROW - 3, fill=fill, stroke=theme.RULE, dashed=not (fixed or right))
            + svg.label(x + wide / 2, y + ROW / 2 - 0.5, green.mark + word if new else word, size=9.8, mono=True,
                        anchor="middle", color=ink) + "</g>")


def key() -> str:
    """What the cells mean."""
    def one(fill: str, line: str, ink: str, mark: str, words: str) -> str:
        style = (f"display:inline-block;min-width:26px;text-align:center;background:{fill};color:{ink};"
                 f"border:1px {line} {theme.RULE};border-radius:3px;font:11px/16px {theme.MONO}")
        return f'<span><span style="{style}">{mark}</span> {words}</span>'
    green = theme.role("accepted").color
    return (f'<div style="display:flex;flex-wrap:wrap;gap:14px;font:12px {theme.FONT};color:{theme.MUTED};'
            'margin-top:2px">'
            + one(green, "solid", theme.ink(green), "✓", "certain from this pass on")
            + one(green + "40", "solid", theme.TEXT, "a", "certain before")
            + one(EARLY, "solid", theme.DARK, "a", "right, not yet certain")
            + one("transparent", "dashed", theme.MUTED, "a", "wrong") + "</div>")


def in_place(block: Block, n: int) -> tuple[int, int, int]:
    """n-grams that the passes made beyond what was certain: (made, somewhere in the finished text, at their place).

    Each different (n-gram, place) counts once, and only if it came before its place was certain.
    """
    end = block.rows[-1]
    known = {tuple(end[i: i + n]) for i in range(len(end) - n + 1)}
    made = {(i, tuple(row[i: i + n])) for row, fixed in zip(block.rows[1:-1], block.fixed[1:-1], strict=True)
            for i in range(fixed, len(row) - n + 1)}
    return (len(made), sum(gram in known for _, gram in made), sum(gram == tuple(end[i: i + n]) for i, gram in made))
