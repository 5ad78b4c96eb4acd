"""A decode or verify step of a model of real size on a paged cache, near the limit of memory: five launches a layer.

    qkv         RMSNorm, queries, keys and values, their rotation; keys and values go to their slots in the pool
    attend      paged attention, as in chapter 11; long rows are split, and a sixth launch merges
    out         the output product, added to the hidden state
    gate_up     RMSNorm, gate and up, silu(gate) · up
    down        the down product, added to the hidden state

The hidden state stays in float32 from layer to layer. All is device work on shapes that the call's arguments tell, so
a CUDA graph can capture it. `minilm bench big` says how near the limit it comes. See `few_rows` for the products.
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from minilm.checks import check_count
from minilm.kernels import few_rows
from minilm.kernels.backend import check_device, check_shape, launches, triton
from minilm.kernels.chip import can_overlap, processors, shared_memory
from minilm.kernels.split_kv import MOST_TREE_TOKENS, attend
from minilm.model import GPT

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Tile(NamedTuple):
    """How a product is shared out: rows of x and outputs of a program, numbers it sums at a time, programs that share a
    sum, warps, stages of the load pipeline, bytes of each weight row that are asked for ahead."""

    rows: int
    columns: int
    depth: int
    splits: int
    warps: int
    stages: int
    ahead: int


def tile_for(outputs: int, length: int, rows: int, element: int, chip: int) -> Tile:
    """The tile of a product of `rows` rows with weights [outputs, length] of `element` bytes, on `chip` processors.

    The fastest of those tried for bfloat16 on an H100 80GB HBM3, in whole steps of Llama-3-8B's shape. For one row 4
    weight rows a program, in registers: 0.97 of the read limit, where tensor cores, fed through shared memory, reached
    0.76. From two rows on 64 by 128 weights at a time, 6 stages: some 100 KB under way on every processor. Where 64
    outputs a program leave processors idle, two or more programs share a sum. Small matrices: 16 outputs a program.
    """
    if rows == 1:
        return Tile(1, 4, 8192 // element, 1, 4, 1, 2048)
    tall = min(max(triton.next_power_of_2(rows), 16), 128)
    if outputs * length < 2**22:
        return Tile(tall, 16, 512 // element, 1, 4, 4, 512)
    splits = max(1, min(chip // triton.cdiv(outputs, 64), length // 1024))
    return Tile(tall, 64, 256 // element, splits, 4, 8 if splits > 1 and length <= 4096 else 6, 2048)


Tiles = Callable[[int, int, int, int, int], Tile]


class Product:
    """How the launches of one product of R rows with weights [outputs, length] look: their grid and their constants.

    halves: for each output another one is computed beside it, which lies so many rows further in the weights; 0: none.
    """

    def __init__(self, outputs: int, length: int, R: int, element: int, chip: int, room: int, tiles: Tiles,
                 halves: int = 0):
        rows, columns, depth, splits, warps, stages, ahead = tiles(outputs, length, R, element, chip)
        if halves:
            columns = min(columns, 2 * triton.next_power_of_2(halves))
        while triton.cdiv(outputs, columns) >= 2**16:       # of a grid's second axis there are no more
            columns *= 2
        depth = min(depth, max(triton.next_power_of_2(length), 16))
        share = triton.cdiv(triton.cdiv(length, splits), depth) * depth
        splits = triton.cdiv(length, share)
        while stages > 1 and stages * (columns + rows) * depth * element > 0.9 * room:
            stages -= 1
        even, pieces, ahead = splits * share == length, max(32 * warps // columns, 1), ahead // element
        alike = ahead % pieces == 0 and ahead // pieces * element % 16 == 0 and length * element % 16 == 0
        if not (even and alike and ahead <= share and 32 * warps >= columns):
            ahead = 0
        self.tiles, self.blocks, self.splits = triton.cdiv(outputs, columns), triton.cdiv(R, rows), splits
        self.grid, self.size = (self.blocks, self.tiles, splits), columns * rows     # rows that share weights: at once
        self.constants = dict(LENGTH=length, ROWS=rows, COLUMNS=columns, DEPTH=depth, SHARE=share, SPLITS=splits,
                              EVEN=even, AHEAD=ahead, num_warps=warps, num_stages=stages)

    @property
    def parts(self) -> int:
        """Numbers that programs leave for each other."""
        return self.tiles * self.blocks * self.splits * self.size if self.splits > 1 else 0


class DecodeLayers:
    """A model's layers and head by these kernels, for steps of up to `most_rows` rows: the new tokens of all sequences.

    A step works in memory that the next one writes over; only what it returns stays. tiles: another rule than
    `tile_for`. Raises ValueError where the kernels cannot run the model; see `fits`.
    """

    def __init__(self, model: GPT, most_rows: int, *, tiles: Tiles = tile_for):
        check_count("most_rows", most_rows, 1)
        if not self.fits(model):
            raise ValueError("these kernels cannot run this model here: they need float32, float16 or bfloat16, a GPU "
                             "with Triton (or its interpreter), heads of 32, 64, 128 or 256, no qkv bias, no qk norm")
        c, device, dtype = model.config, model.device, model.dtype
        self.model, self.most_rows = model, most_rows
        places = torch.arange(c.max_positions, device=device)
        self.cos, self.sin = (table[:, c.head_size // 2 :].contiguous()                 # the upper half: sin unsigned
                              for table in model.rotary(places, torch.float32))
        self.overlap = {"launch_pdl": True} if can_overlap(device) else {}
        self.products = {R: self._products(R, tiles) for R in range(1, most_rows + 1)}
        every = [product for products in self.products.values() for product in products.values()]
        make = lambda *shape, dtype=dtype: torch.empty(shape, dtype=dtype, device=device)           # noqa: E731
        self.x = make(most_rows, c.width, dtype=torch.float32)
        self.scaled, self.wide = make(most_rows, c.width), make(most_rows, c.mlp_width)
        self.q = make(most_rows, c.num_heads, c.head_size)
        self.squares = make(max(R * max(p["out"].tiles, p["down"].tiles) for R, p in self.products.items()),
                            dtype=torch.float32)
        self.parts = make(max(1, *(product.parts for product in every)), dtype=torch.float32)
        self.arrivals = torch.zeros(max(p.tiles * p.blocks for p in every), dtype=torch.int32, device=device)

    @staticmethod
    def fits(model: GPT) -> bool:
        """Whether these kernels can run the model: its shape, its dtype, and a device that kernels are launched on."""
        c = model.config
        return (c.head_size in (32, 64, 128, 256) and not c.qkv_bias and not c.qk_norm and model.dtype in DTYPES
                and model.ranks == 1 and launches(model.embedding.weight))

    def _products(self, R: int, tiles: Tiles) -> dict[str, Product]:
        c, weight = self.model.config, self.model.embedding.weight
        room = shared_memory(weight.device) if weight.is_cuda else 2**20
        beside = (R, weight.element_size(), processors(weight.device), room, tiles)
        heads, kv = c.num_heads * c.head_size, c.num_kv_heads * c.head_size
        return {"qkv": Product(heads + 2 * kv, c.width, *beside, halves=c.head_size // 2),
                "out": Product(c.width, heads, *beside), "down": Product(c.width, c.mlp_width, *beside),
                "gate_up": Product(2 * c.mlp_width, c.width, *beside, halves=c.mlp_width),
                "logits": Product(c.vocab_size, c.width, *beside)}

    def _launch(self, kernel, name: str, R: int, *tensors, **constants) -> None:
        product = self.products[R][name]
        kernel[product.grid](*tensors, self.parts, self.arrivals, R, **constants, **product.constants,
                             OVERLAP=bool(self.overlap), **self.overlap)

    def _normed(self, parts: int) -> dict[str, int]:
        return dict(PARTS=parts, SOME=triton.next_power_of_2(parts))

    def _start(self, source: Tensor, ids: Tensor | None, gain: Tensor, R: int) -> None:
        width = self.model.config.width
        few_rows.start_kernel[(R,)](source, source if ids is None else ids, gain, self.x, self.scaled, self.squares,
                           WIDTH=width, SOME=triton.next_power_of_2(width), EMBED=ids is not None,
                           OVERLAP=bool(self.overlap), num_warps=8, **self.overlap)

    def hidden(self, ids: Tensor, positions: Tensor, slots: Tensor, keys: list[Tensor], values: list[Tensor],
               tables: Tensor, lengths: Tensor, tree_mask: Tensor | None = None) -> Tensor:
        """ids[N], positions[N], slots[N], all int64 -> the last layer's output [N, d]: N = B · m, m new tokens each.

        slots: where keys and values of each go, block · block_size + place in it. keys, values: each layer's pool
        [blocks, block_size, K, D]. tables[B, width], lengths[B], int32: as for `paged_attention`, the m new counted.
        tree_mask: bool [m, m] or [B, m, m], who of the new tokens sees whom; None: each sees those up to itself.
        Raises ValueError or TypeError for shapes or dtypes that don't fit; numbers on the device are not looked at.
        """
        c, layers, eps = self.model.config, self.model.layers, self.model.config.norm_eps
        N, B = self._check(ids, positions, slots, keys, values, tables, lengths, tree_mask)
        if tree_mask is not None:
            tree_mask = tree_mask.expand(B, N // B, N // B)
        out = torch.empty(N, c.width, dtype=self.scaled.dtype, device=ids.device)
        heads = dict(H=c.num_heads, K=c.num_kv_heads, HALF=c.head_size // 2)
        q = self.q[:N].unflatten(0, (B, N // B))
        self._start(self.model.embedding.weight, ids, layers[0].attention_norm.weight, N)
        parts = 1
        for i, layer in enumerate(layers):
            a, mlp, norm = layer.attention, layer.mlp, layer.mlp_norm.weight
            self._launch(few_rows.qkv_kernel, "qkv", N, self.scaled, a.qkv.weight, self.squares, eps, self.cos,
                         self.sin, positions, slots, self.q, keys[i], values[i], **heads, **self._normed(parts))
            attended = attend(q, keys[i], values[i], lengths, tables=tables, tree=tree_mask)
            self._add("out", N, attended, a.out.weight, norm, self.scaled)
            self._launch(few_rows.gate_up_kernel, "gate_up", N, self.scaled, mlp.gate_up.weight, self.squares, eps,
                         self.wide, WIDE=c.mlp_width, **self._normed(self.products[N]["out"].tiles))
            if i + 1 < len(layers):
                self._add("down", N, self.wide, mlp.down.weight, layers[i + 1].attention_norm.weight, self.scaled)
            else:
                self._add("down", N, self.wide, mlp.down.weight, norm, out, last=True)
            parts = self.products[N]["down"].tiles
        return out

    def _add(self, name: str, N: int, x: Tensor, weight: Tensor, gain: Tensor, to: Tensor, last: bool = False) -> None:
        self._launch(few_rows.add_kernel, name, N, x, weight, gain, self.x, to, self.squares,
                     WIDTH=self.model.config.width, NORM=not last)

    def logits(self, x: Tensor) -> Tensor:
        """hidden[N, d] -> logits[N, V]: the final norm, then the vocabulary matrix."""
        c, N = self.model.config, len(x)
        check_shape("x", x, "N d", d=c.width)
        if not 1 <= N <= self.most_rows or x.dtype != self.scaled.dtype or not x.is_contiguous():
            raise ValueError(f"x must be 1 to {self.most_rows} rows of {self.scaled.dtype}, contiguous; it is "
                             f"{list(x.shape)} of {x.dtype}")
        out = torch.empty(N, c.vocab_size, dtype=x.dtype, device=x.device)
        self._start(x, None, self.model.norm.weight, N)
        self._launch(few_rows.logits_kernel, "logits", N, self.scaled, self.model.vocabulary.weight, self.squares,
                     c.norm_eps, out, V=c.vocab_size, **self._normed(1))
        return out

    def _check(self, ids: Tensor, positions: Tensor, slots: Tensor, keys: list[Tensor], values: list[Tensor],
               tables: Tensor, lengths: Tensor, tree_mask: Tensor | None) -> tuple[int, int]:
        """N and B, where all fits."""
        c, (N,), B = self.model.config, ids.shape, len(tables)
        if not 1 <= N <= self.most_rows or B == 0 or N % B:
            raise ValueError(f"a step has equally many rows for each sequence, {self.most_rows} at most in all; it has "
                             f"{N} for {B} sequences")
        for name, numbers in (("ids", ids), ("positions", positions), ("slots", slots)):
            if numbers.dtype != torch.int64 or not numbers.is_contiguous():
                raise TypeError(f"{name} must be int64 and contiguous; they are {numbers.dtype}, of strides "
                                f"{numbers.stride()}")
            check_shape(name, numbers, "N", N=N)
            check_device("x", self.x, name, numbers)
        check_shape("lengths", lengths, "B", B=B)
        if tables.dtype != torch.int32 or lengths.dtype != torch.int32 or not tables.is_contiguous():
            raise TypeError(f"tables and lengths must be int32, tables contiguous; they are {tables.dtype} and "
                            f"{lengths.dtype}")
        for name, pools in (("keys", keys), ("values", values)):
            if len(pools) != c.num_layers:
                raise ValueError(f"{name} must be {c.num_layers} pools, one a layer; there are {len(pools)}")
            for pool in pools:
                check_shape(name, pool, "blocks block_size K D", K=c.num_kv_heads, D=c.head_size)
                if not pool.is_contiguous() or pool.dtype != self.scaled.dtype:
                    raise ValueError(f"{name} must be contiguous and {self.scaled.dtype}, as the model is")
        m = N // B
        if tree_mask is not None and m > MOST_TREE_TOKENS:
            raise ValueError(f"a tree of {m} tokens: at most {MOST_TREE_TOKENS}")
        if tree_mask is not None and (tree_mask.dtype != torch.bool or tree_mask.shape not in ((m, m), (B, m, m))):
            raise ValueError(f"tree_mask must be bool of shape [{m}, {m}] or [{B}, {m}, {m}]; it is "
                             f"{tree_mask.dtype} of {list(tree_mask.shape)}")
        return N, B
