"""For the tests of decode kernels: an independent answer in float64, and caches dealt into blocks at random."""
import math

import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True)
def unwritten_is_nan():
    """torch.empty gives nan: what a kernel reads, or returns, without having written it shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def oracle(q: Tensor, k: Tensor, v: Tensor, lengths, tree_mask: Tensor | None = None) -> Tensor:
    """q[B, m, H, D], k and v[B, K, S, D] -> [B, m, H, D] in float64, row by row and head by head."""
    B, m, H, D = q.shape
    out = torch.zeros(B, m, H, D, dtype=torch.float64, device=q.device)
    for b, length in enumerate(int(length) for length in lengths):
        for h in range(H if length else 0):
            keys, values = (x[b, h // (H // k.shape[1]), :length].double() for x in (k, v))
            scores = q[b, :, h].double() @ keys.T / math.sqrt(D)
            seen = torch.ones(m, length, dtype=torch.bool, device=q.device).tril(length - m)
            if tree_mask is not None:
                seen[:, length - m:] = tree_mask.expand(B, m, m)[b]
            out[b, :, h] = scores.masked_fill(~seen, -math.inf).softmax(-1) @ values
    return out


def error(out: Tensor, exact: Tensor) -> float:
    """Largest difference, relative to the largest number in the exact answer; nan counts as infinite."""
    worst = (out.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-30)
    return worst.item() if worst.isfinite() else math.inf


def tensors(B: int, m: int, K: int, group: int, D: int, S: int, dtype=torch.float32, device="cpu", scale: float = 1.0):
    """(q[B, m, H, D], k[B, K, S, D], v): normal numbers from the test's seed; scores of about ±scale."""
    q = torch.randn(B, m, K * group, D, device=device) * scale
    k, v = torch.randn(2, B, K, S, D, device=device)
    return q.to(dtype), k.to(dtype), v.to(dtype)


def deal(k: Tensor, v: Tensor, lengths, block_size: int, spare: int = 3):
    """(k_cache, v_cache, block_tables): rows dealt to random blocks of a pool. Everything that no row holds is nan.

    So a key read past a row's length, or from a block of nobody, shows. Table entries past a row's blocks are -1.
    """
    B, K, S, D = k.shape
    width = -(-S // block_size)
    pool = torch.randperm(B * width + spare).tolist()
    tables = torch.full((B, width), -1, dtype=torch.int32)
    caches = torch.full((2, len(pool), block_size, K, D), math.nan, dtype=k.dtype, device=k.device)
    for b, length in enumerate(int(length) for length in lengths):
        for i in range(-(-length // block_size)):
            block = tables[b, i] = pool.pop()
            held = slice(i * block_size, min((i + 1) * block_size, length))
            for cache, x in zip(caches, (k, v), strict=True):
                cache[block, : held.stop - held.start] = x[b, :, held].transpose(0, 1)
    return caches[0], caches[1], tables.to(k.device)


def poison(k: Tensor, v: Tensor, lengths) -> None:
    """Keys and values past each row's length become nan."""
    for b, length in enumerate(lengths):
        k[b, :, int(length):] = math.nan
        v[b, :, int(length):] = math.nan


def random_trees(B: int, m: int, generator=None) -> Tensor:
    """Tree masks [B, m, m]: token i > 0 has a random earlier parent, and sees itself and its ancestors."""
    masks = torch.eye(m, dtype=torch.bool).repeat(B, 1, 1)
    for b in range(B):
        for i in range(1, m):
            masks[b, i] |= masks[b, int(torch.randint(i, (1,), generator=generator))]
    return masks
