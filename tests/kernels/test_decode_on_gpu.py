"""The decode kernels compiled, in bfloat16, at real sizes; what the interpreter cannot show. Needs a GPU."""
import pytest
import torch
from decode_cases import error, oracle, random_trees

from minilm import kernels

pytestmark = pytest.mark.gpu
BF16 = torch.bfloat16


def deal(k, v, block_size):
    """(k_cache, v_cache, tables): every row's blocks at random places; as decode_cases.deal, but quick."""
    B, K, S, D = k.shape
    tables = torch.randperm(B * S // block_size, device=k.device).view(B, -1)
    caches = []
    for x in (k, v):
        blocks = x.view(B, K, -1, block_size, D).permute(0, 2, 3, 1, 4).reshape(-1, block_size, K, D)
        caches.append(torch.empty_like(blocks).index_copy_(0, tables.flatten(), blocks))
    return *caches, tables.int()


def made(B, m, S, K=8, group=4, D=128, lengths=None):
    torch.manual_seed(B + S)
    q = torch.randn(B, m, K * group, D, device="cuda").to(BF16)
    k, v = (torch.randn(B, K, S, D, device="cuda", dtype=BF16) for _ in range(2))
    if lengths is None:
        lengths = [S - (i * S) // (2 * B) for i in range(B)]
    return q, k, v, torch.tensor(lengths, dtype=torch.int32, device="cuda")


@pytest.mark.parametrize(("B", "S", "K", "group", "D"), [
    (1, 131072, 8, 4, 128), (8, 32768, 8, 4, 128), (64, 1024, 8, 4, 128), (1, 4096, 8, 4, 128), (3, 5008, 2, 7, 64),
    (5, 2048, 4, 8, 96), (2, 3008, 5, 3, 80), (2, 2048, 4, 1, 256), (7, 1600, 3, 5, 32),
    (256, 256, 8, 4, 128)])
def test_decode(B, S, K, group, D):
    """Guards the compiled kernel: contiguous and paged, ragged rows, by number and by size."""
    q, k, v, lengths = made(B, 1, S, K, group, D)
    exact = oracle(q, k, v, lengths)
    for options in ({}, {"split_size": 1024}):
        assert error(kernels.flash_decoding(q[:, 0], k, v, lengths, **options), exact[:, 0]) <= 5e-3, options
    out = kernels.paged_attention(q, *deal(k, v, 1 if group == 8 else 16), lengths)
    assert error(out, exact) <= 5e-3


@pytest.mark.parametrize(("B", "m", "S", "group"), [
    (1, 8, 8192, 4), (4, 8, 32768, 4), (3, 5, 1024, 7), (2, 16, 2048, 8), (2, 64, 1024, 1)])
def test_verify(B, m, S, group):
    """Guards verify, in a chain and under trees."""
    q, k, v, lengths = made(B, m, S, group=group)
    cache = deal(k, v, 16)
    for tree, options in ((None, {}), (random_trees(B, m).cuda(), {}), (None, {"split_size": 512})):
        out = kernels.paged_attention(q, *cache, lengths, tree_mask=tree, debug=True, **options)
        assert error(out, oracle(q, k, v, lengths, tree)) <= 5e-3, options


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_dtypes(dtype):
    """Guards float32 that is quietly rounded to tf32."""
    q, k, v, lengths = (x.to(dtype) if x.dtype == BF16 else x for x in made(2, 3, 1024))
    out = kernels.paged_attention(q, *deal(k, v, 16), lengths)
    assert error(out, oracle(q, k, v, lengths)) <= (1e-5 if dtype == torch.float32 else 2e-3)


def test_fixed_split_size_is_batch_invariant():
    """A row's bits are the same alone, in a batch, beside longer rows, in a wider cache."""
    q, k, v, lengths = made(16, 1, 8192)
    cache = deal(k, v, 16)
    batch = kernels.flash_decoding(q[:, 0], k, v, lengths, split_size=512)
    paged = kernels.paged_attention(q, *cache, lengths, split_size=512)[:, 0]
    assert error(paged, batch.double()) <= 1e-2
    for b in (0, 7, 15):
        row, length = slice(b, b + 1), int(lengths[b])
        short = slice(-(-length // 16) * 16)
        for alone in (kernels.flash_decoding(q[row, 0], k[row], v[row], lengths[row], split_size=512),
                      kernels.flash_decoding(q[row, 0], k[row, :, short], v[row, :, short], lengths[row],
                                             split_size=512)):
            assert torch.equal(alone, batch[row])
        alone = kernels.paged_attention(q[row], *cache[:2], cache[2][row], lengths[row], split_size=512)
        assert torch.equal(alone[:, 0], paged[row])


def test_heuristic_is_not_batch_invariant():
    """What the fixed size is for: with splits chosen by the batch, some rows' bits change. (Close, they stay.)"""
    q, k, v, lengths = made(16, 1, 8192)
    batch = kernels.flash_decoding(q[:, 0], k, v, lengths)
    alone = torch.cat([kernels.flash_decoding(q[b : b + 1, 0], k[b : b + 1], v[b : b + 1], lengths[b : b + 1])
                       for b in range(16)])
    assert not torch.equal(alone, batch)
    assert error(alone, batch.double()) <= 1e-2


def test_cuda_graph():
    """Guards a launch that looks at numbers on the device: one graph serves other lengths, queries, tables."""
    q, k, v, lengths = made(4, 2, 4096)
    k_cache, v_cache, tables = deal(k, v, 16)
    kernels.paged_attention(q, k_cache, v_cache, tables, lengths)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = kernels.paged_attention(q, k_cache, v_cache, tables, lengths)
    for new in ([4096, 2, 0, 1000], [17, 4095, 3000, 64]):
        lengths.copy_(torch.tensor(new))
        q.copy_(torch.randn_like(q))
        order = torch.randperm(4, device="cuda")
        tables.copy_(tables[order])
        k, v = k[order], v[order]
        graph.replay()
        assert error(out, oracle(q, k, v, lengths)) <= 5e-3


def test_back_to_back():
    """Guards a kernel that starts before the one it reads from has ended: every answer is the next one's query."""
    q, k, v, lengths = made(2, 1, 4096)
    q = q[:, 0]
    for _ in range(50):
        exact = oracle(q[:, None], k, v, lengths)[:, 0]
        out = kernels.flash_decoding(q, k, v, lengths)
        last = kernels.flash_decoding(out * 8, k, v, lengths)
        assert error(out, exact) <= 5e-3
        assert error(last, oracle((out * 8)[:, None], k, v, lengths)[:, 0]) <= 5e-3
        q = (last * 8).contiguous()
