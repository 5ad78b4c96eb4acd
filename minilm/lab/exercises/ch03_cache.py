"""Exercises of chapter 03: the keys and values of a token that skipped layers."""

import torch

from minilm.cache import FullAttention
from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.expect import Failed
from minilm.lab.values import difference
from minilm.model import GPT, GPTConfig, rotate

ex4 = Exercise(
    "03.4",
    "Catch up",
    answer="catch_up(model, state, exit, position)",
    task="[(k[K, D], v[K, D]), ...] of state[d] for every layer above `exit`, with that layer's weights",
    hints=(
        "What does a layer do to a state before it makes keys? And which layers did a token that left after 4 miss?",
        "For layers exit + 1 to L: norm the same state, multiply by the rows of keys and of values, turn the keys by "
        "the token's position. The state itself is never changed.",
        "heads = block.attention.qkv(block.attention_norm(state)).view(-1, D); keys are heads[H : H + K], values the "
        "rest; rotate(k[None, :, None], cos, sin)[0, :, 0] turns.",
    ),
)


def catch_up(model, state, exit, position):
    """The reference: a list of (k[K, D], v[K, D]), one for each layer exit + 1 .. L."""
    return _caught(model, state, exit, position)


def _caught(model, state, exit, position, *, norm="attention_norm", weights=None, start=0, blocks=None, turn=True,
            turn_values=False):
    """The answer, but for one thing. weights: the index of the block whose weights serve every layer; start: the row of
    heads at which the keys begin, counted from the first key; blocks: which layers' indices."""
    c, out = model.config, []
    cos, sin = model.rotary(torch.tensor([position]), state.dtype)                  # (1, D)
    for index in range(exit, c.num_layers) if blocks is None else blocks:
        block = model.layers[index if weights is None else weights]
        x = state if norm is None else model.norm(state) if norm == "final" else getattr(block, norm)(state)
        heads = block.attention.qkv(x).view(-1, c.head_size).roll(-start, 0)        # (H + 2K, D)
        k, v = heads[c.num_heads :].chunk(2)
        spun = [rotate(y[None, :, None], cos, sin)[0, :, 0] for y in (k, v)]
        out.append((spun[0] if turn else k, spun[1] if turn_values else v))
    return out


def _first_rows(model, state, exit, position):
    return _caught(model, state, exit, position, start=-model.config.num_heads)


def _swapped(model, state, exit, position):
    c = model.config
    return [(rotate(v[None, :, None], *model.rotary(torch.tensor([position]), v.dtype))[0, :, 0], k)
            for k, v in _caught(model, state, exit, position, turn=False, blocks=range(exit, c.num_layers))]


def _run(block, x, rope):
    """x[d] after the block, alone in its text."""
    return block(x[None, None], rope, FullAttention(8), 0)[0, 0]


def _chained(model, state, exit, position, change):
    """The mistake of changing the state from one skipped layer to the next."""
    out, rope = [], model.rotary(torch.tensor([position]), state.dtype)
    for index in range(exit, model.config.num_layers):
        out += _caught(model, state, exit, position, blocks=[index])
        state = change(model.layers[index], state, rope)
    return out


WRONG = {
    "the norm is missing: a layer makes keys from attention_norm(state), not from the state itself":
        lambda m, s, e, p: _caught(m, s, e, p, norm=None),
    "you are probably using mlp_norm; attention reads through attention_norm":
        lambda m, s, e, p: _caught(m, s, e, p, norm="mlp_norm"),
    "you are probably using the model's last norm; every layer has its own, attention_norm":
        lambda m, s, e, p: _caught(m, s, e, p, norm="final"),
    "keys are not turned, or turned as at position 0; the angle is that of the token's own position":
        lambda m, s, e, p: _caught(m, s, e, p, turn=False),
    "you are one position off; `position` is the token's, counted from 0": lambda m, s, e, p: _caught(m, s, e, p + 1),
    "the angle is that of the token's position, not of the layer at which it left":
        lambda m, s, e, p: _caught(m, s, e, e),
    "only keys are turned; values stay as they are": lambda m, s, e, p: _caught(m, s, e, p, turn_values=True),
    "you use the exit layer's weights for all; a skipped layer reads keys of its own making":
        lambda m, s, e, p: _caught(m, s, e, p, weights=e - 1),
    "you use one layer's weights for all; each skipped layer has its own":
        lambda m, s, e, p: _caught(m, s, e, p, weights=e),
    "you use the last layer's weights for all; each skipped layer has its own":
        lambda m, s, e, p: _caught(m, s, e, p, weights=-1),
    "those are the queries' rows: qkv gives H queries first, then K keys, then K values": _first_rows,
    "keys and values are swapped: after the queries come the keys": _swapped,
    "the exit layer itself has run and has its keys; begin with the layer above, model.layers[exit]":
        lambda m, s, e, p: _caught(m, s, e, p, blocks=range(e - 1, m.config.num_layers)),
    "the first skipped layer is missing: the token ran `exit` layers, so model.layers[exit] is skipped":
        lambda m, s, e, p: _caught(m, s, e, p, blocks=range(e + 1, m.config.num_layers)),
    "the last layer is missing: every layer above the exit was skipped":
        lambda m, s, e, p: _caught(m, s, e, p, blocks=range(e, m.config.num_layers - 1)),
    "those are the layers that did run; the skipped ones lie above the exit":
        lambda m, s, e, p: _caught(m, s, e, p, blocks=range(e)),
    "each pair is (k, v); yours is (v, k)": lambda m, s, e, p: [(v, k) for k, v in _caught(m, s, e, p)],
    "the same state for every layer: you run the skipped layers' MLPs on it; it is copied as it is":
        lambda m, s, e, p: _chained(m, s, e, p, lambda block, x, rope: x + block.mlp(block.mlp_norm(x))),
    "the same state for every layer: you run the skipped layers on it; it is copied as it is, that is what is saved":
        lambda m, s, e, p: _chained(m, s, e, p, _run),
    "the same state for every layer: you norm what the layer before has normed; keep the state, norm a copy":
        lambda m, s, e, p: _chained(m, s, e, p, lambda block, x, rope: block.attention_norm(x)),
}


def _model(num_layers, heads, kv_heads):
    """A small random model whose norms have weights, too."""
    model = GPT(GPTConfig(vocab_size=7, num_layers=num_layers, width=8, num_heads=heads, num_kv_heads=kv_heads,
                          head_size=4, mlp_width=12, max_positions=32))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.5 + torch.rand_like(weight) if weight.dim() == 1 else torch.randn_like(weight))
    return model


def _not_padded(answer, model, state, exit, position):
    got, want = answer(model, state, exit, position), catch_up(model, state, exit, position)
    if isinstance(got, list | tuple) and len(got) == model.config.num_layers:
        if difference(list(got[exit:]), want) is None:
            raise Failed("all layers are too many: the list begins with the layer above the exit and has "
                         "L - exit pairs, none for the layers that ran")


@ex4.check("gives every skipped layer its keys and values", mistake="take one layer: norm, keys, values, turn the keys")
def _(answer):
    cases = [(_model(3, 2, 2), torch.randn(8), 2, 5), (_model(4, 4, 2), torch.randn(8), 1, 9)]
    _not_padded(answer, _model(4, 2, 1), torch.randn(8), 2, 3)
    agree(answer, catch_up, cases, wrong=WRONG)


@ex4.check("nothing to do for a token that ran every layer", mistake="after the last layer nothing was skipped: []")
def _(answer):
    agree(answer, catch_up, [(_model(3, 2, 1), torch.randn(8), 3, 4)])


@ex4.check("keeps the state's dtype", mistake="with float64 in, float64 comes out: compute in the dtype of the state")
def _(answer):
    model, state = _model(3, 2, 1).double(), torch.randn(8, dtype=torch.float64)
    want = catch_up(model, state, 1, 5)
    expect(answer(model, state, 1, 5), want, tol=1e-9, wrong={
        "the answer is cast to float32; keep the dtype of the state, here float64":
            [(k.float(), v.float()) for k, v in want]})


@ex4.check("gives what a full pass gives where nothing changes the state",
           mistake="in layers that leave the state alone, a skipped layer's keys must equal those of a full pass")
def _(answer):
    model, seen = _model(3, 4, 2), {}
    with torch.no_grad():
        for block in list(model.layers)[1:]:                       # layers 2 and 3 add nothing
            block.attention.out.weight.zero_()
            block.mlp.down.weight.zero_()

    class Spy:
        def begin(self, T):
            return torch.arange(T)

        def attend(self, layer, q, k, v):
            seen[layer] = k[0, :, -1], v[0, :, -1]
            return q

        def end(self, T):
            pass

    state = list(model.layer_outputs(torch.tensor([[1, 2, 3]]), Spy()))[0][0, -1].detach()
    agree(answer, lambda *_: [seen[1], seen[2]], [(model, state, 1, 2)], wrong=WRONG)
