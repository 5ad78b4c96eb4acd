"""Charts of lookahead decoding: passes saved against (W, N, G), theory beside measurement; tokens that cost nothing."""
from collections.abc import Iterable, Sequence

from minilm.bench.limits import Limits
from minilm.decoding.lookahead import LookaheadPass
from minilm.decoding.speedup import expected_of_best, lookahead_tokens, step_compression
from minilm.generation import Generation
from minilm.viz import html, svg, theme
from minilm.viz.picture import Chart

GPUS = (Limits("RTX 3090", (0.936e12,), (71e12,)), Limits("A100 80 GB", (2.039e12,), (312e12,)),
        Limits("H100, measured", (3.0e12,), (798e12,)))         # the first two: data sheets, 16 bits, dense


# --- what a run tells ------------------------------------------------------------------------------------------------

def observe(runs: Iterable[Generation]) -> dict[str, float]:
    """What the formula needs, from greedy runs of `lookahead`; the prompts' own passes are left out of all but `saved`.

    saved: tokens over passes.  fed: tokens a pass.  alpha: of the guessed tokens whose forerunners in the guess were
    right, the share that was right.  b: guesses in a pass that had any.  asked: share of passes that had any.
    given: tokens of such a pass.
    """
    tokens = passes = later = fed = right = judged = guesses = asked = given = 0
    for run in runs:
        tokens, passes, done = tokens + len(run.tokens), passes + len(run.trace), 0
        for n, step in enumerate(run.trace):
            if n and isinstance(step, LookaheadPass):
                later, fed = later + 1, fed + step.fed
                if step.guesses:
                    asked, given, guesses = asked + 1, given + len(step.emitted), guesses + len(step.guesses)
                    for guess in step.guesses:
                        for guessed, true in zip(guess, run.tokens[done:], strict=False):
                            judged, right = judged + 1, right + (guessed == true)
                            if guessed != true:
                                break
            done += len(step.emitted)
    return {"saved": tokens / passes, "fed": fed / max(later, 1), "alpha": right / max(judged, 1),
            "b": guesses / max(asked, 1), "asked": asked / max(later, 1), "given": given / max(asked, 1)}


def fitted_f(saved: float, alpha: float, window: int, ngram: int, guesses: int) -> float:
    """The f with which S = (f - 1 + E) / f is `saved`; at least 1."""
    expected = expected_of_best(alpha, ngram - 1, guesses)
    return max((expected - 1) / max(saved - 1, 1e-9), 1.0)


# --- passes saved ----------------------------------------------------------------------------------------------------

def saved_chart(measured: dict[str, dict[tuple[int, int, int], float]],
                theory: dict[str, tuple[float, float]]) -> Chart:
    """Tokens a pass by n-gram length (left) and by window (right).

    measured[name][W, N, G]: solid.  theory[name]: (α, f) of the formula, dashed.

    Left are the settings with the widest window, right those with the n-gram length that most settings share.
    """
    settings = list(next(iter(measured.values())))
    widest = max(w for w, _, _ in settings)
    lengths = sorted({n for w, n, _ in settings if w == widest})
    common = max(lengths, key=lambda n: (sum(n == other for _, other, _ in settings), n))
    windows = sorted({w for w, n, _ in settings if n == common})
    fig, (left, right) = theme.figure(1, 2, height=3.2, sharey=True)
    for i, (name, rows) in enumerate(measured.items()):
        color, (alpha, f) = theme.CATEGORIES[2 * i], theory[name]
        mark = theme.ours(color) | {"marker": "os"[i % 2]}
        formula = lambda w, n: step_compression(expected_of_best(alpha, n - 1, w), f)       # noqa: E731,B023
        left.plot(lengths, [rows[widest, n, widest] for n in lengths], **mark)
        left.plot(lengths, [formula(widest, n) for n in lengths], **theme.paper(color))
        right.plot(windows, [rows[w, common, w] for w in windows], **mark)
        right.plot(windows, [formula(w, common) for w in windows], **theme.paper(color))
        theme.label(right, windows[-1], rows[windows[-1], common, windows[-1]], name, color, dx=7)
    left.set(xlabel=f"n-gram length N   (W = G = {widest})", ylabel="tokens a pass", xticks=lengths)
    right.set(xlabel=f"window W = G   (N = {common})", xticks=windows)
    for ax in (left, right):
        ax.axhline(1, **theme.limit())
        ax.grid(axis="y")
    theme.label(left, lengths[-1], 1, "plain decoding", theme.GREY, dx=-4, dy=7, ha="right", fontsize=8)
    right.set_xlim(windows[0] - 0.5, windows[-1] * 1.3)
    theme.title(left, "Longer n-grams")
    theme.title(right, "Wider windows; dashed: the formula")
    return Chart(fig, f"passes saved, {len(settings)} settings, {len(measured)} kinds of prompts")


def theory_view(alpha: float, f: float, *, lengths: Sequence[int] = (2, 3, 5, 11), widest: int = 256) -> str:
    """S = (f - 1 + E) / f against W = G on a log scale, a line for each N: exponential work for linear gain."""
    left, top, wide, high = 48, 30, theme.PIXELS - 250, 210
    widths = [2**k for k in range(widest.bit_length())]
    most = max(step_compression(expected_of_best(alpha, n - 1, widest), f) for n in lengths)
    most = max(2.0, 1.1 * most)
    x = lambda k: left + wide * k / (len(widths) - 1)                                       # noqa: E731
    y = lambda s: top + high * (1 - (s - 1) / (most - 1))                                   # noqa: E731
    shapes = [svg.label(left, 10, f"tokens a pass, S = (f − 1 + E) / f, with α = {alpha:.2f} and f = {f:.1f}", size=13,
                        bold=True)]
    step = 0.5 if most < 3 else 1
    for i in range(int((most - 1) / step) + 1):
        tick = 1 + step * i
        shapes += [svg.line(left, y(tick), left + wide, y(tick), color=theme.RULE, width=0.8),
                   svg.label(left - 8, y(tick), f"{tick:g}", size=11, anchor="end", color=theme.MUTED)]
    ends = []
    for i, n in enumerate(lengths):
        values = [step_compression(expected_of_best(alpha, n - 1, w), f) for w in widths]
        color = theme.CATEGORIES[i]
        shapes.append(svg.path([(x(k), y(s)) for k, s in enumerate(values)], color=color, width=2.2))
        ends.append((y(values[-1]), n, values[-1], color))
    at = 0.0
    for end, n, value, color in sorted(ends):
        at = max(end, at + 16)
        fed = lookahead_tokens(widest, n, widest)
        shapes += [svg.circle(left + wide + 10, at, 4, fill=color, stroke="none"),
                   svg.label(left + wide + 18, at, f"N = {n}: {value:.2f} for {fed:,} tokens", size=11.5)]
    shapes += [svg.label(x(k), top + high + 13, f"{w}", size=11, anchor="middle", color=theme.MUTED)
               for k, w in enumerate(widths)]
    shapes.append(svg.label(left + wide / 2, top + high + 30, "window W = guesses G (each step doubles the work)",
                            size=12, anchor="middle"))
    return svg.drawing(theme.PIXELS, top + high + 42, *shapes, title="passes saved by window and n-gram length")


# --- tokens that cost nothing ----------------------------------------------------------------------------------------

def free_tokens(limits: Limits, bytes_per_number: float = 2) -> float:
    """Tokens of a pass up to which reading the weights takes longer than multiplying with them: ridge · bytes / 2."""
    return limits.ridge * bytes_per_number / 2


def price(limits: Limits, tokens: float, bytes_per_number: float = 2) -> float:
    """Time of a pass over so many tokens, in passes over one; weights only, at both limits."""
    return max(1.0, tokens / free_tokens(limits, bytes_per_number))


def budget_chart(machines: Sequence[tuple[Limits, float]], marks: dict[str, float]) -> Chart:
    """What a pass costs by its number of tokens. machines: (limits, bytes of a number); marks: name -> tokens."""
    fig, ax = theme.figure(height=3.5)
    most = 1000
    for i, (limits, size) in enumerate(machines):
        free, color = free_tokens(limits, size), theme.CATEGORIES[(0, 1, 2, 5, 3)[i % 5]]
        line = theme.paper(color) if limits in GPUS else theme.ours(color) | {"marker": ""}
        ax.plot([1, free, most], [1, 1, price(limits, most, size)], **line)
        theme.label(ax, most, price(limits, most, size), f"{limits.name}: {free:.0f} free", color)
    top = max(price(limits, most, size) for limits, size in machines) * 2.2
    for name, tokens in marks.items():
        ax.axvline(tokens, **theme.limit() | {"linewidth": 1})
        theme.label(ax, tokens, top, name, theme.GREY, dx=-3, dy=-3, ha="right", va="top", rotation=90, fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel="tokens of a pass", ylabel="price, in passes over one token",
           xlim=(1, most), ylim=(0.85, top))
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.minorticks_off()
    ax.grid(axis="y")
    theme.title(ax, "Free until the ridge")
    return Chart(fig, f"price of a pass on {len(machines)} machines")


def budget_view(machines: Sequence[tuple[Limits, float]], window: int, ngram: int, batch: int, saved: float) -> str:
    """For each machine the price of a pass as a bar, against the tokens a pass gives: shorter than that, it pays."""
    fed = lookahead_tokens(window, ngram, window) * batch
    left, wide, high = 150, 330, 34
    most = 2.0 * saved
    x = lambda value: left + wide * min(value, most) / most                                 # noqa: E731
    told = f"(W + G)(N − 1) · batch = {fed:,} tokens fed in a pass; each text gains {saved:.2f} tokens by it"
    shapes = [svg.label(0, 10, told, size=13, bold=True)]
    foot = 34 + high * len(machines)
    for i, (limits, size) in enumerate(machines):
        y, cost = 34 + high * i, price(limits, fed, size)
        pays = cost < saved
        shapes += [svg.label(left - 8, y + 8, limits.name, size=12, anchor="end"),
                   svg.label(left - 8, y + 21, f"{free_tokens(limits, size):.0f} tokens free", size=9.5, anchor="end",
                             color=theme.MUTED),
                   svg.box(left, y + 2, x(cost) - left, high - 12, stroke="none", dashed=False,
                           fill=theme.GREEN if pays else theme.VERMILLION)]
        if cost > most:                                         # a torn end: longer than the picture
            shapes.append(svg.label(left + wide - 6, y + 13, "»", size=15, anchor="end", color=theme.LIGHT, bold=True))
        told = f"price {cost:.2f}: " + (f"up to {saved / cost:.2f}× as fast" if pays else
                                        f"{saved / cost:.2f}×, slower" if cost > saved else "no gain")
        shapes.append(svg.label(left + wide + 12, y + 13, ("✓ " if pays else "✗ ") + told, size=12))
    shapes += [svg.line(x(saved), 26, x(saved), foot, color=theme.TEXT, width=1.6, dashed=True),
               svg.line(x(1), 26, x(1), foot, color=theme.MUTED, width=1),
               svg.label(x(1) + 4, foot + 9, "1: a plain pass", size=10, anchor="end", color=theme.MUTED),
               svg.label(x(saved) - 4 if saved > 1 else x(saved) + 4, foot + 9, "break even", size=10)]
    return html.card(svg.drawing(theme.PIXELS, foot + 20, *shapes, title="what a pass costs on each machine"))
