"""Speculation on the clock, without trained weights: drafts are accepted at a stated rate, whatever they say.

How long a round takes depends on shapes alone; how many tokens it gives depends on the acceptance. So a model of random
weights, of a size that nobody could bundle, tells the speed at any acceptance α. What comes out is NOT what the model
would say: this is for timing only, and `speculative` is the decoder.
"""
from collections.abc import Sequence

import torch
from torch import Tensor

from minilm.checks import check_count
from minilm.decoding.speculative import SPARE, Chain, Draft, Proposer, SpeculativePass, check_draft
from minilm.generation import Generation, Recorder, check_request
from minilm.model import GPT
from minilm.sampling import Sampling, uniform


class Filler(Chain):
    """Drafts `num_tokens` tokens that mean nothing and cost nothing: what verification alone takes."""

    def __init__(self, num_tokens: int):
        check_count("num_tokens", num_tokens, 0)
        self.num_tokens = num_tokens

    def propose(self, text: list[int], limit: int, hidden: Tensor, sampling: Sampling,
                generator: torch.Generator | None) -> Draft:
        return Draft([text[-1]] * min(self.num_tokens, limit))


def accepted_at_rate(rate: float, uniforms: Sequence[float]) -> int:
    """How many drafts in a row are accepted, each with `rate` whatever came before; one uniform a draft.

    With γ drafts a round gives 1 + this many tokens, on average (1 - α^(γ+1)) / (1 - α) (Leviathan et al. 2023, eq. 1).
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"an acceptance rate lies in [0, 1]; it is {rate}")
    return next((i for i, u in enumerate(uniforms) if u >= rate), len(uniforms))


@torch.inference_mode()
def synthetic_speculative(model: GPT, prompt: list[int], max_new_tokens: int, proposer: Proposer, *, rate: float,
                          generator: torch.Generator | None = None) -> Generation:
    """`speculative` with the target's judgement replaced by chance: the same passes, as long, at a stated acceptance.

    Drafts must be chains. The trace holds `SpeculativePass`es. NOT lossless: accepted tokens are the draft's, right or
    wrong. Raises TypeError or ValueError, before any work, when the request can't be.
    """
    check_request(model, prompt, max_new_tokens)
    accepted_at_rate(rate, ())
    out = Recorder(prompt, max_new_tokens)
    cache = model.new_cache(len(prompt) + max_new_tokens, SPARE)
    proposer.start(model, cache)
    hidden = None
    while not out.done:
        context = cache.length
        if hidden is None:
            hidden = model.read(prompt, cache)[-1]
            out.emit(len(prompt), 0, [int(model.head(hidden).argmax())], SpeculativePass)
            continue
        text = prompt + out.tokens
        room = max_new_tokens - len(out.tokens) - 1
        draft = proposer.propose(text, room, hidden, Sampling(), generator) if room else Draft()
        check_draft(draft, room, "rejection")
        if draft.parents is not None:
            raise ValueError("a tree has no one acceptance rate: draft chains")
        states = proposer.verify(model, cache, [text[-1], *draft.tokens])
        best = model.head(states).argmax(-1).tolist()
        kept = accepted_at_rate(rate, [uniform(generator) for _ in draft.tokens])
        cache.keep(context, list(range(kept + 1)))
        hidden = states[kept]
        out.emit(1 + len(draft.tokens), context, [*draft.tokens[:kept], best[kept]], SpeculativePass,
                 drafted=tuple(draft.tokens), accepted=tuple(range(kept)))
    return out.finish()
