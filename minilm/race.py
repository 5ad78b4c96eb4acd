"""`minilm race`: one prompt, every decoder there is, timed in turn, and whether each says the same as the baseline."""
import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import minilm
from minilm.bench.contestants import BASELINE, REGISTRY, Contestant, Course, chosen
from minilm.generation import check_request
from minilm.text import counted

PROMPT = "Write a short story about a fox who learns to read. Then list three lessons from the story."


@dataclass
class Result:
    """One contestant's runs so far. seconds: one entry a round.  differs_at: first token unlike the baseline's."""

    contestant: Contestant
    seconds: list[float] = field(default_factory=list)
    new_tokens: int = 0
    tokens_per_pass: float = float("nan")
    tokens: list[int] = field(default_factory=list, repr=False)
    differs_at: int | None = None
    speed_up: float = float("nan")

    @property
    def tokens_per_second(self) -> float:
        """New tokens over the median time of a run, prefill included."""
        return self.new_tokens / statistics.median(self.seconds) if self.seconds else float("nan")

    def as_dict(self) -> dict:
        return {"name": self.contestant.name, "chapter": self.contestant.chapter, "exact": self.contestant.exact,
                "tokens_per_second": self.tokens_per_second, "speed_up": self.speed_up,
                "tokens_per_pass": self.tokens_per_pass, "same_as_baseline": self.differs_at is None,
                "differs_at": self.differs_at, "seconds": self.seconds}


def race(course: Course, contestants: list[Contestant] | None = None, *, rounds: int = 3,
         on_update: Callable[[list[Result]], None] = lambda results: None) -> list[Result]:
    """Run all contestants `rounds` times in turn, after one warm-up each, and compare them with the baseline.

    Every round runs everyone once, so that a slow spell of the machine hits all alike, and each begins with another
    one, so that nobody always runs after the same. `speed_up` is the median over rounds of baseline time / own time.
    `on_update` is called with the results after every single run.
    """
    check_race(course, rounds)
    contestants = chosen(course) if contestants is None else contestants
    results = [Result(c) for c in contestants]
    baseline = next(r for r in results if r.contestant.name == BASELINE)
    for number in range(rounds + 1):                                    # round 0 is the warm-up
        for result in rotated(results, number):
            generation = result.contestant.run(course)
            if number:
                result.seconds.append(generation.stats.seconds)
                result.tokens, result.new_tokens = generation.tokens, len(generation.tokens)
                result.tokens_per_pass = generation.stats.tokens_per_pass
                _compare(results, baseline)
            on_update(results)
    return results


def check_race(course: Course, rounds: int) -> None:
    """Raise one clear error before anybody runs, when the race can't be run."""
    if rounds < 1:
        raise ValueError(f"a race needs at least one round; it is {rounds}")
    if course.max_new_tokens < 1:
        raise ValueError(f"a race needs at least one new token; it is {course.max_new_tokens}")
    check_request(course.model, course.prompt, course.max_new_tokens)


def rotated(runners: list, number: int) -> list:
    """The same runners, beginning with another one in every round."""
    first = number % len(runners)
    return runners[first:] + runners[:first]


def _compare(results: list[Result], baseline: Result) -> None:
    """Bring every result's speed-up and first difference up to date, over the rounds that both have run."""
    for result in results:
        ratios = [b / own for b, own in zip(baseline.seconds, result.seconds, strict=False)]
        if ratios:
            result.speed_up = statistics.median(ratios)
            result.differs_at = first_difference(baseline.tokens, result.tokens)


def first_difference(a: list[int], b: list[int]) -> int | None:
    """Index of the first token that differs, or None when the two say the same."""
    if a == b:
        return None
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def table(results: list[Result]):
    """The results as a rich table: the same rows at every update."""
    from rich.table import Table
    view = Table("decoder", "lesson")
    for header in ("tokens/s", "speed-up", "tokens/pass"):
        view.add_column(header, justify="right")
    view.add_column("same output")
    for r in results:
        ready = bool(r.seconds) and r.speed_up == r.speed_up
        same = "yes" if r.differs_at is None else f"no, from token {r.differs_at}"
        view.add_row(r.contestant.name, f"{r.contestant.chapter:02d}",
                     *([f"{r.tokens_per_second:.1f}", f"{r.speed_up:.2f}×", f"{r.tokens_per_pass:.2f}", same] if ready
                       else ["…", "", "", ""]))
    return view


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="minilm-14m",
                        help="a name, folder, .gguf file or hub id (default: %(default)s)")
    parser.add_argument("--prompt", help="what to ask (default: a story and a list)")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="default: 128; with --mine 64")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="timed runs of each (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of: {', '.join(REGISTRY)}")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or mps")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    mine = parser.add_argument_group("the capstone: your own decoder (lesson 12)")
    mine.add_argument("--mine", metavar="FILE", help="race the decoder in this Python file: it defines decode(model, "
                      "prompt, max_new_tokens), policy(model) or proposer(model), and gets new prompts of three kinds")
    mine.add_argument("--name", help="what to call it (default: the file's name)")
    mine.add_argument("--quality", type=float, default=0.0, metavar="LOSS",
                      help="how much the output may lose: 1 - ROUGE-L, on average (default: 0, the model's own output)")
    mine.add_argument("--seed", type=int, help="draw the same prompts again, for practice: not for the leaderboard")
    mine.add_argument("--leaderboard", action="store_true", help="show the best runs on this machine, and race nobody")


def run(args: argparse.Namespace) -> int:
    if args.leaderboard:
        from minilm import leaderboard
        print(leaderboard.show())
        return 0
    if args.mine is not None:
        from minilm.capstone import report
        return report.run(args)
    if args.name is not None or args.quality or args.seed is not None:
        raise ValueError("--name, --quality and --seed go with --mine FILE, your own decoder")
    return run_one_prompt(args)


def run_one_prompt(args: argparse.Namespace) -> int:
    """The race of the package's decoders on one prompt."""
    from rich.console import Console
    from rich.live import Live
    from rich.markup import escape
    model, tokenizer = minilm.load(args.model, device=args.device)
    question = PROMPT if args.prompt is None else args.prompt
    prompt = tokenizer.chat(question) if tokenizer.chat_template else tokenizer.encode(question)
    count = 128 if args.max_new_tokens is None else args.max_new_tokens
    course = Course(model, tokenizer, prompt, count)
    check_race(course, args.rounds)
    contestants = chosen(course, args.only)
    if args.json:
        results = race(course, contestants, rounds=args.rounds)
        print(json.dumps({"model": args.model, "prompt": question, "max_new_tokens": count,
                          "rounds": args.rounds, "results": [r.as_dict() for r in results]}, indent=2))
        return 0
    console = Console()
    console.print(f"{args.model}, {counted(len(prompt), 'prompt token')}, {counted(count, 'new token')}, "
                  f"greedy, {counted(args.rounds, 'round')} after a warm-up\n[dim]{escape(question)}[/dim]")
    with Live(table([Result(c) for c in contestants]), console=console, auto_refresh=False) as live:
        results = race(course, contestants, rounds=args.rounds,
                       on_update=lambda now: live.update(table(now), refresh=True))
    baseline = next(r for r in results if r.contestant.name == BASELINE)
    console.print(tokenizer.decode(baseline.tokens), style="dim", markup=False)
    return 0
