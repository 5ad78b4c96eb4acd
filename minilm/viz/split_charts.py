"""When to cut and when to copy: time of a step by ranks, tokens a second by texts, and the choice as a table."""
from collections.abc import Mapping, Sequence

from minilm.bench.split_cost import Machine, Plan, decode_step, fastest, plans
from minilm.model import GPTConfig
from minilm.viz import html, theme
from minilm.viz.picture import Chart

PARTS = (("weights", theme.BLUE), ("keys and values", theme.ORANGE), ("exchanges", theme.VERMILLION))


def step_chart(config: GPTConfig, machines: Mapping[str, Machine], *, texts: int = 1, context: int = 2048,
               ranks: Sequence[int] = (1, 2, 4, 8)) -> Chart:
    """Milliseconds of a decode step by number of ranks, and what they go into; a panel for each machine."""
    fig, axes = theme.figure(1, len(machines), height=3.0, sharey=True)
    for ax, (name, machine) in zip(axes if len(machines) > 1 else [axes], machines.items(), strict=True):
        steps = [decode_step(config, texts, context, n, machine) for n in ranks]
        low = [0.0] * len(ranks)
        for (part, color), taken in zip(PARTS, zip(*((s.weights, s.kv, s.exchange) for s in steps), strict=True),
                                        strict=True):
            high = [1e3 * seconds for seconds in taken]
            ax.bar(range(len(ranks)), high, 0.62, bottom=low, color=color, label=part)
            low = [a + b for a, b in zip(low, high, strict=True)]
        for i, total in enumerate(low):
            ax.annotate(f"{total:.2f} ms\n{low[0] / total:.2f}×", (i, total), xytext=(0, 3), ha="center", fontsize=8.5,
                        textcoords="offset points")
        ax.set(xticks=range(len(ranks)), xticklabels=[str(n) for n in ranks], xlabel="ranks",
               ylim=(0, 1.22 * max(ax.get_ylim()[1], max(low))))
        theme.title(ax, name)
    first = axes[0] if len(machines) > 1 else axes
    first.set_ylabel("ms a step")
    (axes[-1] if len(machines) > 1 else axes).legend(loc="upper right", fontsize=8.5, frameon=False)
    return Chart(fig, f"a step by {len(ranks)} numbers of ranks on {len(machines)} machines")


def gain_chart(config: GPTConfig, gpus: int, machines: Mapping[str, Machine], *, context: int = 512,
               texts: Sequence[int] = (1, 4, 16, 64, 256, 1024, 4096)) -> Chart:
    """Tokens a second of every way to cut, as a multiple of uncut copies, by texts served at once. Above 1 cutting
    wins. Only what fits in memory is drawn."""
    fig, axes = theme.figure(1, len(machines), height=3.3, sharey=True)
    axes = axes if len(machines) > 1 else [axes]
    for ax, (name, machine) in zip(axes, machines.items(), strict=True):
        by_ranks: dict[int, list[tuple[int, float]]] = {}
        for count in texts:
            options = {plan.ranks: plan for plan in plans(config, gpus, count, context, machine) if plan.fits}
            for ranks, plan in options.items():
                if ranks > 1 and 1 in options:
                    by_ranks.setdefault(ranks, []).append(
                        (count, plan.tokens_per_second / options[1].tokens_per_second))
        ax.axhline(1, **theme.limit())
        ax.annotate(f"{gpus} uncut copies", (texts[0], 1), xytext=(0, -9), textcoords="offset points", fontsize=8.5,
                    va="center", color="#666666")
        for i, (ranks, points) in enumerate(sorted(by_ranks.items())):
            color, copies = theme.CATEGORIES[i], gpus // ranks
            ax.plot(*zip(*points, strict=True), **theme.ours(color) | {"marker": "so^D"[i % 4]})
            if ax is axes[0]:                                   # the others have the same colours and marks
                ax.annotate(f"{copies} cop{'y' if copies == 1 else 'ies'} × {ranks} ranks", points[0], xytext=(4, 9),
                            textcoords="offset points", fontsize=8.5, color=theme.readable(color))
        ax.set(xscale="log", xlabel=f"texts at once on {gpus} GPUs", ylim=(0, max(1.2, 1.15 * ax.get_ylim()[1])))
        ax.set_xticks(texts, [f"{count:,}" for count in texts])
        ax.minorticks_off()
        ax.grid(axis="y")
        theme.title(ax, name)
    axes[0].set_ylabel("tokens/s, × uncut copies")
    return Chart(fig, f"cutting against copying on {gpus} GPUs and {len(machines)} links")


def choice(models: Mapping[str, GPTConfig], gpus: int, machine: Machine, context: int,
           texts: Sequence[int] = (1, 4, 16, 64, 256, 1024)) -> str:
    """A table: for each model and number of texts the plan with most tokens a second, which waits least, too."""
    rows = [[html.cell(name, align="left", mono=False),
             *(_plan(fastest(plans(config, gpus, count, context, machine)), count) for count in texts)]
            for name, config in models.items()]
    key = html.scale_key("a whole model on each GPU", "one model over all GPUs", theme.depth)
    return html.stack(html.table(rows, ["texts at once", *(f"{count:,}" for count in texts)],
                                 caption=f"{gpus} GPUs, texts of {context:,} tokens: copies × ranks, then ms a step, "
                                         "then tokens a second. By the cost model, not measured."), key)


def _plan(plan: Plan | None, texts: int) -> str:
    if plan is None:
        return html.cell("does not\nfit", mono=False, title=f"{texts} texts do not fit into the memory of any plan")
    gpus = plan.ranks * plan.replicas
    color = theme.depth(0.0 if gpus == 1 else (plan.ranks.bit_length() - 1) / max(gpus.bit_length() - 1, 1) * 0.9)
    text = f"{plan.replicas} × {plan.ranks}\n{1e3 * plan.step.seconds:.2g} ms\n{_rounded(plan.tokens_per_second)}/s"
    return html.cell(text, color=color, width=64)


def _rounded(number: float) -> str:
    return f"{number:,.0f}" if number < 1000 else f"{number / 1000:,.3g}k"
