"""Wrong answers to the exercises of chapter 01: the whole model."""

import torch

from mutants import Mutant


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
