"""Early exit where it began: a classifier with an internal head after every layer (BranchyNet, DeeBERT, PABEE).

The input runs layer by layer; after each, that layer's own head names a class, and a policy, the same as for tokens,
says whether it is sure enough. Nothing is cached and nothing owed: a class is all that was asked for.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minilm import heads
from minilm.cache import FullAttention
from minilm.decoding.early_exit import ExitPolicy, Look, check_exits
from minilm.decoding.lens import normalised
from minilm.generation import check_request
from minilm.model import GPT


class InternalClassifiers:
    """A linear classifier after every layer, on the normalised state of the input's last token.

    labels: the names of the K classes.  weight[L, K, d], bias[L, K].
    """

    def __init__(self, labels: Sequence[str], weight: Tensor, bias: Tensor):
        self.labels, self.weight, self.bias = tuple(labels), weight, bias

    @classmethod
    def load(cls, model: GPT, name_or_path: str | Path = "minilm-14m-request-classifier") -> "InternalClassifiers":
        """Those trained for `model`. Raises ValueError when they belong to another, or the file holds none."""
        tensors = heads.read(name_or_path, model)
        labels = sorted(name.removeprefix("class.") for name in tensors)
        if not all(name.startswith("class.") for name in tensors):
            raise ValueError(f"{name_or_path} holds no internal classifiers, but the tensors "
                             f"{', '.join(sorted(tensors))}")
        both = torch.stack([tensors[f"class.{label}"] for label in labels], dim=1)          # (L, K, d + 1)
        return cls(labels, both[..., :-1].contiguous(), both[..., -1])

    def save(self, path: str | Path, model: GPT) -> None:
        """One tensor [L, d + 1] a class, named after it, in float16: the bias is the last column."""
        both = torch.cat((self.weight, self.bias[..., None]), -1).half()
        heads.write(path, {f"class.{label}": both[:, k] for k, label in enumerate(self.labels)}, model)

    def __call__(self, layer: int, hidden: Tensor) -> Tensor:
        """hidden[..., d] after `layer` layers -> logits[..., K]."""
        return normalised(hidden) @ self.weight[layer - 1].T + self.bias[layer - 1]


@dataclass
class Classified:
    """label: the class named.  layers: how many ran.  scores: what the policy saw, one entry per check."""

    label: str
    layers: int
    scores: tuple[float, ...] = ()


@torch.inference_mode()
def classify(model: GPT, classifiers: InternalClassifiers, ids: list[int], policy: ExitPolicy,
             exits: Sequence[int] | None = None) -> Classified:
    """Name the class of the tokens `ids`, running only as many layers as `policy` asks for.

    policy: Entropy, Patience, SoftmaxResponse, ... of `early_exit`; its logits are the internal classifier's.
    exits: after which layers it is asked (default: all but the last).
    Raises TypeError or ValueError, before any work, on ids that are no prompt, on exits that don't exist, and on
    classifiers of another shape of model.
    """
    check_request(model, ids, 0)
    exits = check_exits(model.config.num_layers, exits)
    if not isinstance(classifiers, InternalClassifiers):
        raise TypeError(f"classifiers must be InternalClassifiers, as their load(model) gives; this is a "
                        f"{type(classifiers).__name__}")
    shape = (model.config.num_layers, len(classifiers.labels), model.config.width)
    if tuple(classifiers.weight.shape) != shape:
        raise ValueError(f"the classifiers' weight must have shape {list(shape)} [layers, classes, width]; it has "
                         f"{list(classifiers.weight.shape)}: load those that were trained for this model")
    policy.begin(0)
    scores = []
    x = model.embed(torch.tensor([ids], device=model.device))                 # (1, T, d)
    cache = FullAttention(model.config.max_positions)
    rope = model.rotary(cache.begin(len(ids)).to(model.device), x.dtype)
    for layer, block in enumerate(model.layers):
        before, x = x, block(x, rope, cache, layer)
        if layer + 1 in exits:
            look = Look(layer + 1, x[0, -1], before[0, -1], classifiers)
            scores.append(policy.score(look))
            if policy.leaves(scores[-1]):
                return Classified(_named(classifiers, look.logits), layer + 1, tuple(scores))
    return Classified(_named(classifiers, classifiers(len(model.layers), x[0, -1])), len(model.layers), tuple(scores))


def _named(classifiers: InternalClassifiers, logits: Tensor) -> str:
    return classifiers.labels[int(logits.argmax())]
