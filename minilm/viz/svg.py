"""The few SVG shapes that diagrams need: pure functions to strings. Lengths are in pixels, y grows downwards.

    drawing(300, 80, box(10, 10, 60, 40, fill=theme.GREEN, text="B"), arrow(75, 30, 120, 30))

Text follows the notebook's theme (light or dark) unless it stands on a filled box, where it takes the box's best ink.
"""
from html import escape

from minilm.viz import theme


def drawing(width: float, height: float, *shapes: str, title: str = "") -> str:
    """An <svg> that shrinks with a narrow column. `title` is what a screen reader says."""
    name = f"<title>{escape(title)}</title>" if title else ""
    return (f'<svg role="img" viewBox="0 0 {_n(width)} {_n(height)}" width="{_n(width)}" height="{_n(height)}" '
            f'style="max-width:100%;height:auto;font-family:{theme.FONT}">{name}{"".join(shapes)}</svg>')


def box(x: float, y: float, width: float, height: float, *, fill: str = "none", stroke: str = theme.MUTED,
        text: str = "", size: float = 12, radius: float = 3, dashed: bool = False, mono: bool = False) -> str:
    """A rectangle with optional centred text."""
    dash = ";stroke-dasharray:4 3" if dashed else ""
    shape = (f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="{_n(radius)}" '
             f'style="fill:{fill};stroke:{stroke}{dash}"/>')
    if not text:
        return shape
    color = theme.ink(fill) if fill.startswith("#") else theme.TEXT
    return shape + label(x + width / 2, y + height / 2, text, size=size, color=color, anchor="middle", mono=mono)


def label(x: float, y: float, text: str, *, size: float = 12, color: str = theme.TEXT, anchor: str = "start",
          bold: bool = False, mono: bool = False) -> str:
    """Text centred vertically on y; anchor is "start", "middle" or "end"."""
    font = f";font-family:{theme.MONO}" if mono else ""
    weight = ";font-weight:600" if bold else ""
    return (f'<text x="{_n(x)}" y="{_n(y)}" dy=".35em" text-anchor="{anchor}" '
            f'style="fill:{_fill(color)};font-size:{_n(size)}px{weight}{font};white-space:pre">{escape(text)}</text>')


def line(x1: float, y1: float, x2: float, y2: float, *, color: str = theme.MUTED, width: float = 1.5,
         dashed: bool = False) -> str:
    """A straight line."""
    dash = ";stroke-dasharray:4 3" if dashed else ""
    return (f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" '
            f'style="stroke:{color};stroke-width:{_n(width)}{dash}"/>')


def arrow(x1: float, y1: float, x2: float, y2: float, *, color: str = theme.MUTED, width: float = 1.5,
          head: float = 6) -> str:
    """A line from (x1, y1) with a filled head at (x2, y2)."""
    length = max(((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5, 1e-9)
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    bx, by = x2 - head * dx, y2 - head * dy
    points = [(x2, y2), (bx - head / 2 * dy, by + head / 2 * dx), (bx + head / 2 * dy, by - head / 2 * dx)]
    corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
    return line(x1, y1, bx, by, color=color, width=width) + f'<polygon points="{corners}" style="fill:{color}"/>'


def circle(x: float, y: float, radius: float, *, fill: str = "none", stroke: str = theme.MUTED,
           width: float = 1) -> str:
    """A circle round (x, y)."""
    return (f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" '
            f'style="fill:{fill};stroke:{stroke};stroke-width:{_n(width)}"/>')


def path(points: list[tuple[float, float]], *, color: str = theme.MUTED, width: float = 1.5,
         dashed: bool = False) -> str:
    """A line through all points."""
    dash = ";stroke-dasharray:4 3" if dashed else ""
    corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
    return f'<polyline points="{corners}" style="fill:none;stroke:{color};stroke-width:{_n(width)}{dash}"/>'


def _fill(color: str) -> str:
    return "currentColor" if color == "inherit" else color


def _n(number: float) -> str:
    """Short and the same on every machine: one decimal, no trailing zero."""
    return f"{number:.1f}".removesuffix(".0")
