"""Tests of the roofline's picture: points where they belong, words that agree with the arithmetic."""
import re

import pytest

from minilm.bench.cost import Cost
from minilm.bench.limits import Limits
from minilm.viz import roofline

ROOF = Limits("toy", reads=(1e9,), multiplies=(1e10,))              # ridge at 10 FLOP per byte


def spot(html: str) -> tuple[float, float]:
    return tuple(float(n) for n in re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)"', html).groups())


def test_share_of_the_roof():
    """Guards a share of the matrix rate, which low intensity can never reach."""
    slow = roofline.Point("decode", "decode", Cost(1e6, 2e6), 4e-3)  # at least 2 ms by memory
    assert roofline.of_roof(ROOF, slow) == pytest.approx(0.5)


def test_view_names_what_bounds():
    decode, prefill = Cost(1e6, 2e6), Cost(1e9, 1e7)
    assert ">memory</td>" in roofline.view(ROOF, decode, "decode")
    assert ">arithmetic</td>" in roofline.view(ROOF, prefill, "prefill")


def test_more_intensity_is_further_right_and_higher_until_the_ridge():
    """Guards axes that are swapped or run backwards (y grows downwards in SVG)."""
    places = [spot(roofline.view(ROOF, Cost(x, 1), "decode")) for x in (0.5, 5, 10, 100)]
    assert places[0][0] < places[1][0] < places[2][0] < places[3][0]
    assert places[0][1] > places[1][1] > places[2][1] == places[3][1]


def test_roof_stays_while_the_dot_moves():
    """Guards a plot that rescales at every move, so that nothing seems to change."""
    views = (roofline.view(ROOF, Cost(x, 1), "decode") for x in (1, 50))
    lines = [re.search(r'<polyline points="([^"]+)"', view).group(1) for view in views]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(("seconds", "text"), [(2.0, "2 s"), (0.0123, "12.3 ms"), (4e-6, "4 µs")])
def test_duration(seconds, text):
    assert roofline.duration(seconds) == text


def test_short():
    assert [roofline.short(n) for n in (12, 4.5e7, 3e12)] == ["12 ", "45 M", "3 T"]


def test_chart_draws():
    points = [roofline.Point("prefill 8", "prefill", Cost(1e8, 1e6), 0.1),
              roofline.Point("1", "decode", Cost(1e6, 2e6), 0.1)]
    assert roofline.chart(ROOF, points).png().startswith(b"\x89PNG")


def test_the_roof_is_named_on_its_lines():
    """Guards a grey line that nothing names, in the chart or the explorer, and rates exchanged."""
    point = roofline.Point("1", "decode", Cost(1e6, 2e6), 0.1)
    names = ["the roof: multiplies 10 GFLOP/s", "the roof: reads 1 GB/s"]
    (ax,) = roofline.chart(ROOF, [point]).figure.axes
    assert [text.get_text() for text in ax.texts if "roof" in text.get_text()] == names
    view = roofline.view(ROOF, point.cost, "decode")
    assert all(f">{name}</text>" in view for name in names)


def test_names_of_points_keep_away_from_the_other_line():
    """Guards two names on one spot where a decode point lies just under the prefill line, or just over it."""
    line = [roofline.Point("", "prefill", Cost(intensity, 1), intensity / rate) for intensity, rate in ((1, 1), (4, 4))]
    under, over = (roofline.Point("", "decode", Cost(2, 1), 2 / rate) for rate in (1.9, 2.1))
    assert not roofline._above(under, line, True) and roofline._above(over, line, False)
    assert roofline._above(roofline.Point("", "decode", Cost(9, 1), 1), line, True)     # no line there
