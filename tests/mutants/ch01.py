"""Wrong answers to the exercises of chapter 01."""

import torch

from mutants import Mutant


def mean_square(x, weight, eps=1e-6):
    return x / (x.pow(2).mean(-1, keepdim=True) + eps) * weight


def wrong_axis(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(0, keepdim=True) + eps) * weight


def layer_norm(x, weight, eps=1e-6):
    x = x - x.mean(-1, keepdim=True)
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def no_keepdim(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(-1) + eps) * weight


def eps_outside(x, weight, eps=1e-6):
    return x / (x.pow(2).mean(-1, keepdim=True).sqrt() + eps) * weight


def in_place(x, weight, eps=1e-6):
    x /= (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return x * weight


def no_eps(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)) * weight


def in_float32(x, weight, eps=1e-6):
    return rms(x.float(), weight.float(), eps)


def rms(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def turns_back(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


def pairs_neighbours(x, cos, sin):
    out = torch.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., 1::2] * cos + x[..., 0::2] * sin
    return out


def half_turned(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b), dim=-1)


def all_plus(x, cos, sin):
    swapped = torch.cat((x.chunk(2, dim=-1)[1], x.chunk(2, dim=-1)[0]), dim=-1)
    return x * torch.cat((cos, cos), -1) + swapped * torch.cat((sin, sin), -1)


def reuses_new_a(x, cos, sin):
    half = x.shape[-1] // 2
    x = x.clone()
    x[..., :half] = x[..., :half] * cos - x[..., half:] * sin
    x[..., half:] = x[..., half:] * cos + x[..., :half] * sin
    return x


def no_mask(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def causal(q, k, v, *, scale=None, diagonal=1, dim=-1, tile=False):
    group, T = q.shape[1] // k.shape[1], q.shape[2]
    spread = (lambda kv: torch.cat([kv] * group, dim=1)) if tile else (lambda kv: kv.repeat_interleave(group, dim=1))
    scores = q @ spread(k).mT / (q.shape[-1] ** 0.5 if scale is None else scale)
    scores = scores + torch.full((T, T), float("-inf")).triu(diagonal)
    return scores.softmax(dim) @ spread(v)


def zero_for_the_future(q, k, v):
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    return torch.tril((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)) @ v


def masks_the_past(q, k, v):
    T = q.shape[2]
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return scores.masked_fill(torch.ones(T, T).tril(-1).bool(), float("-inf")).softmax(-1) @ v


def float32_mask(q, k, v):
    return causal(q.float(), k.float(), v.float())


def with_act(act):
    return lambda x, gate, up, down: (act(x @ gate.T) * (x @ up.T)) @ down.T


def adds_gate(x, gate, up, down):
    return (torch.nn.functional.silu(x @ gate.T) + x @ up.T) @ down.T


def acts_on_up(x, gate, up, down):
    return ((x @ gate.T) * torch.nn.functional.silu(x @ up.T)) @ down.T


def acts_late(x, gate, up, down):
    return torch.nn.functional.silu((x @ gate.T) * (x @ up.T)) @ down.T


def untransposed(x, gate, up, down):
    return (torch.nn.functional.silu(x @ gate) * (x @ up)) @ down


def flops(c, context, *, per=2, kv=None, mlp=3, vocabulary=1, products=2):
    heads = 2 * c.num_heads + 2 * (kv or c.num_kv_heads)
    n = c.num_layers * c.width * (heads * c.head_size + mlp * c.mlp_width) + vocabulary * c.vocab_size * c.width
    return per * n + products * per * c.num_layers * context * c.num_heads * c.head_size


def all_parameters(c, context):
    return flops(c, context, vocabulary=1 if c.tie_embeddings else 2)


def agreement(model, ids, *, head=None, pick=lambda top: top, want=lambda tops: tops[-1], drop=0):
    with torch.no_grad():
        tops = [pick((head or model.head)(x).argmax(-1)) for x in model.layer_outputs(ids)]
    tops = tops[: len(tops) - drop]
    return [(top == want(tops)).double().mean().item() for top in tops]


def accuracy(model, ids):
    tops = [model.head(x).argmax(-1)[:, :-1] for x in model.layer_outputs(ids)]
    return [(top == ids[:, 1:]).double().mean().item() for top in tops]


def neighbours(model, ids):
    tops = [model.head(x).argmax(-1) for x in model.layer_outputs(ids)]
    return [(a == b).double().mean().item() for a, b in zip(tops, [*tops[1:], tops[-1]], strict=True)]


def counts(model, ids):
    tops = [model.head(x).argmax(-1) for x in model.layer_outputs(ids)]
    return [(top == tops[-1]).sum().item() for top in tops]


def no_last_layer(model, ids):
    return agreement(model, ids)[:-1]


MUTANTS = {
    "01.1": [
        Mutant("divides by the mean square", mean_square, "take its root"),
        Mutant("mean over the wrong axis", wrong_axis, "wrong axis"),
        Mutant("subtracts the mean", layer_norm, "as LayerNorm does"),
        Mutant("forgets keepdim", no_keepdim, "your code raised RuntimeError"),
        Mutant("eps outside the root", eps_outside, "inside the root"),
        Mutant("changes its input", in_place, "changes its input x in place"),
        Mutant("no eps", no_eps, "eps argument is not used"),
        Mutant("casts to float32", in_float32, "dtype float32; it should be float64"),
    ],
    "01.2": [
        Mutant("turns the wrong way", turns_back, "the wrong way"),
        Mutant("pairs neighbours", pairs_neighbours, "pairing neighbours"),
        Mutant("turns one half only", half_turned, "only the first half"),
        Mutant("adds in both halves", all_plus, "adding where the first half subtracts"),
        Mutant("uses the new a for b", reuses_new_a, "keep the old one"),
        Mutant("forgets to return", lambda x, cos, sin: None, "is a `return` missing"),
    ],
    "01.3": [
        Mutant("no mask", no_mask, "mask is probably missing"),
        Mutant("masks the past", masks_the_past, "masking the past"),
        Mutant("masks after softmax", zero_for_the_future, "masking after softmax"),
        Mutant("no square root of D", lambda *a: causal(*a, scale=1.0), "square root of D is probably missing"),
        Mutant("divides by D", lambda *a: causal(*a, scale=a[0].shape[-1]), "divide by its square root"),
        Mutant("softmax over queries", lambda *a: causal(*a, dim=-2), "wrong axis"),
        Mutant("hides the token itself", lambda *a: causal(*a, diagonal=0), "hides the token itself"),
        Mutant("tiles the heads", lambda *a: causal(*a, tile=True), "repeat_interleave"),
        Mutant("drops to float32", float32_mask, "dtype float32; it should be float64"),
    ],
    "01.4": [
        Mutant("silu on up", acts_on_up, "the gate gets it"),
        Mutant("sigmoid", with_act(torch.sigmoid), "silu(z) is z * sigmoid(z)"),
        Mutant("gelu", with_act(torch.nn.functional.gelu), "GEGLU"),
        Mutant("relu", with_act(torch.relu), "ReGLU"),
        Mutant("adds", adds_gate, "they are multiplied"),
        Mutant("silu after the product", acts_late, "before the product"),
        Mutant("no activation", with_act(lambda z: z), "activation is probably missing"),
        Mutant("weights not transposed", untransposed, "your code raised RuntimeError"),
    ],
    "01.5": [
        Mutant("counts multiply-adds once", lambda c, n: flops(c, n, per=1), "a multiply and an add are 2"),
        Mutant("keys with H heads", lambda c, n: flops(c, n, kv=c.num_heads), "K heads, not H"),
        Mutant("two matrices in the MLP", lambda c, n: flops(c, n, mlp=2), "gate, up and down"),
        Mutant("no vocabulary matrix", lambda c, n: flops(c, n, vocabulary=0), "add d V"),
        Mutant("embedding multiplied", lambda c, n: flops(c, n, vocabulary=2), "looked up, not multiplied"),
        Mutant("no attention", lambda c, n: flops(c, n, products=0), "attention itself is probably missing"),
        Mutant("half of attention", lambda c, n: flops(c, n, products=1), "attention has two products"),
        Mutant("2 x all parameters", all_parameters, "untied head costs"),
    ],
    "01.6": [
        Mutant("accuracy on the text", accuracy, "next input token"),
        Mutant("no final norm", lambda m, ids: agreement(m, ids, head=m.vocabulary), "final norm"),
        Mutant("last position only", lambda m, ids: agreement(m, ids, pick=lambda t: t[:, -1]), "last position only"),
        Mutant("first row only", lambda m, ids: agreement(m, ids, pick=lambda t: t[0]), "first row of the batch"),
        Mutant("each with the next", neighbours, "the one after it"),
        Mutant("without the last layer", no_last_layer, "last layer is probably missing"),
        Mutant("counts, not shares", counts, "divide by how many"),
    ],
}
