"""A run's time on paper: what its trace says was fed, and what the cost model says that such passes cost.

The acceptance is the run's own, measured in tokens; its seconds are not looked at.
"""
from collections.abc import Callable, Sequence

from minilm.bench.ceilings import Ceilings
from minilm.bench.cost_model import WEIGHTS, Model, Part, Work
from minilm.decoding.early_exit import ExitPass
from minilm.decoding.lookahead import LookaheadPass
from minilm.decoding.proposers import Blockwise, Combined, DraftModel, SelfSpeculative
from minilm.decoding.speculative import Proposer, SpeculativePass
from minilm.generation import Pass
from minilm.lean import Lean
from minilm.model import GPT, GPTConfig

NUMBER = 4                                                      # bytes: float32


class Counted:
    """A draft model that notes the width of each pass: what drafting took, in passes."""

    def __init__(self, model: GPT | Lean):
        self.model, self.widths, self.contexts = model, [], []

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def read(self, tokens, cache):
        self.widths.append(len(tokens))
        self.contexts.append(cache.length)
        return self.model.read(tokens, cache)


def count_drafts(proposer: Proposer) -> list[Counted]:
    """Have the passes of all draft models in a proposer counted, from now on."""
    sources = proposer.sources if isinstance(proposer, Combined) else [proposer]
    found = []
    for source in sources:
        if isinstance(source, DraftModel):
            source.draft = Counted(source.draft)
            found.append(source.draft)
    return found


def seconds(config: GPTConfig, trace: Sequence[Pass], ceilings: Ceilings, proposer: Proposer | None = None,
            drafts: Sequence[Counted] = ()) -> tuple[float, Work]:
    """(seconds of a run on paper, the target's work in it). proposer: the one that drafted; drafts: its passes."""
    target = Model(config, NUMBER, ceilings.launches)
    one = one_pass(target, proposer)
    work = Work(tuple(part for step in trace for part in one(step).parts))
    return work.seconds(ceilings.torch) + sum(draft_seconds(draft, ceilings) for draft in drafts), work


def draft_seconds(draft: Counted, ceilings: Ceilings) -> float:
    """Of all passes of a draft model: by `Lean` where it reads few tokens, else by PyTorch."""
    lean = isinstance(draft.model, Lean)
    total = 0.0
    for width, context in zip(draft.widths, draft.contexts, strict=True):
        fast = lean and width <= 3
        model = Model(draft.config, NUMBER, ceilings.lean_launches if fast else ceilings.launches)
        total += model.forward(1, width, context, heads=1).seconds(ceilings.lean if fast else ceilings.torch)
    return total


def one_pass(target: Model, proposer: Proposer | None) -> Callable[[Pass], Work]:
    """Pass -> the target's work in it, and that of heads which draft from its states."""
    sources = proposer.sources if isinstance(proposer, Combined) else [proposer]
    ahead = next((source for source in sources if isinstance(source, Blockwise)), None)
    own = next((source for source in sources if isinstance(source, SelfSpeculative)), None)

    def work(step: Pass) -> Work:
        if isinstance(step, ExitPass) and step.fed == 1:
            return exit_pass(target, step)
        if isinstance(step, LookaheadPass) and step.context:
            rows = len(step.renewed) + 1 + len(step.drafted)
            return target.forward(1, step.fed, step.context, heads=rows)
        drafted = len(step.drafted) if isinstance(step, SpeculativePass) else 0
        if own is not None and drafted == own.num_tokens and step.parents is None:
            return self_pass(target, own.exit_layer, drafted, step.context)
        passed = target.forward(1, step.fed, step.context, heads=1 + drafted)
        return passed + heads_ahead(target, ahead) if ahead is not None and step.parents is not None else passed
    return work


def exit_pass(target: Model, step: ExitPass) -> Work:
    """A pass that left after `step.layers`: its layers, its vocabulary products, keys and values that caught up."""
    c = target.config
    kv = 2 * c.width * c.num_kv_heads * c.head_size
    caught = Work(tuple(Part(WEIGHTS, NUMBER * kv, 2 * waiting * kv, 8.0) for waiting in step.projected if waiting))
    once = Work((Part(WEIGHTS, 0.0, 0.0, target.launches.once),))
    return target.layers(1, 1, step.context, step.layers) + step.head_products * target.head(1) + caught + once


def self_pass(target: Model, exit_layer: int, drafted: int, context: int) -> Work:
    """Drafts by the first layers; the last draft's own run through them; the others above, for all."""
    L = target.config.num_layers
    return (drafted * target.cut(exit_layer).forward(1, 1, context) + target.layers(1, 1, context, exit_layer)
            + target.layers(1, drafted + 1, context, L - exit_layer) + target.head(drafted + 1))


def heads_ahead(target: Model, proposer: Blockwise) -> Work:
    """Look-ahead heads: their two matrices each, and one vocabulary product for all."""
    used = proposer.used
    numbers = used.up.numel() + used.down.numel()
    return Work((Part(WEIGHTS, NUMBER * numbers, 2.0 * numbers, 10.0 * len(used)),)) + target.head(len(used))


def step_of_batch(target: Model, widths: Sequence[int], contexts: Sequence[float]) -> Work:
    """One engine step over texts of different widths and contexts: weights read once, attention of each its own."""
    fed = sum(widths)
    work = target.forward(1, fed, 0)
    attention = tuple(target.layers(1, width, context).parts[1]
                      for width, context in zip(widths, contexts, strict=True))
    return Work(tuple(part for part in work.parts if part.reads == WEIGHTS) + attention)
