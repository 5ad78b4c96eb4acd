"""A small model's pass on a CPU with next to nothing around the arithmetic, for drafting one token at a time.

minilm-1m asks a processor for 3 MFLOP a token, a tenth of a millisecond; PyTorch's way to each of its 150 operations
takes ten times as long. Here the same pass is NumPy's: its calls cost a third of a microsecond, the norms' weights are
folded into the matrices that follow them, and nothing is looked up twice. The cache is the model's own kind, and passes
over several tokens (a prompt) are the model's own too. It is to a CPU what `captured` is to a GPU.
"""
import numpy as np
import torch
from torch import Tensor

from minilm.cache import KVCache
from minilm.model import GPT

FEW = 3                         # tokens: more are read faster by the model itself, all at once
ONE_THREAD = 450_000            # numbers of a matrix: for more OpenBLAS wakes threads, which fight PyTorch's for cores


class LeanCache(KVCache):
    """A `KVCache` whose numbers NumPy sees too."""

    def _hold(self, numbers: Tensor) -> None:
        super()._hold(numbers)
        self.keys_values = numbers.numpy()                                          # (2, L, 1, K, capacity, D)


class Lean:
    """A GPT that reads few tokens fast on a CPU. Everything else is the model's, by the same names.

    The weights are copied as they are now: make a new one after training. Raises ValueError for a model that it can't
    run; see `fits`.
    """

    def __init__(self, model: GPT):
        if not self.fits(model):
            raise ValueError("Lean runs models on a CPU, in float32 or float64, without biases and qk_norm; this one "
                             f"is on {model.device}, in {str(model.dtype).removeprefix('torch.')}")
        self.model, c = model, model.config
        queries = c.num_heads * c.head_size
        self.embedding = _numbers(model.embedding.weight)
        self.layers = []
        for block in model.layers:
            qkv = _numbers(block.attention.qkv.weight) * _numbers(block.attention_norm.weight)
            qkv[:queries] *= c.head_size ** -0.5                                    # the scores' scale
            self.layers.append((qkv, _numbers(block.attention.out.weight),
                                _numbers(block.mlp.gate_up.weight) * _numbers(block.mlp_norm.weight),
                                _numbers(block.mlp.down.weight)))
        vocabulary = _numbers(model.vocabulary.weight) * _numbers(model.norm.weight)
        rows = max(1, ONE_THREAD // c.width)
        self.blocks = [(first, vocabulary[first : first + rows]) for first in range(0, c.vocab_size, rows)]
        cos, sin = model.rotary(torch.arange(c.max_positions), model.dtype)
        self.cos, self.sin = cos[:, None].numpy(), sin[:, None].numpy()             # (positions, 1, D)
        half = c.head_size // 2
        self.swapped = np.concatenate((np.arange(half, c.head_size), np.arange(half)))

    @staticmethod
    def fits(model: GPT) -> bool:
        """Whether `Lean(model)` can run it."""
        return (isinstance(model, GPT) and model.device.type == "cpu" and not model.config.qkv_bias
                and not model.config.qk_norm and model.dtype in (torch.float32, torch.float64))

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def new_cache(self, capacity: int | None = None, spare: int = 0) -> LeanCache:
        return LeanCache(self.config, capacity=capacity, spare=spare, dtype=self.dtype)

    def read(self, tokens: list[int], cache: KVCache) -> Tensor:
        """As `GPT.read`, hidden[T, d]: token by token where they are few, else by the model itself."""
        if len(tokens) > FEW or not isinstance(cache, LeanCache) or cache._parents is not None:
            return self.model.read(tokens, cache)
        return torch.from_numpy(np.stack([self._step(token, cache) for token in tokens]))

    def head(self, x: Tensor) -> Tensor:
        """As `GPT.head`: fast for one state[d]."""
        if x.dim() > 1:
            return self.model.head(x)
        x, logits = x.numpy(), np.empty(self.config.vocab_size, self.embedding.dtype)
        for first, rows in self.blocks:
            np.dot(rows, x, out=logits[first : first + len(rows)])
        logits *= self._scale(x)
        return torch.from_numpy(logits)

    def _scale(self, x: np.ndarray) -> float:
        """RMSNorm without its weight: what x is multiplied by."""
        return 1 / (x.dot(x) / len(x) + self.config.norm_eps) ** 0.5

    def _step(self, token: int, cache: LeanCache) -> np.ndarray:
        """One token after what the cache holds -> its last hidden state [d]; keys and values join the cache."""
        c, n = self.config, cache.length
        if not 0 <= token < c.vocab_size or n >= cache.capacity:
            return self.model.read([token], cache)[0].numpy()                       # it says what is wrong
        H, K, D = c.num_heads, c.num_kv_heads, c.head_size
        cos, sin, x = self.cos[n], self.sin[n], self.embedding[token]
        for layer, (qkv, out, gate_up, down) in enumerate(self.layers):
            heads = (qkv.dot(x) * self._scale(x)).reshape(H + 2 * K, D)
            turned = heads[: H + K]
            turned = turned * cos + turned[:, self.swapped] * sin
            keys, values = cache.keys_values[:, layer, 0, :, : n + 1]               # (K, n + 1, D) each
            keys[:, n], values[:, n] = turned[H:], heads[H + K :]
            scores = turned[:H].reshape(K, H // K, D) @ keys.transpose(0, 2, 1)     # (K, H / K, n + 1)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            y = weights @ values / weights.sum(-1, keepdims=True)
            x = x + out.dot(y.reshape(-1))
            both = gate_up.dot(x) * self._scale(x)
            gate, up = both[: c.mlp_width], both[c.mlp_width :]
            x = x + down.dot(gate / (1 + np.exp(-gate)) * up)
        cache.length = n + 1
        return x


def _numbers(weight: Tensor) -> np.ndarray:
    """A weight, as NumPy sees the same memory."""
    return weight.detach().numpy()
