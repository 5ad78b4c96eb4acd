"""Early exit in a batch: every row leaves after the layer at which its own policy is satisfied, the others go on.

At an exit layer the policy of each sequence looks at its row; who leaves has its token from there, and deeper layers
run on the rows that are left. A layer that some skip still owes their keys and values: it projects their copied states
with its own weights, for all of them at once, before the others attend there (CALM, Schuster et al. 2022, §3.3.1). So
after a step the cache is whole. And a layer's weights are read as long as one row is still in: what early exit can gain
in a batch is not the layers that its rows save.

Prompts run all layers. Each sequence's output is what `decoding.early_exit` gives for it alone. Two things follow. The
keys and values of generated tokens are not those of the same text as a prompt, so only prompts' blocks are shared with
others. And a text that is read again after a preemption reads every generated token as deep as it ran the first time.
"""
import copy
from collections.abc import Callable
from collections.abc import Sequence as Listed
from dataclasses import dataclass, field

import torch
from torch import Tensor

from minilm.decoding.early_exit import ExitPolicy, Look, check_exits
from minilm.model import GPT
from minilm.serving.paged_cache import PagedBatch, PagedCache
from minilm.serving.request import Sequence
from minilm.serving.runner import Made, Rows
from minilm.serving.turns import Turn


@dataclass
class Going:
    """A row whose policy is asked. layers: run so far, when it left; paid: times that it met the vocabulary matrix."""

    policy: ExitPolicy
    scores: list[float] = field(default_factory=list)
    layers: int = 0
    paid: int = 0
    logits: Tensor | None = None


class Exit:
    """What rows that are asked say at one exit: logits for all of them in one product, when the first policy looks."""

    def __init__(self, runner: "ExitRunner", layer: int, hidden: Tensor):
        self.runner, self.layer, self.hidden, self._logits = runner, layer, hidden, None

    def row(self, i: int) -> Callable[[int, Tensor], Tensor]:
        """The exit head of row i, as a `Look` wants it."""
        def head(layer: int, x: Tensor) -> Tensor:
            if self._logits is None:
                self._logits = self.runner.head(layer, self.hidden)
            return self._logits[i]
        return head


class ExitRunner:
    """Runs the turns of each step, as `Runner` does, and lets rows leave.

    lens: (layer, hidden[rows, d]) -> hidden[rows, d], as for `decoding.early_exit`, for several rows at once.
    """

    draws = False

    def __init__(self, model: GPT, cache: PagedCache, policy: ExitPolicy, exits: Listed[int] | None,
                 lens: Callable[[int, Tensor], Tensor] | None):
        self.model, self.cache, self.policy, self.lens = model, cache, policy, lens
        self.exits = check_exits(model.config.num_layers, exits)

    def head(self, layer: int, hidden: Tensor) -> Tensor:
        return self.model.head(hidden if self.lens is None else self.lens(layer, hidden))

    def run(self, turns: list[Turn]) -> list[Rows]:
        """What each gets; their tables then hold what they fed. A row's state is the one it left with."""
        ids = [token for turn in turns for token in turn.ids]
        ends = torch.tensor([len(turn.ids) for turn in turns]).cumsum(0).tolist()
        depths = [depth for turn in turns for depth in self._depths(turn)]
        asked = {end - 1: self._going(turn.sequence) for turn, end in zip(turns, ends, strict=True)
                 if turn.asks and turn.sequence.out.tokens}
        states = self._layers(ids, PagedBatch(self.cache, [turn.feed for turn in turns]), depths, asked)
        whole = [end - 1 for turn, end in zip(turns, ends, strict=True)
                 if turn.asks and (end - 1 not in asked or asked[end - 1].logits is None)]
        logits = dict(zip(whole, self.model.head(states[whole]), strict=True)) if whole else {}
        logits |= {row: going.logits for row, going in asked.items() if going.logits is not None}
        made, out = Made(states, None, []), []
        if logits:
            made.logits = torch.stack(list(logits.values()))
            made.tokens = made.logits.argmax(-1).tolist()
        place = {row: i for i, row in enumerate(logits)}
        for turn, end in zip(turns, ends, strict=True):
            turn.table.length += len(turn.ids)
            out.append(Rows(made, end - len(turn.ids), len(turn.ids), place.get(end - 1, 0), turn.asks,
                            self._told(asked.get(end - 1))))
        return out

    def _depths(self, turn: Turn) -> list[int]:
        """How many layers each token that is fed runs; L for those whose policy will be asked."""
        L, prompt = self.model.config.num_layers, len(turn.sequence.request.prompt)
        trace, held = turn.sequence.out.trace, turn.table.length
        first = held - prompt                           # generated token i ran as deep as the pass after its own says
        return [trace[i + 1].layers if 0 <= i < len(trace) - 1 else L for i in range(first, first + len(turn.ids))]

    def _going(self, sequence: Sequence) -> Going:
        if sequence.policy is None:
            sequence.policy = copy.copy(self.policy)
        sequence.policy.begin(len(sequence.out.tokens))
        return Going(sequence.policy)

    def _layers(self, ids: list[int], batch: PagedBatch, depths: list[int], asked: dict[int, Going]) -> Tensor:
        """Every row's state [T, d] after the last layer that it ran."""
        model, every = self.model, range(len(ids))
        x = model.embed(torch.tensor([ids], device=model.device))[0].clone()
        rope = model.rotary(batch.begin(len(ids)).to(x.device), x.dtype)
        going, part, turned, left = list(every), batch, rope, None
        for layer, block in enumerate(model.layers):
            if any(depths[row] <= layer for row in going):
                going = [row for row in every if depths[row] > layer]
                gone = [row for row in every if depths[row] <= layer]
                part, turned = batch.part(going) if going else None, tuple(table[going] for table in rope)
                left = x[gone][None], tuple(table[gone] for table in rope), batch.slots[gone]
            if left is not None:
                states, angles, slots = left
                self.cache.put(layer, slots, *block.attention.keys_values(block.attention_norm(states), angles))
            if not going:
                continue
            before = x if left is None else x[going]
            after = block(before[None], turned, part, layer)[0]
            if layer + 1 in self.exits:
                self._ask(layer + 1, {row: i for i, row in enumerate(going) if row in asked}, before, after, depths,
                          asked)
            if left is None:
                x = after
            else:
                x[going] = after
        return x

    def _ask(self, layer: int, rows: dict[int, int], before: Tensor, after: Tensor, depths: list[int],
             asked: dict[int, Going]) -> None:
        """Let each policy look at its row; rows[row]: its place in `after`. Who leaves takes its logits along."""
        exit = Exit(self, layer, after[list(rows.values())])
        leavers: list[tuple[Going, int]] = []
        for i, (row, place) in enumerate(rows.items()):
            going = asked[row]
            look = Look(layer, after[place], before[place], exit.row(i))
            going.scores.append(going.policy.score(look))
            leaves = going.policy.leaves(going.scores[-1])
            going.paid += look.paid
            if leaves:
                depths[row] = going.layers = layer
                going.paid += not look.paid
                if look.paid:
                    going.logits = look.logits
                else:
                    leavers.append((going, i))
        if leavers:
            found = self.head(layer, exit.hidden[[i for _, i in leavers]])
            for (going, _), logits in zip(leavers, found, strict=True):
                going.logits = logits

    def _told(self, going: Going | None) -> dict:
        """What `ExitPass` tells. projected: here a token that leaves is projected at once, in each layer above."""
        L = self.model.config.num_layers
        if going is None:
            return {"layers": L, "projected": (0,) * L}
        layers = going.layers or L
        return {"layers": layers, "scores": tuple(going.scores), "projected": (0,) * layers + (1,) * (L - layers),
                "head_products": going.paid + (going.layers == 0)}
