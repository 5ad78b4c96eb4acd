"""CALM: confidences and thresholds against slow references, and calibration against what it promises."""
import functools
import math
import warnings
from fractions import Fraction

import exit_helpers as slow
import pytest
import torch
from core_helpers import assert_clear_error, one_thread  # noqa: F401
from exit_helpers import LAYERS, PROMPT, ROOM, deep_model, depths_of, ee, quantile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutants import early_exit as wrong

import minilm.decoding.calm as calm
from minilm.decoding import Decaying, Entropy, ExitClassifier, ExitHead, Saturation, SoftmaxResponse, calibrate

FULL_LENGTH = ROOM - len(PROMPT)
model_of = functools.cache(deep_model)


@functools.cache
def classifier() -> ExitHead:
    weight = torch.randn(24, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return ExitHead(weight, torch.tensor(0.3, dtype=torch.float64))


# --- slow references, one number at a time ---

def reference_classifier(x: list[float]) -> float:
    scale = 1 / math.sqrt(math.fsum(a * a for a in x) / len(x) + 1e-6)
    logit = math.fsum(a * scale * w for a, w in zip(x, classifier().weight.tolist(), strict=True)) + 0.3
    return 1 / (1 + math.exp(-logit))


# --- checks ---

def check_confidences():
    """Also at ties, all equal, logits that underflow, states at rest, opposite and of length 0."""
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: 3 * torch.randn(*shape, generator=generator, dtype=torch.float64)     # noqa: E731
    for row in slow.logit_rows():
        assert abs(SoftmaxResponse(0.5).score(slow.look_at(row)) - slow.response(row)) < 1e-12, row
    for x, before in [*zip(draw(20, 24), draw(20, 24), strict=True), *((x, x + 0.1) for x in draw(5, 24))]:
        look = ee.Look(1, x, before, None)
        assert abs(Saturation(0.5).score(look) - slow.saturation(x.tolist(), before.tolist())) < 1e-12
        for scale, within in ((1, 1e-12), (30, 1e-4)):          # no layer's scale matters
            score = ExitClassifier(0.5, classifier()).score(ee.Look(1, scale * x, before, None))
            assert abs(score - reference_classifier(x.tolist())) < within
        assert abs(Saturation(0.5).score(ee.Look(1, x, x, None)) - 1) < 1e-12
        assert Saturation(0.5).score(ee.Look(1, x, -x, None)) == 0
    assert Saturation(0.5).score(ee.Look(1, torch.zeros(4), torch.ones(4), None)) == 0
    for policy in (SoftmaxResponse, Saturation, lambda threshold: ExitClassifier(threshold, classifier())):
        assert policy(0.25).leaves(0.25) and not policy(0.25).leaves(math.nextafter(0.25, 0)), "reaches is enough"
        assert policy(0).leaves(0.0) and not policy(1).leaves(1.0), "0 always leaves and 1 never"


def check_against_the_oracle():
    """The three confidences and a decaying one, on a model, against the same rules written anew over frozen states."""
    model, tau, horizon = model_of(), 4, FULL_LENGTH
    rules = [(SoftmaxResponse, lambda x, before: slow.response(model.head(x).tolist())),
             (Saturation, lambda x, before: slow.saturation(x.tolist(), before.tolist())),
             (lambda t: ExitClassifier(t, classifier()), lambda x, before: reference_classifier(x.tolist()))]
    for policy, rule in rules:
        for share in (0.5, 0.8):
            at = quantile(share, model, policy(1)) + 1e-7       # off the score, which rounding could put on either side
            made = ee.early_exit(model, PROMPT, FULL_LENGTH, policy(at))
            want = slow.generate(model, PROMPT, FULL_LENGTH, lambda t, layer, x, before, at=at, rule=rule:
                                 rule(x, before) >= at)
            assert (made.tokens, depths_of(made)) == want and len(set(want[1])) > 2
        fades = lambda t, at=at: min(0.9 * at + 0.1 * math.exp(-tau * t / horizon), 1)      # noqa: E731
        made = ee.early_exit(model, PROMPT, FULL_LENGTH, Decaying(policy(at), tau, horizon))
        want = slow.generate(model, PROMPT, FULL_LENGTH, lambda t, layer, x, before, rule=rule, fades=fades:
                             rule(x, before) >= fades(t))
        assert (made.tokens, depths_of(made)) == want and len(set(want[1])) > 1


def check_decay():
    """Values by hand: exp(-4·5/10) = 0.135335 and so on; monotone; clipped; 1 is the full model whatever the form."""
    for t, paper, released in ((0, 0.82, 0.8), (5, 0.7335335, 0.7308268), (10, 0.7218316, 0.7214653)):
        assert abs(calm.decayed(0.8, t, 4, 10) - paper) < 1e-6
        assert abs(calm.decayed(0.8, t, 4, 10, "released") - released) < 1e-6
        for form, want in (("paper", paper), ("released", released)):
            policy = Decaying(SoftmaxResponse(0.8), 4, 10, form)
            for begun in (10, 0, 3, t):                         # whatever came before, only t counts
                policy.begin(begun)
            assert policy.leaves(want + 1e-6) and not policy.leaves(want - 1e-6)
    assert calm.decayed(1.0, 0, 4, 10) == 1 and calm.decayed(2.0, 0, 4, 10) == 1 and calm.decayed(-1, 9, 4, 10) == 0
    for form in ("paper", "released"):
        values = [calm.decayed(0.6, t, 4, 30, form) for t in range(31)]
        assert values == sorted(values, reverse=True) and values[0] > values[30]
        assert len({calm.decayed(0.6, t, 0, 30, form) for t in range(31)}) == 1, "tau 0 does not decay"
        stays = Decaying(Saturation(1), 4, 10, form)
        for t in range(20):
            stays.begin(t)
            assert not stays.leaves(1.0)
        model = model_of()
        assert set(depths_of(ee.early_exit(model, PROMPT, 9, stays))) == {LAYERS}
    bold = Decaying(SoftmaxResponse(0.0), 4, 10)                # in the paper's form, 0 decays from 0.1 as well
    bold.begin(0)
    assert bold.leaves(0.1 + 1e-9) and not bold.leaves(0.1 - 1e-9)


def check_p_value():
    """Against exact fractions, whole and broken sums, at the ends, and where the mean is rounded upwards."""
    for n, delta in ((59, Fraction(1, 20)), (100, Fraction(1, 10)), (30, Fraction(1, 3)), (400, Fraction(1, 5))):
        last = 0.0
        for quarters in [*range(0, 2 * n + 1, max(n // 40, 1)), 4 * n]:
            losses = Fraction(quarters, 4)
            got, want = calm.hb_p_value(float(losses / n), n, float(delta)), slow.p_value(losses, n, delta)
            assert abs(got - want) <= 1e-9 * want + 1e-300, (n, delta, losses)
            assert last - 1e-12 <= got <= 1, "monotone in the mean loss"
            last = got
    for k in range(1, 20):
        want = slow.p_value(Fraction(k), 100, Fraction(1, 5))
        got = calm.hb_p_value(math.nextafter(k / 100, 1), 100, 0.2)
        assert abs(got - want) < 1e-9 * want, "a last digit of rounding is not one more loss"


def check_super_uniform():
    """Under the null P(p <= u) <= u, or calibration promises nothing: exactly, for 0/1 losses, by enumeration; and in
    10,000 simulations with mean exactly delta, Bernoulli and Beta. The seeds are fixed, so it never fails by chance;
    with fresh seeds, each of the 2 · 6 comparisons at 3 standard errors would raise a false alarm at most once in 700
    (and in fact far more rarely: the bound is not tight)."""
    levels = (0.01, 0.05, 0.1, 0.2, 0.5, 0.8)
    for n, delta in ((59, 0.05), (100, 0.1), (200, 0.25)):
        chance = [math.comb(n, k) * delta**k * (1 - delta) ** (n - k) for k in range(n + 1)]
        p = [calm.hb_p_value(k / n, n, delta) for k in range(n + 1)]
        for u in levels:
            assert math.fsum(c for c, value in zip(chance, p, strict=True) if value <= u) <= u
    n, delta, runs = 100, 0.1, 10_000
    torch.manual_seed(11)
    means = {"bernoulli": (torch.rand(runs, n) < delta).double().mean(1),
             "beta": torch.distributions.Beta(0.05, 0.45).sample((runs, n)).double().clamp(0, 1).mean(1)}
    assert all(abs(mean.mean() - delta) < 1e-3 for mean in means.values())
    cached = functools.cache(lambda mean: calm.hb_p_value(mean, n, delta))
    for mean in means.values():
        p = torch.tensor([cached(value) for value in mean.tolist()])
        for u in levels:
            assert (p <= u).double().mean() <= u + 3 * math.sqrt(u * (1 - u) / runs)


def slow_walk(losses: list[list[float]], thresholds, delta, epsilon) -> list:
    passed = []
    for j, threshold in enumerate(thresholds):
        column = sum((Fraction(row[j]) for row in losses), Fraction(0))
        if slow.p_value(column, len(losses), Fraction(delta).limit_denominator(1000)) > epsilon:
            return passed
        passed.append(threshold)
    return passed


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.sampled_from([0.1, 0.2, 0.5]),
       st.sampled_from([0.05, 0.3]), st.sampled_from([0.5, 1.0]))
@example([2, 30, 0], 0.2, 0.05, 1.0)
@example([30, 2], 0.2, 0.05, 1.0)
@example([3, 3, 3], 0.1, 0.05, 1.0)         # p = 0.021: between epsilon and a third of it
def check_walk(counts, delta, epsilon, size):
    """Any losses, in any order: the walk stops at the first that fails, though a later one would pass."""
    losses = [[size * (i < count) for count in counts] for i in range(100)]
    thresholds = [1 - j / 10 for j in range(len(counts))]
    want = slow_walk(losses, thresholds, delta, epsilon)
    assert calm.certified(torch.tensor(losses), thresholds, delta=delta, epsilon=epsilon) == want
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        got = calm.calibrate(torch.tensor(losses), thresholds, delta=delta, epsilon=epsilon, full=7.0)
    assert got == (want[-1] if want else 7.0)
    assert [str(w.message)[:34] for w in told] == [] if want else ["no threshold can be certified at d"]
    assert all(w.filename == __file__ for w in told)


def check_fewest_examples():
    """59 examples without a loss certify delta = epsilon = 0.05; 58 can't, and are told so."""
    fit = {"thresholds": [0.9], "delta": 0.05, "epsilon": 0.05}
    assert calm.examples_needed(0.05, 0.05) == 59
    assert calm.calibrate(torch.zeros(59, 1), **fit) == 0.9
    assert_clear_error(lambda: calm.calibrate(torch.zeros(58, 1), **fit), ValueError, "58 examples", "at least 59")
    for delta, epsilon in ((0.1, 0.05), (0.05, 0.1), (0.3, 0.01), (0.9, 0.5), (0.5, 0.25)):
        n = calm.examples_needed(delta, epsilon)
        assert (1 - delta) ** n <= epsilon * (1 + 1e-12) and (n == 1 or (1 - delta) ** (n - 1) > epsilon)


def check_promise():
    """500 calibrations, each on 200 fresh examples: the true mean loss is above delta in at most 0.05 + 3 standard
    errors of them. The seed is fixed; a rule at exactly 0.05 would fail once in 700 seeds, and this one is below it."""
    delta, means, runs = 0.1, torch.linspace(0.04, 0.16, 25).tolist(), 500
    thresholds = [1 - mean for mean in means]
    generator = torch.Generator().manual_seed(12)
    bold = naive = 0
    for _ in range(runs):
        u = torch.rand(200, 1, generator=generator, dtype=torch.float64)
        losses = (u < torch.tensor(means)).double()             # an example that fails at one threshold fails at bolder
        passed = calm.certified(losses, thresholds, delta=delta, epsilon=0.05)
        bold += bool(passed) and means[len(passed) - 1] > delta
        below = [mean for mean, seen in zip(means, losses.mean(0).tolist(), strict=True) if seen <= delta]
        naive += below[-1] > delta if below else 0
    assert bold / runs <= 0.079, f"delta violated in {bold / runs:.3f} of the calibrations"
    assert naive / runs > 0.3, "mean <= delta keeps no promise, and the check must be able to see that"


CHECKS = {check.__name__: check for check in (
    check_confidences, check_against_the_oracle, check_decay, check_p_value, check_super_uniform, check_walk,
    check_fewest_examples, check_promise)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards CALM's rules and promises; see each check."""
    check()


@pytest.mark.parametrize("mutant", wrong.CALM, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let a wrong version pass."""
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[mutant.check]()


HALF = torch.full((100, 2), 0.5)


@pytest.mark.parametrize(("change", "says"), [
    ({"losses": torch.full((100, 2), 1.01)}, "lie in [0, 1]"), ({"losses": -HALF}, "lie in [0, 1]"),
    ({"losses": HALF.where(torch.eye(100)[:, :2] == 0, math.nan)}, "NaN"), ({"losses": HALF[0]}, "shape is [2]"),
    ({"losses": HALF.T}, "[examples, 2]"), ({"losses": torch.zeros(0, 2)}, "0 examples"), ({"delta": 0}, "delta must"),
    ({"delta": 1}, "it is 1"), ({"delta": math.nan}, "it is nan"), ({"delta": -0.1}, "strictly between 0 and 1"),
    ({"epsilon": 0.0}, "epsilon must"), ({"epsilon": 1.5}, "it is 1.5"), ({"epsilon": math.nan}, "it is nan")],
    ids=lambda x: x if isinstance(x, str) else "")
def test_bad_calibrations(change, says):
    """Guards a promise made on losses that are none."""
    request = {"losses": HALF, "thresholds": [0.9, 0.8], "delta": 0.1, "epsilon": 0.05, **change}
    assert_clear_error(lambda: calibrate(**request), ValueError, says)


@pytest.mark.parametrize("threshold", [-0.01, 1.01, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("policy", [SoftmaxResponse, Saturation, lambda t: ExitClassifier(t, classifier())])
def test_bad_thresholds(policy, threshold):
    """Guards a confidence that could never, or always, be reached without a word."""
    assert_clear_error(lambda: policy(threshold), ValueError, "lies in [0, 1]", f"it is {threshold}")


@pytest.mark.parametrize(("call", "kind", "says"), [
    (lambda: ExitClassifier(0.5), TypeError, "ExitHead.load(model)"),
    (lambda: Decaying(Entropy(1.0), 4, 10), TypeError, "not Entropy"),
    (lambda: Decaying(0.9, 4, 10), TypeError, "not float"),
    (lambda: Decaying(Saturation(0.9), -1, 10), ValueError, "it is -1"),
    (lambda: Decaying(Saturation(0.9), math.nan, 10), ValueError, "it is nan"),
    (lambda: Decaying(Saturation(0.9), 4, 0), ValueError, "at least 1; it is 0"),
    (lambda: Decaying(Saturation(0.9), 4, 10.0), ValueError, "it is 10.0"),
    (lambda: Decaying(Saturation(0.9), 4, True), ValueError, "it is True"),
    (lambda: Decaying(Saturation(0.9), 4, 10, "exact"), ValueError, "it is 'exact'")])
def test_bad_policies(call, kind, says):
    """Guards a policy that fails only at the first token, or never."""
    assert_clear_error(call, kind, says)


@pytest.mark.parametrize("call", [lambda: SoftmaxResponse("0.9"), lambda: SoftmaxResponse(True), lambda: Entropy("1"),
                                  lambda: Decaying(SoftmaxResponse(0.5), "4", 10)])
def test_what_is_no_number_is_told(call):
    assert_clear_error(call, TypeError, "is a number; it is ")
