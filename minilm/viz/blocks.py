"""The model as a drawing: one token's way through the residual stream, with the shapes of a given config."""
from minilm.model import GPTConfig
from minilm.viz import svg, theme

STREAM_X, WIDE, HIGH = 150, 200, 32


def diagram(config: GPTConfig) -> str:
    """Embedding at the bottom, `L` times (attention, MLP) beside the stream, head on top; a line of shapes for each."""
    c = config
    heads = f"{c.num_heads} query heads share {c.num_kv_heads} key-value heads of {c.head_size}"
    shapes = [
        svg.arrow(STREAM_X, 372, STREAM_X, 46, color=theme.GREY, width=5, head=12),
        svg.box(STREAM_X - 100, 90, 680, 222, stroke=theme.RULE, dashed=True, radius=8),
        svg.label(STREAM_X - 88, 106, f"× {c.num_layers} layers", bold=True, color=theme.MUTED),
        svg.label(STREAM_X - 12, 348, f"{c.width} numbers", color=theme.MUTED, anchor="end", size=11),
        _box(STREAM_X, 388, "embedding", theme.GREY, f"row of a table of {c.vocab_size:,} × {c.width}"),
        _box(STREAM_X, 28, "norm, vocabulary matrix", theme.SKY,
             f"{c.vocab_size:,} logits" + (", the embedding again (tied)" if c.tie_embeddings else "")),
        *_branch(272, "attention", theme.BLUE, heads),
        *_branch(172, "SwiGLU MLP", theme.ORANGE, f"{c.width} → 2 × {c.mlp_width} → {c.mlp_width} → {c.width}"),
    ]
    return svg.drawing(734, 412, *shapes, title="one token's way through the model")


def _box(x: float, y: float, name: str, color: str, note: str) -> str:
    return (svg.box(x - WIDE / 2, y - HIGH / 2, WIDE, HIGH, fill=color, stroke="none", text=name, radius=6)
            + svg.label(x + WIDE / 2 + 14, y, note, size=12, color=theme.MUTED))


def _branch(y: float, name: str, color: str, note: str) -> list[str]:
    """Read the stream below, norm, work, and add the result back above."""
    x, top, bottom = STREAM_X, y - 34, y + 22
    return [
        svg.line(x, bottom, x + 60, bottom, color=color, width=2),
        svg.arrow(x + 60, bottom, x + 60, bottom - 9, color=color),
        svg.box(x + 30, y - 11, 60, 24, fill=theme.PURPLE, stroke="none", text="norm", radius=5, size=11),
        svg.arrow(x + 90, y + 1, x + 122, y + 1, color=color, width=2),
        svg.box(x + 122, y - 15, 150, HIGH, fill=color, stroke="none", text=name, radius=6),
        svg.line(x + 197, y - 15, x + 197, top, color=color, width=2),
        svg.arrow(x + 198, top, x + 12, top, color=color, width=2),
        svg.circle(x, top, 11, fill="#FFFFFF", stroke=color, width=2),
        svg.label(x, top, "+", size=16, color=theme.DARK, anchor="middle", bold=True),
        svg.label(x + 284, y + 1, note, size=12, color=theme.MUTED),
    ]
