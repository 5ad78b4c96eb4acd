"""What every drafter would have guessed at every place of a text: one pass to read, then any number of replays.

Greedy decoding writes the same text whatever drafts for it. So one pass over the finished text tells what each layer
and each look-ahead head would have guessed at each place, and from that follows, with no model at all, how many tokens
every pass of a run would have given: for any draft length, any exit layer, any tree. The replays are exact.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minilm.decoding.proposers.prompt_lookup import lookup
from minilm.generation import Generation

FAR = 1_000_000                                         # the rank of a token that a head does not name at all


@dataclass
class Guesses:
    """A text of `prompt` and T new `tokens`, and what was guessed in it; place t is where new token t was chosen.

    named[L, T]: the token that each layer's exit names at place t.  ranks[K, T]: where, among head k's guesses at place
    t, stands the token that came k + 1 places later (0: its best guess; FAR past the ranks looked at, or past the end).
    limit: how many new tokens the run was allowed, which bounds its last drafts.
    """

    prompt: list[int]
    tokens: list[int]
    named: Tensor
    ranks: Tensor | None
    limit: int


@torch.inference_mode()
def read(model, prompt: Sequence[int], tokens: Sequence[int], ahead=None, *, ranks: int = 10,
         limit: int | None = None) -> Guesses:
    """Read a finished greedy text once. ahead: `AheadHeads`; ranks: how many of each head's guesses to look at; limit:
    the run's max_new_tokens, where the text ended before it."""
    prompt, tokens = list(prompt), list(tokens)
    if not prompt or not tokens:
        raise ValueError("give a prompt and the new tokens that were written after it: at least one of each")
    ids = torch.tensor([[*prompt, *tokens[:-1]]], device=model.device)
    states = [x[0, len(prompt) - 1 :] for x in model.layer_outputs(ids)]                        # L of (T, d)
    named = torch.stack([model.head(x).argmax(-1) for x in states]).cpu()
    found = None if ahead is None else _ranks(model, ahead, states[-1], tokens, ranks)
    return Guesses(prompt, tokens, named, found, limit or len(tokens))


def _ranks(model, ahead, states: Tensor, tokens: list[int], ranks: int) -> Tensor:
    chosen = torch.tensor(tokens, device=states.device)
    best = ahead.logits(model, states, chosen).topk(ranks, dim=-1).indices.cpu()                # (K, T, ranks)
    found = torch.full(best.shape[:2], FAR)
    for k in range(len(ahead)):
        came = torch.tensor(tokens[k + 1 :])                                                    # (T - k - 1)
        hit = best[k, : len(came)] == came[:, None]
        found[k, : len(came)] = torch.where(hit.any(-1), hit.int().argmax(-1), FAR)
    return found


def accuracy(texts: Sequence[Guesses], ranks: int = 10) -> Tensor:
    """[K, ranks]: how often head k's guess of each rank is the token, over all places of all texts."""
    hits = torch.zeros(len(texts[0].ranks), ranks, dtype=torch.float64)
    seen = torch.zeros(len(hits), 1, dtype=torch.float64)
    for text in texts:
        for k, row in enumerate(text.ranks):
            places = row[: max(len(text.tokens) - k - 1, 0)]
            hits[k] += torch.bincount(places[places < ranks], minlength=ranks)
            seen[k] += len(places)
    return hits / seen.clamp(min=1)


# --- replays ---------------------------------------------------------------------------------------------------------

Drafter = Callable[[Guesses, int, int], tuple[int, int]]        # (text, tokens so far, room) -> (drafted, accepted)


def rounds(text: Guesses, drafter: Drafter) -> list[tuple[int, int, int]]:
    """Every round after the prompt's own pass: (tokens so far, drafted, accepted). Exact for greedy decoding."""
    out, made = [], 1
    while made < len(text.tokens):
        room = text.limit - made - 1
        drafted, accepted = drafter(text, made, room) if room > 0 else (0, 0)
        out.append((made, drafted, accepted))
        made += accepted + 1
    return out


def tokens_per_pass(texts: Sequence[Guesses], drafter: Drafter) -> float:
    """New tokens for each pass of the model, over all texts, their prompts' passes not counted."""
    passes = sum(len(rounds(text, drafter)) for text in texts)
    return sum(len(text.tokens) - 1 for text in texts) / passes if passes else 1.0


def prompt_lookup(num_tokens: int = 10, ngram: int = 3) -> Drafter:
    """`PromptLookup(num_tokens, ngram)`, replayed."""
    def draft(text: Guesses, made: int, room: int) -> tuple[int, int]:
        found = lookup(text.prompt + text.tokens[:made], min(num_tokens, room), ngram)
        return len(found), _agree(found, text.tokens[made:])
    return draft


def early_exit(layer: int, num_tokens: int = 4) -> Drafter:
    """`SelfSpeculative(layer, num_tokens)`, replayed: while drafts are right, its states are the whole text's."""
    def draft(text: Guesses, made: int, room: int) -> tuple[int, int]:
        count = min(num_tokens, room)
        return count, _agree(text.named[layer - 1, made : made + count].tolist(), text.tokens[made:])
    return draft


def heads(paths: Sequence[tuple[int, ...]]) -> Drafter:
    """`Blockwise(ahead, paths)`, replayed; one path a depth, of zeros, is a chain."""
    tree = set(map(tuple, paths))
    deepest = max(map(len, tree))

    def draft(text: Guesses, made: int, room: int) -> tuple[int, int]:
        path, depth = [], min(deepest, room)
        while len(path) < depth and (*path, int(text.ranks[len(path), made - 1])) in tree:
            path.append(int(text.ranks[len(path), made - 1]))
        return sum(len(p) <= depth for p in tree), len(path)
    return draft


def chain(num_heads: int) -> list[tuple[int, ...]]:
    """The paths of a chain: each head's best guess after the one before."""
    return [(0,) * depth for depth in range(1, num_heads + 1)]


def same_rounds(text: Guesses, drafter: Drafter, real: Generation) -> bool:
    """Whether a replay and a real run agree in every round: how many were drafted, and how many tokens came out."""
    told = [(drafted, min(accepted + 1, len(text.tokens) - made)) for made, drafted, accepted in rounds(text, drafter)]
    return real.tokens == text.tokens and told == [(len(s.drafted), len(s.emitted)) for s in real.trace[1:]]


def _agree(guessed: Sequence[int], came: Sequence[int]) -> int:
    """How many guesses are right before the first that is not."""
    n = min(len(guessed), len(came))
    return next((i for i in range(n) if guessed[i] != came[i]), n)
