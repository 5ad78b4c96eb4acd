"""GGUF files: config, weights and tokenizer, through the `gguf` package's own reader and dequantiser."""
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minilm.model import GPTConfig
from minilm.tokenizer import Tokenizer

# GGUF's name of a layer's tensor -> Hugging Face's; both store [rows out, columns in].
_LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_FAMILIES = ("llama", "qwen2", "qwen3")                  # general.architecture; Mistral and SmolLM2 say "llama"


class _Damaged(Exception):
    """The reader cannot make sense of the file."""


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """One clear error for whatever a damaged file does to its reader; our own say already what is wrong."""
    try:
        yield
    except Exception as error:
        if type(error) is ValueError:
            raise
        raise ValueError(f"{path} is truncated, damaged or no GGUF file; fetch it again ({error})") from None


def read_model(path: Path) -> tuple[GPTConfig, dict[str, Tensor]]:
    """The config and the dequantised weights, under Hugging Face's names. Raises ValueError on a damaged file."""
    with _damage_told(path):
        reader = _open(path)
        config = _config(reader, path)
        paired = _field(reader, "general.architecture") == "llama"
        tensors = {}
        for entry in reader.tensors:
            name = _hf_name(entry.name)
            if name is None:                            # e.g. rope_freqs, which follows from the config
                continue
            weight = _dequantise(entry, path)
            if paired and entry.name.endswith(("attn_q.weight", "attn_k.weight")):
                weight = _pairs_apart(weight, config.head_size)
            tensors[name] = weight
        return config, tensors


def read_config(path: Path) -> tuple[str, GPTConfig]:
    """The family and the config, without the weights. Raises ValueError on a damaged file."""
    with _damage_told(path):
        reader = _open(path)
        return _field(reader, "general.architecture"), _config(reader, path)


def _pairs_apart(weight: Tensor, head_size: int) -> Tensor:
    """Undo llama.cpp's row order. Its "llama" files put the two rows of a rotary pair side by side; ours stand D/2
    apart. weight: [heads · D, d]."""
    heads = weight.shape[0] // head_size
    return weight.view(heads, head_size // 2, 2, -1).transpose(1, 2).reshape(weight.shape)      # (heads, 2, D/2, d)


def read_tokenizer(path: Path) -> Tokenizer:
    """The byte-level BPE stored in the file; a tokenizer.json beside it goes first."""
    path = Path(path)
    if (path.parent / "tokenizer.json").is_file():
        return Tokenizer.from_folder(path.parent)
    with _damage_told(path):
        reader = _open(path)
        kind, pre = _field(reader, "tokenizer.ggml.model"), _field(reader, "tokenizer.ggml.pre", "default")
        if kind != "gpt2" or pre not in _SPLITS:
            raise ValueError(f"{path}: its tokenizer ({kind}, {pre}) is not supported; put the model's tokenizer.json "
                             f"and tokenizer_config.json beside the file")
        return _byte_level_bpe(reader, pre)


# How text is cut before BPE merges: the published patterns of each family.
_QWEN_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
               r"|\s+(?!\S)|\s+")
_SPLITS = {
    "default": None, "gpt-2": None, "smollm": "digits", "qwen2": _QWEN_SPLIT,
    "llama-bpe": _QWEN_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|"),
}


def _byte_level_bpe(reader, pre: str) -> Tokenizer:
    import tokenizers
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

    tokens, merges = _field(reader, "tokenizer.ggml.tokens"), _field(reader, "tokenizer.ggml.merges")
    backend = tokenizers.Tokenizer(models.BPE(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[tuple(merge.split(" ", 1)) for merge in merges]))
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    split = _SPLITS[pre]
    if split is None:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        first = (pre_tokenizers.Digits(individual_digits=True) if split == "digits"
                 else pre_tokenizers.Split(Regex(split), behavior="isolated"))
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [first, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split == "digits")])
    backend.decoder = decoders.ByteLevel()
    types = _field(reader, "tokenizer.ggml.token_type")
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                for t, kind in zip(tokens, types, strict=True) if kind == 3])       # 3: control
    specials = {name: tokens[i] for name, key in (("bos_token", "bos"), ("eos_token", "eos"))
                if (i := _field(reader, f"tokenizer.ggml.{key}_token_id", None)) is not None}
    if _field(reader, "tokenizer.ggml.add_bos_token", False):
        bos = specials["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))])
    return Tokenizer(backend, specials, _field(reader, "tokenizer.chat_template", None))


def _config(reader, path: Path) -> GPTConfig:
    family = _field(reader, "general.architecture")
    if family not in _FAMILIES:
        raise ValueError(f"{path}: architecture {family!r} is not supported; minilm reads {', '.join(_FAMILIES)}")
    get = lambda key, *default: _field(reader, f"{family}.{key}", *default)     # noqa: E731
    names = {entry.name for entry in reader.tensors}
    heads, width = get("attention.head_count"), get("embedding_length")
    scaling = get("rope.scaling.type", "none")
    if scaling not in ("none", "linear"):
        raise ValueError(f"{path}: rope scaling {scaling!r} is not supported in GGUF; use the safetensors folder")
    if "rope_freqs.weight" in names:
        raise ValueError(f"{path}: llama3 rope scaling is stored as numbers here; use the safetensors folder")
    return GPTConfig(
        vocab_size=len(_field(reader, "tokenizer.ggml.tokens")), num_layers=get("block_count"), width=width,
        num_heads=heads, num_kv_heads=get("attention.head_count_kv", heads),
        head_size=get("attention.key_length", width // heads), mlp_width=get("feed_forward_length"),
        max_positions=get("context_length"), rope_theta=float(get("rope.freq_base", 10_000.0)),
        rope_scaling=None if scaling == "none" else {"rope_type": scaling, "factor": get("rope.scaling.factor")},
        norm_eps=float(f"{get('attention.layer_norm_rms_epsilon'):.6g}"),          # float32 in the file
        tie_embeddings="output.weight" not in names, qkv_bias="blk.0.attn_q.bias" in names,
        qk_norm="blk.0.attn_q_norm.weight" in names)


def _hf_name(name: str) -> str | None:
    stem, _, kind = name.rpartition(".")
    if stem in _TOP_NAMES:
        return f"{_TOP_NAMES[stem]}.{kind}"
    if stem.startswith("blk."):
        _, layer, part = stem.split(".", 2)
        if part in _LAYER_NAMES:
            return f"model.layers.{layer}.{_LAYER_NAMES[part]}.{kind}"
    return None


def _dequantise(entry, path: Path) -> Tensor:
    from gguf.quants import dequantize
    try:
        weight = dequantize(entry.data, entry.tensor_type)
    except NotImplementedError:
        raise ValueError(f"{path}: tensor {entry.name} is stored as {entry.tensor_type.name}, which the gguf package "
                         f"cannot dequantise; use a file in F16, Q8_0, Q4_0, Q4_1 or Q6_K") from None
    shape = [int(n) for n in reversed(entry.shape)]      # GGUF writes the fastest axis first
    return torch.from_numpy(np.require(weight, np.float32, "W").reshape(shape))     # copies what still lies in the file


_REQUIRED = object()


def _field(reader, key: str, default=_REQUIRED):
    if key in reader.fields:
        return reader.fields[key].contents()
    if default is _REQUIRED:
        raise ValueError(f"the GGUF file lacks the field {key}: it is no complete language model")
    return default


def _open(path: Path):
    path = Path(path)
    return _reader(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)                                    # the model and then its tokenizer come from one reading
def _reader(path: Path, _modified: int):
    import gguf

    class Reader(gguf.GGUFReader):
        def _get(self, offset, dtype, count=1, *more, **named):     # its own gives less than asked for at a file's end,
            if type(self.data) is not np.ndarray:                   # a slice of a memmap costs four times an array's
                self.data = self.data.view(np.ndarray)
            if int(offset) + int(count) * np.dtype(dtype).itemsize > len(self.data):    # and may then loop without end
                raise ValueError("it ends early")
            return super()._get(offset, dtype, count, *more, **named)

    try:
        return Reader(path)
    except ValueError as error:
        raise _Damaged(error) from None
