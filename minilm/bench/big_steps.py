"""Steps of models of real size on a GPU, any batch and width: what decoding, verifying and leaving early really take.

Weights are random: time does not depend on them. A step feeds m tokens of each of B texts after a context in blocks
that lie anywhere, and ends with the greedy choice. Up to 64 rows run by `DecodeLayers`, more by `ManyRows` (cuBLAS,
which is good at many rows, and kernels between its products) with `paged_attention`, as in the engine; both as graphs.
"""
import dataclasses

import torch
from torch import Tensor, nn

from minilm.kernels import paged_attention
from minilm.kernels.decode_layers import DecodeLayers
from minilm.kernels.many_rows import ManyRows
from minilm.model import GPT, GPTConfig

SHAPES = {                                                      # each with a draft of about an eighth of its size
    "8B": GPTConfig(128256, 32, 4096, 32, 8, 128, 14336, max_positions=16384, rope_theta=500_000.0,
                    tie_embeddings=False),
    "1B": GPTConfig(128256, 16, 2048, 32, 8, 64, 8192, max_positions=16384, rope_theta=500_000.0),
    "1B draft": GPTConfig(128256, 8, 768, 12, 4, 64, 3072, max_positions=16384, rope_theta=500_000.0),
}
DRAFTS = {"8B": "1B", "1B": "1B draft"}
BLOCK, MOST_BY_KERNELS = 16, 64                                 # tokens of a block; rows


def random_gpt(config: GPTConfig, device: str, dtype: torch.dtype = torch.bfloat16) -> GPT:
    """A GPT of that shape whose random weights are made where they stay."""
    with torch.device("meta"):
        model = GPT(config).to(dtype)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for parameter in {id(p): p for p in model.parameters()}.values():
        if parameter.dim() == 1:
            parameter.fill_(1)
        else:
            parameter.normal_(std=parameter.shape[1] ** -0.5, generator=generator)
    if config.tie_embeddings:
        model.vocabulary.weight = model.embedding.weight
    return model


def cut(model: GPT, layers: int) -> GPT:
    """Its first `layers` layers and its head as a model, of the same weights."""
    with torch.device("meta"):
        part = GPT(dataclasses.replace(model.config, num_layers=1))
    part.config = dataclasses.replace(model.config, num_layers=layers)
    part.embedding, part.norm, part.vocabulary = model.embedding, model.norm, model.vocabulary
    part.layers, part.rotary = nn.ModuleList(model.layers[:layers]), model.rotary
    return part.eval()


class Pool:
    """Keys and values of `tokens` tokens, random, in blocks; the steps of one model share it."""

    def __init__(self, model: GPT, tokens: int):
        c = model.config
        shape = (c.num_layers, -(-tokens // BLOCK), BLOCK, c.num_kv_heads, c.head_size)
        self.keys, self.values = (torch.empty(shape, dtype=model.dtype, device=model.device).normal_()
                                  for _ in range(2))
        self.order = torch.randperm(shape[1], device=model.device).to(torch.int32)


class Step:
    """One step: `width` new tokens of each of `batch` texts of `context` tokens. way: "kernels" or "many rows"."""

    def __init__(self, model: GPT, pool: Pool, batch: int, width: int, context: int, way: str | None = None):
        N, device = batch * width, model.device
        per_text = -(-(context + width) // BLOCK)
        if batch * per_text > len(pool.order):
            raise ValueError(f"{batch} texts of {context + width} tokens need {batch * per_text} blocks; the pool has "
                             f"{len(pool.order)}")
        self.model, self.batch, self.width = model, batch, width
        self.way = way or ("kernels" if N <= MOST_BY_KERNELS and DecodeLayers.fits(model) else "many rows")
        layers = model.config.num_layers
        self.keys, self.values = list(pool.keys[:layers]), list(pool.values[:layers])
        self.tables = pool.order[: batch * per_text].view(batch, per_text)
        self.positions = torch.arange(context, context + width, device=device)
        self.slots = (self.tables[:, self.positions // BLOCK].long() * BLOCK + self.positions % BLOCK).flatten()
        self.lengths = torch.full((batch,), context + width, dtype=torch.int32, device=device)
        generator = torch.Generator(device).manual_seed(N)
        self.ids = torch.randint(model.config.vocab_size, (N,), device=device, generator=generator)
        self.layers = DecodeLayers(model, N) if self.way == "kernels" else ManyRows(model)
        self.every = self.positions.repeat(batch)

    def logits(self) -> Tensor:
        """[B · m, V]."""
        places = self.ids, self.every, self.slots, self.keys, self.values
        if self.way == "kernels":
            return self.layers.logits(self.layers.hidden(*places, self.tables, self.lengths))
        return self.model.head(self.layers.hidden(*places, self._attend))

    def _attend(self, layer: int, q: Tensor) -> Tensor:
        """q[B · m, H, D] -> as much."""
        return paged_attention(q.unflatten(0, (self.batch, self.width)), self.keys[layer], self.values[layer],
                               self.tables, self.lengths, debug=False).flatten(0, 1)

    def tokens(self) -> Tensor:
        return self.logits().argmax(-1)


class Extras:
    """What leaving early costs beside layers: a check, and keys and values of the layers that were left."""

    def __init__(self, model: GPT, batch: int, left_after: int):
        self.model, self.left_after = model, left_after
        self.x = torch.randn(batch, model.config.width, device=model.device).to(model.dtype)

    def check(self) -> Tensor:
        """A vocabulary product, and its choice."""
        return self.model.head(self.x).argmax(-1)

    def fill(self) -> list[Tensor]:
        """Keys and values of all layers above, by their own matrices."""
        first = self.model.config.num_heads * self.model.config.head_size
        return [nn.functional.linear(self.x, layer.attention.qkv.weight[first:])
                for layer in self.model.layers[self.left_after :]]
