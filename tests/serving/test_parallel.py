"""A model cut over two processes is the whole model: logits, texts, engine; and no failure of a rank leaves a hang.

Starting a process takes seconds, so each group of checks shares one start; `rank_work` holds what the ranks do.
"""
import multiprocessing
import time

import pytest
import rank_work
import torch
from hypothesis import given
from hypothesis import strategies as st

from minilm.model import GPT, GPTConfig
from minilm.serving import parallel, parallel_check
from minilm.serving.parallel import RankError, check_divides, deal, run

CASES = [(name, dtype) for name in ("grouped", "all extras") for dtype in (torch.float32, torch.float64)]


@pytest.fixture(scope="module")
def two_ranks() -> dict:
    return run(rank_work.numbers, 2)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_are_those_of_one_process(two_ranks, case):
    """Guards the order of rows, the sums, and that prefill, a later chunk and single tokens all go through a cache."""
    found, allowed = two_ranks[case], 1e-10 if case[1] == torch.float64 else 1e-5
    assert found["size"] > 1                                    # or the bound would say little
    for how in ("uncached", "cached", "skipped layer"):
        assert found[how] <= allowed, how


@pytest.mark.parametrize("case", CASES, ids=str)
def test_texts_are_those_of_one_process_on_every_rank(two_ranks, case):
    """Greedy, sampled, early exit, and an engine that preempts, forks and drafts."""
    found = two_ranks[case]
    assert found["cut"] == found["whole"]
    assert found["everyone"] == [found["cut"]] * 2
    assert len(set(found["cut"]["sampled"])) > 5, "a text of one token would be right by chance"


def test_each_rank_holds_half_of_what_is_cut(two_ranks):
    """Real bytes of storage: a slice that kept the whole matrix alive would show here."""
    c = rank_work.GROUPED
    layer = c.width * (c.head_size * (2 * c.num_heads + 2 * c.num_kv_heads) + 3 * c.mlp_width)
    held = two_ranks["grouped", torch.float64]["bytes"]
    assert held["cut"] == 8 * (c.num_layers * layer + c.vocab_size * c.width) // 2
    assert held["whole"] == 8 * (c.vocab_size * c.width + (2 * c.num_layers + 1) * c.width)


def test_caches_hold_half_of_the_heads(two_ranks):
    assert two_ranks["grouped", torch.float32]["key-value heads"] == (1, 1)
    assert two_ranks["all extras", torch.float32]["key-value heads"] == (2, 2)


@pytest.mark.parametrize("tokens", ["20 tokens", "one"])
def test_two_all_reduces_a_layer_and_one_gather_of_logits(two_ranks, tokens):
    """Megatron's count (§3), however many tokens the pass has."""
    for name, layers in (("grouped", 3), ("all extras", 2)):
        assert two_ranks[name, torch.float32]["exchanges"][tokens] == {
            "all_reduce": 2 * layers, "all_gather_into_tensor": 1}


def test_shard_refuses_in_one_sentence(two_ranks):
    said = two_ranks["refusals"]
    assert said["again"].startswith("ValueError: this model is cut already")
    assert said["save"] == "this model is one of 2 ranks' share; save it before it is cut"
    assert said["no model"].startswith("TypeError: shard cuts a GPT; it got a Linear")
    assert said["odd"].startswith("ValueError: 3 query heads and 3 key-value heads cannot be dealt evenly to 2 ranks")


def test_a_plain_cut_of_the_fused_matrices_is_wrong(two_ranks):
    """What `deal` is for: without it, one rank has all queries and the other all keys and values."""
    assert two_ranks["plain cut off by"] > 0.1


def test_kernels_of_whole_layers_leave_a_cut_model_alone(monkeypatch):
    """They would run a rank's share as if it were the model, without a word."""
    from minilm.kernels import decode_layers, few_tokens
    from minilm.serving import groups
    model = GPT(GPTConfig(64, 1, 64, 2, 2, 32, 64))
    for module in (decode_layers, few_tokens):
        monkeypatch.setattr(module, "launches", lambda tensor: True)
    fits = (decode_layers.DecodeLayers.fits, few_tokens.FewTokens.fits, groups.kernels_fit)
    before = [fit(model) for fit in fits]
    model.ranks = 2
    assert before[:2] == [True, True] and not any(fit(model) for fit in fits)


# ---- dealing, without processes --------------------------------------------------------------------------------

def test_deal_gives_whole_heads():
    """4 query heads, 2 key-value heads of 3 rows, two ranks: queries 0 1, key 0, value 0; then the others."""
    rows = deal([12, 6, 6], 2).tolist()
    assert rows == [*range(6), *range(12, 15), *range(18, 21), *range(6, 12), *range(15, 18), *range(21, 24)]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 5))
def test_deal_moves_every_row_once_and_equally_many_of_each_part_to_a_rank(pieces, ranks):
    sizes = [ranks * piece for piece in pieces]
    rows = deal(sizes, ranks)
    assert sorted(rows.tolist()) == list(range(sum(sizes)))
    part = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    for mine in rows.view(ranks, -1):
        assert torch.bincount(part[mine], minlength=len(sizes)).tolist() == pieces
        assert all(mine[part[mine] == p].diff().eq(1).all() for p in range(len(sizes))), "order within a part"


@pytest.mark.parametrize("sizes, ranks, message", [
    ([3, 3], 2, r"parts of \[3, 3\] rows cannot be dealt evenly to 2 ranks"), ([], 2, "cannot be dealt"),
    ([4], 0, "ranks must be a whole number of at least 1")])
def test_what_cannot_be_dealt(sizes, ranks, message):
    """Guards an uneven order without a word, and an error from deep inside."""
    with pytest.raises(ValueError, match=message):
        deal(sizes, ranks)


@pytest.mark.parametrize("mesh", [None, 2])
def test_a_mesh_that_is_none(mesh):
    with pytest.raises(TypeError, match="mesh must be a DeviceMesh of one dimension"):
        parallel.shard(GPT(rank_work.GROUPED), mesh)


SMOLLM2 = dict(vocab_size=49152, num_layers=30, width=576, num_heads=9, num_kv_heads=3, head_size=64, mlp_width=1536)


@pytest.mark.parametrize("change, ranks, message", [
    ({}, 2, "9 query heads and 3 key-value heads cannot be dealt evenly to 2 ranks; this model can be cut over 1 or 3"),
    ({"vocab_size": 49151}, 3, "49,151 tokens of the vocabulary cannot be dealt evenly to 3 ranks; .* over 1$"),
    ({"num_heads": 16, "num_kv_heads": 8, "mlp_width": 1538}, 4, "1,538 MLP columns .* cut over 1 or 2$"),
    ({"num_heads": 16, "num_kv_heads": 8}, 16, "8 key-value heads .* to 16 ranks; .* 1 or 2 or 4 or 8$"),
    ({}, 0, "ranks must be a whole number of at least 1"),
])
def test_what_does_not_divide_is_named_with_what_would(change, ranks, message):
    with pytest.raises(ValueError, match=message):
        check_divides(GPTConfig(**(SMOLLM2 | change)), ranks)


def test_what_divides_is_left_alone():
    check_divides(GPTConfig(**SMOLLM2), 3)


# ---- starting, and failing -------------------------------------------------------------------------------------

@pytest.mark.parametrize("how, rank, message", [
    ("raise", 1, "rank 1 of 2 raised KeyError: 'no such weight'; the other rank was ended too"),
    ("kill", 1, "rank 1 of 2 was killed by SIGKILL; the other rank was ended too"),
    ("leave", 0, "rank 0 of 2 waited more than 3 seconds for the others"),
])
def test_a_rank_that_fails_ends_the_run_with_one_error(how, rank, message, tmp_path):
    """Not the error of those who waited for it, nor a hang until the timeout, here 3 seconds and by default 300."""
    note = tmp_path / "when"
    with pytest.raises(RankError, match=message) as caught:
        run(rank_work.fail, 2, how, note=str(note), patience=3.0 if how == "leave" else 600.0)
    assert time.time() - float(note.read_text()) < 10
    assert caught.value.rank == rank
    assert not multiprocessing.active_children()
    if how == "raise":
        assert "rank_work.py" in caught.value.__notes__[0], "the rank's own traceback goes along"


@pytest.mark.parametrize("ranks, limits, message", [
    (1, {"timeout": 2.0}, "^rank 0 of 1 had not finished within 2 seconds; all were ended"),
    (2, {"patience": 3.0}, "^rank 1 of 2 had not finished while rank 0 waited more than 3 seconds for the others")])
def test_a_rank_that_hangs_is_named(ranks, limits, message):
    """It raises nothing, and does not die: only a clock can tell. Alone, or with rank 0 waiting for it."""
    with pytest.raises(RankError, match=message) as caught:
        run(rank_work.sleep, ranks, **limits)
    assert caught.value.rank == ranks - 1
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("victim", [2, -1, "one"])
def test_a_victim_that_is_no_rank(victim):
    """Or nobody would die, and the run would end as if all were well."""
    class Mesh:
        size, get_rank = staticmethod(lambda: 2), staticmethod(lambda: 0)
    with pytest.raises(ValueError, match=f"victim is a rank from 0 to 1; it is {victim!r}"):
        parallel_check.die(Mesh, victim)


def test_a_process_that_goes_without_a_word():
    with pytest.raises(RankError, match="rank 0 of 1 ended with exit code 7$"):
        run(rank_work.vanish, 1)


def test_a_result_that_cannot_be_sent():
    with pytest.raises(RankError, match="what the function returned cannot be sent to the process that called run"):
        run(rank_work.unsendable, 1)


def test_run_gives_back_what_rank_0_returned():
    assert run(rank_work.rank_and_args, 1, 5, name="x") == (0, 1, (5,), {"name": "x"}, torch.get_num_threads())


@pytest.mark.parametrize("arguments, more, error, message", [
    ((rank_work.fail, 0), {}, ValueError, "ranks must be a whole number of at least 1"),
    ((rank_work.fail, 10**6), {}, ValueError, "1000000 ranks would only wait for each other"),
    ((rank_work.fail, 2), {"backend": "mpi"}, ValueError, "backend is"),
    ((rank_work.fail, 2), {"timeout": -1}, ValueError, "timeout must be"),
    ((rank_work.fail, 2), {"timeout": "soon"}, ValueError, "timeout must be a number of seconds above 0, or None"),
    ((rank_work.fail, 2), {"patience": None}, ValueError, "patience must be a number of seconds above 0; it is None"),
    (("fail", 2), {}, TypeError, "run calls function"),
    ((lambda mesh: 1, 2), {}, ValueError, "sent to another process"),
])
def test_run_refuses_before_it_starts_anything(arguments, more, error, message):
    with pytest.raises(error, match=message):
        run(*arguments, **more)


def test_more_ranks_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="2 ranks by NCCL need a GPU each, and this machine has 1"):
        run(rank_work.fail, 2, backend="nccl")


def test_a_function_of_a_notebook_is_named(monkeypatch):
    import sys
    import types
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    function = types.FunctionType((lambda mesh: 1).__code__, {"__name__": "__main__"}, "mine")
    function.__module__ = "__main__"
    with pytest.raises(ValueError, match="mine was made in a notebook"):
        parallel.run(function, 2)
