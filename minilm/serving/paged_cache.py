"""Keys and values in blocks, behind the model's `cache.attend`: where `blocks` keeps the books, this holds the numbers.

A pass over many sequences is one row of tokens, all sequences one after another; each attends to its own blocks.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from minilm.cache import ancestry
from minilm.model import GPTConfig
from minilm.serving.blocks import BlockPool, BlockTable


class PagedCache:
    """keys and values[layer][blocks, block_size, K, D]: one pool of blocks for all sequences."""

    def __init__(self, config: GPTConfig, num_blocks: int, block_size: int = 16, *, dtype: torch.dtype = torch.float32,
                 device: torch.device | str = "cpu"):
        self.config, self.pool = config, BlockPool(num_blocks, block_size)
        shape = (num_blocks, block_size, config.num_kv_heads, config.head_size)
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


@dataclass
class _Group:
    """Sequences that feed equally many tokens: rows[b, m] of the pass, tables[b, width], mask[b, 1, G·m, keys]."""

    rows: Tensor
    tables: Tensor
    mask: Tensor


class PagedBatch:
    """The cache of one pass over ids[1, T], the tokens of all `feeds` one after another. See `minilm.cache.Cache`."""

    def __init__(self, cache: PagedCache, feeds: list[Feed]):
        self.cache, self.feeds = cache, feeds
        trees = [None if feed.parents is None else ancestry(feed.parents) for feed in feeds]
        offsets = [torch.arange(feed.count) if tree is None else tree[0] for feed, tree in
                   zip(feeds, trees, strict=True)]
        self.positions = torch.cat([feed.table.length + offset for feed, offset in zip(feeds, offsets, strict=True)])
        self.slots = torch.tensor([slot for feed in feeds for slot in
                                   feed.table.slots(feed.table.length, feed.table.length + feed.count)],
                                  device=cache.device)
        starts, together = 0, {}
        for i, feed in enumerate(feeds):
            together.setdefault(feed.count, []).append((starts, feed, trees[i]))
            starts += feed.count
        self.groups = [self._group(count, members) for count, members in together.items()]

    def _group(self, count: int, members: list) -> _Group:
        size, config = self.cache.pool.block_size, self.cache.config
        widths = [-(-(feed.table.length + count) // size) for _, feed, _ in members]
        tables = torch.zeros(len(members), max(widths), dtype=torch.long)      # padded with block 0, which mask hides
        mask = torch.zeros(len(members), count, max(widths) * size, dtype=torch.bool)
        for i, (_, feed, tree) in enumerate(members):
            held = feed.table.length
            tables[i, : widths[i]] = torch.tensor(feed.table.blocks[: widths[i]])
            mask[i, :, :held] = True
            mask[i, :, held : held + count] = torch.ones(count, count).tril().bool() if tree is None else tree[1]
        rows = torch.tensor([range(start, start + count) for start, _, _ in members])
        mask = mask.repeat(1, config.num_heads // config.num_kv_heads, 1)[:, None]              # (b, 1, G·m, keys)
        device = self.cache.device
        return _Group(rows.to(device), tables.to(device), mask.to(device))

    def begin(self, num_tokens: int) -> Tensor:
        if num_tokens != len(self.positions):
            raise ValueError(f"this batch feeds {len(self.positions)} tokens; the pass has {num_tokens}")
        if int(self.positions.max()) >= self.cache.config.max_positions:
            raise ValueError(f"position {int(self.positions.max())} is past the model's max_positions, "
                             f"{self.cache.config.max_positions}")
        return self.positions

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        K, D = keys.shape[2:]
        keys.view(-1, K, D)[self.slots] = k[0].transpose(0, 1)                  # (T, K, D)
        values.view(-1, K, D)[self.slots] = v[0].transpose(0, 1)
        y = torch.empty_like(q)
        for group in self.groups:
            b, m = group.rows.shape
            queries = q[0][:, group.rows].view(K, -1, b, m, D).permute(2, 0, 1, 3, 4).reshape(b, K, -1, D)
            gathered = [kept[group.tables].view(b, -1, K, D).transpose(1, 2) for kept in (keys, values)]
            out = F.scaled_dot_product_attention(queries, *gathered, attn_mask=group.mask)      # (b, K, G·m, D)
            y[0][:, group.rows] = out.view(b, -1, m, D).transpose(0, 1)
        return y

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
            held = self.table.slots(length, self.length)
            self.cache.move([held[token] for token in tokens], held[: len(tokens)])
        self.table.truncate(length + len(tokens))
