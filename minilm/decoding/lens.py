"""An affine lens: from the state after a middle layer to the last layer's, in one step.

A model that was not trained to exit does not hold its middle states in the form that its head reads. One affine map for
each exit brings them there: fitted by least squares in Din et al. 2023 ("Jump to Conclusions"), by imitating the
last layer's distribution in Belrose et al. 2023 (the tuned lens). `minilm.training.lens` does the one, then the other.
"""
import re
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from minilm import heads
from minilm.model import GPT


def normalised(hidden: Tensor) -> Tensor:
    """x · √d / |x| over the last axis: a state without its scale, which grows from layer to layer."""
    return F.rms_norm(hidden, hidden.shape[-1:], eps=1e-6)


class Lens:
    """What `early_exit` takes as its `lens`: lens(layer, hidden[..., d]) -> hidden[..., d], for the model's own head.

    maps: {layers run: (weight[d, d], bias[d])}, applied to the normalised state. A look costs d² more multiply-adds.
    """

    def __init__(self, maps: dict[int, tuple[Tensor, Tensor]]):
        self.maps = dict(sorted(maps.items()))

    @property
    def exits(self) -> tuple[int, ...]:
        """The layers that it was fitted for, counted in layers run."""
        return tuple(self.maps)

    @classmethod
    def load(cls, model: GPT, name_or_path: str | Path = "smollm2-135m-instruct-lens") -> "Lens":
        """The lens fitted for `model`. Raises ValueError when it was fitted for another, or the file holds no lens."""
        tensors = heads.read(name_or_path, model)
        layers = [int(found[1]) for name in tensors if (found := re.fullmatch(r"weight\.(\d+)", name))]
        if not layers or len(tensors) != 2 * len(layers):
            raise ValueError(f"{name_or_path} holds no lens, but the tensors {', '.join(sorted(tensors))}")
        return cls({layer: (tensors[f"weight.{layer}"], tensors[f"bias.{layer}"]) for layer in layers})

    def save(self, path: str | Path, model: GPT) -> None:
        """Write the maps, weights in 8 bits and biases in float16."""
        weights = {f"weight.{layer}": weight for layer, (weight, _) in self.maps.items()}
        biases = {f"bias.{layer}": bias.half() for layer, (_, bias) in self.maps.items()}
        heads.write(path, weights | biases, model, eight_bits=weights)

    def __call__(self, layer: int, hidden: Tensor) -> Tensor:
        if layer not in self.maps:
            raise ValueError(f"this lens has no map for layer {layer}: give early_exit exits among {self.exits}")
        weight, bias = self.maps[layer]
        return F.linear(normalised(hidden), weight, bias)
