"""A draft that starts from the target's own thought: a small recurrent head with a reduced vocabulary.

What the target knew when it chose a token, its last hidden state, says much about the tokens after it. A drafter that
carries this state on from token to token can be far smaller than a language model that reads the text again: the
recurrent drafter (Zhang et al. 2024) and Hydra (Ankner et al. 2024) carry it with a small network, EAGLE (Li et al.
2024) with a layer of the target's own kind. Most of a drafter's time would go into a large vocabulary; naming only the
words that come often costs a little acceptance and saves most of that time (FR-Spec, Zhao et al. 2025).
"""
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minilm import heads
from minilm.cache import KVCache
from minilm.checks import check_count
from minilm.decoding.lens import normalised
from minilm.decoding.speculative import Chain, Draft
from minilm.model import GPT
from minilm.sampling import Sampling, draw, uniform


class RecurrentHead:
    """state -> state, one step for each drafted token: s' = s + down(silu(gate([s, e])) · up([s, e])).

    s[d] is the normalised state, e[d] the normalised embedding of the token that follows it. gate_up[2m, 2d] and
    down[d, m] are one SwiGLU; words[n]: the token ids that it can name, bias[n]: added to their logits.
    """

    NAMES = {"gate_up", "down", "words", "bias"}

    def __init__(self, gate_up: Tensor, down: Tensor, words: Tensor, bias: Tensor):
        self.gate_up, self.down, self.words, self.bias = gate_up, down, words, bias

    @classmethod
    def load(cls, model: GPT, name_or_path: str | Path = "smollm2-135m-instruct-draft") -> "RecurrentHead":
        """The head distilled from `model`. Raises ValueError when it is another's, or the file holds no such head."""
        tensors = heads.read(name_or_path, model)
        if set(tensors) != cls.NAMES:
            raise ValueError(f"{name_or_path} holds no recurrent head, but the tensors {', '.join(sorted(tensors))}")
        return cls(**tensors | {"words": tensors["words"].long()})

    def save(self, path: str | Path, model: GPT) -> None:
        """Write the head: its matrices in 8 bits, its bias in float16, its words as whole numbers."""
        heads.write(path, {"gate_up": self.gate_up, "down": self.down, "bias": self.bias.half(),
                           "words": self.words.int()}, model, eight_bits=("gate_up", "down"))

    def step(self, state: Tensor, embedded: Tensor) -> Tensor:
        """state[..., d], the normalised state; embedded[..., d], of the token after it -> the next state."""
        gate, up = F.linear(torch.cat((state, normalised(embedded)), -1), self.gate_up).chunk(2, dim=-1)
        return normalised(state + F.linear(F.silu(gate) * up, self.down))

    def vocabulary(self, model: GPT) -> Tensor:
        """The rows of the model's own vocabulary matrix that this head uses, [n, d], its last norm folded in."""
        return model.vocabulary.weight.detach()[self.words] * model.norm.weight.detach()


class RecurrentDraft(Chain):
    """Drafts with a `RecurrentHead`, by up to `num_tokens` tokens; words outside its vocabulary it never drafts.

    Greedy when the run is greedy, else drawn from its own distribution. Words it cannot name have q = 0: rejection
    sampling brings them in as recovered tokens, so the output law is the target's.
    """

    def __init__(self, head: RecurrentHead, num_tokens: int = 2):
        check_count("num_tokens", num_tokens, 1)
        self.head, self.num_tokens = head, num_tokens

    def start(self, model: GPT, cache: KVCache) -> None:
        if self.head.down.shape[0] != model.config.width:
            raise ValueError(f"this head reads states of width {self.head.down.shape[0]}, the model's are "
                             f"{model.config.width}")
        self.model, self.rows = model, self.head.vocabulary(model)

    def propose(self, text: list[int], limit: int, hidden: Tensor, sampling: Sampling,
                generator: torch.Generator | None) -> Draft:
        state, last = normalised(hidden), torch.tensor(text[-1], device=hidden.device)
        tokens, probs = [], []
        while len(tokens) < min(self.num_tokens, limit):
            state = self.head.step(state, self.model.embedding(last))
            logits = F.linear(state, self.rows, self.head.bias)                                 # (n,)
            if sampling.greedy:
                last = self.head.words[logits.argmax()]
            else:
                q = torch.zeros(self.model.config.vocab_size, dtype=logits.dtype, device=logits.device)
                q[self.head.words] = sampling.probs(logits)
                probs.append(q)
                last = torch.tensor(draw(q, uniform(generator)), device=logits.device)
            tokens.append(int(last))
        return Draft(tokens, torch.stack(probs) if probs else None)
