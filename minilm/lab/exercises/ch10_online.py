"""Exercises 10.1 and 10.2: one tile into the running state, and the loop over all tiles of keys."""

import torch
from torch.overrides import TorchFunctionMode

from minilm.lab.exercise import Exercise, agree

NEVER = float("-inf")

# --- 10.1 -------------------------------------------------------------------------------------------------------------

ex1 = Exercise(
    "10.1",
    "One tile into the running state",
    answer="fold_tile(m, l, acc, scores, values)",
    task="take a tile's scores[R, N] and values[N, D] into m[R], l[R], acc[R, D]; return the new (m, l, acc)",
    hints=(
        "Lesson 09's update of m and l, a row at a time. What else was measured against the old maximum, and by what "
        "factor is it too large when m rises?",
        "m_new = the larger of m and the tile's row maximum; p = exp(scores - m_new); l and acc are multiplied by "
        "exp(m - m_new), then p.sum(1) and p @ values are added. A row that sees no key at all has m_new = -inf: "
        "subtract 0 in its place.",
        "m_new = torch.maximum(m, scores.amax(1)); shift = m_new.where(m_new > -torch.inf, 0); "
        "shrink = (m - shift).exp(); p = (scores - shift[:, None]).exp(); "
        "return m_new, l * shrink + p.sum(1), acc * shrink[:, None] + p @ values",
    ),
)


def fold(m, l, acc, scores, values, *, top=lambda scores: scores.amax(1), raised=torch.maximum, guarded=True,
         against=lambda m, new: new, l_factor=lambda m, new: (m - new).exp(), factor=lambda m, new: (m - new).exp(),
         adds=lambda p, values: p @ values, late=False, whole=False, kept=lambda m, new: new, divided=False,
         weights=lambda scores, p: p):
    """The reference, or with one thing changed."""
    new = raised(m, top(scores))
    shift = new.where(new > NEVER, 0) if guarded else new
    p = weights(scores, (scores - against(m, shift)[:, None]).exp())
    by_l, by = l_factor(m, shift), factor(m, shift)[:, None]
    if late:                                                            # the new tile is corrected, too
        l, acc = (l + p.sum(1)) * by_l, (acc + adds(p, values)) * by
    elif whole:                                                         # the tile alone
        l, acc = p.sum(1), adds(p, values)
    else:
        l, acc = l * by_l + p.sum(1), acc * by + adds(p, values)
    return kept(m, new), l, acc / l[:, None] if divided else acc


def wrong(**change):
    return lambda *state: fold(*state, **change)


def _base_two(m, l, acc, scores, values):
    new = torch.maximum(m, scores.amax(1))
    shift = new.where(new > NEVER, 0)
    p, shrink = (scores - shift[:, None]).exp2(), (m - shift).exp2()
    return new, l * shrink + p.sum(1), acc * shrink[:, None] + p @ values


def one(m, new):
    return torch.ones_like(m)


def upside_down(m, new):
    return torch.where(m > NEVER, (new - m).exp(), 0)


WRONG_1 = {
    "a row that has seen no key gives exp(-inf - (-inf)) = NaN: where m_new is -inf, subtract any finite number": wrong(
        guarded=False),
    "the accumulator is never corrected: like l, it was measured against the old maximum; acc · exp(m - m_new)": wrong(
        factor=one),
    "l is never corrected: it was measured against the old maximum; l · exp(m - m_new)": wrong(l_factor=one),
    "neither l nor the accumulator is corrected when m rises: multiply both by exp(m - m_new)": wrong(
        l_factor=one, factor=one),
    "the correction is upside down: exp(m - m_new), which is at most 1": wrong(
        l_factor=upside_down, factor=upside_down),
    "the correction is upside down, exp(m_new - m): it begins with exp(inf) · 0, which is NaN": wrong(
        l_factor=lambda m, new: (new - m).exp(), factor=lambda m, new: (new - m).exp()),
    "those are powers of two: scores and m are for exp here": _base_two,
    "that is the tile's softmax, divided by its own sum: the weights are exp(scores - m_new), not divided": wrong(
        weights=lambda scores, p: scores.softmax(1)),
    "the new tile is corrected as well; it is measured against the new maximum already": wrong(late=True),
    "what was summed before is lost: the tile's sums are added to the corrected old ones": wrong(whole=True),
    "m is the tile's maximum, not the largest so far: torch.maximum(m, scores.amax(1))": wrong(
        raised=lambda m, tile: tile),
    "the tile's weights are taken against the old maximum: exp(scores - m_new)": wrong(against=lambda m, new: m),
    "you return the old m: the next tile needs the new one": wrong(kept=lambda m, new: m),
    "m is one number for all rows: each row has a maximum of its own, scores.amax(1)": wrong(
        top=lambda scores: scores.amax().expand(len(scores))),
    "the accumulator is divided by l already: leave it un-scaled, one division comes at the end": wrong(divided=True),
    "the values are added without their weights: p @ values": wrong(
        adds=lambda p, values: values.sum(0).expand(len(p), -1)),
}


def numbers(*shape, scale=1.0, shift=0.0, speed=1.7):
    """The same on every machine."""
    count = 1
    for n in shape:
        count *= n
    return (torch.sin(torch.arange(count, dtype=torch.float32) * speed) * scale + shift).reshape(shape)


def fresh(R, N, D, **scores):
    """Nothing seen yet, and a first tile."""
    return (torch.full((R,), NEVER), torch.zeros(R), torch.zeros(R, D), numbers(R, N, **scores),
            numbers(N, D, speed=2.3))


def second(R, N, D, before=None, **scores):
    """A state that has seen a tile, and another tile."""
    return (*fold(*fresh(R, N, D, **(before or {}))), numbers(R, N, speed=1.1, **scores), numbers(N, D, speed=0.7))


def hidden(state, rows):
    """Those rows see no key of the tile."""
    m, l, acc, scores, values = state
    scores = scores.clone()
    scores[list(rows)] = NEVER
    return m, l, acc, scores, values


@ex1.check("the first tile", mistake="with m = -inf and sums of 0: m the row's maximum, l and acc the tile's own sums")
def _(answer):
    agree(answer, fold, [fresh(1, 2, 1), fresh(2, 4, 3), fresh(3, 4, 2, scale=3.0, shift=-20.0)], wrong=WRONG_1)


@ex1.check("a tile that raises m", mistake="l and acc times exp(m - m_new), plus the tile's sums")
def _(answer):
    agree(answer, fold, [second(1, 2, 1, shift=2.0), second(2, 4, 3, shift=1.5), second(4, 8, 5, scale=3.0, shift=2.0)],
          wrong=WRONG_1)


@ex1.check("rows that rise and rows that don't", mistake="each row has its own maximum and its own factor")
def _(answer):
    agree(answer, fold, [second(2, 2, 1), second(4, 4, 3, scale=2.0), second(5, 3, 2, shift=-4.0)], wrong=WRONG_1)


@ex1.check("keys that are hidden", mistake="a score of -inf weighs nothing, in rows that have seen keys and in others")
def _(answer):
    agree(answer, fold, [hidden(fresh(2, 2, 1), [0]), hidden(fresh(3, 4, 2), [0, 2]), hidden(second(3, 4, 2), [1])],
          wrong=WRONG_1)


@ex1.check("scores of ±10,000", mistake="every exponent is at most 0")
def _(answer):
    agree(answer, fold, [fresh(2, 3, 2, scale=1e4), second(2, 3, 2, before={"shift": -1e4}, shift=1e4),
                         second(2, 3, 2, before={"shift": 1e4}, shift=-1e4)], wrong=WRONG_1)


# --- 10.2 -------------------------------------------------------------------------------------------------------------

ex2 = Exercise(
    "10.2",
    "The loop over key tiles",
    answer="attend_tiles(q, k, v, tile)",
    task="q[R, D] against all of k, v[S, D], `tile` keys at a time; return (answer[R, D], log-sum-exp[R])",
    hints=(
        "Start with what has seen nothing: m = -inf, l = 0, acc = 0. The last tile may be shorter. What is left to do "
        "after the loop?",
        "scores = q @ k[start: start + tile].T / √D for start in range(0, S, tile), and fold_tile with the values of "
        "the same tokens. At the end acc / l is the answer, and m + log(l) the logarithm of the sum of all "
        "exp(score).",
        "m, l, acc = torch.full_like(q[:, 0], -torch.inf), torch.zeros_like(q[:, 0]), torch.zeros_like(q); for start "
        "in range(0, len(k), tile): m, l, acc = fold_tile(m, l, acc, q @ k[start: start + tile].T * D**-0.5, "
        "v[start: start + tile]); return acc / l[:, None], m + l.log()",
    ),
)


def attend(q, k, v, tile, *, scale=lambda D: D**-0.5, tiles=lambda starts: starts, values=lambda start: start,
           fold_by=fold, first=NEVER, ends=lambda m, l, acc: (acc / l[:, None], m + l.log())):
    """The reference, or with one thing changed."""
    m, l, acc = torch.full_like(q[:, 0], first), torch.zeros_like(q[:, 0]), torch.zeros_like(q)
    for start in tiles(list(range(0, len(k), tile))):
        scores, first = q @ k[start: start + tile].T * scale(q.shape[1]), values(start)
        m, l, acc = fold_by(m, l, acc, scores, v[first: first + scores.shape[1]])
    return ends(m, l, acc)


def off(**change):
    return lambda *inputs: attend(*inputs, **change)


def whole_only(q, k, v, tile):
    return attend(q, k[: len(k) // tile * tile], v[: len(k) // tile * tile], tile)


def _causal(q, k, v, tile):
    scores = (q @ k.T * q.shape[1] ** -0.5).masked_fill(torch.ones(len(q), len(k)).triu(len(k) - len(q) + 1) > 0, NEVER)
    return scores.softmax(1) @ v, scores.logsumexp(1)


def mean_of_tiles(q, k, v, tile):
    parts = [attend(q, k[i: i + tile], v[i: i + tile], tile) for i in range(0, len(k), tile)]
    return torch.stack([part[0] for part in parts]).mean(0), attend(q, k, v, tile)[1]


WRONG_2 = {
    "the scale is missing: scores are q · k / √D": off(scale=lambda D: 1.0),
    "the scores are divided by D; the scale is 1 / √D": off(scale=lambda D: 1 / D),
    "only the first tile is read: for start in range(0, S, tile)": off(tiles=lambda starts: starts[:1]),
    "only whole tiles are read: the last one may be shorter": whole_only,
    "the values are always the first tile's: v[start: start + tile]": off(values=lambda start: 0),
    "the accumulator is not divided: the answer is acc / l": off(ends=lambda m, l, acc: (acc, m + l.log())),
    "you divide by l after every tile; leave acc un-scaled and divide once": off(fold_by=wrong(divided=True)),
    "the accumulator is divided in every turn, but the next one takes it for a sum: divide once, after the loop": off(
        fold_by=wrong(divided=True), ends=lambda m, l, acc: (acc, m + l.log())),
    "that is the sum of all exp(score), not its logarithm: m + log(l)": off(
        ends=lambda m, l, acc: (acc / l[:, None], m.exp() * l)),
    "m begins at 0: where all scores are far below, every exp(score - 0) is 0, and 0 / 0 is NaN; begin with -inf": off(
        first=0.0),
    "a causal mask hides keys: here every query sees all of them": _causal,
    "the log-sum-exp lacks the maximum: m + log(l)": off(ends=lambda m, l, acc: (acc / l[:, None], l.log())),
    "the log-sum-exp adds l, not its logarithm: m + log(l)": off(ends=lambda m, l, acc: (acc / l[:, None], m + l)),
    "that is m; the log-sum-exp is m + log(l)": off(ends=lambda m, l, acc: (acc / l[:, None], m)),
    "the log-sum-exp is to base 2; take the natural logarithm": off(
        ends=lambda m, l, acc: (acc / l[:, None], (m + l.log()) / 0.6931471805599453)),
    "each tile's softmax is averaged: tiles with larger scores count for more, which l and acc take care of":
        mean_of_tiles,
    "the accumulator is not corrected when m rises": off(fold_by=wrong(factor=one)),
}


def qkv(R, S, D, size=1.0, slope=0.0):
    """q, k, v; slope > 0: each key's scores are larger than the last one's, for queries that sum to something."""
    rise = slope * torch.arange(S, dtype=torch.float32)[:, None]
    return numbers(R, D, scale=size, shift=0.5), numbers(S, D, speed=2.3) + rise, numbers(S, D, speed=0.7)


@ex2.check("one tile", mistake="softmax(q kᵀ / √D) v, and the logarithm of the sum of exp(score)")
def _(answer):
    agree(answer, attend, [(*qkv(1, 3, 4), 3), (*qkv(2, 4, 4), 8)], wrong=WRONG_2)


@ex2.check("several tiles", mistake="fold every tile into the same m, l and acc, and divide at the end")
def _(answer):
    agree(answer, attend, [(*qkv(1, 4, 4), 2), (*qkv(2, 8, 4, slope=0.3), 2), (*qkv(3, 16, 8, slope=-0.3), 4)],
          wrong=WRONG_2)


@ex2.check("a ragged last tile", mistake="k[start: start + tile] may be shorter at the end, and so may v's")
def _(answer):
    agree(answer, attend, [(*qkv(1, 5, 4), 4), (*qkv(3, 17, 16, slope=0.1), 8), (*qkv(2, 77, 8), 16)], wrong=WRONG_2)


@ex2.check("scores of ±10,000", mistake="fold_tile keeps every exponent at most 0")
def _(answer):
    low = torch.full((2, 4), 100.0), numbers(9, 4, shift=-50.0), numbers(9, 4, speed=0.7)
    agree(answer, attend, [(*qkv(2, 9, 4, size=5e3), 4), (*qkv(2, 9, 4, slope=2e3), 4), (*qkv(2, 9, 4, slope=-2e3), 4),
                           (*low, 4)], wrong=WRONG_2)


class Watch(TorchFunctionMode):
    """The most keys whose scores stand in one tensor, of all that PyTorch makes. D, R: sizes of other axes."""

    def __init__(self, D, R):
        super().__init__()
        self.D, self.R, self.most, self.called = D, R, 0, set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.called.add(getattr(function, "__name__", ""))
        if isinstance(made, torch.Tensor) and made.is_floating_point() and self.D not in made.shape:
            self.most = max([self.most, *(n for n in made.shape if n != self.R)])
        return made


@ex2.check("tile by tile")
def _(answer):
    inputs = (*qkv(3, 40, 8), 4)
    with Watch(8, 3) as watch:
        answer(*inputs)
    if getattr(type(answer.function), "remote", False):
        return                                              # another process: nothing was seen
    assert "scaled_dot_product_attention" not in watch.called, (
        "that is PyTorch's own attention: the loop over tiles is what you rebuild here")
    assert watch.most <= 4, (f"right, but scores of {watch.most} keys stand there at once: `tile` is how many keys a "
                             "tile has, so with tile = 4 never more than 4")
