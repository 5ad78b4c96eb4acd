"""Where KV memory goes under reservations and under blocks: shares that add up, and the order that theory gives."""
import functools
import itertools

import pytest

from minilm.bench.reservations import MAX_TOKENS, SIZES, blocks_for, lengths, power_of_two, serve

POLICIES = (*SIZES, "paged")


@functools.cache
def served(policy: str, block_size: int = 16):
    return serve(lengths(150), policy, slots=8_000, block_size=block_size)


@pytest.mark.parametrize("policy", POLICIES)
def test_shares_are_parts_of_one_whole(policy):
    """Guards slots counted twice, or lost."""
    shares = served(policy)
    parts = (shares.used, shares.reserved, shares.internal, shares.external)
    assert all(part >= 0 for part in parts) and 0.5 < sum(parts) <= 1 + 1e-12
    assert 0 <= shares.waste < 1


@pytest.mark.parametrize(("policy", "slots", "whole"), [("oracle", 64, 1.0), ("pow2", 64, 1.0), ("max", 4 * 2048, 1.0),
                                                        ("oracle", 70, (1 + 64 / 70) / 2)])
def test_every_slot_is_somewhere(policy, slots, whole):
    """Two batches of four equal requests that fill the slots: the shares are all there is. With six slots over they
    are out of reach while others wait (external), and simply free afterwards."""
    shares = serve([(8, 8)] * 8, policy, slots=slots)
    assert shares.used + shares.reserved + shares.internal + shares.external == pytest.approx(whole, abs=1e-12)
    assert shares.batch == 4 and shares.steps == 16
    held = sum(range(8, 16)) / 8                                # of 16 tokens, on average over the steps
    assert shares.used == pytest.approx(4 * held / slots)
    assert shares.reserved == pytest.approx(4 * (16 - held) / slots)
    assert shares.external == pytest.approx((slots % 16) / slots / 2)


@pytest.mark.parametrize(("policy", "slots"), [*((policy, 8_000) for policy in SIZES), ("paged", 200_000)])
def test_every_token_is_made_once(policy, slots):
    """Guards a request that is dropped, or served twice: each takes as many steps as it has output tokens."""
    load = lengths(150)
    shares = serve(load, policy, slots=slots)
    assert shares.batch * shares.steps == pytest.approx(sum(output for _, output in load))
    assert shares.used * slots * shares.steps == pytest.approx(
        sum(sum(range(prompt, prompt + output)) for prompt, output in load))


def test_the_youngest_makes_room():
    """Guards a preemption that loses tokens, or never happens: two requests of 4 + 12 tokens in six blocks of 4.

    Together they reach 12 tokens each. Then the first makes its last three steps alone, and the second its last four.
    """
    shares = serve([(4, 12), (4, 12)], "paged", slots=24, block_size=4)
    assert shares.steps == 9 + 3 + 4 and shares.batch == (2 * 9 + 3 + 4) / 16
    assert shares.used == pytest.approx((2 * sum(range(4, 13)) + sum(range(13, 16)) + sum(range(12, 16))) / 16 / 24)


def test_the_less_is_reserved_the_less_is_wasted():
    """Guards policies under another's name. Kwon et al. 2023, figure 2: max > pow2 > oracle > blocks."""
    for worse, better in itertools.pairwise(POLICIES):
        assert served(worse).waste > served(better).waste and served(worse).batch < served(better).batch
    assert served("oracle").internal == served("paged").reserved == served("paged").external == 0
    assert served("paged").waste < 0.04
    assert served("paged", 1).waste == 0 < served("paged", 8).waste < served("paged").waste < served("paged", 64).waste


def test_sizes():
    """Guards limits that are off by one."""
    assert [power_of_two(n) for n in (1, 2, 3, 4, 5, 1024, 1025)] == [1, 2, 4, 4, 8, 1024, 2048]
    assert [blocks_for(n, 4) for n in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]
    assert (SIZES["pow2"](10, 5), SIZES["pow2"](10, 2000), SIZES["oracle"](10, 5)) == (18, MAX_TOKENS, 15)


def test_the_lengths():
    """Guards requests that the model has no room for, and means that are not the ones told."""
    load = lengths(4000)
    assert all(prompt >= 1 and output >= 1 and prompt + output <= MAX_TOKENS for prompt, output in load)
    prompts, outputs = (sum(column) / len(load) for column in zip(*load, strict=True))
    assert prompts == pytest.approx(161, rel=0.05) and outputs == pytest.approx(338, rel=0.1)
    assert lengths(5, seed=1) == lengths(5, seed=1) != lengths(5, seed=2)


def test_what_never_fits_is_told():
    """Guards an endless wait."""
    with pytest.raises(ValueError, match="never fits into 64 slots"):
        serve([(100, 10)], "oracle", slots=64)
    with pytest.raises(ValueError, match="never fits into 64 slots"):
        serve([(100, 10)], "paged", slots=64)
