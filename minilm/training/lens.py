"""The affine lens of a frozen model that was not trained to exit: least squares first, then a few steps on the KL."""
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minilm.decoding.lens import Lens, normalised
from minilm.heads import as_kept
from minilm.model import GPT
from minilm.tokenizer import Tokenizer
from minilm.training.copying import PERFECT_KINDS
from minilm.training.corpus import make_corpus
from minilm.training.evaluate import answers, held_out_prompts
from minilm.training.states import answer_states

LONGEST = 192       # tokens taken of one answer
RIDGE = 1e-3        # of the mean square of the inputs, for each position


def own_text(model: GPT, tokenizer: Tokenizer, corpus: Path | None, num_tokens: int,
             minutes: float) -> list[tuple[list[int], list[int]]]:
    """(prompt, answer) pairs that the model wrote, about `num_tokens` of answers: of corpus.jsonl, or made here."""
    if corpus is None or not corpus.is_file():
        with tempfile.TemporaryDirectory() as folder:
            make_corpus(model, tokenizer, Path(folder), num_prompts=max(36, num_tokens // 100), minutes=minutes,
                        batch_size=32, max_new_tokens=LONGEST)
            return own_text(model, tokenizer, Path(folder) / "corpus.jsonl", num_tokens, minutes)
    with open(corpus, encoding="utf-8") as file:
        entries = [entry for entry in map(json.loads, file) if entry["kind"] not in PERFECT_KINDS]
    order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(0)).tolist()
    pairs, count = [], 0
    for i in order:
        if count >= num_tokens:
            break
        answer = tokenizer.encode(entries[i]["answer"])[:LONGEST]
        pairs.append((tokenizer.chat(entries[i]["prompt"]), answer))
        count += len(answer)
    return pairs


def gather(model: GPT, pairs: Sequence[tuple[list[int], list[int]]], layers: Sequence[int]) -> Tensor:
    """Normalised states after `layers` (counted from 1) at all answer positions, [len(layers), N, d]."""
    index = [layer - 1 for layer in layers]
    return torch.cat([normalised(answer_states(model, *pair)[index]) for pair in pairs], dim=1)


def least_squares(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(weight[d, d], bias[d]) of the affine map from x[N, d] to y[N, d] with the least squared error, ridged."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = (x.T @ x).double()
    gram += RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)     # a normalised state's mean square is 1
    weight = torch.linalg.solve(gram, (x.T @ y).double()).T.float()         # (d out, d in)
    return weight, mean_y - weight @ mean_x


def imitate(model: GPT, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, words: Tensor, *, steps: int,
            batch_size: int = 128, rate: float = 3e-4) -> tuple[Tensor, Tensor]:
    """Adam on KL(last layer || exit through the lens), over the tokens `words`[n] only: the whole vocabulary is dear.

    x[N, d], y[N, d]: normalised states after the exit layer and after the last. Returns the new (weight, bias).
    """
    rows = model.vocabulary.weight[words].detach()                          # (n, d)
    head = lambda z: F.linear(model.norm(z), rows)                          # noqa: E731
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimiser = torch.optim.Adam([weight, bias], lr=rate)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        batch = torch.randint(len(x), (batch_size,), generator=generator)
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        with torch.no_grad():
            target = head(y[batch]).log_softmax(-1)
        guess = head(F.linear(x[batch], weight, bias)).log_softmax(-1)
        loss = F.kl_div(guess, target, log_target=True, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return weight.detach(), bias.detach()


@torch.inference_mode()
def agreement(model: GPT, pairs: Sequence[tuple[list[int], list[int]]], lenses: dict[str, Lens | None],
              exits: Sequence[int]) -> dict[str, list[float]]:
    """How often each exit, read through each lens (None: as it is), names the last layer's next token."""
    same = {name: torch.zeros(len(exits)) for name in lenses}
    positions = 0
    for pair in pairs:
        states = answer_states(model, *pair)
        named = model.head(states[-1]).argmax(-1)
        positions += len(named)
        for name, lens in lenses.items():
            for i, layer in enumerate(exits):
                x = states[layer - 1] if lens is None else lens(layer, states[layer - 1])
                same[name][i] += (model.head(x).argmax(-1) == named).sum()
    return {name: [round(float(share), 4) for share in count / positions] for name, count in same.items()}


def train_lens(model: GPT, tokenizer: Tokenizer, corpus: Path | None, *, exits: Sequence[int], num_tokens: int = 16_000,
               steps: int = 400, num_words: int = 8192, num_prompts: int = 24, max_new_tokens: int = 48,
               minutes: float = 8.0) -> tuple[Lens, dict]:
    """Fit a lens for `exits` and measure it on greedy answers to held-out prompts. Returns (lens, facts)."""
    pairs = own_text(model, tokenizer, corpus, num_tokens, minutes)
    *inputs, last = gather(model, pairs, [*exits, model.config.num_layers])
    counts = torch.bincount(torch.tensor([i for _, answer in pairs for i in answer]), minlength=model.config.vocab_size)
    words = counts.topk(min(num_words, int((counts > 0).sum()))).indices
    print(f"lens: {len(last):,} positions", flush=True)
    squares, fitted = {}, {}
    for layer, x in zip(exits, inputs, strict=True):
        squares[layer] = least_squares(x, last)
        fitted[layer] = imitate(model, x, last, *squares[layer], words, steps=steps)
        print(f"lens: layer {layer} fitted", flush=True)
    lens = Lens({layer: (as_kept(weight), bias.half().float()) for layer, (weight, bias) in fitted.items()})
    prompts = held_out_prompts(tokenizer, num_prompts)
    greedy = answers(model, tokenizer, prompts, max_new_tokens, 0.0)
    held = list(zip(prompts, greedy, strict=True))
    shares = agreement(model, held, {"raw": None, "least_squares": Lens(squares), "lens": lens}, exits)
    return lens, {"exits": list(exits), "trained_positions": len(last), "steps": steps, "words": len(words),
                  "held_out_prompts": num_prompts, "held_out_positions": sum(map(len, greedy)), "agreement": shares}
