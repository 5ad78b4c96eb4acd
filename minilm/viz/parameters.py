"""Where a model's parameters sit and what they cost: counts from the config alone, so that an 8B shape is free."""
from minilm.model import GPTConfig
from minilm.viz import html, theme
from minilm.viz.picture import Chart

COLORS = {"embedding": theme.GREY, "attention": theme.BLUE, "MLP": theme.ORANGE, "norms": theme.PURPLE,
          "vocabulary": theme.SKY}


def count(config: GPTConfig) -> dict[str, int]:
    """Parameters by part. A tied vocabulary matrix is the embedding seen again, so it counts 0."""
    c = config
    heads = c.num_heads + 2 * c.num_kv_heads
    attention = c.width * heads * c.head_size + c.num_heads * c.head_size * c.width
    attention += heads * c.head_size if c.qkv_bias else 0
    norms = 2 * c.width + (2 * c.head_size if c.qk_norm else 0)
    return {"embedding": c.vocab_size * c.width, "attention": c.num_layers * attention,
            "MLP": c.num_layers * 3 * c.width * c.mlp_width, "norms": c.num_layers * norms + c.width,
            "vocabulary": 0 if c.tie_embeddings else c.vocab_size * c.width}


def multiplied(config: GPTConfig) -> int:
    """N: parameters that a token is multiplied with. The embedding is only looked up, unless it is also the head."""
    parts = count(config)
    return parts["attention"] + parts["MLP"] + config.vocab_size * config.width


def flops(config: GPTConfig, context: int) -> dict[str, int]:
    """FLOPs of one token's forward pass when it reads `context` tokens (itself among them).

    A multiply-add is 2. weights: 2N. attention: 4·L·context·H·D, for the scores and for the weighted sum of values.
    Kaplan et al. 2020, eq. 2.2, has half of that attention term at a context of n_ctx (as if averaged over a causal
    text) and an N without the vocabulary matrix.
    """
    c = config
    return {"weights": 2 * multiplied(c), "attention": 4 * c.num_layers * context * c.num_heads * c.head_size}


def short(number: float) -> str:
    """1234567 -> "1.2M"."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def chart(configs: dict[str, GPTConfig]) -> Chart:
    """One bar a model, cut by where its parameters sit."""
    fig, ax = theme.figure(height=0.65 + 0.72 * len(configs))
    for row, config in enumerate(configs.values()):
        parts, start = count(config), 0.0
        total = sum(parts.values())
        for part, number in parts.items():
            share = number / total
            ax.barh(row, share, left=start, height=0.62, color=COLORS[part], edgecolor="white", linewidth=1.5)
            _name(ax, row, start, share, part, number)
            start += share
        ax.text(1.01, row, short(total), va="center", fontweight="bold")
    ax.set_yticks(range(len(configs)), configs)
    ax.tick_params(axis="y", length=0, labelsize=10)
    ax.set_xlim(0, 1.08)
    ax.set_ylim(len(configs) - 0.3, -0.5)
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    theme.title(ax, "Where the parameters sit (norms are too few to see)")
    return Chart(fig, f"parameters of {len(configs)} models")


def _name(ax, row: int, start: float, share: float, part: str, number: int) -> None:
    """Write a piece's part and number into it, or under it when it is narrow; not at all when it can't be seen."""
    middle = start + share / 2
    if share > 0.1:
        ax.text(middle, row, f"{part}\n{short(number)}", ha="center", va="center", fontsize=8.5,
                color=theme.ink(COLORS[part]))
    elif share > 0.01:
        side = "left" if start == 0 else "right" if start + share > 0.99 else "center"
        x = {"left": start, "right": start + share, "center": middle}[side]
        ax.text(x, row + 0.36, f"{part} {short(number)}", ha=side, va="top", fontsize=8.5,
                color=theme.readable(COLORS[part]))


def _bar(share: float, width: int = 120) -> str:
    """A table cell with a two-coloured bar: blue for `share`, orange for the rest."""
    strip = "display:inline-block;height:11px"
    return (f'<td style="border:1px solid {theme.RULE};padding:2px 6px;min-width:190px;'
            f'text-align:left;white-space:nowrap">'
            f'<span style="{strip};width:{width * share:.0f}px;background:{theme.BLUE}"></span>'
            f'<span style="{strip};width:{width * (1 - share):.0f}px;background:{theme.ORANGE}"></span>'
            f'<span style="font:12px {theme.FONT};margin-left:8px;color:{theme.TEXT}">{100 * share:.0f} %</span></td>')


def table(configs: dict[str, GPTConfig], context: int) -> str:
    """Parameters and FLOPs for a token at `context`, one row a model; the bar is attention's share of the FLOPs."""
    rows = []
    for name, config in configs.items():
        cost = flops(config, context)
        total = sum(cost.values())
        share = cost["attention"] / total
        rows.append([html.cell(name, align="left", mono=False, bold=True), short(sum(count(config).values())),
                     short(cost["weights"]), short(cost["attention"]), short(total), _bar(share)])
    return html.table(rows, ["model", "parameters", "2N", "attention", "FLOPs a token", "attention's share (blue)"],
                      caption=f"One token's forward pass with {context:,} tokens of context.")
