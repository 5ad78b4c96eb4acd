"""What early exit loses: many prompts at many thresholds at once, each answer compared with the full model's.

Calibration wants the loss of every example at every threshold. Here a batch holds one row for each (prompt, threshold);
every layer runs for every row, and a row that has left keeps its hidden state as it is. Each later layer then projects
keys and values from that copied state, so the answers are those of `decoding.early_exit`, at the full model's cost.
"""
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from minilm.bench import record
from minilm.decoding.calm import ExitHead, saturation, softmax_response
from minilm.decoding.early_exit import entropy
from minilm.model import GPT
from minilm.training.sampler import LeftPaddedCache


class Seen:
    """What a measure may look at after a layer, for the rows that are still there: rows[n] says which ones they are."""

    def __init__(self, model: GPT, rows: Tensor, hidden: Tensor, before: Tensor, first: bool):
        self.model, self.rows, self.hidden, self.before, self.first = model, rows, hidden, before, first

    def logits(self) -> Tensor:
        return self.model.head(self.hidden)


Measure = Callable[[Seen], Tensor]                                  # -> score[n]; larger is surer


def by_softmax(seen: Seen) -> Tensor:
    return softmax_response(seen.logits())


def by_saturation(seen: Seen) -> Tensor:
    return saturation(seen.hidden, seen.before)


def by_entropy(seen: Seen) -> Tensor:
    """Negative, so that larger is surer."""
    return -entropy(seen.logits())


class ByPatience:
    """Exits in a row that named the same token as the one before; a token's first exit starts the count anew."""

    def __init__(self, most_rows: int):
        self.count, self.last = torch.zeros(2, most_rows, dtype=torch.long)

    def __call__(self, seen: Seen) -> Tensor:
        named, rows = seen.logits().argmax(-1), seen.rows
        again = (named == self.last[rows]) & (not seen.first)
        self.count[rows] = torch.where(again, self.count[rows] + 1, 0)
        self.last[rows] = named
        return self.count[rows]


def by_classifier(head: ExitHead) -> Measure:
    return lambda seen: head(seen.hidden)


@torch.inference_mode()
def answers(model: GPT, prompts: Sequence[list[int]], thresholds: Tensor, max_new_tokens: int, measure: Measure,
            exits: Sequence[int], eos: int | None, batch_size: int = 256) -> tuple[list[list[int]], list[list[int]]]:
    """Greedy answers with early exit, one a row: (tokens, layers run for each), the first token from the full model.

    prompts, thresholds[rows]: a row leaves at the first exit where its score reaches its threshold.
    """
    tokens, depths = [], []
    for start in range(0, len(prompts), batch_size):
        some = slice(start, start + batch_size)
        new, layers = _batch(model, prompts[some], thresholds[some], max_new_tokens, measure, exits)
        for row, depth in zip(new.tolist(), layers.tolist(), strict=True):
            end = row.index(eos) + 1 if eos in row else len(row)
            tokens.append(row[:end])
            depths.append(depth[:end])
    return tokens, depths


def _batch(model: GPT, prompts: Sequence[list[int]], thresholds: Tensor, max_new_tokens: int, measure: Measure,
           exits: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(new tokens, layers run), each [B, max_new_tokens]."""
    widest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), widest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, widest - len(prompt):] = torch.tensor(prompt)
    padding = torch.tensor([widest - len(prompt) for prompt in prompts])
    cache = LeftPaddedCache(model.config, padding, capacity=widest + max_new_tokens, dtype=model.dtype)
    token = model.head(model.hidden(ids, cache)[:, -1]).argmax(-1)                  # (B)
    new, depths = [token], [torch.full_like(token, model.config.num_layers)]
    for _ in range(max_new_tokens - 1):
        token, depth = _step(model, token, cache, thresholds, measure, exits)
        new.append(token)
        depths.append(depth)
    return torch.stack(new, 1), torch.stack(depths, 1)


def _step(model: GPT, token: Tensor, cache: LeftPaddedCache, thresholds: Tensor, measure: Measure,
          exits: Sequence[int]) -> tuple[Tensor, Tensor]:
    """One more token for every row: (tokens[B], layers run[B])."""
    depth = torch.full_like(token, model.config.num_layers)
    gone = torch.zeros(len(token), 1, 1, dtype=torch.bool)
    x = model.embed(token[:, None])                                                 # (B, 1, d)
    rope = model.rotary(cache.begin(1), x.dtype)
    for layer, block in enumerate(model.layers):
        before, x = x, torch.where(gone, x, block(x, rope, cache, layer))
        rows = (depth == model.config.num_layers).nonzero()[:, 0]               # still there
        if layer + 1 in exits and len(rows):
            score = measure(Seen(model, rows, x[rows, 0], before[rows, 0], layer + 1 == min(exits)))
            leaving = rows[score >= thresholds[rows]]
            depth[leaving] = layer + 1
            gone[leaving] = True
    cache.end(1)
    return model.head(x[:, 0]).argmax(-1), depth


def rouge_l(a: Sequence[int], b: Sequence[int]) -> float:
    """ROUGE-L (Lin 2004): F1 of the longest common subsequence of two token lists, in [0, 1]."""
    if not a or not b:
        return float(len(a) == len(b))
    row = [0] * (len(b) + 1)
    for x in a:
        above = row[:]
        for j, y in enumerate(b):
            row[j + 1] = above[j] + 1 if x == y else max(above[j + 1], row[j])
    return 2 * row[-1] / (len(a) + len(b))


def load_losses() -> dict:
    """The recorded losses (`minilm bench exit-losses`); losses and depths are float64 tensors [example, threshold]."""
    recorded = record.read("early_exit_losses")
    for one_set in recorded["sets"].values():
        for measure in one_set["measures"]:
            for key in ("textual", "risk", "layers"):
                if measure[key] is not None:
                    measure[key] = torch.tensor(measure[key], dtype=torch.float64)
    return recorded
