"""Tests of the KV cache's picture: what it counts, and that each pass shows what that pass does."""
import re

import pytest

from minilm.generation import Pass
from minilm.viz import kv_cache

TOKENS = ["The", " cat", " <b>", " on", " a", " mat"]
TRACE = [Pass(3, 0, [3], 0.1), Pass(1, 3, [4], 0.1), Pass(1, 4, [5], 0.1)]


def rectangles(html: str, fill: str) -> int:
    return len(re.findall(f"<rect[^>]*fill:{fill}", html))


def test_counts_of_work():
    """Guards a count that forgets the prompt or counts the last token, which is never fed."""
    assert [kv_cache.recomputed(TRACE, i) for i in range(3)] == [3, 7, 12]
    assert [kv_cache.computed(TRACE, i) for i in range(3)] == [3, 4, 5]


def test_prefill_reads_nothing_and_decode_reads_all_before():
    """Guards a picture that shows cached reads in the first pass, or none later: dots mark what is read."""
    draw = kv_cache.frames(TOKENS, TRACE, 1024)
    dots = [draw(i).count("<circle") for i in range(3)]
    assert dots == [0, 2 * 3, 2 * 4]                                # in the row that reads, and in the slots


def test_without_a_cache_every_row_is_computed_again():
    """Guards the two sides being the same: left computes all rows, right the new ones and their slots."""
    draw = kv_cache.frames(TOKENS, TRACE, 1024)
    assert rectangles(draw(2), kv_cache.COMPUTED) == 5 + 1 + 1


def test_memory_grows_by_one_token_a_pass():
    draw = kv_cache.frames(TOKENS, TRACE, 1024)
    assert [f"{n} tokens × 1.0 KiB = {n}.0 KiB held" in draw(i) for i, n in enumerate((3, 4, 5))] == [True] * 3


def test_token_text_is_escaped():
    """Guards a token that is HTML from breaking the page."""
    assert "<b>" not in kv_cache.frames(TOKENS, TRACE, 1024)(2).replace("<b>pass 3 of 3</b>", "")


def test_frames_are_small():
    """Guards one rectangle for each cell: a player keeps a frame in the page, a long trace has many cells."""
    trace = [Pass(8, 0, [0], 0.1), *(Pass(1, n, [0], 0.1) for n in range(8, 40))]
    assert len(kv_cache.frames(["x"] * 41, trace, 1024)(32)) < 60_000


def test_too_few_texts_is_one_clear_error():
    with pytest.raises(ValueError, match="reaches 5 tokens, but only 2"):
        kv_cache.frames(TOKENS[:2], TRACE, 1024)


@pytest.mark.parametrize(("num_bytes", "text"), [(12, "12 B"), (46080, "45.0 KiB"), (2 ** 30, "1.0 GiB")])
def test_size(num_bytes, text):
    assert kv_cache.size(num_bytes) == text


def test_memory_says_what_fits():
    """Guards the verdict: 80 GB less 20 GB of weights are 60 conversations of 1 GB."""
    fits = kv_cache.memory("m", 20e9, 1e6, 1000, 60, room=80e9)
    full = kv_cache.memory("m", 20e9, 1e6, 1000, 61, room=80e9)
    most = "the most that fit is 60 conversations of 1,000 tokens"
    assert f"✓ fits; {most}" in fits and f"✗ does not fit; {most}" in full
    assert "fit is 0 conversations" in kv_cache.memory("m", 90e9, 1e6, 1000, 1, room=80e9)
    assert "cache 1 conversation ×" in kv_cache.memory("m", 90e9, 1e6, 1000, 1, room=80e9)


def test_charts_draw():
    assert kv_cache.chart(TRACE, 1024).png().startswith(b"\x89PNG")
    assert kv_cache.growth_chart((1, 2), {"a": (0.1, 0.2), "b": (0.1, 0.1)}).png().startswith(b"\x89PNG")


def test_chart_says_which_bar_is_the_prompt():
    """Guards a bar of another colour that nothing explains."""
    _, memory = kv_cache.chart(TRACE, 1024).figure.axes
    assert [(text.get_text(), text.get_position()[0]) for text in memory.texts] == [("prompt", 1)]
