"""Pictures of both lookaheads show what the decoders did: numbers and marks are tested, not looks."""
import pytest
import torch
from core_helpers import tiny_model

from minilm.bench.limits import Limits
from minilm.decoding import autoregressive
from minilm.decoding.lookahead import LookaheadPass, both_branches, jacobi, lookahead, merge
from minilm.decoding.lookahead import Window as Rows
from minilm.decoding.proposers.trie import Trie
from minilm.decoding.speculative import Draft, speculative
from minilm.decoding.speedup import expected_of_best, step_compression
from minilm.generation import Generation
from minilm.viz import jacobi as grid
from minilm.viz import lookahead_charts, lookahead_mask, lookahead_window, trie_view


class Letters:
    """Each token is a letter of its own; 1 is markup, to be escaped."""

    def decode(self, ids):
        return "".join("<b>" if i == 1 else chr(0x100 + i) for i in ids)


PROMPT = [9, 9, 2, 44] * 3


@pytest.fixture(scope="module")
def model():
    return tiny_model(seed=13, dtype=torch.float64, tie_embeddings=False, max_positions=96)     # texts with loops


@pytest.fixture(scope="module")
def ahead(model):
    return lookahead(model, PROMPT, 40, window=4, ngram=3, guesses=3)


def test_the_grid_is_the_trajectory(model):
    """Guards a stair that is off by a pass, and marks of certainty that the passes did not give."""
    run = jacobi(model, PROMPT, 25, block=8)
    plain = autoregressive(model, PROMPT, 25).tokens
    blocks, done = grid.read(run, Letters()), 1
    assert [len(block.rows[0]) for block in blocks] == [8, 8, 8]
    for number, block in enumerate(blocks):
        steps = [step for step in run.trace if step.block == number]
        assert len(block.rows) == len(steps) + 1
        assert block.fixed == tuple(sum(len(step.emitted) for step in steps[:n]) for n in range(len(steps) + 1))
        end = [Letters().decode([token]) for token in plain[done : done + 8]]
        assert list(block.rows[-1]) == end and all(block.right[-1])
        for row, right, fixed in zip(block.rows, block.right, block.fixed, strict=True):
            assert list(row[:fixed]) == end[:fixed] and all(right[:fixed])
            assert list(right) == [a == b for a, b in zip(row, end, strict=True)]
        done += 8
    picture = grid.frame(blocks[0], 2)
    assert picture.count("<g>") == 3 * 8 and picture.count("pass 2") >= 1
    assert picture.count(">✓") == blocks[0].fixed[2] + 1, "one for each certain token, and one in the key"
    with pytest.raises(ValueError, match="rows 0 to"):
        grid.frame(blocks[0], 99)
    with pytest.raises(ValueError, match="no iterates"):
        grid.read(autoregressive(model, PROMPT, 4), Letters())


def test_ngrams_out_of_place_are_counted():
    """Block "a b c d": row 1 holds "b c" a place too early and "c d" at its place."""
    block = grid.Block((tuple("xxxx"), tuple("abcc"), tuple("abcd"), tuple("abcd")),
                       ((False,) * 4, (True,) * 3 + (False,), (True,) * 4, (True,) * 4), (0, 1, 2, 4))
    assert grid.in_place(block, 2) == (3, 2, 2)                 # "b c", "c c" in row 1; "c d" in row 2
    early = grid.Block((tuple("xxxx"), tuple("acdx"), tuple("abcd")), ((False,) * 4,) * 2 + ((True,) * 4,), (0, 1, 4))
    assert grid.in_place(early, 2) == (2, 1, 0)


def test_the_window_shows_its_pass(model, ahead):
    """Guards n-grams, guesses or marks of another pass."""
    pictures = lookahead_window.frames(ahead, PROMPT, Letters())
    assert len(pictures) == len(ahead.trace) - 1
    seen = set()
    for n, (picture, step) in enumerate(zip(pictures, ahead.trace[1:], strict=True), start=1):
        assert f"<b>pass {n}</b>" in picture
        if step.window:
            assert picture.count("</title><rect") == len(step.window) * 4 + 4
        grams = set(step.ngrams)
        assert picture.count(">+</text>") == len(grams - seen) and picture.count(">=</text>") == len(grams & seen)
        assert ("empty, the pool knows nothing" in picture) == (not step.guesses)
        right = 0
        path = [step.drafted[node] for node in step.accepted]
        for guess in step.guesses:
            right += next((k for k, pair in enumerate(zip(guess, path, strict=False)) if pair[0] != pair[1]),
                          min(len(guess), len(path)))
        assert picture.count(">✓</span>") == right + len(path)
        seen |= grams
    with pytest.raises(ValueError, match="no window"):
        lookahead_window.frames(autoregressive(model, PROMPT, 4), PROMPT, Letters())


def test_the_mask_is_the_one_that_ran(model, ahead):
    """Each token's logits, from the pass itself, are those after the tokens that the picture says it reads."""
    from minilm.cache import KVCache

    text, checked = PROMPT + ahead.tokens, 0
    for step in ahead.trace[1:]:
        if not step.window or len(step.guesses) < 2:
            continue
        fed, held = lookahead_mask.read(step), text[: step.context]
        cache = KVCache(model.config, dtype=torch.float64, spare=64)
        model.hidden(torch.tensor([held]), cache)
        window = Rows(PROMPT, 4, 3)
        window.rows = [list(row) for row in step.window]
        verify, window_logits = both_branches(model, cache, window.tree(text[step.context]), merge(step.guesses), 8)
        logits = torch.cat([window_logits, verify[1:]])
        assert len(fed.tokens) == step.fed == len(logits)
        for node in range(len(logits)):
            path = [fed.tokens[other] for other in fed.seen(node)]
            assert fed.depth[node] == len(path) - 1
            assert (model(torch.tensor([[*held, *path]]))[0, -1] - logits[node]).abs().max() < 1e-10
        names = [name for name in dict.fromkeys(fed.branch) if name.startswith("guess")]
        assert len(names) == len(step.guesses)
        picture = lookahead_mask.view(step, Letters(), step.fed - 1)
        assert f"text, {step.context}" in picture and "says whether the guess" in picture
        assert "names" in lookahead_mask.view(step, Letters(), 5)
        checked += 1
    assert checked, "no pass had two guesses: this test saw nothing"
    with pytest.raises(ValueError, match="no window"):
        lookahead_mask.read(ahead.trace[0])


def test_the_trie_picture_shows_what_was_looked_up(model):
    """Guards a picture of another tree than the one verified, and a `watch` that changes the run."""
    trie = trie_view.watch(Trie(10, branch=4, match=3))
    run = speculative(model, PROMPT, 30, trie)
    bare = speculative(model, PROMPT, 30, Trie(10, branch=4, match=3))
    assert run.tokens == bare.tokens and [s.drafted for s in run.trace] == [s.drafted for s in bare.trace]
    pictures, text = trie_view.frames(trie, run, Letters()), PROMPT + run.tokens
    passes = {step.context + 1: step for step in run.trace}
    assert len(pictures) == len(trie.looks) > 5
    for one, picture in zip(trie.looks, pictures, strict=True):
        step, end = passes[one.length], text[: one.length]
        assert tuple(end[len(end) - len(one.matched):]) == one.matched
        assert tuple(one.tokens[node] for node in one.drafted) == step.drafted
        assert all(parent < node for node, parent in enumerate(one.parents))
        assert picture.count(">✓</span>") == (1 if one.matched else 0)
        for node, parent in enumerate(one.parents):             # counted by hand in the text so far
            path, at = [one.tokens[node]], parent
            while at >= 0:
                path, at = [one.tokens[at], *path], one.parents[at]
            gram = (*one.matched, *path)
            assert one.seen[node] == sum(tuple(end[i : i + len(gram)]) == gram for i in range(len(end)))


def test_a_trie_picture_when_nothing_matches():
    trie = trie_view.watch(Trie(4))
    trie.learn([1, 2, 3])
    trie.looks.append(trie_view.look(trie, Draft(), 3))
    run = Generation([5], [LookaheadPass(1, 2, [5], 0.1)])
    assert "never seen before" in trie_view.frames(trie, run, Letters())[0]


def test_what_is_observed_is_what_happened():
    """Text 0 1 2 3 4: guesses 1 2 (both right) and 1 9 (one of two), then none: α = 3/4, one pass in two asked."""
    run = Generation([0, 1, 2, 3, 4], [
        LookaheadPass(5, 0, [0], 0.1), LookaheadPass(9, 5, [1, 2, 3], 0.1, guesses=((1, 2), (1, 9))),
        LookaheadPass(5, 8, [4], 0.1)])
    seen = lookahead_charts.observe([run])
    assert seen == {"saved": 5 / 3, "fed": 7, "alpha": 3 / 4, "b": 2, "asked": 1 / 2, "given": 3}
    f = lookahead_charts.fitted_f(1.5, 0.4, 7, 5, 7)
    assert step_compression(expected_of_best(0.4, 4, 7), f) == pytest.approx(1.5)


def test_free_tokens_end_at_the_ridge():
    """153 for an A100 with 16-bit weights; four-byte weights double a machine's budget; batches share it."""
    a100 = lookahead_charts.GPUS[1]
    assert round(lookahead_charts.free_tokens(a100)) == 153
    assert lookahead_charts.price(a100, 120) == 1 and lookahead_charts.price(a100, 306) == pytest.approx(2, rel=1e-3)
    slow = Limits("slow", (10.0,), (50.0,))
    assert lookahead_charts.free_tokens(slow, 4) == 10
    view = lookahead_charts.budget_view([(a100, 2), (slow, 4)], 15, 5, 1, 1.5)
    assert "✓ price 1.00: up to 1.50× as fast" in view and "✗ price 12.00: 0.12×, slower" in view
    assert "480 tokens fed" in lookahead_charts.budget_view([(a100, 2)], 15, 5, 4, 1.5)


def test_charts_draw():
    rows = {(2, 5, 2): 1.1, (15, 5, 15): 1.5, (15, 2, 15): 1.3}
    theory = {"python": (0.4, 2.0), "mixed": (0.3, 3.0)}
    assert lookahead_charts.saved_chart({"python": rows, "mixed": rows}, theory).png()
    assert lookahead_charts.budget_chart([(gpu, 2) for gpu in lookahead_charts.GPUS], {"(7, 5, 7)": 56}).png()
    assert "N = 11" in lookahead_charts.theory_view(0.4, 2.0)
