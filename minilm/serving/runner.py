"""A step's passes of the model: who feeds what goes in, states, logits and the largest of them come out.

On a CPU it is one pass of the model's own modules over all tokens. With the kernels, a step in which all feed few
tokens, and so wait for memory, goes through a recorded pass of fixed size (`graphs`); where anybody reads a prompt,
which is much work, all share the weights that it reads: cuBLAS's products, with `kernels.many_rows` between them.
Either way there is one product with the vocabulary for all who want a token, and one wait for the device.
"""
import torch
from torch import Tensor

from minilm.model import GPT
from minilm.sampling import Sampling
from minilm.serving.ahead import Ahead, next_turns
from minilm.serving.graphs import GREEDY, Graphs, UnderWay
from minilm.serving.paged_cache import PagedBatch, PagedCache
from minilm.serving.turns import Turn


class Made:
    """What a pass made: states[rows, d]; logits[asked, V], of those asked for; their tokens, largest or drawn."""

    def __init__(self, states: Tensor, logits: Tensor | None, tokens: list[int]):
        self.states, self.logits, self.tokens = states, logits, tokens


class Rows:
    """A turn's part of it: `count` rows from `first` on, `asked` logits from `first_asked` on. told: see `exits`."""

    __slots__ = ("made", "first", "count", "first_asked", "asked", "told")

    def __init__(self, made: Made, first: int, count: int, first_asked: int, asked: int, told: dict | None = None):
        self.made, self.first, self.count, self.told = made, first, count, told
        self.first_asked, self.asked = first_asked, asked

    def state(self, i: int) -> Tensor:
        """[d], after the turn's i-th token; -1: after its last."""
        return self.made.states[self.first + i % self.count]

    @property
    def logits(self) -> Tensor:
        """[asked, V]"""
        return self.made.logits[self.first_asked : self.first_asked + self.asked]

    @property
    def tokens(self) -> list[int]:
        return self.made.tokens[self.first_asked : self.first_asked + self.asked]

    @property
    def token(self) -> int:
        return self.made.tokens[self.first_asked + self.asked - 1]


class Runner:
    """Runs the turns of each step.

    keeps: whether states are still looked at after the next step.  draws: whether it draws sampled tokens too, by one
    launch for all; else whoever asked for logits does.  runs_ahead: whether the next step may begin early; states and
    logits are then gone when a step is told.
    """

    def __init__(self, model: GPT, cache: PagedCache, keeps: bool):
        self.model, self.cache, self.keeps = model, cache, keeps
        self.graphs = Graphs(model, cache) if cache.kernels else None
        self.draws = cache.kernels
        self.runs_ahead, self.ahead = cache.kernels and not keeps, None

    def run(self, turns: list[Turn]) -> list[Rows]:
        """What each gets; their tables then hold what they fed."""
        ahead, self.ahead = self.ahead, None
        places = [None if ahead is None else ahead.row(turn) for turn in turns]
        if None not in places:
            return self._recorded(turns, places, ahead.under_way)
        if any(place is not None for place in places):                  # somebody came: begun is begun
            return self._both(turns, places, ahead.under_way)
        if self.graphs is not None and all(turn.few for turn in turns) and self.graphs.takes(turns):
            return self._recorded(turns, list(range(len(turns))), self.graphs.start(turns))
        return self._together(turns)

    def _both(self, turns: list[Turn], places: list[int | None], under_way: UnderWay) -> list[Rows]:
        """Those with a place from the pass under way, the others from one of their own."""
        here = [place is not None for place in places]
        others = iter(self._together([turn for turn, known in zip(turns, here, strict=True) if not known]))
        begun = iter(self._read([turn for turn, known in zip(turns, here, strict=True) if known],
                                [place for place in places if place is not None], under_way))
        return [next(begun if known else others) for known in here]

    def _together(self, turns: list[Turn]) -> list[Rows]:
        """One pass of the model over all."""
        ids = [token for turn in turns for token in turn.ids]
        batch = PagedBatch(self.cache, [turn.feed for turn in turns])
        states = self._states(torch.tensor(ids, device=self.model.device), batch)
        made, asked, end, asked_so_far, out = Made(states, None, []), [], 0, 0, []
        for turn in turns:
            out.append(Rows(made, end, len(turn.ids), asked_so_far, turn.asks))
            end, asked_so_far = end + len(turn.ids), asked_so_far + turn.asks
            asked += range(end - turn.asks, end)
        if asked:
            made.logits = self.model.head(states if len(asked) == len(states) else states[asked])
            made.tokens = self._tokens(made.logits, [turn.draw for turn in turns for _ in range(turn.asks)])
        return out

    def _states(self, ids: Tensor, batch: PagedBatch) -> Tensor:
        """ids[T] -> the last layer's output [T, d]: by the model's own modules, or kernels between its products."""
        many = None if self.graphs is None else self.graphs.many
        if many is None:
            return self.model.hidden(ids[None], batch)[0]
        states = many.hidden(ids, batch.begin(len(ids)), batch.slots, self.cache.keys, self.cache.values,
                             batch.attend_to_pool)
        batch.end(len(ids))
        return states

    def _recorded(self, turns: list[Turn], places: list[int], under_way: UnderWay) -> list[Rows]:
        """What they get from the pass where turn i has place places[i]; before it waits, the next step begins."""
        following = next_turns(turns, self.cache) if self.runs_ahead else []
        later = [turn for _, turn in following]
        if later and self.graphs.takes(later):
            self.ahead = Ahead(later, self.graphs.start(later, under_way, [places[i] for i, _ in following]))
        return self._read(turns, places, under_way)

    def _read(self, turns: list[Turn], places: list[int], under_way: UnderWay) -> list[Rows]:
        m, states = under_way.m, under_way.states
        made, out = Made(states.clone() if self.keeps else states, under_way.logits, []), []
        for turn, place in zip(turns, places, strict=True):             # while the device works
            count = len(turn.ids)
            turn.table.length += count
            out.append(Rows(made, place * m, count, place * m + count - turn.asks, turn.asks))
        made.tokens = under_way.tokens()
        if m > 1:
            self._draw(turns, places, made, m)
        return out

    def _draw(self, turns: list[Turn], places: list[int], made: Made, m: int) -> None:
        """Where some feed more than one token, the pass has not drawn for those who feed one."""
        drawn = {place * m + len(turn.ids) - 1: turn.draw for turn, place in zip(turns, places, strict=True)
                 if turn.draw is not None}
        if drawn:
            for row, token in zip(drawn, self._tokens(made.logits[list(drawn)], list(drawn.values())), strict=True):
                made.tokens[row] = token

    def _tokens(self, logits: Tensor, draws: list[tuple[Sampling, float] | None]) -> list[int]:
        """Of logits[R, V]: the largest, or where there is a draw, what it gives."""
        if not any(draws):
            return logits.argmax(-1).tolist()
        from minilm.kernels.sampler import sample

        some = [draw or (GREEDY, 0.0) for draw in draws]
        numbers = [[s.temperature for s, _ in some], [s.top_k for s, _ in some], [s.top_p for s, _ in some],
                   [uniform for _, uniform in some]]
        temperature, top_k, top_p, uniforms = torch.tensor(numbers, dtype=torch.float64, device=logits.device)
        return sample(logits, temperature, top_k.long(), top_p, uniforms).tolist()
