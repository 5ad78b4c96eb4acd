"""Checkpoints in and out: `load` by name, folder, Hugging Face id or GGUF file; `save` in Hugging Face format.

Weights are read from safetensors or GGUF, which hold numbers only. Pickled checkpoints can run code when opened and
are refused.
"""
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from minilm import gguf_file, pretrained
from minilm.hf_config import config_from_hf, config_to_hf
from minilm.model import GPT, GPTConfig
from minilm.tokenizer import Tokenizer

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")

# Our name in a layer -> the parts it is made of, top to bottom, in Hugging Face's names.
_LAYER_PARTS = {
    "attention_norm.weight": ["input_layernorm.weight"],
    "attention.qkv.weight": ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"],
    "attention.qkv.bias": ["self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"],
    "attention.q_norm.weight": ["self_attn.q_norm.weight"],
    "attention.k_norm.weight": ["self_attn.k_norm.weight"],
    "attention.out.weight": ["self_attn.o_proj.weight"],
    "mlp_norm.weight": ["post_attention_layernorm.weight"],
    "mlp.gate_up.weight": ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
    "mlp.down.weight": ["mlp.down_proj.weight"],
}
_TOP_PARTS = {
    "embedding.weight": ["model.embed_tokens.weight"],
    "norm.weight": ["model.norm.weight"],
    "vocabulary.weight": ["lm_head.weight"],
}


DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(name_or_path: str | Path, *, device: torch.device | str = "cpu",
         dtype: torch.dtype | str = torch.float32) -> tuple[GPT, Tokenizer]:
    """Open a model and its tokenizer, ready for inference.

    name_or_path: "minilm-14m", "minilm-1m" or "smollm2-135m-instruct"; a folder in Hugging Face format; a .gguf file;
    or a Hugging Face id such as "Qwen/Qwen3-0.6B" (Llama 2/3, Mistral, Qwen 2, 2.5 and 3, SmolLM2 families).
    dtype: of the weights: torch.float32, float64, bfloat16 or float16, or one of these names, such as "bfloat16".
    Raises ValueError or FileNotFoundError with what to do when it is unknown, incomplete, damaged or pickled, and
    TypeError for an argument of the wrong type.
    """
    device, dtype = _check_device(device), _check_dtype(dtype)
    path = pretrained.locate(name_or_path)
    model = load_model(path, dtype=dtype)
    tokenizer = _tokenizer(path)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(f"{path}: the tokenizer has {tokenizer.vocab_size} tokens, more than the model's "
                         f"{model.config.vocab_size}: they do not belong together")
    return model.to(device), tokenizer


def load_model(folder_or_file: str | Path, *, dtype: torch.dtype | str = torch.float32) -> GPT:
    """The model of a Hugging Face folder or a GGUF file, on the CPU, in `dtype`, with no gradients."""
    path, dtype = Path(folder_or_file), _check_dtype(dtype)
    _refuse_pickled(path)
    if path.is_file():
        config, tensors = gguf_file.read_model(path)
    elif path.is_dir():
        config, tensors = _read_folder(path)
    else:
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    last = f"model.layers.{config.num_layers - 1}.input_layernorm.weight"
    if last not in tensors:                             # before a model of as many layers is built for nothing
        raise ValueError(f"{path}: tensor {last} is missing")
    with torch.device("meta"), _Unfilled():
        model = GPT(config)
    weights = {name: _assemble(name, target, config, tensors, path).to(dtype)
               for name, target in model.state_dict().items()
               if not (config.tie_embeddings and name == "vocabulary.weight")}
    model.load_state_dict(weights, strict=False, assign=True)
    if config.tie_embeddings:
        model.vocabulary.weight = model.embedding.weight
    return model.eval().requires_grad_(False)


def describe(folder_or_file: str | Path) -> str:
    """What `load` would open, without reading the weights: family, parameters, layers and so on, in one line.

    Raises the errors of `load` for a folder or file that is no model, or that lacks its weights or its tokenizer.
    """
    path = Path(folder_or_file)
    _refuse_pickled(path)
    if path.is_file():
        family, config = gguf_file.read_config(path)
    else:
        settings, config = _read_config(path)
        family = settings["model_type"]
        _weight_files(path)
    tokens = _tokenizer(path).vocab_size
    with torch.device("meta"), _Unfilled():
        parameters = GPT(config).num_parameters()
    size = f"{parameters / 1e9:.2f} billion" if parameters >= 1e9 else f"{parameters / 1e6:.1f} million"
    return (f"{family} family, {size} parameters, {config.num_layers} layers of width {config.width}, {tokens:,} "
            f"tokens, contexts up to {config.max_positions:,}")


def _tokenizer(path: Path) -> Tokenizer:
    return gguf_file.read_tokenizer(path) if path.is_file() else Tokenizer.from_folder(path)


def _refuse_pickled(path: Path) -> None:
    if path.suffix in PICKLED:
        raise ValueError(f"{path} looks like a pickled checkpoint, which can run code when opened; minilm reads only "
                         f"safetensors and GGUF: convert it with `save_pretrained` in transformers")


class _Unfilled(TorchFunctionMode):
    """No random start values: the checkpoint's follow. On the meta device they would also load all of torch.compile,
    a second's wait."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def save(model: GPT, tokenizer: Tokenizer | None, folder: str | Path) -> None:
    """Write a folder that `load`, and `transformers.AutoModelForCausalLM`, open. Weights keep the model's dtype."""
    folder = Path(folder)
    if model.ranks > 1:
        raise ValueError(f"this model is one of {model.ranks} ranks' share; save it before it is cut")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder to save into")
    config = config_to_hf(model.config, model.dtype, tokenizer.eos_id if tokenizer else None)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous().cpu() for name, tensor in hf_tensors(model).items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if tokenizer is not None:
        tokenizer.save(folder)


def hf_tensors(model: GPT) -> dict[str, Tensor]:
    """The model's weights by Hugging Face's names: views, no copies."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if model.config.tie_embeddings and name == "vocabulary.weight":
            continue
        rows = _part_rows(name, model.config) or [tensor.shape[0]]
        tensors |= zip(_parts(name), tensor.split(rows), strict=True)
    return tensors


def _parts(name: str) -> list[str]:
    """Hugging Face's names of the pieces of one of our tensors."""
    if name in _TOP_PARTS:
        return _TOP_PARTS[name]
    _, layer, rest = name.split(".", 2)
    return [f"model.layers.{layer}.{part}" for part in _LAYER_PARTS[rest]]


def _part_rows(name: str, config: GPTConfig) -> list[int] | None:
    """How many rows each piece of a fused tensor has, or None where the tensor is one piece."""
    if ".qkv." in name:
        return [heads * config.head_size for heads in (config.num_heads, config.num_kv_heads, config.num_kv_heads)]
    return [config.mlp_width] * 2 if ".gate_up." in name else None


def _assemble(name: str, target: Tensor, config: GPTConfig, tensors: dict[str, Tensor], path: Path) -> Tensor:
    """One of our tensors from its pieces, each checked against the shape that the config asks for."""
    pieces = []
    rows = _part_rows(name, config) or [target.shape[0]]
    for part, n in zip(_parts(name), rows, strict=True):
        if part not in tensors:
            raise ValueError(f"{path}: tensor {part} is missing")
        expected = [n, *target.shape[1:]]
        if list(tensors[part].shape) != expected:
            raise ValueError(f"{path}: tensor {part} has shape {list(tensors[part].shape)}, but the config asks for "
                             f"{expected}")
        pieces.append(tensors.pop(part))                # so that the weights are not held twice
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def _read_folder(folder: Path) -> tuple[GPTConfig, dict[str, Tensor]]:
    """Config and tensors of a Hugging Face folder: one safetensors file, or several with an index."""
    _, config = _read_config(folder)
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        try:
            with safe_open(str(file), framework="pt") as opened:
                tensors |= {name: opened.get_tensor(name) for name in opened.keys()}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is damaged or incomplete; fetch it again ({error})") from None
    return config, tensors


def _read_config(folder: Path) -> tuple[dict, GPTConfig]:
    """A Hugging Face folder's settings as they stand in config.json, and as ours."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json, so it is no checkpoint in Hugging Face format; give a "
                                f"folder with config.json, tokenizer.json and *.safetensors, or a .gguf file")
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return settings, config_from_hf(settings)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{folder / 'config.json'}: {reason}") from None


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = [p.name for p in folder.iterdir() if p.suffix in PICKLED]
        if pickled:
            raise ValueError(f"{folder} holds only pickled weights ({pickled[0]}), which can run code when opened; "
                             f"minilm reads only safetensors and GGUF")
        raise FileNotFoundError(f"{folder} has no .safetensors file")
    return files


def _check_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """The dtype, also by its name, or one clear error when no model can run in it."""
    found = DTYPES.get(str(dtype).removeprefix("torch.")) if isinstance(dtype, torch.dtype | str) else None
    if found is None:
        kind = ValueError if isinstance(dtype, torch.dtype | str) else TypeError
        raise kind(f"dtype {dtype!r} is not one that a model runs in; say torch.float32, or one of the names "
                   f"{', '.join(DTYPES)}")
    return found


def _check_device(device: torch.device | str) -> torch.device:
    """The device, or one clear error when this machine lacks it."""
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError) as error:
        kind = ValueError if isinstance(error, RuntimeError) else TypeError
        raise kind(f"device {device!r} is not known; say 'cpu', 'cuda' or 'mps'") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' asked for, but PyTorch sees no GPU here; use device='cpu', or see "
                         "`minilm doctor`")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device 'mps' asked for, but PyTorch sees no Apple GPU here; use device='cpu'")
    return device
