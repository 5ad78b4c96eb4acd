"""How sequences attend to their own blocks in one pass: three ways, and the one place that chooses.

    Masked      gathers the keys, masks what is not to be seen, and calls PyTorch's attention: any device, any dtype
    Paged       a few new tokens each: `kernels.paged_attention` reads the keys where they lie
    Chunks      pieces of prompts: keys gathered once, then `kernels.flash_attention` behind what was read before

Sequences of the same way and of like counts form a group: rows[b, m], where a member's m tokens stand in the pass (-1:
nobody's; its answer is thrown away), and tables[b, width], their blocks.
"""
import copy
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minilm import kernels
from minilm.model import GPT
from minilm.serving.blocks import BlockTable

FEW = 16                # tokens up to which `Paged` is the faster way
LARGEST_TREE = 64       # tokens of a tree that the kernel takes
SHORTEST = 64           # chunks of up to so many tokens are padded to one length, longer ones to at most twice theirs


class Member(NamedTuple):
    """A sequence in a group: `count` tokens from row `start` of the pass on, after those that `table` holds.

    tree: (depth[count], sees[count, count]) where they are a tree; see `cache.ancestry`.
    """

    start: int
    table: BlockTable
    count: int
    tree: tuple[Tensor, Tensor] | None


def kernels_fit(model: GPT) -> bool:
    """Can the Triton kernels serve this model where it is: on CUDA, or on the CPU under Triton's interpreter?"""
    from minilm.kernels.backend import DTYPES, backend  # here, so that elsewhere the engine does without Triton

    size = model.config.head_size
    known = model.dtype in DTYPES and not (model.device.type == "cpu" and model.dtype == torch.bfloat16)
    fits = known and size % 16 == 0 and 16 <= size <= 256 and model.ranks == 1
    return fits and backend(model.embedding.weight) != "reference"


def grouped(members: list[Member], use_kernels: bool) -> list[tuple[type, list[Member]]]:
    """(the way they attend, those that do it together), in the order in which each first comes."""
    together: dict[tuple[type, int], list[Member]] = {}
    for member in members:
        way: type = Masked
        if use_kernels and (member.tree is None or member.count <= LARGEST_TREE):
            way = Paged if member.tree is not None or member.count <= FEW else Chunks
        alike = member.count if way is not Chunks else max(SHORTEST, 1 << (member.count - 1).bit_length())
        together.setdefault((way, alike), []).append(member)
    return [(way, some) for (way, _), some in together.items()]


class Group:
    """What the three have in common. PER_MEMBER: the names of tensors that hold one entry for each member."""

    PER_MEMBER = ("rows", "tables")

    def __init__(self, cache, members: list[Member]):
        count, size = max(member.count for member in members), cache.pool.block_size
        rows = torch.full((len(members), count), -1)
        widths = [-(-(member.table.length + member.count) // size) for member in members]
        tables = np.zeros((len(members), max(widths)), np.int64)                # padded with block 0, which nobody sees
        for i, (member, width) in enumerate(zip(members, widths, strict=True)):
            tables[i, :width] = member.table.blocks[:width]
        starts = torch.tensor([[member.start] for member in members])
        counts = torch.tensor([[member.count] for member in members])
        place = torch.arange(count) - (count - counts)                          # the last are theirs
        self.where = rows.where(place < 0, starts + place)                      # on the host
        self.rows = self.where.clamp(min=0).to(cache.device)
        self.tables = torch.from_numpy(tables).to(cache.device)
        self.held = torch.tensor([member.table.length for member in members])

    def part(self, keep: list[int], place: Tensor) -> "Group":
        """Some of the members alone, in a pass where what was row r is row place[r] (-1: it is not there)."""
        other = copy.copy(self)
        for name in self.PER_MEMBER:
            setattr(other, name, getattr(self, name)[keep])
        other.where = place[self.where[keep]].where(self.where[keep] >= 0, -1)
        other.rows = other.where.clamp(min=0).to(self.rows.device)
        return other

    def attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """q[H, T, D] of the whole pass, a layer's keys and values[blocks, block_size, K, D] -> [b · m, H, D]."""
        raise NotImplementedError


class Masked(Group):
    """mask[b, 1, G·m, keys]: who sees what."""

    PER_MEMBER = ("rows", "tables", "mask")

    def __init__(self, cache, members: list[Member]):
        super().__init__(cache, members)
        count, config = self.rows.shape[1], cache.config
        last = self.held[:, None] + torch.arange(count)                         # (b, m): the last key each one sees
        mask = torch.arange(self.tables.shape[1] * cache.pool.block_size) <= last[:, :, None]   # (b, m, keys)
        for i, member in enumerate(members):
            if member.tree is not None:
                mask[i, :, member.table.length : member.table.length + count] = member.tree[1]
        mask = mask.repeat(1, config.num_heads // config.num_kv_heads, 1)[:, None]
        self.mask = mask.to(cache.device)

    def attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        (b, m), (K, D) = self.rows.shape, keys.shape[2:]
        queries = q[:, self.rows].view(K, -1, b, m, D).permute(2, 0, 1, 3, 4).reshape(b, K, -1, D)
        gathered = [kept[self.tables].view(b, -1, K, D).transpose(1, 2) for kept in (keys, values)]
        out = F.scaled_dot_product_attention(queries, *gathered, attn_mask=self.mask)           # (b, K, G·m, D)
        return out.reshape(b, -1, m, D).transpose(1, 2).reshape(b * m, -1, D)


class Paged(Group):
    """lengths[b]: keys of each member, the new ones counted; trees[b, m, m], where there is one."""

    PER_MEMBER = ("rows", "tables", "lengths")

    def __init__(self, cache, members: list[Member]):
        super().__init__(cache, members)
        b, m = self.rows.shape
        self.tables, self.lengths = self.tables.int(), (self.held + m).int().to(cache.device)
        self.trees: Tensor | None = None
        if any(member.tree is not None for member in members):
            chain = torch.ones(m, m, dtype=torch.bool).tril()
            self.trees = torch.stack([chain if x.tree is None else x.tree[1] for x in members]).to(cache.device)
            self.PER_MEMBER = (*self.PER_MEMBER, "trees")

    def attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        queries = q.transpose(0, 1)[self.rows]                                                  # (b, m, H, D)
        out = kernels.paged_attention(queries, keys, values, self.tables, self.lengths, tree_mask=self.trees)
        return out.flatten(0, 1)


class Chunks(Group):
    """lengths[b]: keys of each member. A shorter chunk's tokens are the last of its m; before them stand others'."""

    PER_MEMBER = ("rows", "tables", "lengths")

    def __init__(self, cache, members: list[Member]):
        super().__init__(cache, members)
        counts = torch.tensor([member.count for member in members])
        self.lengths = (self.held + counts).int().to(cache.device)

    def attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        b, (K, D) = len(self.rows), keys.shape[2:]
        queries = q.transpose(0, 1)[self.rows].transpose(1, 2)                                  # (b, H, m, D)
        gathered = [kept[self.tables].view(b, -1, K, D).transpose(1, 2) for kept in (keys, values)]
        out = kernels.flash_attention(queries, *gathered, causal=True, lengths=self.lengths)
        return out.transpose(1, 2).flatten(0, 1)
