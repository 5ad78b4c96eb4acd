"""What the kernels are measured on: the cells of the grids, what each must move and compute, inputs and references.

A cell is one shape. Its bytes are what any kernel must move (keys, values and queries read once, the output written
once), its FLOPs what the mask leaves: no kernel gets credit for reading twice or for multiplying zeros.
"""
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import Tensor

BLOCK = 16                  # tokens of a block of the paged cache
DTYPE = torch.bfloat16
ITEM = 2                    # its bytes
KIB, MB = 1024, 1e6


@dataclass(frozen=True)
class Attention:
    """`queries` new tokens for each of `batch` sequences, causal among themselves, at the end of `context` tokens."""

    batch: int
    context: int
    queries: int = 1
    heads: int = 32
    kv_heads: int = 8
    head_size: int = 128

    def __post_init__(self):
        if not 1 <= self.queries <= self.context:
            raise ValueError(f"{self.queries} queries don't fit in a context of {self.context}")

    @property
    def kv_bytes(self) -> int:
        return 2 * self.batch * self.context * self.kv_heads * self.head_size * ITEM

    @property
    def bytes(self) -> int:
        """Keys and values, queries and output, once each."""
        return self.kv_bytes + 2 * self.batch * self.queries * self.heads * self.head_size * ITEM

    @property
    def flops(self) -> int:
        """Two products of 2 FLOPs for each query head, key that the query may see, and dimension."""
        seen = self.queries * (self.context - self.queries) + self.queries * (self.queries + 1) // 2
        return 4 * self.batch * self.heads * self.head_size * seen

    def as_dict(self) -> dict:
        return asdict(self) | {"kv_bytes": self.kv_bytes, "bytes": self.bytes, "flops": self.flops}

    def __str__(self) -> str:
        context = f"{self.context // KIB}k" if self.context % KIB == 0 else str(self.context)
        return f"B={self.batch} T={context}" + (f" m={self.queries}" if self.queries > 1 else "")


@dataclass(frozen=True)
class Rows:
    """`rows` rows of `width` numbers, each normalised: read once, written once."""

    rows: int
    width: int

    @property
    def bytes(self) -> int:
        return 2 * self.rows * self.width * ITEM

    def as_dict(self) -> dict:
        return asdict(self) | {"bytes": self.bytes}

    def __str__(self) -> str:
        return f"{self.rows} × {self.width}"


# DESIGN: 17 MB, 67, 134, 537 MB and 2.1 GB of keys and values, from one long sequence to many short ones
DECODE = tuple(Attention(b, t * KIB) for b, t in (
    (1, 4), (1, 16), (1, 32), (1, 128), (4, 1), (8, 4), (8, 32), (16, 2), (64, 1), (64, 8))) + (Attention(256, 256),)
VERIFY = tuple(Attention(b, t * KIB, m) for b, t in ((1, 8), (1, 32), (8, 8), (32, 8)) for m in (1, 2, 4, 8))
PREFILL = tuple(Attention(16 // t, t * KIB, t * KIB, head_size=d) for d in (64, 128) for t in (2, 4, 8, 16))
ROWS = (Rows(32768, 1024), Rows(16384, 4096), Rows(8192, 8192), Rows(4096, 32768))


class Inputs:
    """One set of inputs of a cell, bf16, and the same cache in blocks. q [B,H,m,D], k, v [B,K,T,D]."""

    def __init__(self, cell: Attention, seed: int, device: str = "cuda"):
        self.cell, self.device = cell, device
        generator = torch.Generator(device).manual_seed(seed)
        draw = lambda *shape: torch.randn(*shape, device=device, dtype=DTYPE, generator=generator)       # noqa: E731
        self.q = draw(cell.batch, cell.heads, cell.queries, cell.head_size)
        self.k, self.v = (draw(cell.batch, cell.kv_heads, cell.context, cell.head_size) for _ in range(2))
        self.lengths = torch.full((cell.batch,), cell.context, dtype=torch.int32, device=device)

    @cached_property
    def q_tokens(self) -> Tensor:
        """[B, m, H, D], contiguous."""
        return self.q.transpose(1, 2).contiguous()

    @cached_property
    def tables(self) -> Tensor:
        """Block tables [B, T / 16] int32: every block of the pool once, in random order. The same for every set."""
        blocks = self.cell.batch * (self.cell.context // BLOCK)
        order = torch.randperm(blocks, generator=torch.Generator().manual_seed(7)).to(self.device, torch.int32)
        return order.view(self.cell.batch, -1)

    @cached_property
    def in_order(self) -> Tensor:
        """Block tables of a cache that lies in order."""
        return torch.arange(self.tables.numel(), device=self.device, dtype=torch.int32).view_as(self.tables)

    @cached_property
    def ordered(self) -> tuple[Tensor, Tensor]:
        """k and v as blocks [B · T / 16, 16, K, D] that lie in order."""
        shape = (-1, BLOCK, self.cell.kv_heads, self.cell.head_size)
        return tuple(x.transpose(1, 2).reshape(shape) for x in (self.k, self.v))

    @cached_property
    def paged(self) -> tuple[Tensor, Tensor]:
        """k and v as blocks that lie where the random tables say."""
        place = self.tables.flatten().long()
        return tuple(torch.empty_like(x).index_copy_(0, place, x) for x in self.ordered)


def reference(x: Inputs, chunk: int = 2048) -> Tensor:
    """Causal attention in float64, [B, H, m, D], sequence by sequence and head by head, `chunk` queries at a time."""
    cell, group = x.cell, x.cell.heads // x.cell.kv_heads
    out = torch.empty(x.q.shape, dtype=torch.float64, device=x.q.device)
    seen_first = cell.context - cell.queries                        # query i sees keys up to seen_first + i
    for b, h, start in _pieces(cell, chunk):
        end = min(start + chunk, cell.queries)
        keys = seen_first + end
        q = x.q[b, h * group:(h + 1) * group, start:end].double()                                   # [group, rows, D]
        k, v = x.k[b, h, :keys].double(), x.v[b, h, :keys].double()
        scores = q @ k.T / cell.head_size ** 0.5
        if end - start > 1:
            i = torch.arange(start, end, device=q.device)[:, None] + seen_first
            scores.masked_fill_(torch.arange(keys, device=q.device) > i, float("-inf"))
        out[b, h * group:(h + 1) * group, start:end] = scores.softmax(-1) @ v
    return out


def _pieces(cell: Attention, chunk: int) -> Iterator[tuple[int, int, int]]:
    for b in range(cell.batch):
        for h in range(cell.kv_heads):
            for start in range(0, cell.queries, chunk):
                yield b, h, start
