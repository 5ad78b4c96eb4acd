"""Exercises of chapter 01: the whole model, what it costs and when it knows."""

import torch

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.values import kind
from minilm.model import GPT, GPTConfig

# --- 01.5 -------------------------------------------------------------------------------------------------------------

ex = Exercise(
    "01.5",
    "What a token costs",
    answer="flops_per_token(config, context)",
    task="FLOPs of one token's forward pass that reads `context` tokens, itself among them, as a whole number",
    hints=(
        "Every weight matrix meets the token once, a multiply and an add a number. Which two products have no weights?",
        "A layer: queries and output d x HD each, keys and values d x KD each, the MLP 3 d m; then d x V once. Twice "
        "that, and for each layer 2 c HD for the scores and 2 c HD for the weighted sum of values.",
        "layer = 2 * d * D * (H + K) + 3 * d * m; N = L * layer + d * V; return 2 * N + 4 * L * context * H * D.",
    ),
)


def flops_per_token(config, context, *, kv=None, mlp=3, head=1, lookup=0, attention=4, q=None, read=None):
    """The reference; the keywords make the wrong ones. q, read: numbers of a query, in projections and in attention."""
    c = config
    kv = c.num_kv_heads if kv is None else kv
    q, read = q or c.num_heads * c.head_size, read or c.num_heads * c.head_size
    layer = 2 * c.width * (q + kv * c.head_size) + mlp * c.width * c.mlp_width
    weights = c.num_layers * layer + (head + lookup) * c.width * c.vocab_size
    return 2 * weights + attention * c.num_layers * context * read


def _shapes():
    """H/K is not 2 and the width is not H D, so that no two mistakes make the same number."""
    return [GPTConfig(11, 1, 4, 3, 1, 6, 5), GPTConfig(100, 3, 16, 4, 1, 6, 40),
            GPTConfig(8000, 16, 256, 6, 2, 64, 704), GPTConfig(50, 2, 8, 5, 1, 6, 20, tie_embeddings=False)]


@ex.check("2N for the weights, 4 L c HD for attention", mistake="count one layer of the smallest config on paper")
def _(answer):
    cases = [(config, context) for config in _shapes() for context in (3, 7)]
    agree(answer, flops_per_token, cases, wrong={
        "an untied head costs what a tied one does: one product with d x V": lambda c, n: flops_per_token(
            c, n, lookup=0 if c.tie_embeddings else 1),
        "a multiply and an add are 2 FLOPs; you are probably counting 1": lambda c, n: flops_per_token(c, n) // 2,
        "you are probably using `width` for a query's size: H heads of D numbers, HD, as is the output's": (
            lambda c, n: flops_per_token(c, n, q=c.width)),
        "you are probably using `width` in attention; its scores and sums cost HD each for a token read": (
            lambda c, n: flops_per_token(c, n, read=c.width)),
        "you are probably using `width` for HD, in the projections and in attention; it need not be the same": (
            lambda c, n: flops_per_token(c, n, q=c.width, read=c.width)),
        "keys and values have K heads, not H": lambda c, n: flops_per_token(c, n, kv=c.num_heads),
        "the MLP has three matrices: gate, up and down": lambda c, n: flops_per_token(c, n, mlp=2),
        "the vocabulary matrix is multiplied too: add d V": lambda c, n: flops_per_token(c, n, head=0),
        "the embedding is looked up, not multiplied: count d V once": lambda c, n: flops_per_token(c, n, lookup=1),
        "attention itself is probably missing: its scores and its weighted sum": lambda c, n: flops_per_token(
            c, n, attention=0),
        "attention has two products, scores and weighted sum: 2 c HD each": lambda c, n: flops_per_token(
            c, n, attention=2),
    })


@ex.check("returns an int")
def _(answer):
    got = answer(_shapes()[0], 3)
    assert type(got) is int, f"your function returns {kind(got)}; it should return an int: / makes a float, // doesn't"


# --- 01.6 -------------------------------------------------------------------------------------------------------------

ex = Exercise(
    "01.6",
    "How early is the answer there?",
    answer="layer_agreement(model, ids)",
    task="for each layer, the share of all positions of ids[B, T] where its top token is the last layer's: L numbers",
    points=2,
    hints=(
        "The head reads any hidden state. What would each layer say, at each position?",
        "model.layer_outputs(ids) gives the hidden state after each layer; model.head(x) turns one into logits; "
        "compare its argmax with the last layer's.",
        "tops = [model.head(x).argmax(-1) for x in model.layer_outputs(ids)]; (top == tops[-1]).double().mean().",
    ),
)


def layer_agreement(model, ids):
    """The reference. ids[B, T] -> list of L floats"""
    return _shares(_tops(model, ids))


def _tops(model, ids, head=None):
    return [(head or model.head)(x).argmax(-1) for x in model.layer_outputs(ids)]


def _shares(tops, other=None):
    return [(top == (tops[-1] if other is None else other)).double().mean().item() for top in tops]


def _small():
    config = GPTConfig(vocab_size=7, num_layers=5, width=8, num_heads=2, num_kv_heads=1, head_size=4, mlp_width=16)
    model = GPT(config).double().eval()
    for parameter in model.parameters():                        # far from the start values, so that layers disagree
        torch.nn.init.normal_(parameter, std=0.6)
    return model, torch.randint(0, 7, (2, 12))


@ex.check("counts agreement at all positions of all rows", mistake="compare top == tops[-1], then take the mean")
def _(answer):
    model, ids = _small()
    with torch.no_grad():
        tops, want = _tops(model, ids), layer_agreement(model, ids)
        wrong = {
            "you are probably comparing with the next input token; compare with the last layer's guess": lambda: [
                (top[:, :-1] == ids[:, 1:]).double().mean().item() for top in tops],
            "you are probably comparing with the input tokens; compare with the last layer's guess": _shares(tops, ids),
            "the final norm is probably missing: use model.head, not model.vocabulary": lambda: _shares(
                _tops(model, ids, model.vocabulary)),
            "you are probably looking at the last position only": _shares([top[:, -1] for top in tops]),
            "you are probably looking at the first row of the batch only": _shares([top[:1] for top in tops]),
            "you are probably comparing each layer with the one after it": [
                (a == b).double().mean().item() for a, b in zip(tops, tops[1:] + tops[-1:], strict=True)],
            "the last layer is probably missing: L numbers, the last of them 1": want[:-1],
            "you are probably giving percent; give shares, from 0 to 1": [100 * share for share in want],
            "you have L + 1 numbers, the embedding among them; it is no layer": lambda: _shares(
                [model.head(model.embed(ids)).argmax(-1), *tops]),
            "the head is missing: a hidden state's largest number is no token; take model.head(x)": lambda: _shares(
                _tops(model, ids, lambda x: x)),
            **{f"you are probably rounding to {digits} digits; give the shares as they are": [
                round(share, digits) for share in want] for digits in (1, 2, 3, 4)},
            "you are probably counting positions; divide by how many there are": [share * 24 for share in want],
        }
        got = answer(model, ids)
    expect(got.tolist() if isinstance(got, torch.Tensor) else got, want, wrong=wrong)  # its type: the next check


@ex.check("returns a list of numbers")
def _(answer):
    model, ids = _small()
    got = answer(model, ids)
    assert isinstance(got, (list, tuple)), f"your function returns {kind(got)}; it should return a list"
    for share in got:
        assert isinstance(share, (int, float)), f"your list holds {kind(share)}; it should hold numbers: add .item()"
