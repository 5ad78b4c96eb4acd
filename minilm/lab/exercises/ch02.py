"""Exercises of chapter 02: a KV cache, what it costs, and from logits to a token."""

import torch
import torch.nn.functional as F

from minilm.lab.exercise import Exercise, agree, expect

# --- 02.1 ------------------------------------------------------------------------------------------------------------

ex1 = Exercise(
    "02.1",
    "Append and attend",
    answer="append_and_attend(keys, values, q, k, v)",
    task="append a new token's k, v[K, D] to keys, values[K, S, D]; attend with q[H, D]; return (y, keys, values)",
    hints=(
        "The new token reads itself too. So what must happen first: appending, or attending?",
        "Concatenate along the token axis; give each key-value head to H/K query heads; then softmax(q·k / √D)·v.",
        "keys = torch.cat((keys, k[:, None]), dim=1); big = keys.repeat_interleave(H // K, dim=0) is [H, S + 1, D]; "
        "torch.einsum('hd,hsd->hs', q, big) / D**0.5 are the scores.",
    ),
)


def append_and_attend(keys, values, q, k, v):
    """The reference. keys, values[K, S, D], q[H, D], k, v[K, D] -> (y[H, D], keys, values[K, S + 1, D])"""
    keys, values = torch.cat((keys, k[:, None]), dim=1), torch.cat((values, v[:, None]), dim=1)
    return _attend(keys, values, q), keys, values


def _attend(keys, values, q, scale=True, tiled=False):
    group = q.shape[0] // keys.shape[0]
    spread = (lambda x: x.repeat(group, 1, 1)) if tiled else (lambda x: x.repeat_interleave(group, dim=0))
    scores = torch.einsum("hd,hsd->hs", q, spread(keys)) / (q.shape[-1] ** 0.5 if scale else 1)
    return torch.einsum("hs,hsd->hd", scores.softmax(-1), spread(values))


def _variant(**change):
    def wrong(keys, values, q, k, v):
        _, keys, values = append_and_attend(keys, values, q, k, v)
        return _attend(keys, values, q, **change), keys, values

    return wrong


def _old_only(keys, values, q, k, v):
    _, new_keys, new_values = append_and_attend(keys, values, q, k, v)
    return _attend(keys, values, q), new_keys, new_values


def _in_front(keys, values, q, k, v):
    keys, values = torch.cat((k[:, None], keys), dim=1), torch.cat((v[:, None], values), dim=1)
    return _attend(keys, values, q), keys, values


def _not_kept(keys, values, q, k, v):
    return append_and_attend(keys, values, q, k, v)[0], keys, values


def _overwrites(keys, values, q, k, v):
    keys, values = keys.clone(), values.clone()
    keys[:, -1], values[:, -1] = k, v
    return _attend(keys, values, q), keys, values


WRONG_1 = {
    "you are probably overwriting the last token; the cache grows by one": _overwrites,
    "you are probably attending before appending: the new token reads itself too": _old_only,
    "you are probably not dividing the scores by the square root of D": _variant(scale=False),
    "you are probably grouping heads as 0 1 0 1; key-value head 0 serves the first H/K query heads: repeat_interleave":
        _variant(tiled=True),
    "you are probably putting the new token in front; append it behind the old ones": _in_front,
    "you are probably returning the old keys and values: the next token will miss this one": _not_kept,
}


def _cache_case(K, S, D, H):
    return (torch.randn(K, S, D), torch.randn(K, S, D), torch.randn(H, D), torch.randn(K, D), torch.randn(K, D))


@ex1.check("attends to the old tokens and to itself", mistake="write softmax(q·k / √D)·v out once more")
def _(answer):
    agree(answer, append_and_attend, [_cache_case(2, 3, 4, 2), _cache_case(2, 5, 4, 4), _cache_case(1, 7, 8, 3)],
          wrong=WRONG_1)


@ex1.check("starts from an empty cache", mistake="with no old token, the new one reads itself alone: y is its value")
def _(answer):
    agree(answer, append_and_attend, [_cache_case(2, 0, 4, 4)], wrong=WRONG_1)


@ex1.check("adds up to causal attention over the whole text", mistake="token by token must equal one pass over all")
def _(answer):
    q, k, v = torch.randn(4, 6, 8), torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    keys = values = torch.empty(2, 0, 8)
    rows = []
    for t in range(6):
        y, keys, values = answer(keys, values, q[:, t], k[:, t], v[:, t])
        rows.append(y)
    want = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)[0]
    expect(torch.stack(rows, dim=1), want)


# --- 02.2 ------------------------------------------------------------------------------------------------------------

ex2 = Exercise(
    "02.2",
    "The read limit",
    answer="read_limit(num_weights, L, K, D, context, batch, bytes_per_number, read_rate)",
    task="the most new tokens per second, if a pass reads all weights once and each text's keys and values once",
    hints=(
        "What is read in one pass? What of it is shared by the texts of a batch, and what belongs to one text?",
        "A pass reads weights + batch · context · (bytes of a token), and gives `batch` new tokens.",
        "A token's cache is 2 · L · K · D numbers. Everything is in numbers until you multiply by bytes_per_number.",
    ),
)


def read_limit(num_weights, L, K, D, context, batch, bytes_per_number, read_rate):
    """The reference: tokens per second."""
    numbers = num_weights + batch * context * 2 * L * K * D
    return batch * read_rate / (numbers * bytes_per_number)


WRONG_2 = {
    "a token leaves a key and a value: the factor 2 is missing": lambda N, L, K, D, c, b, s, r: (
        b * r / ((N + b * c * L * K * D) * s)),
    "you are probably reading one cache for the whole batch; each text has its own": lambda N, L, K, D, c, b, s, r: (
        b * r / ((N + c * 2 * L * K * D) * s)),
    "you are probably reading the weights once for each text; a batch shares one read": lambda N, L, K, D, c, b, s, r: (
        b * r / (b * (N + c * 2 * L * K * D) * s)),
    "you are probably giving passes per second; a pass makes one new token for each text": (
        lambda N, L, K, D, c, b, s, r: r / ((N + b * c * 2 * L * K * D) * s)),
    "you are probably counting numbers; the rate is in bytes": lambda N, L, K, D, c, b, s, r: (
        b * r / (N + b * c * 2 * L * K * D)),
    "that is seconds per token; turn it over": lambda N, L, K, D, c, b, s, r: (
        (N + b * c * 2 * L * K * D) * s / (b * r)),
    "the cache is missing: with a long context it is most of what is read": lambda N, L, K, D, c, b, s, r: (
        b * r / (N * s)),
}


@ex2.check("counts weights and caches in bytes", mistake="write down what one pass reads, in bytes, term by term")
def _(answer):
    cases = [(1000.0, 2, 1, 4, 0, 1, 4, 8000.0), (1000.0, 2, 1, 4, 10, 3, 2, 9000.0),
             (8e9, 32, 8, 128, 4096, 16, 2, 3e12)]
    agree(answer, read_limit, cases, wrong=WRONG_2)


@ex2.check("batching stops paying when caches are most of it", mistake="double the batch: what grows, what stays?")
def _(answer):
    short = answer(8e9, 32, 8, 128, 16, 64, 2, 3e12) / answer(8e9, 32, 8, 128, 16, 1, 2, 3e12)
    long = answer(8e9, 32, 8, 128, 131_072, 64, 2, 3e12) / answer(8e9, 32, 8, 128, 131_072, 1, 2, 3e12)
    assert short > 60, f"with 16 tokens of context a batch of 64 should give about 63 times as much, not {short:.1f}"
    assert long < 3, f"with 131,072 tokens of context a batch of 64 should give less than 3 times, not {long:.1f}"


# --- 02.3 ------------------------------------------------------------------------------------------------------------

ex3 = Exercise(
    "02.3",
    "The mask of a chunk",
    answer="chunk_mask(new, held)",
    task="bool[new, held + new]: True where new token i may read token j; the `held` old tokens come first",
    hints=(
        "New token 0 stands at position `held`. Which positions may it read?",
        "All old ones and itself: new token i reads columns 0 to held + i.",
        "torch.ones(new, held + new, dtype=torch.bool).tril(...) keeps what is on or below a diagonal; which one?",
    ),
)


def chunk_mask(new, held):
    """The reference: bool[new, held + new]"""
    return torch.ones(new, held + new, dtype=torch.bool).tril(held)


WRONG_3 = {
    "your triangle starts at the top left; new token 0 stands behind `held` old ones: move the diagonal":
        lambda n, h: torch.ones(n, h + n, dtype=torch.bool).tril(),
    "a token may read itself: your diagonal is one too low": lambda n, h: torch.ones(n, h + n).bool().tril(h - 1),
    "your diagonal is one too high: token i sees token i + 1": lambda n, h: torch.ones(n, h + n).bool().tril(h + 1),
    "True should mean may read; yours is the reverse": lambda n, h: ~chunk_mask(n, h),
    "new tokens see later ones of the same chunk; only the old ones are open to all":
        lambda n, h: torch.ones(n, h + n, dtype=torch.bool),
    "the old tokens' columns are missing: the mask has held + new of them": lambda n, h: chunk_mask(n, 0),
}


@ex3.check("lets token i read the old ones and the new up to itself", mistake="draw the case of 3 new, 2 held on paper")
def _(answer):
    for new, held in ((3, 2), (2, 4), (4, 1)):
        expect(answer(new, held), chunk_mask(new, held),
               wrong={message: (lambda f=f, n=new, h=held: f(n, h)) for message, f in WRONG_3.items()})


@ex3.check("is the plain triangle when nothing is held", mistake="with held = 0 this is ordinary causal attention")
def _(answer):
    expect(answer(3, 0), chunk_mask(3, 0))


@ex3.check("one new token reads everything", mistake="decode is a chunk of one")
def _(answer):
    expect(answer(1, 5), torch.ones(1, 6, dtype=torch.bool))


# --- 02.4 ------------------------------------------------------------------------------------------------------------

ex4 = Exercise(
    "02.4",
    "Temperature and top-k",
    answer="shape_logits(logits, temperature, top_k=0)",
    task="logits[V] -> probabilities[V]: divide by temperature (0: one-hot of the largest), keep top_k (0: all)",
    hints=(
        "What should a token that is cut have as a probability, and what as a logit, so that softmax gives it that?",
        "Divide; put -inf where the logit is below the k-th largest; softmax. Temperature 0 needs its own branch.",
        "logits.topk(k).values[-1] is the k-th largest; masked_fill(logits < it, float('-inf')); else a 1 at argmax.",
    ),
)


def shape_logits(logits, temperature, top_k=0):
    """The reference: logits[V] -> probabilities[V]"""
    if temperature == 0:
        return F.one_hot(logits.argmax(), len(logits)).to(logits.dtype)
    scaled = (logits - logits.max()) / temperature
    if top_k:
        scaled = scaled.masked_fill(scaled < scaled.topk(min(top_k, len(scaled))).values[-1], float("-inf"))
    return scaled.softmax(-1)


def _keep(x, k, fill):
    return x.masked_fill(x < x.topk(min(k, len(x))).values[-1], fill) if k else x


WRONG_4 = {
    "you are probably multiplying by the temperature; divide": lambda x, t, k=0: shape_logits(x * t * t, t, k) if t else
        shape_logits(x, 0),
    "what is kept does not sum to 1 again: cut before the softmax, or divide by the sum": lambda x, t, k=0: _keep(
        shape_logits(x, t), k if t else 0, 0.0),
    "a cut token's logit should become -inf; 0 is an ordinary logit": lambda x, t, k=0: _keep(
        x / t, k, 0.0).softmax(-1),
    "you keep one token too many": lambda x, t, k=0: shape_logits(x, t, k + 1 if k else 0),
    "you are probably ignoring top_k": lambda x, t, k=0: shape_logits(x, t),
    "you are probably ignoring the temperature": lambda x, t, k=0: shape_logits(x, 1.0, k),
    "you are probably keeping the first k ids; keep the k largest": lambda x, t, k=0: (x / t).masked_fill(
        torch.arange(len(x)) >= (k or len(x)), float("-inf")).softmax(-1),
}


@ex4.check("scales, cuts and sums to 1", mistake="write divide, cut, softmax out once more, in this order")
def _(answer):
    x = torch.tensor([1.0, 3.0, 2.0, -1.0])
    cases = [(x, 1.0, 0), (x, 0.5, 0), (x, 2.0, 2), (torch.randn(9), 0.7, 3), (torch.randn(50), 1.3, 10),
             (x.double(), 0.5, 2)]
    agree(answer, shape_logits, cases, wrong=WRONG_4)


@ex4.check("temperature 0 is greedy", mistake="logits / 0 is inf or NaN: give temperature 0 its own branch")
def _(answer):
    x = torch.tensor([1.0, -2.0, 3.0, 0.5])
    got = answer(x, 0.0)
    assert not torch.isnan(got).any(), "logits / 0 gives NaN: temperature 0 needs a branch of its own"
    expect(got, torch.tensor([0.0, 0.0, 1.0, 0.0]))
    expect(answer(x, 0.0, 3), torch.tensor([0.0, 0.0, 1.0, 0.0]))


@ex4.check("top_k larger than the vocabulary keeps all", mistake="topk asks for at most V: take the smaller of the two")
def _(answer):
    x = torch.tensor([1.0, 2.0, 0.0])
    expect(answer(x, 1.0, 10), x.softmax(-1))


@ex4.check("a tiny temperature does not overflow", mistake="subtract the largest logit before you divide")
def _(answer):
    expect(answer(torch.tensor([60.0, 59.0, -80.0]), 1e-38), torch.tensor([1.0, 0.0, 0.0]),
           wrong={"60 / 1e-38 is inf, and inf - inf NaN: subtract the largest logit before you divide":
                  lambda: (torch.tensor([60.0, 59.0, -80.0]) / 1e-38).softmax(-1)})


# --- 02.5 ------------------------------------------------------------------------------------------------------------

ex5 = Exercise(
    "02.5",
    "The nucleus",
    answer="nucleus(probs, top_p)",
    task="probs[V] -> probs[V]: keep the fewest most probable tokens whose mass reaches top_p, zero the rest, sum to 1",
    hints=(
        "Sort. Whether a token stays depends on the mass of the ones *before* it. On what exactly?",
        "A token stays while the mass before it is still below top_p; so the one that crosses top_p stays.",
        "ordered, ids = probs.sort(descending=True); before = ordered.cumsum(0) - ordered; put what stays back with "
        "torch.zeros_like(probs).scatter(0, ids, ...) and divide by the sum.",
    ),
)


def nucleus(probs, top_p):
    """The reference: probs[V] -> probs[V]"""
    return _nucleus(probs, lambda ordered: ordered.cumsum(0) - ordered < top_p)


def _nucleus(probs, stays, back=True, scale=True, sort=True):
    ordered, ids = probs.sort(descending=True, stable=True) if sort else (probs, torch.arange(len(probs)))
    kept = ordered * stays(ordered)
    kept = kept / kept.sum() if scale else kept
    return torch.zeros_like(probs).scatter(0, ids, kept) if back else kept


ONE_TOO_MANY = "you keep one token too many: where the mass before a token has reached top_p, it goes"
WRONG_5 = {
    "you drop the token that crosses top_p; without it the mass does not reach top_p": lambda p, t: _nucleus(
        p, lambda o: o.cumsum(0) <= t),
    "you drop the token that crosses top_p, and what is kept does not sum to 1": lambda p, t: _nucleus(
        p, lambda o: o.cumsum(0) <= t, scale=False),
    ONE_TOO_MANY: lambda p, t: _nucleus(p, lambda o: o.cumsum(0) - o <= t),
    "what is kept does not sum to 1 again": lambda p, t: _nucleus(p, lambda o: o.cumsum(0) - o < t, scale=False),
    "your answer is in sorted order; put each probability back at its token's id": lambda p, t: _nucleus(
        p, lambda o: o.cumsum(0) - o < t, back=False),
    "you walk through the tokens by id; sort by probability first": lambda p, t: _nucleus(
        p, lambda o: o.cumsum(0) - o < t, sort=False),
    "you are probably keeping tokens with a probability above top_p; it is their sum that counts": lambda p, t: (
        p * (p >= min(t, p.max())) / (p * (p >= min(t, p.max()))).sum()),
}


@ex5.check("keeps the fewest that reach top_p", mistake="take [0.2, 0.5, 0.3] and top_p = 0.6 by hand")
def _(answer):
    p = torch.tensor([0.2, 0.5, 0.3])
    cases = [(p, 0.6), (p, 0.9), (torch.randn(20).softmax(-1), 0.5), (torch.randn(100).softmax(-1), 0.8)]
    agree(answer, nucleus, cases, wrong=WRONG_5)


@ex5.check("keeps one token where top_p is below the largest", mistake="at least one token must stay")
def _(answer):
    got = answer(torch.tensor([0.1, 0.7, 0.2]), 0.05)
    assert not torch.isnan(got).any(), "you drop the token that crosses top_p: here that is all, and 0 / 0 is NaN"
    expect(got, torch.tensor([0.0, 1.0, 0.0]))


@ex5.check("stops where top_p is reached exactly", mistake="0.5 has reached 0.5: the second token goes")
def _(answer):
    expect(answer(torch.tensor([0.25, 0.5, 0.25]), 0.5), torch.tensor([0.0, 1.0, 0.0]),
           wrong={ONE_TOO_MANY: lambda: WRONG_5[ONE_TOO_MANY](torch.tensor([0.25, 0.5, 0.25]), 0.5)})


# --- 02.6 ------------------------------------------------------------------------------------------------------------

ex6 = Exercise(
    "02.6",
    "The draw",
    answer="draw(probs, uniform)",
    task="the int token of probs[V] on whose piece of [0, 1) the number `uniform` falls, pieces in order of the ids",
    hints=(
        "Token t owns from the sum of all before it up to the sum with it. Which end belongs to it?",
        "The first token whose cumulative sum is greater than uniform. Equal is not enough: a token of probability 0 "
        "ends where it starts.",
        "torch.searchsorted(cdf, uniform, right=True); float sums may end at 0.9999999: multiply uniform by cdf[-1].",
    ),
)


def draw(probs, uniform):
    """The reference: the first token whose cumulative sum exceeds uniform · total."""
    cdf = probs.double().cumsum(0)
    token = int(torch.searchsorted(cdf, uniform * cdf[-1].item(), right=True))
    return token if token < len(cdf) else int(probs.nonzero()[-1])


WRONG_6 = {
    "you take the first token whose sum is at least `uniform`; at uniform = 0 that can have probability 0: greater": (
        lambda p, u: int((p.cumsum(0) >= u).nonzero()[0])),
    "you are probably taking the most probable token; draw by `uniform`": lambda p, u: int(p.argmax()),
    "you are probably walking from the most probable down; walk by id": lambda p, u: int(
        p.sort(descending=True, stable=True).indices[draw(p.sort(descending=True).values, u)]),
    "you are cutting 0 to 1 into equal pieces; a token's piece is as long as its probability": lambda p, u: int(
        u * len(p)),
    "you are one token too far: the sum includes the token itself": lambda p, u: draw(p, u) + 1,
    "you are one token too early: the sum includes the token itself": lambda p, u: max(draw(p, u) - 1, 0),
}


@ex6.check("follows the cumulative sum", mistake="take [0.2, 0.5, 0.3] by hand: 0 to 0.2 is token 0, up to 0.7 token 1")
def _(answer):
    p = torch.tensor([0.2, 0.5, 0.3])
    cases = [(p, 0.1), (p, 0.3), (p, 0.69), (p, 0.71), (p, 0.99), (torch.randn(30).softmax(-1), 0.45)]
    agree(answer, draw, cases, wrong=WRONG_6)


@ex6.check("never draws a token of probability 0", mistake="a cut token owns nothing, not even its edge")
def _(answer):
    greater = next(iter(WRONG_6))
    p = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0])
    for u, want in ((0.0, 1), (0.5, 3), (0.25, 1)):
        expect(answer(p, u), want, wrong={greater: lambda u=u: WRONG_6[greater](p, u)})


@ex6.check("survives sums that end below 1", mistake="the total may be 0.9999999: scale `uniform` by it")
def _(answer):
    p = torch.tensor([0.3, 0.3, 0.3, 0.0999, 0.0])
    message = "the sum ends below 1, and uniform fell onto a token of probability 0: scale uniform by the total"
    expect(answer(p, 0.99995), 3, wrong={message: 4, message + " ": 5})


@ex6.check("draws each token as often as its probability says", mistake="one uniform number, one token")
def _(answer):
    p = torch.tensor([0.1, 0.0, 0.6, 0.3])
    counts = torch.bincount(torch.tensor([answer(p, (i + 0.5) / 1000) for i in range(1000)]), minlength=4)
    expect(counts.tolist(), [100, 0, 600, 300])


# --- 02.7 ------------------------------------------------------------------------------------------------------------

ex7 = Exercise(
    "02.7",
    "The decode loop",
    answer="decode(step, prompt, max_new_tokens, eos=None)",
    task="call step(list of ints) -> next token: the prompt first, then the newest; stop at the limit or after eos",
    hints=(
        "step remembers all that it was fed: it has a cache. What must you feed it the second time?",
        "Feed the prompt, then only the newest token. Check the limit before a pass and the end token after it.",
        "new, feed = [], prompt; while len(new) < max_new_tokens: token = step(feed); append it; ...; feed = [token]",
    ),
)


def decode(step, prompt, max_new_tokens, eos=None):
    """The reference: the new tokens, with eos as the last one if it came."""
    new, feed = [], prompt
    while len(new) < max_new_tokens:
        token = step(feed)
        new.append(token)
        if token == eos:
            break
        feed = [token]
    return new


def _scripted(script):
    """A step that says `script` and notes what it was fed."""
    fed = []

    def step(feed):
        fed.append(list(feed))
        return script[len(fed) - 1]

    return step, fed


@ex7.check("returns the new tokens", mistake="collect what step returns, one token a pass")
def _(answer):
    step, _ = _scripted([7, 8, 9, 10, 11])
    expect(answer(step, [1, 2], 3), [7, 8, 9], wrong={
        "return the new tokens only, without the prompt": [1, 2, 7, 8, 9],
        "you stop one token too early": [7, 8], "you go one token past max_new_tokens": [7, 8, 9, 10]})


@ex7.check("feeds the prompt once, then one token a pass", mistake="the cache holds the rest: feed the newest token")
def _(answer):
    step, fed = _scripted([7, 8, 9, 10])
    answer(step, [1, 2], 3)
    expect(fed, [[1, 2], [7], [8]], wrong={
        "you feed the whole text each time; the cache would hold it twice": [[1, 2], [1, 2, 7], [1, 2, 7, 8]],
        "you feed the prompt token by token; prefill is one pass": [[1], [2], [7], [8]],
        "you make a pass whose token you throw away": [[1, 2], [7], [8], [9]],
        "you feed the prompt again and again; after the first pass feed the newest token": [[1, 2]] * 3})


@ex7.check("stops after the end token, which is kept", mistake="look at each token when it comes")
def _(answer):
    step, fed = _scripted([7, 5, 8, 9, 10])
    expect(answer(step, [1, 2], 4, 5), [7, 5], wrong={
        "the end token is part of the answer: append it, then stop": [7],
        "you don't stop at the end token": [7, 5, 8, 9]})
    assert len(fed) == 2, f"after the end token no pass is needed; you made {len(fed)} passes where 2 are enough"


@ex7.check("an end token in the prompt does not stop it", mistake="only new tokens can end the answer")
def _(answer):
    step, _ = _scripted([7, 8, 9])
    expect(answer(step, [5, 1, 5], 2, 5), [7, 8],
           wrong={"the prompt's end token stops you; look at new tokens only": []})


@ex7.check("eos=None never stops, and 0 can be the end token", mistake="compare with ==; None equals no token")
def _(answer):
    step, _ = _scripted([0, 7, 0, 8])
    expect(answer(step, [1], 3), [0, 7, 0])
    step, _ = _scripted([7, 0, 8])
    expect(answer(step, [1], 3, 0), [7, 0],
           wrong={"`if eos` is false for the end token 0: ask `eos is not None`, or just compare with ==": [7, 0, 8]})


@ex7.check("nothing to do for max_new_tokens 0", mistake="check the limit before the pass")
def _(answer):
    step, fed = _scripted([7, 8])
    expect(answer(step, [1, 2], 0), [], wrong={"you make a pass before you look at the limit": [7]})
    assert not fed, "max_new_tokens is 0, yet you made a pass: check the limit first"
