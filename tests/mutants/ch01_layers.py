"""Wrong answers to the exercises of chapter 01: norm, rotary positions and the gated MLP."""

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


def neighbours(model, ids):
    tops = [model.head(x).argmax(-1) for x in model.layer_outputs(ids)]
    return [(a == b).double().mean().item() for a, b in zip(tops, [*tops[1:], tops[-1]], strict=True)]


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
}
