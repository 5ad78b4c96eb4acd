"""The techniques that the matrix of combinations is made of, and how each, and each pair, runs over the same prompts.

A pair that can't be has its reason in REASONS. Each run can also be told on paper: what the cost model makes of the
tokens that it fed and got (see `predict`).
"""
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import minilm
from minilm.bench import ceilings, predict
from minilm.bench.cost_model import Model, Work
from minilm.bench.drafters import TREE, draft_of
from minilm.decoding import SoftmaxResponse, autoregressive, early_exit, lookahead, speculative
from minilm.decoding.proposers import (
    AheadHeads,
    Blockwise,
    Combined,
    DraftModel,
    PromptLookup,
    SelfSpeculative,
    SurvivalDraft,
    Trie,
)
from minilm.decoding.speculative import Proposer
from minilm.generation import Generation
from minilm.model import GPT
from minilm.serving import Engine
from minilm.tokenizer import Tokenizer

EXIT, DRAFT, LOOKUP, HEADS, AHEAD, TRIE, SELF, BATCH = TECHNIQUES = (
    "early exit", "draft model", "prompt lookup", "blockwise tree", "lookahead", "trie", "self-speculation", "batching")
ALL, PYTORCH = "combined", "draft model, by PyTorch"
EXITS, CONFIDENCE = (4, 6, 8, 10), 0.95
_VERIFY = ("verification reads several tokens at once and goes as deep as the last of them; and what it accepts would "
           "no longer be the model's own")
_BOTH = "both always have a draft, so the second would never be asked"
_LOOP = "lookahead fills its passes with guesses of its own, in a loop of its own"
REASONS = {frozenset(pair): why for pair, why in {
    (EXIT, DRAFT): _VERIFY, (EXIT, LOOKUP): _VERIFY, (EXIT, HEADS): _VERIFY, (EXIT, AHEAD): _VERIFY,
    (EXIT, TRIE): _VERIFY, (EXIT, SELF): "self-speculation is this pair: the first layers draft, and nothing is lost",
    (DRAFT, HEADS): _BOTH, (DRAFT, SELF): _BOTH, (HEADS, SELF): _BOTH, (DRAFT, AHEAD): _LOOP, (HEADS, AHEAD): _LOOP,
    (AHEAD, TRIE): _LOOP, (AHEAD, SELF): _LOOP, (AHEAD, BATCH): _LOOP + ", and the engine has none for it"}.items()}


@dataclass
class Outcome:
    """What a run over all prompts said and took. paper: seconds by the cost model.  work: what the target did.
    each: seconds and passes of each text, where they were made one after the other.
    """

    texts: list[list[int]]
    seconds: float
    passes: int
    each: list[tuple[float, int]] = field(default_factory=list)
    paper: float = float("nan")
    work: Work = field(default=Work(), repr=False)

    @property
    def tokens(self) -> int:
        return sum(map(len, self.texts))


@dataclass
class Setup:
    """The model with all its parts, the prompts, the limits."""

    model: GPT
    tokenizer: Tokenizer
    new_tokens: int
    ceilings: ceilings.Ceilings
    draft: GPT | None = None
    ahead: AheadHeads | None = None

    @classmethod
    def of(cls, name: str, new_tokens: int) -> "Setup":
        model, tokenizer = minilm.load(name)
        found = cls(model, tokenizer, new_tokens, ceilings.measure(model.config), draft_of(model))
        if found.draft is None:
            raise ValueError(f"{name!r} has no draft model and no look-ahead heads here; measure minilm-14m")
        found.ahead = AheadHeads.load(model)
        return found

    def drafters(self) -> dict[str, Callable[[], Proposer]]:
        """How each technique drafts alone."""
        return {DRAFT: lambda: SurvivalDraft(self.draft), LOOKUP: lambda: PromptLookup(6, 3, min_ngram=2),
                HEADS: lambda: Blockwise(self.ahead, TREE), TRIE: lambda: Trie(8), SELF: lambda: SelfSpeculative(4, 2),
                PYTORCH: lambda: DraftModel(self.draft, 5, confidence=0.5)}

    def drafting(self, a: str, b: str) -> Callable[[], Proposer]:
        """How a technique drafts, or two: what looks the text up first, and only where it is rather sure."""
        alone, first = self.drafters(), lambda: PromptLookup(8, 8, min_ngram=6)
        if a == b:
            return (lambda: Combined([first(), alone[DRAFT]()])) if a == ALL else alone[a]
        free, other = sorted((a, b), key=lambda name: {LOOKUP: 0, TRIE: 1}.get(name, 2))
        return lambda: Combined([first() if free == LOOKUP else alone[free](), alone[other]()])

    def run(self, a: str, b: str, prompts: list[list[int]], on_paper: bool = False) -> Outcome:
        """A technique (a == b) or a pair, over all prompts. Raises ValueError for a pair that can't be."""
        if frozenset((a, b)) in REASONS:
            raise ValueError(f"{a} with {b}: {REASONS[frozenset((a, b))]}")
        if BATCH in (a, b):
            other = next((name for name in (a, b) if name != BATCH), None)
            return self.batched(prompts, other, on_paper)
        return one_by_one([self.alone(a, b, prompt, on_paper) for prompt in prompts])

    def alone(self, a: str, b: str, prompt: list[int], on_paper: bool) -> tuple[Generation, float, Work]:
        """One text."""
        request, options = (self.model, prompt, self.new_tokens), {"eos": self.tokenizer.eos_id}
        proposer, drafts = None, []
        if a == "autoregressive":
            made = autoregressive(*request, **options)
        elif EXIT in (a, b):
            made = early_exit(*request, SoftmaxResponse(CONFIDENCE), exits=list(EXITS), **options)
        elif AHEAD in (a, b):
            made = lookahead(*request, window=5, ngram=3, guesses=5, pool_from_prompt=a != b, **options)
        else:
            proposer = self.drafting(a, b)()
            drafts = predict.count_drafts(proposer) if on_paper else []
            made = speculative(*request, proposer, **options)
        if not on_paper:
            return made, float("nan"), Work()
        return made, *predict.seconds(self.model.config, made.trace, self.ceilings, proposer, drafts)

    def batched(self, prompts: list[list[int]], other: str | None, on_paper: bool, together: bool = True) -> Outcome:
        """In the paged engine, all prompts together (or one after the other); drafting, or leaving early, inside."""
        drafts, steps = [], []
        options = {"exit_policy": SoftmaxResponse(CONFIDENCE), "exits": list(EXITS)} if other == EXIT else {}
        if other not in (None, EXIT):
            proposer = self.drafting(other, other)()
            options = {"proposer": _Copied(proposer, drafts) if on_paper else proposer, "max_drafts": 12}
        engine = Engine(self.model, num_blocks=40 * len(prompts), prefix_caching=False,
                        watch=steps.append if on_paper else None, **options)
        started, texts = time.perf_counter(), []
        for group in [prompts] if together else [[prompt] for prompt in prompts]:
            ids = [engine.add(prompt, self.new_tokens, eos=self.tokenizer.eos_id) for prompt in group]
            made = engine.run()
            texts += [made[id].tokens for id in ids]
        seconds = time.perf_counter() - started
        passes = sum(len(text) for text in texts) if other in (None, EXIT) else sum(
            len(made[id].trace) for id in made)
        outcome = Outcome(texts, seconds, passes, paper=0.0 if other == SELF else float("nan"))
        if on_paper and other == SELF:                          # the engine has it verify each text alone
            for id in made:
                paper, work = predict.seconds(self.model.config, made[id].trace, self.ceilings, proposer)
                outcome.paper, outcome.work = outcome.paper + paper, outcome.work + work
        elif on_paper and other != EXIT:
            target, held, work = Model(self.model.config, predict.NUMBER, self.ceilings.launches), {}, Work()
            for step in steps:
                work += predict.step_of_batch(target, [fed for _, fed in step.batch],
                                              [held.get(name, 0) for name, _ in step.batch])
                held |= {name: held.get(name, 0) + fed for name, fed in step.batch}
            outcome.work = work
            outcome.paper = work.seconds(self.ceilings.torch) + sum(
                predict.draft_seconds(draft, self.ceilings) for draft in drafts)
        return outcome


class _Copied:
    """A proposer whose copies, one a text, have their draft passes counted."""

    def __init__(self, proposer: Proposer, drafts: list):
        self.proposer, self.drafts = proposer, drafts

    def __getattr__(self, name: str):
        return getattr(self.proposer, name)

    def __copy__(self) -> Proposer:
        made = copy.copy(self.proposer)
        self.drafts += predict.count_drafts(made)
        return made

    def start(self, *request) -> None:
        self.proposer.start(*request)

    def propose(self, *request):
        return self.proposer.propose(*request)

    def verify(self, *request):
        return self.proposer.verify(*request)


def one_by_one(runs: list[tuple[Generation, float, Work]]) -> Outcome:
    """Texts made one after the other, as one outcome."""
    made = [generation for generation, _, _ in runs]
    return Outcome([out.tokens for out in made], sum(out.stats.seconds for out in made),
                   sum(out.stats.target_passes for out in made),
                   [(out.stats.seconds, out.stats.target_passes) for out in made], sum(paper for _, paper, _ in runs),
                   Work(tuple(part for _, _, work in runs for part in work.parts)))


def pairs() -> list[tuple[str, str]]:
    """Each technique alone, then every pair that can be."""
    both = [(a, b) for i, a in enumerate(TECHNIQUES) for b in TECHNIQUES[i + 1 :]]
    return [(name, name) for name in TECHNIQUES] + [pair for pair in both if frozenset(pair) not in REASONS]
