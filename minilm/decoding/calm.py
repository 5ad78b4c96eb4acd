"""CALM, Confident Adaptive Language Modeling (Schuster et al. 2022): how sure is sure enough, with a guarantee.

Three measures of confidence in [0, 1], each an exit policy for `early_exit`; the threshold that decays along the text
(eq. 5); and `calibrate`, which finds from examples a threshold that keeps a promise ("learn then test", Angelopoulos
et al. 2021, whose Hoeffding-Bentkus p-value it takes).
"""
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from minilm import heads
from minilm.decoding.early_exit import Look, check_number
from minilm.model import GPT


def softmax_response(logits: Tensor) -> Tensor:
    """The most probable token's probability minus the second's, [..., V] -> [...]."""
    best = logits.softmax(-1).topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


def saturation(hidden: Tensor, before: Tensor) -> Tensor:
    """The cosine between the states after this layer and the one before, [..., d] -> [...]; below 0 counts as 0."""
    return torch.cosine_similarity(hidden, before, dim=-1).clamp(0, 1)


@dataclass
class _Confidence:
    """Leave when the confidence reaches `threshold`: 0 leaves at the first exit, 1 never, even if rounding gives 1."""

    threshold: float

    def __post_init__(self):
        check_number("a confidence threshold", self.threshold)
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"a confidence threshold lies in [0, 1]; it is {self.threshold}")

    def begin(self, t: int) -> None:
        pass

    def leaves(self, score: float) -> bool:
        return score >= self.threshold and self.threshold < 1


@dataclass
class SoftmaxResponse(_Confidence):
    """The gap between the two most probable tokens. Each look costs a vocabulary product."""

    def score(self, look: Look) -> float:
        return softmax_response(look.logits).item()


@dataclass
class Saturation(_Confidence):
    """How little the last layer changed the hidden state. Nearly free."""

    def score(self, look: Look) -> float:
        return saturation(look.hidden, look.before).item()


class ExitHead:
    """A trained exit classifier, one for all layers: the probability that this exit names the full model's token.

    weight[d], bias: of one linear map on the normalised hidden state x · √d / |x|, so that no layer's scale matters.
    """

    def __init__(self, weight: Tensor, bias: Tensor):
        self.weight, self.bias = weight, bias

    @classmethod
    def load(cls, model: GPT, name_or_path: str = "minilm-14m-exit-classifier") -> "ExitHead":
        """The head trained for `model`. ValueError when it was trained for another."""
        tensors = heads.read(name_or_path, model)
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        if shapes != {"weight": [model.config.width], "bias": []}:
            held = ", ".join(f"{name}{shape}" for name, shape in sorted(shapes.items()))
            raise ValueError(f"{name_or_path} is no exit classifier: it holds {held}, not weight[{model.config.width}] "
                             "and bias[]")
        return cls(**tensors)

    def save(self, path, model: GPT) -> None:
        heads.write(path, {"weight": self.weight, "bias": self.bias}, model)

    def __call__(self, hidden: Tensor) -> Tensor:
        """hidden[..., d] -> probability[...]."""
        x = torch.nn.functional.rms_norm(hidden, hidden.shape[-1:], eps=1e-6)
        return torch.sigmoid(x @ self.weight + self.bias)


@dataclass
class ExitClassifier(_Confidence):
    """A linear classifier's word on whether this layer says what the last one will. A look costs d multiply-adds."""

    head: ExitHead = field(default=None, repr=False)

    def __post_init__(self):
        super().__post_init__()
        if not callable(self.head):
            raise TypeError("ExitClassifier needs its trained head: ExitClassifier(0.9, ExitHead.load(model))")

    def score(self, look: Look) -> float:
        return self.head(look.hidden).item()


def decayed(threshold: float, t: int, tau: float, horizon: int, form: str = "paper") -> float:
    """The threshold for the t-th new token (from 0) of at most `horizon`: strict at first, where a mistake costs most.

    form: "paper" is eq. 5, clip(0.9 λ + 0.1 exp(-τ t / N)) to [0, 1]; "released" is what the authors' code computes,
    λ · (0.9 + 0.1 exp(-τ t / N)), which starts at λ and falls below it.
    """
    fade = 0.1 * math.exp(-tau * t / horizon)
    value = 0.9 * threshold + fade if form == "paper" else threshold * (0.9 + fade)
    return min(max(value, 0.0), 1.0)


@dataclass
class Decaying:
    """Any of the three confidence policies, its threshold decaying along the text as `decayed` says.

    tau: how fast (the paper takes 4; 0 does not decay).  horizon: the longest text, in new tokens.
    A threshold of 1 stays 1: the full model.
    """

    policy: _Confidence
    tau: float
    horizon: int
    form: str = "paper"

    def __post_init__(self):
        if not isinstance(self.policy, _Confidence):
            raise TypeError(f"only a confidence threshold can decay, not {type(self.policy).__name__}")
        check_number("tau", self.tau)
        if not 0 <= self.tau < math.inf:
            raise ValueError(f"tau must be 0 or more, and finite; it is {self.tau}")
        if isinstance(self.horizon, bool) or not isinstance(self.horizon, int) or self.horizon < 1:
            raise ValueError(f"horizon is a number of new tokens of at least 1; it is {self.horizon!r}")
        if self.form not in ("paper", "released"):
            raise ValueError(f'form is "paper" or "released"; it is {self.form!r}')
        self._now = self.policy

    def begin(self, t: int) -> None:
        threshold = self.policy.threshold
        if threshold < 1:
            threshold = min(decayed(threshold, t, self.tau, self.horizon, self.form), math.nextafter(1, 0))
        self._now = replace(self.policy, threshold=threshold)

    def score(self, look: Look) -> float:
        return self._now.score(look)

    def leaves(self, score: float) -> bool:
        return self._now.leaves(score)


# --- calibration -----------------------------------------------------------------------------------------------------

def hb_p_value(mean_loss: float, n: int, delta: float) -> float:
    """Hoeffding-Bentkus p-value of "the true mean loss is above delta", from n losses in [0, 1].

    min(exp(-n · h(min(m, δ), δ)), e · P(Binomial(n, δ) <= ⌈n m⌉)), h the binary relative entropy. Small: delta holds.
    """
    m = min(mean_loss, delta)
    divergence = (m * math.log(m / delta) if m > 0 else 0.0) + (1 - m) * math.log((1 - m) / (1 - delta))
    hoeffding = math.exp(-n * divergence)
    # n · m is a sum of losses: without the small step back, its rounding error could be taken for one more loss
    bentkus = math.e * _binomial_cdf(math.ceil(n * mean_loss - 1e-9), n, delta)
    return min(hoeffding, bentkus, 1.0)


def _binomial_cdf(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) <= k)."""
    if k >= n:
        return 1.0
    log_choose = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k + 1)]
    return min(math.fsum(math.exp(c + i * math.log(p) + (n - i) * math.log1p(-p)) for i, c in enumerate(log_choose)), 1)


def examples_needed(delta: float, epsilon: float) -> int:
    """The fewest examples with which anything can be certified, if none of them loses anything: (1-δ)^n <= ε."""
    return math.ceil(math.log(epsilon) / math.log1p(-delta))


def calibrate(losses: Tensor, thresholds: Sequence[float], *, delta: float, epsilon: float, full: float = 1.0) -> float:
    """The boldest threshold whose mean loss is at most `delta`, wrong with probability at most `epsilon`.

    losses[n, m]: loss in [0, 1] of each of n independent examples at each of m thresholds, ordered from the safest to
    the boldest (for confidences: descending). Each is tested in turn while "mean loss > delta" can be rejected at
    level `epsilon`; the first that can't be ends the walk, and the one before it is returned (fixed-sequence
    testing). If not even the first passes, a warning says so and `full`, the full model, is returned.
    Raises ValueError on losses that are none, and on fewer examples than could ever certify anything.
    """
    passed = certified(losses, thresholds, delta=delta, epsilon=epsilon)
    if passed:
        return passed[-1]
    warnings.warn(f"no threshold can be certified at delta={delta}, epsilon={epsilon}: the full model is returned",
                  stacklevel=2)
    return full


def certified(losses: Tensor, thresholds: Sequence[float], *, delta: float, epsilon: float) -> list[float]:
    """All thresholds that the walk of `calibrate` passes, in order; empty if none."""
    losses = _check_losses(losses, thresholds, delta, epsilon)
    passed = []
    for threshold, mean in zip(thresholds, losses.mean(0).tolist(), strict=True):
        if hb_p_value(mean, len(losses), delta) > epsilon:
            break
        passed.append(threshold)
    return passed


def _check_losses(losses: Tensor, thresholds: Sequence[float], delta: float, epsilon: float) -> Tensor:
    """losses as a float64 tensor, after one clear error for anything that can't be calibrated."""
    for name, value in (("delta", delta), ("epsilon", epsilon)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie strictly between 0 and 1; it is {value}")
    losses = torch.as_tensor(losses, dtype=torch.float64)
    if losses.dim() != 2 or losses.shape[1] != len(thresholds):
        raise ValueError(f"losses must have shape [examples, {len(thresholds)}], a column for each threshold; "
                         f"their shape is {list(losses.shape)}")
    if not bool(((losses >= 0) & (losses <= 1)).all()):             # NaN fails both
        raise ValueError("losses must all lie in [0, 1], and none be NaN: scale them, or clip them")
    needed = examples_needed(delta, epsilon)
    if len(losses) < needed:
        raise ValueError(f"{len(losses)} examples can't certify delta={delta} at epsilon={epsilon}, even with no loss "
                         f"at all: at least {needed} are needed")
    return losses
