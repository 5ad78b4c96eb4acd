"""Keys and values in blocks, behind the model's `cache.attend`: where `blocks` keeps the books, this holds the numbers.

A pass over many sequences is one row of tokens, all sequences one after another; each attends to its own blocks.
"""
import copy
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from minilm.cache import ancestry
from minilm.model import GPTConfig
from minilm.serving.blocks import BlockPool, BlockTable
from minilm.serving.groups import Member, grouped, slots_of


class PagedCache:
    """keys and values[layer][blocks, block_size, K, D]: one pool of blocks for all sequences.

    One block more than the pool knows is scrap: passes of a fixed size put there what pads them.
    kernels: attend by the Triton kernels (see `groups`).
    """

    def __init__(self, config: GPTConfig, num_blocks: int, block_size: int = 16, *, dtype: torch.dtype = torch.float32,
                 device: torch.device | str = "cpu", kernels: bool = False):
        self.config, self.pool = config, BlockPool(num_blocks, block_size)
        self.kernels, self.scrap = kernels, num_blocks
        shape = (num_blocks + 1, block_size, config.num_kv_heads, config.head_size)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_layers)]

    @property
    def device(self) -> torch.device:
        return self.keys[0].device

    def reserve(self, table: BlockTable, tokens: int) -> list[tuple[int, int]]:
        """Room for `tokens` more in `table`; blocks that it may no longer share are copied. Returns (from, to)."""
        copies = table.reserve(tokens)
        for source, target in copies:
            for kept in (*self.keys, *self.values):
                kept[target] = kept[source]
        return copies

    def put(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Write a layer's k and v[1, K, T, D] at slots[T]."""
        for kept, new in ((self.keys[layer], k), (self.values[layer], v)):
            kept.view(-1, *kept.shape[2:])[slots] = new[0].transpose(0, 1)

    def move(self, sources: list[int], targets: list[int]) -> None:
        """Copy single tokens from slots to slots, in every layer; all are read before any is written."""
        for kept in (*self.keys, *self.values):
            flat = kept.view(-1, *kept.shape[2:])
            flat[targets] = flat[sources]

    def read(self, blocks: list[int]) -> list[Tensor]:
        """The content of blocks, [2, n, block_size, K, D] for each layer, for `write` to put elsewhere."""
        return [torch.stack((keys[blocks], values[blocks])) for keys, values in
                zip(self.keys, self.values, strict=True)]

    def write(self, blocks: list[int], content: list[Tensor]) -> None:
        for keys, values, (k, v) in zip(self.keys, self.values, content, strict=True):
            keys[blocks], values[blocks] = k, v


@dataclass
class Feed:
    """What a sequence feeds in one pass: `count` tokens after those that `table` holds, as a tree if it has parents.

    parents[count]: as for `KVCache.branch`. Room for them must be reserved.
    """

    table: BlockTable
    count: int
    parents: list[int] | None = None


class PagedBatch:
    """The cache of one pass over ids[1, T], the tokens of all `feeds` one after another. See `minilm.cache.Cache`.

    slots[T]: where the tokens' keys and values go.  groups: who attends together, and how.
    """

    def __init__(self, cache: PagedCache, feeds: list[Feed]):
        self.cache, self.feeds = cache, feeds
        trees = [None if feed.parents is None else ancestry(feed.parents) for feed in feeds]
        starts = [0, *accumulate(feed.count for feed in feeds)]
        self.num_tokens = starts.pop()
        positions = []
        for feed, tree in zip(feeds, trees, strict=True):
            held = feed.table.length
            positions.append(torch.arange(held, held + feed.count) if tree is None else held + tree[0])
        self.positions = torch.cat(positions)
        self.slots = slots_of([(feed.table, feed.table.length, feed.table.length + feed.count) for feed in feeds],
                              cache.device)
        members = [Member(start, feed.table, feed.count, tree) for start, feed, tree in
                   zip(starts, feeds, trees, strict=True)]
        self.groups = [way(cache, some) for way, some in grouped(members, cache.kernels)]

    def part(self, rows: list[int]) -> "PagedBatch":
        """The same pass where only these rows, in ascending order, go on; whom none is left of drops out."""
        other = copy.copy(self)
        other.num_tokens, other.slots = len(rows), self.slots[rows]
        place = torch.full((self.num_tokens,), -1)
        place[rows] = torch.arange(len(rows))
        other.groups = [part for group in self.groups if (part := group.part(rows, place)) is not None]
        return other

    def begin(self, num_tokens: int) -> Tensor:
        if num_tokens != len(self.positions):
            raise ValueError(f"this batch feeds {len(self.positions)} tokens; the pass has {num_tokens}")
        if int(self.positions.max()) >= self.cache.config.max_positions:
            raise ValueError(f"position {int(self.positions.max())} is past the model's max_positions, "
                             f"{self.cache.config.max_positions}")
        return self.positions.to(self.cache.device)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.cache.put(layer, self.slots, k, v)
        return self.attend_to_pool(layer, q[0].transpose(0, 1)).transpose(0, 1)[None]

    def attend_to_pool(self, layer: int, q: Tensor) -> Tensor:
        """q[T, H, D] -> [T, H, D], where the layer's new keys and values are in their slots already."""
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        for group in self.groups:
            group.attend(q, self.cache.keys[layer], self.cache.values[layer], out)
        return out

    def end(self, num_tokens: int) -> None:
        for feed in self.feeds:
            feed.table.length += feed.count


class PagedSequence:
    """One sequence's blocks with `KVCache`'s own methods, for proposers that draft in the target's cache.

    Room must be reserved beforehand; `capacity` is the model's `max_positions`.
    """

    def __init__(self, cache: PagedCache, table: BlockTable):
        self.cache, self.table, self.capacity = cache, table, cache.config.max_positions
        self._parents: list[int] | None = None

    @property
    def length(self) -> int:
        return self.table.length

    @length.setter
    def length(self, length: int) -> None:
        self.table.length = length

    def branch(self, parents: list[int]) -> None:
        self._parents = parents

    def begin(self, num_tokens: int) -> Tensor:
        self._pass = PagedBatch(self.cache, [Feed(self.table, num_tokens, self._parents)])
        self._parents = None
        return self._pass.begin(num_tokens)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self._pass.attend(layer, q, k, v)

    def end(self, num_tokens: int) -> None:
        self._pass.end(num_tokens)

    def truncate(self, length: int) -> None:
        self.table.truncate(length)

    def keep(self, length: int, tokens: list[int]) -> None:
        """As `KVCache.keep`: of what stands past `length` keep only `tokens` (counted from there), moved together."""
        if tokens != list(range(len(tokens))):
            held = self.table.slots(length, self.length).tolist()
            self.cache.move([held[token] for token in tokens], held[: len(tokens)])
        self.table.truncate(length + len(tokens))
