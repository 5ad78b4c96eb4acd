"""Plain decoding: read the prompt once, then one forward pass for every new token. The baseline of the whole course."""
import torch

from minilm.generation import Generation, Recorder, check_request
from minilm.model import GPT
from minilm.sampling import Sampling, choose


@torch.inference_mode()
def autoregressive(model: GPT, prompt: list[int], max_new_tokens: int, *, sampling: Sampling = Sampling(),
                   eos: int | None = None, generator: torch.Generator | None = None) -> Generation:
    """Continue `prompt` by up to `max_new_tokens` tokens, one pass of the model each.

    sampling: how to choose (default: greedy). eos: stop after this token; it is kept as the last one.
    generator: seeds the draws, which makes a sampled run repeatable.
    Raises TypeError or ValueError, before any work, when the prompt is empty, holds what is no token of the model, or
    does not fit with the new tokens into `max_positions`.
    """
    check_request(model, prompt, max_new_tokens)
    out = Recorder(prompt, max_new_tokens, eos)
    cache = model.new_cache(len(prompt) + max_new_tokens)
    feed = prompt                                               # prefill: the whole prompt in the first pass
    while not out.done:
        context = cache.length
        logits = model.head(model.read(feed, cache)[-1])        # (V,): only the last token is followed by a new one
        token = choose(logits, sampling, generator)
        out.emit(len(feed), context, [token])
        feed = [token]                                          # decode: one token a pass
    return out.finish()
