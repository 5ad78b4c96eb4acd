"""Combined drafting: who has the word, how far a draft goes. That any of it is lossless: see `spec_helpers`' lists,
in which the loop's and the laws' tests find combined proposers beside the others."""
import copy

import pytest
import torch
from core_helpers import assert_clear_error, one_thread  # noqa: F401
from mutants import combined as mutants
from spec_helpers import EXACT, PROMPT, SMALL, TARGET, Draft, Scripted, decode, decoder_distance, plain, right, spec

from minilm.decoding.proposers import Combined, DraftModel, PromptLookup, SelfSpeculative, SurvivalDraft
from minilm.sampling import Sampling

LENGTH = 24


class Told(Scripted):
    """A scripted source that remembers which texts it was asked about, and that it began."""

    def __init__(self, guess):
        super().__init__(guess)
        self.asked, self.begun = [], 0

    def start(self, model, cache):
        self.begun += 1

    def propose(self, text, *rest):
        self.asked.append(len(text))
        return super().propose(text, *rest)


class OwnWay(Scripted):
    """Verifies in a way of its own, which counts."""

    verified = 0

    def verify(self, *request):
        self.verified += 1
        return super().verify(*request)


def check_order():
    """The first that drafts anything has the word; those after it are not asked; each begins each text."""
    first = Told(lambda text, limit: Draft([1]) if len(text) % 3 == 0 else Draft())
    second = Told(lambda text, limit: Draft([2, 2][:limit]) if len(text) % 3 == 1 else Draft())
    last = Told(lambda text, limit: Draft([3]))
    made = decode(PROMPT, LENGTH, Combined([first, second, last]))
    text, spoke = len(PROMPT) + 1, {1: [], 2: [], 3: []}
    for step in made.trace[1:]:
        if len(PROMPT) + LENGTH - text > 1:
            who = 1 if text % 3 == 0 else 2 if text % 3 == 1 else 3
            assert set(step.drafted) == {who}
            for source in range(1, who + 1):
                spoke[source].append(text)
        text += len(step.emitted)
    assert (first.asked, second.asked, last.asked) == tuple(spoke.values())
    assert first.begun == second.begun == last.begun == 1
    silent = Combined([Scripted(lambda text, limit: Draft())])
    assert decode(PROMPT, 5, silent).stats.target_passes == 5


def check_own_ways():
    """Self-speculation's states are used by itself, and a lookup's draft is one plain pass."""
    both = Combined([PromptLookup(2, 1), SelfSpeculative(2, 2)])
    for prompt in (PROMPT, [9, 9, 2, 44] * 3):
        assert decode(prompt, LENGTH, both).tokens == plain(prompt, LENGTH)
    turns = [Told(lambda text, limit: Draft([1]) if len(text) % 2 else Draft()), OwnWay(lambda text, limit: Draft([2]))]
    made = decode(PROMPT, LENGTH, Combined(turns))
    assert turns[1].verified == sum(step.drafted == (2,) for step in made.trace) > 0
    assert type(Combined([PromptLookup(), DraftModel(SMALL)])).verify is spec.Chain.verify      # passes can be shared


def check_copies():
    """An engine gives every text a copy: two texts in turns must not share a draft's cache."""
    one = Combined([PromptLookup(2, 2, min_ngram=2), SurvivalDraft(SMALL, 3)])
    two = copy.copy(one)
    assert not set(map(id, one.sources)) & set(map(id, two.sources)) and type(two) is type(one)


def check_survival():
    """Drafts are the draft model's greedy tokens: `free` of them, then those whose chances' product is high enough."""
    stops = set()
    for survival, free in ((0.0, 0), (0.01, 0), (0.1, 1), (0.1, 2)):
        text = list(PROMPT)
        for step in decode(PROMPT, LENGTH, SurvivalDraft(SMALL, 5, survival=survival, free=free)).trace:
            if len(text) > len(PROMPT):
                n, room = len(step.drafted), LENGTH + len(PROMPT) - len(text) - 1
                longest = plain(text, n + 1, SMALL)
                assert list(step.drafted) == longest[:n]
                p = torch.softmax(SMALL(torch.tensor([text + longest]))[0, len(text) - 1 : -1], -1)
                reached = torch.stack([row[x] for row, x in zip(p, longest, strict=True)]).cumprod(0)
                assert bool((reached[free:n] >= survival).all())
                assert n == min(5, room) or (n >= free and reached[n] < survival)
                stops.add((survival, free, n))
            text += step.emitted
    assert {(0.0, 0, 5), (0.01, 0, 1), (0.1, 1, 1), (0.1, 2, 2)} <= stops
    sampled = SurvivalDraft(SMALL, 5, survival=0.1, free=1)                     # drawn: the doubted token stays
    sampled.start(TARGET, TARGET.new_cache())
    for seed in range(9):
        draft = sampled.propose([7, 8], 9, None, Sampling(1.0), torch.Generator().manual_seed(seed))
        p = torch.softmax(SMALL(torch.tensor([[7, 8, *draft.tokens]]))[0, 1:-1], -1)
        reached = torch.stack([row[x] for row, x in zip(p, draft.tokens, strict=True)]).cumprod(0)
        n = len(draft.tokens)
        assert len(draft.probs) == n and bool((reached[1:-1] >= 0.1).all()) and (n == 5 or n > 1 and reached[-1] < 0.1)


CHECKS = {check.__name__: check for check in (check_order, check_own_ways, check_copies, check_survival)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards the rule by which a source is chosen, and by which a draft ends; see each check."""
    check()


@pytest.mark.parametrize("mutant", mutants.RULES, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards a check that a wrong version passes."""
    mutant.apply(monkeypatch)
    with pytest.raises((AssertionError, AttributeError, RuntimeError)):
        CHECKS[mutant.check]()


@pytest.mark.parametrize("mutant", mutants.LAW, ids=str)
def test_wrong_law_is_rejected(mutant, monkeypatch):
    """Guards laws that a wrong version passes: each is more than 1e-3 away."""
    mutant.apply(monkeypatch)
    assert decoder_distance(monkeypatch, EXACT[mutant.check], Sampling(1.5, top_k=2)) > 1e-3


def test_a_long_match_speaks_first():
    """Guards the order that the race uses: lookup where the text repeats itself at length, else the draft model."""
    both = Combined([PromptLookup(4, 3, min_ngram=3), SurvivalDraft(SMALL, 2, survival=0.0)])
    both.start(TARGET, TARGET.new_cache())
    state = torch.zeros(24, dtype=torch.float64)
    assert both.propose([1, 2, 3, 4, 5, 1, 2, 3], 9, state, Sampling(), None).tokens == [4, 5, 1, 2]
    other = [1, 2, 3, 4, 5, 6, 2, 3]
    assert both.propose(other, 9, state, Sampling(), None).tokens == plain(other, 2, SMALL)


def test_sampled_drafts_carry_their_law():
    """Guards q given for chosen tokens, or missing for drawn ones."""
    both = Combined([PromptLookup(4, 3, min_ngram=3), SurvivalDraft(SMALL, 2, survival=0.0)])
    both.start(TARGET, TARGET.new_cache())
    state, sampling = torch.zeros(24, dtype=torch.float64), Sampling(1.3, top_k=20)
    assert both.propose([1, 2, 3, 4, 5, 1, 2, 3], 9, state, sampling, None).probs is None
    draft = both.propose([7, 8, 9], 9, state, sampling, torch.Generator().manual_seed(0))
    expected = sampling.probs(SMALL(torch.tensor([[7, 8, 9, draft.tokens[0]]]))[0, -2:])
    assert torch.allclose(draft.probs, expected, atol=1e-10)


@pytest.mark.parametrize(("call", "error", "says"), [
    (lambda: Combined([]), ValueError, "at least one proposer"),
    (lambda: Combined([PromptLookup(), "trie"]), TypeError, "Combined asks proposers"),
    (lambda: Combined([Scripted(right)] * 2), ValueError, "stands twice in the list"),
    (lambda: SurvivalDraft(SMALL, 0), ValueError, "num_tokens"),
    (lambda: SurvivalDraft(SMALL, free=-1), ValueError, "free must be a whole number"),
    (lambda: SurvivalDraft(SMALL, survival=1.0), ValueError, "survival lies in"),
    (lambda: SurvivalDraft(SMALL, survival=float("nan")), ValueError, "survival lies in"),
])
def test_bad_input(call, error, says):
    """Guards a proposer that fails deep in a run."""
    assert_clear_error(call, error, says)
