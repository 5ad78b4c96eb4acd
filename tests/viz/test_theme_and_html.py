"""The visual language: scales, roles, token chips and shapes."""
import re

import pytest

from minilm import viz
from minilm.viz import html, svg, theme


def luminance(color: str) -> float:
    """WCAG's relative luminance of #rrggbb."""
    channels = [int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scale", [theme.confidence, theme.depth])
def test_scales_darken_evenly(scale):
    """Guards a scale that grey print or a colour-blind reader could not order."""
    steps = [luminance(scale(i / 20)) ** (1 / 3) for i in range(21)]
    falls = [a - b for a, b in zip(steps, steps[1:], strict=False)]
    assert all(fall > 0 for fall in falls)
    assert max(falls) < 3 * sum(falls) / len(falls)


def test_text_is_legible_on_every_colour_in_use():
    """Guards white on yellow, black on navy: WCAG AA asks for 4.5."""
    colors = [role.color for role in theme.ROLES.values() if role.color.startswith("#")] + list(theme.CATEGORIES)
    colors += [scale(i / 20) for scale in (theme.confidence, theme.depth) for i in range(21)]
    colors += [theme.diverging(i / 10) for i in range(-10, 11)]
    assert min(contrast(color, theme.ink(color)) for color in colors) > 4.4


def test_no_role_rests_on_colour_alone():
    """Guards two roles that look alike without colour."""
    marks = [theme.role(name).mark for name in ("accepted", "rejected", "recovered", "bonus", "prefill", "decode")]
    assert len(set(marks)) == len(marks) and all(marks)


def test_owners_differ_by_letter():
    letters = [theme.owner(i)[0] for i in range(26)]
    assert len(set(letters)) == 26 and theme.owner(0) == ("A", theme.BLUE)
    with pytest.raises(ValueError, match="counted from 0"):
        theme.owner(-1)


def test_bad_input_is_said_plainly():
    with pytest.raises(ValueError, match="0 to 1"):
        theme.depth(1.2)
    with pytest.raises(ValueError, match="no role is called 'acepted'"):
        html.token_strip(["a"], ["acepted"])
    with pytest.raises(ValueError, match="3 tokens but 2 roles"):
        html.token_strip(["a", "b", "c"], ["plain", "plain"])
    with pytest.raises(AttributeError, match="no picture 'atention'"):
        _ = viz.atention


def test_white_space_is_visible_and_html_is_escaped():
    """Guards a token `<b>` that turns the page bold, and a newline token that shows as nothing."""
    assert html.visible(" a\n\t") == "·a⏎⇥" and html.visible("") == "∅"
    strip = html.token_strip(["<b>", "&", '"'], titles=['x"y'] * 3)
    assert "<b>" not in strip and "&lt;b&gt;" in strip and "&amp;" in strip and 'title="x&quot;y"' in strip
    assert "<script>" not in html.table([["<script>"]], ["<script>"], caption="<script>")
    assert "<x>" not in svg.label(0, 0, "<x>")


def test_rejected_tokens_are_struck_through():
    strip = html.token_strip(["yes", "no"], ["accepted", "rejected"])
    assert strip.count("line-through") == 1 and "✗" in strip and "✓" in strip


def test_special_tokens_show_their_name():
    """Guards `<|im_end|>` shown as an empty chip, since decoding drops it."""
    class Backend:
        def id_to_token(self, token):
            return "<|im_end|>"

    class Fake:
        backend = Backend()

        def decode(self, ids):
            return "" if ids == [7] else "a\ufffd"

    assert html.texts(Fake(), [1, 7]) == ["a▯", "<|im_end|>"]


def test_shapes_are_the_same_on_every_machine():
    """Guards floats like 0.30000000000000004 in stored outputs."""
    numbers = re.findall(r"\d+\.\d+", svg.arrow(0.1 + 0.2, 1 / 3, 10, 10) + svg.circle(1 / 7, 2, 3))
    assert numbers and all(len(number.split(".")[1]) == 1 for number in numbers)
