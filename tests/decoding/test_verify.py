"""Acceptance rules: the exact law of their output, by following every path of chance; corners; clear errors.

A `law_...` gives total variations between what a rule puts out and the target's own law; a `check_...` asserts.
`mutants.speculative` names, for each wrong version, the one of them that rejects it.
"""
import math
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from core_helpers import assert_clear_error, error_of, one_thread  # noqa: F401
from law import draw, language, law, output_law, total_variation
from mutants import speculative as wrong

from minilm.decoding import verify
from minilm.sampling import Sampling

SAMPLINGS = [Sampling(t, k, p) for t in (0.5, 1.0, 1.7) for k in (0, 2) for p in (1.0, 0.7)]
GREEDY = Sampling(0.0)
LOSSLESS = ("rejection_sample", "block_verify")
SIZES = [(8, 1), (4, 2), (3, 3)]                            # vocabulary, drafts


@pytest.fixture(autouse=True)
def all_paths(monkeypatch):
    """Draws follow all paths where the uniform is a `Chance`."""
    one = verify.draw
    monkeypatch.setattr(verify, "draw", lambda p, u: one(p, u) if isinstance(u, float) else draw(p, u))


def distances(name: str, p_samplings, q_samplings, sizes=SIZES) -> Iterator[float]:
    """Of the rule of that name from the target, over random languages p and q, one pair for each setting."""
    for vocab, n in sizes:
        for seed, (sampling, draft_sampling) in enumerate(zip(p_samplings, q_samplings, strict=True)):
            p, q = language(vocab, n, sampling, 10 * seed), language(vocab, n, draft_sampling, 10 * seed + 1)
            yield total_variation(output_law(getattr(verify, name), p, q, n), p, n + 1)


# --- laws: each gives its distances one by one, so that a wrong version is known by the first that shows it ---

def law_rejection(sizes=SIZES):
    """Temperature, top-k and top-p applied to target and draft alike."""
    return distances("rejection_sample", SAMPLINGS, SAMPLINGS, sizes)


def law_block(sizes=SIZES):
    return distances("block_verify", SAMPLINGS, SAMPLINGS, sizes)


def law_other_settings():
    """The draft may be drawn at another temperature, and cut elsewhere, as long as q says so."""
    for name in LOSSLESS:
        yield from distances(name, SAMPLINGS, SAMPLINGS[5:] + SAMPLINGS[:5], [(4, 2)])


def law_chosen():
    """Greedy and n-gram drafts are chosen, not drawn: q is one-hot, p is sampled."""
    for name in LOSSLESS:
        yield from distances(name, SAMPLINGS, [GREEDY] * 12, [(8, 2), (4, 3)])


def law_rounded():
    """Probabilities that sum to 1 but for rounding, as bfloat16's do: drawing makes up for it, so must verifying."""
    off_p, off_q = torch.tensor([[0.997], [1.004], [0.9975]]), torch.tensor([[1.004], [0.997]])
    for name in LOSSLESS:
        p, q = (language(4, 2, Sampling(1.0), seed) for seed in (0, 1))
        off = lambda ps, qs, *chance, name=name: getattr(verify, name)(ps * off_p, qs * off_q, *chance)    # noqa: E731
        yield total_variation(output_law(off, p, q, 2), p, 3)


def random_tree(vocab: int, nodes: int, seed: int, generator: torch.Generator) -> tuple[list[int], ...]:
    """(paths, parents) of up to `nodes` nodes, 3 deep, siblings different; every third seed is one bushy level."""
    paths: list[tuple[int, ...]] = []
    for _ in range(4 * nodes):
        parent = paths[int(torch.randint(len(paths), (), generator=generator))] if paths and seed % 3 else ()
        child = (*(parent if len(parent) < 3 else ()), int(torch.randint(vocab, (), generator=generator)))
        if child not in paths and len(paths) < nodes:
            paths.append(child)
    return paths, [paths.index(path[:-1]) if len(path) > 1 else -1 for path in paths]


def law_tree():
    """Random trees over 4 tokens, up to 7 nodes: siblings tried in turn, zeroed and renormalised."""
    generator = torch.Generator().manual_seed(0)
    for seed, sampling in enumerate(SAMPLINGS):
        p = language(4, 3, sampling, seed)
        paths, parents = random_tree(4, 7, seed, generator)
        rows = torch.stack([p[()], *(p[path] for path in paths)])
        out: Counter = Counter()
        for taken, share in law(lambda u, rows=rows, paths=paths, parents=parents: verify.tree(
                rows, [path[-1] for path in paths], parents, u), len(paths) + 1).items():
            out[tuple([paths[i][-1] for i in taken[:-1]] + [taken[-1]])] += share
        yield total_variation(out, p, 4)


LAWS = {one.__name__: one for one in (law_rejection, law_block, law_other_settings, law_chosen, law_rounded, law_tree)}


# --- what a law does not show: how much is accepted, corners, errors ---

def check_acceptance():
    """Draft 1 is accepted with Σ min(p, q) (Leviathan et al. 2023, theorem 3.5); no rule can be right and accept more.
    Rejected, it is replaced: n accepted drafts give n + 1 tokens."""
    for seed, sampling in enumerate(SAMPLINGS):
        p, q = language(4, 2, sampling, 2 * seed), language(4, 2, sampling, 2 * seed + 1)
        laws = output_law(verify.rejection_sample, p, q, 2)
        expected = float(torch.minimum(p[()], q[()]).sum())
        got = 1 - sum(share for text, share in laws.items() if len(text) == 1)
        assert abs(got - expected) < 1e-12
        assert set(map(len, laws)) <= {1, 2, 3}


def check_block_accepts_more():
    """Sun et al. 2024, theorem 2: the expected number of accepted tokens is at least rejection sampling's."""
    gains = []
    for seed in range(6):
        p, q = (language(3, 3, Sampling(1.0), 2 * seed + k) for k in range(2))
        lengths = [sum(len(text) * share for text, share in output_law(getattr(verify, name), p, q, 3).items())
                   for name in LOSSLESS]
        gains.append(lengths[1] - lengths[0])
    assert min(gains) > -1e-12 and max(gains) > 1e-3


def check_tree_accepts():
    """A node is reached with the product of its path's p, whatever its siblings: that is all a tree can accept."""
    p = language(4, 2, Sampling(1.0), 3)
    paths = [(0,), (2,), (1,), (2, 3), (2, 1)]
    rows = torch.stack([p[()], *(p[path] for path in paths)])
    laws = law(lambda u: verify.tree(rows, [0, 2, 1, 3, 1], [-1, -1, -1, 1, 1], u), 6)
    for node, path in enumerate(paths):
        reached = sum(share for taken, share in laws.items() if node in taken[:-1])
        assert abs(reached - math.prod(float(p[path[:i]][x]) for i, x in enumerate(path))) < 1e-12


def check_typical():
    """Medusa's criterion, number by number: a sure p asks for ε, an unsure one for δ · exp(-H)."""
    sure, unsure = [0.97, 0.02, 0.01, 0.0], [0.3, 0.3, 0.35, 0.05]
    after = torch.tensor([sure, unsure, [0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    assert verify.typical(after, [0, 0], 0.5) == [0, 0, 1]
    assert verify.typical(after, [1, 0], 0.0) == [0]                                # 0.02 < 0.09
    assert verify.typical(after, [0, 3], 0.0) == [0, 0]                             # 0.05 < 0.3 · exp(-1.24) = 0.087
    assert verify.typical(after, [0, 3], 0.0, delta=0.1) == [0, 3, 1]               # 0.05 > 0.029
    assert verify.typical(after, [1, 0], 0.0, epsilon=0.01) == [1, 0, 1]            # 0.02 > 0.01


def check_greedy():
    target = torch.eye(5)[[3, 1, 4]]
    assert verify.greedy(target, [3, 1]) == [3, 1, 4]
    assert verify.greedy(target, [3, 2]) == [3, 1]
    assert verify.greedy(target, [0, 1]) == [3]
    assert verify.greedy(target, []) == [3]


def check_corners():
    """p = q accepts all; disjoint supports reject at once; no impossible token even where the uniform is exactly 0."""
    p = torch.tensor([[0.5, 0.5, 0, 0], [0.25, 0.75, 0, 0]], dtype=torch.float64)
    q = torch.tensor([[0, 0, 0.5, 0.5]], dtype=torch.float64)
    one_hot = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0]])
    for rule in (getattr(verify, name) for name in LOSSLESS):
        assert rule(p, p[:1], [1], [0.999, 0.0]) == [1, 0]
        assert rule(p, q, [3], [0.0, 0.0]) == [0]
        assert rule(p, q, [2], [0.0, 0.999999]) == [1]
        assert rule(one_hot, one_hot[:1], [1], [0.5, 0.0]) == [1, 2]
        assert rule(p.flip(1), q.flip(1), [1], [0.0, 0.0]) == [2]                   # token 0, too, is impossible
    assert verify.tree(p, [2], [-1], [0.0, 0.0]) == [0]                             # node 0 refused, then token 0
    assert verify.tree(one_hot, [1], [-1], [0.999, 0.0]) == [0, 2]
    both = torch.cat((p[:1], p))
    assert verify.tree(both, [0, 1], [-1, -1], [0.5, 0.999999, 0.0]) == [1, 0]      # siblings that cover all of p


def check_bad_input():
    p, q = torch.full((2, 4), 0.25), torch.full((1, 4), 0.25)
    nan, negative, infinite = p.clone(), p.clone(), p.clone()
    nan[0, 0], infinite[0, 0] = float("nan"), float("inf")
    negative[0] = torch.tensor([-0.25, 0.5, 0.5, 0.25])
    for rule in (getattr(verify, name) for name in LOSSLESS):
        for args, says in [
            ((p[:1], q[:0], [], [0.5]), "no token was drafted"),
            ((p[:1], q, [1], [0.5, 0.5]), "1 drafts need target_probs[2, V]"),
            ((p, q[:, :3], [1], [0.5, 0.5]), "draft_probs[1, V]"),
            ((p, q, [1], [0.5]), "2 uniforms"),
            ((nan, q, [1], [0.5, 0.5]), "target_probs are no probabilities"),
            ((infinite, q, [1], [0.5, 0.5]), "target_probs are no probabilities"),
            ((negative, q, [1], [0.5, 0.5]), "target_probs are no probabilities"),
            ((p, 2 * q, [1], [0.5, 0.5]), "draft_probs are no probabilities"),
            ((p, q, [4], [0.5, 0.5]), "token 4"),
            ((p, q, [-1], [0.5, 0.5]), "token -1"),
            ((p, torch.eye(4)[:1], [1], [0.5, 0.5]), "probability 0"),
        ]:
            assert_clear_error(lambda rule=rule, args=args: rule(*args), ValueError, says)
    for call, says in [
        (lambda: verify.tree(nan, [1], [-1], [0.5, 0.5]), "target_probs are no probabilities"),
        (lambda: verify.tree(p, [1], [-1], [0.5]), "2 uniforms"),
        (lambda: verify.tree(p, [1], [], [0.5, 0.5]), "as many parents; it has 0"),
        (lambda: verify.tree(p, [1], [0], [0.5, 0.5]), "it continues 0"),
        (lambda: verify.tree(p, [7], [-1], [0.5, 0.5]), "token 7"),
        (lambda: verify.typical(negative, [1], 0.5), "target_probs are no probabilities"),
        (lambda: verify.typical(p, [1, 1], 0.5), "2 drafts need target_probs[3, V]"),
    ]:
        assert_clear_error(call, ValueError, says)


def check_bfloat16():
    """bfloat16's probabilities sum to 1 within 0.006 or so: they are probabilities all the same."""
    logits = 2 * torch.randn(200, 2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for p in Sampling(0.7, 5, 0.9).probs(logits.bfloat16()):
        for rule in (getattr(verify, name) for name in LOSSLESS):
            assert error_of(lambda rule=rule, p=p: rule(p, p[:1], [int(p[0].argmax())], [0.5, 0.5])) is None


CHECKS = {check.__name__: check for check in (
    check_acceptance, check_bfloat16, check_block_accepts_more, check_tree_accepts, check_typical, check_greedy,
    check_corners, check_bad_input)}


@pytest.mark.parametrize("name", LAWS)
def test_the_output_law_is_the_targets(name):
    """Guards every way to bend the distribution: temperature {0.5, 1, 1.7} × top-k × top-p, drafts drawn or chosen."""
    assert max(LAWS[name]()) < 1e-12


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_larger_vocabulary(name):
    """The same law over 8 tokens and 2 drafts."""
    assert max(distances(name, [Sampling(1.0)], [Sampling(1.7)], [(8, 2)])) < 1e-12


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards what a law does not show; see each check."""
    check()


@pytest.mark.parametrize("mutant", wrong.VERIFY, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards laws and checks that let a wrong rule pass; a law must be more than 1e-3 away."""
    mutant.apply(monkeypatch)
    if mutant.check in LAWS:
        assert any(distance > 1e-3 for distance in LAWS[mutant.check]())
    else:
        with pytest.raises(AssertionError):
            CHECKS[mutant.check]()


def test_typical_acceptance_is_not_exact():
    """It is shown as lossy, so it must be: otherwise the lesson's measurement measures nothing."""
    p, q = language(4, 2, Sampling(1.0), 0), language(4, 2, Sampling(1.0), 1)
    rule = lambda ps, qs, drafted, u: verify.typical(ps, drafted, u[-1])            # noqa: E731
    assert total_variation(output_law(rule, p, q, 2), p, 3) > 1e-2
