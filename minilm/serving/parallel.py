"""Tensor parallelism: each weight matrix cut over several processes, one a GPU, that together run every token.

The scheme is Megatron-LM's (Shoeybi et al. 2019, §3): a block has two pairs of matrices, (qkv, out) and (gate_up,
down). The first of a pair is cut by its outputs, so each rank has whole heads, or whole MLP columns, and goes on alone;
the second is cut by its inputs, so each rank has one summand of the answer, and one all-reduce adds them: two a layer.

    matrix                  cut                    each rank then has          to be whole again
    qkv, gate_up            rows (Colwise)         its heads, its columns      nothing
    out, down               columns (Rowwise)      a summand of x[B, T, d]     all-reduce of B·T·d numbers
    vocabulary              rows (Colwise)         logits of V/ranks tokens    all-gather of B·T·V numbers
    embedding, norms        not                    all of it                   nothing

qkv and gate_up are several matrices in one, so their rows are dealt first (`deal`): a plain cut would give one rank all
of the gate and the other all of the up. The embedding stays whole on every rank, since looking up a row costs nothing;
where it is tied to the vocabulary matrix they part, for d·V / ranks more numbers on each rank.

`run` (in `ranks`) starts the processes; `torch.distributed` moves the numbers.
"""
from dataclasses import replace
from functools import partial
from math import gcd

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.experimental import local_map
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from minilm.checks import check_count
from minilm.linear import linear
from minilm.model import GPT, Attention, GPTConfig, rotate
from minilm.serving.ranks import RankError, run

__all__ = ["RankError", "check_divides", "deal", "held_bytes", "run", "shard"]


def shard(model: GPT, mesh: DeviceMesh) -> GPT:
    """Cut `model` over the ranks of `mesh` (one-dimensional); the model itself, changed, and with this rank's shape.

    Every rank calls it on the same weights, on its own device, and from then on runs the same passes on the same ids:
    all get the same logits. So every rank has loaded the model in full before, and must have room for that: where ranks
    share one memory, for as many copies. `model.config` now counts this rank's heads, so that `KVCache` and
    `serving.Engine` hold only those. Save a checkpoint before, not after: the rows have been dealt. Kernels that run
    whole layers in one launch leave a cut model alone, since its ranks must speak in between.
    Raises ValueError when a dimension does not divide by the ranks, or the model is cut already.
    """
    if not isinstance(model, GPT):
        raise TypeError(f"shard cuts a GPT; it got a {type(model).__name__}")
    if not isinstance(mesh, DeviceMesh) or mesh.ndim != 1:
        raise TypeError("mesh must be a DeviceMesh of one dimension, as `run` gives to its function; "
                        f"it is {mesh!r:.60}")
    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        raise ValueError("this model is cut already: load it anew to cut it otherwise")
    ranks, c = mesh.size(), model.config
    check_divides(c, ranks)
    if model.vocabulary.weight is model.embedding.weight:               # tied: one goes whole, the other in pieces
        model.vocabulary.weight = nn.Parameter(model.embedding.weight.detach(), requires_grad=False)
    heads = [c.num_heads * c.head_size, *[c.num_kv_heads * c.head_size] * 2]
    plan = {"vocabulary": ColwiseParallel(output_layouts=Replicate())}
    for i, block in enumerate(model.layers):
        _reorder(block.attention.qkv, deal(heads, ranks))
        _reorder(block.mlp.gate_up, deal([c.mlp_width] * 2, ranks))
        plan |= {f"layers.{i}.attention.qkv": ColwiseParallel(), f"layers.{i}.attention.out": RowwiseParallel(),
                 f"layers.{i}.mlp.gate_up": ColwiseParallel(), f"layers.{i}.mlp.down": RowwiseParallel()}
    parallelize_module(model, mesh, plan, src_data_rank=None)           # None: each rank has the weights, none is sent
    for name, style in plan.items():
        _multiply_pieces(model.get_submodule(name), style)
    for block in model.layers:
        _keep_own_heads(block.attention, ranks)
    model.ranks = ranks
    model.config = replace(c, num_heads=c.num_heads // ranks, num_kv_heads=c.num_kv_heads // ranks,
                           mlp_width=c.mlp_width // ranks)
    return model


def deal(sizes: list[int], ranks: int) -> Tensor:
    """The order of rows in which an even cut gives each rank its share of every part -> row numbers[sum(sizes)].

    sizes: rows of the parts that lie one after the other in a fused matrix, each a multiple of `ranks`. Rank r's run of
    rows is piece r of the first part, piece r of the second, and so on. Raises ValueError where a part is no multiple.
    """
    check_count("ranks", ranks, 1)
    if not sizes or any(size % ranks for size in sizes):
        raise ValueError(f"parts of {sizes} rows cannot be dealt evenly to {ranks} ranks")
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return torch.cat([torch.arange(start + rank * size // ranks, start + (rank + 1) * size // ranks)
                      for rank in range(ranks) for start, size in zip(starts, sizes, strict=True)])


def check_divides(config: GPTConfig, ranks: int) -> None:
    """Raise one ValueError that names all that does not divide by `ranks`, and the numbers of ranks that would do.

    Key-value heads are not copied to fill up the ranks, as vLLM does: more ranks than key-value heads is an error here.
    """
    check_count("ranks", ranks, 1)
    sizes = {"query heads": config.num_heads, "key-value heads": config.num_kv_heads, "MLP columns": config.mlp_width,
             "tokens of the vocabulary": config.vocab_size}
    misfits = [f"{size:,} {name}" for name, size in sizes.items() if size % ranks]
    if misfits:
        common = gcd(*sizes.values())
        fitting = [str(n) for n in range(1, common + 1) if common % n == 0]
        named = " and ".join(filter(None, (", ".join(misfits[:-1]), misfits[-1])))
        raise ValueError(f"{named} cannot be dealt evenly to {ranks} ranks; this model can be cut over "
                         f"{' or '.join(fitting)}")


def held_bytes(model: GPT) -> dict[str, int]:
    """What this rank really holds: {"cut": bytes of its pieces, "whole": bytes of what every rank has all of}."""
    held = {"cut": 0, "whole": 0}
    for parameter in model.parameters():
        cut = isinstance(parameter, DTensor)
        numbers = parameter.to_local() if cut else parameter
        held["cut" if cut else "whole"] += numbers.untyped_storage().nbytes()
    return held


def _reorder(matrix: nn.Linear, order: Tensor) -> None:
    for name, parameter in list(matrix.named_parameters()):
        setattr(matrix, name, nn.Parameter(parameter.detach()[order.to(parameter.device)], requires_grad=False))


def _multiply_pieces(matrix: nn.Linear, style: ColwiseParallel | RowwiseParallel) -> None:
    """Let `minilm.linear` multiply the rank's own piece, and DTensor see only what comes out: a slice, or a summand."""
    comes_out = [Shard(-1)] if isinstance(style, ColwiseParallel) else [Partial()]
    product = local_map(linear, out_placements=comes_out)
    matrix.forward = lambda x: product(x, matrix.weight, matrix.bias)


def _keep_own_heads(attention: Attention, ranks: int) -> None:
    attention.heads //= ranks
    attention.kv_heads //= ranks
    attention.keys_values = partial(_own_keys_values, attention)


def _own_keys_values(attention: Attention, x: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """`Attention.keys_values` from this rank's rows: for a token that skips the layer. Nothing is exchanged."""
    B, T, _ = x.shape
    first = attention.heads * attention.head_size
    bias = None if attention.qkv.bias is None else attention.qkv.bias.to_local()[first:]
    kv = linear(x, attention.qkv.weight.to_local()[first:], bias).view(B, T, -1, attention.head_size).transpose(1, 2)
    k, v = kv.split(attention.kv_heads, dim=1)
    return rotate(k if attention.k_norm is None else attention.k_norm(k), *rope), v
