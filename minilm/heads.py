"""Small parts that are trained beside a frozen model (exit classifiers, lenses, drafting heads), as safetensors files.

Each file names the model that it was trained on by a fingerprint of its weights: a head read on another model's
hidden states would answer nonsense without an error.
"""
import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minilm.model import GPT

FOLDER = Path(__file__).parent / "checkpoints" / "heads"
_KEY = "trained_on"


def fingerprint(model: GPT) -> str:
    """16 hex digits that tell models apart, whatever precision they were opened in: a hash of the norms in bfloat16."""
    digest = hashlib.sha256(repr((model.config.num_layers, model.config.width, model.config.vocab_size)).encode())
    for norm in (model.norm, *(block.mlp_norm for block in model.layers)):
        digest.update(norm.weight.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def write(path: str | Path, tensors: dict[str, Tensor], model: GPT) -> None:
    """Save tensors trained beside `model`."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, str(path),
              metadata={_KEY: fingerprint(model), "format": "pt"})


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
    return {name: x.to(model.dtype) if x.is_floating_point() else x for name, x in tensors.items()}
