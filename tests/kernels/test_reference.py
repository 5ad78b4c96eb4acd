"""The references, since all else is judged by them: against PyTorch's own, and against loops that can be read."""
import math

import pytest
import torch
import torch.nn.functional as F

from minilm.kernels import reference


def rand(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def by_hand(q, k, v, causal, scale, lengths):
    """One query at a time, one key at a time."""
    B, H, T, D = q.shape
    out = torch.zeros_like(q)
    for b in range(B):
        for h in range(H):
            head = h // (H // k.shape[1])
            for t in range(T):
                last = lengths[b] - T + t if causal else lengths[b] - 1
                if last < 0:
                    continue
                logits = [scale * float(q[b, h, t] @ k[b, head, s]) for s in range(last + 1)]
                total = sum(math.exp(x - max(logits)) for x in logits)
                for s, x in enumerate(logits):
                    out[b, h, t] += math.exp(x - max(logits)) / total * v[b, head, s]
    return out


@pytest.mark.parametrize("causal", [True, False])
def test_attention_by_hand(causal):
    q, k, v = rand(2, 4, 3, 8), rand(2, 2, 5, 8), rand(2, 2, 5, 8)
    for lengths in (None, torch.tensor([2, 5])):
        got = reference.attention(q, k, v, causal=causal, scale=0.3, lengths=lengths)
        want = by_hand(q, k, v, causal, 0.3, [5, 5] if lengths is None else lengths.tolist())
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_attention_is_pytorchs():
    q, k, v = rand(2, 6, 7, 16), rand(2, 2, 7, 16), rand(2, 2, 7, 16)
    want = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(reference.attention(q, k, v, causal=True), want, rtol=1e-12, atol=1e-12)


def test_garbage_past_the_end_is_never_touched():
    """Guards 0 · nan: unused memory may hold anything."""
    q, k, v = rand(1, 1, 2, 8), rand(1, 1, 5, 8), rand(1, 1, 5, 8)
    want = reference.attention(q, k[:, :, :3], v[:, :, :3], causal=True)
    k[:, :, 3:], v[:, :, 3:] = torch.nan, torch.inf
    assert torch.equal(reference.attention(q, k, v, causal=True, lengths=torch.tensor([3])), want)


def test_softmax():
    x = 100 * rand(3, 7)
    torch.testing.assert_close(reference.softmax(x), x.softmax(-1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_numbers_are_widened(dtype):
    """Guards references that are as coarse as what they judge: rounded once, at the end, from float32."""
    x, w = rand(3, 64).to(dtype), rand(64).to(dtype)
    q = rand(1, 2, 5, 16).to(dtype)
    for got, want in ((reference.softmax(x), reference.softmax(x.double())),
                      (reference.rms_norm(x, w), reference.rms_norm(x.double(), w.double())),
                      (reference.rms_norm(x, w, residual=x)[1], 2 * x.double()),
                      (reference.attention(q, q, q, causal=True), reference.attention(*[q.double()] * 3, causal=True))):
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), want.to(dtype).double(), rtol=torch.finfo(dtype).eps * 1.01, atol=1e-6)
