"""What counts as an answer, and as the right one."""
import pytest
import torch

from minilm.capstone.entry import KINDS, Disqualified
from minilm.capstone.judge import first_departure, judge, tokens_of
from minilm.capstone.prompts import MOST_TOKENS, draw
from minilm.decoding import autoregressive
from minilm.model import GPT, GPTConfig

TINY = GPTConfig(vocab_size=50, num_layers=2, width=32, num_heads=4, num_kv_heads=2, head_size=8, mlp_width=48,
                 max_positions=64, tie_embeddings=False)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = GPT(TINY).double().eval().requires_grad_(False)
    for weight in model.parameters():
        if weight.dim() == 2:
            weight.normal_(std=0.5)
    return model


@pytest.mark.parametrize("made, message", [
    (None, "returned nothing: is there a return"), ("text", "returned text; return the token ids"),
    (torch.tensor([1, 2, 3]), "a tensor; return a list of ints"), (7, "return a list of token ids, or a Generation"),
    ({1: 2}, "return a list of token ids"), ([1, 2.0, 3], "as token 1; tokens are ints"),
    ([1, True, 3], "as token 1; tokens are ints"), ([torch.tensor(1), 2, 3], "as token 0"), ([1, 2, [3]], "as token 2"),
    ([1, 2, 50], "token 50 at place 2; the vocabulary has 50"), ([1, -1, 2], "token -1 at place 1"),
    ([1, 2], "2 tokens where 3 were asked for; .*also past the end-of-text token$"), ([], "0 tokens where 3"),
    ([1, 2, 3, 4], "4 tokens where 3 .*the prompt is not part"),
])
def test_what_is_no_answer_is_told_apart(made, message):
    with pytest.raises(Disqualified, match=f"me.py .*{message}"):
        tokens_of(made, "me.py", 3, 50)


def test_an_answer_comes_back_as_a_list():
    assert tokens_of((1, 2, 49), "me.py", 3, 50) == [1, 2, 49]


def test_the_model_s_own_text_loses_nothing_and_one_changed_token_is_found(model):
    prompt = [3, 1, 4, 1, 5]
    own = autoregressive(model, prompt, 12).tokens
    assert judge(model, prompt, own, own).loss == 0
    assert first_departure(model, prompt, own) is None
    for place in (0, 5, 11):
        other = [*own[:place], (own[place] + 1) % 50, *own[place + 1:]]
        verdict = judge(model, prompt, other, own)
        assert (verdict.differs_at, verdict.choice, verdict.token) == (place, own[place], other[place])
        assert verdict.loss == pytest.approx(1 / 12)


def test_a_near_tie_is_no_mistake(model):
    """Guards an exact decoder thrown out because a pass over several tokens rounds otherwise: both sides of a tie are
    right, and what follows is judged by the text that it follows."""
    prompt = [3, 1, 4]
    own = autoregressive(model, prompt, 6).tokens
    scores = model(torch.tensor([prompt]))[0, -1]
    second = int(scores.argsort()[-2])
    model.vocabulary.weight[second] += model.vocabulary.weight[own[0]] - model.vocabulary.weight[second]
    model.vocabulary.weight[second] *= 1 - 1e-6                     # as good as the first, but for rounding
    other = [second, *autoregressive(model, [*prompt, second], 5).tokens]
    assert other != own
    assert judge(model, prompt, other, own).loss == 0
    wrong = [*other[:3], (other[3] + 1) % 50, *other[4:]]
    assert judge(model, prompt, wrong, own).differs_at == 3


def test_prompts_are_new_in_every_race_and_never_come_twice():
    """Guards answers that are known beforehand: an entry may hold as many as it likes."""
    import minilm
    tokenizer = minilm.load("minilm-1m")[1]
    one, two, again = draw(tokenizer, 6), draw(tokenizer, 6), draw(tokenizer, 6, seed=5)
    assert [list(some) for some in one] == [list(KINDS)] * 6
    flat = [tuple(prompt) for race in (one, two) for some in race for prompt in some.values()]
    assert len(set(flat)) >= len(flat) - 3      # 1 pair of races in 18 shares a prompt (300 were tried)
    assert len({tuple(prompt) for some in one for prompt in some.values()}) == 18
    assert all(len(prompt) <= MOST_TOKENS for prompt in flat)
    assert again == draw(tokenizer, 6, seed=5) != one
