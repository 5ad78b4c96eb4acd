"""Pictures that move: `player` replays frames, `explorer` redraws with sliders. Nothing is computed by a model here.

Only this file imports ipywidgets. Both show HTML strings made by the other files, and both have a short repr that
stays the same, since nbval compares it.
"""
from collections.abc import Callable, Sequence

import ipywidgets as W

_TEXT = {"description_width": "initial"}


class _Quiet(W.VBox):
    """A box of widgets whose repr is one short line."""

    def __init__(self, children, name: str):
        self._name = name
        super().__init__(children)

    def __repr__(self) -> str:
        return f"<{self._name}>"


def player(frames: Sequence[str] | Callable[[int], str], length: int | None = None, *, start: int = 0,
           interval: int = 500, label: str = "step", captions: Sequence[str] | None = None, min_height: int = 0,
           name: str = "player") -> W.VBox:
    """Play, pause and drag through frames.

    frames: HTML strings, or a function from the frame's number to one (then give `length`). interval: ms a frame.
    captions: a line above each frame. min_height: pixels to keep free, so that the page does not jump.
    The widget's `.slider` and `.screen` are there for tests and for linking.
    """
    count = length if callable(frames) else len(frames)
    if not count:
        raise ValueError("a player needs at least one frame; with a function, also give length=")
    if not 0 <= start < count:
        raise ValueError(f"start must be one of the frames 0 to {count - 1}, not {start}")
    draw = frames if callable(frames) else frames.__getitem__
    play = W.Play(value=start, min=0, max=count - 1, interval=interval, show_repeat=False,
                  layout=W.Layout(width="auto", margin="0 8px 0 0"))
    slider = W.IntSlider(value=start, min=0, max=count - 1, description=label, style=_TEXT,
                         layout=W.Layout(width="420px"))
    W.jslink((play, "value"), (slider, "value"))
    caption = W.HTML(captions[start] if captions else "")
    screen = W.HTML(draw(start), layout=W.Layout(min_height=f"{min_height}px"))

    def show(change) -> None:
        if captions:
            caption.value = captions[change["new"]]
        screen.value = draw(change["new"])

    slider.observe(show, names="value")
    controls = W.HBox([play, slider], layout=W.Layout(align_items="center"))
    box = _Quiet([controls, *([caption] if captions else []), screen], f"{name}, {count} frames")
    box.slider, box.play, box.screen = slider, play, screen
    return box


def explorer(draw: Callable[..., str], *, min_height: int = 0, name: str = "explorer", **axes) -> W.VBox:
    """Sliders, menus and check boxes beside a picture: draw(**values) -> HTML is called when one moves.

    Each axis is (low, high, value) of whole numbers, (low, high, value, step) of floats, a list (a menu, or a slider
    over its entries if they are numbers), or a bool. The widget's `.controls` is a dict by name.
    """
    controls = {key: _control(key.replace("_", " "), axis) for key, axis in axes.items()}
    values = lambda: {key: control.value for key, control in controls.items()}  # noqa: E731
    screen = W.HTML(draw(**values()), layout=W.Layout(min_height=f"{min_height}px"))

    def show(_) -> None:
        screen.value = draw(**values())

    for control in controls.values():
        control.observe(show, names="value")
    row = W.HBox(list(controls.values()), layout=W.Layout(flex_flow="row wrap", align_items="center"))
    box = _Quiet([row, screen], name)
    box.controls, box.screen = controls, screen
    return box


def _control(label: str, axis) -> W.Widget:
    """The widget for one axis of `explorer`. Raises TypeError for what it can't show."""
    layout = W.Layout(width="330px")
    if isinstance(axis, bool):
        return W.Checkbox(value=axis, description=label, indent=False)
    if isinstance(axis, tuple) and len(axis) in (3, 4):
        low, high, value, *step = axis
        if all(isinstance(number, int) for number in axis):
            return W.IntSlider(value=value, min=low, max=high, step=step[0] if step else 1, description=label,
                               style=_TEXT, layout=layout)
        return W.FloatSlider(value=value, min=low, max=high, step=step[0] if step else (high - low) / 100,
                             description=label, style=_TEXT, layout=layout, readout_format=".2f")
    if isinstance(axis, list) and axis:
        if all(isinstance(entry, (int, float)) for entry in axis):
            return W.SelectionSlider(options=axis, value=axis[0], description=label, style=_TEXT, layout=layout)
        return W.Dropdown(options=axis, value=axis[0], description=label, style=_TEXT, layout=layout)
    raise TypeError(f"{label}: give (low, high, value), (low, high, value, step), a list or a bool; not {axis!r}")
