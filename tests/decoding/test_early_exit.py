"""Early exit: the policies against slow references, and the cache that skipping leaves behind against an oracle."""
import functools
import math

import exit_helpers as slow
import pytest
import torch
from core_helpers import assert_clear_error, one_thread, random_ids  # noqa: F401
from exit_helpers import LAYERS, PROMPT, ROOM, SHAPES, VOCAB, Oracle, Script, deep_model, depths_of, ee, near, quantile
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import early_exit as wrong

from minilm.cache import KVCache
from minilm.decoding import Entropy, Patience, Saturation, SoftmaxResponse, autoregressive
from minilm.sampling import Sampling

NEVER = [Entropy(0), Patience(LAYERS), SoftmaxResponse(1), Saturation(1), Script([0] * ROOM)]
ALWAYS = [Entropy(1e9), SoftmaxResponse(0), Saturation(0)]
FULL_LENGTH = ROOM - len(PROMPT)                                # up to the model's last position
MIXED = [6, 1, 2, 6, 3, 3, 1, 1, 5, 6, 6, 4, 1, 2, 3, 4, 5, 6, 2, 1, 6, 1, 1, 1, 5, 6, 3]
model_of = functools.cache(lambda name, dtype=torch.float64: deep_model(dtype, **SHAPES[name]))


# --- policies ---

def check_entropy():
    for row in slow.logit_rows():
        want = slow.entropy(row)
        got = Entropy(1.0).score(slow.look_at(row))
        assert abs(got - want) < 1e-12, row                     # NaN fails
        assert Entropy(want + 1e-9).leaves(got) and not Entropy(max(want - 1e-9, 0)).leaves(got)
    assert not Entropy(0).leaves(Entropy(0).score(slow.look_at([0.0, -2000.0]))), "0 nats never leaves, however sure"
    assert not Entropy(0.5).leaves(0.5), "falls below, not reaches"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=5), st.integers(1, 5))
def check_patience(texts, patience):
    """One policy over several tokens: what one token named must not count for the next."""
    policy = Patience(patience)
    for t, named in enumerate(texts):
        policy.begin(t)
        left = None
        for i, token in enumerate(named):
            logits = [0.0, 0.0, 0.0]
            logits[token:] = [1.0] * (3 - token)                # a tie: the lowest id is the one named
            if policy.leaves(policy.score(slow.look_at(logits))):
                left = i
                break
        assert left == slow.patience(named, patience)


def check_never_leaves(policies=NEVER):
    """Bitwise the full model: tokens, also sampled, and logits."""
    for dtype in (torch.float32, torch.float64):
        model = model_of("3:1", dtype)
        for rule in (Sampling(), Sampling(1.5, 20, 0.9)):
            plain = autoregressive(model, PROMPT, FULL_LENGTH, sampling=rule,
                                   generator=torch.Generator().manual_seed(7))
            for policy in policies if rule.greedy else policies[:1]:
                ours = ee.early_exit(model, PROMPT, FULL_LENGTH, policy, sampling=rule,
                                  generator=torch.Generator().manual_seed(7))
                assert ours.tokens == plain.tokens and set(depths_of(ours)) == {LAYERS}, policy
        cache, right = ee.ExitCache(model, ROOM), KVCache(model.config, dtype=dtype)
        model.hidden(torch.tensor([PROMPT]), cache), model.hidden(torch.tensor([PROMPT]), right)
        for t, token in enumerate(random_ids(VOCAB, 12).tolist()):
            got, _ = ee.descend(model, token, t, cache, policies[t % len(policies)], range(1, LAYERS),
                                lambda layer, x, model=model: model.head(x))
            assert torch.equal(got, model.head(model.hidden(torch.tensor([[token]]), right)[0, -1]))


def check_always_leaves(policies=ALWAYS):
    """At the first exit that is allowed, every token but the first, which the prompt's pass made."""
    model = model_of("3:1")
    for policy in policies:
        for exits, first in ((None, 1), ([4, 2], 2), ([5], 5)):
            made = ee.early_exit(model, PROMPT, 9, policy, exits=exits)
            assert depths_of(made) == [LAYERS] + [first] * 8
            assert made.tokens == slow.generate(model, PROMPT, 9, lambda *_: True, exits=exits or range(1, 6))[0]


def check_against_the_oracle():
    """Entropy and patience on a model, against the same rule written anew over frozen states."""
    model, exits = model_of("all"), (1, 2, 3, 5)
    for threshold in (quantile(0.1, model, Entropy(0), exits), quantile(0.25, model, Entropy(0), exits)):
        made = ee.early_exit(model, PROMPT, FULL_LENGTH, Entropy(threshold), exits=exits)
        want = slow.generate(model, PROMPT, FULL_LENGTH, lambda t, layer, x, before, threshold=threshold:
                             slow.entropy(model.head(x).tolist()) < threshold, exits=exits)
        assert (made.tokens, depths_of(made)) == want and len(set(want[1])) > 2
    for patience in (1, 2):
        named = {}

        def patient(t, layer, x, before, patience=patience, named=named):
            named.setdefault(t, []).append(int(model.head(x).argmax()))
            return slow.patience(named[t], patience) is not None
        made = ee.early_exit(model, PROMPT, FULL_LENGTH, Patience(patience), exits=exits)
        want = slow.generate(model, PROMPT, FULL_LENGTH, patient, exits=exits)
        assert (made.tokens, depths_of(made)) == want and len(set(want[1])) > 1


# --- the cache ---

STEPS = (*MIXED[:9], -1, 6, 4, -3, 1, 6, 1, 2, -1, 5, 3, 6, -3, 2, 1)       # -n: n tokens are taken back


def check_schedule(steps=STEPS, shape="all", skipped="hidden", eager=False):
    """steps: the depth at which a token leaves, or -n to take back n tokens. Logits on the way and, once all layers
    have caught up, the whole cache are the oracle's. eager: catch up after every token."""
    model = model_of(shape)
    cache, oracle = ee.ExitCache(model, ROOM, skipped), Oracle(model, PROMPT, skipped)
    model.hidden(torch.tensor([PROMPT]), cache)
    depths = [LAYERS] * len(PROMPT)
    for t, (token, step) in enumerate(zip(random_ids(VOCAB, len(steps)).tolist(), steps, strict=True)):
        if step < 0:
            keep = max(cache.length + step, 1)
            cache.truncate(keep), oracle.cache.truncate(keep)
            continue
        got, told = ee.descend(model, token, t, cache, Script(steps), range(1, LAYERS), lambda _, x: model.head(x))
        want, depth = oracle.feed(token, lambda layer, *_, step=step: layer == step)
        depths[cache.length - 1 :] = [depth]
        assert told["layers"] == depth == step and near(got, want)
        if eager:
            assert [cache.catch_up(layer) for layer in range(LAYERS)] == [int(layer >= step) for layer in range(LAYERS)]
    for layer in range(LAYERS):
        cache.catch_up(layer)
        assert near(cache.keys(layer), oracle.cache.keys(layer))
        assert near(cache.values(layer), oracle.cache.values(layer))
        assert cache.catch_up(layer) == 0
    assert cache.depth[: cache.length] == depths[: cache.length]


def check_many_tokens_at_once():
    """The model's own forward pass, as for a second prompt or to verify drafts, finds the skipped layers caught up."""
    for skipped in ("hidden", "projected"):
        model, cache = model_of("all"), ee.ExitCache(model_of("all"), ROOM, skipped)
        oracle = Oracle(model, PROMPT, skipped)
        model.hidden(torch.tensor([PROMPT]), cache)
        for token, depth in ((7, 2), (9, 4), (11, 1)):
            ee.descend(model, token, 0, cache, Script([depth]), range(1, LAYERS), lambda layer, x, m=model: m.head(x))
            oracle.feed(token, lambda layer, *_, depth=depth: layer == depth)
            more = random_ids(VOCAB, 1, 3, seed=token)
            assert near(model(more, cache), model(more, oracle.cache))


def check_generation(shape="all"):
    """The whole loop up to the last position; a lens is read at exits only, and never copied into the cache."""
    model = model_of(shape)
    for lens in (None, lambda layer, x: x.flip(-1) * torch.linspace(1, 2, len(x), dtype=x.dtype) ** layer):
        made = ee.early_exit(model, PROMPT, FULL_LENGTH, Script(MIXED), lens=lens)
        want = slow.generate(model, PROMPT, FULL_LENGTH, lambda t, layer, *_: layer == MIXED[t], lens=lens)
        assert (made.tokens, depths_of(made)) == want and want[1] == MIXED


def check_projected_differs():
    """The contrast is what it says, and is not the same as copying the state."""
    check_schedule(skipped="projected")
    made = {how: ee.early_exit(model_of("all"), PROMPT, FULL_LENGTH, Script(MIXED), skipped=how).tokens
            for how in ("hidden", "projected")}
    right = slow.generate(model_of("all"), PROMPT, FULL_LENGTH, lambda t, layer, *_: layer == MIXED[t],
                          skipped="projected")[0]
    assert made["projected"] == right != made["hidden"]


def check_trace(schedule=MIXED, exits=(2, 3, 5)):
    """What the trace says was done is what hooks saw being done, and the skipped layers' sums add up."""
    model, ran, heads = deep_model(), [0] * LAYERS, [0]
    for i, block in enumerate(model.layers):
        block.register_forward_hook(lambda *_, i=i: ran.__setitem__(i, ran[i] + 1))
    model.norm.register_forward_hook(lambda *_: heads.__setitem__(0, heads[0] + 1))
    for policy, looks in ((Script(schedule), False), (Entropy(quantile(0.2, model, Entropy(0), exits)), True)):
        ran[:], heads[:] = [0] * LAYERS, [0]
        trace = ee.early_exit(model, PROMPT, len(schedule), policy, exits=exits).trace
        assert sum(step.head_products for step in trace) == heads[0]
        assert ran == [sum(step.layers > layer for step in trace) for layer in range(LAYERS)], "each layer once"
        assert [step.context for step in trace] == [0, *range(len(PROMPT), len(PROMPT) + len(schedule) - 1)]
        first, *later = trace
        assert (first.scores, first.head_products, sum(first.projected), first.layers) == ((), 1, 0, LAYERS)
        for t, step in enumerate(later, 1):
            asked = [layer for layer in exits if layer <= step.layers]
            assert len(step.scores) == len(asked) and len(step.projected) == step.layers
            assert step.head_products == (len(asked) + (step.layers == LAYERS) if looks else 1)
            if not looks:
                assert list(step.scores) == asked
                assert step.layers == (schedule[t] if schedule[t] in exits else LAYERS)
        assert len({step.layers for step in later}) > 2
        for layer in range(LAYERS):
            last = max(t for t, step in enumerate(trace) if step.layers > layer)
            skipped = sum(step.layers <= layer for step in trace[:last])        # those after `last` still wait
            assert sum(step.projected[layer] for step in trace if step.layers > layer) == skipped


CHECKS = {check.__name__: check for check in (
    check_entropy, check_patience, check_never_leaves, check_always_leaves, check_against_the_oracle, check_schedule,
    check_many_tokens_at_once, check_generation, check_projected_differs, check_trace)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards early exit's promises; see each check."""
    check()


@pytest.mark.parametrize("mutant", wrong.EARLY_EXIT, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let a wrong version pass."""
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[mutant.check]()


@pytest.mark.parametrize("shape", SHAPES)
def test_other_shapes(shape):
    """Guards head groups, norms, biases and rotary scalings that a skipped layer's projection forgets."""
    check_schedule(shape=shape)
    check_generation(shape)
    check_schedule(shape=shape, eager=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, LAYERS) | st.integers(-6, -1), max_size=ROOM - len(PROMPT)),
       st.sampled_from(["hidden", "projected"]), st.booleans())
def test_any_schedule(steps, skipped, eager):
    """Guards a cache that is right for some order of exits, full passes and taken-back tokens only."""
    check_schedule(steps, "all", skipped, eager)


def test_stops():
    """Guards work after the end token, an end token in the first place, and requests for 0 tokens or 1."""
    model = model_of("3:1")
    free = ee.early_exit(model, PROMPT, 20, Script(MIXED)).tokens
    for at in (0, 1, next(i for i in range(8, 20) if free[i] not in free[:i])):
        made = ee.early_exit(model, PROMPT, 20, Script(MIXED), eos=free[at])
        assert made.tokens == free[: free.index(free[at]) + 1] and len(made.trace) == len(made.tokens)
    unasked = Script([])                                        # an IndexError, if it were
    assert ee.early_exit(model, PROMPT, 0, unasked).tokens == [] == ee.early_exit(model, PROMPT, 0, unasked).trace
    assert ee.early_exit(model, PROMPT, 1, unasked).tokens == free[:1]


@pytest.mark.parametrize(("call", "says"), [
    (lambda: Entropy(-0.1), "it is -0.1"), (lambda: Entropy(math.nan), "it is nan"),
    (lambda: Entropy(math.inf), "finite"), (lambda: Patience(0), "at least 1; it is 0"),
    (lambda: Patience(-3), "it is -3"), (lambda: Patience(True), "it is True"), (lambda: Patience(2.0), "it is 2.0"),
    (lambda: Patience(math.nan), "it is nan")])
def test_bad_policies(call, says):
    """Guards a threshold that could never, or always, be met without a word."""
    assert_clear_error(call, ValueError, says)


@pytest.mark.parametrize(("options", "says"), [
    ({"exits": [0, 2]}, "no exit 0: exits are numbers of layers run, from 1 to 5"), ({"exits": [LAYERS]}, "no exit 6"),
    ({"exits": [-1]}, "no exit -1"), ({"exits": [True]}, "no exit True"), ({"exits": [2.0]}, "no exit 2.0"),
    ({"exits": [2, 3, 2]}, "different"), ({"exits": []}, "one or more"), ({"skipped": "zeros"}, "it is 'zeros'"),
    ({"max_new_tokens": 28}, "do not fit"), ({"max_new_tokens": -1}, "at least 0"), ({"prompt": []}, "empty")], ids=str)
def test_bad_requests(options, says):
    """Guards a request that fails deep in a run, or never; nothing is asked before it is refused."""
    request = {"prompt": PROMPT, "max_new_tokens": 5, "policy": Script([]), **options}
    assert_clear_error(lambda: ee.early_exit(model_of("3:1"), **request), ValueError, says)
