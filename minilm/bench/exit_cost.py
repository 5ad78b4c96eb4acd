"""What early exit really costs: layers, vocabulary products, and the keys and values of skipped layers, told apart.

"Layers used" hides the last two. Counted from a trace of `ExitPass`es and the config alone, as in `cost`.
"""
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.bench.cost import Cost, head_weights, kv_bytes_per_token, layer_weights
from minilm.decoding.early_exit import ExitPass
from minilm.model import GPTConfig


@dataclass(frozen=True)
class ExitCost:
    """Mean cost of a new token, in parts. layers: the blocks that ran, attention included. head: the one vocabulary
    product that names the token. checks: vocabulary products beyond it. projections: keys and values of tokens that
    skipped a layer, made when a later token needs them (weights are read once a layer, however many tokens wait).
    """

    layers: Cost
    head: Cost
    checks: Cost
    projections: Cost

    @property
    def total(self) -> Cost:
        parts = (self.layers, self.head, self.checks, self.projections)
        return Cost(sum(p.flops for p in parts), sum(p.bytes for p in parts))


def mean_cost(config: GPTConfig, trace: Sequence[ExitPass], bytes_per_number: float = 4) -> ExitCost:
    """Mean over the decode passes (one token fed) of a trace. Raises ValueError when it has none."""
    passes = [step for step in trace if step.fed == 1]
    if not passes:
        raise ValueError("the trace has no decode pass: ask for at least two new tokens")
    c, b, n = config, bytes_per_number, len(passes)
    per_layer, per_head = layer_weights(c) / c.num_layers, head_weights(c)
    kv_weights = 2 * c.width * c.num_kv_heads * c.head_size                     # of one layer
    kv_bytes = kv_bytes_per_token(c, b) / c.num_layers                          # of one token in one layer
    ran = sum(step.layers for step in passes)
    seen = sum(step.layers * (step.context + 1) for step in passes)             # keys attended to, over layers
    layers = Cost(2 * per_layer * ran + 4 * c.num_heads * c.head_size * seen, b * per_layer * ran + kv_bytes * seen)
    extra = sum(step.head_products for step in passes) - n
    rows = sum(sum(step.projected) for step in passes)
    reads = sum(sum(waiting > 0 for waiting in step.projected) for step in passes)
    return ExitCost(
        layers=Cost(layers.flops / n, layers.bytes / n),
        head=Cost(2 * per_head, b * per_head),
        checks=Cost(2 * per_head * extra / n, b * per_head * extra / n),
        projections=Cost(2 * kv_weights * rows / n, (b * kv_weights * reads + kv_bytes * rows) / n))
