"""Who sits in which row of the batch, step by step: static batches above, continuous batching below.

A plan is a list of steps, and a step a list with the number of the request in each row, None where the row is computed
for nobody, or not at all.
"""
from collections.abc import Mapping, Sequence

from minilm.serving import Step
from minilm.viz import html, svg, theme

Plan = Sequence[Sequence[int | None]]
LEFT, ROW = 44, 19


def from_steps(steps: Sequence[Step]) -> list[list[int | None]]:
    """The plan that an engine made: requests keep the row they first got, and a free row goes to the next."""
    rows: dict[str, int] = {}
    plan = []
    for step in steps:
        here = [name for name, _ in step.batch]
        rows = {name: row for name, row in rows.items() if name in here}
        for name in here:
            if name not in rows:
                rows[name] = next(row for row in range(len(here) + len(rows)) if row not in rows.values())
        line: list[int | None] = [None] * (max(rows.values(), default=-1) + 1)
        for name, row in rows.items():
            line[row] = int(name.split(".")[0])
        plan.append(line)
    widest = max(map(len, plan), default=0)
    return [line + [None] * (widest - len(line)) for line in plan]


def share(plan: Plan) -> float:
    """Of all rows × steps, the share that somebody sat in."""
    cells = [who for step in plan for who in step]
    if not cells:
        raise ValueError("this plan has no steps")
    return sum(who is not None for who in cells) / len(cells)


def picture(plans: Mapping[str, Plan]) -> str:
    """Each plan as rows over steps, all on one scale; letters and colours for requests, crosses for empty rows."""
    longest = max(len(plan) for plan in plans.values())
    wide = (theme.PIXELS - LEFT - 6) / longest
    shapes, y = [], 0.0
    for name, plan in plans.items():
        rows = len(plan[0])
        told = f"{name}: {len(plan)} steps, {share(plan):.0%} of rows × steps used"
        shapes.append(svg.label(0, y + 10, told, size=12.5, bold=True))
        y += 22
        for row in range(rows):
            shapes.append(svg.label(LEFT - 6, y + ROW * (row + 0.5), f"row {row + 1}", size=10, anchor="end",
                                    color=theme.MUTED))
            for start, end, who in _runs([step[row] for step in plan]):
                shapes.append(_run(LEFT + wide * start, y + ROW * row, wide * (end - start), who, start, end))
        y += ROW * rows
        for tick in range(0, longest + 1, 10 if longest > 30 else 5):
            shapes.append(svg.label(LEFT + wide * tick, y + 8, str(tick), size=9.5, anchor="middle", color=theme.MUTED))
        y += 24
    shapes.append(svg.label(LEFT, y - 2, "steps: one pass of the model each", size=10.5, color=theme.MUTED))
    return html.card(svg.drawing(theme.PIXELS, y + 8, *shapes, title="who sits in which row of the batch"))


def _runs(row: Sequence[int | None]) -> list[tuple[int, int, int | None]]:
    """(start, end, who) of equal neighbours."""
    runs: list[tuple[int, int, int | None]] = []
    for step, who in enumerate(row):
        if runs and runs[-1][2] == who:
            runs[-1] = (runs[-1][0], step + 1, who)
        else:
            runs.append((step, step + 1, who))
    return runs


def _run(x: float, y: float, length: float, who: int | None, start: int, end: int) -> str:
    if who is None:
        return (f"<g><title>nobody, steps {start + 1} to {end}</title>"
                + svg.box(x, y + 1, length, ROW - 2, dashed=True, stroke=theme.RULE, radius=0)
                + (svg.label(x + length / 2, y + ROW / 2, "×" * max(1, int(length / 24)), size=10, anchor="middle",
                             color=theme.MUTED) if length > 8 else "") + "</g>")
    letter, color = theme.owner(who)
    return (f"<g><title>request {letter}, steps {start + 1} to {end}</title>"
            + svg.box(x, y + 1, length, ROW - 2, fill=color, stroke="#FFFFFF", radius=1,
                      text=letter if length > 7 else "", size=11) + "</g>")


def fed(steps: Sequence[Step], first: str, *, label: str) -> str:
    """Tokens that each step fed: of the request called `first` (a long prompt), and of all others."""
    high, wide = 74, (theme.PIXELS - LEFT - 6) / max(len(steps), 1)
    most = max(sum(count for _, count in step.batch) for step in steps)
    shapes = [svg.label(0, 10, label, size=12.5, bold=True)]
    for n, step in enumerate(steps):
        long = dict(step.batch).get(first, 0)
        rest = sum(count for _, count in step.batch) - long
        x, y = LEFT + wide * n, 38 + high
        for count, color, said in ((rest, theme.role("decode").color, "others"), (long, theme.role("prefill").color,
                                                                                 "long prompt")):
            tall = high * count / most
            if count:
                shapes.append(f"<g><title>step {n + 1}: {count} tokens, {said}</title>"
                              + svg.box(x + 1, y - tall, max(wide - 2, 1), tall, fill=color, stroke="none", radius=0)
                              + "</g>")
            y -= tall
        if long > 1 and wide > 12:
            shapes.append(svg.label(x + wide / 2, y - 6, f"»{long}", size=10, anchor="middle"))
    shapes += [svg.line(LEFT, 38 + high, theme.PIXELS - 6, 38 + high, color=theme.MUTED, width=1),
               svg.label(LEFT - 6, 38 + high, "0", size=10, anchor="end", color=theme.MUTED),
               svg.label(LEFT - 6, 40, str(most), size=10, anchor="end", color=theme.MUTED)]
    return html.card(svg.drawing(theme.PIXELS, high + 46, *shapes, title=label))
