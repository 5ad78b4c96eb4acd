"""One layer on two ranks, step by step: what each rank has, and the two places where they speak.

    widgets.player(parallel_flow.frames(config), label="step (from 0)")
"""
from dataclasses import dataclass

from minilm.model import GPTConfig
from minilm.viz import html, svg, theme

WIDE, HIGH, GAP, LEFT = 46, 46, 8.5, 30             # pixels: a box, between boxes, where boxes begin
LANES = (30, 128)                                   # the upper edges of the two ranks' rows


@dataclass(frozen=True)
class Stage:
    """name stands in the box, holds under it. kind: "same" on both ranks, "own", "summand", or "sum" (the exchange)."""

    name: str
    holds: str
    kind: str
    told: str


def stages(config: GPTConfig, ranks: int = 2) -> list[Stage]:
    """What happens to one token's hidden state in a layer."""
    c = config
    heads, kv, mlp = c.num_heads // ranks, c.num_kv_heads // ranks, c.mlp_width // ranks
    d = f"{c.width:,}"
    return [
        Stage("x", d, "same", f"The hidden state of one token, {d} numbers. Both ranks have all of it, bit by bit the "
              "same."),
        Stage("norm", d, "same", "Both do the same small work: sharing it would cost more than it saves."),
        Stage("qkv", f"{heads}+{kv}+{kv}", "own", f"Cut by rows, that is, by outputs: each rank makes {heads} query "
              f"heads and the {kv} key and {kv} value head{'s' * (kv > 1)} that belong to them. Nothing is sent."),
        Stage("attend", f"{heads} heads", "own", "Heads don't know of each other. Each rank attends with its own, to "
              f"a cache that holds {kv} of {c.num_kv_heads} key-value heads: the cache is cut, too."),
        Stage("out", f"{d} ½", "summand", "Cut by columns, by inputs: a rank multiplies its own heads' outputs by its "
              f"own columns. It gets all {d} numbers, but each is only one of the summands. Alone, they mean nothing."),
        Stage("Σ", d, "sum", f"All-reduce: the ranks add up their {d} numbers and both get the sum. The first of two "
              "times that they speak, and wait."),
        Stage("+, norm", d, "same", "The residual and the norm, on both."),
        Stage("gate_up", f"2·{mlp}", "own", f"Cut by rows: each rank makes {mlp} gates and the same {mlp} columns "
              "of up."),
        Stage("silu ×", f"{mlp:,}", "own", "Number by number, so each rank can go on alone. Had the cut been the "
              "other way round, the ranks would have to add up before the silu: silu(a + b) is not silu(a) + silu(b)."),
        Stage("down", f"{d} ½", "summand", f"Cut by columns: again {d} summands on each rank."),
        Stage("Σ", d, "sum", "The second all-reduce. With the residual this is the next layer's x."),
    ]


def frames(config: GPTConfig) -> list[str]:
    """A picture for each stage."""
    return [frame(config, number) for number in range(len(stages(config)))]


def frame(config: GPTConfig, number: int) -> str:
    """The layer with everything up to stage `number` done."""
    done, shapes = stages(config), []
    for lane, top in enumerate(LANES):
        letter, color = theme.owner(lane)
        shapes += [svg.circle(12, top + HIGH / 2, 11, fill=color, stroke="none"),
                   svg.label(12, top + HIGH / 2, letter, size=13, bold=True, anchor="middle", color=theme.ink(color))]
    for i, stage in enumerate(done):
        x = LEFT + i * (WIDE + GAP + 10)
        shapes += _stage(stage, x, i, number)
    width = LEFT + len(done) * (WIDE + GAP + 10) + 4
    words = (f'<div style="font:13px/1.5 {theme.FONT};min-height:40px"><b>{number} · {done[number].name}</b> '
             f"{done[number].told}</div>")
    return html.card(words + svg.drawing(width, LANES[1] + HIGH + 44, *shapes, title="one layer on two ranks"),
                     caption="Under a box: how many numbers, or heads, the rank then has of this token. ½: one summand "
                             "of two. Dashed frames: the same on both ranks. Σ: an all-reduce.")


def _stage(stage: Stage, x: float, i: int, number: int) -> list[str]:
    now, past = i == number, i <= number
    if stage.kind == "sum":
        fill = theme.YELLOW if past else "none"
        top, bottom = LANES[0] - 6, LANES[1] + HIGH + 6
        shapes = [svg.box(x + 8, top, WIDE - 16, bottom - top, fill=fill, stroke=theme.TEXT if now else theme.MUTED,
                          radius=8, text="Σ", size=18)]
    else:
        shapes = []
        for lane, top in enumerate(LANES):
            color = theme.owner(lane)[1] if stage.kind in ("own", "summand") else theme.role("prompt").color
            shapes.append(svg.box(x, top, WIDE, HIGH, fill=color if past else "none", text=stage.name,
                                  stroke=theme.TEXT if now else theme.MUTED, dashed=stage.kind == "same",
                                  size=11.5 if len(stage.name) < 7 else 10))
    for top in LANES if stage.kind != "sum" else ():
        shapes.append(svg.label(x + WIDE / 2, top + HIGH + 12, stage.holds, size=10, anchor="middle",
                                color=theme.TEXT if past else theme.MUTED))
    if i:
        shapes += [svg.arrow(x - 17, top + HIGH / 2, x - 3 + 8 * (stage.kind == "sum"), top + HIGH / 2, head=5)
                   for top in LANES]
    if now:
        shapes.append(svg.label(x + WIDE / 2, LANES[0] - 18, "▾", size=14, anchor="middle"))
    return shapes
