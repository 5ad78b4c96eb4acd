"""Wrong answers to the exercises of chapter 01: attention."""

import torch

from mutants import Mutant


def no_mask(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def ready_made(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def causal(q, k, v, *, scale=None, diagonal=1, dim=-1, tile=False, hide=float("-inf")):
    group, T = q.shape[1] // k.shape[1], q.shape[2]
    spread = (lambda kv: torch.cat([kv] * group, dim=1)) if tile else (lambda kv: kv.repeat_interleave(group, dim=1))
    scores = q @ spread(k).mT / (q.shape[-1] ** 0.5 if scale is None else scale)
    scores = scores + torch.full((T, T), hide).triu(diagonal)
    return scores.softmax(dim) @ spread(v)


def zero_for_the_future(q, k, v):
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    return torch.tril((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)) @ v


def zero_scores(q, k, v, hide=0.0):
    group, T = q.shape[1] // k.shape[1], q.shape[2]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = torch.where(torch.ones(T, T).tril().bool(), q @ k.mT / q.shape[-1] ** 0.5, hide)
    return scores.softmax(-1) @ v


def rounds_on_the_way(q, k, v):
    return causal(q.float(), k.float(), v.float()).to(q.dtype)


def masks_the_past(q, k, v):
    T = q.shape[2]
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return scores.masked_fill(torch.ones(T, T).tril(-1).bool(), float("-inf")).softmax(-1) @ v


def float32_mask(q, k, v):
    return causal(q.float(), k.float(), v.float())


MUTANTS = {
    "01.3": [
        Mutant("no mask", no_mask, "mask is probably missing"),
        Mutant("masks the past", masks_the_past, "masking the past"),
        Mutant("masks after softmax", zero_for_the_future, "masking after softmax"),
        Mutant("no square root of D", lambda *a: causal(*a, scale=1.0), "square root of D is probably missing"),
        Mutant("divides by D", lambda *a: causal(*a, scale=a[0].shape[-1]), "divide by its square root"),
        Mutant("softmax over queries", lambda *a: causal(*a, dim=-2), "wrong axis"),
        Mutant("hides the token itself", lambda *a: causal(*a, diagonal=0), "hides the token itself"),
        Mutant("tiles the heads", lambda *a: causal(*a, tile=True), "repeat_interleave"),
        Mutant("masks with 0", zero_scores, "a score of 0 is a score like any other"),
        Mutant("masks with -10,000", lambda *a: zero_scores(*a, hide=-1e4), "below your mask's value"),
        Mutant("adds -10,000", lambda *a: causal(*a, hide=-1e4), "what you add to them should be -inf"),
        Mutant("calls PyTorch's", ready_made, "the task is to write it"),
        Mutant("computes in float32, casts back", rounds_on_the_way, "you round to float32 on the way"),
        Mutant("drops to float32", float32_mask, "dtype float32; it should be float64"),
    ],
}
