"""Internal classifiers on a frozen model, one after every layer (DeeBERT's second stage): which kind of request is it?

A whole request gives its kind away in its first words ("Write a poem …"), and already the first layer's head is right
nearly always. So the first SKIPPED words are left out and the kind must be told from the rest.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from minilm.decoding.classify import InternalClassifiers
from minilm.model import GPT
from minilm.tokenizer import Tokenizer
from minilm.training import prompts as prompt_maker
from minilm.training.request import Prompt
from minilm.training.states import last_states, minimise

SKIPPED = 4         # words
SHORTEST = 3        # words that must remain
DECAY = 1e-3        # of the squared weights


def task(prompts: list[Prompt], skipped: int = SKIPPED) -> list[tuple[str, str]]:
    """(text without its first words, kind); prompts of which too little would remain are left out."""
    split = [(prompt.text.split()[skipped:], prompt.kind) for prompt in prompts]
    return [(" ".join(words), kind) for words, kind in split if len(words) >= SHORTEST]


def held_out_task(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """The task on n held-out prompts, less those that are too short."""
    return task(prompt_maker.held_out(n, seed))


def _inputs(model: GPT, tokenizer: Tokenizer, pairs: list[tuple[str, str]], labels: list[str]) -> tuple[Tensor, Tensor]:
    """(states[L, N, d], class[N])"""
    states = last_states(model, tokenizer.chat_batch([text for text, _ in pairs]))
    return states, torch.tensor([labels.index(kind) for _, kind in pairs])


def fit(states: Tensor, classes: Tensor, labels: list[str], steps: int) -> InternalClassifiers:
    """Cross-entropy of every layer's head; they share nothing, so their sum is each one's own minimum."""
    L, _, d = states.shape
    weight = torch.zeros(L, len(labels), d, requires_grad=True)
    bias = torch.zeros(L, 1, len(labels), requires_grad=True)

    def loss() -> Tensor:
        logits = states @ weight.mT + bias                                          # (L, N, K)
        fitted = F.cross_entropy(logits.flatten(0, 1), classes.repeat(L)) * L
        return fitted + DECAY * weight.square().sum()

    minimise(loss, [weight, bias], steps)
    return InternalClassifiers(labels, weight.detach().half().float(), bias.detach()[:, 0].half().float())


@torch.inference_mode()
def accuracy(classifiers: InternalClassifiers, states: Tensor, classes: Tensor) -> list[float]:
    """Share of right answers after each layer."""
    return [round(float((classifiers(layer, x).argmax(-1) == classes).float().mean()), 4)
            for layer, x in enumerate(states, 1)]


def train_request_classifier(model: GPT, tokenizer: Tokenizer, *, num_prompts: int = 4800, num_held_out: int = 600,
                             steps: int = 100) -> tuple[InternalClassifiers, dict]:
    """Train on prompts that are not held out, measure on held-out ones. Returns (classifiers, facts)."""
    labels = sorted(prompt_maker.KINDS)
    train, held = task(prompt_maker.prompts(num_prompts, seed=12)), held_out_task(num_held_out)
    classifiers = fit(*_inputs(model, tokenizer, train, labels), labels, steps)
    found = accuracy(classifiers, *_inputs(model, tokenizer, held, labels))
    return classifiers, {"classes": len(labels), "words_left_out": SKIPPED, "prompts": len(train),
                         "held_out_prompts": len(held), "accuracy": found}
