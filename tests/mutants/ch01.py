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
}
