"""The capstone race itself: every prompt goes to everyone in turn, and no prompt comes twice.

A round asks one prompt of each kind. For each, all runners answer it one after another, beginning with another one each
time; the package's work in one process, the learner's in another that stands still meanwhile. A round's speed-up is the
baseline's time over one's own, and the median over rounds counts.
"""
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from minilm.bench.contestants import BASELINE, REGISTRY, Contestant, Course, chosen
from minilm.capstone import prompts
from minilm.capstone.entry import KINDS, Disqualified, Entry
from minilm.capstone.judge import Verdict, judge, tokens_of
from minilm.capstone.runners import Learners, Run, Runner
from minilm.checks import check_count
from minilm.generation import check_request
from minilm.model import GPT
from minilm.tokenizer import Tokenizer

LEFT_OUT = ("transformers", "exit by entropy", "exit by patience", "blockwise", "recurrent draft")  # unless asked for
LEAST_SECONDS, LONGEST_SECONDS, TIMES = 3.0, 50.0, 10   # a run's time limit: so many times the baseline's
WARM_UP_SECONDS = 10.0  # at least, for the first answers: something may be compiled, or loaded
REMEMBERS = 0.5         # of a fresh prompt's time, for one that came before


@dataclass
class Row:
    """One runner so far. seconds: by kind, one entry a round.  verdicts: one for each prompt of the rounds.

    passes: how often the model's last layer ran.  disqualified: it broke a rule, so that it is out whatever it said.
    """

    name: str
    chapter: int | None = None                                      # None: the learner's
    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    verdicts: list[Verdict] = field(default_factory=list)
    tokens: int = 0
    passes: int = 0
    disqualified: bool = False

    @property
    def mine(self) -> bool:
        return self.chapter is None

    @property
    def loss(self) -> float:
        """The mean over all prompts so far."""
        return statistics.mean(v.loss for v in self.verdicts) if self.verdicts else 0.0

    def within(self, quality: float) -> bool:
        """Whether what the output loses is allowed; 0 allows no loss on any prompt."""
        return self.loss <= quality and not self.disqualified

    def per_round(self, kinds: tuple[str, ...]) -> list[float]:
        """Seconds of each round that is complete, over some kinds."""
        return [sum(some) for some in zip(*(self.seconds[kind] for kind in kinds), strict=False)]

    @property
    def tokens_per_second(self) -> float:
        spent = sum(map(sum, self.seconds.values()))
        return self.tokens / spent if spent else float("nan")


def speed_up(row: Row, baseline: Row, kinds: tuple[str, ...] = KINDS) -> float:
    """The median over rounds of baseline time / own time; NaN before the first round is done."""
    ratios = [b / own for b, own in zip(baseline.per_round(kinds), row.per_round(kinds), strict=False)]
    return statistics.median(ratios) if ratios else float("nan")


@dataclass
class Outcome:
    """A finished race. overhead: seconds of a request that asks for no work, part of everyone's time."""

    rows: list[Row]
    quality: float
    overhead: float
    notes: list[str] = field(default_factory=list)

    @property
    def baseline(self) -> Row:
        return next(row for row in self.rows if row.name == BASELINE and not row.mine)

    @property
    def mine(self) -> Row:
        return next(row for row in self.rows if row.mine)

    def standing(self) -> list[Row]:
        """Those within the bound, the fastest first."""
        ratios = {id(row): speed_up(row, self.baseline) for row in self.rows}
        return sorted((row for row in self.rows if row.within(self.quality)),
                      key=lambda row: -ratios[id(row)] if ratios[id(row)] == ratios[id(row)] else 0.0)

    @property
    def place(self) -> int | None:
        """The learner's, from 1, or None when out of bounds."""
        return next((number for number, row in enumerate(self.standing(), 1) if row.mine), None)


def check_contest(quality: float, count: int, rounds: int) -> None:
    """Raise one clear error when the race can't be."""
    if isinstance(quality, bool) or not isinstance(quality, (int, float)) or not 0 <= quality < 1:
        raise ValueError(f"--quality is the mean loss that is allowed, from 0 (none) to below 1; it is {quality!r}")
    check_count("--max-new-tokens", count, 4)
    check_count("--rounds", rounds, 1)


def opponents_of(course: Course, names: list[str] | None) -> list[Contestant]:
    """The package's runners: those named, or one or two of each lesson; the baseline always."""
    if names is None:
        names = [name for name, c in REGISTRY.items() if c.fits(course) and name not in LEFT_OUT]
    return chosen(course, names)


def contest(model: GPT, tokenizer: Tokenizer, name: str, entry: Entry, *, opponents: list[str] | None = None,
            count: int = 64, rounds: int = 5, quality: float = 0.0, seed: int | None = None,
            on_update: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Race `entry` on the model of this name (`model` is the same one, to judge the answers).

    Raises ValueError before any work when the race can't be, and Disqualified when the learner's decoder fails, hangs
    or breaks the rules. `on_update` is called after every prompt, and when it is disqualified between them.
    """
    check_contest(quality, count, rounds)
    runners = opponents_of(Course(model, tokenizer, [0], count), opponents)
    if entry.name in {c.name for c in runners}:
        raise ValueError(f"{entry.name!r} is the name of one of the package's decoders: give yours another with --name")
    asked = prompts.draw(tokenizer, rounds + 1, seed)
    for some in asked:
        for prompt in some.values():
            check_request(model, prompt, count)
    with Runner(name) as house, Learners(name, entry) as mine:
        race = _Race(model, house, mine, count)
        rows = [Row(c.name, c.chapter) for c in runners] + [Row(entry.name)]
        outcome = Outcome(rows, quality, house.overhead(asked[0]["open"], count))
        race.warm_up(rows, asked[0])
        try:
            for number, some in enumerate(asked[1:]):
                for turn, (kind, prompt) in enumerate(some.items()):
                    race.ask(rows, kind, prompt, number * len(some) + turn)
                    on_update(outcome)
            outcome.notes += race.ask_again(asked[-1], outcome.mine)
        except Disqualified:
            outcome.mine.disqualified = True
            on_update(outcome)                                          # who looks on sees it go
            raise
    return outcome


class _Race:
    """Who asks whom. `limits`: by kind, how long the learner's may take."""

    def __init__(self, model: GPT, house: Runner, mine: Learners, count: int) -> None:
        self.model, self.house, self.mine, self.count = model, house, mine, count
        self.vocabulary = model.config.vocab_size
        self.limits: dict[str, float] = {}

    def warm_up(self, rows: list[Row], some: dict[str, list[int]]) -> None:
        """Everyone once; the learner's comes last, when the time limit is known."""
        for kind, prompt in some.items():
            for row in rows:
                if not row.mine:
                    run = self.house.house(row.name, prompt, self.count)
                    if row.name == BASELINE:
                        self.limits[kind] = min(max(LEAST_SECONDS, TIMES * run.seconds), LONGEST_SECONDS)
            self.learners(kind, prompt, WARM_UP_SECONDS)

    def learners(self, kind: str, prompt: list[int], least: float = 0.0) -> Run:
        """One answer of the learner's that keeps the rules, except that it may be wrong."""
        run = self.mine.run(prompt, self.count, max(least, self.limits[kind]))
        tokens_of(run.made, self.mine.entry.file, self.count, self.vocabulary)
        if not run.weights:
            raise self.mine.out("it changed the model's weights; race the model as it is given")
        if run.threads != 1:
            raise self.mine.out(f"it set PyTorch to {run.threads} threads; everyone has one")
        if run.seen < len(prompt) + self.count - 1:
            raise self.mine.out(f"tokens without the model: its first layer saw {run.seen} of the "
                                f"{len(prompt) + self.count - 1} tokens before the last; let the model that you are "
                                "given read all of them")
        return run

    def ask(self, rows: list[Row], kind: str, prompt: list[int], turn: int) -> None:
        """One prompt for everyone, beginning with runner number `turn`."""
        runs: dict[str, Run] = {}
        first = turn % len(rows)
        for row in rows[first:] + rows[:first]:
            runs[row.name] = (self.learners(kind, prompt) if row.mine else
                              self.house.house(row.name, prompt, self.count))
        base = next(runs[row.name] for row in rows if row.name == BASELINE and not row.mine).made
        for row in rows:
            run = runs[row.name]
            made = tokens_of(run.made, row.name, self.count, self.vocabulary)
            row.seconds[kind].append(run.seconds)
            row.verdicts.append(judge(self.model, prompt, made, base))
            row.tokens += len(made)
            row.passes += run.passes

    def ask_again(self, some: dict[str, list[int]], row: Row) -> list[str]:
        """The last round's prompts once more: who stored the answers is found out, who learns from them is told."""
        again = 0.0
        for kind, prompt in some.items():
            try:
                again += self.learners(kind, prompt).seconds
            except Disqualified as error:
                if "without the model" not in str(error):
                    raise
                raise self.mine.out("a cached answer: asked for the second time, it answered without the model. "
                                    "Every request starts from nothing") from None
        share = again / row.per_round(KINDS)[-1]
        return [f"asked again, {row.name} took {share:.0%} of the time: it remembers prompts, which earns nothing "
                "here, where every prompt is new"] if share < REMEMBERS else []
