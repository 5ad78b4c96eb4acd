"""Exercises of chapter 01: the model, piece by piece."""

import torch

from minilm.lab.exercise import Exercise, agree, expect
from minilm.model import GPT, GPTConfig

ex = Exercise(
    "01.1",
    "RMSNorm",
    answer="rms_norm(x, weight, eps=1e-6)",
    task="scale each row x[..., d] to a root mean square of 1, then multiply by weight[d]",
    hints=(
        "Every row of d numbers is treated by itself. What single number says how large a row is?",
        "Divide each row by sqrt(mean(x^2) + eps), the mean taken over the last axis; then multiply by weight.",
        "x.pow(2).mean(dim=..., keepdim=True) keeps the axis so that it broadcasts; torch.rsqrt(y) is 1 / sqrt(y).",
    ),
)


def rms_norm(x, weight, eps=1e-6):
    """The reference. x[..., d], weight[d] -> [..., d]"""
    return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + eps) * weight


def _over_rows(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(dim=0, keepdim=True) + eps) * weight


def _over_all(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean() + eps) * weight


WRONG = {
    "you are probably dividing by the mean square; take its root": lambda x, w, eps=1e-6: (
        x / (x.pow(2).mean(-1, keepdim=True) + eps) * w
    ),
    "you are probably normalising over the wrong axis; each row is one of the last axis": _over_rows,
    "you are probably taking one mean over the whole tensor; each row has its own": _over_all,
    "you are probably subtracting the mean, as LayerNorm does; RMSNorm doesn't": lambda x, w, eps=1e-6: rms_norm(
        x - x.mean(-1, keepdim=True), w, eps
    ),
    "you are probably taking the sum of squares; take their mean": lambda x, w, eps=1e-6: (
        x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + eps) * w
    ),
    "the weight is missing: multiply each row by it": lambda x, w, eps=1e-6: rms_norm(x, torch.ones_like(w), eps),
}


@ex.check("matches the formula on rows of any number of axes", mistake="write sqrt(mean(x^2) + eps) out once more")
def _(answer):
    cases = [
        (torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0])),
        (torch.randn(3, 4), torch.randn(4)),
        (torch.randn(2, 3, 8), torch.randn(8)),
    ]
    agree(answer, rms_norm, cases, wrong=WRONG)


@ex.check("adds eps inside the root", mistake="the eps argument is not used as mean(x^2) + eps")
def _(answer):
    x, weight = torch.tensor([[0.01, -0.01]]), torch.ones(2)
    outside = x / (x.pow(2).mean(-1, keepdim=True).sqrt() + 0.5) * weight
    wrong = {"eps belongs inside the root, not after it": outside}
    expect(answer(x, weight, 0.5), rms_norm(x, weight, 0.5), wrong=wrong)


@ex.check("a row of zeros stays zero", mistake="without eps, zero divided by zero is NaN")
def _(answer):
    expect(answer(torch.zeros(1, 4), torch.ones(4)), torch.zeros(1, 4))


@ex.check("keeps the dtype", mistake="the result should have the dtype of x")
def _(answer):
    x, weight = torch.randn(2, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    expect(answer(x, weight), rms_norm(x, weight), tol=1e-12)


# --- 01.2 ------------------------------------------------------------------------------------------------------------

ex = Exercise(
    "01.2",
    "Rotary positions",
    answer="rotate(x, cos, sin)",
    task="turn pair (x[..., i], x[..., i + D/2]) of x[B, H, T, D] by its angle, whose cos and sin [T, D/2] are given",
    hints=(
        "A pair (a, b) is a point in the plane. Where does it land when the plane turns by an angle?",
        "Cut x into its first and second half on the last axis: a and b. New a: a cos - b sin. New b: b cos + a sin.",
        "a, b = x.chunk(2, dim=-1); then torch.cat((..., ...), dim=-1). cos[T, D/2] broadcasts over B and H by itself.",
    ),
)


def rotate(x, cos, sin):
    """The reference. x[B, H, T, D], cos and sin [T, D/2] -> [B, H, T, D]"""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def _neighbours(x, cos, sin):
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


def _angles(T, D, dtype=torch.float32):
    angles = torch.arange(T, dtype=dtype)[:, None] * 100.0 ** -(torch.arange(D // 2, dtype=dtype) / (D // 2))
    return angles.cos(), angles.sin()


@ex.check("turns every pair by its own angle", mistake="write down where (1, 0) and (0, 1) go when turned by an angle")
def _(answer):
    quarter = (torch.tensor([[0.0]]), torch.tensor([[1.0]]))
    cases = [(torch.tensor([[[[1.0, 2.0]]]]), *quarter), (torch.randn(1, 1, 3, 4), *_angles(3, 4)),
             (torch.randn(2, 3, 5, 8), *_angles(5, 8))]
    agree(answer, rotate, cases, wrong={
        "you are probably turning the wrong way: the first half takes minus sin": lambda x, c, s: rotate(x, c, -s),
        "you are probably pairing neighbours (0, 1), (2, 3); here pair i is (i, i + D/2)": _neighbours,
        "you are probably turning only the first half; the second is b cos + a sin": lambda x, c, s: torch.cat(
            (rotate(x, c, s).chunk(2, -1)[0], x.chunk(2, -1)[1]), -1),
        "you are probably adding where the first half subtracts: a cos - b sin": lambda x, c, s: torch.cat(
            (rotate(x, c, -s).chunk(2, -1)[0], rotate(x, c, s).chunk(2, -1)[1]), -1),
        "you are probably using the new a to make the new b; keep the old one": _sequential,
    })


def _sequential(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    a = a * cos - b * sin
    return torch.cat((a, b * cos + a * sin), dim=-1)


@ex.check("keeps the length of every vector", mistake="a rotation changes no length; look for a lost cos or sin")
def _(answer):
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64)
    expect(answer(x, *_angles(4, 6, torch.float64)).norm(dim=-1), x.norm(dim=-1), tol=1e-9)


# --- 01.3 ------------------------------------------------------------------------------------------------------------

ex = Exercise(
    "01.3",
    "Grouped-query causal attention",
    answer="attend(q, k, v)",
    task="causal attention of q[B, H, T, D] over k, v [B, K, T, D]; H/K query heads in a row share one key-value head",
    points=2,
    hints=(
        "First write it for H = K. Which of the T x T scores may token t use? What makes softmax ignore the others?",
        "Repeat each key-value head H/K times in a row; scores = q kT / sqrt(D); minus infinity above the diagonal; "
        "softmax over the last axis; times v.",
        "k.repeat_interleave(H // K, dim=1); future = torch.ones(T, T, dtype=torch.bool).triu(1).",
    ),
)


def attend(q, k, v, *, scale=None, group=None, future=1, axis=-1):
    """The reference; the keywords make the wrong ones. q[B, H, T, D], k and v [B, K, T, D] -> [B, H, T, D]"""
    T, D = q.shape[2:]
    group = group or (lambda kv: kv.repeat_interleave(q.shape[1] // k.shape[1], dim=1))
    scores = q @ group(k).transpose(-2, -1) / (D**0.5 if scale is None else scale)
    if future is not None:
        scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(future), float("-inf"))
    return scores.softmax(axis) @ group(v)


def _tiled(q, k, v):
    return attend(q, k, v, group=lambda kv: kv.repeat(1, q.shape[1] // k.shape[1], 1, 1))


def _masked_late(q, k, v):
    k, v = (kv.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for kv in (k, v))
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1).tril() @ v


def _looks_ahead(q, k, v):
    k, v = (kv.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for kv in (k, v))
    past = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril(-1)
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(past, float("-inf")).softmax(-1) @ v


def _qkv(B, H, K, T, D, dtype=torch.float32):
    return tuple(torch.randn(B, heads, T, D, dtype=dtype) for heads in (H, K, K))


@ex.check("one head, one row: softmax(q kT / sqrt(D)) v, causal", mistake="write out what tokens 0, 1 and 2 may read")
def _(answer):
    cases = [_qkv(1, 1, 1, 2, 4), _qkv(1, 1, 1, 5, 4)]
    agree(answer, attend, cases, wrong={
        "the mask is probably missing: token t may read tokens 0 to t only": lambda *a: attend(*a, future=None),
        "you are probably masking the past: the future is above the diagonal": _looks_ahead,
        "you are probably masking after softmax, so rows no longer sum to 1; put -inf in before": _masked_late,
        "the square root of D is probably missing: divide the scores by D ** 0.5": lambda *a: attend(*a, scale=1.0),
        "you are probably dividing by D; divide by its square root": lambda *a: attend(*a, scale=a[0].shape[-1]),
        "softmax is probably over the wrong axis: each query's row sums to 1": lambda *a: attend(*a, axis=-2),
        "your mask probably hides the token itself (triu(0)); it may read itself": lambda *a: attend(*a, future=0),
    })


@ex.check("query heads share key-value heads, in runs", mistake="query head h reads key-value head h // (H/K)")
def _(answer):
    cases = [_qkv(1, 2, 1, 2, 4), _qkv(2, 4, 2, 3, 4), _qkv(2, 6, 2, 5, 8), _qkv(1, 9, 3, 4, 4)]
    agree(answer, attend, cases, wrong={
        "you are probably tiling heads as 0 1 0 1 (repeat); runs are 0 0 1 1 (repeat_interleave)": _tiled})


@ex.check("keeps float64", mistake="make the mask from q's dtype, or use masked_fill")
def _(answer):
    q, k, v = _qkv(1, 2, 1, 3, 4, torch.float64)
    expect(answer(q, k, v), attend(q, k, v), tol=1e-10)


# --- 01.4 ------------------------------------------------------------------------------------------------------------

ex = Exercise(
    "01.4",
    "SwiGLU",
    answer="swiglu(x, gate, up, down)",
    task="the gated MLP of x[..., d], weights as PyTorch stores them: gate and up [m, d], down [d, m]",
    hints=(
        "Two looks at the same row: one makes numbers, the other decides how much of each passes.",
        "silu(x gateT) times x upT, element by element, then downT. silu(z) is z times sigmoid(z).",
        "torch.nn.functional.linear(x, weight) is x @ weight.T; torch.nn.functional.silu is the gate's function.",
    ),
)


def swiglu(x, gate, up, down, act=torch.nn.functional.silu):
    """The reference. x[..., d], gate and up [m, d], down [d, m] -> [..., d]"""
    return (act(x @ gate.T) * (x @ up.T)) @ down.T


@ex.check("down(silu(gate x) * up x), on any number of axes", mistake="write the three products out, one a line")
def _(answer):
    cases = [(torch.randn(*shape, d), torch.randn(m, d), torch.randn(m, d), torch.randn(d, m))
             for shape, d, m in (((1,), 2, 3), ((4,), 3, 5), ((2, 3), 4, 8))]
    F = torch.nn.functional
    agree(answer, swiglu, cases, wrong={
        "you are probably applying silu to up; the gate gets it": lambda x, g, u, d: swiglu(x, u, g, d),
        "you are probably using sigmoid; silu(z) is z * sigmoid(z)": lambda *a: swiglu(*a, act=torch.sigmoid),
        "you are probably using gelu; that is GEGLU": lambda *a: swiglu(*a, act=F.gelu),
        "you are probably using relu; that is ReGLU": lambda *a: swiglu(*a, act=torch.relu),
        "you are probably adding gate and up; they are multiplied": lambda x, g, u, d: (
            F.silu(x @ g.T) + x @ u.T) @ d.T,
        "silu goes on the gate alone, before the product": lambda x, g, u, d: F.silu((x @ g.T) * (x @ u.T)) @ d.T,
        "the activation is probably missing: silu on the gate": lambda *a: swiglu(*a, act=lambda z: z),
    })


# --- 01.5 ------------------------------------------------------------------------------------------------------------

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


def flops_per_token(config, context, *, kv=None, mlp=3, head=1, lookup=0, twice=2, attention=4):
    """The reference; the keywords make the wrong ones."""
    c = config
    kv = c.num_kv_heads if kv is None else kv
    layer = c.width * c.head_size * 2 * (c.num_heads + kv) + mlp * c.width * c.mlp_width
    weights = c.num_layers * layer + (head + lookup) * c.width * c.vocab_size
    return twice * weights + attention * c.num_layers * context * c.num_heads * c.head_size


def _shapes():
    return [GPTConfig(10, 1, 4, 2, 1, 6, 5), GPTConfig(100, 3, 16, 4, 2, 8, 40),
            GPTConfig(8192, 16, 256, 4, 2, 64, 704), GPTConfig(50, 2, 8, 2, 2, 4, 20, tie_embeddings=False)]


@ex.check("2N for the weights, 4 L c HD for attention", mistake="count one layer of the smallest config on paper")
def _(answer):
    cases = [(config, context) for config in _shapes() for context in (1, 7)]
    agree(answer, flops_per_token, cases, wrong={
        "an untied head costs what a tied one does: one product with d x V": lambda c, n: flops_per_token(
            c, n, lookup=0 if c.tie_embeddings else 1),
        "a multiply and an add are 2 FLOPs; you are probably counting 1": lambda c, n: flops_per_token(c, n) // 2,
        "keys and values have K heads, not H": lambda c, n: flops_per_token(c, n, kv=c.num_heads),
        "the MLP has three matrices: gate, up and down": lambda c, n: flops_per_token(c, n, mlp=2),
        "the vocabulary matrix is multiplied too: add d V": lambda c, n: flops_per_token(c, n, head=0),
        "the embedding is looked up, not multiplied: count d V once": lambda c, n: flops_per_token(c, n, lookup=1),
        "attention itself is probably missing: its scores and its weighted sum": lambda c, n: flops_per_token(
            c, n, attention=0),
        "attention has two products, scores and weighted sum: 2 c HD each": lambda c, n: flops_per_token(
            c, n, attention=2),
    })


# --- 01.6 ------------------------------------------------------------------------------------------------------------

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


@ex.check("counts agreement at all positions of all rows", mistake="compare top == tops[-1], then take the mean")
def _(answer):
    config = GPTConfig(vocab_size=7, num_layers=5, width=8, num_heads=2, num_kv_heads=1, head_size=4, mlp_width=16)
    model = GPT(config).double().eval()
    for parameter in model.parameters():                        # far from the start values, so that layers disagree
        torch.nn.init.normal_(parameter, std=0.6)
    ids = torch.randint(0, 7, (2, 12))
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
            "you are probably counting positions; divide by how many there are": [share * 24 for share in want],
        }
        got = answer(model, ids)
    got = got.tolist() if isinstance(got, torch.Tensor) else got
    expect(got, want, wrong=wrong)
