"""The race as a picture: a lane for each decoder, its text growing at the speed that was measured."""
from collections.abc import Sequence
from html import escape

from minilm.viz import theme
from minilm.viz.html import card, stack, visible

TAIL = 20       # tokens of text shown in a lane: the newest ones


def lanes(results: Sequence, texts: Sequence[Sequence[str]], moment: float) -> str:
    """Where everyone stands `moment` seconds after the start, as HTML.

    results: as `minilm.race.race` returns them.  texts: for each, its tokens as text. Each is drawn at its own even
    pace, new tokens over the median time of its runs; the first bar that is full has won.
    """
    rows = []
    for i, (result, tokens) in enumerate(zip(results, texts, strict=True)):
        written = min(len(tokens), int(moment * result.tokens_per_second))
        rows.append(_lane(result, tokens, written, theme.CATEGORIES[i % 7]))
    return card(stack(*rows, gap=10), caption=f"{moment:.1f} s after the start")


def moments(results: Sequence, frames: int = 41) -> list[float]:
    """Evenly spaced times from the start until the slowest has finished, in seconds."""
    end = max(result.new_tokens / result.tokens_per_second for result in results)
    return [end * i / (frames - 1) for i in range(frames)]


def _lane(result, tokens: Sequence[str], written: int, color: str) -> str:
    """One decoder: its name, a bar of how much it has written, and the newest words."""
    share = 100 * written / max(1, len(tokens))
    done = " ✓" if written == len(tokens) else ""
    newest = "".join(tokens[max(0, written - TAIL):written]).replace("\n", " ")
    head = (f'<div style="display:flex;justify-content:space-between;font:600 13px {theme.FONT}">'
            f'<span>{escape(result.contestant.name)}{done}</span>'
            f'<span style="font-weight:400;color:{theme.MUTED}">{written} tokens · {result.tokens_per_second:.0f}/s'
            f'</span></div>')
    bar = (f'<div style="height:10px;background:{theme.RULE};border-radius:5px;margin:3px 0">'
           f'<div style="height:10px;width:{share:.1f}%;background:{color};border-radius:5px"></div></div>')
    text = (f'<div style="font:12px {theme.MONO};color:{theme.MUTED};height:18px;overflow:hidden;white-space:pre;'
            f'text-align:right;direction:ltr">{escape(newest)}</div>')
    return f"<div>{head}{bar}{text}</div>"


def passes(trace: Sequence, tokens: Sequence[str], *, most: int = 40) -> str:
    """Which tokens each forward pass of the model emitted: a box a pass, the token(s) inside, as HTML."""
    boxes = []
    start = 0
    for number, step in enumerate(trace[:most], 1):
        text = "".join(tokens[start:start + len(step.emitted)])
        start += len(step.emitted)
        color = theme.role("prefill" if number == 1 else "decode").color
        boxes.append(f'<span style="display:inline-block;border:1px solid {theme.RULE};border-bottom:3px solid {color};'
                     f'border-radius:4px;padding:1px 5px;font:12px/1.5 {theme.MONO}" title="pass {number}: '
                     f'{step.fed} tokens in">{escape(visible(text))}</span>')
    more = f" … and {len(trace) - most} more" if len(trace) > most else ""
    return card(f'<div style="display:flex;flex-wrap:wrap;gap:4px">{"".join(boxes)}</div>',
                caption=f"A box is one pass of the model; the first reads the whole prompt.{more}")
