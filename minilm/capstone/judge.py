"""Whether an answer is one, whether it is the full model's, and how much it loses if it is not."""
from dataclasses import dataclass
from typing import Any

import torch

from minilm.bench.exit_losses import rouge_l
from minilm.capstone.entry import Disqualified
from minilm.lab.remote import Remote
from minilm.lab.values import kind
from minilm.model import GPT

ROUNDING = 1e-3         # logits: a pass over several tokens and passes over one differ by less in float32


@dataclass(frozen=True)
class Verdict:
    """loss: 0 where every token is the model's own choice, else 1 - ROUGE-L.

    differs_at: the first token that is not its choice.  token, choice: what stands there, and what it would say.
    """

    loss: float
    differs_at: int | None = None
    token: int | None = None
    choice: int | None = None


def kind_of(value: Any) -> str:
    """What something is, also where it stayed in the other process."""
    return f"a {value.kind}" if isinstance(value, Remote) else kind(value)


def tokens_of(made: Any, who: str, count: int, vocab_size: int) -> list[int]:
    """`made` if it is a list of `count` token ids. Raises Disqualified that says what it is instead."""
    if made is None:
        raise Disqualified(f"{who} returned nothing: is there a return at its end?")
    if isinstance(made, str):
        raise Disqualified(f"{who} returned text; return the token ids, without decoding them")
    if isinstance(made, torch.Tensor):
        raise Disqualified(f"{who} returned a tensor; return a list of ints: .tolist()")
    if not isinstance(made, (list, tuple)):
        raise Disqualified(f"{who} returned {kind_of(made)}; return a list of token ids, or a Generation")
    for place, token in enumerate(made):
        if isinstance(token, bool) or not isinstance(token, int):
            raise Disqualified(f"{who} returned {kind_of(token)} as token {place}; tokens are ints: int(token)")
        if not 0 <= token < vocab_size:
            raise Disqualified(f"{who} returned token {token} at place {place}; the vocabulary has {vocab_size}")
    if len(made) != count:
        more = ("; the prompt is not part of it, and the last pass may give too many" if len(made) > count else
                "; give exactly as many as asked for, also past the end-of-text token")
        raise Disqualified(f"{who} returned {len(made)} tokens where {count} were asked for{more}")
    return list(made)


@torch.inference_mode()
def first_departure(model: GPT, prompt: list[int], tokens: list[int]) -> tuple[int, int] | None:
    """The first token that is not the model's choice after the text before it, near ties aside: (place, that choice).

    One pass over the whole text. It asks for no baseline, so that two answers that part at a tie are both right.
    """
    cache = model.new_cache(len(prompt) + len(tokens))
    logits = model.head(model.read([*prompt, *tokens[:-1]], cache)[len(prompt) - 1:])
    behind = logits.amax(-1) - logits[torch.arange(len(tokens)), torch.tensor(tokens)]
    wrong = (behind > ROUNDING).nonzero()[:, 0].tolist()
    return (wrong[0], int(logits[wrong[0]].argmax())) if wrong else None


def judge(model: GPT, prompt: list[int], tokens: list[int], baseline: list[int]) -> Verdict:
    """The verdict on one answer, the baseline's answer being known."""
    if tokens == baseline:
        return Verdict(0.0)
    found = first_departure(model, prompt, tokens)
    if found is None:
        return Verdict(0.0)
    place, choice = found
    return Verdict(1 - rouge_l(tokens, baseline), place, tokens[place], choice)
