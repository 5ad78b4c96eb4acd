"""minilm-14m: a language model in which every layer is an exit.

The loss follows CALM (Schuster et al. 2022, §3.2): a sum over layers i of ω_i · L_i with ω_i = i / Σ j, all exits
sharing the final norm and the vocabulary matrix, as in LayerSkip (Elhoushi et al. 2024). Below the last layer, L_i is
half the cross-entropy with the text and half that with the last layer's own distribution, which is what an early exit
must imitate. To save time each step takes a few exits at random, weighted so that the sum is right on average.
"""
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minilm.cache import FullAttention
from minilm.model import GPT, Block, GPTConfig
from minilm.training.schedule import Log, Optimiser, progress_until
from minilm.training.tokens import batches, load_tokens

EARLY_WEIGHT = 1.0      # of the early exits together against the last layer: they are what this model is for


def target_config(vocab_size: int) -> GPTConfig:
    """The shape of minilm-14m."""
    return GPTConfig(vocab_size=vocab_size, num_layers=16, width=256, num_heads=4, num_kv_heads=2, head_size=64,
                     mlp_width=704, max_positions=1024)


def hidden_states(model: GPT, ids: Tensor, block_forward: Callable) -> list[Tensor]:
    """Every layer's output for whole texts ids[B, T]; `block_forward` is Block.forward, compiled or not."""
    x = model.embed(ids)
    everything = FullAttention(model.config.max_positions)
    rope = model.rotary(everything.begin(ids.shape[1]).to(ids.device), x.dtype)
    outputs = []
    for block in model.layers:
        x = block_forward(block, x, rope, everything, 0)            # the layer's number matters to real caches only
        outputs.append(x)
    return outputs


def exit_loss(logits: Tensor, targets: Tensor, last_logits: Tensor) -> Tensor:
    """Half the cross-entropy with the text, half with the last layer's distribution. logits[N, V], targets[N]."""
    log_probs = torch.log_softmax(logits.float(), -1)
    text = -log_probs.gather(-1, targets[:, None]).mean()
    last = -(torch.softmax(last_logits.float(), -1) * log_probs).sum(-1).mean()
    return 0.5 * (text + last)


def exit_weights(num_layers: int) -> Tensor:
    """CALM's ω_i = i / Σ j for layers 1 to L, [L]."""
    depth = torch.arange(1, num_layers + 1, dtype=torch.float32)
    return depth / depth.sum()


def pretrain(folder: Path, vocab_size: int, *, device: str, minutes: float, steps: int | None = None,
             batch_size: int = 64, length: int = 1024, exits_per_step: int = 4, rate: float = 3e-3,
             config: GPTConfig | None = None, seed: int = 0) -> GPT:
    """Train on `folder`/tokens.npy for `steps` or `minutes`; writes the log pretrain.jsonl there. Returns the model."""
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    model = GPT(config or target_config(vocab_size)).to(device)
    L = model.config.num_layers
    weights = exit_weights(L)
    optimiser, log = Optimiser(model, rate), Log(folder / "pretrain.jsonl", 20)
    on_gpu = device != "cpu"
    block_forward = torch.compile(Block.forward, dynamic=False) if on_gpu else Block.forward
    loss_of = torch.compile(exit_loss, dynamic=False) if on_gpu else exit_loss
    last_loss = torch.compile(F.cross_entropy, dynamic=False) if on_gpu else F.cross_entropy
    chooser = torch.Generator().manual_seed(seed)
    stream = batches(load_tokens(folder / "tokens.npy", device), batch_size, length, seed)
    for (step, progress), window in zip(progress_until(steps, minutes), stream, strict=False):
        with torch.autocast(device, torch.bfloat16, enabled=on_gpu):
            states = hidden_states(model, window[:, :-1], block_forward)
            targets = window[:, 1:].reshape(-1)
            last_logits = model.head(states[-1]).flatten(0, 1)                      # (N, V)
            final = last_loss(last_logits.float(), targets)
            chosen = torch.randperm(L - 1, generator=chooser)[:exits_per_step].tolist()
            scale = (L - 1) / len(chosen)
            early = sum(scale * weights[i] * loss_of(model.head(states[i]).flatten(0, 1), targets, last_logits.detach())
                        for i in chosen)
            loss = final + EARLY_WEIGHT * early
        loss.backward()
        optimiser.step(progress)
        log(step, progress, (step + 1) * targets.numel(), final=final.detach(), early=early.detach())
    return model.eval()
