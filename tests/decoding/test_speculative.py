"""The loop: greedy output is the target's own, token by token; the cache after each round is a fresh one's.

Each `check_...` can be run on one proposer, or on those that between them show every mistake of the loop.
`mutants.speculative` names, for each wrong version, the check that rejects it.
"""
from collections import Counter

import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from mutants import speculative_loop as mutants
from spec_helpers import PROMPT, PROPOSERS, SMALL, TARGET, Draft, Scripted, decode, plain, right, spec, tree, wrong

from minilm.cache import KVCache
from minilm.decoding.proposers import DraftModel, PromptLookup, SelfSpeculative
from minilm.sampling import Sampling

TELLING = ("draft model", "self-speculation", "half right", "all right", "tree")       # enough to show a mistake


def watched(name: str, look) -> None:
    """Decode 24 tokens with the proposer of that name; look(text, cache, hidden) is called before each draft."""
    proposer, seen = PROPOSERS[name](), []
    original, start = proposer.propose, proposer.start

    def propose(text, limit, hidden, *rest):
        look(text, seen[0], hidden)
        return original(text, limit, hidden, *rest)

    proposer.start = lambda model, cache: (seen.append(cache), start(model, cache))
    proposer.propose = propose
    decode(PROMPT, 24, proposer)
    assert seen


def check_greedy(names=TELLING, prompts=(PROMPT,)):
    """Guards a cache that keeps rejected drafts, a lost bonus token, positions off by one; up to the last position."""
    for name in names:
        for prompt in prompts:
            for new in (0, 1, 2, 5, 64 - len(prompt)):
                made = decode(prompt, new, PROPOSERS[name]())
                assert made.tokens == plain(prompt, new), (name, new)
                assert sum(len(step.emitted) for step in made.trace) == new
                check_trace(made, new)


def check_trace(made, new: int):
    """What the trace tells is what happened; no draft is longer than the room left."""
    done = 0
    for step in made.trace:
        if done:
            parents = range(-1, len(step.drafted) - 1) if step.parents is None else step.parents
            depth: dict[int, int] = {-1: 0}
            for node, parent in enumerate(parents):
                depth[node] = depth[parent] + 1
            assert step.fed == 1 + len(step.drafted) and max(depth.values()) <= new - done - 1
            assert step.emitted[:-1] == [step.drafted[node] for node in step.accepted]
            way = zip((-1, *step.accepted), step.accepted, strict=False)
            assert all(parents[node] == before for before, node in way)
        done += len(step.emitted)


def check_end_token(names=TELLING):
    """Guards tokens that follow the end token because they were drafted with it."""
    free = plain(PROMPT, 30)
    for name in names:
        for eos in set(free[1:12]):
            made = decode(PROMPT, 30, PROPOSERS[name](), eos=eos).tokens
            assert made == free[: free.index(eos) + 1], (name, eos)


def check_cache(names=TELLING):
    """Guards keys and values left by rejected drafts or by a tree's other branches, in any layer."""
    def look(text, cache, hidden):
        fresh = KVCache(TARGET.config, dtype=torch.float64)
        TARGET.hidden(torch.tensor([text[:-1]]), fresh)
        assert cache.length == len(text) - 1
        for layer in range(TARGET.config.num_layers):
            assert (cache.keys(layer) - fresh.keys(layer)).abs().max() < 1e-10
            assert (cache.values(layer) - fresh.values(layer)).abs().max() < 1e-10

    for name in names:
        watched(name, look)


def check_hidden(names=TELLING):
    """Guards a proposer that is shown the state of another token than the one that chose the text's last."""
    def look(text, cache, hidden):
        assert (hidden - TARGET.hidden(torch.tensor([text[:-1]]))[0, -1]).abs().max() < 1e-10

    for name in names:
        watched(name, look)


def check_yield():
    """A right draft gives one more token than it holds, a wrong one gives one."""
    made = decode([5], 13, Scripted(right))
    assert [len(step.emitted) for step in made.trace] == [1, 4, 4, 4]
    assert decode([5], 9, Scripted(wrong)).stats.target_passes == 9
    assert [len(step.emitted) for step in decode([5], 10, Scripted(tree)).trace] == [1, 3, 3, 1, 1, 1]


def check_layers_run_once():
    """LayerSkip's point: verification takes up the drafts' states instead of running the first layers again."""
    model = tiny_model(seed=3, dtype=torch.float64, num_layers=4, max_positions=64)
    rows: Counter = Counter()
    for layer, block in enumerate(model.layers):
        block.register_forward_pre_hook(lambda module, args, layer=layer: rows.update({layer: args[0].shape[1]}))
    fed = sum(step.fed for step in spec.speculative(model, PROMPT, 20, SelfSpeculative(2, 3)).trace)
    assert rows == {layer: fed for layer in range(4)}


def random_trees(count: int, nodes: int = 9):
    """(tokens, parents, a node's way from the text) of random trees after a text of four tokens."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        parents = [int(torch.randint(-1, i, (), generator=generator)) if i else -1 for i in range(nodes)]
        ways = []
        for node, parent in enumerate(parents):
            ways.append([*(ways[parent] if parent >= 0 else []), node])
        yield torch.randint(97, (nodes,), generator=generator).tolist(), parents, ways


def check_tree_logits():
    """Random trees: each node sees its ancestors alone, at its own position (≤ 1e-10, float64)."""
    for tokens, parents, ways in random_trees(20):
        cache = KVCache(TARGET.config, dtype=torch.float64, spare=16)
        TARGET.hidden(torch.tensor([[5, 17, 80, 3]]), cache)
        cache.branch(parents)
        logits = TARGET(torch.tensor([tokens]), cache)[0]
        for node, way in enumerate(ways):
            alone = TARGET(torch.tensor([[5, 17, 80, 3, *(tokens[i] for i in way)]]))[0, -1]
            assert (logits[node] - alone).abs().max() < 1e-10


def check_tree_keeps():
    """Random trees: after any way down is kept, the cache is the one of that text; and so is the next token's row."""
    for tokens, parents, ways in random_trees(5):
        for way in [[], *ways]:
            text = [5, 17, 80, 3, *(tokens[i] for i in way)]
            cache, fresh = (KVCache(TARGET.config, dtype=torch.float64, spare=16) for _ in range(2))
            TARGET.hidden(torch.tensor([text[:4]]), cache)
            cache.branch(parents)
            TARGET.hidden(torch.tensor([tokens]), cache)
            cache.keep(4, way)
            TARGET.hidden(torch.tensor([text]), fresh)
            assert cache.length == len(text)
            for layer in range(4):
                assert (cache.keys(layer) - fresh.keys(layer)).abs().max() < 1e-10
                assert (cache.values(layer) - fresh.values(layer)).abs().max() < 1e-10
            assert (TARGET(torch.tensor([[9]]), cache) - TARGET(torch.tensor([[9]]), fresh)).abs().max() < 1e-10


def check_refused():
    """Drafts that can't be verified are refused with a clear error, whatever the proposer."""
    for draft, says in [
        (Draft([1] * 9), "there is room for 2"),
        (Draft([500]), "outside the vocabulary"),
        (Draft([1, 2], None, [-1]), "as many parents; it has 1"),
        (Draft([1, 2], None, [1, -1]), "it continues 1"),
        (Draft([1, 2], None, [-1, -2]), "it continues -2"),
        (Draft([1, 2], torch.ones(2, 97) / 97, [-1, -1]), "must be chosen, not drawn"),
        (Draft(list(range(70)), None, [-1] * 70), "at most 64 nodes"),
    ]:
        for sampling in (Sampling(), Sampling(1.0)):
            proposer = Scripted(lambda text, limit, draft=draft: draft)
            assert_clear_error(lambda p=proposer, s=sampling: spec.speculative(TARGET, [5], 4, p, sampling=s),
                               ValueError, says)
    for rule in ("block", "typical"):
        assert_clear_error(lambda rule=rule: spec.speculative(TARGET, [5], 9, Scripted(tree), rule=rule), ValueError,
                           "a tree is verified by")


CHECKS = {check.__name__: check for check in (
    check_end_token, check_cache, check_hidden, check_yield, check_layers_run_once, check_tree_logits,
    check_tree_keeps, check_refused)}


@pytest.mark.parametrize("name", PROPOSERS)
def test_greedy_output_is_the_targets(name):
    """Guards every proposer's way to another text than plain decoding's; see the checks."""
    check_greedy([name], [PROMPT, [1], [9, 9, 2, 44] * 3])
    for check in (check_end_token, check_cache, check_hidden):
        check([name])


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards the loop's promises; see each check."""
    check()


@pytest.mark.parametrize("mutant", mutants.LOOP, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let a wrong loop pass."""
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        (CHECKS | {"check_greedy": check_greedy})[mutant.check]()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_sampling_in_low_precision(dtype):
    """Guards a check of sums that bfloat16's rounding can't meet."""
    target, small = (tiny_model(seed=seed, dtype=dtype, num_layers=2 - seed) for seed in range(2))
    for proposer in (DraftModel(small, 3), PromptLookup(3, 1), SelfSpeculative(1, 2)):
        for rule in ("rejection", "block"):
            for sampling in (Sampling(0.7, 5), Sampling(1.0, top_p=0.9)):
                made = spec.speculative(target, [5, 17, 5], 20, proposer, sampling=sampling, rule=rule)
                assert len(made.tokens) == 20


@pytest.mark.parametrize(("call", "says"), [
    (lambda: spec.speculative(TARGET, [5], 4, DraftModel(tiny_model(vocab_size=50))), "do not share a tokenizer"),
    (lambda: spec.speculative(TARGET, [5], 4, PromptLookup(), rule="hope"), "rule is one of"),
    (lambda: spec.speculative(TARGET, [], 4, DraftModel(SMALL)), "prompt is empty"),
    (lambda: spec.speculative(TARGET, [5], 64, DraftModel(SMALL)), "do not fit"),
    (lambda: spec.speculative(TARGET, [5], -1, DraftModel(SMALL)), "at least 0"),
])
def test_bad_requests(call, says):
    """Guards a request that fails deep in a run, or never."""
    assert_clear_error(call, ValueError, says)
