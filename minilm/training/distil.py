"""minilm-1m: a draft model distilled from minilm-14m on the target's own text.

What counts for a draft is Σ min(p, q) on text that the target writes (Leviathan et al. 2023, eq. 6: the acceptance
rate is 1 minus the total variation between target p and draft q). So, as in DistillSpec (Zhou et al. 2024), the
texts are the target's own samples; the loss begins as KL(p ‖ q), which learns fast, and ends as total variation.
"""
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minilm.model import GPT, Block, GPTConfig
from minilm.tokenizer import Tokenizer
from minilm.training import prompts as prompt_maker
from minilm.training.pretrain import hidden_states
from minilm.training.sampler import sample_many
from minilm.training.schedule import Log, Optimiser, progress_until
from minilm.training.tokens import batches, load_tokens


def draft_config(vocab_size: int) -> GPTConfig:
    """The shape of minilm-1m."""
    return GPTConfig(vocab_size=vocab_size, num_layers=3, width=128, num_heads=4, num_kv_heads=2, head_size=32,
                     mlp_width=384, max_positions=1024)


def write_own_text(target: GPT, tokenizer: Tokenizer, folder: Path, *, num_prompts: int, minutes: float,
                   batch_size: int, max_new_tokens: int = 224, seed: int = 1) -> int:
    """own_tokens.npy: the target's answers, a third greedy, the rest at temperature 1; returns the tokens' number."""
    texts = prompt_maker.prompts(num_prompts, seed)
    asked = tokenizer.chat_batch([prompt.text for prompt in texts])
    third = len(asked) // 3
    rows = []
    for some, temperature, share in ((asked[:third], 0.0, 1 / 3), (asked[third:], 1.0, 2 / 3)):
        for indices, answers in sample_many(target, some, max_new_tokens, batch_size=batch_size,
                                            minutes=minutes * share, temperature=temperature, eos=tokenizer.eos_id):
            rows += [np.array(some[i] + answer, dtype=np.uint16) for i, answer in zip(indices, answers, strict=True)]
    np.random.default_rng(seed).shuffle(rows)
    np.save(folder / "own_tokens.npy", np.concatenate(rows))
    return sum(map(len, rows))


def draft_loss(p_logits: Tensor, q_logits: Tensor, variation: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, acceptance Σ min(p, q)) from target and draft logits[N, V]; `variation` in [0, 1] blends KL into TV."""
    p, log_q = torch.softmax(p_logits.float(), -1), torch.log_softmax(q_logits.float(), -1)
    acceptance = torch.minimum(p, log_q.exp()).sum(-1).mean()
    cross_entropy = -(p * log_q).sum(-1).mean()
    return (1 - variation) * cross_entropy + variation * 5 * (1 - acceptance), acceptance


def distil(folder: Path, target: GPT, *, device: str, minutes: float, steps: int | None = None, batch_size: int = 128,
           length: int = 512, rate: float = 5e-3, config: GPTConfig | None = None, seed: int = 0) -> GPT:
    """Train a draft for `target` on own_tokens.npy and tokens.npy; writes the log distil.jsonl. Returns the draft."""
    torch.manual_seed(seed)
    draft = GPT(config or draft_config(target.config.vocab_size)).to(device)
    optimiser, log = Optimiser(draft, rate), Log(folder / "distil.jsonl", 50)
    on_gpu = device != "cpu"
    target_forward = torch.compile(Block.forward, dynamic=False) if on_gpu else Block.forward
    draft_forward = torch.compile(Block.forward, dynamic=False) if on_gpu else Block.forward
    loss_of = torch.compile(draft_loss, dynamic=False) if on_gpu else draft_loss
    streams = [batches(load_tokens(folder / name, device), batch_size, length, seed)
               for name in ("own_tokens.npy", "tokens.npy")]
    for step, progress in progress_until(steps, minutes):
        window = next(streams[step % 4 == 3])                       # three batches of its own text, one of the corpus
        with torch.autocast(device, torch.bfloat16, enabled=on_gpu):
            with torch.no_grad():
                p_logits = target.head(hidden_states(target, window[:, :-1], target_forward)[-1]).flatten(0, 1)
            q_logits = draft.head(hidden_states(draft, window[:, :-1], draft_forward)[-1]).flatten(0, 1)
            blend = min(1.0, max(0.0, 3 * progress - 1))            # a third KL, a third between, a third TV
            loss, acceptance = loss_of(p_logits, q_logits, torch.tensor(blend, device=device))
        loss.backward()
        optimiser.step(progress)
        log(step, progress, (step + 1) * window.numel(), loss=loss.detach(), acceptance=acceptance.detach())
    return draft.eval()
