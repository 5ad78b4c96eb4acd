"""What the heads beside a frozen model are trained on: its hidden states along its own answers."""
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from minilm.decoding.lens import normalised
from minilm.model import GPT


@torch.no_grad()
def answer_states(model: GPT, prompt: list[int], answer: list[int]) -> Tensor:
    """The state after every layer at each position that names a token of the answer, [L, T, d]."""
    ids = torch.tensor([prompt + answer[:-1]], device=model.device)
    return torch.stack([x[0, len(prompt) - 1 :] for x in model.layer_outputs(ids)])


@torch.no_grad()
def states_along(model: GPT, pairs: Sequence[tuple[list[int], list[int]]], norm: Callable[[Tensor], Tensor],
                 batch: int = 16) -> list[Tensor]:
    """norm(last state) at each position that names a token of the answer, float16[T, d] for each (prompt, answer).

    Texts of like length run together, padded on the right, where nothing looks.
    """
    found: list[Tensor] = [torch.empty(0)] * len(pairs)
    order, started = sorted(range(len(pairs)), key=lambda i: sum(map(len, pairs[i]))), time.monotonic()
    for first in range(0, len(order), batch):
        texts = {i: sum(pairs[i], []) for i in order[first : first + batch]}
        ids = torch.zeros(len(texts), max(map(len, texts.values())), dtype=torch.long)
        for row, text in zip(ids, texts.values(), strict=True):
            row[: len(text)] = torch.tensor(text)
        for i, x in zip(texts, norm(model.hidden(ids)), strict=True):                           # (T, d)
            found[i] = x[len(pairs[i][0]) - 1 : len(texts[i]) - 1].half().clone()
        if first // batch % 100 == 99:
            seconds = time.monotonic() - started
            print(f"states: {first + batch:,} of {len(pairs):,} texts in {seconds:.0f} s", flush=True)
    return found


@torch.no_grad()
def last_states(model: GPT, prompts: Iterable[list[int]]) -> Tensor:
    """The normalised state after every layer at each prompt's last token, [L, prompts, d]."""
    return torch.stack([normalised(torch.stack([x[0, -1] for x in model.layer_outputs(torch.tensor([ids]))]))
                        for ids in prompts], dim=1)


def minimise(loss, parameters: list[Tensor], steps: int) -> None:
    """L-BFGS on a smooth loss() of all the data."""
    optimiser = torch.optim.LBFGS(parameters, max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)


def auc(scores: Tensor, labels: Tensor) -> float:
    """P(a positive's score is above a negative's), ties half; scores[N], labels[N] bool. NaN if all labels agree."""
    positive, negative = scores[labels].double().sort().values, scores[~labels].double().contiguous()
    if not len(positive) or not len(negative):
        return float("nan")
    below = torch.searchsorted(positive, negative, right=False)
    upto = torch.searchsorted(positive, negative, right=True)
    above = len(positive) - (below + upto).double() / 2         # positives above each negative
    return float(above.sum() / (len(positive) * len(negative)))
