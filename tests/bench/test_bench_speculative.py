"""The speculation benchmark's arithmetic, on scripted runs; and the prompts it asks."""
import types

import pytest

from minilm.bench import speculative
from minilm.bench.contestants import BASELINE
from minilm.race import rotated


def scripted(seconds: list[float], tokens: int, passes: int, asked: list):
    """A run that takes the next of `seconds` at each prompt, and notes what it was asked."""
    times = iter(seconds)

    def run(prompt, seed):
        asked.append((prompt, seed))
        return types.SimpleNamespace(stats=types.SimpleNamespace(seconds=next(times), new_tokens=tokens,
                                                                 target_passes=passes))
    return run


def test_time_for_a_token_in_pairs():
    """Guards a warm-up that counts, a slow round that moves the figure, and times of texts of unequal length."""
    asked: list = []
    runs = {BASELINE: scripted([99, 99, 2, 2, 30, 10, 4, 4], 10, 10, asked),
            "rival": scripted([99, 99, 1, 1, 10, 10, 2, 2], 20, 5, asked)}
    base, rival = speculative.timed("story", 1.0, runs, [[1], [2]], rounds=3)
    assert base["seconds_per_token"] == pytest.approx([0.2, 2.0, 0.4]) and base["speed_up"] == 1
    assert rival["seconds_per_token"] == pytest.approx([0.05, 0.5, 0.1]) and rival["speed_up"] == pytest.approx(4)
    assert (base["tokens_per_pass"], rival["tokens_per_pass"]) == (1, 4)
    assert (rival["name"], rival["kind"], rival["temperature"]) == ("rival", "story", 1.0)
    assert [seed for _, seed in asked] == [seed for seed in range(4) for _ in range(4)]     # all of a round alike


def test_every_round_begins_with_another():
    """Guards a runner that always follows the same one."""
    runners = ["a", "b", "c"]
    assert [rotated(runners, number) for number in range(4)] == [
        ["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert runners == ["a", "b", "c"] and rotated(["a"], 7) == ["a"]


def row(kind: str, name: str, seconds: list[float], temperature: float = 0.0) -> dict:
    return {"kind": kind, "name": name, "temperature": temperature, "seconds_per_token": seconds}


def test_over_several_kinds_each_weighs_the_same():
    """Guards ratios that are averaged (a kind that gains tenfold would count for ten), other temperatures and kinds
    taken in, and rounds that are mixed."""
    rows = [row("story", BASELINE, [1.0, 2.0, 3.0]), row("list", BASELINE, [3.0, 2.0, 5.0]),
            row("story", "x", [0.5, 0.5, 1.0]), row("list", "x", [1.5, 3.5, 1.0]),
            row("copy", BASELINE, [8.0, 8.0, 8.0]), row("copy", "x", [1.0, 2.0, 4.0]),
            row("story", "x", [9.0, 9.0, 9.0], 1.0), row("story", BASELINE, [1.0, 1.0, 1.0], 1.0)]
    assert speculative.overall(rows, "x", 0.0) == 2.0                           # of 4 / 2, 4 / 4 and 8 / 2
    assert speculative.overall(rows, "x", 0.0, ("copy",)) == 4.0
    assert speculative.overall(rows, "x", 1.0) == pytest.approx(1 / 9)
    assert speculative.overall(rows, BASELINE, 0.0) == 1.0


def test_as_many_prompts_of_every_kind():
    """Guards a kind that runs short, and prompts that head training has measured on."""
    tokenizer = types.SimpleNamespace(chat_batch=list)
    few, more = speculative.prompt_sets(tokenizer, 1), speculative.prompt_sets(tokenizer, 3)
    assert list(more) == [*speculative.KINDS, speculative.COPY]
    assert all(len(set(texts)) == 3 for texts in more.values())
    assert all(more[kind][0] == few[kind][0] for kind in speculative.KINDS)     # more prompts are the same and others
    known = {prompt.text for prompt in speculative.prompt_maker.held_out(speculative.SKIPPED)}
    assert not known & {text for texts in more.values() for text in texts}
