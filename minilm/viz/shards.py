"""Who holds what: the weight matrices of a model over the ranks, a letter and a colour for each rank.

    widgets.explorer(lambda model, ranks, dealt: shards.view(models[model], ranks, dealt=dealt), ...)
"""
from dataclasses import dataclass

from minilm.model import GPTConfig
from minilm.serving.parallel import check_divides
from minilm.text import counted
from minilm.viz import html, svg, theme

HIGH, TOP = 210, 42                             # pixels: the tallest matrix, and where matrices begin
NOBODY, ALL = -1, -2                            # owners that are no rank


@dataclass(frozen=True)
class Matrix:
    """parts: (name, how many pieces) of what lies in it one after the other. cut: "rows", "columns" or "not"."""

    name: str
    parts: tuple[tuple[str, int], ...]
    cut: str
    numbers: int
    wide: float
    high: float

    @property
    def pieces(self) -> int:
        return sum(count for _, count in self.parts)

    def owners(self, ranks: int, dealt: bool) -> list[int]:
        """Of each piece, top to bottom or left to right. Not dealt: an even cut of the rows as they lie."""
        if self.cut == "not":
            return [ALL] * self.pieces
        if not dealt:
            return [piece * ranks // self.pieces for piece in range(self.pieces)]
        return [piece * ranks // count for _, count in self.parts for piece in range(count)]


def matrices(config: GPTConfig, ranks: int = 1) -> list[Matrix]:
    """One layer's four matrices, with the embedding before and the vocabulary matrix behind."""
    c, columns = config, max(ranks, 1)
    heads = c.num_heads + 2 * c.num_kv_heads
    return [
        Matrix("embedding", (("", 1),), "not", c.vocab_size * c.width, 52, HIGH),
        Matrix("qkv", (("queries", c.num_heads), ("keys", c.num_kv_heads), ("values", c.num_kv_heads)), "rows",
               heads * c.head_size * c.width, 84, HIGH),
        Matrix("out", (("", c.num_heads),), "columns", c.num_heads * c.head_size * c.width, 104, 84),
        Matrix("gate_up", (("gate", columns), ("up", columns)), "rows", 2 * c.mlp_width * c.width, 84, HIGH),
        Matrix("down", (("", columns),), "columns", c.mlp_width * c.width, 104, 84),
        Matrix("vocabulary", (("", columns),), "rows", c.vocab_size * c.width, 52, HIGH),
    ]


def view(config: GPTConfig, ranks: int, *, dealt: bool = True) -> str:
    """All matrices with their owners; where the model can't be cut so, what would do, and nobody's colour."""
    wrong = ""
    try:
        check_divides(config, ranks)
    except ValueError as error:
        wrong = str(error)
    shapes, x = [], 0.0
    for matrix in matrices(config, ranks):
        owners = [NOBODY] * matrix.pieces if wrong else matrix.owners(ranks, dealt)
        left = 58 if matrix.parts[0][0] else 10
        shapes += _matrix(matrix, owners, x + left, ranks)
        x += left + matrix.wide + 12
    head = _wrong(wrong) if wrong else _told(config, ranks, dealt)
    return html.card(head + svg.drawing(max(x, theme.PIXELS), TOP + HIGH + 22, *shapes, title="shards of every weight"),
                     caption="A block is a head in qkv and out, an equal run of rows or columns elsewhere. Rows of a "
                             "matrix are its outputs, columns its inputs. The embedding is on every rank.")


def _matrix(matrix: Matrix, owners: list[int], x: float, ranks: int) -> list[str]:
    along, across = (matrix.wide, matrix.high) if matrix.cut == "columns" else (matrix.high, matrix.wide)
    size = along / matrix.pieces
    y = TOP + (HIGH - matrix.high) / 2
    shapes = [svg.label(x + matrix.wide / 2, 10, matrix.name, size=12.5, bold=True, anchor="middle", mono=True),
              svg.label(x + matrix.wide / 2, 27, {"not": "not cut"}.get(matrix.cut, f"cut by {matrix.cut}"), size=11,
                        anchor="middle", color=theme.MUTED)]
    first = 0
    for name, count in matrix.parts:
        if name:
            shapes.append(svg.label(x - 6, y + (first + count / 2) * size, name, size=11, anchor="end"))
        first += count
    for start, stop in _runs(matrix, owners):
        owner, offset, length = owners[start], start * size, (stop - start) * size
        place = (x + offset, y, length, across) if matrix.cut == "columns" else (x, y + offset, across, length)
        shapes.append(_run(place, owner, ranks))
        thin = [svg.line(*((x + i * size, y, x + i * size, y + across) if matrix.cut == "columns" else
                           (x, y + i * size, x + across, y + i * size)), color="#FFFFFF", width=0.5)
                for i in range(start + 1, stop) if size > 3]
        shapes += thin
    return shapes


def _runs(matrix: Matrix, owners: list[int]) -> list[tuple[int, int]]:
    """Pieces next to each other that one rank owns, within a part."""
    ends, first = set(), 0
    for _, count in matrix.parts:
        first += count
        ends.add(first)
    found, start = [], 0
    for i in range(1, len(owners) + 1):
        if i in ends or owners[i] != owners[start]:
            found.append((start, i))
            start = i
    return found


def _run(place: tuple[float, float, float, float], owner: int, ranks: int) -> str:
    x, y, wide, high = place
    if owner == ALL:                                            # stripes of all ranks
        step = high / (ranks * 4)
        colors = [theme.owner(i % ranks)[1] for i in range(ranks * 4)]
        stripes = "".join(svg.box(x, y + i * step, wide, step, fill=color, stroke="none", radius=0)
                          for i, color in enumerate(colors))
        paper = svg.box(x + wide / 2 - 15, y + high / 2 - 10, 30, 20, fill=theme.LIGHT, stroke="none")
        words = paper if ranks > 1 else ""
        return stripes + words + svg.label(x + wide / 2, y + high / 2, "all" if ranks > 1 else "A", size=12, bold=True,
                                           anchor="middle", color=theme.DARK if ranks > 1 else theme.LIGHT)
    if owner == NOBODY:
        return svg.box(x, y, wide, high, fill=theme.RULE, stroke="none", radius=0)
    letter, color = theme.owner(owner)
    shape = svg.box(x, y, wide, high, fill=color, stroke="#FFFFFF", radius=0)
    if min(wide, high) >= 9:
        shape += svg.label(x + wide / 2, y + high / 2, letter, size=min(13, wide, high), bold=True,
                           anchor="middle", color=theme.ink(color))
    return shape


def _told(config: GPTConfig, ranks: int, dealt: bool) -> str:
    whole, cut = _numbers(config)
    total = cut if config.tie_embeddings else whole + cut
    each = total if ranks == 1 else whole + cut / ranks
    line = (f"<b>{counted(ranks, 'rank')}</b>, each holds {each / 1e6:,.1f} million of {total / 1e6:,.1f} million "
            f"numbers, {config.num_heads // ranks} query and {config.num_kv_heads // ranks} key-value heads")
    if not dealt and ranks > 1:
        line += (f'<br><span style="color:{theme.VERMILLION};font-weight:600">✗ cut as the rows lie: look at the keys, '
                 "the values, the gate and the up. No rank can attend, or gate, with what it has.</span>")
    elif ranks > 1:
        line += "<br>✓ every rank has keys and values for its queries, and an up for each gate"
    return f'<div style="font:13px/1.6 {theme.FONT};min-height:44px">{line}</div>'


def _wrong(message: str) -> str:
    return (f'<div style="font:13px/1.6 {theme.FONT};min-height:44px"><span style="color:{theme.VERMILLION};'
            f'font-weight:600">✗</span> {message}</div>')


def _numbers(config: GPTConfig) -> tuple[int, int]:
    """(numbers that every rank holds, numbers that are cut), over all layers; norms left out."""
    first, *layer, last = matrices(config)
    return first.numbers, config.num_layers * sum(matrix.numbers for matrix in layer) + last.numbers

