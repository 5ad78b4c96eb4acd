"""Lesson 00's pictures: what they say follows from the measured results."""
from minilm.bench.contestants import REGISTRY
from minilm.generation import Pass
from minilm.race import Result
from minilm.viz import course_map, race


def result(name, seconds, tokens):
    return Result(REGISTRY[name], [seconds], len(tokens), 1.0, tokens)


RESULTS = [result("transformers", 4.0, [1] * 8), result("autoregressive", 2.0, [1] * 8)]
TEXTS = [["a<b "] * 8] * 2


def test_lanes_show_who_is_ahead_and_escape_text():
    html = race.lanes(RESULTS, TEXTS, 1.0)
    assert "2 tokens" in html and "4 tokens" in html and "width:25.0%" in html and "width:50.0%" in html
    assert "a&lt;b" in html and "a<b" not in html


def test_the_slowest_has_finished_at_the_last_moment_and_nobody_overruns():
    moments = race.moments(RESULTS, 5)
    assert moments == [0, 1, 2, 3, 4]
    html = race.lanes(RESULTS, TEXTS, moments[-1])
    assert html.count("✓") == 2 and html.count("width:100.0%") == 2


def test_passes_draws_a_box_a_pass():
    html = race.passes([Pass(5, 0, [1], 0.1), Pass(1, 5, [2, 3], 0.1)], ["x", "y", "z"])
    assert html.count("<span") == 2 and "pass 1: 5 tokens in" in html and "yz" in html


def test_course_map_links_what_is_there_and_says_what_is_to_come(tmp_path):
    (tmp_path / "01_gpt_from_scratch.ipynb").write_text("{}")
    html = course_map.course_map(tmp_path)
    assert html.count("<a href") == 1 and html.count("to come") == len(course_map.LESSONS) - 1
