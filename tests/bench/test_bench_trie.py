"""The clock's arithmetic with scripted runs; the runs themselves on a tiny model."""
import pytest
import torch

from minilm import GPT, GPTConfig
from minilm.bench import trie
from minilm.generation import Generation, Stats


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(4096, 1, 16, 2, 1, 8, 32, max_positions=128)).double()


def test_all_three_say_what_plain_decoding_says(model):
    """Also the trie that is kept; and over nearly random tokens hardly anything is drafted."""
    known = [[1, 2, 3, 4], [9, 8, 7]]
    runs = trie.contestants(model, 24, None, known)
    for what, (plain, with_trie) in runs.items():
        for seed, prompt in enumerate(known):
            made = with_trie(prompt, seed)
            assert made.tokens == plain(prompt, seed).tokens, what
            drafted = sum(len(step.drafted) for step in made.trace)
            assert (drafted == 0) if what == "no match" else (drafted > 0), what
    assert runs["again"][1](known[0], 0).stats.target_passes < runs["first"][1](known[0], 0).stats.target_passes


def test_the_ratio_is_of_paired_rounds(monkeypatch, model):
    """Plain decoding takes 12, 4, 8 s in three rounds, the trie 6, 5, 2: the median of 2, 0.8 and 4 is 2, where the
    medians' ratio is 1.6 and the sums' 1.8. The warm-up's 9 s count nowhere."""
    def run(times):
        return lambda prompt, seed: Generation([5] * 8, [], Stats(1, 8, 4, 0.0, times[seed]))
    monkeypatch.setattr(trie.minilm, "load", lambda name: (model, type("T", (), {"eos_id": None})))
    monkeypatch.setattr(trie, "prompt_sets", lambda tokenizer, prompts: {"story": [[1], [2]], "copy": [[3]]})
    monkeypatch.setattr(trie, "contestants", lambda *args: {"again": (run([9, 6, 2, 4]), run([9, 3, 2.5, 1]))})
    said = []
    measured = trie.measure("toy", rounds=3, on_update=said.append)
    row = measured["rows"][0]
    assert row["plain_seconds"] == [12, 4, 8] and row["trie_seconds"] == [6, 5, 2]
    assert row["speed_up"] == 2.0 and row["tokens_per_pass"] == 2.0
    assert row["same"] == row["texts"] == 8 and measured["prompts"] == 2
    assert said[0] in trie.show(measured)
