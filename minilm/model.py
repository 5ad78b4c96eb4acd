"""The GPT: a decoder-only transformer in the shape that Llama, Mistral, Qwen and SmolLM share.

Each block adds attention and then a gated MLP to a running hidden state; RMSNorm steadies what they read, rotary
embeddings tell attention how far apart two tokens are, grouped-query attention lets several query heads share one
key-value head. The model asks a *cache* to attend and knows nothing of how keys and values are laid out in memory:
the same blocks later run on paged memory and on Triton kernels.

Letters in shapes: B batch, T tokens, V vocabulary, L layers, H query heads, K key-value heads, D head size, d width.
"""
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilm.cache import Cache, FullAttention, KVCache
from minilm.checks import check_count
from minilm.linear import Linear, linear

_ROPE_NEEDS = {                                                     # what each kind of rope_scaling must tell
    "default": (), "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")}


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. `rope_scaling` is None or Hugging Face's dict for `rope_type` "llama3" or "linear"."""

    vocab_size: int
    num_layers: int
    width: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    mlp_width: int
    max_positions: int = 2048
    rope_theta: float = 10_000.0
    rope_scaling: dict | None = None
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False

    def __post_init__(self):
        sizes = ("vocab_size", "num_layers", "width", "num_heads", "num_kv_heads", "head_size", "mlp_width",
                 "max_positions")
        for name in sizes:
            check_count(f"GPTConfig.{name}", getattr(self, name), 1)
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})")
        if self.head_size % 2:
            raise ValueError(f"head_size must be even, for rotary pairs; it is {self.head_size}")
        if self.rope_type not in _ROPE_NEEDS:
            raise ValueError(f"rope_scaling type {self.rope_type!r} is not known, only {', '.join(_ROPE_NEEDS)}")
        for name in _ROPE_NEEDS[self.rope_type]:
            if name not in self.rope_scaling:
                raise ValueError(f"rope_scaling of type {self.rope_type!r} lacks {name}")

    @property
    def rope_type(self) -> str:
        scaling = self.rope_scaling or {}
        return scaling.get("rope_type", scaling.get("type", "default"))


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight, over the last axis (Zhang & Sennrich 2019, eq. 4)."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021, §3.2): pair i of a head turns by angle position · theta^(-2i/D).

    The two numbers of a pair stand D/2 apart (Hugging Face's order), so a rotation is
    x · cos + (x with its halves swapped) · (-sin, sin). Angles are float32, as in `transformers`.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self._tables: dict[tuple, tuple[Tensor, Tensor]] = {}

    def frequencies(self) -> Tensor:
        """Radians per position of each pair, [D/2]."""
        c = self.config
        frequency = 1.0 / (c.rope_theta ** (torch.arange(0, c.head_size, 2, dtype=torch.float32) / c.head_size))
        if c.rope_type == "linear":
            return frequency / c.rope_scaling["factor"]
        if c.rope_type == "llama3":
            return _llama3_frequencies(frequency, c.rope_scaling)
        return frequency

    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """positions[T] or [B, T] -> (cos, signed sin), each [T, D] or [B, 1, T, D]."""
        key = (dtype, positions.device)
        if key not in self._tables:
            angles = torch.arange(self.config.max_positions, dtype=torch.float32)[:, None] * self.frequencies()
            cos, sin = angles.cos(), angles.sin()                               # (max_positions, D/2)
            self._tables[key] = (torch.cat((cos, cos), -1).to(positions.device, dtype),
                                 torch.cat((-sin, sin), -1).to(positions.device, dtype))
        cos, sin = (table[positions] for table in self._tables[key])
        return (cos, sin) if positions.dim() == 1 else (cos[:, None], sin[:, None])


def _llama3_frequencies(frequency: Tensor, scaling: dict) -> Tensor:
    """Llama 3.1's rule: slow the long waves by `factor`, keep the short ones, blend in between."""
    factor, original = scaling["factor"], scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = original * frequency / (2 * math.pi)                    # full turns within the original context
    blend = ((turns - low) / (high - low)).clamp(0, 1)              # 0: slow wave, 1: fast wave
    return frequency * (blend + (1 - blend) / factor)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every pair of x[B, heads, T, D] by its position's angle; cos, sin as `Rotary` gives them."""
    swapped = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * cos, swapped, sin)


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023): H query heads share K key-value heads, H/K queries each."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.heads, self.kv_heads, self.head_size = config.num_heads, config.num_kv_heads, config.head_size
        all_heads = self.heads + 2 * self.kv_heads
        self.qkv = Linear(config.width, all_heads * self.head_size, bias=config.qkv_bias)
        self.out = Linear(self.heads * self.head_size, config.width, bias=False)
        self.q_norm = RMSNorm(self.head_size, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_size, config.norm_eps) if config.qk_norm else None

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], cache: Cache, layer: int) -> Tensor:
        B, T, _ = x.shape
        heads = self.qkv(x).view(B, T, -1, self.head_size).transpose(1, 2)          # (B, H + 2K, T, D)
        qk, v = heads.split((self.heads + self.kv_heads, self.kv_heads), dim=1)
        if self.q_norm is not None:
            q, k = qk.split((self.heads, self.kv_heads), dim=1)
            qk = torch.cat((self.q_norm(q), self.k_norm(k)), dim=1)
        q, k = rotate(qk, *rope).split((self.heads, self.kv_heads), dim=1)          # (B, H, T, D), (B, K, T, D)
        y = cache.attend(layer, q, k, v)                                            # (B, H, T, D)
        return self.out(y.transpose(1, 2).reshape(B, T, -1))

    def keys_values(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Only the keys, turned, and the values of x[B, T, d], each [B, K, T, D]: for a token that skips this layer."""
        B, T, _ = x.shape
        first = self.heads * self.head_size                                         # below the queries' rows
        bias = None if self.qkv.bias is None else self.qkv.bias[first:]
        kv = linear(x, self.qkv.weight[first:], bias).view(B, T, -1, self.head_size).transpose(1, 2)
        k, v = kv.split(self.kv_heads, dim=1)
        return rotate(k if self.k_norm is None else self.k_norm(k), *rope), v


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020, eq. 6): down(silu(gate(x)) · up(x)); gate and up are one matrix."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.gate_up = Linear(config.width, 2 * config.mlp_width, bias=False)
        self.down = Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """One layer: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.width, config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], cache: Cache, layer: int) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rope, cache, layer)
        return x + self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    """The language model: token ids in, logits of the next token out. `GPT(config)` has random weights."""

    ranks = 1                   # processes that its weights are cut over: see `serving.parallel`

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.vocabulary = Linear(config.width, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.vocabulary.weight = self.embedding.weight
        self.rotary = Rotary(config)
        self.apply(self._init)

    def _init(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def embed(self, ids: Tensor) -> Tensor:
        """ids[B, T] -> hidden[B, T, d]. Raises ValueError on anything that is not a batch of known token ids."""
        if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.dtype not in (torch.int64, torch.int32):
            got = f"{ids.dtype} of shape {list(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
            raise ValueError(f"ids must be a tensor of whole numbers, int64 or int32, of shape [B, T]; got {got}")
        try:
            return self.embedding(ids)
        except IndexError:
            bad = ids[(ids < 0) | (ids >= self.config.vocab_size)][0].item()
            raise ValueError(f"token id {bad} is outside the vocabulary of {self.config.vocab_size}") from None

    def layer_outputs(self, ids: Tensor, cache: Cache | None = None) -> Iterator[Tensor]:
        """Run the layers over ids[B, T] and yield the hidden state [B, T, d] after each. Take all L of them."""
        x = self.embed(ids)
        cache = FullAttention(self.config.max_positions) if cache is None else cache
        positions = cache.begin(ids.shape[1])
        rope = self.rotary(positions.to(ids.device), x.dtype)
        for layer, block in enumerate(self.layers):
            x = block(x, rope, cache, layer)
            yield x
        cache.end(ids.shape[1])

    def hidden(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """ids[B, T] -> the last layer's output [B, T, d], before the head. See `forward`."""
        return deque(self.layer_outputs(ids, cache), maxlen=1).pop()

    def head(self, x: Tensor) -> Tensor:
        """hidden[..., d] -> logits[..., V]: the final norm, then the vocabulary matrix."""
        return self.vocabulary(self.norm(x))

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """ids[B, T] -> logits[B, T, V]. With a cache, ids continue what the cache holds, and are added to it.

        Raises ValueError when ids are no batch of token ids, or stand past the cache's or the model's last position.
        """
        return self.head(self.hidden(ids, cache))

    def read(self, tokens: list[int], cache: Cache) -> Tensor:
        """One text's next tokens -> hidden[T, d] after each of them, which join what the cache holds."""
        return self.hidden(torch.tensor([tokens], device=self.device), cache)[0]

    def new_cache(self, capacity: int | None = None, spare: int = 0) -> KVCache:
        """An empty cache for one text, on this model's device and in its dtype; see `KVCache`."""
        return KVCache(self.config, capacity=capacity, spare=spare, dtype=self.dtype, device=self.device)

    def num_parameters(self) -> int:
        """How many numbers were trained; a tied vocabulary matrix counts once."""
        return sum(p.numel() for p in self.parameters())

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype
