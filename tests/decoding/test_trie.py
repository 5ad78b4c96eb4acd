"""The trie: what it retrieves against brute force, its budget, texts kept and told apart, and the loop it is in."""
import importlib
import itertools
import random
from collections import Counter

import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from law import draw, law_of
from mutants import lookahead as wrong

import minilm.decoding.verify as verify_module
import minilm.sampling as sampling_module
from minilm.decoding import autoregressive
from minilm.sampling import Sampling

trie_module = importlib.import_module("minilm.decoding.proposers.trie")
speculative_module = importlib.import_module("minilm.decoding.speculative")
Trie, speculative = trie_module.Trie, speculative_module.speculative
ROOM = 64
MODEL = tiny_model(seed=13, dtype=torch.float64, tie_embeddings=False, max_positions=ROOM)   # varied texts with loops
PROMPTS = [[5, 17, 80], [1], [9, 9, 2, 44] * 3]
SHAPES = trie_module.SHAPES


# --- brute force ---

def paths_of(draft) -> list[tuple[int, ...]]:
    """Each node's way from the text."""
    paths = []
    parents = range(-1, len(draft.tokens) - 1) if draft.parents is None else draft.parents
    for node, (token, parent) in enumerate(zip(draft.tokens, parents, strict=True)):
        assert -1 <= parent < node
        paths.append((*(paths[parent] if parent >= 0 else ()), token))
    assert len(set(paths)) == len(paths), "siblings differ"
    return paths


def count_all(text, longest) -> tuple[Counter, dict]:
    """How often each n-gram occurs, and where it last begins."""
    counts, starts = Counter(), {}
    for start in range(len(text)):
        for end in range(start + 1, min(len(text), start + longest) + 1):
            counts[tuple(text[start:end])] += 1
            starts[tuple(text[start:end])] = start
    return counts, starts


def brute_force(counts, starts, text, trie, limit) -> list[tuple[int, ...]]:
    """The paths that should be drafted: rank what follows the longest end that anything follows."""
    reach = min(trie.branch, limit)
    for n in range(min(trie.match, len(text)), 0, -1):
        end = tuple(text[-n:])
        after = [gram for gram in counts if gram[:n] == end and n < len(gram)]
        if after:
            break
    else:
        return []
    rank = lambda gram: (-counts[gram], -starts[gram], len(gram))                               # noqa: E731
    within = sorted((gram for gram in after if len(gram) <= n + reach), key=rank)
    if trie.shape == "tree":
        return [gram[n:] for gram in within[: trie.num_tokens]]

    def chain(gram, length):
        while len(gram) < length and (longer := [g for g in within if g[:-1] == gram]):
            gram = min(longer, key=rank)
        return [gram[n:i] for i in range(n + 1, len(gram) + 1)]

    if trie.shape == "single":
        return chain(end, n + min(reach, trie.num_tokens))
    firsts = [gram for gram in within if len(gram) == n + 1][: trie.branches]
    return [path for gram in firsts for path in chain(gram, n + reach)][: trie.num_tokens]


def check_retrieval(strings=10_000):
    """Random strings, learnt piece by piece: the same drafts, in the same order, as by counting all n-grams."""
    rng, drafted = random.Random(0), Counter()
    for number in range(strings):
        trie = Trie(rng.randrange(1, 8), branch=rng.randrange(1, 5), match=rng.randrange(1, 4),
                    branches=rng.randrange(1, 4), shape=SHAPES[number % 3])
        text = [rng.randrange(2 + number % 3) for _ in range(rng.randrange(1, 16))]
        cut, limit = rng.randrange(len(text)), rng.randrange(6)
        trie.learn(text[:cut])
        trie.learn(text[cut:])
        paths = paths_of(trie.retrieve(limit))
        counts, starts = count_all(text, trie.match + trie.branch)
        assert trie.size == len(counts)
        assert paths == (brute_force(counts, starts, text, trie, limit) if limit else []), (text, trie.__dict__)
        drafted[trie.shape] += bool(paths)
    assert min(drafted[shape] for shape in SHAPES) > strings / 6


def check_budget():
    """Never more nodes than the budget; what is left is a tree whose parents rank first; frequent n-grams survive."""
    rng = random.Random(0)
    for nodes, decay in ((6, 0.5), (40, 0.5), (100, 0.9), (100, 1.0)):
        trie = Trie(nodes=nodes, match=3, branch=3, decay=decay)
        for i in range(1500):
            trie.learn([7, 8] if i % 4 == 0 and nodes > 6 else [10 + rng.randrange(12)])
            left = trie._all()
            assert len(left) == trie.size <= nodes
            assert all(node.parent.depth == node.depth - 1 for node in left)
            assert all(node.parent is trie.root or node.parent.rank < node.rank for node in left)
            if i > 40 and nodes > 6:
                assert 7 in trie.root.children, "the most frequent token was forgotten"
        trie.learn([7])
        if nodes > 6:
            assert trie.retrieve(1).tokens[:1] == [8]


def check_fades():
    """A squeeze halves the counts: what came often long ago gives way to what comes now."""
    trie = Trie(1, nodes=8, match=1, branch=1, decay=0.25)
    trie.learn([1, 2] * 3)
    before = trie.root.children[1].count
    while trie.size >= 4:
        size = trie.size
        trie.learn([50 + trie.seen])
        if trie.size < size:
            break
    assert trie.root.children[1].count == before / 4


def check_kept_texts():
    """keep=True: what was seen stays, faded, and `warm` says so; without it, and after `reset`, every text is cold."""
    def draft_after(trie, text):
        trie.start(MODEL, None)
        return trie.propose(text, 5, None, Sampling(), None).tokens, trie.warm

    for keep in (True, False):
        trie = Trie(1, match=1, branch=1, keep=keep)
        assert draft_after(trie, [1, 2, 1, 2, 1, 2]) == ([1], 0)
        assert draft_after(trie, [3, 1]) == (([2], 6) if keep else ([], 0))
        assert draft_after(trie, [4, 5]) == ([], 8 if keep else 0)
        assert draft_after(trie, [1, 9, 1, 9, 1]) == ([9], 10 if keep else 0), "3 faded thrice is less than 2"
        trie.reset()
        assert trie.size == 0 and draft_after(trie, [2]) == ([], 0)
    trie = Trie(1, match=1, branch=1, keep=True)
    trie.insert([6, 7])
    trie.insert([8, 6])
    assert draft_after(trie, [8]) == ([6], 4)
    assert draft_after(trie, [7]) == ([], 5), "7 and 8 stood next to each other in no text"


# --- in the loop ---

def tries() -> dict:
    return {shape: Trie(6, branch=4, match=3, branches=3, shape=shape) for shape in SHAPES} | {
        "small": Trie(6, branch=4, match=3, nodes=20), "kept": Trie(6, branch=4, match=3, keep=True)}


def check_shares_the_loop():
    """Greedy: the target's own text up to the last position; each token is learnt once; the end token ends."""
    for name, trie in tries().items():
        saved = 0
        for prompt in PROMPTS[::2]:
            for new in (0, 1, 2, ROOM - len(prompt)):
                plain = autoregressive(MODEL, prompt, new).tokens
                out = speculative(MODEL, prompt, new, trie)
                assert out.tokens == plain, (name, new)
                assert new < 3 or (trie.read <= ROOM and trie.seen - trie.warm == trie.read)
                saved += new - len(out.trace)
        assert saved > 15, name
        for eos in sorted(set(plain[10:]))[:5]:
            assert speculative(MODEL, prompt, len(plain), trie, eos=eos).tokens == plain[: plain.index(eos) + 1]


CHECKS = {check.__name__: check for check in (check_retrieval, check_budget, check_fades, check_kept_texts,
                                              check_shares_the_loop)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards what the trie promises; see each check."""
    check()


@pytest.mark.parametrize("mutant", wrong.TRIE, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let a wrong version pass."""
    mutant.apply(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        CHECKS[mutant.check](*([2000] if mutant.check == "check_retrieval" else []))


def test_a_warm_trie_saves_more():
    """The second time the same request comes, the answer is in the trie: a pass for many tokens."""
    trie, prompt = Trie(16, branch=16, match=4, shape="single", keep=True), PROMPTS[2]
    cold = speculative(MODEL, prompt, 50, trie)
    assert trie.warm == 0
    warm = speculative(MODEL, prompt, 50, trie)
    assert trie.warm > 50 and cold.tokens == warm.tokens
    assert len(warm.trace) <= 8 < len(cold.trace)


def test_nothing_that_matches_costs_nothing():
    """New tokens only: no draft, so every pass is a plain one; the trie grows by at most match + branch a token."""
    trie = Trie(branch=8, match=4)
    for i in range(300):
        trie.learn([i])
        assert not trie.retrieve(8).tokens and trie.size <= 12 * (i + 1)
    unlike = speculative(MODEL, [5, 17, 80], 3, Trie())
    assert [step.fed for step in unlike.trace] == [3, 1, 1]


@pytest.mark.parametrize("shape", SHAPES)
def test_sampled_tokens_have_the_targets_law(shape, monkeypatch):
    """The joint law of four tokens equals the target's to 1e-12, every path of chance followed."""
    target = tiny_model(seed=5, dtype=torch.float64, vocab_size=3, tie_embeddings=False, max_positions=16)
    prompt, sampling, kept = [1, 2, 1, 0, 1, 2, 2], Sampling(1.2), set()
    for module in (sampling_module, verify_module):
        monkeypatch.setattr(module, "draw", draw)

    def decode(fresh):
        for module in (sampling_module, speculative_module):
            monkeypatch.setattr(module, "uniform", lambda generator=None: fresh())
        out = speculative(target, prompt, 4, Trie(4, branch=3, match=2, branches=2, shape=shape), sampling=sampling)
        kept.update(len(step.accepted) for step in out.trace[1:])
        return out.tokens

    law, distance = law_of(decode), 0.0
    for text in itertools.product(range(3), repeat=4):
        p = sampling.probs(target(torch.tensor([prompt + list(text)])))[0]
        distance += abs(law[text] - float(p[range(len(prompt) - 1, len(prompt) + 3), list(text)].prod()))
    assert distance / 2 < 1e-12 and kept == {0, 1, 2}


@pytest.mark.parametrize(("call", "says"), [
    (lambda: Trie(0), "num_tokens must be a whole number from 1 to 64"),
    (lambda: Trie(65), "from 1 to 64; it is 65"),
    (lambda: Trie(branch=0), "branch must be a whole number"),
    (lambda: Trie(match=0), "match must be a whole number"),
    (lambda: Trie(branches=1.5), "branches must be a whole number"),
    (lambda: Trie(nodes=0), "nodes must be a whole number of at least 1; it is 0"),
    (lambda: Trie(nodes=11), "does not hold one n-gram of match + branch = 12"),
    (lambda: Trie(decay=0), "decay lies in (0, 1]"),
    (lambda: Trie(shape="bush"), "shape is one of tree, parallel, single"),
])
def test_bad_input(call, says):
    assert_clear_error(call, ValueError, says)
