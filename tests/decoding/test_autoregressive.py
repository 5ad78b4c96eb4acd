"""Plain decoding: the tokens of `transformers`' generate, the cache's economy, stopping, and repeatable sampling."""
import functools
import tempfile

import pytest
import torch
from core_helpers import TINY, assert_clear_error, one_thread, tiny_model  # noqa: F401
from transformers import AutoModelForCausalLM

import minilm
from minilm import checkpoint
from minilm.decoding import autoregressive
from minilm.model import GPT
from minilm.sampling import Sampling

REQUESTS = [
    "Tell me a short story about a fox and an owl.", "Why is the sky blue?", "Write a poem about the sea.",
    "List five things to take on a hike.", "Explain how a bicycle works.", "What is photosynthesis?",
    "Write a Python function that adds two numbers.", "Describe a rainy day in a small town.",
    "Give three reasons to read books.", "Write a dialogue between a baker and a customer.",
    "How do bees make honey?", "What does a gardener do in spring?", "What is gravity?",
    "Write a Python function that reverses a list.", "Write a letter to a friend.", "Summarise why sleep matters.",
    "How is bread made?", "Describe a friendly robot.", "Write a riddle about time.",
    "Correct this sentence: He go to school every days."]


@functools.cache
def judged(name: str):
    """(model, tokenizer, the same weights in `transformers`)."""
    model, tokenizer = minilm.load(name)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(model, tokenizer, folder)
        return model, tokenizer, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize(("name", "requests", "new"), [("minilm-14m", REQUESTS, 64), ("minilm-1m", REQUESTS[:5], 64),
                                                       ("smollm2-135m-instruct", REQUESTS[:2], 24)])
def test_same_greedy_tokens_as_transformers(name, requests, new):
    """Guards a wrong position, mask or cache slot at any step. Where the two best logits are nearer than 1e-3, rounding
    may decide, and tokens are compared up to there; that must be rare.

    The first text is compared with what `generate` makes. The others are read by the judge in one pass: if it names
    each token of ours after those before, that is the text it would make, and it takes a tenth of the time.
    """
    model, tokenizer, judge = judged(name)
    compared = 0
    for request in requests:
        prompt = tokenizer.chat(request)
        ours = autoregressive(model, prompt, new).tokens
        with torch.inference_mode():
            ids = torch.tensor([prompt])                        # the mask, or it takes end tokens inside for padding
            if request is requests[0]:
                theirs = judge.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False,
                                        eos_token_id=None, pad_token_id=0)[0, len(prompt):].tolist()
            else:
                ids = torch.tensor([prompt + ours[:-1]])
                logits = judge(ids, attention_mask=torch.ones_like(ids)).logits
                theirs = logits[0, len(prompt) - 1 :].argmax(-1).tolist()
            best = model(torch.tensor([prompt + ours]))[0, len(prompt) - 1 : -1].topk(2).values     # (new, 2)
        near = (best[:, 0] - best[:, 1] < 1e-3).nonzero().flatten().tolist()
        sure = near[0] if near else new
        assert ours[:sure] == theirs[:sure], request
        assert len(ours) == len(theirs) == new
        compared += sure
    assert compared >= 0.95 * new * len(requests), f"near ties leave only {compared} tokens to compare"


def test_same_tokens_without_a_cache():
    """Guards cached decoding against the plainest loop there is, up to the model's very last position."""
    model, prompt = tiny_model(dtype=torch.float64), [5, 17, 80]
    text = list(prompt)
    while len(text) < TINY.max_positions:
        text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    assert autoregressive(model, prompt, 29).tokens == text[3:]


def test_each_token_is_fed_once():
    """Guards prompts read again, and a last pass whose logits nobody needs: 1 prefill, then 1 token a pass."""
    model, seen = tiny_model(), []
    original = model.hidden
    model.hidden = lambda ids, cache=None: seen.append(ids.tolist()[0]) or original(ids, cache)
    out = autoregressive(model, [3, 1, 4, 1], 6)
    assert seen == [[3, 1, 4, 1], *[[token] for token in out.tokens[:-1]]]
    assert [(p.fed, p.context, p.emitted) for p in out.trace] == [
        (4 if i == 0 else 1, 0 if i == 0 else 3 + i, [token]) for i, token in enumerate(out.tokens)]
    assert all(p.seconds > 0 for p in out.trace)
    assert (out.stats.prompt_tokens, out.stats.new_tokens, out.stats.target_passes) == (4, 6, 6)
    assert out.stats.tokens_per_pass == 1


def test_stops_after_the_end_token_and_keeps_it():
    """Guards an end token that is lost, or run over; without `eos` nothing stops early."""
    model = tiny_model()
    free = autoregressive(model, [3, 1, 4], 20).tokens
    end = free[6]
    first = free.index(end)
    out = autoregressive(model, [3, 1, 4], 20, eos=end)
    assert out.tokens == free[: first + 1] and out.stats.target_passes == first + 1
    assert autoregressive(model, [3, 1, end], 20, eos=96 if 96 not in free else None).tokens[:1]
    assert len(free) == 20


@pytest.mark.parametrize(("prompt", "new"), [(1, 0), (32, 0), (1, 31), (31, 1), (16, 16)])
def test_fills_the_model_exactly(prompt, new):
    """Guards the edges: no new tokens at all, and the last position of the model."""
    out = autoregressive(tiny_model(), [1] * prompt, new)
    assert len(out.tokens) == out.stats.new_tokens == len(out.trace) == new


def test_a_seed_repeats_and_another_differs():
    """Guards draws from somewhere else than the generator; greedy needs none and leaves it alone."""
    model, rule = tiny_model(), Sampling(1.5)

    def run(seed, **options):
        generator = torch.Generator().manual_seed(seed)
        return autoregressive(model, [1, 2, 3], 25, generator=generator, **options).tokens, generator.get_state()
    assert run(1, sampling=rule)[0] == run(1, sampling=rule)[0] != run(2, sampling=rule)[0]
    assert torch.equal(run(1)[1], torch.Generator().manual_seed(1).get_state())
    torch.manual_seed(7)
    unseeded = autoregressive(model, [1, 2, 3], 25, sampling=rule).tokens
    torch.manual_seed(7)
    assert autoregressive(model, [1, 2, 3], 25, sampling=rule).tokens == unseeded
    narrow = Sampling(1.0, top_k=1)
    assert run(3, sampling=narrow)[0] == run(3)[0]


def test_leaves_no_trace_in_the_model():
    """Guards a cache kept from one call to the next, and a prompt that is changed."""
    model, prompt = GPT(TINY), [1, 2, 3]
    first = autoregressive(model, prompt, 10).tokens
    autoregressive(model, [9, 9], 10)
    assert autoregressive(model, prompt, 10).tokens == first and prompt == [1, 2, 3]
    assert all(p.requires_grad for p in model.parameters())


def test_bad_request_before_any_work():
    """Guards a prefill that is thrown away. (Every kind of bad request: tests/test_generation.py.)"""
    model = tiny_model()
    model.hidden = lambda *_: pytest.fail("the model ran")
    assert_clear_error(lambda: autoregressive(model, [1] * 20, 13), ValueError, "20 prompt tokens and 13 new")
