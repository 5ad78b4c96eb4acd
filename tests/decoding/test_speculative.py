"""The loop: greedy output is the target's own, token by token; the cache after each round is a fresh one's; the law."""
import itertools
from collections import Counter

import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from law import draw, law_of

import minilm.decoding.proposers.draft_model as draft_module
import minilm.decoding.proposers.self_speculative as self_module
import minilm.decoding.speculative as speculative_module
import minilm.decoding.verify as verify_module
import minilm.sampling as sampling_module
from minilm.cache import KVCache
from minilm.decoding import autoregressive
from minilm.decoding.proposers import AheadHeads, Blockwise, DraftModel, PromptLookup, SelfSpeculative, choose_tree
from minilm.decoding.proposers.prompt_lookup import lookup
from minilm.decoding.speculative import Chain, Draft, speculative
from minilm.sampling import Sampling

TARGET = tiny_model(seed=3, dtype=torch.float64, num_layers=4, max_positions=64)
SMALL = tiny_model(seed=3, dtype=torch.float64, num_layers=1, max_positions=64)


class Scripted(Chain):
    """Drafts what `guess(text, limit)` says, and notes how long the cache is at each call."""

    def __init__(self, guess):
        self.guess = guess

    def propose(self, text, limit, hidden, sampling, generator):
        return self.guess(text, limit)


def right(text: list[int], limit: int) -> Draft:
    """All accepted."""
    return Draft(autoregressive(TARGET, text, min(3, limit)).tokens)


def wrong(text: list[int], limit: int) -> Draft:
    """None accepted."""
    return Draft([(autoregressive(TARGET, text, 1).tokens[0] + 1) % 97, 5, 6][:limit])


def tree(text: list[int], limit: int) -> Draft:
    """A tree whose right path is neither first nor last: wrong, right, right → (wrong, right), wrong."""
    if limit < 3:
        return Draft()
    a, b = autoregressive(TARGET, text, 2).tokens
    return Draft([(a + 1) % 97, a, (a + 2) % 97, (b + 1) % 97, b, 7], None, [-1, -1, 0, 1, 1, 2])


def random_heads(width: int = 24, count: int = 3) -> AheadHeads:
    generator = torch.Generator().manual_seed(0)
    return AheadHeads(torch.randn(count, width, width, generator=generator, dtype=torch.float64) / 5,
                      torch.randn(count, width, generator=generator, dtype=torch.float64) / 5)


BUSHY = [(0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0)]

PROPOSERS = {
    "draft model": lambda: DraftModel(SMALL, 3),
    "heuristic length": lambda: DraftModel(SMALL, 2, schedule="heuristic"),
    "confidence stop": lambda: DraftModel(SMALL, 6, confidence=0.2),
    "prompt lookup": lambda: PromptLookup(4, 2),
    "self-speculation": lambda: SelfSpeculative(2, 3),
    "blockwise chain": lambda: Blockwise(random_heads()),
    "blockwise tree": lambda: Blockwise(random_heads(), BUSHY),
    "all right": lambda: Scripted(right),
    "all wrong": lambda: Scripted(wrong),
    "tree": lambda: Scripted(tree),
    "nothing": lambda: Scripted(lambda text, limit: Draft()),
}


@pytest.mark.parametrize("name", PROPOSERS)
@pytest.mark.parametrize("prompt", [[5, 17, 80], [1], [9, 9, 2, 44] * 3])
def test_greedy_output_is_the_targets(name, prompt):
    """Guards a cache that keeps rejected drafts, a lost bonus token, positions off by one; up to the last position."""
    for new in (0, 1, 2, 3, 20, 64 - len(prompt)):
        plain = autoregressive(TARGET, prompt, new)
        fast = speculative(TARGET, prompt, new, PROPOSERS[name]())
        assert fast.tokens == plain.tokens, new
        assert all(step.fed == 1 + len(step.drafted) for step in fast.trace[1:])
        assert sum(len(step.emitted) for step in fast.trace) == new


@pytest.mark.parametrize("name", PROPOSERS)
def test_the_end_token_stops_inside_a_draft(name):
    """Guards tokens that follow the end token because they were drafted with it."""
    free = autoregressive(TARGET, [5, 17, 80], 30).tokens
    for eos in set(free[1:12]):
        expected = free[: free.index(eos) + 1]
        assert speculative(TARGET, [5, 17, 80], 30, PROPOSERS[name](), eos=eos).tokens == expected


@pytest.mark.parametrize("name", PROPOSERS)
def test_the_cache_after_each_round_is_a_fresh_ones(name):
    """Guards keys and values left by rejected drafts or by a tree's other branches, in any layer."""
    proposer, seen = PROPOSERS[name](), []
    original, start = proposer.propose, proposer.start

    def look(text, *rest):
        fresh = KVCache(TARGET.config, dtype=torch.float64)
        TARGET.hidden(torch.tensor([text[:-1]]), fresh)
        cache = seen[0]
        assert cache.length == len(text) - 1
        for layer in range(TARGET.config.num_layers):
            assert (cache.keys(layer) - fresh.keys(layer)).abs().max() < 1e-10
            assert (cache.values(layer) - fresh.values(layer)).abs().max() < 1e-10
        return original(text, *rest)

    proposer.start = lambda model, cache: (seen.append(cache), start(model, cache))
    proposer.propose = look
    speculative(TARGET, [5, 17, 80], 24, proposer)
    assert seen


def test_a_right_draft_gives_one_more_than_it_holds_and_a_wrong_one_gives_one():
    assert [len(step.emitted) for step in speculative(TARGET, [5], 13, Scripted(right)).trace] == [1, 4, 4, 4]
    assert speculative(TARGET, [5], 9, Scripted(wrong)).stats.target_passes == 9


def test_first_layers_run_once_for_each_token():
    """LayerSkip's point: verification takes up the drafts' states instead of running the first layers again."""
    model = tiny_model(seed=3, dtype=torch.float64, num_layers=4, max_positions=64)
    rows = Counter()
    for layer, block in enumerate(model.layers):
        block.register_forward_pre_hook(lambda module, args, layer=layer: rows.update({layer: args[0].shape[1]}))
    out = speculative(model, [5, 17, 80], 20, SelfSpeculative(2, 3))
    fed = sum(step.fed for step in out.trace)
    assert rows == {layer: fed for layer in range(4)}


def test_nodes_of_a_tree_have_the_logits_of_their_own_path():
    """Random trees: each node sees its ancestors alone, at its own position (≤ 1e-10, float64)."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        cache = KVCache(TARGET.config, dtype=torch.float64, spare=16)
        text = [5, 17, 80, 3]
        TARGET.hidden(torch.tensor([text]), cache)
        parents = [int(torch.randint(-1, i, (), generator=generator)) if i else -1 for i in range(9)]
        tokens = torch.randint(97, (9,), generator=generator).tolist()
        cache.branch(parents)
        logits = TARGET(torch.tensor([tokens]), cache)[0]
        for node in range(9):
            path, at = [], node
            while at >= 0:
                path.insert(0, tokens[at])
                at = parents[at]
            alone = TARGET(torch.tensor([text + path]))[0, -1]
            assert (logits[node] - alone).abs().max() < 1e-10


EXACT = {
    "draft model": lambda small: DraftModel(small, 2),
    "confidence stop": lambda small: DraftModel(small, 2, confidence=0.4),
    "heuristic length": lambda small: DraftModel(small, 1, schedule="heuristic"),
    "prompt lookup": lambda small: PromptLookup(2, 1),
    "self-speculation": lambda small: SelfSpeculative(1, 2),
    "tree": lambda small: Scripted(lambda text, limit: Draft([0, 1, 2], None, [-1, -1, 0]) if limit > 1 else Draft()),
    "blockwise chain": lambda small: Blockwise(random_heads(count=2)),
    "blockwise tree": lambda small: Blockwise(random_heads(count=2), [(0,), (1,), (0, 0)]),
}


def exact_law(monkeypatch, target, proposer, sampling, rule="rejection") -> Counter:
    """The law of four tokens through the whole decoder, every path of chance followed."""
    def run(fresh):
        for module in (sampling_module, speculative_module, draft_module, self_module):
            monkeypatch.setattr(module, "uniform", lambda generator=None: fresh())
        return speculative(target, [1, 2, 1, 0, 1], 4, proposer(), sampling=sampling, rule=rule).tokens

    for module in (sampling_module, draft_module, self_module, verify_module):
        monkeypatch.setattr(module, "draw", draw)
    return law_of(run)


def distance_to_target(law: Counter, target, sampling) -> float:
    """Total variation to the target's own joint law."""
    total, prompt = 0.0, [1, 2, 1, 0, 1]
    for text in itertools.product(range(target.config.vocab_size), repeat=4):
        p = sampling.probs(target(torch.tensor([prompt + list(text)])))[0]
        total += abs(law[text] - float(torch.stack([p[len(prompt) - 1 + i, x] for i, x in enumerate(text)]).prod()))
    return total / 2


@pytest.mark.parametrize("sampling", [Sampling(1.2), Sampling(0.6, top_k=2), Sampling(1.0, top_p=0.8)], ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_sampled_tokens_have_the_targets_law(name, sampling, monkeypatch):
    """The joint law of four tokens equals the target's to 1e-12: no draws, no false alarm. Guards any reuse of chance
    between positions, drafts by another law than the one reported, and a length chosen from what is then dropped."""
    target = tiny_model(seed=5, dtype=torch.float64, vocab_size=3, max_positions=16)
    small = tiny_model(seed=6, dtype=torch.float64, vocab_size=3, num_layers=1, max_positions=16)
    for rule in ("rejection", "block") if name == "draft model" else ("rejection",):
        law = exact_law(monkeypatch, target, lambda: EXACT[name](small), sampling, rule)
        assert distance_to_target(law, target, sampling) < 1e-12


class StopsBefore(DraftModel):
    """The mistake of dropping a token because of its value: looks innocent, bends the law."""

    def propose(self, *args):
        draft = super().propose(*args)
        keep = len(draft.tokens) - (len(draft.tokens) > 1 and draft.tokens[-1] == 0)
        return Draft(draft.tokens[:keep], None if draft.probs is None else draft.probs[:keep])


def test_a_length_chosen_from_what_is_dropped_bends_the_law(monkeypatch):
    """The test above can fail: this proposer must not pass it."""
    target = tiny_model(seed=5, dtype=torch.float64, vocab_size=3, max_positions=16)
    small = tiny_model(seed=6, dtype=torch.float64, vocab_size=3, num_layers=1, max_positions=16)
    law = exact_law(monkeypatch, target, lambda: StopsBefore(small, 2), Sampling(1.2))
    assert distance_to_target(law, target, Sampling(1.2)) > 1e-3


def test_heads_look_at_the_state_that_named_the_last_token():
    """Guards heads shifted by one: the first guess must be the first head's, for the token after the last."""
    heads = random_heads()
    text = [5, 17, 80, 3]
    out = speculative(TARGET, text, 6, Blockwise(heads))
    state = TARGET.hidden(torch.tensor([text]))[0, -1]              # it named the first new token
    guesses = heads.logits(TARGET, state).argmax(-1).tolist()
    assert list(out.trace[1].drafted) == guesses


def test_the_chosen_tree_is_the_best_one():
    """Against all trees of so many nodes, by the expected number of accepted tokens; parents come before children."""
    accuracy = torch.tensor([[0.6, 0.2, 0.1], [0.5, 0.3, 0.05]])
    paths = [(a,) for a in range(3)] + [(a, b) for a in range(3) for b in range(3)]
    chance = lambda path: float(torch.stack([accuracy[k, rank] for k, rank in enumerate(path)]).prod())     # noqa: E731
    for nodes in (1, 2, 4, 6):
        trees = [tree for tree in itertools.combinations(paths, nodes)
                 if all(p[:-1] in tree or len(p) == 1 for p in tree)]
        best = max(sum(map(chance, tree)) for tree in trees)
        chosen = choose_tree(accuracy, nodes)
        assert sum(map(chance, chosen)) == pytest.approx(best)
        assert all(len(p) == 1 or p[:-1] in chosen[:i] for i, p in enumerate(chosen))
        Blockwise(random_heads(count=2), chosen)


def test_lookup_finds_what_followed():
    """Against brute force on random texts: longest n-gram first, then the latest with enough after it."""
    assert lookup([1, 2, 3, 9, 1, 2, 3, 7, 5, 1, 2, 3], 2, 3) == [7, 5]
    assert lookup([1, 2, 3], 4, 3) == []
    assert lookup([7, 7, 7, 7], 2, 1) == [7, 7]
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        text = torch.randint(3, (int(torch.randint(1, 14, (), generator=generator)),), generator=generator).tolist()
        found = []
        for n in range(min(3, len(text) - 1), 0, -1):
            after = [text[i + n : i + n + 3] for i in range(len(text) - n) if text[i : i + n] == text[-n:]]
            longest = max(map(len, after), default=0)
            found = next((tokens for tokens in reversed(after) if len(tokens) == longest), [])
            if found:
                break
        assert lookup(text, 3, 3) == found, text


@pytest.mark.parametrize(("call", "says"), [
    (lambda: DraftModel(SMALL, 0), "at least one token"),
    (lambda: DraftModel(SMALL, 2, schedule="lazy"), "schedule is"),
    (lambda: DraftModel(SMALL, 2, confidence=1.0), "confidence lies in"),
    (lambda: Blockwise(random_heads(), [(0, 0)]), "what it continues must be in the tree"),
    (lambda: Blockwise(random_heads(count=1), [(0,), (0, 0)]), "at most as deep as there are heads"),
    (lambda: Blockwise(random_heads(), []), "1 to 64 different paths"),
    (lambda: speculative(TARGET, [5], 4, Blockwise(random_heads(width=8))), "width 8"),
    (lambda: choose_tree(torch.ones(2, 2), 0), "at least one node"),
    (lambda: PromptLookup(0), "num_tokens"),
    (lambda: PromptLookup(4, 0), "ngram"),
    (lambda: SelfSpeculative(0), "exit_layer"),
    (lambda: speculative(TARGET, [5], 4, SelfSpeculative(4)), "below the model's 4 layers"),
    (lambda: speculative(TARGET, [5], 4, DraftModel(tiny_model(vocab_size=50))), "do not share a tokenizer"),
    (lambda: speculative(TARGET, [5], 4, PromptLookup(), rule="hope"), "rule is one of"),
    (lambda: speculative(TARGET, [5], 4, Scripted(lambda text, limit: Draft([1] * 9))), "there is room for"),
    (lambda: speculative(TARGET, [], 4, PromptLookup()), "prompt is empty"),
])
def test_bad_input(call, says):
    assert_clear_error(call, ValueError, says)
