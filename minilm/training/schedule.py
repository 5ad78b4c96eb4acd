"""What both trainings share: the optimiser, the learning rate over time, and the log."""
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from minilm.model import GPT


class Optimiser:
    """Muon (Jordan et al. 2024) for the layers' matrices, AdamW for the embedding and the norms."""

    def __init__(self, model: GPT, rate: float, weight_decay: float = 0.05):
        matrices = [p for p in model.layers.parameters() if p.dim() == 2]
        others = [p for p in model.parameters() if all(p is not m for m in matrices)]
        self.rate = rate
        self.parts = [
            torch.optim.Muon(matrices, lr=rate, weight_decay=weight_decay, momentum=0.95,
                             adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self.parameters: list[nn.Parameter] = matrices + others

    def step(self, progress: float) -> None:
        """One update at `progress` in [0, 1] of the run: warm-up over 2 %, flat, then down to 0 over the last half."""
        factor = min(1.0, progress / 0.02 + 0.01) * min(1.0, (1 - progress) / 0.5)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.rate * factor
            part.step()
            part.zero_grad(set_to_none=True)


def progress_until(steps: int | None, minutes: float) -> Iterator[tuple[int, float]]:
    """(step, progress) until `steps` are done or `minutes` have passed, whichever is set."""
    started = time.monotonic()
    for step in range(steps if steps is not None else 10**9):
        share = step / steps if steps is not None else 0.0
        share = max(share, (time.monotonic() - started) / (60 * minutes))
        if share >= 1:
            return
        yield step, share


class Log:
    """Losses to the screen now and then, and to a .jsonl file."""

    def __init__(self, path: Path, every: int):
        self.file, self.every, self.started = open(path, "w", encoding="utf-8"), every, time.monotonic()

    def __call__(self, step: int, progress: float, tokens: int, **losses: torch.Tensor) -> None:
        if step % self.every:
            return
        seconds = time.monotonic() - self.started
        values = {name: round(float(value), 4) for name, value in losses.items()}
        if not all(math.isfinite(value) for value in values.values()):
            raise RuntimeError(f"training diverged at step {step}: {values}; lower the learning rate")
        entry = {"step": step, "progress": round(progress, 4), "tokens": tokens, "seconds": round(seconds, 1), **values}
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()
        print(f"{progress:6.1%}  step {step:6,}  {tokens / 1e6:7.1f}M tokens  {tokens / max(seconds, 1e-9):11,.0f}/s  "
              + "  ".join(f"{k} {v:.3f}" for k, v in values.items()), flush=True)
