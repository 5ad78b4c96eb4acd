"""The benchmarks of serving on a GPU and of early exit in a batch: what they ask for, count and say."""
from types import SimpleNamespace

import pytest
import torch
from core_helpers import assert_clear_error, tiny_model

from minilm.bench import batched_exit, flash_peer, serving_gpu
from minilm.decoding import autoregressive


def test_requests():
    """Guards loads that differ between the two sides, or are not what the text says."""
    load = serving_gpu.requests_for(1000, 4000)
    assert load == serving_gpu.requests_for(1000, 4000) != serving_gpu.requests_for(1000, 4000, seed=1)
    prompts, outputs = [len(prompt) for prompt, _ in load], [new for _, new in load]
    assert min(prompts) >= 8 and max(prompts) <= 2048 and min(outputs) >= 8 and max(outputs) <= 256
    assert abs(sum(prompts) / 4000 - 256) < 15 and abs(sum(outputs) / 4000 - 64) < 4
    assert serving_gpu.blocks_for(load[:1]) >= -(-(prompts[0] + outputs[0]) // 16)
    small = serving_gpu.requests_for(1000, 4000, positions=1024)
    assert 900 < max(len(prompt) + new for prompt, new in small) <= 1024 and len(small) == 4000


def test_lines():
    """Guards a table that says which is faster the wrong way round, or hides what failed."""
    own = {"model": "8B", "name": serving_gpu.OURS, "tokens_per_second": 3000.0}
    peer = {"model": "8B", "name": "transformers", "tokens_per_second": 1000.0}
    assert "the engine is 3.00 times as fast" in serving_gpu.line(peer, [own, peer])
    assert "times" not in serving_gpu.line(own, [own, peer])
    failed = {"model": "8B", "name": "transformers", "failed": "RuntimeError: no"}
    assert "did not run: RuntimeError: no" in serving_gpu.show({"requests": 2, "dtype": "bfloat16",
                                                                "rows": [own, failed]})


class Engine:
    """Stands for the engine's side: what `of_engine` gives."""

    def __new__(cls, model, requests, rounds):
        texts = [autoregressive(model, prompt, new).tokens for prompt, new in requests]
        return {"seconds": [1.0] * rounds, "steps": 1, "decode_steps": 1, "decode_seconds": 1.0}, texts


@pytest.mark.parametrize("variant", [name for name, options in serving_gpu.VARIANTS.items()
                                     if options.get("attention") is None])
def test_the_peer(variant, monkeypatch):
    """Guards options that the peer refuses, a cache too small for the requests, other texts than asked for, and rows
    that are not kept: the peer itself, on a CPU, without what needs a GPU."""
    options = dict.fromkeys(("use_cuda_graph", "use_async_batching"), False) | {"max_batch_tokens": 64}
    asked = serving_gpu.VARIANTS[variant]
    monkeypatch.setitem(serving_gpu.VARIANTS, variant, (asked | options) if asked else {"max_batch_tokens": 64})
    monkeypatch.setattr(serving_gpu, "of_engine", Engine)
    model = tiny_model(vocab_size=97, max_positions=512)
    load, rows = serving_gpu.requests_for(97, 9, positions=300), []
    serving_gpu.of_model("toy", model, load, 1, [variant], 1, 30.0, rows.append)
    own, peer = rows
    assert own["name"] == serving_gpu.OURS and "failed" not in peer, peer
    assert peer["first_token_as_engine"] == len(load) and peer["tokens_per_second"] > 0


def test_the_flash_peer(monkeypatch):
    """Guards texts that see each other, and queries that are not aligned with the end of their keys."""
    q, k, v = (torch.randn(1, heads, 5, 8) for heads in (4, 2, 2))
    held = [torch.randn(9, 2, 8) for _ in range(2)]                             # what the cache gives: texts of 6 and 3
    module, cache = SimpleNamespace(layer_idx=1), SimpleNamespace(update=lambda **given: held)
    seen = []
    monkeypatch.setattr(flash_peer, "varlen", lambda *args: seen.append(args) or args[0])
    out, none = flash_peer.attend(module, q, k, v, None, cache=cache, cu_seq_lens_q=torch.tensor([0, 3, 5]),
                                  cu_seq_lens_k=torch.tensor([0, 6, 9]), max_seqlen_q=3, max_seqlen_k=6,
                                  read_index=[], write_index=[], scaling=0.5, block_table=None)
    assert none is None and out.shape == (5, 4, 8) and torch.equal(out, q[0].transpose(0, 1))
    assert [*map(tuple, (seen[0][3].tolist(), seen[0][4].tolist()))] == [(0, 3, 5), (0, 6, 9)]
    assert seen[0][3].dtype == seen[0][4].dtype == torch.int32 and seen[0][5:] == (3, 6, 0.5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_flash_kernel():
    """Guards the kernel's arguments: against attention in float32, text by text."""
    q, k, v = (torch.randn(n, heads, 64, device="cuda", dtype=torch.bfloat16) for n, heads in ((5, 4), (9, 2), (9, 2)))
    starts = [torch.tensor(edges, device="cuda", dtype=torch.int32) for edges in ((0, 3, 5), (0, 6, 9))]
    out = flash_peer.varlen(q, k, v, *starts, 3, 6, 0.125)
    for (a, b), (c, d) in (((0, 3), (0, 6)), ((3, 5), (6, 9))):
        one = [x.float().transpose(0, 1) for x in (q[a:b], k[c:d].repeat_interleave(2, 1),
                                                   v[c:d].repeat_interleave(2, 1))]
        mask = torch.ones(b - a, d - c, dtype=torch.bool, device="cuda").tril(d - c - (b - a))
        want = torch.nn.functional.scaled_dot_product_attention(*one, attn_mask=mask, scale=0.125).transpose(0, 1)
        assert (out[a:b].float() - want).abs().max() < 0.02


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu():
    """Guards a far-fetched error where there is no GPU."""
    assert_clear_error(serving_gpu.measure, ValueError, "for a CPU there is `minilm bench serving`")


def test_batched_exit(monkeypatch):
    """Guards counts: in a batch more layers are read than run, alone equally many."""
    monkeypatch.setattr(batched_exit, "BATCHES", (1, 3))
    said = []
    measured = batched_exit.measure(tasks=3, new_tokens=5, rounds=1, say=said.append)
    alone, together = measured["rows"]
    assert alone["layers_run"] == alone["layers_read"] == together["layers_run"] < together["layers_read"] <= 16
    assert alone["same"] == together["same"]
    assert all(len(row["seconds"]["early exit"]) == 1 for row in (alone, together))
    assert "\n".join(said) == batched_exit.show(measured)
