"""The timings stored in lesson 00 were recorded once and never compared again: do they agree with each other, and with
the prose around them? The notebook is read, not run."""
import json
import re
from pathlib import Path

import pytest

LESSON = Path(__file__).resolve().parents[1] / "notebooks" / "00_welcome.ipynb"
BASELINE = "autoregressive"
SLACK = 0.1     # a median of ratios is not the ratio of medians: rounds differ, on a quiet machine by a few per cent
ROW = re.compile(r"^(\S+(?: \S+)*) +([\d.]+) tokens/s +([\d.]+) of the baseline +([\d.]+) tokens per pass",
                 re.MULTILINE)


@pytest.fixture(scope="module")
def cells() -> dict[str, str]:
    """Cell id -> its text if it is prose, what it printed and showed if it is code."""
    found = {}
    for cell in json.loads(LESSON.read_text(encoding="utf-8"))["cells"]:
        shown = [out.get("text") or out.get("data", {}).get("text/html", "") for out in cell.get("outputs", [])]
        text = cell["source"] if cell["cell_type"] == "markdown" else [piece for out in shown for piece in out]
        found[cell["id"]] = "".join(text)
    return found


def numbers(pattern: str, text: str) -> list[float]:
    """The groups of the only place where `pattern` stands, as numbers."""
    (match,) = re.finditer(pattern, text)
    return [float(group.replace(",", "")) for group in match.groups()]


def rounds_to(shown: float, low: float, high: float, step: float) -> bool:
    """Whether some value from low to high is shown as `shown` when rounded to `step`."""
    return low - step / 2 <= shown <= high + step / 2


def race(cells) -> dict[str, tuple[float, float]]:
    """Name -> (tokens/s, share of the baseline), as printed."""
    return {name: (float(rate), float(share)) for name, rate, share, _ in ROW.findall(cells["race"])}


def test_race_speed_ups_match_the_rates_beside_them(cells):
    """Guards a table that says 58 tokens/s, 129 tokens/s and 0.57 in one breath: record it on a quiet machine."""
    rows = race(cells)
    assert len(rows) >= 2 and rows[BASELINE][1] == 1
    for name, (rate, share) in rows.items():
        quotient = rate / rows[BASELINE][0]
        assert share == pytest.approx(quotient, rel=SLACK), f"{name}: printed {share}, rates give {quotient:.2f}"


def test_race_picture_shows_the_races_numbers(cells):
    """Guards a still from another race than the table, or from another moment than half time."""
    rows = race(cells)
    lanes = re.findall(r"<span>([^<]+?)(?: ✓)?</span><span[^>]*>(\d+) tokens · (\d+)/s", cells["race-still"])
    assert {name: int(rate) for name, _, rate in lanes} == {
        name: pytest.approx(rate, abs=0.56) for name, (rate, _) in rows.items()}        # both are rounded
    half = 96 / min(rate for rate, _ in rows.values()) / 2
    assert numbers(r"([\d.]+) s after the start", cells["race-still"]) == [pytest.approx(half, abs=0.06)]
    for name, written, _ in lanes:
        assert int(written) == pytest.approx(min(96, half * rows[name][0]), abs=1.5)


def test_race_prose_fits_the_order(cells):
    """Guards prose that says why ours is ahead beside a table where it is not."""
    assert "Ours does less" in cells["race-why"]
    rows = race(cells)
    assert rows[BASELINE][0] > rows["transformers"][0]


def test_passes_make_up_the_rate(cells):
    """Guards a rate that the seconds beside it cannot give: 96 tokens are one first pass and 95 later ones. The later
    ones are told by their median and the rate by their sum, so a quarter is allowed."""
    (rate,) = numbers(r"^(\d+) tokens/s", cells["speed"])
    fed, first = numbers(r"first pass, (\d+) tokens: ([\d.]+) ms", cells["speed"])
    (later,) = numbers(r"a later pass, 1 token: ([\d.]+) ms", cells["speed"])
    assert rate == pytest.approx(96e3 / (first + 95 * later), rel=0.25)
    assert later < first < fed / 2 * later, "the prose says: only a few times as long as a pass that reads one token"


def test_two_timings_of_one_decoder_agree(cells):
    """Guards cells recorded at different loads: plain decoding runs alone and in the race."""
    (rate,) = numbers(r"^(\d+) tokens/s", cells["speed"])
    assert rate == pytest.approx(race(cells)[BASELINE][0], rel=0.25)


def test_the_larger_model_is_as_much_slower_as_its_rate_says(cells):
    """Guards `5.7 times slower` beside two rates whose quotient is another number."""
    (rate,) = numbers(r"^(\d+) tokens/s", cells["speed"])
    real, larger, slower = numbers(r"(\d+) tokens/s: ([\d.]+) times the parameters, ([\d.]+) times slower",
                                   cells["smollm"])
    assert rounds_to(slower, (rate - 0.5) / (real + 0.5), (rate + 0.5) / (real - 0.5), 0.1)
    (parameters,) = numbers(r"^([\d,]+) parameters", cells["imports"])
    assert larger == pytest.approx(134_515_008 / parameters, abs=0.05)
    assert "a ten times larger model" in cells["model"] and round(larger) == 10


def test_counts_in_the_prose_are_the_counts_printed(cells):
    """Guards a question or an explanation that still has the numbers of an older prompt."""
    prompt, new = numbers(r"(\d+) tokens in the prompt, (\d+) new tokens", cells["passes"])
    assert numbers(r"(\d+) passes of the model", cells["passes"]) == [new]
    asked = numbers(r"prompt has (\d+) tokens, and the story has (\d+)", cells["p1"])
    assert asked == [prompt, new] and f"{prompt + new:.0f} times?" in cells["p1"]
    assert f"Reading\n{prompt:.0f} tokens took one pass; writing {prompt:.0f} takes {prompt:.0f}." in cells["p1a"]
    assert numbers(r"first pass, (\d+) tokens", cells["speed"]) == [prompt]
