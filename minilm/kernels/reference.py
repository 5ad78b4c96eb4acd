"""Each kernel's answer in plain PyTorch: short, slow, to be read and to be trusted.

Numbers are widened to float32 first (float64 stays), and the answer goes back to the dtype that came in. Give float64
to get what the kernels are tested against. No shape is checked here: the functions beside the kernels do that.
"""
import torch
from torch import Tensor

from minilm.sampling import Sampling, draw


def softmax(x: Tensor) -> Tensor:
    """exp(x) / sum of exp(x) along the last axis, any shape."""
    x, dtype = _wide(x)
    e = (x - x.amax(-1, keepdim=True)).exp()                # the largest becomes exp(0): nothing overflows
    return (e / e.sum(-1, keepdim=True)).to(dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5, *, residual: Tensor | None = None):
    """x / sqrt(mean(x²) + eps) · weight along the last axis (Zhang & Sennrich 2019, eq. 4).

    With a residual of x's shape it is added first, and (normed, sum) comes back: the sum is the next residual.
    """
    x, dtype = _wide(x)
    if residual is not None:
        x = x + residual.to(x.dtype)
    normed = (x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight.to(x.dtype)).to(dtype)
    return normed if residual is None else (normed, x.to(dtype))


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float | None = None,
              lengths: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ · scale) v: q[B, H, T, D], k and v[B, K, S, D] -> [B, H, T, D]; see `visible` for who sees what.

    Query heads h·H/K to (h+1)·H/K - 1 share key-value head h. A query that sees no key gets zeros.
    scale: 1/sqrt(D) unless given. lengths[B]: keys in each row that count, S unless given.
    """
    q, dtype = _wide(q)
    k, v = k.to(q.dtype), v.to(q.dtype)
    B, H, T, D = q.shape
    K, S = k.shape[1:3]
    if lengths is None:
        lengths = torch.full((B,), S, device=q.device)
    seen = visible(lengths, T, S, causal)[:, None]                              # (B, 1, T, S)
    k, v = (x.repeat_interleave(H // K, dim=1) for x in (k, v))                 # (B, H, S, D)
    v = v.where(torch.arange(S, device=v.device)[:, None] < lengths.view(B, 1, 1, 1), 0)    # 0 · nan would be nan
    scores = q @ k.transpose(-1, -2) * (D**-0.5 if scale is None else scale)    # (B, H, T, S)
    weights = softmax(scores.masked_fill(~seen, -torch.inf)).masked_fill(~seen, 0)
    return (weights @ v).to(dtype)


def visible(lengths: Tensor, T: int, S: int, causal: bool) -> Tensor:
    """Which of S keys each of T queries sees, [B, T, S]. The queries are the last T of a row's `lengths[b]` tokens.

    So query i stands at position lengths[b] - T + i: with T = S and full rows that is i; with a cached prefix, later.
    """
    keys = torch.arange(S, device=lengths.device)
    last = lengths[:, None].expand(-1, T) - 1                                   # (B, T): the last key that is seen
    if causal:
        last = last - torch.arange(T - 1, -1, -1, device=lengths.device)
    return keys <= last[:, :, None]


def _wide(x: Tensor) -> tuple[Tensor, torch.dtype]:
    return x if x.dtype == torch.float64 else x.float(), x.dtype


def flash_decoding(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    """One new token a row: q[B, H, D], k and v[B, K, S, D], lengths[B] keys that count -> [B, H, D]."""
    return attention(q[:, :, None], k, v, causal=False, lengths=lengths)[:, :, 0]


def paged_attention(q: Tensor, k_cache: Tensor, v_cache: Tensor, block_tables: Tensor, lengths: Tensor, *,
                    tree_mask: Tensor | None = None) -> Tensor:
    """m new tokens a row: q[B, m, H, D], caches[blocks, block_size, K, D], block_tables[B, width] -> [B, m, H, D].

    lengths[B] count the m new keys. New token i sees all older keys, and of the new ones those up to itself, or those
    that tree_mask[m, m] or [B, m, m] has in its row i.
    """
    q, dtype = _wide(q)
    B, m, H, D = q.shape
    size, K = k_cache.shape[1:3]
    lengths = lengths.long()
    width = max(-(-int(lengths.max()) // size), 1)                              # blocks of the longest row
    keys = torch.arange(width * size, device=q.device)
    held = keys < lengths[:, None]                                              # (B, S)
    slots = block_tables.long()[:, keys // size].where(held, 0) * size + keys % size        # where key j lies
    k, v = (cache.flatten(0, 1)[slots].to(q.dtype).transpose(1, 2) for cache in (k_cache, v_cache))     # (B, K, S, D)
    k, v = (x.where(held[:, None, :, None], 0).repeat_interleave(H // K, dim=1) for x in (k, v))        # (B, H, S, D)
    if tree_mask is None:
        tree_mask = torch.ones(m, m, dtype=torch.bool, device=q.device).tril()
    new = keys - (lengths[:, None] - m)                                         # (B, S): number among the new
    among = tree_mask.expand(B, m, m).gather(2, new.clamp(0, m - 1)[:, None, :].expand(-1, m, -1))
    seen = ((new < 0)[:, None] | among) & held[:, None]                         # (B, m, S)
    scores = q.transpose(1, 2) @ k.transpose(-1, -2) * D**-0.5                  # (B, H, m, S)
    weights = softmax(scores.masked_fill(~seen[:, None], -torch.inf)).masked_fill(~seen[:, None], 0)
    return (weights @ v).transpose(1, 2).to(dtype)


def packed_attention(q: Tensor, k: Tensor, v: Tensor, packing, *, out: Tensor | None = None) -> Tensor:
    """Many texts one after another: q[T, H, D], k and v[S, K, D] -> [T, H, D]; see `packed_attention.Packing`.

    Query t sees keys packing.first[t] to packing.last[t]. Where first is -1, `out` (zeros unless given) stays.
    """
    wide, dtype = _wide(q)
    k, v = (x.to(wide.dtype).transpose(0, 1).repeat_interleave(q.shape[1] // k.shape[1], dim=0) for x in (k, v))
    out = torch.zeros(q.shape, dtype=dtype, device=q.device) if out is None else out
    for start in packing.first.unique().tolist():                               # a text
        rows = (packing.first == start).nonzero()[:, 0]
        last = packing.last[rows].long()[:, None]
        keys = torch.arange(start, max(int(last.max()), start) + 1, device=q.device)
        if start >= 0:
            scores = wide[rows].transpose(0, 1) @ k[:, keys].transpose(-1, -2) * q.shape[-1]**-0.5     # (H, rows, keys)
            weights = softmax(scores.masked_fill(keys > last, -torch.inf)).masked_fill(keys > last, 0)
            out[rows] = (weights @ v[:, keys]).transpose(0, 1).to(dtype)
    return out


def rotate_and_store(qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, slots: Tensor, keys: Tensor,
                     values: Tensor) -> Tensor:
    """qkv[T, (H + 2K) · D] -> its queries [T, H, D], turned; keys, turned, and values go to slots[T] of their pools.

    The two numbers of a pair stand D/2 apart, and turn by the angle of cos and sin[positions[t]] (Su et al. 2021).
    """
    wide, dtype = _wide(qkv)
    K, D = keys.shape[2:]
    heads = wide.unflatten(1, (-1, D))                                          # (T, H + 2K, D)
    c, s = cos[positions][:, None], sin[positions][:, None]                     # (T, 1, D/2)
    low, high = heads[:, :-K].chunk(2, dim=-1)
    turned = torch.cat((low * c - high * s, high * c + low * s), -1).to(dtype)
    for pool, new in ((keys, turned[:, -K:]), (values, heads[:, -K:].to(dtype))):
        pool.view(-1, K, D)[slots] = new
    return turned[:, :-K].contiguous()


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) · up of gate_up[..., 2W], gate's numbers first -> [..., W] (Shazeer 2020, eq. 6)."""
    wide, dtype = _wide(gate_up)
    gate, up = wide.chunk(2, dim=-1)
    return (gate * gate.sigmoid() * up).to(dtype)


def sample(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, uniforms: Tensor) -> Tensor:
    """The token of each row of logits[B, V], int64 [B], as `minilm.sampling` finds it, one row after the other."""
    logits, _ = _wide(logits)
    tokens = []
    for row, t, k, p, u in zip(logits, temperature.tolist(), top_k.tolist(), top_p.tolist(), uniforms.tolist(),
                               strict=True):
        tokens.append(draw(Sampling(t, k, p).probs(row), u) if t > 0 else int(row.argmax()))
    return torch.tensor(tokens, device=logits.device)
