"""Look-ahead heads for blockwise decoding (Stern et al. 2018; Medusa, Cai et al. 2024), the model frozen."""
import copy
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minilm.decoding.proposers.blockwise import AheadHeads, Blockwise, choose_tree
from minilm.decoding.speculative import speculative
from minilm.model import GPT
from minilm.tokenizer import Tokenizer
from minilm.training import prompts as prompt_maker
from minilm.training.evaluate import answers, held_out_prompts
from minilm.training.states import states_along

RATE, BATCH, WARM_UP = 2e-3, 512, 50
NEGATIVES = 1024        # tokens drawn for each batch's loss, besides its own
HIDDEN = 320            # a head's hidden units: four heads of a width of 256 then take 1.9 MiB in float16
RANKS = 10              # guesses of each head whose accuracy is told


class Examples(NamedTuple):
    """At N places of the model's own text: its normed last states[N, d], the tokens[N] that it chose there, and the
    targets[N, K], the tokens from the one after on, which are what the heads should name; -100 past the text's end."""

    states: Tensor
    tokens: Tensor
    targets: Tensor


def examples(model: GPT, prompts: list[list[int]], texts: list[list[int]], count: int, batch: int = 16) -> Examples:
    """What heads learn from the texts that `model` wrote after the prompts."""
    states = states_along(model, list(zip(prompts, texts, strict=True)), model.norm, batch)
    padded = [torch.tensor(text[1:] + [-100] * count) for text in texts]
    targets = [row.unfold(0, count, 1) for row in padded]                                       # (T, count)
    return Examples(torch.cat(states), torch.tensor([i for text in texts for i in text]), torch.cat(targets))


def fit(model: GPT, data: Examples, epochs: int, hidden: int = HIDDEN, seed: int = 0) -> AheadHeads:
    """AdamW on each head's loss, weighted 0.8^k as in Medusa, at a rate that falls to 0. The heads start as the model's
    own next-token guess: `down` is zero."""
    generator = torch.Generator().manual_seed(seed)
    count, d = data.targets.shape[1], data.states.shape[1]
    up = torch.randn(count, hidden, 2 * d, generator=generator) / math.sqrt(2 * d)
    parameters = [x.requires_grad_() for x in (up, torch.zeros(count, hidden), torch.zeros(count, d, hidden))]
    heads, embedded = AheadHeads(*parameters), model.norm(model.embedding.weight).detach()
    optimiser = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.99), weight_decay=0.01)
    steps = epochs * -(-len(data.states) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: min((i + 1) / WARM_UP, 1) * (1 - i / steps))
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(data.states), generator=generator).split(BATCH):
            states = heads.states(data.states[rows].float(), embedded[data.tokens[rows]])       # (count, rows, d)
            losses = sampled_loss(model.vocabulary.weight, states, data.targets[rows].T, generator)
            loss = (losses * 0.8 ** torch.arange(count)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += losses.detach() * len(rows)
        print(f"ahead: epoch {epoch + 1}, loss of each head {(total / len(data.states)).tolist()}", flush=True)
    return AheadHeads(*(x.detach() for x in parameters))


def sampled_loss(vocabulary: Tensor, states: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """Each head's cross-entropy, [K], of states[K, N, d] to targets[K, N], over a part of the vocabulary[V, d] only.

    The full product is most of the training's work. Here: all tokens that are a target of this batch, and NEGATIVES of
    the others, which stand for all others: each counts for as many as it was drawn from (sampled softmax, Bengio &
    Senécal 2008). In bfloat16, the faster product on many CPUs.
    """
    V = len(vocabulary)
    own = targets[targets >= 0].unique()
    others = torch.ones(V, dtype=torch.bool).index_fill_(0, own, False).nonzero()[:, 0]
    drawn = others[torch.randperm(len(others), generator=generator)[:NEGATIVES]]
    words = torch.cat((own, drawn))
    place = torch.full((V,), -100).index_copy_(0, own, torch.arange(len(own)))                  # token -> its column
    logits = F.linear(states.bfloat16(), vocabulary[words].bfloat16()).float()                  # (K, N, words)
    weight = torch.zeros(len(words))
    weight[len(own):] = math.log(len(others) / max(len(drawn), 1)) if len(others) else 0.0
    wanted = torch.where(targets >= 0, place[targets.clamp(min=0)], -100)
    return torch.stack([F.cross_entropy(row + weight, right, ignore_index=-100, reduction="sum") / len(right)
                        for row, right in zip(logits, wanted, strict=True)])


@torch.inference_mode()
def accuracy(model: GPT, heads: AheadHeads, data: Examples, ranks: int = RANKS) -> Tensor:
    """[K, ranks]: how often head k's guess of each rank is the token; what `choose_tree` takes."""
    hits = torch.zeros(len(heads), ranks, dtype=torch.float64)
    embedded = model.norm(model.embedding.weight)
    for states, tokens, targets in zip(*(part.split(BATCH) for part in data), strict=True):
        best = model.vocabulary(heads.states(states.to(model.dtype), embedded[tokens])).topk(ranks, dim=-1).indices
        hits += (best == targets.T[..., None]).sum(1)                                           # (K, rows, ranks)
    return hits / (data.targets >= 0).sum(0)[:, None]


def tokens_per_pass(model: GPT, heads: AheadHeads, found: Tensor, prompts: list[list[int]], max_new_tokens: int,
                    eos: int) -> dict:
    """Greedy tokens for each pass of the model after the prefill, with chains and with trees chosen by accuracies
    `found`[K, R]: the mean over all texts together."""
    drafts = {f"chain of {n}": [(0,) * (k + 1) for k in range(n)] for n in (1, 2, 3, len(heads))}
    drafts |= {f"tree of {nodes}": choose_tree(found, nodes) for nodes in (8, 16)}
    means = {}
    for name, tree in drafts.items():
        traces = [speculative(model, prompt, max_new_tokens, Blockwise(heads, tree), eos=eos).trace[1:]
                  for prompt in prompts]
        means[name] = sum(len(p.emitted) for trace in traces for p in trace) / sum(map(len, traces))
    return {"prompts": len(prompts), "max_new_tokens": max_new_tokens,
            "mean": {name: round(value, 3) for name, value in means.items()}}


def train_ahead(model: GPT, tokenizer: Tokenizer, *, count: int = 4, num_prompts: int = 2400, max_new_tokens: int = 96,
                epochs: int = 4, hidden: int = HIDDEN, num_held_out: int = 80) -> tuple[AheadHeads, dict]:
    """Train on the model's own answers, two thirds of them greedy; measure on greedy answers to held-out prompts."""
    quick = copy.deepcopy(model).bfloat16()             # writes and reads the training text, not the held-out one
    asked = tokenizer.chat_batch([prompt.text for prompt in prompt_maker.prompts(num_prompts, seed=12)])
    third = num_prompts // 3
    texts = (answers(quick, tokenizer, asked[:third], max_new_tokens, 1.0, seed=12)
             + answers(quick, tokenizer, asked[third:], max_new_tokens, 0.0))
    heads, facts = trained(model, tokenizer, examples(quick, asked, texts, count), epochs=epochs, hidden=hidden,
                           max_new_tokens=max_new_tokens, num_held_out=num_held_out)
    return heads, {"answers": num_prompts, **facts}


def trained(model: GPT, tokenizer: Tokenizer, data: Examples, *, epochs: int, hidden: int, max_new_tokens: int,
            num_held_out: int) -> tuple[AheadHeads, dict]:
    """(heads, facts): fit on `data`, rounded to float16 as they are shipped, and measured."""
    heads = fit(model, data, epochs, hidden)
    heads = AheadHeads(*(x.half().to(model.dtype) for x in (heads.up, heads.bias, heads.down)))
    held = held_out_prompts(tokenizer, num_held_out)
    greedy = answers(model, tokenizer, held, max_new_tokens, 0.0)
    found = accuracy(model, heads, examples(model, held, greedy, len(heads)))
    passes = tokens_per_pass(model, heads, found, held[: max(1, num_held_out // 4)], 2 * max_new_tokens // 3,
                             tokenizer.eos_id)
    return heads, {"positions": len(data.states), "epochs": epochs, "held_out_prompts": num_held_out,
                   "held_out_positions": sum(map(len, greedy)),
                   "accuracy": [[round(share, 4) for share in row] for row in found.tolist()],
                   "tokens_per_pass": passes}
