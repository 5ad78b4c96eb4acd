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


def mean_over_all(x, weight, eps=1e-6):
    return weight * x / (x**2).mean().add(eps).sqrt()


def sum_of_squares(x, weight, eps=1e-6):
    return weight * x / (x.norm(dim=-1, keepdim=True) ** 2 + eps).sqrt()


def no_weight(x, weight, eps=1e-6):
    return rms(x, 1.0, eps)


def rounds_on_the_way(x, weight, eps=1e-6):
    return rms(x.float(), weight.float(), eps).to(x.dtype)


def turns_back(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


def pairs_neighbours(x, cos, sin):
    out = torch.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., 1::2] * cos + x[..., 0::2] * sin
    return out


def turned_halves(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return a * cos - b * sin, a * sin + b * cos


def even_and_odd(x, cos, sin):
    return torch.cat(turned_halves(torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1), cos, sin), dim=-1)


def stacks(x, cos, sin):
    return torch.stack(turned_halves(x, cos, sin), dim=-1)


def interleaves(x, cos, sin):
    return stacks(x, cos, sin).reshape(x.shape)


def new_b_first(x, cos, sin):
    a, b = turned_halves(x, cos, sin)
    return torch.cat((b, a), dim=-1)


def all_minus(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos - a * sin), dim=-1)


def swapped_without_sign_on_the_first(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * torch.cat((cos, cos), -1) + torch.cat((b, -a), -1) * torch.cat((sin, sin), -1)


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


def down_untransposed(x, gate, up, down):
    return (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down


def untransposed(x, gate, up, down):
    return (torch.nn.functional.silu(x @ gate) * (x @ up)) @ down


MUTANTS = {
    "01.1": [
        Mutant("divides by the mean square", mean_square, "take its root"),
        Mutant("mean over the wrong axis", wrong_axis, "wrong axis"),
        Mutant("subtracts the mean", layer_norm, "as LayerNorm does"),
        Mutant("forgets keepdim", no_keepdim, "your code raised RuntimeError"),
        Mutant("eps outside the root", eps_outside, "inside the root"),
        Mutant("changes its input", in_place, "changes its input x in place"),
        Mutant("no eps", no_eps, "eps argument is not used"),
        Mutant("one mean for all", mean_over_all, "one mean over the whole tensor"),
        Mutant("sum of squares", sum_of_squares, "take their mean"),
        Mutant("no weight", no_weight, "the weight is missing"),
        Mutant("computes in float32, casts back", rounds_on_the_way, "you round to float32 on the way"),
        Mutant("casts to float32", in_float32, "dtype float32; it should be float64"),
    ],
    "01.2": [
        Mutant("turns the wrong way", turns_back, "the wrong way"),
        Mutant("pairs neighbours", pairs_neighbours, "pairing neighbours"),
        Mutant("cuts into even and odd", even_and_odd, "cutting x into even and odd numbers"),
        Mutant("stacks", stacks, "you stack the two halves; put them side by side"),
        Mutant("stacks and flattens", interleaves, "which mixes them as 0 D/2 1"),
        Mutant("new b first", new_b_first, "your halves are in the wrong order"),
        Mutant("subtracts in both halves", all_minus, "subtracting where the second half adds"),
        Mutant("minus on the wrong half", swapped_without_sign_on_the_first, "the first half takes minus sin"),
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
        Mutant("weights not transposed", untransposed, "a .T is probably missing"),
        Mutant("down not transposed", down_untransposed, "a .T is probably missing"),
    ],
}
