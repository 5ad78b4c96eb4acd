"""Lookahead decoding (Fu et al. 2024): the model makes its own n-grams by Jacobi iteration, and verifies them at once.

Jacobi decoding (Santilli et al. 2023) guesses a block of tokens and lets every pass renew all of them from the ones
before: the fixed point is the greedy text. The guesses on the way there are mostly thrown away, though runs of them
are right and merely in the wrong place. Lookahead keeps these: a window of W columns and N - 1 rows holds the guesses
of the last N - 1 passes, each pass reads W n-grams off it into a pool, and n-grams of the pool that begin with the last
token are verified as a draft. One pass does both: the window (lookahead branch) and the guesses (verification branch)
hang from the last token as branches of one tree, so that neither sees the other.
"""
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minilm.cache import KVCache
from minilm.checks import check_count
from minilm.decoding.speculative import Draft, SpeculativePass, decide, greedy_path
from minilm.generation import Generation, Pass, Recorder, check_request
from minilm.model import GPT
from minilm.sampling import Sampling, choose


def first_guess(prompt: Sequence[int], count: int) -> list[int]:
    """Something to begin with: the prompt's tokens, over again where it is too short. Nearly anything will do."""
    return [prompt[i % len(prompt)] for i in range(count)]


# --- Jacobi decoding ---

@dataclass
class JacobiPass(Pass):
    """One iteration. guess[m], renewed[m]: the tokens not yet fixed, before and after; the emitted ones are now fixed.

    block: the number of the block, from 0; the prompt's pass has no guess and block -1.
    """

    guess: tuple[int, ...] = ()
    renewed: tuple[int, ...] = ()
    block: int = -1


@torch.inference_mode()
def jacobi(model: GPT, prompt: list[int], max_new_tokens: int, *, block: int = 16,
           eos: int | None = None) -> Generation:
    """Greedy decoding as a fixed point: y_i = argmax p(· | prompt, y_<i), for all i of a block in each pass.

    Each pass fixes at least the first token that was not fixed yet, so a block of m tokens takes at most m passes; it
    takes fewer where a guess was right before its turn came. The trace holds a `JacobiPass` for each pass, the whole
    trajectory. Raises TypeError or ValueError, before any work, when the request can't be.
    """
    check_request(model, prompt, max_new_tokens)
    check_count("block", block, 1)
    out = Recorder(prompt, max_new_tokens, eos)
    cache = model.new_cache(len(prompt) + max_new_tokens)
    guess, blocks = [], -1
    while not out.done:
        context = cache.length
        if not out.tokens:
            out.emit(len(prompt), 0, [_prefill(model, prompt, cache, Sampling(), None)], JacobiPass)
            continue
        if not guess:
            guess, blocks = first_guess(prompt, min(block, max_new_tokens - len(out.tokens))), blocks + 1
        feed = [out.tokens[-1], *guess[:-1]]
        renewed = model.head(model.read(feed, cache)).argmax(-1).tolist()
        right = next((i for i, pair in enumerate(zip(guess, renewed, strict=True)) if pair[0] != pair[1]), len(guess))
        fixed = min(right + 1, len(guess))                      # what follows right guesses is right too
        cache.truncate(context + fixed)
        out.emit(len(feed), context, renewed[:fixed], JacobiPass, guess=tuple(guess), renewed=tuple(renewed),
                 block=blocks)
        guess = renewed[fixed:]
    return out.finish()


# --- lookahead decoding ---

class NgramPool:
    """n-grams by their first token; of those with the same one, the `size` made last are kept."""

    def __init__(self, size: int):
        self.size = size
        self._after: defaultdict[int, OrderedDict[tuple[int, ...], None]] = defaultdict(OrderedDict)

    def add(self, ngram: Sequence[int]) -> None:
        """Keep ngram[N], as the latest; drop the one that was not made for longest when there are more than `size`."""
        first, rest = ngram[0], tuple(ngram[1:])
        known = self._after[first]
        known[rest] = None
        known.move_to_end(rest)
        if len(known) > self.size:
            known.popitem(last=False)

    def after(self, token: int) -> list[tuple[int, ...]]:
        """What followed `token`, N - 1 tokens each, the latest first."""
        return list(reversed(self._after.get(token, ())))

    def __len__(self) -> int:
        return sum(map(len, self._after.values()))


class Window:
    """The lookahead branch: rows[N-1][W], the guesses of the last N - 1 passes, the oldest row first.

    rows[j][i] stands i + j tokens after the last token of the text, whose own place is rows[0][0]. It continues
    rows[j-1][i], so a column is a trajectory; the tokens of the oldest row follow each other. The first guess fills all
    rows at once (Fu et al. begin with one and fill up), so that passes are of one size. However many tokens a pass
    gives, the window moves on by one, as theirs does: what lags behind is soon made right.
    """

    def __init__(self, prompt: Sequence[int], width: int, ngram: int):
        seed = [prompt[-1], *first_guess(prompt, width + ngram - 2)]
        self.rows = [seed[j : j + width] for j in range(ngram - 1)]
        self.width, self.age = width, 0

    def tree(self, last: int) -> Draft:
        """What is fed, row by row, W (N - 1) tokens: the text's `last` token in its place, all others below it."""
        self.rows[0][0] = last
        tokens = [token for row in self.rows for token in row]
        return Draft(tokens, None, [*range(-1, self.width - 1), *range(len(tokens) - self.width)])

    def slide(self, renewed: Sequence[int]) -> list[tuple[int, ...]]:
        """Take in what the model named after the newest row, renewed[W]; the oldest row goes. Returns W n-grams.

        An n-gram is a column and what it led to. The first N - 2 passes make none, since what their columns hold beside
        the first token is still from the first guess and not the model's.
        """
        made = list(zip(*self.rows, renewed, strict=True)) if self.age >= len(self.rows) - 1 else []
        self.rows = [*self.rows[1:], list(renewed)]
        self.age += 1
        return made


@dataclass
class LookaheadPass(SpeculativePass):
    """One pass. window[N-1][W] before it, `renewed`[W] what it added; () when the window was not fed.

    ngrams: those made.  guesses: those tried, N - 1 tokens each; drafted, parents: the same as one tree, in which
    guesses share what they begin with; accepted: the nodes kept.
    """

    window: tuple[tuple[int, ...], ...] = ()
    renewed: tuple[int, ...] = ()
    ngrams: tuple[tuple[int, ...], ...] = ()
    guesses: tuple[tuple[int, ...], ...] = ()


@torch.inference_mode()
def lookahead(model: GPT, prompt: list[int], max_new_tokens: int, *, window: int = 7, ngram: int = 5, guesses: int = 7,
              sampling: Sampling = Sampling(), pool_from_prompt: bool = False, eos: int | None = None,
              generator: torch.Generator | None = None) -> Generation:
    """Continue `prompt` as the model alone would: the same tokens when greedy, the same distribution when sampled.

    window: W, columns.  ngram: N, tokens.  guesses: G, the most n-grams kept for a first token and verified in a pass.
    A pass feeds up to (W + G)(N - 1) tokens. pool_from_prompt: begin with the prompt's own n-grams in the pool.
    Guesses are the model's argmax also when sampling, so they are chosen and not drawn, and `verify.tree` is exact.
    Where the window would reach past the model's last position, it rests. The trace holds `LookaheadPass`es.
    Raises TypeError or ValueError, before any work, when the request can't be.
    """
    _check_lookahead(model, prompt, max_new_tokens, window, ngram, guesses, pool_from_prompt)
    reach = window + ngram - 2                                  # positions that the window takes, the last token's too
    out, pool, ahead = Recorder(prompt, max_new_tokens, eos), NgramPool(guesses), Window(prompt, window, ngram)
    cache = model.new_cache(min(model.config.max_positions, len(prompt) + max_new_tokens + reach),
                            spare=(window + guesses) * (ngram - 1))
    for i in range(len(prompt) - ngram + 1 if pool_from_prompt else 0):
        pool.add(prompt[i : i + ngram])
    while not out.done:
        context = cache.length
        if not out.tokens:
            out.emit(len(prompt), 0, [_prefill(model, prompt, cache, sampling, generator)], LookaheadPass)
            continue
        last, room = out.tokens[-1], max_new_tokens - len(out.tokens) - 1      # the pass itself gives one more
        tried = [guess[:room] for guess in pool.after(last)] if room else []
        draft, looks = merge(tried), room > 0 and context + reach <= cache.capacity
        branch = ahead.tree(last) if looks else Draft([last], None, [-1])
        logits, newest = both_branches(model, cache, branch, draft, window if looks else 0)
        if sampling.greedy:                                     # one wait for the GPU, not two
            best = torch.cat((newest, logits)).argmax(-1).tolist()
            renewed, (path, token) = tuple(best[: len(newest)]), greedy_path(best[len(newest) :], draft)
        else:
            renewed = tuple(newest.argmax(-1).tolist())
            path, token = decide(logits, draft, sampling, "rejection", generator)
        cache.keep(context, [0, *(len(branch.tokens) + node for node in path)])
        told = {}
        if looks:
            told = {"window": tuple(map(tuple, ahead.rows)), "renewed": renewed, "ngrams": tuple(ahead.slide(renewed))}
            for made in told["ngrams"]:
                pool.add(made)
        out.emit(len(branch.tokens) + len(draft.tokens), context, [*(draft.tokens[node] for node in path), token],
                 LookaheadPass, drafted=tuple(draft.tokens), parents=tuple(draft.parents), accepted=tuple(path),
                 guesses=tuple(tried), **told)
    return out.finish()


def both_branches(model: GPT, cache: KVCache, branch: Draft, draft: Draft,
                  width: int) -> tuple[Tensor, Tensor]:
    """One pass over the lookahead branch, whose first token is the text's last, and over the guesses that follow it.

    Returns the logits[n+1, V] after the last token and after each of the n guessed ones, and the logits[width, V] after
    the newest row, the last `width` tokens of the branch. Only those states need the vocabulary.
    """
    first, n = len(branch.tokens), len(draft.tokens)
    cache.branch([*branch.parents, *(first + parent if parent >= 0 else 0 for parent in draft.parents)])
    states = model.read([*branch.tokens, *draft.tokens], cache)                         # (T, d)
    logits = model.head(torch.cat((states[first - width : first], states[:1], states[first : first + n])))
    return logits[width:], logits[:width]


def merge(sequences: Sequence[Sequence[int]]) -> Draft:
    """One tree of several sequences of tokens: what they begin with in common is there once, so siblings differ."""
    where: dict[tuple[int, ...], int] = {}
    tokens, parents = [], []
    for sequence in sequences:
        for end in range(1, len(sequence) + 1):
            prefix = tuple(sequence[:end])
            if prefix not in where:
                where[prefix] = len(tokens)
                tokens.append(prefix[-1])
                parents.append(where.get(prefix[:-1], -1))
    return Draft(tokens, None, parents)


def _prefill(model: GPT, prompt: list[int], cache: KVCache, sampling: Sampling,
             generator: torch.Generator | None) -> int:
    """Read the prompt; the first new token."""
    return choose(model.head(model.read(prompt, cache)[-1]), sampling, generator)


def _check_lookahead(model: GPT, prompt: list[int], max_new_tokens: int, window: int, ngram: int, guesses: int,
                     pool_from_prompt: bool) -> None:
    """Raise one clear error when `lookahead` can't start."""
    check_request(model, prompt, max_new_tokens)
    for name, value, least in (("window", window, 1), ("ngram", ngram, 2), ("guesses", guesses, 0)):
        check_count(name, value, least)
    if window + ngram - 2 > model.config.max_positions:
        raise ValueError(f"a window of {window} columns and n-grams of {ngram} tokens reach {window + ngram - 2} "
                         f"positions far, past the model's {model.config.max_positions}: make them smaller")
    if pool_from_prompt and len(prompt) < ngram:
        raise ValueError(f"the prompt's {len(prompt)} tokens hold no n-gram of {ngram}: take a smaller ngram, a longer "
                         "prompt, or pool_from_prompt=False")
