"""Who takes part in `minilm race` and the decoding benchmarks: one registry, to which each chapter adds its decoder."""
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch

from minilm import checkpoint
from minilm.bench.drafters import CHAPTERS, draft_of, drafters, trained
from minilm.decoding import Entropy, ExitPolicy, Patience, SoftmaxResponse, autoregressive, early_exit, lookahead
from minilm.decoding.lens import Lens
from minilm.decoding.speculative import Proposer, speculative
from minilm.generation import Generation, Stats
from minilm.hf_config import config_to_hf
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
        return trained(Lens.load, self.model)

    @cached_property
    def drafters(self) -> dict[str, Callable[[], Proposer]]:
        """The ways to draft that go with the model, by name."""
        return drafters(self.model)

    @cached_property
    def draft(self) -> GPT | None:
        """The small model that was distilled from this one, if there is one."""
        return draft_of(self.model)

    @cached_property
    def draft_peer(self) -> "TransformersPeer":
        """The draft's weights in `transformers`."""
        return TransformersPeer(self.draft)

    @cached_property
    def peer(self) -> "TransformersPeer":
        """The same weights in `transformers`, opened when first asked for."""
        return TransformersPeer(self.model)


@dataclass(frozen=True)
class Contestant:
    """name: the row's label.  chapter: the lesson that explains it.  run: decodes the course greedily.

    exact: whether it promises the baseline's output; early exit does not.  fits: whether it can run the course: some
    need parts that were trained for a certain model.
    """

    name: str
    chapter: int
    run: Callable[[Course], Generation] = field(repr=False)
    exact: bool = True
    fits: Callable[[Course], bool] = field(repr=False, default=lambda course: True)


REGISTRY: dict[str, Contestant] = {}


def contestant(name: str, chapter: int, **options) -> Callable:
    """Enter the decorated function, Course -> Generation, into the race under `name`; options as for `Contestant`."""
    def enter(run: Callable[[Course], Generation]) -> Callable[[Course], Generation]:
        REGISTRY[name] = Contestant(name, chapter, run, **options)
        return run
    return enter


def chosen(course: Course, names: list[str] | None = None) -> list[Contestant]:
    """The contestants of these names (default: all that fit the course), the baseline always among them.

    Raises ValueError on an unknown name, or one that can't run this course.
    """
    for name in names or []:
        if name not in REGISTRY:
            raise ValueError(f"no contestant named {name!r}; there are {', '.join(REGISTRY)}")
        if not REGISTRY[name].fits(course):
            raise ValueError(f"{name!r} can't run with this model: what it needs was trained for another one")
    wanted = [name for name, c in REGISTRY.items() if c.fits(course)] if names is None else [*names, BASELINE]
    return [c for name, c in REGISTRY.items() if name in wanted]


def twin(model: GPT, **options):
    """`transformers`' own class on this model's weights, not copied: for models too large to have twice.

    options: as for `AutoModelForCausalLM.from_config`.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, logging
    logging.set_verbosity_error()
    hf = config_to_hf(model.config, model.dtype, None)
    config = AutoConfig.for_model(hf.pop("model_type"), **hf)
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config, dtype=model.dtype, **options)
    made.load_state_dict(checkpoint.hf_tensors(model), strict=False, assign=True)
    made.tie_weights()
    made.model.rotary_emb = type(made.model.rotary_emb)(config).to(model.device)        # no weights: still on "meta"
    return made.eval()


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
    def generate(self, prompt: list[int], max_new_tokens: int, *, eos: int | None = None, seed: int = 0,
                 **options) -> Generation:
        """`model.generate`, greedy unless `options` say otherwise; passes are counted by a hook.

        Where it draws, it draws from PyTorch's global generator, which `seed` sets.
        """
        passes = 0

        def count(*_):
            nonlocal passes
            passes += 1

        hook = self.model.register_forward_hook(count)
        ids = torch.tensor([prompt], device=self.model.device)
        settings = {"max_new_tokens": max_new_tokens, "do_sample": False, "pad_token_id": 0}
        settings |= {"min_new_tokens": max_new_tokens} if eos is None else {"eos_token_id": eos}
        torch.manual_seed(seed)
        try:
            started = time.perf_counter()
            tokens = self.model.generate(ids, attention_mask=torch.ones_like(ids), **settings | options)
            seconds = time.perf_counter() - started
        finally:
            hook.remove()
        new = tokens[0, len(prompt):].tolist()
        return Generation(new, [], Stats(len(prompt), len(new), passes, 0.0, seconds))

    def generate_batch(self, requests: list[tuple[list[int], int]], patience: float = 60.0) -> list[list[int]]:
        """`transformers`' continuous batching over (prompt, new tokens), greedy.

        Its cache has 40 pages of 256 tokens, as many tokens as our engine's in `minilm bench serving`.
        Raises RuntimeError when it stops, or says nothing for `patience` seconds.
        """
        from transformers import ContinuousBatchingConfig, GenerationConfig
        config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
        batching = ContinuousBatchingConfig(num_blocks=40, max_batch_tokens=512)
        out, heard = {}, time.monotonic()
        with self.model.continuous_batching_context_manager(
                generation_config=config, continuous_batching_config=batching) as manager:
            for i, (prompt, new) in enumerate(requests):
                manager.add_request(prompt, request_id=str(i), max_new_tokens=new)
            while len(out) < len(requests):
                result = manager.get_result(timeout=1)
                if result is not None and result.is_finished():
                    out[int(result.request_id)], heard = list(result.generated_tokens), time.monotonic()
                elif not manager.is_running() or time.monotonic() - heard > patience:
                    raise RuntimeError(f"its loop gave {len(out)} of {len(requests)} answers and then no more")
        return [out[i] for i in range(len(requests))]

    def batching_refused(self, requests: list[tuple[list[int], int]]) -> str | None:
        """Why `generate_batch` can't run on this machine, in its own words, or None when it can."""
        try:
            made = self.generate_batch(requests)
        except Exception as error:                              # whatever it is, it is what a user would get
            return f"{type(error).__name__}: {error}"
        return None if all(made) else "it returned no tokens"

    def assist(self, target: "TransformersPeer", num_tokens: int, *request, **options) -> Generation:
        """`target` generates, and this model drafts for it, up to `num_tokens` tokens a round."""
        self.model.generation_config.num_assistant_tokens = num_tokens
        return target.generate(*request, assistant_model=self.model, **options)


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


def _speculative(name: str, chapter: int) -> None:
    """Enter the drafter of this name, for the models that have it."""
    @contestant(name, chapter, fits=lambda course: name in course.drafters)
    def _(course: Course) -> Generation:
        return speculative(course.model, course.prompt, course.max_new_tokens, course.drafters[name]())


for _name, _chapter in CHAPTERS.items():
    _speculative(_name, _chapter)


@contestant("lookahead", chapter=7)
def _(course: Course) -> Generation:
    return lookahead(course.model, course.prompt, course.max_new_tokens, window=5, ngram=3, guesses=5)
