"""Jacobi and lookahead decoding: the target's own tokens and law, who sees whom, and what a pass leaves behind."""
import functools
import importlib
import itertools
import random

import pytest
import torch
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from law import draw, law_of
from mutants import lookahead as wrong

import minilm.decoding.verify as verify_module
import minilm.sampling as sampling_module
from minilm.cache import KVCache
from minilm.decoding import autoregressive, speedup
from minilm.sampling import Sampling

la = importlib.import_module("minilm.decoding.lookahead")           # the package has functions by these names
speculative_module = importlib.import_module("minilm.decoding.speculative")
ROOM = 64
MODEL = tiny_model(seed=13, dtype=torch.float64, tie_embeddings=False, max_positions=ROOM)   # varied texts with loops
PROMPTS = [[5, 17, 80], [1], [9, 9, 2, 44] * 3]
SETTINGS = [(1, 2, 0), (1, 2, 1), (4, 2, 3), (4, 3, 2), (7, 5, 7), (3, 6, 1), (1, 7, 3), (20, 8, 3), (9, 4, 0)]
SAVED = [32, 30, 34]
plain = functools.cache(lambda prompt, new: tuple(autoregressive(MODEL, list(prompt), new).tokens))


def named_each(texts) -> list[int]:
    """What the model names after each text, in one plain pass; what pads them on the right, nobody sees."""
    longest = max(map(len, texts))
    best = MODEL(torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])).argmax(-1)
    return [int(best[row, len(text) - 1]) for row, text in enumerate(texts)]


def run(prompt, new, setting, model=MODEL, **more):
    window, ngram, guesses = setting
    return la.lookahead(model, list(prompt), new, window=window, ngram=ngram, guesses=guesses, **more)


@functools.cache
def named(text: tuple[int, ...], after: tuple[int, ...] = ()) -> tuple[int, ...]:
    """What the model names after the text and after each further token: one plain pass, no cache."""
    return tuple(MODEL(torch.tensor([[*text, *after]]))[0, len(text) - 1 :].argmax(-1).tolist())


# --- Jacobi ---

def check_jacobi():
    """The greedy text in at most m passes a block; every iterate is f of the one before, f over the whole text."""
    for prompt, block in itertools.product(PROMPTS, (1, 5, 16)):
        for new in (0, 1, 2, 7, 35 if block == 1 else ROOM - len(prompt)):
            out = la.jacobi(MODEL, prompt, new, block=block)
            assert out.tokens == list(plain(tuple(prompt), new)) and len(out.trace) <= max(new, 0)
        text, guess, last = list(prompt), (), -1
        for step in out.trace:
            if step.block >= 0:
                if step.block != last:
                    size = min(block, new - (len(text) - len(prompt)))
                    assert step.block == last + 1 and guess == () and len(step.guess) == size
                else:
                    assert step.guess == guess, "an iteration starts from what the one before it made"
                assert step.renewed == named(tuple(text), step.guess)[:-1] and step.fed == len(step.guess)
                guess, last = step.renewed[len(step.emitted) :], step.block
            text += step.emitted
        for number in range(last + 1):
            steps = [step for step in out.trace if step.block == number]
            assert len(steps) <= len(steps[0].guess) <= block


def check_jacobi_takes_what_is_right():
    """A guess that is right is fixed at once, in one pass, whatever its length."""
    tokens = plain((5, 17, 80), 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(la, "first_guess", lambda prompt, count: list(tokens[1 : 1 + count]))
        out = la.jacobi(MODEL, [5, 17, 80], 20, block=19)
        assert out.tokens == list(tokens) and [len(step.emitted) for step in out.trace] == [1, 19]
        patch.setattr(la, "first_guess", lambda prompt, count: [*tokens[1:6], 0, *tokens[7 : 1 + count]])
        out = la.jacobi(MODEL, [5, 17, 80], 20, block=19)
        assert [len(step.emitted) for step in out.trace][:2] == [1, 6], "the right ones and the one after them"


def check_two_grams_are_jacobi():
    """N = 2 and G = 0: the window of pass t is Jacobi's iterate t - 1 from its t-th token on, W - 1 tokens of it.

    One row means that every token is renewed from the row itself: that is Jacobi's iteration, seen through a window
    that moves on by a token a pass. The trajectories are equal token by token, from the same first guess.
    """
    new = ROOM - 20
    for prompt in PROMPTS:
        iterate, iterates = la.first_guess(prompt, new - 1), []
        text = [*prompt, plain(tuple(prompt), 1)[0]]
        for _ in range(new - 1):
            iterates.append(iterate)
            iterate = list(named(tuple(text), tuple(iterate))[:-1])
        for step, expected in zip(la.jacobi(MODEL, prompt, new, block=new - 1).trace[1:], iterates, strict=False):
            assert list(step.guess) == expected[-len(step.guess) :]
        for width in (2, 5, 9):
            steps = run(prompt, new, (width, 2, 0)).trace[1:]
            for t, step in enumerate(steps):
                if step.window:
                    seen = iterates[t][t : t + width - 1]
                    assert list(step.window[0][1 : 1 + len(seen)]) == seen
            assert sum(bool(step.window) for step in steps) == new - 2


# --- lookahead ---

def check_greedy(settings=SETTINGS):
    """Token by token the model's own text, up to the last position; (W + G)(N - 1) tokens a pass at most."""
    for prompt, setting in itertools.product(PROMPTS, settings):
        for new in (0, 1, 2, 3, 20, ROOM - len(prompt)):
            for from_prompt in {False, len(prompt) >= setting[1]} if new == 20 else {False}:
                out = run(prompt, new, setting, pool_from_prompt=from_prompt)
                assert out.tokens == list(plain(tuple(prompt), new)), (setting, new)
                assert sum(len(step.emitted) for step in out.trace) == new
                assert all(step.fed <= speedup.lookahead_tokens(*setting) for step in out.trace[1:])


def check_saves():
    """Passes for 50 tokens: fewer where texts repeat themselves; without guesses, every token is a pass."""
    assert [len(run(prompt, 50, (7, 5, 7)).trace) for prompt in PROMPTS] == SAVED
    assert len(run(PROMPTS[2], 50, (7, 5, 0)).trace) == 50


def check_end_token():
    """Nothing follows the end token, wherever it stands in an accepted n-gram."""
    inside = 0
    for prompt, setting in itertools.product(PROMPTS, [(4, 2, 3), (7, 5, 7), (3, 6, 1)]):
        prompt = [*prompt, *plain(tuple(prompt), 30)]       # a text in which much comes again
        free = plain(tuple(prompt), 20)
        for eos in set(free[1:]):
            out = run(prompt, 20, setting, eos=eos, pool_from_prompt=True)
            assert out.tokens == list(free[: free.index(eos) + 1])
            kept = [out.trace[-1].drafted[node] for node in out.trace[-1].accepted]
            inside += eos in kept
    assert inside > 5, "no end token stood in an accepted n-gram: this check saw nothing"


def check_cache():
    """Before each pass the cache is a fresh one's over the text so far (≤ 1e-10): moved keys are the right ones."""
    for prompt, setting in itertools.product(PROMPTS, [(4, 3, 2), (7, 5, 7), (1, 2, 1), (20, 8, 3)]):
        text, lengths, original = [*prompt, *plain(tuple(prompt), ROOM - len(prompt))], [], la.both_branches
        fresh = KVCache(MODEL.config, dtype=torch.float64)
        MODEL.hidden(torch.tensor([text]), fresh)

        def look(model, cache, *rest, fresh=fresh, lengths=lengths, original=original):
            lengths.append(cache.length)
            for layer in range(MODEL.config.num_layers):
                for kept, right in ((cache.keys, fresh.keys), (cache.values, fresh.values)):
                    assert (kept(layer) - right(layer)[:, :, : cache.length]).abs().max() < 1e-10
            return original(model, cache, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(la, "both_branches", look)
            out = run(prompt, ROOM - len(prompt), setting)
        emitted = itertools.accumulate(len(step.emitted) for step in out.trace)
        assert lengths == [len(prompt) + count - 1 for count in emitted][:-1]


def feed(text, rows, guesses):
    """(path[node], logits[node, V]) of one pass: what each token should see after the text, and what it gave."""
    cache = KVCache(MODEL.config, dtype=torch.float64, spare=99)
    MODEL.hidden(torch.tensor([text[:-1]]), cache)
    window = la.Window([1], len(rows[0]), len(rows) + 1)
    window.rows = [list(row) for row in rows]
    branch, draft = window.tree(text[-1]), la.merge(guesses)
    logits, ahead = la.both_branches(MODEL, cache, branch, draft, len(branch.tokens))
    chain = [text[-1], *rows[0][1:]]
    paths = [(*chain[: i + 1], *(row[i] for row in rows[1 : j + 1]))
             for j in range(len(rows)) for i in range(len(chain))]
    nodes = list(dict.fromkeys(tuple(guess[:end]) for guess in guesses for end in range(1, len(guess) + 1)))
    assert len(logits) == 1 + len(nodes) and (logits[0] - ahead[0]).abs().max() < 1e-12
    return paths + [(text[-1], *node) for node in nodes], torch.cat((ahead, logits[1:]))


def check_mask():
    """Each token's logits are those of its own trajectory, read in sequence (≤ 1e-10), and of nothing else: a token
    changed anywhere moves the logits of those that it leads to, by more than 1e-6, and no others, by at most 1e-12."""
    rng = random.Random(0)
    some = lambda count: [rng.randrange(97) for _ in range(count)]                              # noqa: E731
    for width, ngram in ((1, 2), (4, 2), (3, 4), (5, 3), (1, 5)):
        text, rows = some(4), [some(width) for _ in range(ngram - 1)]
        guesses = [some(ngram - 1) for _ in range(3)]
        guesses[2][0] = guesses[0][0]                           # two that begin alike
        paths, logits = feed(text, rows, guesses)
        for path, got in zip(paths, logits, strict=True):
            assert (got - MODEL(torch.tensor([[*text[:-1], *path]]))[0, -1]).abs().max() < 1e-10
        for j, i in itertools.product(range(ngram - 1), range(width)):
            if (j, i) != (0, 0):                                # that place is the text's last token's
                other = [list(row) for row in rows]
                other[j][i] = (rows[j][i] + 1) % 97
                compare(paths, logits, *feed(text, other, guesses))
        for k in range(ngram - 1):
            other = [list(guess) for guess in guesses]
            other[1][k] = next(t for t in range(97) if t not in {guess[k] for guess in guesses})
            compare(paths, logits, *feed(text, rows, other))


def compare(paths, logits, other_paths, other_logits):
    changed = [a != b for a, b in zip(paths, other_paths, strict=True)]
    moved = (logits - other_logits).abs().amax(-1)
    assert any(changed) and all(m > 1e-6 if c else m <= 1e-12 for m, c in zip(moved.tolist(), changed, strict=True))


def check_trace():
    """What each pass tells, against the text: the window slides by a row, names what follows each column, makes n-grams
    of it from pass N - 2 on; guesses come from the pool, merged; the kept ones are the longest that is right."""
    for prompt, (W, N, G) in itertools.product(PROMPTS, [(4, 2, 3), (7, 5, 7), (3, 6, 1), (2, 3, 2)]):
        out = run(prompt, ROOM - len(prompt), (W, N, G), pool_from_prompt=len(prompt) >= N)
        text, pool, before = [*prompt, *out.trace[0].emitted], {}, None
        for start in range(len(prompt) - N + 1):
            remember(pool, prompt[start : start + N], G)
        for t, step in enumerate(out.trace[1:]):
            room = ROOM - len(text) - 1
            tried = [guess[:room] for guess in reversed(pool.get(text[-1], []))] if room else []
            assert list(step.guesses) == tried and step.context == len(text) - 1
            right = [next((k for k, pair in enumerate(zip(guess, named(tuple(text), guess), strict=False))
                           if pair[0] != pair[1]), len(guess)) for guess in tried]
            assert len(step.accepted) == max(right, default=0) and len(step.emitted) == 1 + len(step.accepted)
            assert bool(step.window) == (room > 0 and len(text) - 1 + W + N - 2 <= ROOM)
            assert step.fed == max(1, len(step.window) * W) + len(step.drafted)
            if step.window:
                rows = [list(row) for row in step.window]
                assert len(rows) == N - 1 and all(len(row) == W for row in rows) and rows[0][0] == text[-1]
                if before:
                    assert rows[0][1:] == before[0][1:] and rows[1:] == before[1:]
                columns = list(zip(*rows, strict=True))
                assert list(step.renewed) == named_each([(*text, *rows[0][1:i], *columns[i][i == 0 :])
                                                         for i in range(W)])
                made = [(*column, new) for column, new in zip(columns, step.renewed, strict=True)]
                assert list(step.ngrams) == (made if t >= N - 2 else [])
                for gram in step.ngrams:
                    remember(pool, gram, G)
                before = [*rows[1:], list(step.renewed)]
            text += step.emitted


def remember(pool: dict, gram, size: int) -> None:
    """A plain list for each first token, the latest last."""
    known = pool.setdefault(gram[0], [])
    if tuple(gram[1:]) in known:
        known.remove(tuple(gram[1:]))
    known.append(tuple(gram[1:]))
    del known[: max(0, len(known) - size)]


def check_pool():
    rng = random.Random(0)
    for size in (0, 1, 3):
        pool, slow = la.NgramPool(size), {}
        for _ in range(400):
            gram = [rng.randrange(3) for _ in range(3)]
            pool.add(gram)
            remember(slow, gram, size)
            assert all(pool.after(first) == slow.get(first, [])[::-1] for first in range(4))
            assert len(pool) == sum(map(len, slow.values()))


def check_merge():
    """Guesses share what they begin with: siblings differ, every guess is a path, and nothing else is."""
    rng = random.Random(0)
    for _ in range(200):
        guesses = [[rng.randrange(3) for _ in range(rng.randrange(1, 5))] for _ in range(rng.randrange(5))]
        draft = la.merge(guesses)
        paths = []
        for token, parent in zip(draft.tokens, draft.parents, strict=True):
            assert -1 <= parent < len(paths)
            paths.append((*(paths[parent] if parent >= 0 else ()), token))
        assert sorted(paths) == sorted({tuple(guess[:end]) for guess in guesses for end in range(1, len(guess) + 1)})


LAWS = [(Sampling(1.2), (2, 2, 2)), (Sampling(0.8, top_k=2), (2, 3, 2)), (Sampling(1.0, top_p=0.8), (3, 3, 3)),
        (Sampling(1.5), (1, 4, 2))]


def check_law(laws=LAWS, new=4):
    """The joint law of four tokens equals the target's to 1e-12, every path of chance followed: no false alarm."""
    target = tiny_model(seed=5, dtype=torch.float64, vocab_size=3, tie_embeddings=False, max_positions=16)
    prompt = [1, 2, 1, 0, 1, 2, 2]
    for sampling, setting in laws:
        kept = set()

        def decode(fresh, sampling=sampling, setting=setting, kept=kept):
            with pytest.MonkeyPatch.context() as patch:
                for module in (sampling_module, speculative_module):
                    patch.setattr(module, "uniform", lambda generator=None: fresh())
                for module in (sampling_module, verify_module):
                    patch.setattr(module, "draw", draw)
                out = run(prompt, new, setting, target, sampling=sampling, pool_from_prompt=True)
            kept |= {len(step.accepted) for step in out.trace}
            return out.tokens

        law, distance = law_of(decode), 0.0
        for text in itertools.product(range(3), repeat=new):
            p = sampling.probs(target(torch.tensor([prompt + list(text)])))[0]
            distance += abs(law[text] - float(p[range(len(prompt) - 1, len(prompt) + new - 1), list(text)].prod()))
        assert distance / 2 < 1e-12, f"{distance / 2:.4f} from the target's law"
        assert len(law) > 8 and kept == set(range(min(setting[1], new - 1))), "no guess was kept: nothing was seen"


CHECKS = {check.__name__: check for check in (
    check_jacobi, check_jacobi_takes_what_is_right, check_two_grams_are_jacobi, check_greedy, check_saves,
    check_end_token, check_cache, check_mask, check_trace, check_pool, check_merge, check_law)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards what lookahead decoding promises; see each check."""
    check()


@pytest.mark.parametrize("mutant", wrong.LOOKAHEAD, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let a wrong version pass."""
    mutant.apply(monkeypatch)
    named.cache_clear()
    with pytest.raises((AssertionError, ValueError, IndexError)):
        CHECKS[mutant.check]()


def test_a_sampled_run_repeats_with_its_seed():
    seeded = lambda seed: torch.Generator().manual_seed(seed)                                   # noqa: E731
    draws = [run([5, 17, 80], 30, (5, 3, 4), sampling=Sampling(1.0), generator=seeded(seed)).tokens
             for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_float32_gives_the_same_tokens():
    """float64 elsewhere; here the margins are wide enough for float32."""
    model = tiny_model(seed=13, tie_embeddings=False, max_positions=ROOM)
    for prompt in PROMPTS:
        expected = autoregressive(model, prompt, 40).tokens
        assert run(prompt, 40, (7, 5, 7), model).tokens == expected
        assert la.jacobi(model, prompt, 40).tokens == expected


# --- theory ---

@pytest.mark.parametrize(("alpha", "gamma", "b"), [(0.5, 4, 1), (0.5, 4, 7), (0.3, 2, 3), (1.0, 3, 2), (0.0, 3, 5)])
def test_expected_of_best_by_enumeration(alpha, gamma, b):
    """Over the lengths of all b guesses: length k has probability α^k (1 - α), and α^γ for a whole one."""
    if b <= 3:
        chance = [alpha**k * (1 - alpha) for k in range(gamma)] + [alpha**gamma]
        mean = sum((1 + max(lengths)) * float(torch.tensor([chance[k] for k in lengths], dtype=torch.float64).prod())
                   for lengths in itertools.product(range(gamma + 1), repeat=b))
        assert speedup.expected_of_best(alpha, gamma, b) == pytest.approx(mean, abs=1e-12)
    assert speedup.expected_of_best(alpha, gamma, 1) == pytest.approx(speedup.expected_tokens(alpha, gamma))
    assert speedup.expected_of_best(alpha, gamma, 0) == 1


def test_numbers_of_the_papers():
    """The 120, 80 and 56 tokens of Fu et al.'s settings for 7B, 13B and 33B; TensorRT-LLM's 83 for (7, 7, 7)."""
    assert [speedup.lookahead_tokens(w, 5, w) for w in (15, 10, 7)] == [120, 80, 56]
    assert speedup.tensorrt_draft_tokens(7, 7, 7) == 83
    for setting in itertools.product((1, 4, 7), (2, 3, 7), (0, 1, 7)):
        assert speedup.tensorrt_draft_tokens(*setting) == speedup.lookahead_tokens(*setting) - 1
    assert [round(speedup.expected_of_best(0.5, 4, b), 2) for b in (1, 7, 15)] == [1.94, 3.83, 4.47]
    assert speedup.step_compression(4.0, 1) == 4 and speedup.step_compression(4.0, 3) == 2
    assert speedup.step_compression(1.0, 9) == 1


@pytest.mark.parametrize(("call", "says"), [
    (lambda: run([5], 4, (0, 3, 2)), "window must be a whole number of at least 1"),
    (lambda: run([5], 4, (3, 1, 2)), "ngram must be a whole number of at least 2"),
    (lambda: run([5], 4, (3, 3, -1)), "guesses must be a whole number of at least 0"),
    (lambda: run([5], 4, (True, 3, 1)), "window must be a whole number"),
    (lambda: run([5], 4, (3, 2.5, 1)), "ngram must be a whole number"),
    (lambda: run([5], 4, (ROOM, 3, 1)), "past the model's 64: make them smaller"),
    (lambda: run([5], 4, (3, ROOM + 1, 1)), "past the model's 64: make them smaller"),
    (lambda: run([5, 6], 4, (3, 3, 1), pool_from_prompt=True), "hold no n-gram of 3"),
    (lambda: run([], 4, (3, 3, 1)), "prompt is empty"),
    (lambda: run([97], 4, (3, 3, 1)), "outside the vocabulary"),
    (lambda: run([5], ROOM, (3, 3, 1)), "do not fit"),
    (lambda: la.jacobi(MODEL, [5], 4, block=0), "block must be a whole number of at least 1"),
    (lambda: la.jacobi(MODEL, [], 4), "prompt is empty"),
    (lambda: speedup.expected_of_best(1.5, 2, 1), "; it is 1.5"),
    (lambda: speedup.expected_of_best(0.5, 2, -1), "; it is -1"),
    (lambda: speedup.step_compression(2.0, 0.5), "; it is 0.5"),
])
def test_bad_input(call, says):
    assert_clear_error(call, ValueError, says)
