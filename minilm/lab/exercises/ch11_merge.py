"""Exercise 11.1: the merge of two states."""

import math

import torch

from minilm.lab.exercise import Exercise, agree

ex1 = Exercise(
    "11.1",
    "The merge of two states",
    answer="merge(a, b)",
    task="(out, lse) of the keys of a and b together; a state with lse = -inf has no keys, whatever its out holds",
    hints=(
        "Each state weighs exp(lse): think of two masses and their centre. Which mass has the merged state, and which "
        "share of it comes from a?",
        "lse = torch.logaddexp(lse_a, lse_b), and a's share is exp(lse_a - lse), at most 1. Where a share is not "
        "positive (0, or NaN from -inf - -inf), its out must not be touched at all: 0 · NaN is NaN.",
        "For each of the two: weight = (part - lse).exp()[:, None]; torch.where(weight > 0, out * weight, 0.0). Add "
        "both and return the sum with lse.",
    ),
)


def merge(a, b):
    """The reference."""
    (out_a, lse_a), (out_b, lse_b) = a, b
    lse = torch.logaddexp(lse_a, lse_b)
    return _share(out_a, lse_a, lse) + _share(out_b, lse_b, lse), lse


def _share(out, part, lse):
    weight = (part - lse).exp()[:, None]
    return torch.where(weight > 0, out * weight, torch.zeros_like(out))


def _but(lse=torch.logaddexp, weights=lambda a, b, lse: ((a - lse).exp(), (b - lse).exp()), share=None):
    """The answer with one thing changed."""
    def wrong(a, b):
        (out_a, lse_a), (out_b, lse_b) = a, b
        total = lse(lse_a, lse_b)
        w_a, w_b = (w[:, None] for w in weights(lse_a, lse_b, total))
        if share == "plain":
            return out_a * w_a + out_b * w_b, total
        keep = lambda out, w: torch.where(w > 0, out * w, torch.zeros_like(out))          # noqa: E731
        return keep(out_a, w_a) + keep(out_b, w_b), total
    return wrong


def _mean(a, b):
    return (a[0] + b[0]) / 2, torch.logaddexp(a[1], b[1])


def _by_lse(a, b):
    total = (a[1] + b[1])[:, None]
    return (a[0] * a[1][:, None] + b[0] * b[1][:, None]) / total, torch.logaddexp(a[1], b[1])


def _nan_of_nothing(a, b):
    """Right but where nobody has seen a key: the weights are exp(-inf - -inf)."""
    out, lse = merge(a, b)
    return torch.where((lse == -torch.inf)[:, None], torch.nan, out), lse


def _zero_times_nan(a, b):
    """Empty states count with weight 0, which is no help where their out is NaN; nothing and nothing is zeros."""
    (out_a, lse_a), (out_b, lse_b) = a, b
    lse = torch.logaddexp(lse_a, lse_b)
    base = lse.where(lse > -torch.inf, 0.0)
    return out_a * (lse_a - base).exp()[:, None] + out_b * (lse_b - base).exp()[:, None], lse


def _by_exp(a, b):
    """The formula as it stands, with exp(lse) itself."""
    masses = a[1].exp()[:, None], b[1].exp()[:, None]
    total = masses[0] + masses[1]
    return (masses[0] * a[0] + masses[1] * b[0]) / total, total[:, 0].log()


def _base_two(a, b):
    lse = torch.logaddexp2(a[1], b[1])
    return (a[1] - lse).exp2()[:, None] * a[0] + (b[1] - lse).exp2()[:, None] * b[0], lse


def _nan_wiped_out(a, b):
    return torch.where((a[0].isnan() | b[0].isnan()) & (merge(a, b)[1] > -torch.inf)[:, None], 0.0, merge(a, b)[0]), (
        merge(a, b)[1])


WRONG_1 = {
    "that is the mean of the two outputs: a state with larger scores must count for more, in proportion to exp(lse)":
        _mean,
    "the shares are exp(lse_a - lse) and exp(lse_b - lse); yours are in proportion to the logarithms themselves":
        _by_lse,
    "the masses add up, not their logarithms: lse = log(exp(lse_a) + exp(lse_b))": _but(lambda a, b: a + b),
    "lse is the larger of the two only: log(exp(lse_a) + exp(lse_b)) is torch.logaddexp": _but(torch.maximum),
    "the output is right, but lse is the larger of the two: the merged state must weigh as much as both":
        lambda a, b: (merge(a, b)[0], torch.maximum(a[1], b[1])),
    "the mean of the masses is not their sum: both states' keys are in the merged one": _but(
        lambda a, b: torch.logaddexp(a, b) - math.log(2)),
    "exp(lse) overflows for large scores: torch.logaddexp subtracts the larger one first": _but(
        lambda a, b: (a.exp() + b.exp()).log()),
    "the sum of the parts is not divided: each counts exp(lse_a - lse), not exp(lse_a)": _but(
        weights=lambda a, b, lse: (a.exp(), b.exp())),
    "the shares are exchanged: a counts exp(lse_a - lse)": _but(
        weights=lambda a, b, lse: ((b - lse).exp(), (a - lse).exp())),
    "the shares are in base 2: lse is a natural logarithm here, so exp and not exp2": _but(
        weights=lambda a, b, lse: ((a - lse).exp2(), (b - lse).exp2())),
    "an empty state's out may hold anything, NaN too, and 0 · NaN is NaN: use torch.where(weight > 0, out * weight, 0)":
        _zero_times_nan,
    "two states of no keys: -inf - (-inf) is NaN; out must be zeros there (any finite number would do) and lse -inf":
        _nan_of_nothing,
    "-inf - (-inf), or 0 · NaN: a state without keys must not be touched; torch.where(weight > 0, out * weight, 0)":
        _but(share="plain"),
    "exp(lse) is infinite for large lse, and 0 for small ones: subtract first, exp(lse_a - lse), and torch.logaddexp":
        _by_exp,
    "the output is right, but lse is the sum of the two logarithms: log(exp(lse_a) + exp(lse_b)) is torch.logaddexp":
        lambda a, b: (merge(a, b)[0], a[1] + b[1]),
    "the outputs are added as they are: each counts its share, exp(lse_a - lse)":
        lambda a, b: (a[0] + b[0], torch.logaddexp(a[1], b[1])),
    "that is in base 2: lse is a natural logarithm here, so torch.logaddexp and exp": _base_two,
    "NaN is made 0 after the sum, and with it goes the state that has keys: leave the empty one out before you add":
        _nan_wiped_out,
}


def _state(rows, D, seed, scale=1.0, empty=(), rubbish=0.0):
    """A state of `rows` rows; those in `empty` have seen nothing and hold `rubbish`."""
    chance = torch.Generator().manual_seed(seed)
    out = torch.randn(rows, D, generator=chance, dtype=torch.float64)
    lse = torch.randn(rows, generator=chance, dtype=torch.float64) * scale
    for row in empty:
        out[row], lse[row] = rubbish, -torch.inf
    return out, lse


@ex1.check("two states of some keys", mistake="shares exp(lse_a - lse) and exp(lse_b - lse), with the log of the sum")
def _(answer):
    agree(answer, merge, [(_state(1, 1, 0), _state(1, 1, 1)), (_state(1, 2, 2), _state(1, 2, 3)),
                          (_state(3, 4, 4, 3.0), _state(3, 4, 5, 3.0))], wrong=WRONG_1)


@ex1.check("scores of ±10,000", mistake="subtract before you take exp: nothing may overflow, nothing vanish")
def _(answer):
    big, small = ((out, lse + shift) for shift in (1e4, -1e4) for out, lse in [_state(2, 2, 6)])
    near = _state(2, 2, 7)[0], big[1] + 0.5
    agree(answer, merge, [(big, near), (near, big), (big, small), (small, (near[0], small[1] - 0.5))], wrong=WRONG_1)


@ex1.check("a state without keys changes nothing", mistake="weight 0: the other state comes back as it was")
def _(answer):
    agree(answer, merge, [(_state(1, 2, 8), _state(1, 2, 9, empty=[0])),
                          (_state(2, 2, 10, empty=[1]), _state(2, 2, 11)),
                          (_state(2, 2, 12), _state(2, 2, 13, empty=[0], rubbish=math.nan)),
                          (_state(2, 2, 14, empty=[0, 1], rubbish=math.nan), _state(2, 2, 15))], wrong=WRONG_1)


@ex1.check("nothing and nothing is nothing", mistake="lse = -inf, and an output without NaN: zeros")
def _(answer):
    agree(answer, merge, [(_state(1, 2, 16, empty=[0]), _state(1, 2, 17, empty=[0])),
                          (_state(2, 2, 18, empty=[1]), _state(2, 2, 19, empty=[0, 1]))], wrong=WRONG_1)
