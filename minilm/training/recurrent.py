"""The recurrent draft of a frozen model: distilled from its own text and the states it had while it wrote."""
import copy
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minilm.decoding.lens import normalised
from minilm.decoding.proposers.recurrent import RecurrentHead
from minilm.heads import as_kept
from minilm.model import GPT
from minilm.tokenizer import Tokenizer
from minilm.training.evaluate import answers, held_out_prompts
from minilm.training.lens import own_text
from minilm.training.states import states_along

STEPS_AHEAD, DECAY = 4, 0.8         # drafts in a row that it is trained for, and how much less each later one counts
RATE, BATCH = 1e-3, 512


def states(model: GPT, pairs: Sequence[tuple[list[int], list[int]]], batch: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """(states[N, d], tokens[N], left[N]) at every place where the model chose a token of an answer: its normalised
    last state, the token, and how many tokens of the answer come after it."""
    tokens = [token for _, answer in pairs for token in answer]
    left = [n for _, answer in pairs for n in range(len(answer) - 1, -1, -1)]
    return torch.cat(states_along(model, pairs, normalised, batch)), torch.tensor(tokens), torch.tensor(left)


def frequent_words(tokens: Tensor, count: int) -> Tensor:
    """The ids of the `count` tokens that came most often, in order of id."""
    counts = torch.bincount(tokens)
    return counts.topk(min(count, int((counts > 0).sum()))).indices.sort().values


def fit(model: GPT, x: Tensor, tokens: Tensor, left: Tensor, words: Tensor, *, inner: int, minutes: float,
        epochs: float, rate: float = RATE, dtype: torch.dtype = torch.float32) -> RecurrentHead:
    """AdamW on KL(target || draft) over `words`, for the next STEPS_AHEAD tokens, the text's own tokens fed in between.

    inner: the width m of the head's network. Ends after `epochs` or `minutes`; the rate falls to 0 with either.
    """
    d, generator = x.shape[1], torch.Generator().manual_seed(0)
    weights = [torch.randn(2 * inner, 2 * d, generator=generator) * (2 * d) ** -0.5, torch.zeros(d, inner),
               torch.zeros(len(words))]
    head = RecurrentHead(*(w.to(dtype).requires_grad_() for w in weights[:2]), words, weights[2].requires_grad_())
    master = [w.detach().clone() for w in weights]              # float32, though the products may run in bfloat16
    rows = head.vocabulary(model).to(dtype)
    embedding = model.embedding.weight.detach().to(dtype)
    starts = (left >= STEPS_AHEAD).nonzero().squeeze(1)
    optimiser = torch.optim.AdamW(master, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    started, step, seen, total = time.monotonic(), 0, 0, epochs * len(starts)
    while (done := max(seen / total, (time.monotonic() - started) / (60 * minutes))) < 1:
        batch = starts[torch.randint(len(starts), (BATCH,), generator=generator)]
        state, loss, losses = x[batch].to(dtype), 0.0, []
        for k in range(STEPS_AHEAD):
            with torch.no_grad():
                target = F.linear(x[batch + k + 1].to(dtype), rows).float().log_softmax(-1)
            state = head.step(state, embedding[tokens[batch + k]])
            guess = (F.linear(state, rows) + head.bias.to(dtype)).float().log_softmax(-1)
            losses.append(F.kl_div(guess, target, log_target=True, reduction="batchmean"))
            loss = loss + DECAY**k * losses[-1]
        gradients = torch.autograd.grad(loss, [head.gate_up, head.down, head.bias])
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (1 - done)
        for weight, gradient in zip(master, gradients, strict=True):
            weight.grad = gradient.float()
        torch.nn.utils.clip_grad_norm_(master, 1.0)
        optimiser.step()
        with torch.no_grad():
            for weight, exact in zip((head.gate_up, head.down, head.bias), master, strict=True):
                weight.copy_(exact)
        step, seen = step + 1, seen + BATCH
        if step % 100 == 0:
            print(f"recurrent: step {step}, {done:.0%}, KL " + " ".join(f"{x.item():.3f}" for x in losses), flush=True)
    return RecurrentHead(as_kept(master[0]), as_kept(master[1]), words, master[2])


@torch.no_grad()
def acceptance(model: GPT, head: RecurrentHead, x: Tensor, tokens: Tensor, left: Tensor) -> dict[str, list[float]]:
    """Of drafts 1 to STEPS_AHEAD, along the target's own text: how often the argmax is the target's (greedy), and
    the mean of Σ min(p, q) at temperature 1 (Leviathan et al. 2023, eq. 6). The drafts before are taken as right."""
    rows, full = head.vocabulary(model), model.vocabulary.weight * model.norm.weight
    starts = (left >= STEPS_AHEAD).nonzero().squeeze(1)
    same, shared = torch.zeros(STEPS_AHEAD), torch.zeros(STEPS_AHEAD)
    for some in starts.split(BATCH):
        state = x[some].float()
        for k in range(STEPS_AHEAD):
            state = head.step(state, model.embedding(tokens[some + k]))
            guess = F.linear(state, rows, head.bias)
            p = F.linear(x[some + k + 1].float(), full)                                         # (rows, V)
            same[k] += (head.words[guess.argmax(-1)] == p.argmax(-1)).sum()
            shared[k] += torch.minimum(p.softmax(-1)[:, head.words], guess.softmax(-1)).sum()
    return {name: [round(float(v), 4) for v in total / len(starts)] for name, total in
            (("greedy", same), ("temperature_1", shared))}


def train_recurrent(model: GPT, tokenizer: Tokenizer, corpus: Path | None, *, num_tokens: int = 1_000_000,
                    num_words: int = 6144, inner: int = 960, minutes: float = 30.0, epochs: float = 4.0,
                    num_prompts: int = 40, max_new_tokens: int = 96) -> tuple[RecurrentHead, dict]:
    """Distil a head on the model's own text and measure it on its answers to held-out prompts: (head, facts)."""
    pairs = own_text(model, tokenizer, corpus, num_tokens, minutes)
    quick = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
    x, tokens, left = states(copy.deepcopy(model).to(quick), pairs)
    words, started = frequent_words(tokens, num_words), time.monotonic()
    head = fit(model, x, tokens, left, words, inner=inner, minutes=minutes, epochs=epochs, dtype=quick)
    facts = {"positions": len(x), "words": len(words), "minutes": round((time.monotonic() - started) / 60, 2)}
    return head, facts | measure(model, tokenizer, head, num_prompts, max_new_tokens)


def measure(model: GPT, tokenizer: Tokenizer, head: RecurrentHead, num_prompts: int, max_new_tokens: int) -> dict:
    """Acceptance along the model's answers to held-out prompts, greedy and at temperature 1."""
    prompts = held_out_prompts(tokenizer, num_prompts)
    facts = {"held_out_prompts": num_prompts}
    for name, temperature in (("greedy", 0.0), ("temperature_1", 1.0)):
        texts = answers(model, tokenizer, prompts, max_new_tokens, temperature)
        along = states(model, list(zip(prompts, texts, strict=True)))
        facts[name] = acceptance(model, head, *along)[name]
        facts.setdefault("held_out_positions", int((along[2] >= STEPS_AHEAD).sum()))
    return facts
