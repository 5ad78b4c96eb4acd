"""CALM's exit classifier (Schuster et al. 2022, App. D): will this exit name the token that the last layer names?"""
import torch
import torch.nn.functional as F
from torch import Tensor

from minilm.decoding.calm import ExitHead, saturation, softmax_response
from minilm.decoding.lens import normalised
from minilm.model import GPT
from minilm.tokenizer import Tokenizer
from minilm.training import prompts as prompt_maker
from minilm.training.evaluate import answers, held_out_prompts
from minilm.training.states import answer_states, auc, minimise

DECAY = 1e-4        # of the squared weights


@torch.no_grad()
def examples(model: GPT, prompts: list[list[int]], texts: list[list[int]], keep: float,
             seed: int = 0) -> tuple[Tensor, Tensor]:
    """(states[L, N, d], right[L-1, N]) at a random share `keep` of the texts' positions; right: the exit after that
    layer names what the last layer names."""
    generator = torch.Generator().manual_seed(seed)
    states, right = [], []
    for prompt, text in zip(prompts, texts, strict=True):
        x = answer_states(model, prompt, text)
        x = x[:, torch.rand(x.shape[1], generator=generator) < keep]
        named = torch.stack([model.head(layer).argmax(-1) for layer in x])
        states.append(x)
        right.append(named[:-1] == named[-1])
    return torch.cat(states, 1), torch.cat(right, 1)


def fit(states: Tensor, right: Tensor, steps: int) -> ExitHead:
    """One linear map for all layers; the loss is binary cross-entropy, each layer on its own, their mean."""
    x, y = normalised(states[:-1]), right.float()
    weight, bias = torch.zeros(x.shape[-1], requires_grad=True), torch.zeros((), requires_grad=True)
    minimise(lambda: F.binary_cross_entropy_with_logits(x @ weight + bias, y) + DECAY * weight.square().sum(),
             [weight, bias], steps)
    return ExitHead(weight.detach(), bias.detach())


@torch.no_grad()
def measure(model: GPT, head: ExitHead, states: Tensor, right: Tensor) -> dict:
    """For each exit, how often it is right and how well each confidence tells right from wrong (area under ROC)."""
    found = {"right": [], "classifier": [], "softmax": [], "saturation": []}
    for layer, (x, good) in enumerate(zip(states, right, strict=False)):
        found["right"].append(float(good.float().mean()))
        found["classifier"].append(auc(head(x), good))
        found["softmax"].append(auc(softmax_response(model.head(x)), good))
        # the first layer's state has the embedding before it, which isn't among the states
        found["saturation"].append(auc(saturation(x, states[layer - 1]), good) if layer else None)
    return {name: [None if value is None or value != value else round(value, 4) for value in values]
            for name, values in found.items()}


def train_exit_classifier(model: GPT, tokenizer: Tokenizer, *, num_prompts: int = 300, max_new_tokens: int = 100,
                          keep: float = 0.4, steps: int = 100, num_held_out: int = 60) -> tuple[ExitHead, dict]:
    """Train on the model's own answers, half of them greedy and half drawn at temperature 1; measure on greedy answers
    to held-out prompts. Returns (head, facts)."""
    asked = tokenizer.chat_batch([prompt.text for prompt in prompt_maker.prompts(num_prompts, seed=11)])
    half = num_prompts // 2
    texts = (answers(model, tokenizer, asked[:half], max_new_tokens, 0.0)
             + answers(model, tokenizer, asked[half:], max_new_tokens, 1.0, seed=11))
    states, right = examples(model, asked, texts, keep)
    head = fit(states, right, steps)
    held = held_out_prompts(tokenizer, num_held_out)
    greedy = answers(model, tokenizer, held, max_new_tokens, 0.0)
    found = measure(model, head, *examples(model, held, greedy, 1.0))
    return head, {"answers": num_prompts, "positions": states.shape[1], "held_out_prompts": num_held_out,
                  "held_out_positions": sum(map(len, greedy)), **found}
