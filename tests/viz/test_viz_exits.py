"""Tests of the early-exit pictures: a replay leaves where the loop leaves, and no mark rests on colour alone."""
import pytest
import torch

from minilm.bench.cost import Cost
from minilm.bench.exit_cost import ExitCost
from minilm.decoding import Entropy, Patience, Saturation, SoftmaxResponse, autoregressive, early_exit
from minilm.model import GPT, GPTConfig
from minilm.viz import exit_charts, exits

L = 6


class Letters:
    """Tokens 0, 1, ... are the letters from a on; 1 is markup, to be escaped."""

    def decode(self, ids):
        return "".join("<b>" if i == 1 else chr(ord("a") + i % 26) for i in ids)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=24, num_layers=L, width=32, num_heads=4, num_kv_heads=2, head_size=8, mlp_width=64,
                          max_positions=64, tie_embeddings=False)).double()
    for block in model.layers:                      # layers that change their mind, so that depths differ
        for matrix in (block.mlp.down.weight, block.attention.out.weight):
            torch.nn.init.normal_(matrix, std=0.6)
    torch.nn.init.normal_(model.embedding.weight, std=1.0)
    torch.nn.init.normal_(model.vocabulary.weight, std=0.5)
    return model.eval()


@pytest.fixture(scope="module")
def readings(model):
    prompt = [3, 5, 7]
    return exits.read(model, Letters(), prompt, autoregressive(model, prompt, 20).tokens)


def made(named, whole=0):
    """Readings of scripted words: named[L][T] ids, entropy falling by a half a layer."""
    named = torch.tensor(named)
    falling = torch.arange(len(named), 0, -1).double()[:, None].expand(named.shape) / 2
    texts = [[Letters().decode([i]) for i in row] for row in named.tolist()]
    return exits.Readings(["q"] * named.shape[1], named, texts,
                          {"entropy": falling, "patience": exits.patience_counts(named)}, whole)


POLICIES = [("entropy", Entropy, 1.5), ("patience", Patience, 2), ("softmax response", SoftmaxResponse, 0.4),
            ("saturation", Saturation, 0.98), ("entropy", Entropy, 0.0), ("softmax response", SoftmaxResponse, 1.0),
            ("saturation", Saturation, 0.0)]


@pytest.mark.parametrize("at", [None, (1, 3, 5), (2,)])
@pytest.mark.parametrize(("measure", "policy", "threshold"), POLICIES)
def test_replay_leaves_where_the_loop_leaves(model, readings, measure, policy, threshold, at):
    """Guards an off-by-one in layers or places: both agree up to the first token that leaves, that one included."""
    real = [step.layers for step in early_exit(model, [3, 5, 7], 20, policy(threshold), exits=at).trace]
    replay = exits.exit_layers(readings, measure, threshold, at)
    gone = next((t for t, n in enumerate(real) if n < L), len(real) - 1)
    assert replay[: gone + 1] == real[: gone + 1]
    assert replay[0] == L


def test_readings_are_the_models_own(model, readings):
    """Guards a shift by one place: the last layer names the very tokens that were written."""
    assert readings.named[-1].tolist() == autoregressive(model, [3, 5, 7], 20).tokens
    assert readings.reads[0] == Letters().decode([7])


def test_some_tokens_leave_early_and_some_do_not(readings):
    """Guards a random model on which the tests above could not fail."""
    assert {n < L for n in exits.exit_layers(readings, "entropy", 1.5)[1:]} == {True, False}


def test_patience_counts_only_the_exits_given():
    r = made([[1], [2], [1], [2], [1], [1]])
    assert exits.exit_layers(r, "patience", 2, (1, 3, 5)) == [5]
    assert exits.exit_layers(r, "patience", 2) == [L]


def test_oracle_is_the_first_right_exit():
    r = made([[4, 2], [5, 3], [4, 3], [5, 3], [5, 3], [4, 3]])
    assert exits.oracle_layers(r) == [1, 2]
    assert exits.oracle_layers(r, (2, 4)) == [L, 2]


def test_summary_leaves_out_the_prompts_own_token():
    r = made([[4, 2], [5, 3], [4, 3], [5, 3], [5, 3], [4, 3]], whole=1)
    assert exits.summary(r, [L, 1]) == (1.0, 0.0)


def test_layers_without_a_lens_are_not_read(model, readings):
    """Guards a layer that the lens has no map for and that is read all the same."""
    class Bare:
        exits = (2, 4)

        def __call__(self, layer, hidden):
            assert layer in self.exits
            return hidden

    few = exits.read(model, Letters(), [3, 5, 7], readings.named[-1].tolist(), lens=Bare())
    assert [bool((few.named[n] == readings.named[n]).all()) for n in range(L)] == [n + 1 in (2, 4, L) for n in range(L)]
    assert (few.named[0] == -1).all() and few.texts[0][0] == "–" and not few.scores["softmax response"][0].any()


@pytest.mark.parametrize(("measure", "at"), [("surprise", None), ("entropy", (0,)), ("entropy", (L,)), ("entropy", ())])
def test_bad_requests_are_told(readings, measure, at):
    with pytest.raises(ValueError, match="measure|exit"):
        exits.exit_layers(readings, measure, 0.5, at)


@pytest.mark.parametrize(("prompt", "tokens"), [([], [1]), ([1], [])])
def test_nothing_to_read(model, prompt, tokens):
    with pytest.raises(ValueError, match="at least one"):
        exits.read(model, Letters(), prompt, tokens)


def test_wrong_tokens_are_marked_by_more_than_colour():
    """Guards colour as the only sign, in the text and in both widths of the map."""
    r = made([[4, 2], [5, 3], [4, 3], [5, 3], [5, 3], [4, 3]])
    assert exits.text(r, [1, 2]).count("✗") == 1                    # the key's
    wrong = exits.text(r, [2, 1])
    assert wrong.count("✗") == 1 + 2 and wrong.count("dashed") == 2 and "the full model says e" in wrong
    assert exits.exit_map(r, [1, 2]).count("✗") == 0 and exits.exit_map(r, [2, 2]).count("✗") == 1
    wide = made([[4] * 20] * 5 + [[3] * 20])
    assert exits.exit_map(wide, [1] * 20).count("✗") == 20


def test_map_shows_the_exits_looked_at():
    """A dot for each exit passed: filled where it was right, hollow where it was wrong."""
    r = made([[4], [5], [4], [5], [5], [4]])
    drawn = exits.exit_map(r, [L], exits=(1, 2, 3))
    assert drawn.count("<circle") == 3 and drawn.count("fill:none;stroke:var(--jp-ui-font-color2") == 1


def test_tokens_are_escaped(readings):
    r = made([[1, 2], [1, 3], [1, 3], [1, 3], [1, 3], [1, 3]])
    for drawn in (exits.text(r, [1, 2]), exits.exit_map(r, [1, 2]), exit_charts.curves(r, "entropy", 0)):
        assert "<b>" not in drawn and "&lt;b&gt;" in drawn


def test_upto_hides_what_was_not_made_yet():
    r = made([[4, 2], [5, 3], [4, 3], [5, 3], [5, 3], [4, 3]])
    assert "1 of 6 layers" in exits.exit_map(r, [1, 2]) and "1 of 6 layers" not in exits.exit_map(r, [1, 2], upto=0)


def test_curves_ring_the_exit():
    r = made([[4], [5], [4], [5], [5], [4]])
    assert exit_charts.curves(r, "entropy", 0, threshold=1.2).count('r="9"') == 1
    assert exit_charts.curves(r, "entropy", 0).count('r="9"') == 0


def test_charts_draw(readings):
    depths = {"a": exits.exit_layers(readings, "entropy", 1.5), "b": exits.exit_layers(readings, "patience", 2)}
    part = Cost(1e6, 2e6)
    cost = ExitCost(part, part, part, part)
    pairs = {"a": [(2, 0.9), (3, 1.0)]}
    for chart in (exit_charts.histogram(depths, L), exit_charts.frontier(pairs, L, dots={"o": (1, 1)}),
                  exit_charts.cost_parts({"a": cost}, full=cost), exit_charts.cost_parts({"a": cost}, unit="flops")):
        assert chart.png().startswith(b"\x89PNG")


def test_unknown_unit():
    with pytest.raises(ValueError, match="bytes"):
        exit_charts.cost_parts({}, unit="seconds")
