"""`minilm race --mine`: the race on the screen, and its result on the leaderboard."""
import argparse
import json
from datetime import date

import minilm
from minilm import leaderboard
from minilm.bench.contestants import Course
from minilm.bench.record import machine
from minilm.capstone.contest import Outcome, Row, check_contest, contest, opponents_of, speed_up
from minilm.capstone.entry import KINDS, Entry, read
from minilm.lab.sandbox import keep_out
from minilm.text import counted

LEAST_ROUNDS = 3            # fewer say too little for the leaderboard
OUT_OF_BOUNDS = 1           # the exit status


def run(args: argparse.Namespace) -> int:
    """Race args.mine; 0 when it kept the bound, 1 when it did not."""
    from rich.console import Console
    from rich.live import Live
    if args.device != "cpu":
        raise ValueError("the capstone is raced on the CPU: leave --device out")
    if args.prompt is not None:
        raise ValueError("the capstone asks prompts of its own, new ones each time: leave --prompt out")
    count = 64 if args.max_new_tokens is None else args.max_new_tokens
    check_contest(args.quality, count, args.rounds)
    keep_out()                                                      # the answers are here
    entry = read(args.mine, args.name)
    leaderboard.read()                                              # a broken file is told before the race, not after
    model, tokenizer = minilm.load(args.model)
    if args.only:
        opponents_of(Course(model, tokenizer, [0], count), args.only)           # a name that there isn't, too
    settings = {"opponents": args.only, "count": count, "rounds": args.rounds, "quality": args.quality,
                "seed": args.seed}
    if args.json:
        outcome = contest(model, tokenizer, args.model, entry, **settings)
        print(json.dumps(as_dict(outcome), indent=2))
    else:
        console = Console()
        console.print(f"{args.model}, {counted(args.rounds, 'round')} of three new prompts, {count} new tokens each, "
                      f"greedy, {leaderboard.bound_of(args.quality)}; first two processes start and warm up …")
        try:
            with Live(console=console, auto_refresh=False) as live:
                outcome = contest(model, tokenizer, args.model, entry, **settings,
                                  on_update=lambda now: live.update(table(now), refresh=True))
                live.update(table(outcome), refresh=True)
        finally:
            console.print()                                         # piped, the table ends without a new line
        for line in remarks(outcome, tokenizer):
            console.print(line, markup=False, highlight=False)
    kept = keep(args, entry, outcome, count)
    if not args.json:
        print(kept)
    return 0 if outcome.place is not None else OUT_OF_BOUNDS


def keep(args: argparse.Namespace, entry: Entry, outcome: Outcome, count: int) -> str:
    """Enter the result into the leaderboard; says what became of it."""
    if outcome.place is None:
        return "not on the leaderboard: out of bounds"
    if args.rounds < LEAST_ROUNDS or args.seed is not None:
        return f"not on the leaderboard: it takes {LEAST_ROUNDS} rounds, and prompts that nobody chose (no --seed)"
    about, mine, base = machine(), outcome.mine, outcome.baseline
    best = next((row for row in outcome.standing() if not row.mine), base)
    better = leaderboard.enter({
        "name": entry.name, "role": entry.role, "model": args.model, "new_tokens": count, "quality": args.quality,
        "machine": f"{about['processor']}, {about['cores']} cores", "speed_up": round(speed_up(mine, base), 3),
        "by_kind": {kind: round(speed_up(mine, base, (kind,)), 3) for kind in KINDS}, "loss": round(mine.loss, 4),
        "rounds": args.rounds, "date": date.today().isoformat(), "beside": {best.name: round(speed_up(best, base), 3)}})
    what = "entered" if better else f"{entry.name} was faster before: that run stays"
    return f"leaderboard: {what} (minilm race --leaderboard)"


def verdict(row: Row, quality: float) -> str:
    """"exact", "loss 0.031", "out: 0.412", or "out" where a rule was broken."""
    if row.disqualified:
        return "out"
    if not row.within(quality):
        return f"out: {row.loss:.3f}"
    return f"loss {row.loss:.3f}" if row.loss else "exact"


def table(outcome: Outcome):
    """The standing as a rich table; those out of bounds come last, without a place."""
    from rich.table import Table
    from rich.text import Text
    view = Table("", "decoder", box=None, pad_edge=False, collapse_padding=True)
    for header in ("tokens/s", "speed-up", *KINDS, "per pass"):
        view.add_column(header, justify="right", no_wrap=True)
    view.add_column("output", no_wrap=True)
    standing, base = outcome.standing(), outcome.baseline
    for row in standing + [row for row in outcome.rows if row not in standing]:
        ratios = [speed_up(row, base), *(speed_up(row, base, (kind,)) for kind in KINDS)]
        place = f"{standing.index(row) + 1}." if row in standing else ""
        view.add_row(place, Text(f"{row.name} (yours)" if row.mine else row.name), f"{row.tokens_per_second:.1f}",
                     *("…" if ratio != ratio else f"{ratio:.2f}×" for ratio in ratios),
                     f"{row.tokens / row.passes:.2f}" if row.passes else "", verdict(row, outcome.quality),
                     style="bold" if row.mine else None)
    return view


def remarks(outcome: Outcome, tokenizer: minilm.Tokenizer) -> list[str]:
    """What the table can't say: what the pipe takes, where the learner's output departs, what was noticed."""
    mine, lines = outcome.mine, []
    if outcome.place is None:
        lines.append(f"{mine.name} has no place: it loses {mine.loss:.3f} on average, and the bound is "
                     f"{outcome.quality:g}" + ("" if outcome.quality else " (no loss; --quality allows some)"))
    departed = [v for v in mine.verdicts if v.differs_at is not None]
    if departed:
        first = min(departed, key=lambda v: v.differs_at)
        lines.append(f"{counted(len(departed), 'answer')} of {len(mine.verdicts)} left the model's own; the earliest "
                     f"at token {first.differs_at}, where it says {tokenizer.decode([first.token])!r} and the model "
                     f"{tokenizer.decode([first.choice])!r}")
    lines += outcome.notes
    spent = sum(map(sum, outcome.baseline.seconds.values())) / max(1, len(outcome.baseline.verdicts))
    return [*lines, f"everyone's times hold {outcome.overhead * 1000:.1f} ms a prompt for the way to another process "
            f"and back; the baseline takes {spent * 1000:.0f} ms"]


def as_dict(outcome: Outcome) -> dict:
    """The result as plain values."""
    base = outcome.baseline
    return {"quality": outcome.quality, "place": outcome.place, "overhead_seconds": outcome.overhead,
            "notes": outcome.notes, "results": [
                {"name": row.name, "mine": row.mine, "speed_up": speed_up(row, base),
                 "by_kind": {kind: speed_up(row, base, (kind,)) for kind in KINDS}, "loss": row.loss,
                 "within": row.within(outcome.quality), "tokens_per_second": row.tokens_per_second,
                 "seconds": row.seconds} for row in outcome.rows]}
