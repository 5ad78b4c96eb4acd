"""Hugging Face's config.json to `GPTConfig` and back, for the families whose shape is ours."""
import torch

from minilm.model import GPTConfig

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")     # model_type; SmolLM2 and Llama 2/3 are "llama", Qwen 2.5 "qwen2"


def config_from_hf(hf: dict) -> GPTConfig:
    """The GPTConfig of a config.json. Raises ValueError for a family or an option that minilm does not compute."""
    if not isinstance(hf, dict):
        raise ValueError(f"it holds a {type(hf).__name__}, not a model's settings")
    kind = hf.get("model_type")
    if kind not in FAMILIES:
        raise ValueError(f"model_type {kind!r} is not supported; minilm reads {', '.join(FAMILIES)}")
    if hf.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act {hf['hidden_act']!r} is not supported; minilm computes silu")
    if hf.get("mlp_bias") or (hf.get("attention_bias") and kind != "qwen2"):
        raise ValueError("biases on the MLP or on attention's output are not supported")
    # transformers 5 keeps theta and scaling in one dict; older files keep two fields
    rope = dict(hf.get("rope_parameters") or hf.get("rope_scaling") or {})
    theta = rope.pop("rope_theta", None) or hf.get("rope_theta", 10_000.0)
    if rope.get("rope_type", rope.get("type", "default")) == "default":
        rope = None
    heads = hf["num_attention_heads"]
    return GPTConfig(
        vocab_size=hf["vocab_size"], num_layers=hf["num_hidden_layers"], width=hf["hidden_size"], num_heads=heads,
        num_kv_heads=hf.get("num_key_value_heads") or heads,
        head_size=hf.get("head_dim") or hf["hidden_size"] // max(heads, 1),
        mlp_width=hf["intermediate_size"], max_positions=_exact_positions(hf), rope_theta=float(theta),
        rope_scaling=rope, norm_eps=float(hf.get("rms_norm_eps", 1e-6)),
        tie_embeddings=hf.get("tie_word_embeddings", False),
        qkv_bias=kind == "qwen2", qk_norm=kind == "qwen3")


def _exact_positions(hf: dict) -> int:
    """How far plain causal attention is exact: up to the sliding window where the model was given one."""
    positions = hf.get("max_position_embeddings", 2048)
    window = hf.get("sliding_window")
    used = window is not None and hf.get("use_sliding_window", hf["model_type"] == "mistral")
    return min(positions, window) if used else positions


def config_to_hf(config: GPTConfig, dtype: torch.dtype, eos_id: int | None) -> dict:
    """A config.json that `transformers` opens as the family this config belongs to."""
    if config.qkv_bias and config.qk_norm:
        raise ValueError("qkv_bias together with qk_norm is no family that transformers knows: it cannot be saved")
    kind = "qwen3" if config.qk_norm else "qwen2" if config.qkv_bias else "llama"
    if kind == "qwen2" and config.head_size * config.num_heads != config.width:
        raise ValueError("with qkv_bias, head_size · num_heads must equal width: it cannot be saved as qwen2")
    return {
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "model_type": kind, "vocab_size": config.vocab_size, "num_hidden_layers": config.num_layers,
        "hidden_size": config.width, "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads, "head_dim": config.head_size,
        "intermediate_size": config.mlp_width, "hidden_act": "silu", "max_position_embeddings": config.max_positions,
        "rope_theta": config.rope_theta, "rope_scaling": config.rope_scaling, "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings, "attention_bias": False, "bos_token_id": None,
        "eos_token_id": eos_id, "dtype": str(dtype).removeprefix("torch."),
    }
