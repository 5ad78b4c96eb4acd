"""What every decoder shares: the check of a request, and the recorder that stops it and adds up."""
import math

import pytest
import torch
from core_helpers import assert_clear_error, tiny_model

from minilm.decoding import autoregressive
from minilm.generation import Pass, Recorder, check_request


@pytest.mark.parametrize(("prompt", "new", "kind", "says"), [
    ([], 1, ValueError, "the prompt is empty"), ([97], 1, ValueError, "token id 97 is outside the vocabulary of 97"),
    ([3, -1], 1, ValueError, "token id -1"), ([1.0], 1, TypeError, "1.0, a float"),
    ([True], 1, TypeError, "True, a bool"),
    (["a"], 1, TypeError, "'a', a str"), ("Hello", 1, TypeError, "encode it first"),
    ([[1, 2]], 1, TypeError, "a list"),
    ([None], 1, TypeError, "NoneType"), (torch.tensor([1, 2]), 1, TypeError, "prompt.tolist()"),
    ([1], -1, ValueError, "max_new_tokens"), ([1], 2.0, ValueError, "max_new_tokens"), ([1], True, ValueError, "True"),
    ([1], None, ValueError, "max_new_tokens"), ([1] * 32, 1, ValueError, "32 prompt tokens and 1 new ones do not fit"),
    ([1], 32, ValueError, "32 positions"), ([1] * 33, 0, ValueError, "33 prompt tokens")], ids=str)
def test_bad_requests(prompt, new, kind, says):
    """Guards work begun on a request that cannot end well, and errors from deep inside."""
    model = tiny_model()
    assert_clear_error(lambda: check_request(model, prompt, new), kind, says)
    assert_clear_error(lambda: autoregressive(model, prompt, new), kind, says)


def test_the_limit_is_usable():
    """Guards a check that refuses the last position."""
    check_request(tiny_model(), [0, 96], 30)
    check_request(tiny_model(), [1] * 32, 0)


def test_recorder_cuts_at_the_limit():
    """Guards a pass of several tokens that runs over max_new_tokens."""
    out = Recorder([1, 2], 5)
    assert out.emit(2, 0, [7, 8, 9]) == [7, 8, 9] and not out.done
    assert out.emit(3, 2, [4, 5, 6]) == [4, 5] and out.done
    assert out.finish().tokens == [7, 8, 9, 4, 5]


def test_recorder_cuts_after_the_end_token():
    """Guards tokens kept after an end token in the middle of a pass; one past the limit does not count."""
    out = Recorder([1], 9, eos=0)
    assert out.emit(1, 0, [5, 0, 6, 0]) == [5, 0] and out.done
    late = Recorder([1], 2, eos=0)
    assert late.emit(1, 0, [5, 6, 0]) == [5, 6] and late.done
    assert Recorder([1], 0).done and Recorder([1], 9).emit(1, 0, [0, 0]) == [0, 0]


def test_stats_add_up():
    """Guards totals that do not follow from the trace."""
    out = Recorder([1, 2, 3], 10)
    for tokens in ([4], [5, 6, 7], [8]):
        out.emit(1, 0, tokens)
    done = out.finish()
    stats = done.stats
    assert (stats.prompt_tokens, stats.new_tokens, stats.target_passes) == (3, 5, 3)
    assert stats.prefill_seconds == done.trace[0].seconds
    assert stats.seconds == pytest.approx(sum(step.seconds for step in done.trace), rel=1e-12)
    assert stats.tokens_per_pass == 5 / 3 and stats.tokens_per_second == 5 / stats.seconds
    nothing = Recorder([1], 0).finish().stats
    assert math.isnan(nothing.tokens_per_second) and math.isnan(nothing.tokens_per_pass)


def test_passes_can_tell_more():
    """Guards the seam that later techniques use: a subclass of Pass with fields of its own."""
    from dataclasses import dataclass

    @dataclass
    class Drafted(Pass):
        drafted: int = 0

    out = Recorder([1], 3)
    out.emit(4, 1, [5, 6], Drafted, drafted=3)
    assert out.trace[0] == Drafted(4, 1, [5, 6], out.trace[0].seconds, 3)
    assert repr(out.finish()) == "Generation(2 tokens in 1 passes)"
