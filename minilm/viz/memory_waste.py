"""The waste meter: of all memory for keys and values, what holds tokens and what is lost in which way."""
from collections.abc import Mapping

from minilm.bench.reservations import Shares
from minilm.viz import html, svg, theme

PARTS = ("used", "reserved", "internal", "external")
COLORS = dict(zip(PARTS, (theme.GREEN, theme.SKY, theme.ORANGE, theme.PURPLE), strict=True))
MARKS = dict(zip(PARTS, ("✓", "…", "✗", "↔"), strict=True))
SAYS = {"used": "holds a token", "reserved": "for a token to come", "internal": "reserved, never used",
        "external": "free, in pieces too small"}
# Kwon et al. 2023, figure 2: OPT-13B, ShareGPT; in per cent, in the order of PARTS ("external" there: and others)
PAPER = {"max": (20.4, 13.3, 57.3, 8.9), "pow2": (26.8, 17.9, 13.6, 41.6), "oracle": (38.2, 25.2, 0.0, 36.6),
         "paged": (96.3, 0.0, 0.0, 0.0)}
NAMES = {"max": "Orca (Max)", "pow2": "Orca (Pow2)", "oracle": "Orca (Oracle)", "paged": "paged (16)"}
LEFT, BAR, LOW, ROW = 132, 26, 13, 60


def meter(found: Mapping[str, Shares], paper: Mapping[str, tuple[float, ...]] = PAPER) -> str:
    """A bar of the whole memory for each policy; below it, thin and dashed, the paper's.

    What is missing to the end is free: nobody waited for it, or the last request in line was too large.
    """
    wide = theme.PIXELS - LEFT
    shapes = []
    for row, (name, shares) in enumerate(found.items()):
        y = 4 + ROW * row
        shapes.append(svg.label(LEFT - 8, y + BAR / 2, NAMES.get(name, name), size=12, anchor="end", bold=True))
        shapes.append(svg.box(LEFT, y, wide, BAR, dashed=True, radius=0, stroke=theme.RULE))
        at = LEFT
        for part in PARTS:
            length = wide * getattr(shares, part)
            shapes.append(_part(at, y, length, BAR, part, 100 * getattr(shares, part), 11.5))
            at += length
        if name in paper:
            at = LEFT
            shapes.append(svg.label(LEFT - 8, y + BAR + 3 + LOW / 2, "the paper", size=10, anchor="end",
                                    color=theme.MUTED))
            for part, share in zip(PARTS, paper[name], strict=True):
                shapes.append(_part(at, y + BAR + 3, wide * share / 100, LOW, part, share, 9.5, faint=True))
                at += wide * share / 100
    drawn = svg.drawing(theme.PIXELS, 4 + ROW * len(found), *shapes, title="where the memory goes")
    return html.card(key() + drawn)


def _part(x: float, y: float, length: float, high: float, part: str, share: float, size: float,
          faint: bool = False) -> str:
    """A piece of a bar with its number, if there is room for one."""
    if length < 0.5:
        return ""
    fill = COLORS[part] + ("55" if faint else "")
    full = f"{MARKS[part]} {part} {share:.0f} %"
    text = next((said for said in (full, f"{MARKS[part]} {share:.0f} %", f"{share:.0f}")
                 if len(said) * size * 0.56 < length - 4), "")
    ink = theme.TEXT if faint else theme.ink(COLORS[part])
    return (f"<g><title>{part}: {share:.1f} %, {SAYS[part]}</title>"
            + svg.box(x, y, length, high, fill=fill, stroke=theme.MUTED, radius=0, dashed=faint)
            + (svg.label(x + length / 2, y + high / 2, text, size=size, anchor="middle", color=ink) if text else "")
            + "</g>")


def key() -> str:
    """What the parts mean."""
    def one(part: str) -> str:
        style = (f"display:inline-block;min-width:18px;text-align:center;background:{COLORS[part]};"
                 f"color:{theme.ink(COLORS[part])};border-radius:3px;font:11px/16px {theme.FONT}")
        return f'<span><span style="{style}">{MARKS[part]}</span> {part}: {SAYS[part]}</span>'
    return (f'<div style="display:flex;flex-wrap:wrap;gap:4px 16px;font:12px {theme.FONT};color:{theme.MUTED};'
            f'margin-bottom:6px">{"".join(map(one, PARTS))}</div>')
