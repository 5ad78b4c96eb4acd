"""What a forward pass costs on paper: floating-point operations and bytes, counted from the config alone.

Counted: every weight matrix, the scores and weighted sums of attention, weights read once, keys and values read once
and written once. Left out, being small: norms, rotary turns, softmax, and the hidden states, which stay in cache.
"""
from dataclasses import dataclass

from minilm.model import GPTConfig


@dataclass(frozen=True)
class Cost:
    """flops: a multiply-add is 2.  bytes: moved between memory and processor at least."""

    flops: float
    bytes: float

    @property
    def intensity(self) -> float:
        """Arithmetic intensity, FLOP per byte: the roofline's x axis."""
        return self.flops / self.bytes


def kv_bytes_per_token(config: GPTConfig, bytes_per_number: float = 4) -> float:
    """2 · L · K · D · bytes: one key and one value for each layer and key-value head."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_size * bytes_per_number


def layer_weights(config: GPTConfig) -> int:
    """Numbers in the weight matrices of all layers."""
    c = config
    attention = c.width * c.head_size * (c.num_heads + 2 * c.num_kv_heads) + c.num_heads * c.head_size * c.width
    return c.num_layers * (attention + 3 * c.width * c.mlp_width)


def head_weights(config: GPTConfig) -> int:
    """Numbers in the vocabulary matrix that turns a hidden state into logits."""
    return config.vocab_size * config.width


def weight_bytes(config: GPTConfig, bytes_per_number: float = 4) -> float:
    """Bytes of weights that one pass reads. The embedding is only looked up, unless it is also the head."""
    return (layer_weights(config) + head_weights(config)) * bytes_per_number


def forward_pass(config: GPTConfig, fed: int, context: int = 0, *, batch: int = 1,
                 bytes_per_number: float = 4) -> Cost:
    """One pass that feeds `fed` tokens after `context` cached ones, in each of `batch` rows; logits of the last only.

    Prefill is fed = prompt, context = 0; a decode step is fed = 1. Raises ValueError on numbers that make no pass.
    """
    if fed < 1 or context < 0 or batch < 1 or bytes_per_number <= 0:
        raise ValueError(f"a pass needs fed >= 1, context >= 0, batch >= 1 and bytes_per_number > 0; got fed={fed}, "
                         f"context={context}, batch={batch}, bytes_per_number={bytes_per_number}")
    read = fed * context + fed * (fed + 1) // 2                 # new token i reads the context and i new ones
    attention = 4 * config.num_layers * config.num_heads * config.head_size * read
    matrices = 2 * (layer_weights(config) * fed + head_weights(config))
    kv = kv_bytes_per_token(config, bytes_per_number) * (context + 2 * fed)     # old ones read; new written and read
    return Cost(batch * (matrices + attention), weight_bytes(config, bytes_per_number) + batch * kv)
