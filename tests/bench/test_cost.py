"""Tests of minilm.bench.cost: counts checked against known models and against a model that really counts."""
import pytest
import torch

from minilm.bench import cost
from minilm.cache import KVCache
from minilm.model import GPT, GPTConfig

LLAMA_3_8B = GPTConfig(128256, 32, 4096, 32, 8, 128, 14336, tie_embeddings=False)
OPT_13B = GPTConfig(50272, 40, 5120, 40, 40, 128, 20480)
TINY = GPTConfig(50, 2, 16, 4, 2, 4, 24, max_positions=64)


def test_kv_bytes_of_known_models():
    """Guards query heads in place of key-value heads, and a lost factor 2. Kwon et al. 2023, §3: OPT-13B, 800 KB."""
    assert cost.kv_bytes_per_token(LLAMA_3_8B, 2) == 128 * 1024
    assert cost.kv_bytes_per_token(OPT_13B, 2) == 800 * 1024


def test_kv_bytes_are_what_the_cache_holds():
    cache = KVCache(TINY)
    GPT(TINY)(torch.arange(7)[None], cache)
    assert cache.num_bytes == 7 * cost.kv_bytes_per_token(TINY)


def test_weights_are_those_of_the_model():
    """Guards a matrix forgotten or counted twice; norms are left out on purpose."""
    model = GPT(TINY)
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2)           # tied: the head is the embedding
    assert cost.layer_weights(TINY) + cost.head_weights(TINY) == matrices


def test_flops_are_those_that_pytorch_counts():
    """Guards a lost factor 2. PyTorch counts attention over the full square, so context makes the two the same."""
    from torch.utils.flop_counter import FlopCounterMode
    model, config = GPT(TINY).requires_grad_(False), TINY
    cache = KVCache(config)
    model(torch.arange(20)[None], cache)
    with FlopCounterMode(display=False) as counter:
        x = model.embed(torch.tensor([[3]]))
        q = torch.zeros(1, config.num_heads, 1, config.head_size)
        k = torch.zeros(1, config.num_heads, 21, config.head_size)
        for block in model.layers:
            for matrix in (block.attention.qkv, block.attention.out, block.mlp.gate_up, block.mlp.down):
                torch.nn.functional.linear(torch.zeros(1, matrix.in_features), matrix.weight)
            (q @ k.transpose(-2, -1)) @ k
        torch.nn.functional.linear(x[0], model.vocabulary.weight)
    assert cost.forward_pass(config, 1, 20).flops == counter.get_total_flops()


def test_prefill_in_two_chunks_costs_the_same_attention():
    """Guards an off-by-one in the triangle of causal attention; the head runs once more, at 2Vd."""
    whole, first, second = (cost.forward_pass(TINY, *p).flops for p in ((12, 0), (5, 0), (7, 5)))
    assert first + second - whole == 2 * cost.head_weights(TINY)


def test_batch_shares_the_weights():
    """Guards weights counted once a row: that they are not is why batching pays."""
    one, many = cost.forward_pass(TINY, 1, 10), cost.forward_pass(TINY, 1, 10, batch=8)
    assert many.flops == 8 * one.flops
    weights = cost.weight_bytes(TINY)
    assert many.bytes - weights == 8 * (one.bytes - weights)
    assert many.intensity > 4 * one.intensity


def test_decoding_is_near_half_a_flop_a_byte_in_float32():
    """2 FLOP for a weight of 4 bytes."""
    assert cost.forward_pass(LLAMA_3_8B, 1, 1).intensity == pytest.approx(0.5, rel=0.01)
    assert cost.forward_pass(LLAMA_3_8B, 1, 1, bytes_per_number=2).intensity == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("wrong", [{"fed": 0}, {"fed": 1, "context": -1}, {"fed": 1, "batch": 0},
                                   {"fed": 1, "bytes_per_number": 0}])
def test_no_pass_is_one_clear_error(wrong):
    with pytest.raises(ValueError, match="a pass needs"):
        cost.forward_pass(TINY, **wrong)
