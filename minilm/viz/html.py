"""Tokens one can read, tables, cards: pure functions from data to HTML strings, with all style inline.

Wrap the result in `picture.Html` to show it in a cell, or give it to `widgets.player` as a frame.
"""
from collections.abc import Sequence
from html import escape

from minilm.text import shortened
from minilm.viz import theme

_MARKS = {"\n": "⏎", "\t": "⇥", "\r": "␍"}


def visible(text: str) -> str:
    """A token's text with its white space made visible: space as ·, newline as ⏎, tab as ⇥; "" as ∅."""
    return "".join("·" if c == " " else _MARKS.get(c, c if c.isprintable() else "▯") for c in text) or "∅"


def short(text: str, room: int) -> str:
    """`visible`, cut to `room` characters."""
    return shortened(visible(text), room)


def texts(tokenizer, ids: Sequence[int]) -> list[str]:
    """Each token's own text. A special token shows its name, a piece of a longer UTF-8 character shows as ▯."""
    return [_text(tokenizer, int(i)) for i in ids]


def _text(tokenizer, token: int) -> str:
    text = tokenizer.decode([token])
    if not text and hasattr(tokenizer, "backend"):              # decoding drops special tokens
        text = tokenizer.backend.id_to_token(token) or ""
    return text.replace("\ufffd", "▯")


def marked(text: str) -> str:
    """`visible` as HTML: the marks for white space are thin, so that the words stand out."""
    out = []
    for c in visible(text):
        thin = c in "·⏎⇥␍▯∅"
        out.append(f'<span style="opacity:.45">{c}</span>' if thin else escape(c))
    return "".join(out)


def chip(text: str, *, color: str = "transparent", mark: str = "", line: str = "solid", strike: bool = False,
         title: str = "", below: str = "") -> str:
    """One token. `mark` stands before it, `below` is a small line under it, `title` shows on hovering."""
    mark = f'<span style="font-size:75%;opacity:.8;margin-right:2px">{escape(mark)}</span>' if mark else ""
    edge = theme.RULE if color == "transparent" or line == "solid" else theme.DARK
    cross = "text-decoration:line-through;" if strike else ""
    name = f' title="{escape(title)}"' if title else ""
    body = (f'<span{name} style="display:inline-block;background:{color};color:{theme.ink(color)};'
            f'border:1px {line} {edge};border-radius:4px;padding:1px 4px;font:13px/1.45 {theme.MONO};'
            f'white-space:pre;{cross}">{mark}{marked(text)}</span>')
    if below:
        body = (f'<span style="display:inline-flex;flex-direction:column;align-items:center">{body}'
                f'<span style="font:11px/1.4 {theme.FONT};color:{theme.MUTED}">{escape(below)}</span></span>')
    return body


def token_strip(tokens: Sequence[str], roles: Sequence[str] | str = "plain", *, shades: Sequence[float] | None = None,
                scale=theme.confidence, below: Sequence[str] | None = None, titles: Sequence[str] | None = None,
                caption: str = "") -> str:
    """Tokens in a row that wraps.

    tokens: their texts. roles: a name from `theme.ROLES` for each, or one for all. shades: in place of the roles'
    colours, a number from 0 to 1 for each on `scale`. below, titles: a short text for each, under it or on hovering.
    """
    n = len(tokens)
    names = [roles] * n if isinstance(roles, str) else list(roles)
    for what, given in (("roles", names), ("shades", shades), ("below", below), ("titles", titles)):
        if given is not None and len(given) != n:
            raise ValueError(f"{n} tokens but {len(given)} {what}: give one for each token")
    chips = []
    for i, token in enumerate(tokens):
        role = theme.role(names[i])
        color = role.color if shades is None else scale(shades[i])
        chips.append(chip(token, color=color, mark=role.mark, line=role.line, strike=role.name == "rejected",
                          title=titles[i] if titles else "", below=below[i] if below else ""))
    body = f'<div style="display:flex;flex-wrap:wrap;gap:3px;align-items:flex-start">{"".join(chips)}</div>'
    return card(body, caption=caption)


def key(*names: str) -> str:
    """A line that says what roles look like: ✓ accepted  ✗ rejected ..."""
    chips = (chip(name, color=theme.role(name).color, mark=theme.role(name).mark, line=theme.role(name).line)
             for name in names)
    return f'<div style="display:flex;gap:6px;margin:4px 0">{"".join(chips)}</div>'


def scale_key(low: str, high: str, scale=theme.confidence, steps: int = 8) -> str:
    """A small bar of the scale's colours between its two ends' names."""
    start = -1 if scale is theme.diverging else 0
    cells = "".join(f'<span style="display:inline-block;width:18px;height:10px;background:'
                    f'{scale(start + (1 - start) * i / (steps - 1))}"></span>' for i in range(steps))
    return (f'<span style="display:inline-flex;align-items:center;gap:6px;font:12px {theme.FONT};color:{theme.MUTED}">'
            f'{escape(low)} <span style="display:inline-flex;border:1px solid {theme.RULE}">{cells}</span> '
            f'{escape(high)}</span>')


def cell(text: str, *, color: str = "transparent", bold: bool = False, align: str = "center", title: str = "",
         mono: bool = True, size: int = 12, width: int | None = None, bar: bool = False) -> str:
    """One <td> for `table`; its text is shown as it is: pass tokens through `visible` first. bar: a green foot."""
    style = [f"text-align:{align}", "padding:2px 5px", "white-space:pre", f"border:1px solid {theme.RULE}"]
    if color != "transparent":
        style += [f"background:{color}", f"color:{theme.ink(color)}"]
    if width:
        style += [f"max-width:{width}px", f"min-width:{width}px", "overflow:hidden"]
    if bold:
        style.append("font-weight:700")
    if bar:
        style.append(f"border-bottom:3px solid {theme.GREEN}")
    if size != 12:
        style.append(f"font-size:{size}px")
    if not mono:
        style.append(f"font-family:{theme.FONT}")
    name = f' title="{escape(title)}"' if title else ""
    return f'<td{name} style="{";".join(style)}">{escape(text)}</td>'


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), *, caption: str = "") -> str:
    """A table. A row holds `cell(...)` strings, or plain text; header cells are plain text. Wide ones scroll."""
    head = "".join(f'<th style="text-align:center;padding:2px 5px;font:600 12px {theme.FONT};color:{theme.MUTED};'
                   f'background:transparent;white-space:pre;border:none">{escape(h)}</th>' for h in header)
    row_start = '<tr style="background:transparent">'
    body = "".join(row_start + "".join(c if c.startswith("<td") else cell(c, mono=False) for c in row) + "</tr>"
                   for row in rows)
    top = f"<thead>{row_start}{head}</tr></thead>" if header else ""
    style = f"border-collapse:collapse;margin:0;border:none;font:12px/1.5 {theme.MONO}"
    return card(f'<div style="overflow-x:auto"><table style="{style}">{top}<tbody>{body}</tbody></table></div>',
                caption=caption)


def card(body: str, *, title: str = "", caption: str = "") -> str:
    """A block with an optional title line above and a caption below, in the notebook's own text colours."""
    top = f'<div style="font:600 13px {theme.FONT};margin-bottom:4px">{escape(title)}</div>' if title else ""
    small = f"font:12px/1.5 {theme.FONT};color:{theme.MUTED};margin-top:4px"
    foot = f'<div style="{small}">{escape(caption)}</div>' if caption else ""
    return f'<div style="color:{theme.TEXT};margin:4px 0;max-width:{theme.PIXELS + 40}px">{top}{body}{foot}</div>'


def stack(*pieces: str, gap: int = 8) -> str:
    """Pieces one under the other."""
    return f'<div style="display:flex;flex-direction:column;gap:{gap}px">{"".join(pieces)}</div>'
