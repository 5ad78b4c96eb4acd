"""Widgets move their picture, and their repr (which nbval compares) stays the same."""
import pytest

pytest.importorskip("ipywidgets")
pytest.importorskip("matplotlib")

from minilm.viz import picture, theme, widgets  # noqa: E402


def test_player_replays_frames():
    box = widgets.player(["zero", "one", "two"], captions=["a", "b", "c"], start=1)
    assert box.screen.value == "one" and box.play.value == box.slider.value == 1
    box.slider.value = 2
    assert box.screen.value == "two"
    assert repr(box) == "<player, 3 frames>"


def test_player_draws_on_demand():
    """Guards a player that builds all frames of a long trace before the first is shown."""
    drawn = []
    widgets.player(lambda i: drawn.append(i) or str(i), length=10_000)
    assert drawn == [0]


def test_player_rejects_what_it_cannot_play():
    with pytest.raises(ValueError, match="at least one frame"):
        widgets.player([])
    with pytest.raises(ValueError, match="one of the frames 0 to 0"):
        widgets.player(["a"], start=1)


def test_explorer_redraws_with_all_values():
    box = widgets.explorer(lambda **v: str(sorted(v.items())), layer=(1, 4, 2), top_p=(0.0, 1.0, 0.5, 0.25),
                           context=[64, 128], tied=True, kind=["a", "b"])
    box.controls["layer"].value = 3
    box.controls["top_p"].value = 0.75
    box.controls["tied"].value = False
    box.controls["context"].value = 128
    box.controls["kind"].value = "b"
    assert box.screen.value == str(sorted(dict(layer=3, top_p=0.75, context=128, tied=False, kind="b").items()))
    assert repr(box) == "<explorer>"


def test_explorer_says_what_an_axis_may_be():
    with pytest.raises(TypeError, match="give .low, high, value."):
        widgets.explorer(lambda x: "", x="1..3")


def test_chart_is_a_small_png_with_a_stable_repr():
    """Guards megabytes of base64 in notebooks."""
    fig, ax = theme.figure()
    ax.plot(range(50), **theme.ours())
    chart = picture.Chart(fig, "line")
    data, metadata = chart._repr_mimebundle_()
    assert data["text/plain"] == repr(chart) == "<line>" and data["image/png"].startswith(b"\x89PNG")
    assert len(data["image/png"]) < 40_000 and metadata["image/png"]["width"] == theme.PIXELS
