"""What the engine refuses: each mistake has one clear error, told at once, and nothing is spoilt by it."""
from types import SimpleNamespace

import pytest
import torch
from core_helpers import assert_clear_error, error_of, one_thread, tiny_model  # noqa: F401
from serving_helpers import WARM, check_empty
from spec_helpers import TARGET, plain

from minilm.decoding.proposers import DraftModel, PromptLookup, SelfSpeculative
from minilm.serving import Engine, memory


def small(**options) -> Engine:
    return Engine(TARGET, **{"num_blocks": 4, "block_size": 4, **options})


def cancelled_twice() -> None:
    engine = small()
    engine.add([1], 2)
    engine.cancel(0)
    engine.cancel(0)


def done_and_cancelled() -> None:
    engine = small()
    engine.add([1], 2)
    engine.run()
    engine.cancel(0)


def asked_too_early() -> None:
    engine = small()
    engine.add([1], 4)
    engine.step()
    engine.requests[0].result()


@pytest.mark.parametrize(("call", "kind", "says"), [
    (lambda: small(num_blocks=0), ValueError, "num_blocks must be a whole number of at least 1; it is 0"),
    (lambda: small(num_blocks=0, preemption="swap"), ValueError, "num_blocks"),
    (lambda: small(num_blocks="9"), ValueError, "num_blocks"),
    (lambda: small(block_size=0), ValueError, "block_size"),
    (lambda: small(max_batch_tokens=0), ValueError, "max_batch_tokens must be a whole number of at least 1"),
    (lambda: small(max_drafts=-1), ValueError, "max_drafts"),
    (lambda: small(swap_blocks=0, preemption="swap"), ValueError, "swap_blocks must be a whole number of at least 1"),
    (lambda: small(swap_blocks=-1), ValueError, "swap_blocks"),
    (lambda: small(preemption="kill"), ValueError, '"recompute" or "swap"; it is \'kill\''),
    (lambda: small(watch=3), TypeError, "takes a Step"),
    (lambda: small(proposer=PromptLookup), TypeError, "a drafter such as PromptLookup()"),
    (lambda: small(proposer=TARGET), TypeError, "a drafter such as"),
    (lambda: small(proposer=SelfSpeculative(9)), ValueError, "exit_layer must be below the model's 4 layers"),
    (lambda: small(proposer=DraftModel(tiny_model(vocab_size=5))), ValueError, "do not share a tokenizer"),
    (lambda: Engine((TARGET, None), num_blocks=4), TypeError, "the engine serves a GPT; it got a tuple"),
    (lambda: small().add("Once", 4), TypeError, "encode it first"),
    (lambda: small().add(torch.tensor([1]), 4), TypeError, "prompt.tolist()"),
    (lambda: small().add(None, 4), TypeError, "the prompt is a NoneType; give a list of ints"),
    (lambda: small().add(7, 4), TypeError, "the prompt is a int"),
    (lambda: small().add([], 4), ValueError, "empty"),
    (lambda: small().add([[1], [2]], 4), TypeError, "a list; tokens are whole numbers"),
    (lambda: small().add([97], 4), ValueError, "outside the vocabulary of 97"),
    (lambda: small().add([1], -1), ValueError, "max_new_tokens"),
    (lambda: small().add([1], 64), ValueError, "do not fit into the model's 64 positions"),
    (lambda: small().add([1], 4, 0.7), TypeError, "sampling must be a Sampling, such as Sampling(0.8"),
    (lambda: small().add([1], 4, n=0), ValueError, "n must be a whole number of at least 1; it is 0"),
    (lambda: small().add([1], 4, n=True), ValueError, "n must be"),
    (lambda: small().add([1], 4, seed=-1), ValueError, "seed"),
    (lambda: small().add([1], 4, seed=2**64), ValueError, f"seed must be a whole number from 0 to {2**63 - 2}"),
    (lambda: small().add([1], 4, seed="x"), ValueError, "seed"),
    (lambda: small().add([1], 4, eos="</s>"), ValueError, "eos must be a whole number from 0 to 96"),
    (lambda: small().add([1], 4, eos=97), ValueError, "eos"),
    (lambda: small().add([1], 4, beams=-1), ValueError, "beams"),
    (lambda: small().add([1], 4, n=3, beams=2), ValueError, "2 beams can't give n = 3 texts"),
    (lambda: small().add([1], 4, WARM, beams=2), ValueError, "leave sampling greedy"),
    (lambda: small().add([1], 4, beams=2, callback=print), ValueError, "leave callback out"),
    (lambda: small().add([1], 4, callback="print"), TypeError, "(id, sample, new tokens)"),
    (lambda: small().add([1] * 10, 8), ValueError, "may need 5 blocks of 4 tokens, 1 more than the 4 there are"),
    (lambda: small().add([1] * 10, 5, n=4), ValueError, "may need 10 blocks of 4 tokens, 6 more"),
    (lambda: small(preemption="swap", swap_blocks=2).add([1] * 8, 8), ValueError, "2 more than the swap space's 2"),
    (lambda: small().cancel(0), KeyError, "there is no request 0; 0 were added"),
    (lambda: small().cancel("a"), KeyError, "there is no request 'a'"),
    (lambda: small().cancel([0]), KeyError, "there is no request [0]"),
    (lambda: small(prefix_caching="no"), TypeError, "prefix_caching is True or False; it is 'no'"),
    (lambda: small(num_blocks=10**12), ValueError, "1,000,000,000,000 blocks of 4 tokens take"),
    (lambda: Engine(TARGET), ValueError, "num_blocks is needed on a cpu: how many blocks of 16 tokens"),
    (lambda: small(kernels=True), ValueError, "the kernels cannot serve this model here: they need CUDA"),
    (asked_too_early, ValueError, "request 0 is not done: call step() or run() until it is"),
    (cancelled_twice, ValueError, "request 0 is done already"),
    (done_and_cancelled, ValueError, "request 0 is done already"),
])
def test_bad_input(call, kind, says):
    """Guards a mistake that is told late, badly or never."""
    assert_clear_error(call, kind, says)


def test_the_largest_that_fits():
    """Guards a limit that is off by one: the last new token is never fed."""
    for kind in ("recompute", "swap"):
        engine = small(preemption=kind)
        engine.add([1] * 10, 7)
        assert len(engine.run()[0].tokens) == 7
        assert_clear_error(lambda engine=engine: engine.add([1] * 10, 8), ValueError, "1 more than the 4")


def test_a_refused_request_leaves_nothing():
    """Guards an engine spoilt by a mistake that it told of."""
    engine = small()
    for bad in ({"sampling": 0.7}, {"seed": 2**64}, {"max_new_tokens": 20}):
        assert error_of(lambda bad=bad: engine.add(**{"prompt": [1], "max_new_tokens": 4, **bad})) is not None
    assert engine.add([1], 4) == 0 and engine.run()[0].tokens == plain([1], 4)
    check_empty(engine)


def on_a_gpu(free: int, monkeypatch, reserved: int = 0) -> SimpleNamespace:
    """As much of a model as asking for memory takes, on a GPU with `free` bytes left."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**36))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    return SimpleNamespace(config=TARGET.config, dtype=torch.float32, device=torch.device("cuda"))


def test_memory_of_a_gpu(monkeypatch):
    """Guards a start that ends in the allocator's words: as many blocks as fit, or one error with all numbers."""
    block = memory.block_bytes(on_a_gpu(0, monkeypatch), 16)
    needed = memory.pass_bytes(on_a_gpu(0, monkeypatch), 512)
    assert memory.blocks_that_fit(on_a_gpu(needed + 100 * block, monkeypatch), 16, 512) == 90
    assert memory.blocks_that_fit(on_a_gpu(needed, monkeypatch, reserved=100 * block), 16, 512) == 90
    assert_clear_error(lambda: memory.blocks_that_fit(on_a_gpu(needed + block, monkeypatch), 16, 512), ValueError,
                       "not even one block fits")
    memory.check_memory(on_a_gpu(10 * block, monkeypatch), 10, 16)
    assert_clear_error(lambda: memory.check_memory(on_a_gpu(10 * block, monkeypatch), 11, 16), ValueError,
                       "free: at most 10 would fit")
