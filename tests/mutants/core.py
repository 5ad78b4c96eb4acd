"""Wrong versions of the core, each a single change; the tests of the core must reject every one of them."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from minilm import cache, checkpoint, gguf_file, model, sampling
from minilm.cache import FullAttention, KVCache
from minilm.model import GPT, MLP, Block, RMSNorm, Rotary
from minilm.sampling import Sampling


@dataclass(frozen=True)
class Change:
    """One wrong version. check: the name of the check that must fail; owner.name is replaced by `value`."""

    says: str
    check: str
    owner: Any
    name: str
    value: Any

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if isinstance(self.owner, dict):
            monkeypatch.setitem(self.owner, self.name, self.value)
        else:
            monkeypatch.setattr(self.owner, self.name, self.value)

    def __str__(self) -> str:
        return self.says


# --- sampling ---

def probs_with(order: tuple[str, ...] = ("temperature", "top_k", "top_p"), *, extra: int = 0,
               multiply: bool = False) -> Callable:
    """Sampling.probs as it should be, but for one thing."""
    def probs(self, logits):
        for step in order:
            if step == "temperature":
                logits = logits * self.temperature if multiply else logits / self.temperature
            elif step == "top_k" and self.top_k:
                k = min(max(self.top_k + extra, 1), logits.shape[-1])
                logits = logits.masked_fill(logits < logits.topk(k).values[..., -1:], -torch.inf)
            elif step == "top_p" and self.top_p < 1:
                logits = sampling._nucleus(logits.softmax(-1), self.top_p).log()
        return logits.softmax(-1)
    return probs


def nucleus_with(keep: Callable, renormalise: bool = True) -> Callable:
    """keep(mass before a token, its mass, p) says which of the sorted tokens stay."""
    def nucleus(probs, top_p):
        ordered, ids = probs.sort(dim=-1, descending=True, stable=True)
        ordered = ordered.where(keep(ordered.cumsum(-1) - ordered, ordered, top_p), 0.0)
        kept = torch.zeros_like(probs).scatter_(-1, ids, ordered)
        return kept / kept.sum(-1, keepdim=True) if renormalise else kept
    return nucleus


def draw_with(right: bool = True, scale: bool = True) -> Callable:
    def draw(probs, uniform):
        cdf = probs.double().cumsum(-1)
        token = int(torch.searchsorted(cdf, uniform * cdf[-1] if scale else uniform, right=right))
        return min(token, len(cdf) - 1)
    return draw


def draw_in_float32(probs, uniform):
    cdf = probs.float().cumsum(-1)
    return int(torch.searchsorted(cdf, torch.tensor(uniform, dtype=torch.float32), right=True).clamp(max=len(cdf) - 1))


SAMPLING = [
    Change("top-p drops the token that crosses p", "check_nucleus_borders", sampling, "_nucleus",
           nucleus_with(lambda before, own, p: (before + own <= p) | (before == 0))),
    Change("top-p keeps one token too many", "check_nucleus_borders", sampling, "_nucleus",
           nucleus_with(lambda before, own, p: before <= p)),
    Change("top-p does not renormalise", "check_nucleus_borders", sampling, "_nucleus",
           nucleus_with(lambda before, own, p: before < p, renormalise=False)),
    Change("top-p drops every small token", "check_against_reference", sampling, "_nucleus",
           nucleus_with(lambda before, own, p: own >= 1 - p)),
    Change("top-k keeps one too many", "check_against_reference", Sampling, "probs", probs_with(extra=1)),
    Change("top-k keeps one too few", "check_against_reference", Sampling, "probs", probs_with(extra=-1)),
    Change("temperature multiplied", "check_against_reference", Sampling, "probs", probs_with(multiply=True)),
    Change("temperature last", "check_against_reference", Sampling, "probs",
           probs_with(("top_k", "top_p", "temperature"))),
    Change("top-p before top-k", "check_against_reference", Sampling, "probs",
           probs_with(("temperature", "top_p", "top_k"))),
    Change("a border goes to the token before", "check_draw_by_enumeration", sampling, "draw", draw_with(right=False)),
    Change("a draw of 0 takes a token of probability 0", "check_draw_never_takes_a_zero", sampling, "draw",
           draw_with(right=False)),
    Change("the last step falls on a token of probability 0", "check_draw_never_takes_a_zero", sampling, "draw",
           draw_in_float32),
    Change("the total is taken for 1", "check_draw_by_enumeration", sampling, "draw", draw_with(scale=False)),
]


# --- model ---

def rotate_neighbours(x, cos, sin):
    half = x.shape[-1] // 2
    cos, sin = cos[..., :half], sin[..., half:]
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)


def rotate_backwards(x, cos, sin):
    return x * cos - x.roll(x.shape[-1] // 2, dims=-1) * sin


def without_rope(x, cos, sin):
    return x


def no_blend(frequency, scaling):
    return frequency / scaling["factor"]


def no_eps(self, x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)) * self.weight


def centred(self, x):
    return F.rms_norm(x - x.mean(-1, keepdim=True), self.weight.shape, self.weight, self.eps)


def no_weight(self, x):
    return F.rms_norm(x, self.weight.shape, None, self.eps)


def up_is_gate(self, x):
    gate, up = self.gate_up(x).chunk(2, dim=-1)
    return self.down(F.silu(up) * gate)


def gelu(self, x):
    gate, up = self.gate_up(x).chunk(2, dim=-1)
    return self.down(F.gelu(gate) * up)


def head_without_norm(self, x):
    return self.vocabulary(x)


def parallel_block(self, x, rope, cache, layer):
    return x + self.attention(self.attention_norm(x), rope, cache, layer) + self.mlp(self.mlp_norm(x))


def attend_tiled(self, layer, q, k, v):
    times = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(q, k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1), is_causal=True)


def attend_to_all(self, layer, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def load_untied(path, *, dtype=torch.float32, right=checkpoint.load_model):
    loaded = right(path, dtype=dtype)
    if loaded.config.tie_embeddings:
        loaded.vocabulary.weight = torch.nn.Parameter(0.2 * torch.randn_like(loaded.embedding.weight))
    return loaded


QKV, GATE_UP = "attention.qkv.weight", "mlp.gate_up.weight"
PARTS = checkpoint._LAYER_PARTS
READS, WRITES = "check_reads_every_family", "check_writes_every_family"
MODEL = [
    Change("rotary pairs are neighbours", READS, model, "rotate", rotate_neighbours),
    Change("rotary turns backwards", READS, model, "rotate", rotate_backwards),
    Change("no rotary", READS, model, "rotate", without_rope),
    Change("llama3 scaling without the blend", READS, model, "_llama3_frequencies", no_blend),
    Change("rope scaling ignored", READS, Rotary, "frequencies", lambda self: 1.0 / self.config.rope_theta ** (
        torch.arange(0, self.config.head_size, 2) / self.config.head_size)),
    Change("RMSNorm without eps", READS, RMSNorm, "forward", no_eps),
    Change("RMSNorm subtracts the mean", READS, RMSNorm, "forward", centred),
    Change("RMSNorm without its weight", READS, RMSNorm, "forward", no_weight),
    Change("SwiGLU swaps gate and up", READS, MLP, "forward", up_is_gate),
    Change("GELU for SiLU", READS, MLP, "forward", gelu),
    Change("attention and MLP side by side", READS, Block, "forward", parallel_block),
    Change("no final norm", READS, GPT, "head", head_without_norm),
    Change("query heads tiled over key-value heads", READS, FullAttention, "attend", attend_tiled),
    Change("no causal mask", READS, FullAttention, "attend", attend_to_all),
    Change("tied weights ignored when loading", READS, checkpoint, "load_model", load_untied),
    Change("keys before queries", READS, PARTS, QKV, [PARTS[QKV][1], PARTS[QKV][0], PARTS[QKV][2]]),
    Change("gate and up swapped in files", WRITES, PARTS, GATE_UP, PARTS[GATE_UP][::-1]),
    Change("keys and values swapped in files", WRITES, PARTS, QKV, [PARTS[QKV][0], PARTS[QKV][2], PARTS[QKV][1]]),
]


# --- cache ---

def begin_with(mask_shift: int = 0, position_shift: int = 0) -> Callable:
    """KVCache.begin with its mask, or the positions of a later pass, off by a token."""
    def begin(self, num_tokens, right=KVCache.begin):
        positions = right(self, num_tokens)
        if self._mask is not None:
            rows, columns = self._mask.shape
            self._mask = torch.ones(rows, columns, dtype=torch.bool).tril(self.length + mask_shift)
        return (positions + position_shift).clamp(max=self.capacity - 1) if self.length else positions
    return begin


def attend_with(tile: bool = False, forget_one: bool = False) -> Callable:
    def attend(self, layer, q, k, v):
        start, end = self.length, self.length + k.shape[2]
        if not (forget_one and k.shape[2] == 1):
            self._keys[layer][:, :, start:end], self._values[layer][:, :, start:end] = k, v
        keys, values = self._keys[layer][:, :, :end], self._values[layer][:, :, :end]
        times = q.shape[1] // k.shape[1]
        spread = (lambda x: x.repeat(1, times, 1, 1)) if tile else (lambda x: x.repeat_interleave(times, 1))
        return F.scaled_dot_product_attention(q, spread(keys), spread(values), attn_mask=self._mask,
                                              is_causal=start == 0 and end > 1)
    return attend


def room_with(slack: int) -> Callable:
    def check_room(held, new, room, right=cache.check_room):
        right(held, new, room + slack)
    return check_room


CACHE = [
    Change("causal mask one token short", "check_chunks", KVCache, "begin", begin_with(mask_shift=-1)),
    Change("causal mask one token too far", "check_chunks", KVCache, "begin", begin_with(mask_shift=1)),
    Change("mask as if the cache were empty", "check_chunks", cache.torch.Tensor, "tril",
           lambda self, diagonal=0, right=torch.Tensor.tril: right(self, 0)),
    Change("later positions one too large", "check_chunks", KVCache, "begin", begin_with(position_shift=1)),
    Change("later positions one too small", "check_chunks", KVCache, "begin", begin_with(position_shift=-1)),
    Change("query heads tiled over cached heads", "check_chunks", KVCache, "attend", attend_with(tile=True)),
    Change("a single new token is not stored", "check_chunks", KVCache, "attend", attend_with(forget_one=True)),
    Change("the pass before is overwritten", "check_chunks", KVCache, "end", lambda self, n: None),
    Change("truncate does nothing", "check_truncate", KVCache, "truncate", lambda self, length: None),
    Change("truncate takes one more", "check_truncate", KVCache, "truncate",
           lambda self, length: setattr(self, "length", max(length - 1, 0))),
    Change("the last position is refused", "check_room", cache, "check_room", room_with(-1)),
    Change("one past the last is let through", "check_room", cache, "check_room", room_with(1)),
]


# --- GGUF ---

GGUF = [
    Change("rows of queries and keys left in llama.cpp's order", "check_reads", gguf_file, "_pairs_apart",
           lambda weight, head_size: weight),
    Change("rows put apart the wrong way", "check_reads", gguf_file, "_pairs_apart",
           lambda weight, head_size: weight.view(-1, 2, head_size // 2, weight.shape[1]).transpose(1, 2)
           .reshape(weight.shape)),
    Change("rows put apart over the whole matrix", "check_reads", gguf_file, "_pairs_apart",
           lambda weight, head_size, right=gguf_file._pairs_apart: right(weight, len(weight))),
    Change("gate and up swapped", "check_reads", gguf_file, "_LAYER_NAMES",
           {**gguf_file._LAYER_NAMES, "ffn_gate": "mlp.up_proj", "ffn_up": "mlp.gate_proj"}),
]
