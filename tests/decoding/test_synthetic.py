"""Acceptance at a stated rate: how many tokens a round gives, and that the passes are those of the real loop."""
import pytest
import torch
from core_helpers import assert_clear_error, one_thread  # noqa: F401
from mutants import synthetic as mutants
from spec_helpers import PROMPT, SMALL, TARGET, Scripted, decode, tree

from minilm.decoding.proposers import DraftModel
from minilm.decoding.proposers import synthetic as file
from minilm.decoding.proposers.synthetic import Filler
from minilm.decoding.speedup import expected_tokens


def run(proposer, rate: float, new: int = 40, seed: int = 0):
    return file.synthetic_speculative(TARGET, PROMPT, new, proposer, rate=rate,
                                      generator=torch.Generator().manual_seed(seed))


def check_rate():
    """Tokens of a round: (1 - α^(γ+1)) / (1 - α). 20,000 rounds and five standard errors: a false alarm in 2 million
    for each of the six cells, if the seeds were not fixed."""
    generator = torch.Generator().manual_seed(3)
    for rate in (0.3, 0.6, 0.9):
        for gamma in (2, 5):
            draws = torch.rand(20_000, gamma, generator=generator, dtype=torch.float64).tolist()
            tokens = torch.tensor([1.0 + file.accepted_at_rate(rate, row) for row in draws])
            error = tokens.std() / len(tokens) ** 0.5
            assert abs(tokens.mean() - expected_tokens(rate, gamma)) < 5 * error, (rate, gamma)


def check_ends():
    """Rate 0 keeps nothing, rate 1 all; a draft after a rejected one is gone, whatever its own number."""
    assert file.accepted_at_rate(0.0, [0.0, 0.0]) == 0
    assert file.accepted_at_rate(1.0, [0.99, 0.5]) == 2
    assert file.accepted_at_rate(0.5, [0.4, 0.5, 0.1]) == 1
    assert file.accepted_at_rate(0.5, []) == 0
    for rate, given in ((0.0, [1] * 6), (1.0, [1, 4, 1])):
        assert [len(step.emitted) for step in run(Filler(3), rate, 6).trace] == given


def check_passes():
    """The passes are the real loop's: one over the prompt, then the last token and the drafts after what was kept."""
    made = run(DraftModel(SMALL, 3), 0.6)
    held = len(PROMPT)
    assert made.trace[0].fed == held and len(made.tokens) == 40
    for step in made.trace[1:]:
        assert step.context == held and step.fed == 1 + len(step.drafted)
        assert tuple(step.emitted[: len(step.accepted)]) == step.drafted[: len(step.accepted)]
        held += len(step.emitted)
    seen = {len(step.accepted) for step in made.trace[1:]}
    assert {0, 3} < seen                                        # accepted though random weights would never agree
    right = decode(PROMPT, 40, DraftModel(SMALL, 3)).tokens
    assert made.tokens != right


def check_last_token():
    """The token after the kept drafts is the target's own, from the state after them."""
    text = list(PROMPT)
    for step in run(DraftModel(SMALL, 3), 0.5).trace:
        text += step.emitted
        assert text[-1] == int(TARGET(torch.tensor([text[:-1]]))[0, -1].argmax())


CHECKS = {check.__name__: check for check in (check_rate, check_ends, check_passes, check_last_token)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards the rate, and passes that would not be timed as the real ones are; see each check."""
    check()


@pytest.mark.parametrize("mutant", mutants.SYNTHETIC, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards a check that a wrong version passes."""
    mutant.apply(monkeypatch)
    with pytest.raises((AssertionError, IndexError, ValueError)):
        CHECKS[mutant.check]()


@pytest.mark.parametrize(("call", "says"), [
    (lambda: run(Filler(2), 1.5), "acceptance rate lies in"),
    (lambda: run(Filler(2), float("nan")), "acceptance rate lies in"),
    (lambda: run(Scripted(tree), 0.5), "draft chains"),
    (lambda: Filler(-1), "num_tokens"),
    (lambda: run(Filler(2), 0.5, 100), "do not fit"),
])
def test_bad_input(call, says):
    """Guards numbers that no acceptance has."""
    assert_clear_error(call, ValueError, says)
