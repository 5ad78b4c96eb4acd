"""CALM's threshold, decaying along the text: the paper's equation 5 beside what the released code computes."""
from minilm.decoding.calm import decayed
from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

FORMS = {"paper": ("the paper, eq. 5: 0.9 λ + 0.1 exp(-τ t / N)", theme.BLUE),
         "released": ("the released code: λ (0.9 + 0.1 exp(-τ t / N))", theme.ORANGE)}
LEFT, RIGHT, TOP, BOTTOM = 46, 700, 14, 228


def curve(threshold: float, tau: float, horizon: int, form: str) -> list[float]:
    """The threshold for each new token from 0 to `horizon`."""
    return [decayed(threshold, t, tau, horizon, form) for t in range(horizon + 1)]


def view(threshold: float, tau: float, horizon: int) -> str:
    """Both forms along the text, as SVG with the values at its start and end in words."""
    low = min(0.9 * threshold, threshold) - 0.04
    high = min(max(curve(threshold, tau, horizon, "paper")), 1) + 0.02
    at = lambda t, value: (LEFT + t / horizon * (RIGHT - LEFT),                               # noqa: E731
                           BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP))
    shapes = [svg.line(LEFT, BOTTOM, RIGHT, BOTTOM), svg.line(LEFT, TOP, LEFT, BOTTOM)]
    for share in range(5):
        value, t = low + share / 4 * (high - low), horizon * share / 4
        shapes += [svg.label(LEFT - 6, at(0, value)[1], f"{value:.2f}", size=11, color=theme.MUTED, anchor="end"),
                   svg.label(at(t, low)[0], BOTTOM + 14, f"{t:.0f}", size=11, color=theme.MUTED, anchor="middle")]
    _, y = at(0, threshold)
    shapes += [svg.line(LEFT, y, RIGHT, y, dashed=True),
               svg.label(RIGHT - 4, y - 9, f"λ = {threshold:.2f}", size=12, color=theme.MUTED, anchor="end"),
               svg.label((LEFT + RIGHT) / 2, BOTTOM + 34, "t, the new token (of N)", size=12, color=theme.MUTED,
                         anchor="middle")]
    rows = []
    for form, (name, color) in FORMS.items():
        values = curve(threshold, tau, horizon, form)
        shapes.append(svg.path([at(t, v) for t, v in enumerate(values)], color=color, width=3, dashed=form != "paper"))
        style = "dashed" if form != "paper" else "solid"
        rows.append([html.cell(name, mono=False, align="left"), style, f"{values[0]:.3f}",
                     f"{values[horizon // 2]:.3f}", f"{values[-1]:.3f}"])
    words = html.table(rows, ["", "line", "first token", "half way", "last"])
    return html.card(html.stack(svg.drawing(RIGHT + 20, BOTTOM + 46, *shapes, title="the decaying threshold"), words))


def chart(threshold: float, taus: tuple[float, ...], horizon: int) -> Chart:
    """Both forms at several τ: the paper's starts above λ, the released code's at λ; both fall towards 0.9 λ."""
    fig, ax = theme.figure(height=3.0)
    for form, (name, color) in FORMS.items():
        for tau in taus:
            values = curve(threshold, tau, horizon, form)
            ax.plot(values, color=color, linestyle="-" if form == "paper" else (0, (5, 2)),
                    label=name if tau == taus[0] else None)
            if form == "paper":
                t = round(0.45 * horizon)
                theme.label(ax, t, values[t], f"τ = {tau:g}", color, dx=4, dy=8)
    ax.axhline(threshold, **theme.limit())
    theme.label(ax, horizon, threshold, f"λ = {threshold:g}", theme.GREY, dx=-2, dy=7, ha="right")
    ax.set(xlabel=f"t, the new token (of N = {horizon})", ylabel="threshold at t", xlim=(0, horizon))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return Chart(fig, f"the decaying threshold, {len(taus)} values of τ")
