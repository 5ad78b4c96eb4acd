"""Wrong answers to 11.1 and 11.2: the merge, the states of split-KV attention."""
import math

import torch

from mutants import Mutant

# --- 11.1 ------------------------------------------------------------------------------------------------------------


def mean(a, b):
    return (a[0] + b[0]) / 2, torch.logaddexp(a[1], b[1])


def adds_logarithms(a, b):
    lse = a[1] + b[1]
    return sum(torch.where((w := (part - lse).exp()[:, None]) > 0, out * w, 0) for out, part in (a, b)), lse


def larger_lse(a, b):
    lse = torch.logaddexp(a[1], b[1])
    parts = [torch.where((w := (part - lse).exp()[:, None]) > 0, out * w, 0) for out, part in (a, b)]
    return parts[0] + parts[1], torch.maximum(a[1], b[1])


def overflows(a, b):
    lse = (a[1].exp() + b[1].exp()).log()
    return sum(torch.where((w := (part - lse).exp()[:, None]) > 0, out * w, 0) for out, part in (a, b)), lse


def not_divided(a, b):
    return a[0] * a[1].exp()[:, None] + b[0] * b[1].exp()[:, None], torch.logaddexp(a[1], b[1])


def exchanged(a, b):
    lse = torch.logaddexp(a[1], b[1])
    return a[0] * (b[1] - lse).exp()[:, None] + b[0] * (a[1] - lse).exp()[:, None], lse


def plain(a, b):
    """Empty states' outputs are cleaned, but the weights are NaN for nothing and nothing."""
    lse = torch.logaddexp(a[1], b[1])
    return sum(torch.where((part > -math.inf)[:, None], out, 0) * (part - lse).exp()[:, None]
               for out, part in (a, b)), lse


def guarded_base_only(a, b):
    """0 times NaN."""
    lse = torch.logaddexp(a[1], b[1])
    base = torch.where(lse > -math.inf, lse, 0.0)
    return a[0] * (a[1] - base).exp()[:, None] + b[0] * (b[1] - base).exp()[:, None], lse


# --- 11.2 ------------------------------------------------------------------------------------------------------------


def attention(q, k, v, lengths, n, *, size=None, least=0, head=None, scale=True, log=True, divide=True, empty=-math.inf,
              past=False):
    """Split attention, a head at a time; options switch mistakes on."""
    (B, H, D), (K, S) = q.shape, k.shape[1:3]
    outs, lses = torch.zeros(n, B, H, D, dtype=q.dtype), torch.full((n, B, H), empty, dtype=q.dtype)
    for b in range(B):
        length = int(lengths[b])
        step = size(length, n, S) if size else math.ceil(length / n)
        for i in range(n):
            first, last = i * step, (i + 1) * step if past else min((i + 1) * step, length)
            for h in range(H):
                if first < last:
                    kv = head(h, H, K) if head else h // (H // K)
                    scores = k[b, kv, first:last] @ q[b, h] * (D**-0.5 if scale else 1.0)
                    weights = scores.softmax(0) if divide else scores.exp()
                    outs[i, b, h] = weights @ v[b, kv, first:last]
                    lses[i, b, h] = scores.logsumexp(0) if log else scores.exp().sum()
    return outs, lses


def shares_of_room(q, k, v, lengths, num_splits):
    return attention(q, k, v, lengths, num_splits, size=lambda length, n, S: math.ceil(S / n))


def rounds_down(q, k, v, lengths, num_splits):
    return attention(q, k, v, lengths, num_splits, size=lambda length, n, S: length // n)


def wrong_heads(q, k, v, lengths, num_splits):
    return attention(q, k, v, lengths, num_splits, head=lambda h, H, K: h % K)


def unscaled(q, k, v, lengths, num_splits):
    return attention(q, k, v, lengths, num_splits, scale=False)


def sums(q, k, v, lengths, num_splits):
    return attention(q, k, v, lengths, num_splits, log=False)


def undivided(q, k, v, lengths, num_splits):
    return attention(q, k, v, lengths, num_splits, divide=False)


def zero_lse(q, k, v, lengths, num_splits):
    return attention(q, k, v, lengths, num_splits, empty=0.0)


def past_the_end(q, k, v, lengths, num_splits):
    return attention(q, k, v, lengths, num_splits, past=True)


def exp_of_lse(a, b):
    mass_a, mass_b = a[1].exp()[:, None], b[1].exp()[:, None]
    return (mass_a * a[0] + mass_b * b[0]) / (mass_a + mass_b), (mass_a + mass_b)[:, 0].log()


def right_merge(a, b):
    lse = torch.logaddexp(a[1], b[1])
    weights = ((part - lse).exp()[:, None] for part in (a[1], b[1]))
    return sum(torch.where(w > 0, w * out, 0.0) for w, out in zip(weights, (a[0], b[0]), strict=True)), lse


def lse_is_the_sum(a, b):
    return right_merge(a, b)[0], a[1] + b[1]


def adds_outputs(a, b):
    return a[0] + b[0], torch.logaddexp(a[1], b[1])


def base_two(a, b):
    lse = torch.logaddexp2(a[1], b[1])
    return (a[1] - lse).exp2()[:, None] * a[0] + (b[1] - lse).exp2()[:, None] * b[0], lse


def wiped_out(a, b):
    lse = torch.logaddexp(a[1], b[1])
    return ((a[1] - lse).exp()[:, None] * a[0] + (b[1] - lse).exp()[:, None] * b[0]).nan_to_num(), lse


def all_of_the_room(q, k, v, lengths, num_splits):
    return attention(q, k, v, torch.full_like(lengths, k.shape[2]), num_splits)


def evenly(q, k, v, lengths, num_splits):
    outs, lses = attention(q, k, v, lengths * 0, num_splits)
    for b, length in enumerate(lengths.tolist()):
        for i, keys in enumerate(torch.arange(length).tensor_split(num_splits)):
            if len(keys):
                out, lse = attention(q[b: b + 1], k[b: b + 1, :, keys], v[b: b + 1, :, keys],
                                     lengths[:1] * 0 + len(keys), 1)
                outs[i, b], lses[i, b] = out[0, 0], lse[0, 0]
    return outs, lses


def weight_zero(q, k, v, lengths, num_splits):
    (_, H, D), (K, S) = q.shape, k.shape[1:3]
    k, v = (x.repeat_interleave(H // K, 1) for x in (k, v))
    scores, places, size = (k @ q[..., None])[..., 0] * D**-0.5, torch.arange(S), -(-lengths // num_splits)
    states = []
    for i in range(num_splits):
        seen = (places >= i * size[:, None]) & (places < torch.minimum((i + 1) * size, lengths)[:, None])
        hidden = scores.masked_fill(~seen[:, None], -torch.inf)
        lse = hidden.logsumexp(-1)
        p = (hidden - lse.where(lse > -torch.inf, 0)[..., None]).exp()
        states.append(((p[:, :, None] @ v)[:, :, 0], lse))
    return tuple(map(torch.stack, zip(*states, strict=True)))


MUTANTS = {
    "11.1": [
        Mutant("mean of the outputs", mean, "the mean of the two outputs"),
        Mutant("adds the logarithms", adds_logarithms, "the masses add up, not their logarithms"),
        Mutant("larger lse", larger_lse, "the merged state must weigh as much as both"),
        Mutant("overflows", overflows, "exp(lse) overflows"),
        Mutant("not divided", not_divided, "is not divided"),
        Mutant("shares exchanged", exchanged, "the shares are exchanged"),
        Mutant("NaN of nothing", plain, "two states of no keys"),
        Mutant("zero times NaN", guarded_base_only, "0 · NaN is NaN"),
        Mutant("exp of lse", exp_of_lse, "exp(lse) is infinite for large lse"),
        Mutant("lse is the sum", lse_is_the_sum, "the sum of the two logarithms"),
        Mutant("adds the outputs", adds_outputs, "the outputs are added as they are"),
        Mutant("base 2", base_two, "that is in base 2"),
        Mutant("NaN wiped out", wiped_out, "with it goes the state that has keys"),
    ],
    "11.2": [
        Mutant("shares of S", shares_of_room, "yours are shares of S"),
        Mutant("rounds down", rounds_down, "leave the last ones out"),
        Mutant("h % K", wrong_heads, "yours is h % K"),
        Mutant("no scale", unscaled, "scores are divided by √D"),
        Mutant("sums in place of logarithms", sums, "not their logarithms"),
        Mutant("not divided", undivided, "not divided by their sum"),
        Mutant("lse 0 of an empty split", zero_lse, "lse must be -inf"),
        Mutant("past the end", past_the_end, "keys past the row's length take part"),
        Mutant("S for the lengths", all_of_the_room, "lengths are not looked at"),
        Mutant("evenly", evenly, "as evenly as can be"),
        Mutant("weight zero", weight_zero, "multiplied with weight 0"),
    ],
}
