"""How sequences attend to their own blocks in one pass: three ways, and the one place that chooses.

    Masked      gathers the keys, masks what is not to be seen, and calls PyTorch's attention: any device, any dtype
    Paged       a few new tokens each: `kernels.paged_attention` reads the keys where they lie
    Chunks      pieces of prompts of any lengths: keys gathered once, then `kernels.packed_attention`, without padding

Sequences of the same way form a group, for the first two those of one count: rows[b, m], where a member's m tokens
stand in the pass (-1: not there; its answer is thrown away), and tables[b, width], their blocks.
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


def slots_of(spans: list[tuple[BlockTable, int, int]], device: torch.device) -> Tensor:
    """Where tokens start to end of each table are, one span after another, on `device`."""
    return torch.from_numpy(np.concatenate([table.slots(start, end) for table, start, end in spans])).to(device)


def grouped(members: list[Member], use_kernels: bool) -> list[tuple[type, list[Member]]]:
    """(the way they attend, those that do it together), in the order in which each first comes."""
    together: dict[tuple[type, int], list[Member]] = {}
    for member in members:
        way: type = Masked
        if use_kernels and (member.tree is None or member.count <= LARGEST_TREE):
            way = Paged if member.tree is not None or member.count <= FEW else Chunks
        together.setdefault((way, 0 if way is Chunks else member.count), []).append(member)
    return [(way, some) for (way, _), some in together.items()]


class Group:
    """Members that feed m tokens each. PER_MEMBER: the names of tensors that hold one entry for each member."""

    PER_MEMBER = ("tables",)

    def __init__(self, cache, members: list[Member]):
        count, size = members[0].count, cache.pool.block_size
        widths = [-(-(member.table.length + count) // size) for member in members]
        tables = np.zeros((len(members), max(widths)), np.int64)                # padded with block 0, which nobody sees
        for i, (member, width) in enumerate(zip(members, widths, strict=True)):
            tables[i, :width] = member.table.blocks[:width]
        self.tables = torch.from_numpy(tables).to(cache.device)
        self.held = torch.tensor([member.table.length for member in members])
        self._stand(torch.tensor([[member.start] for member in members]) + torch.arange(count))

    def _stand(self, where: Tensor) -> None:
        """where[b, m]: the members' rows in the pass, on the host; -1: not there."""
        self.where, there, device = where, where.flatten() >= 0, self.tables.device
        self.rows = where.clamp(min=0).to(device)
        self.real = None if there.all() else there.nonzero()[:, 0].to(device)

    def part(self, rows: list[int], place: Tensor) -> "Group | None":
        """It in a pass of these rows alone, where row r is now row place[r] (-1: it is not there). None: nobody is."""
        where = place[self.where].where(self.where >= 0, -1)
        keep = (where >= 0).any(1).nonzero()[:, 0].tolist()
        if not keep:
            return None
        other = copy.copy(self)
        for name in self.PER_MEMBER:
            setattr(other, name, getattr(self, name)[keep])
        other._stand(where[keep])
        return other

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, out: Tensor) -> None:
        """Its rows of out[T, H, D], from q[T, H, D] of the whole pass and a layer's [blocks, block_size, K, D]."""
        y, rows = self._answers(q, keys, values).flatten(0, 1), self.rows.flatten()
        if self.real is None:
            out[rows] = y
        else:
            out[rows[self.real]] = y[self.real]

    def _answers(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[b, m, H, D]"""
        raise NotImplementedError


class Masked(Group):
    """mask[b, 1, G·m, keys]: who sees what."""

    PER_MEMBER = ("tables", "mask")

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

    def _answers(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        (b, m), (K, D) = self.rows.shape, keys.shape[2:]
        queries = q[self.rows].reshape(b, m, K, -1, D).permute(0, 2, 3, 1, 4).reshape(b, K, -1, D)
        gathered = [kept[self.tables].view(b, -1, K, D).transpose(1, 2) for kept in (keys, values)]
        out = F.scaled_dot_product_attention(queries, *gathered, attn_mask=self.mask)           # (b, K, G·m, D)
        return out.reshape(b, -1, m, D).transpose(1, 2)


class Paged(Group):
    """lengths[b]: keys of each member, the new ones counted; trees[b, m, m], where there is one."""

    PER_MEMBER = ("tables", "lengths")

    def __init__(self, cache, members: list[Member]):
        super().__init__(cache, members)
        m = members[0].count
        self.tables, self.lengths = self.tables.int(), (self.held + m).int().to(cache.device)
        self.trees: Tensor | None = None
        if any(member.tree is not None for member in members):
            chain = torch.ones(m, m, dtype=torch.bool).tril()
            self.trees = torch.stack([chain if x.tree is None else x.tree[1] for x in members]).to(cache.device)
            self.PER_MEMBER = (*self.PER_MEMBER, "trees")

    def _answers(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return kernels.paged_attention(q[self.rows], keys, values, self.tables, self.lengths, tree_mask=self.trees)


class Chunks:
    """slots: where the members' keys lie, one member's after another's.  first, last[T]: who sees which of these."""

    def __init__(self, cache, members: list[Member]):
        sizes = [member.table.length + member.count for member in members]
        self.slots = slots_of([(m.table, 0, size) for m, size in zip(members, sizes, strict=True)], cache.device)
        self.like, begin = cache.keys[0], 0
        self.first = torch.full((max(member.start + member.count for member in members),), -1)
        self.last = self.first.clone()
        for member, size in zip(members, sizes, strict=True):
            end, rows = begin + size, slice(member.start, member.start + member.count)
            self.first[rows], self.last[rows] = begin, torch.arange(end - member.count, end)
            begin = end
        self._pack()

    def _pack(self) -> None:
        from minilm.kernels.packed_attention import Packing  # here, so that elsewhere the engine does without Triton

        self.packing = Packing(self.first, self.last, self.like)

    def part(self, rows: list[int], place: Tensor) -> "Chunks | None":
        """As for `Group`."""
        rows, other = [row for row in rows if row < len(self.first)], copy.copy(self)
        other.first, other.last = self.first[rows], self.last[rows]
        if not (other.first >= 0).any():
            return None
        other._pack()
        return other

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, out: Tensor) -> None:
        """As for `Group`. The new keys are gathered with the old ones: some 4 % of a layer's traffic, and one way."""
        gathered = [kept.view(-1, *kept.shape[2:])[self.slots] for kept in (keys, values)]      # (all keys, K, D)
        T = len(self.first)
        kernels.packed_attention(q[:T], *gathered, self.packing, out=out[:T])
