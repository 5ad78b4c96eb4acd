"""What a technique should bring, before anyone runs it: so many passes for so many tokens, on measured ceilings.

A pass costs what `paper` says: reading or multiplying, whichever is longer, and launching. A technique is how many such
passes make how many tokens. Only ceilings of a machine go in (see `ceilings`); no pass's time does, or it would predict
itself.

Letters as elsewhere: B batch, m tokens fed for each text (1 decodes, γ + 1 verify), S context held, α acceptance, γ
drafts, c cost of a draft pass in target passes.
"""
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.bench.cost import layer_weights
from minilm.bench.paper import FLOPS, KV, LAUNCHES, WEIGHTS, Launches, Machine, Model, Part, Work
from minilm.checks import check_count
from minilm.decoding.speedup import expected_of_best, expected_tokens, lookahead_tokens, step_compression

__all__ = ["FLOPS", "KV", "LAUNCHES", "WEIGHTS", "Launches", "Machine", "Model", "Part", "Rounds", "Work",
           "autoregressive", "break_even", "early_exit", "lookahead", "self_speculation", "speculation", "speed_up",
           "tree"]


@dataclass(frozen=True)
class Rounds:
    """A technique at work: `tokens` new ones of all texts together come out of one round of `work`."""

    work: Work
    tokens: float
    drafting: Work = Work()                                     # a draft's passes, where it runs on ceilings of its own

    def seconds(self, machine: Machine, drafter: Machine | None = None) -> float:
        return self.work.seconds(machine) + self.drafting.seconds(drafter or machine)

    def tokens_per_second(self, machine: Machine, drafter: Machine | None = None) -> float:
        return self.tokens / self.seconds(machine, drafter)


def speed_up(technique: Rounds, plain: Rounds, machine: Machine, drafter: Machine | None = None) -> float:
    """How many times the tokens a second; below 1 it hurts. drafter: other ceilings for the draft's passes."""
    return technique.tokens_per_second(machine, drafter) / plain.tokens_per_second(machine)


def autoregressive(target: Model, batch: int = 1, context: float = 0) -> Rounds:
    """One token of each text a pass."""
    return Rounds(target.forward(batch, 1, context), batch)


def speculation(target: Model, draft: Model | None, gamma: int, alpha: float, batch: int = 1,
                context: float = 0) -> Rounds:
    """γ draft passes and a verification of γ + 1 tokens give (1 - α^(γ+1)) / (1 - α) tokens of each text.

    Leviathan et al. 2023, theorem 3.8, but with the verification at its own cost instead of a plain pass's, which it
    is only while B (γ + 1) stays below the ridge: S(B) = E t(B, 1) / (γ t_d(B, 1) + t(B, γ + 1)). draft: None costs
    nothing (prompt lookup, a trie).
    """
    check_count("gamma", gamma, 0)
    tokens = batch * expected_tokens(alpha, gamma)
    drafting = Work() if draft is None else gamma * draft.forward(batch, 1, context)
    return Rounds(target.forward(batch, gamma + 1, context), tokens, drafting)


def self_speculation(target: Model, exit_layer: int, gamma: int, alpha: float, batch: int = 1,
                     context: float = 0) -> Rounds:
    """γ drafts by the first E layers and a head; verification takes up their states: γ E / L + 1 passes in bytes.

    Elhoushi et al. 2024; the first layers run once more, for the last draft.
    """
    check_count("gamma", gamma, 0)
    check_count("exit_layer", exit_layer, 1, target.config.num_layers - 1)
    L = target.config.num_layers
    work = (gamma * target.cut(exit_layer).forward(batch, 1, context) + target.layers(batch, 1, context, exit_layer)
            + target.layers(batch, gamma + 1, context, L - exit_layer) + target.head(batch * (gamma + 1)))
    return Rounds(work, batch * expected_tokens(alpha, gamma))


def tree(target: Model, nodes: int, tokens: float, batch: int = 1, context: float = 0) -> Rounds:
    """A tree of `nodes` drafts, verified at once, that gives `tokens` of each text (its own last one included).

    Free while nodes · B stays below the ridge. The heads that drafted it are left out: a row of work each.
    """
    check_count("nodes", nodes, 0)
    if not 1 <= tokens <= nodes + 1:
        raise ValueError(f"a tree of {nodes} nodes gives from 1 to {nodes + 1} tokens; {tokens} were stated")
    return Rounds(target.forward(batch, nodes + 1, context), batch * tokens)


def lookahead(target: Model, window: int, ngram: int, guesses: int, alpha: float, f: float, batch: int = 1,
              context: float = 0) -> Rounds:
    """A pass over (W + G)(N - 1) tokens gives S = (f - 1 + E) / f of them, E the best of G guesses (Fu et al. 2024).

    Only the window's newest row, the last token and the guesses need logits.
    """
    fed = lookahead_tokens(window, ngram, guesses)
    tokens = step_compression(expected_of_best(alpha, ngram - 1, guesses), f)
    return Rounds(target.forward(batch, fed, context, batch * (window + 1 + guesses * (ngram - 1))), batch * tokens)


def early_exit(target: Model, leaving: Sequence[float], checked: Sequence[int], batch: int = 1,
               context: float = 0) -> Rounds:
    """One token of each text a pass, texts leaving after layer l with chance leaving[l - 1] (they sum to 1).

    A layer runs for the texts that are still there: its weights are read if any is, so a batch goes as deep as its most
    demanding text, and a layer that n texts have left still costs what one needs. checked: the layers after which a
    vocabulary product asks who may leave. A layer that was left needs keys and values all the same, from its two
    matrices for them (CALM, Schuster et al. 2022, §3.3).
    """
    c, L = target.config, target.config.num_layers
    if len(leaving) != L or min(leaving) < 0 or abs(sum(leaving) - 1) > 1e-6:
        raise ValueError(f"leaving needs {L} shares, 0 or more, that sum to 1; got {list(leaving)!r:.80}")
    if any(not 1 <= layer < L for layer in checked):
        raise ValueError(f"exits are checked after layers 1 to {L - 1}; got {list(checked)}")
    per_layer = layer_weights(c) / L
    kv_share = 2 * c.width * c.num_kv_heads * c.head_size / per_layer          # of a layer's matrices
    work, there = Work((Part(WEIGHTS, 0.0, 0.0, target.launches.once),)), 1.0
    for layer in range(1, L + 1):
        anyone, rows = 1 - (1 - there) ** batch, batch * there                  # chance that any is left; how many
        work += Work(tuple(_fewer(part, anyone, rows / batch) for part in target.layers(batch, 1, context, 1).parts))
        gone = batch - rows
        anyone_left = 1 - (1 - gone / batch) ** batch
        work += Work((Part(WEIGHTS, anyone_left * kv_share * per_layer * target.bytes_per_number,
                           2 * gone * kv_share * per_layer, 0.0, gone),))
        if layer in checked:
            work += anyone * target.head(max(1, round(rows)))
        there -= leaving[layer - 1]
    return Rounds(work + target.head(batch), batch)


def break_even(target: Model, draft: Model | None, gamma: int, machine: Machine, batch: int = 1,
               context: float = 0) -> float | None:
    """The acceptance α at which speculation costs what it gives; None where even α = 1 doesn't pay."""
    plain = autoregressive(target, batch, context)
    pays = lambda alpha: speed_up(speculation(target, draft, gamma, alpha, batch, context), plain, machine) >= 1  # noqa: E731
    if not pays(1.0):
        return None
    low, high = 0.0, 1.0
    for _ in range(40):                                         # S grows with α
        middle = (low + high) / 2
        low, high = (low, middle) if pays(middle) else (middle, high)
    return high


def _fewer(part: Part, weights: float, rows: float) -> Part:
    """A part that is needed with chance `weights` and for a share `rows` of the batch."""
    return Part(part.reads, part.bytes * (weights if part.reads == WEIGHTS else rows), part.flops * rows,
                part.launches * weights, part.rows * rows)
