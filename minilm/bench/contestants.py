"""Who takes part in `minilm race` and the decoding benchmarks: one registry, to which each chapter adds its decoder."""
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch

from minilm import checkpoint
from minilm.decoding import Entropy, ExitPolicy, Patience, SoftmaxResponse, autoregressive, early_exit
from minilm.decoding.lens import Lens
from minilm.generation import Generation, Stats
from minilm.model import GPT
from minilm.tokenizer import Tokenizer

BASELINE = "autoregressive"


@dataclass
class Course:
    """What every contestant gets: one model, one prompt (token ids), greedy decoding of `max_new_tokens` tokens."""

    model: GPT
    tokenizer: Tokenizer
    prompt: list[int]
    max_new_tokens: int

    @cached_property
    def lens(self) -> Lens | None:
        """What lets middle layers speak, where one was fitted for the model: one trained to exit needs none."""
        try:
            return Lens.load(self.model)
        except ValueError:
            return None

    @cached_property
    def peer(self) -> "TransformersPeer":
        """The same weights in `transformers`, opened when first asked for."""
        return TransformersPeer(self.model)


@dataclass(frozen=True)
class Contestant:
    """name: the row's label.  chapter: the lesson that explains it.  run: decodes the course greedily.

    exact: whether it promises the baseline's output; early exit does not.
    """

    name: str
    chapter: int
    run: Callable[[Course], Generation] = field(repr=False)
    exact: bool = True


REGISTRY: dict[str, Contestant] = {}


def contestant(name: str, chapter: int, exact: bool = True) -> Callable:
    """Enter the decorated function, Course -> Generation, into the race under `name`."""
    def enter(run: Callable[[Course], Generation]) -> Callable[[Course], Generation]:
        REGISTRY[name] = Contestant(name, chapter, run, exact)
        return run
    return enter


def chosen(names: list[str] | None = None) -> list[Contestant]:
    """The contestants of these names (default: all), the baseline always among them. ValueError on an unknown one."""
    unknown = [name for name in names or [] if name not in REGISTRY]
    if unknown:
        raise ValueError(f"no contestant named {unknown[0]!r}; there are {', '.join(REGISTRY)}")
    return [c for name, c in REGISTRY.items() if names is None or name in names or name == BASELINE]


class TransformersPeer:
    """Hugging Face's own model class with this model's weights, through a checkpoint in a temporary folder."""

    def __init__(self, model: GPT):
        from transformers import AutoModelForCausalLM, logging
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        with tempfile.TemporaryDirectory() as folder:
            checkpoint.save(model, None, folder)
            self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=model.dtype).to(model.device).eval()

    @torch.inference_mode()
    def generate(self, prompt: list[int], max_new_tokens: int, **options) -> Generation:
        """`model.generate`, greedy unless `options` say otherwise; passes are counted by a hook."""
        passes = 0

        def count(*_):
            nonlocal passes
            passes += 1

        hook = self.model.register_forward_hook(count)
        ids = torch.tensor([prompt], device=self.model.device)
        try:
            started = time.perf_counter()
            tokens = self.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens,
                                         min_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0, **options)
            seconds = time.perf_counter() - started
        finally:
            hook.remove()
        new = tokens[0, len(prompt):].tolist()
        return Generation(new, [], Stats(len(prompt), len(new), passes, 0.0, seconds))


@contestant("transformers", chapter=2)
def _(course: Course) -> Generation:
    return course.peer.generate(course.prompt, course.max_new_tokens)


@contestant(BASELINE, chapter=2)
def _(course: Course) -> Generation:
    return autoregressive(course.model, course.prompt, course.max_new_tokens)


def _early_exit(course: Course, policy: ExitPolicy) -> Generation:
    """With four exits, from a quarter of the layers to five eighths, or with those of the model's lens."""
    L = course.model.config.num_layers
    exits = sorted({min(max(1, round(L * share)), L - 1) for share in (1 / 4, 3 / 8, 1 / 2, 5 / 8)})
    return early_exit(course.model, course.prompt, course.max_new_tokens, policy, lens=course.lens,
                      exits=exits if course.lens is None else course.lens.exits)


@contestant("exit by entropy", chapter=3, exact=False)
def _(course: Course) -> Generation:
    return _early_exit(course, Entropy(0.1))


@contestant("exit by patience", chapter=3, exact=False)
def _(course: Course) -> Generation:
    return _early_exit(course, Patience(2))


@contestant("CALM", chapter=4, exact=False)
def _(course: Course) -> Generation:
    return _early_exit(course, SoftmaxResponse(0.95))
