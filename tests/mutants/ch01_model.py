"""Wrong answers to the exercises of chapter 01: the whole model."""

import torch

from mutants import Mutant


def flops(c, context, *, per=2, kv=None, mlp=3, vocabulary=1, products=2, size=None, read=None):
    query = size or c.num_heads * c.head_size
    columns = 2 * query + 2 * (kv or c.num_kv_heads) * c.head_size + mlp * c.mlp_width
    n = c.num_layers * c.width * columns + vocabulary * c.vocab_size * c.width
    return per * n + products * per * c.num_layers * context * (read or c.num_heads * c.head_size)


def all_parameters(c, context):
    return flops(c, context, vocabulary=1 if c.tie_embeddings else 2)


def agreement(model, ids, *, head=None, pick=lambda top: top, want=lambda tops: tops[-1], drop=0):
    with torch.no_grad():
        tops = [pick((head or model.head)(x).argmax(-1)) for x in model.layer_outputs(ids)]
    tops = tops[: len(tops) - drop]
    return [(top == want(tops)).double().mean().item() for top in tops]


def unrounded(model, ids):
    tops = torch.stack([model.head(x).argmax(-1) for x in model.layer_outputs(ids)])
    return (tops == tops[-1]).double().mean(dim=(1, 2))


def with_embedding(model, ids):
    states = [model.embed(ids), *model.layer_outputs(ids)]
    tops = [model.head(x).argmax(-1) for x in states]
    return [(top == tops[-1]).double().mean().item() for top in tops]


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
        Mutant("width for H D in projections", lambda c, n: flops(c, n, size=c.width), "using `width` for a query's"),
        Mutant("width for H D in attention", lambda c, n: flops(c, n, read=c.width), "using `width` in attention"),
        Mutant("width for H D in both", lambda c, n: flops(c, n, size=c.width, read=c.width), "`width` for HD, in"),
        Mutant("a float", lambda c, n: flops(c, n) / 1, "returns a float; it should return an int"),
        Mutant("a tensor", lambda c, n: torch.tensor(flops(c, n)), "it should return an int"),
        Mutant("2 x all parameters", all_parameters, "untied head costs"),
    ],
    "01.6": [
        Mutant("accuracy on the text", accuracy, "next input token"),
        Mutant("no final norm", lambda m, ids: agreement(m, ids, head=m.vocabulary), "final norm"),
        Mutant("last position only", lambda m, ids: agreement(m, ids, pick=lambda t: t[:, -1]), "last position only"),
        Mutant("first row only", lambda m, ids: agreement(m, ids, pick=lambda t: t[0]), "first row of the batch"),
        Mutant("each with the next", neighbours, "the one after it"),
        Mutant("without the last layer", no_last_layer, "last layer is probably missing"),
        Mutant("the input tokens", lambda m, ids: agreement(m, ids, want=lambda _: ids), "with the input tokens"),
        Mutant("with the embedding", with_embedding, "it is no layer"),
        Mutant("percent", lambda m, ids: [100 * share for share in agreement(m, ids)], "giving percent"),
        Mutant("rounds", lambda m, ids: [round(share, 2) for share in agreement(m, ids)], "rounding to 2 digits"),
        Mutant("without the head", lambda m, ids: agreement(m, ids, head=lambda x: x), "the head is missing"),
        Mutant("a tensor", unrounded, "it should return a list"),
        Mutant("a list of tensors", lambda m, ids: list(unrounded(m, ids)), "add .item()"),
        Mutant("counts, not shares", counts, "divide by how many"),
    ],
}
