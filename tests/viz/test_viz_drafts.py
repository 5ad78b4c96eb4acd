"""Tests of the pictures of drafts: every mark is right, for chains and trees, and at a text's end; bars add up."""
import pytest
import torch

from minilm.decoding import autoregressive
from minilm.decoding.proposers import DraftModel
from minilm.decoding.speculative import Chain, Draft, SpeculativePass, speculative
from minilm.generation import Generation, Pass
from minilm.model import GPT, GPTConfig
from minilm.sampling import Sampling
from minilm.viz import accept_bars, draft_charts, draft_nodes, drafts


class Letters:
    """Tokens 0, 1, ... are the letters from a on; 1 is markup, to be escaped."""

    def decode(self, ids):
        return "".join("<b>" if i == 1 else chr(ord("a") + i % 26) for i in ids)


def told(*steps):
    """A generation of scripted rounds: (drafted, accepted, emitted, parents)."""
    first = SpeculativePass(3, 0, [0], 0.1)
    trace = [SpeculativePass(1 + len(drafted), 3, emitted, 0.1, drafted=tuple(drafted), accepted=tuple(accepted),
                             parents=parents) for drafted, accepted, emitted, parents in steps]
    return Generation([token for step in [first, *trace] for token in step.emitted], [first, *trace])


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    shape = dict(vocab_size=24, width=32, num_heads=4, num_kv_heads=2, head_size=8, mlp_width=64, max_positions=64)
    return [GPT(GPTConfig(num_layers=layers, **shape)).double().eval() for layers in (3, 1)]


def test_a_round_that_rejects_recovers_and_one_that_does_not_gets_a_bonus():
    """Guards the wrong name for the last token, and marks on drafts that nobody judged."""
    story = drafts.read(told(([2, 3, 4], [0], [2, 9], None), ([5, 6], [0, 1], [5, 6, 7], None), ([], [], [8], None)),
                        Letters())
    rejected, accepted, plain = story.rounds[1:]
    assert rejected.roles == ("accepted", "rejected", "rejected") and rejected.judged == (True, True, False)
    assert rejected.kept == [("c", "accepted"), ("j", "recovered")]
    assert accepted.kept == [("f", "accepted"), ("g", "accepted"), ("h", "bonus")]
    assert plain.kept == [("i", "plain")] and story.rounds[0].kept == [("a", "prefill")]


def test_an_end_inside_a_draft_has_no_last_token():
    """Guards a bonus token, or accepted drafts, that stand past the end of the text."""
    story = drafts.read(told(([2, 3, 4], [0, 1, 2], [2, 3], None)), Letters())
    assert story.rounds[1].kept == [("c", "accepted"), ("d", "accepted")]
    assert story.rounds[1].roles == ("accepted", "accepted", "plain") and story.rounds[1].last is None
    assert "the text ends inside the draft" in drafts.frame(story, 1)
    assert "accepted, but the text had ended" in drafts.rows(story)


def test_a_tree_shows_its_path():
    """Nodes: 0 and 1 after the text, 2 after 0, 3 and 4 after 1. Path 1, 4; then a bonus, or before it a recovered."""
    parents = (-1, -1, 0, 1, 1)
    story = drafts.read(told(([2, 3, 4, 5, 6], [1, 4], [3, 6, 9], parents), ([2, 3, 4, 5, 6], [1], [3, 9], parents)),
                        Letters())
    whole, short = story.rounds[1:]
    assert whole.tree and whole.path == [1, 4] and whole.last_role == "bonus" and short.last_role == "recovered"
    assert whole.judged == (True, True, False, True, True)
    frame = drafts.frame(story, 1)
    assert frame.count("<rect") == 6 and "✓d" in frame and "✓g" in frame and "+j" in frame and frame.count("✗") == 3
    assert "3 other nodes thrown away" in drafts.rows(story)


def test_the_trees_nodes_do_not_overlap():
    parents = (-1, -1, 0, 0, 1, 2, 2, 4)
    place = draft_nodes.layout(parents)
    assert [depth for depth, _ in place] == [0, 0, 1, 1, 1, 2, 2, 2] and len(set(place)) == len(place)
    assert place[0][1] == pytest.approx((place[2][1] + place[3][1]) / 2)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_storys_text_is_the_generations(models, temperature):
    """Guards a token lost or told twice, with real runs of chains and of a tree."""
    class Bush(Chain):
        def propose(self, text, limit, hidden, sampling, generator):
            return Draft([4, 5, 6, 7], None, [-1, -1, 0, 1]) if limit > 1 else Draft()

    for proposer in (DraftModel(models[1], 3), Bush()):
        made = speculative(models[0], [3, 4], 20, proposer, sampling=Sampling(temperature),
                           generator=torch.Generator().manual_seed(0))
        story = drafts.read(made, Letters())
        assert [text for text, _ in story.tokens] == [Letters().decode([i]) for i in made.tokens]
        assert len(story) == made.stats.target_passes and "20 tokens" in drafts.summary(story)
        shown = "".join(drafts.frame(story, n) for n in range(len(story))) + drafts.rows(story) + drafts.text(story)
        assert "<b>x" not in shown and shown.count("<div") == shown.count("</div>")


def test_another_decoders_trace_is_refused():
    with pytest.raises(ValueError, match="no drafts: give a Generation that decoding.speculative returned"):
        drafts.read(Generation([1], [Pass(1, 0, [1], 0.0)]), Letters())


@pytest.fixture(scope="module")
def pair(models):
    return accept_bars.read(*models, Letters(), [3, 4], autoregressive(models[0], [3, 4], 9).tokens)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_green_is_the_chance_of_acceptance(pair, models, temperature):
    """Guards bars read one place off: place t is judged by what both say after the text before token t."""
    sampling = Sampling(temperature)
    text = [3, 4, *pair.ids[:5]]
    p, q = (sampling.probs(model(torch.tensor([text]))[0, -1]) for model in models)
    share = accept_bars.acceptance(pair, sampling)
    assert share[5].item() == pytest.approx(torch.minimum(p, q).sum().item(), abs=1e-9) and len(share) == len(pair) == 9
    view = accept_bars.view(pair, 5, sampling)
    assert f"accepted with probability {share[5].item():.3f}" in view and view.count("▸") == 1


def test_one_draft_is_played_by_the_rule(pair):
    """Over a grid of chances: accepted as often as β says, and a recovered token always has more of p than of q."""
    p, q = pair.probs(2, Sampling(1.0))
    grid = [(i + 0.5) / 60 for i in range(60)]
    played = [accept_bars.play(p, q, (a, u, 0.5)) for a in grid for u in grid]
    share = sum(recovered is None for _, recovered in played) / len(played)
    assert share == pytest.approx(torch.minimum(p, q).sum().item(), abs=0.02)
    assert all(p[recovered] > q[recovered] for _, recovered in played if recovered is not None)
    for chance in ((grid[0], 0.0, 0.5), next((a, u, 0.5) for a in grid for u in grid[::-1]
                                             if accept_bars.play(p, q, (a, u, 0.5))[1] is not None)):
        verdict = "✓ accepted" if chance[1] == 0 else "✗ rejected"
        assert verdict in accept_bars.view(pair, 2, Sampling(1.0), chance=chance)


def test_curves_meet_where_the_draft_is_the_same(pair):
    """At 1 two of the ways are one, at 0 two others."""
    found = draft_charts.curves([pair], (0.0, 1.0))
    same, at_one, greedy = found.values()
    assert same[1] == at_one[1] and same[0] == pytest.approx(greedy[0]) and greedy[1] < same[1]
    found = draft_charts.curves([pair])
    assert f"{found['draft greedy'][10]:.2f}" in draft_charts.temperature_view([pair], found, 1.0, 5)


def test_theory_says_when_no_draft_pays():
    assert "the best draft length is 0" not in draft_charts.theory_view(0.2, 0.5)
    assert "no draft pays" in draft_charts.theory_view(0.2, 0.5)
    assert "the best draft length is" in draft_charts.theory_view(0.8, 0.1)


def test_charts_have_a_name_that_stays(pair):
    """nbval compares it; and each draws without a warning."""
    charts = [draft_charts.by_length({"theory": [1.2, 1.4]}, {"measured": [(1, 1.1), (2, 1.2)]}),
              draft_charts.ladder_chart([0.8, 0.7], 0.75),
              draft_charts.laws([0.5, 0.5], {"right": [0.5, 0.5], "wrong": [0.7, 0.3]}, "ab"),
              draft_charts.temperature_chart(draft_charts.curves([pair])),
              accept_bars.chart(pair, 1, {"1": Sampling(1.0), "2": Sampling(2.0)}, rows=4)]
    assert [repr(chart) for chart in charts] == [
        "<speed-up by draft length, 1 predictions, 1 measurements>", "<ladder of 2 rungs>", "<laws of 2 rules>",
        "<acceptance by temperature>", "<p and q of 4 tokens, 2 settings>"]
    assert all(chart.png().startswith(b"\x89PNG") for chart in charts)
