"""Many answers at once: batched sampling for making training text. (Serving proper is `minilm.serving`.)"""
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from minilm.cache import KVCache
from minilm.model import GPT

# Not cuDNN: it plans anew for every length of the context, and here that is every step.
BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class LeftPaddedCache(KVCache):
    """A KV cache whose rows began with different amounts of padding, `padding[B]` tokens on the left.

    Rotary attention depends on distances only, so a row that is shifted right as a whole computes the same.
    """

    def __init__(self, config, padding: Tensor, **options):
        super().__init__(config, len(padding), **options)
        self.padding = padding
        self.group = config.num_heads // config.num_kv_heads

    def begin(self, num_tokens: int) -> Tensor:
        positions = super().begin(num_tokens)
        keys = torch.arange(self.length + num_tokens, device=positions.device)
        allowed = keys[None, None, :] <= positions[None, :, None]                   # causal
        mask = allowed & (keys >= self.padding[:, None])[:, None, :]                # and past the row's padding
        mask |= keys[None, None, :] == positions[None, :, None]                     # (B, T, S); no row sees nothing
        self.mask = mask.repeat(1, self.group, 1)[:, None]                          # (B, 1, G·T, S), see attend
        return positions

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        B, H, T, D = q.shape
        K = k.shape[1]
        keys, values = self._keys[layer], self._values[layer]
        keys[:, :, self.length : self.length + T] = k
        values[:, :, self.length : self.length + T] = v
        end = self.length + T
        packed = q.reshape(B, K, H // K * T, D)                  # a head's group of queries as more rows
        with sdpa_kernel(BACKENDS):
            y = F.scaled_dot_product_attention(packed, keys[:, :, :end], values[:, :, :end], attn_mask=self.mask)
        return y.reshape(B, H, T, D)

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these."""
        self.padding = self.padding[rows]
        self._hold(self._all[:, :, rows])


def draw_rows(logits: Tensor, temperature: float, min_p: float, generator: torch.Generator | None) -> Tensor:
    """One token for each row of logits[B, V]: greedy at temperature 0, else by the Gumbel trick.

    min_p: leave out tokens less probable than `min_p` times the most probable one (Nguyen et al. 2024).
    """
    if temperature == 0:
        return logits.argmax(-1)
    scaled = logits.float() / temperature
    if min_p > 0:
        floor = scaled.amax(-1, keepdim=True) + torch.tensor(min_p).log().to(scaled.device)
        scaled = scaled.masked_fill(scaled < floor, float("-inf"))
    noise = torch.empty_like(scaled).exponential_(generator=generator).log_()
    return (scaled - noise).argmax(-1)


@torch.inference_mode()
def sample_batch(model: GPT, prompts: list[list[int]], max_new_tokens: int, *, temperature: float, min_p: float = 0.0,
                 eos: int, generator: torch.Generator | None = None) -> list[list[int]]:
    """Answers to all prompts, as new tokens (with `eos` where it came). Finished rows leave the batch as it goes."""
    device = model.device
    widest = max(map(len, prompts))
    ids = torch.full((len(prompts), widest), eos)
    for row, prompt in enumerate(prompts):
        ids[row, widest - len(prompt):] = torch.tensor(prompt)
    padding = torch.tensor([widest - len(prompt) for prompt in prompts], device=device)
    room = min(widest + max_new_tokens, model.config.max_positions)
    cache = LeftPaddedCache(model.config, padding, capacity=room, dtype=model.dtype, device=device)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = torch.arange(len(prompts), device=device)                # which prompt each row of the batch belongs to
    feed, steps = ids.to(device), []
    while cache.length + feed.shape[1] <= room and len(rows):
        logits = model.head(model.hidden(feed, cache)[:, -1])
        tokens = draw_rows(logits, temperature, min_p, generator)
        steps.append(tokens)
        feed = tokens[:, None]
        if len(steps) == 16:                                        # look at the tokens now and then, not every step
            alive = _collect(steps, rows, answers, eos, max_new_tokens)
            steps = []
            if len(alive) < len(rows):
                cache.keep(alive)
                rows, feed = rows[alive], feed[alive]
    if steps:
        _collect(steps, rows, answers, eos, max_new_tokens)
    return answers


def _collect(steps: list[Tensor], rows: Tensor, answers: list[list[int]], eos: int, limit: int) -> Tensor:
    """Append each row's new tokens to its answer; return the rows that go on."""
    alive = []
    for i, (row, new) in enumerate(zip(rows.tolist(), torch.stack(steps, 1).tolist(), strict=True)):
        if eos in new:
            answers[row] += new[: new.index(eos) + 1]
        else:
            answers[row] += new
            if len(answers[row]) < limit:
                alive.append(i)
        del answers[row][limit:]
    return torch.tensor(alive, dtype=torch.long, device=rows.device)


def sample_many(model: GPT, prompts: list[list[int]], max_new_tokens: int, *, batch_size: int, minutes: float = 1e9,
                **options) -> Iterator[tuple[list[int], list[list[int]]]]:
    """(indices, answers) batch by batch, until all prompts are answered or `minutes` have passed."""
    end = time.monotonic() + 60 * minutes
    for first in range(0, len(prompts), 8 * batch_size):            # sorted only nearby: a run that time cuts short
        nearby = range(first, min(first + 8 * batch_size, len(prompts)))            # is still a fair mix
        order = sorted(nearby, key=lambda i: len(prompts[i]))
        for start in range(0, len(order), batch_size):
            if time.monotonic() > end:
                return
            some = order[start : start + batch_size]
            yield some, sample_batch(model, [prompts[i] for i in some], max_new_tokens, **options)
