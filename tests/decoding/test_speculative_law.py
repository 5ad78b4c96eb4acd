"""Whole decoders, sampled: the exact joint law of four tokens, with every proposer. No draws, so no false alarms."""
import pytest
from core_helpers import one_thread  # noqa: F401
from mutants import speculative_loop as mutants
from spec_helpers import EXACT, decoder_distance

from minilm.sampling import Sampling

ALL, CUT = Sampling(1.7), Sampling(1.5, top_k=2)
SAMPLINGS = [ALL, CUT, Sampling(1.0, top_p=0.7), Sampling(0.5, top_k=2, top_p=0.9)]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_sampled_tokens_have_the_targets_law(name, sampling, monkeypatch):
    """Guards any reuse of chance between positions, drafts by another law than the one reported, and a length chosen
    from what is then dropped. The recurrent draft can't name one word of three: it must come all the same."""
    if sampling == ALL and name in ("confidence stop", "heuristic length"):
        sampling = Sampling(1.7, top_k=2)               # "draft model" walks the thousands of paths that all words make
    assert decoder_distance(monkeypatch, EXACT[name], sampling) < 1e-12


@pytest.mark.parametrize("name", ["draft model", "self-speculation", "recurrent", "prompt lookup"])
def test_block_verification_through_the_decoder(name, monkeypatch):
    """Guards q, p and uniforms handed over in another order than the rule expects."""
    assert decoder_distance(monkeypatch, EXACT[name], CUT, "block") < 1e-12


def test_typical_acceptance_bends_the_law(monkeypatch):
    """It is not exact, and the tests above can tell."""
    assert decoder_distance(monkeypatch, EXACT["draft model"], CUT, "typical") > 1e-2


@pytest.mark.parametrize("mutant", mutants.LAW, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards a law that a wrong version passes: each is more than 1e-3 away, with the proposer that it names."""
    mutant.apply(monkeypatch)
    chosen = mutant.check in ("prompt lookup", "blockwise tree")        # not drawn: few paths, so nothing is cut off
    assert decoder_distance(monkeypatch, EXACT[mutant.check], ALL if chosen else CUT) > 1e-3
