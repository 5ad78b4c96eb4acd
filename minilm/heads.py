"""Small parts that are trained beside a frozen model (exit classifiers, lenses, drafting heads), as safetensors files.

Each file names the model that it was trained on by a fingerprint of its weights: a head read on another model's
hidden states would answer nonsense without an error. Large matrices can be kept in 8 bits, to be small to clone.
"""
import hashlib
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minilm.model import GPT

FOLDER = Path(__file__).parent / "checkpoints" / "heads"
_KEY = "trained_on"
GROUP, SCALE = 64, ".scale"     # numbers that share a scale in 8 bits; what the name of their scales ends with


def fingerprint(model: GPT) -> str:
    """16 hex digits that tell models apart, whatever precision they were opened in: a hash of the norms in bfloat16."""
    digest = hashlib.sha256(repr((model.config.num_layers, model.config.width, model.config.vocab_size)).encode())
    for norm in (model.norm, *(block.mlp_norm for block in model.layers)):
        digest.update(norm.weight.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def write(path: str | Path, tensors: dict[str, Tensor], model: GPT, *, eight_bits: Collection[str] = ()) -> None:
    """Save tensors trained beside `model`; those named in eight_bits with 8 bits a number (see `to_eight_bits`)."""
    kept = {name: tensor for name, tensor in tensors.items() if name not in eight_bits}
    for name in eight_bits:
        kept[name], kept[name + SCALE] = to_eight_bits(tensors[name])
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in kept.items()}, str(path),
              metadata={_KEY: fingerprint(model), "format": "pt"})


def to_eight_bits(x: Tensor) -> tuple[Tensor, Tensor]:
    """(whole numbers of 8 bits, x's shape; scales[n / GROUP, 1], float32): x is their product, each GROUP numbers
    having one scale, with an error of at most 1/254 of the largest of them. n, of all numbers, must be a multiple."""
    groups = x.float().reshape(-1, GROUP)
    scales = (groups.abs().amax(1, keepdim=True) / 127).clamp(min=torch.finfo(torch.float32).tiny)     # no 0 / 0
    return (groups / scales).round().to(torch.int8).view(x.shape), scales


def from_eight_bits(whole: Tensor, scales: Tensor) -> Tensor:
    """What `to_eight_bits` took in, rounded, float32."""
    return (whole.float().view(-1, GROUP) * scales).view(whole.shape)


def as_kept(x: Tensor) -> Tensor:
    """x as it comes back from 8 bits: what is measured should be what is shipped."""
    return from_eight_bits(*to_eight_bits(x))


def read(name_or_path: str | Path, model: GPT) -> dict[str, Tensor]:
    """The tensors of a bundled file ("minilm-14m-exit-classifier") or of a path, in the model's dtype and place.

    Raises FileNotFoundError when there is none and ValueError when it is damaged or was trained on another model.
    """
    path = FOLDER / f"{name_or_path}.safetensors"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.safetensors")))
        raise FileNotFoundError(f"there are no trained heads {str(name_or_path)!r}; bundled ones are {known}")
    try:
        with safe_open(str(path), "pt") as file:
            owner = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name).to(model.device) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from None
    if owner != fingerprint(model):
        raise ValueError(f"{path.name} was trained on another model ({owner}, and this one is {fingerprint(model)}): "
                         "open the model that it belongs to, or train heads for this one")
    for name in [name for name in tensors if name + SCALE in tensors]:
        tensors[name] = from_eight_bits(tensors[name], tensors.pop(name + SCALE))
    return {name: x.to(model.dtype) if x.is_floating_point() else x for name, x in tensors.items()}
