"""Prompt lookup seen in the text: which words matched, what followed them there, and how much of it was right."""
from collections.abc import Sequence
from html import escape

from minilm.generation import Generation
from minilm.text import counted
from minilm.viz import html, theme

MATCH, COPY = theme.YELLOW, theme.SKY


def place(text: Sequence[int], drafted: Sequence[int], ngram: int) -> tuple[int, int]:
    """(start, n): where the n tokens stand that the text's end matched, and that `drafted` was copied from after.

    Raises ValueError when the draft was not copied from the text.
    """
    text, drafted = list(text), list(drafted)
    for n in range(min(ngram, len(text) - 1), 0, -1):
        for start in range(len(text) - n - 1, -1, -1):
            follows = text[start + n : start + n + len(drafted)]
            if drafted and text[start : start + n] == text[-n:] and follows == drafted:
                return start, n
    raise ValueError("these tokens do not follow an earlier match in the text")


def frames(generation: Generation, prompt: Sequence[int], tokenizer, *, ngram: int = 3) -> list[str]:
    """One picture for each round of a run of `speculative` with `PromptLookup(..., ngram)`."""
    out, text = [], list(prompt)
    for n, step in enumerate(generation.trace):
        if n:
            out.append(_frame(n, text, step, tokenizer, ngram))
        text += step.emitted
    return out


def _frame(n: int, text: list[int], step, tokenizer, ngram: int) -> str:
    """The text before round n, marked, and after it the draft as it was judged."""
    start, length = place(text, step.drafted, ngram) if step.drafted else (0, 0)
    copied = range(start + length, min(start + length + len(step.drafted), len(text)))
    words = html.texts(tokenizer, text)
    flow = []
    for i, word in enumerate(words):
        if length and (start <= i < start + length or i >= len(words) - length):
            flow.append(_marked(word, MATCH, "▸" if i in (start, len(words) - length) else "", solid=True))
        elif length and i in copied:
            flow.append(_marked(word, COPY, "", solid=False))
        else:
            flow.append(f'<span style="opacity:.75">{_readable(word)}</span>')
    accepted = set(step.accepted)
    for i, word in enumerate(html.texts(tokenizer, step.drafted)):
        role = theme.role("accepted" if i in accepted else "rejected")
        flow.append(html.chip(word, color=role.color, mark=role.mark, line=role.line, strike=role.name == "rejected"))
    own = theme.role("recovered" if len(accepted) < len(step.drafted) else "bonus" if step.drafted else "decode")
    for word in html.texts(tokenizer, step.emitted[len(accepted):]):
        flow.append(html.chip(word, color=own.color, mark=own.mark))
    told = (f"its last {counted(length, 'token')} stood in it before: {counted(len(step.drafted), 'token')} copied, "
            f"{len(accepted)} accepted" if length else "its end stood nowhere before: nothing drafted")
    head = f'<div style="font:13px {theme.FONT};margin-bottom:6px"><b>round {n}</b>: {told}</div>'
    body = f'<div style="font:13px/1.75 {theme.MONO};white-space:pre-wrap">{"".join(flow)}</div>'
    return html.card(head + body + key())


def _readable(word: str) -> str:
    """A token in running text: spaces stay spaces, a line's end is shown and taken."""
    return escape(word).replace("\n", '<span style="opacity:.45">⏎</span>\n')


def _marked(word: str, color: str, mark: str, *, solid: bool) -> str:
    """A token of the match (filled), or of what follows it (underlined)."""
    if solid:
        style = f"background:{color};color:{theme.ink(color)};border-radius:2px"
    else:
        style = f"border-bottom:3px solid {color}"
    return f'<span style="{style}">{mark}{_readable(word)}</span>'


def key() -> str:
    """What the marks mean."""
    match = f'<span style="background:{MATCH};color:{theme.ink(MATCH)};border-radius:2px;padding:0 3px">▸match</span>'
    copy = f'<span style="border-bottom:3px solid {COPY}">what followed it</span>'
    return (f'<div style="display:flex;flex-wrap:wrap;gap:14px;align-items:center;margin-top:6px;'
            f'font:12px {theme.FONT};color:{theme.MUTED}">{match}{copy}'
            f'{html.key("accepted", "rejected", "recovered", "bonus")}</div>')
