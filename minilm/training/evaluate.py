"""How good the checkpoints are, on held-out prompts: the numbers of the model card."""
import torch
from torch import Tensor

from minilm.decoding import autoregressive
from minilm.model import GPT
from minilm.sampling import Sampling
from minilm.tokenizer import Tokenizer
from minilm.training import prompts as prompt_maker
from minilm.training.sampler import sample_many

SAMPLING = Sampling(temperature=1.0, top_p=0.9)      # the corpus was drawn below 1, and the model learnt that sharpness


def held_out_prompts(tokenizer: Tokenizer, count: int) -> list[list[int]]:
    """Token lists of prompts that no training text was made from."""
    return tokenizer.chat_batch([prompt.text for prompt in prompt_maker.held_out(count)])


@torch.inference_mode()
def answers(model: GPT, tokenizer: Tokenizer, prompts: list[list[int]], max_new_tokens: int,
            temperature: float, seed: int = 0) -> list[list[int]]:
    """The model's own answers, greedy at temperature 0."""
    generator = torch.Generator(model.device).manual_seed(seed)
    done = {}
    for indices, batch in sample_many(model, prompts, max_new_tokens, batch_size=50, temperature=temperature,
                                      eos=tokenizer.eos_id, generator=generator):
        done.update(zip(indices, batch, strict=True))
    return [done[i] for i in range(len(prompts))]


@torch.inference_mode()
def layer_agreement(model: GPT, prompts: list[list[int]], greedy: list[list[int]]) -> Tensor:
    """For each layer, how often its exit names the last layer's next token, [L], over the model's own text."""
    same = torch.zeros(model.config.num_layers, dtype=torch.float64)
    positions = 0
    for prompt, answer in zip(prompts, greedy, strict=True):
        ids = torch.tensor([prompt + answer[:-1]], device=model.device)
        first = len(prompt) - 1
        choices = torch.stack([model.head(x[0, first:]).argmax(-1) for x in model.layer_outputs(ids)])   # (L, T)
        same += (choices == choices[-1]).sum(-1).cpu()
        positions += choices.shape[1]
    return same / positions


@torch.inference_mode()
def draft_acceptance(target: GPT, draft: GPT, prompts: list[list[int]], texts: list[list[int]], greedy: bool) -> float:
    """Mean probability that the target accepts the draft's next token, over the target's own texts.

    Greedy: both name the same token. Temperature 1: Σ min(p, q) (Leviathan et al. 2023, eq. 6).
    """
    accepted, positions = 0.0, 0
    for prompt, answer in zip(prompts, texts, strict=True):
        ids = torch.tensor([prompt + answer[:-1]], device=target.device)
        p, q = (model(ids)[0, len(prompt) - 1 :] for model in (target, draft))              # (T, V)
        if greedy:
            accepted += (p.argmax(-1) == q.argmax(-1)).sum().item()
        else:
            accepted += torch.minimum(p.softmax(-1), q.softmax(-1)).sum().item()
        positions += len(p)
    return accepted / positions


def sample(model: GPT, tokenizer: Tokenizer, prompt: list[int], max_new_tokens: int = 128) -> list[int]:
    """One answer as a reader would ask for it; the seed is fixed."""
    return autoregressive(model, prompt, max_new_tokens, sampling=SAMPLING, eos=tokenizer.eos_id,
                          generator=torch.Generator().manual_seed(0)).tokens


def evaluate(target: GPT, draft: GPT, tokenizer: Tokenizer, *, num_prompts: int = 200,
             max_new_tokens: int = 128) -> dict:
    """All figures of the card, and ten answers, drawn as `SAMPLING` says, to prompts taken evenly from the set."""
    prompts = held_out_prompts(tokenizer, num_prompts)
    greedy = answers(target, tokenizer, prompts, max_new_tokens, 0.0)
    sampled = answers(target, tokenizer, prompts, max_new_tokens, 1.0)
    texts = prompt_maker.held_out(num_prompts)
    return {
        "prompts": num_prompts, "max_new_tokens": max_new_tokens,
        "positions_greedy": sum(map(len, greedy)), "positions_sampled": sum(map(len, sampled)),
        "layer_agreement": [round(x, 4) for x in layer_agreement(target, prompts, greedy).tolist()],
        "draft_accepted_greedy": round(draft_acceptance(target, draft, prompts, greedy, True), 4),
        "draft_accepted_temperature_1": round(draft_acceptance(target, draft, prompts, sampled, False), 4),
        "samples": [{"prompt": texts[i].text, "answer": tokenizer.decode(sample(target, tokenizer, prompts[i]))}
                    for i in range(0, num_prompts, max(1, num_prompts // 10))][:10],
    }
