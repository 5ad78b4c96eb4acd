"""Acceptance rules: the exact law of their output, by following every path of chance; corners; clear errors."""
import itertools
from collections import Counter

import pytest
import torch
from core_helpers import assert_clear_error, one_thread  # noqa: F401
from law import draw, law

from minilm.decoding import verify
from minilm.sampling import Sampling

SAMPLINGS = [Sampling(t, k, p) for t in (0.5, 1.0, 1.7) for k in (0, 2) for p in (1.0, 0.7)]
LOSSLESS = {"rejection": verify.rejection_sample, "block": verify.block_verify}


def conditionals(vocab: int, depth: int, sampling: Sampling, seed: int) -> dict[tuple[int, ...], torch.Tensor]:
    """A random language model: probabilities [V] after every text of up to `depth` tokens."""
    generator = torch.Generator().manual_seed(seed)
    return {text: sampling.probs(2 * torch.randn(vocab, generator=generator, dtype=torch.float64))
            for length in range(depth + 1) for text in itertools.product(range(vocab), repeat=length)}


def completed(laws: Counter, p: dict, length: int) -> Counter:
    """The law of the first `length` tokens when shorter outcomes go on as the target would."""
    out: Counter = Counter()
    for start, probability in laws.items():
        texts = {start: probability}
        for _ in range(length - len(start)):
            texts = {(*text, x): share * float(p[text][x]) for text, share in texts.items()
                     for x in range(len(p[text]))}
        for text, share in texts.items():
            out[text] += share
    return out


def output_law(rule, p: dict, q: dict, vocab: int, n: int) -> Counter:
    """The law of a rule's output over all drafts of n tokens from q and all chance."""
    out: Counter = Counter()
    for drafted in itertools.product(range(vocab), repeat=n):
        share = 1.0
        for i in range(n):
            share *= float(q[drafted[:i]][drafted[i]])
        if share:
            ps, qs = (torch.stack([m[drafted[:i]] for i in range(k)]) for m, k in ((p, n + 1), (q, n)))
            for outcome, probability in law(lambda u, ps=ps, qs=qs, d=drafted: rule(ps, qs, d, u), n + 1).items():
                out[outcome] += share * probability
    return out


def distance(rule, p: dict, q: dict, vocab: int, n: int) -> float:
    """Total variation between the rule's law of n + 1 tokens and the target's own."""
    got = completed(output_law(rule, p, q, vocab, n), p, n + 1)
    target = completed(Counter({(): 1.0}), p, n + 1)
    return sum(abs(got[text] - target[text]) for text in {*got, *target}) / 2


@pytest.fixture
def all_paths(monkeypatch):
    """Draws follow all paths instead of one."""
    monkeypatch.setattr(verify, "draw", draw)


@pytest.mark.usefixtures("all_paths")
@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize(("vocab", "n"), [(8, 1), (4, 2), (3, 3)])
def test_the_output_law_is_the_targets(name, vocab, n):
    """Guards every way to bend the distribution; the sampling settings are applied to draft and target alike."""
    for seed, sampling in enumerate(SAMPLINGS):
        p, q = (conditionals(vocab, n, sampling, 10 * seed + k) for k in range(2))
        assert distance(LOSSLESS[name], p, q, vocab, n) < 1e-12, sampling


@pytest.mark.usefixtures("all_paths")
@pytest.mark.parametrize("name", LOSSLESS)
def test_drafts_that_were_chosen_are_one_hot(name):
    """Greedy and n-gram drafts: q is one-hot, and the law is still the target's."""
    for seed in range(4):
        p = conditionals(4, 2, Sampling(1.0), seed)
        q = conditionals(4, 2, Sampling(0.0), 100 + seed)
        assert distance(LOSSLESS[name], p, q, 4, 2) < 1e-12


@pytest.mark.usefixtures("all_paths")
def test_block_verification_accepts_no_fewer():
    """Sun et al. 2024, theorem 2: the expected number of accepted tokens is at least rejection sampling's."""
    gains = []
    for seed in range(6):
        p, q = (conditionals(3, 3, Sampling(1.0), 2 * seed + k) for k in range(2))
        lengths = [sum(len(text) * share for text, share in output_law(rule, p, q, 3, 3).items())
                   for rule in LOSSLESS.values()]
        gains.append(lengths[1] - lengths[0])
    assert min(gains) > -1e-12 and max(gains) > 1e-3


@pytest.mark.usefixtures("all_paths")
def test_the_trees_law_is_the_targets():
    """Random trees over 4 tokens, up to 7 nodes: siblings tried in turn, zeroed and renormalised."""
    generator = torch.Generator().manual_seed(0)
    for seed in range(12):
        p = conditionals(4, 3, Sampling(1.0), seed)
        nodes: list[tuple[int, ...]] = []
        while len(nodes) < 7:
            parent = nodes[int(torch.randint(len(nodes), (), generator=generator))] if nodes and seed % 3 else ()
            parent = parent if len(parent) < 3 else ()
            child = (*parent, int(torch.randint(4, (), generator=generator)))
            if child not in nodes:
                nodes.append(child)
            elif not seed % 3 and len({node for node in nodes if len(node) == 1}) == 4:
                break
        parents = [nodes.index(node[:-1]) if len(node) > 1 else -1 for node in nodes]
        rows = torch.stack([p[()], *(p[node] for node in nodes)])
        out: Counter = Counter()
        for path, share in law(lambda u, rows=rows, nodes=nodes, parents=parents: verify.tree(
                rows, [node[-1] for node in nodes], parents, u), len(nodes) + 1).items():
            out[tuple([nodes[i][-1] for i in path[:-1]] + [path[-1]])] += share
        got, target = completed(out, p, 4), completed(Counter({(): 1.0}), p, 4)
        assert sum(abs(got[text] - target[text]) for text in target) / 2 < 1e-12


@pytest.mark.usefixtures("all_paths")
def test_typical_acceptance_is_not_exact():
    """It is shown as lossy, so it must be: otherwise the lesson's measurement measures nothing."""
    p, q = conditionals(4, 2, Sampling(1.0), 0), conditionals(4, 2, Sampling(1.0), 1)
    rule = lambda ps, qs, drafted, u: verify.typical(ps, drafted, u[-1])            # noqa: E731
    assert distance(rule, p, q, 4, 2) > 1e-2


def test_greedy_keeps_the_targets_own_words():
    target = torch.eye(5)[[3, 1, 4]]
    assert verify.greedy(target, [3, 1]) == [3, 1, 4]
    assert verify.greedy(target, [3, 2]) == [3, 1]
    assert verify.greedy(target, [0, 1]) == [3]


@pytest.mark.parametrize("rule", LOSSLESS.values(), ids=LOSSLESS)
def test_corners(rule):
    """p = q accepts all; disjoint supports reject at once; no impossible token even where the uniform is exactly 0."""
    p = torch.tensor([[0.5, 0.5, 0, 0], [0.25, 0.75, 0, 0]], dtype=torch.float64)
    assert rule(p, p[:1], [1], [0.999, 0.0]) == [1, 0]
    q = torch.tensor([[0, 0, 0.5, 0.5]], dtype=torch.float64)
    assert rule(p, q, [3], [0.0, 0.0]) == [0]
    assert rule(p, q, [2], [0.0, 0.999999]) == [1]
    one_hot = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0]])
    assert rule(one_hot, one_hot[:1], [1], [0.5, 0.0]) == [1, 2]


@pytest.mark.parametrize("rule", LOSSLESS.values(), ids=LOSSLESS)
def test_bad_input(rule):
    p, q = torch.full((2, 4), 0.25), torch.full((1, 4), 0.25)
    nan, negative = p.clone(), p.clone()
    nan[0, 0] = float("nan")
    negative[0] = torch.tensor([-0.25, 0.5, 0.5, 0.25])
    for call, says in [
        (lambda: rule(p[:1], q[:0], [], [0.5]), "no token was drafted"),
        (lambda: rule(p[:1], q, [1], [0.5, 0.5]), "1 drafts need target_probs[2, V]"),
        (lambda: rule(p, q, [1], [0.5]), "2 uniforms"),
        (lambda: rule(nan, q, [1], [0.5, 0.5]), "target_probs are no probabilities"),
        (lambda: rule(negative, q, [1], [0.5, 0.5]), "target_probs are no probabilities"),
        (lambda: rule(p, 2 * q, [1], [0.5, 0.5]), "draft_probs are no probabilities"),
        (lambda: rule(p, q, [4], [0.5, 0.5]), "token 4"),
        (lambda: rule(p, torch.eye(4)[:1], [1], [0.5, 0.5]), "probability 0"),
    ]:
        assert_clear_error(call, ValueError, says)
