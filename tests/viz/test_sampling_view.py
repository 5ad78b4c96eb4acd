"""Tests of the sampler's picture: kept and cut agree with `Sampling`, the needle with `draw`."""
import pytest
import torch

from minilm.sampling import Sampling
from minilm.viz import sampling

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
TOKENS = [" a", " <i>", "\n", "d"]


def test_cut_tokens_are_marked():
    """Guards colour as the only sign: kept has ✓, cut has ✗ and the word."""
    html = sampling.view(TOKENS, LOGITS, Sampling(1.0, top_k=3))
    assert html.count("✗") == 1 + 1 and html.count(">cut<") == 1    # one in the key
    assert "3 of 4 tokens kept, which have 95.0% of" in html


def test_token_text_is_escaped_and_white_space_visible():
    html = sampling.view(TOKENS, LOGITS, Sampling(1.0))
    assert "<i>" not in html and "·&lt;i&gt;" in html and "⏎" in html


@pytest.mark.parametrize(("uniform", "token"), [(0.0, "token 0"), (0.6, "token 1"), (0.99, "token 3")])
def test_needle_draws_what_the_package_draws(uniform, token):
    html = sampling.view(TOKENS, LOGITS, Sampling(1.0), uniform)
    assert f"draws {token}<" in html and html.count("← drawn") == 1


def test_a_draw_outside_the_bars_is_said():
    """Guards a drawn token that the picture shows nowhere."""
    assert "one of these is drawn" in sampling.view(TOKENS, LOGITS, Sampling(1.0), 0.99, rows=2)


def test_greedy_keeps_one():
    html = sampling.view(TOKENS, LOGITS, Sampling(), 0.99)
    assert "greedy" in html and "1 of 4 tokens kept" in html and "draws token 0<" in html


def test_the_rest_is_counted():
    html = sampling.view(TOKENS, LOGITS, Sampling(1.0, top_p=0.75), rows=2)
    assert "2 others: 0 kept, together 0.000" in html


def test_chart_draws():
    settings = {"t": Sampling(0.5), "k": Sampling(1.0, top_k=2)}
    assert sampling.chart(TOKENS, LOGITS, settings).png().startswith(b"\x89PNG")


def test_chart_counts_what_is_kept():
    """Guards a count of the tokens shown instead of the whole vocabulary's."""
    settings = {"all": Sampling(1.0), "three": Sampling(1.0, top_k=3)}
    axes = sampling.chart(TOKENS, LOGITS, settings, rows=2).figure.axes
    assert [[t.get_text() for t in ax.texts if "kept" in t.get_text()] for ax in axes] == [
        ["4 of\n4 kept"], ["3 of\n4 kept"]]
