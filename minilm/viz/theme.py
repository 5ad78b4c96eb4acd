"""The visual language: what a colour, a mark and a line style mean, from the first lesson to the last.

Categories take the palette of Okabe and Ito ("Color universal design", 2008), which colour-blind readers can tell
apart; every role also has a mark, so that no meaning rests on colour alone. Amounts (exit depth, confidence) take
scales whose lightness falls evenly, so they survive grey print. Nothing here imports matplotlib until a chart is made.
"""
import math
from dataclasses import dataclass

# Okabe-Ito
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#8A8A8A"
CATEGORIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, YELLOW, GREY)
DARK, LIGHT = "#0A0A0A", "#FFFFFF"

# For HTML: follow JupyterLab's theme where there is one, read well where there is none.
TEXT = "var(--jp-ui-font-color1, inherit)"
MUTED = "var(--jp-ui-font-color2, #767676)"
RULE = "#8886"        # grey that lets its background through: a hairline in either theme
PANEL = "var(--jp-layout-color2, rgba(128,128,128,.12))"
FONT = "var(--jp-ui-font-family, system-ui, sans-serif)"
MONO = "var(--jp-code-font-family, ui-monospace, Menlo, Consolas, monospace)"

WIDTH = 7.4         # inches: a chart as wide as a laptop's notebook column
PIXELS = 720        # the same width on screen; charts are stored at twice this for sharp displays


@dataclass(frozen=True)
class Role:
    """What a token or a phase is. `mark` says it without colour; `line` is the CSS border style of its chip."""

    name: str
    color: str
    mark: str
    line: str = "solid"


ROLES = {role.name: role for role in (
    Role("prompt", "#C8CCD0", ""),              # what the user gave
    Role("plain", "transparent", ""),           # a token with nothing to say about
    Role("current", YELLOW, "▸"),               # the one being looked at
    Role("accepted", GREEN, "✓"),               # drafted, and the target agrees
    Role("rejected", VERMILLION, "✗", "dashed"),  # drafted, and thrown away
    Role("recovered", ORANGE, "↺"),             # drawn by the target in a rejected one's place
    Role("bonus", SKY, "+"),                    # the target's own, after all drafts were accepted
    Role("prefill", BLUE, "»"),                 # the prompt in one pass
    Role("decode", PURPLE, "›"),                # one token a pass
)}


def role(name: str) -> Role:
    """The role called `name`. Raises ValueError that lists the known ones."""
    if name not in ROLES:
        raise ValueError(f"no role is called {name!r}; there are {', '.join(ROLES)}")
    return ROLES[name]


def owner(index: int) -> tuple[str, str]:
    """(letter, colour) of the index-th owner of memory blocks: A blue, B orange, ... The letter tells all 26 apart."""
    if index < 0:
        raise ValueError(f"owners are counted from 0, not {index}")
    return chr(ord("A") + index % 26), CATEGORIES[:7][index % 7]


# --- scales ----------------------------------------------------------------------------------------------------------

def _oklch(lightness: float, chroma: float, hue: float) -> str:
    """Colour from OKLCH (Ottosson 2020), the space in which equal steps look equal, as #rrggbb."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
              -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
              -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)
    linear = (min(max(c, 0), 1) for c in linear)
    srgb = (12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in linear)
    return "#" + "".join(f"{round(255 * c):02X}" for c in srgb)


def _fraction(t: float) -> float:
    if not 0 <= t <= 1:
        raise ValueError(f"a scale takes a number from 0 to 1, not {t}")
    return float(t)


def confidence(t: float) -> str:
    """Colour of a share or probability: 0 nearly white, 1 deep blue."""
    t = _fraction(t)
    return _oklch(0.975 - 0.545 * t, 0.012 + 0.125 * math.sin(math.pi / 2 * t), 245)


def depth(t: float) -> str:
    """Colour of an exit depth: 0 (first layer) pale yellow, through green and teal, to 1 (last layer) deep violet."""
    t = _fraction(t)
    return _oklch(0.93 - 0.6 * t, 0.075 + 0.075 * math.sin(math.pi * t), 100 + 190 * t)


def diverging(t: float) -> str:
    """Colour of a signed amount from -1 (vermillion) over 0 (near white) to +1 (blue)."""
    if not -1 <= t <= 1:
        raise ValueError(f"a diverging scale takes a number from -1 to 1, not {t}")
    return _oklch(0.975 - 0.43 * abs(t), 0.15 * abs(t), 245 if t > 0 else 48)


def ink(color: str) -> str:
    """Black or white, whichever reads better on `color` (#rrggbb); the notebook's own text colour on transparent."""
    if color == "transparent":
        return TEXT
    channels = [int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return DARK if (luminance + 0.05) / 0.053 > 1.05 / (luminance + 0.05) else LIGHT


def colormap(scale):
    """`confidence`, `depth` or `diverging` as a matplotlib colour map."""
    from matplotlib.colors import ListedColormap

    low = -1 if scale is diverging else 0
    return ListedColormap([scale(low + (1 - low) * i / 255) for i in range(256)], name=scale.__name__)


# --- charts ----------------------------------------------------------------------------------------------------------

RC = {
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",  # legible in dark mode too
    "font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#9A9A9A", "axes.labelcolor": "#444444",
    "xtick.color": "#9A9A9A", "ytick.color": "#9A9A9A", "xtick.labelcolor": "#444444", "ytick.labelcolor": "#444444",
    "text.color": DARK, "axes.grid": False, "grid.color": "#E4E4E4", "grid.linewidth": 0.8, "axes.axisbelow": True,
    "lines.linewidth": 2, "lines.solid_capstyle": "round", "svg.fonttype": "none", "font.family": "DejaVu Sans",
}


def figure(rows: int = 1, columns: int = 1, *, height: float = 3.2, width: float = WIDTH, **kwargs):
    """A themed matplotlib (figure, axes), outside pyplot: no global state, no window, nothing to close.

    height, width: inches, of the whole figure. kwargs go to `Figure.subplots` (sharey=True, width_ratios=...).
    Draw inside `with matplotlib.rc_context(theme.RC)` only if you add axes yourself.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(width, height), layout="constrained")
        axes = fig.subplots(rows, columns, **kwargs)
    return fig, axes


def title(ax, text: str):
    """A bold title at the left, as every chart has it."""
    return ax.set_title(text, loc="left", fontweight="bold", fontsize=11)


def ours(color: str = BLUE) -> dict:
    """Line style of what this machine measured: solid, with dots at the samples."""
    return {"color": color, "linestyle": "-", "linewidth": 2, "marker": "o", "markersize": 4, "zorder": 3}


def paper(color: str = BLUE) -> dict:
    """Line style of a number quoted from a paper: dashed, no dots."""
    return {"color": color, "linestyle": (0, (4, 2)), "linewidth": 1.6, "zorder": 2}


def limit() -> dict:
    """Line style of what cannot be passed: a memory's rate, a matrix unit's rate, a bound."""
    return {"color": "#9A9A9A", "linestyle": "-", "linewidth": 1.4, "zorder": 1}


def label(ax, x: float, y: float, text: str, color: str = DARK, *, dx: float = 5, dy: float = 0, **kwargs):
    """Write `text` beside the point (x, y), dx and dy points away, in its line's colour: no legend needed."""
    kwargs = {"va": "center", "fontsize": 9, "annotation_clip": False} | kwargs
    return ax.annotate(text, (x, y), xytext=(dx, dy), textcoords="offset points", color=readable(color), **kwargs)


def readable(color: str) -> str:
    """`color`, darkened where it is too pale for text on white."""
    darker = {YELLOW: "#8A7F00", SKY: "#1F7BB6", ORANGE: "#9A6A00", PURPLE: "#A3487A", GREY: "#666666"}
    return darker.get(color, color)
