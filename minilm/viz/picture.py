"""What a cell shows. Both kinds have a short repr that is the same on every machine, which is what nbval compares."""
import io

from minilm.viz import theme


class Html:
    """A piece of HTML (with SVG inside, if wanted) that JupyterLab and GitHub show. `name` says what it is, shortly."""

    def __init__(self, html: str, name: str = "picture"):
        self.html, self.name = html, name

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Chart:
    """A matplotlib figure shown as a small, sharp PNG: PNG also shows in a notebook that is not trusted yet.

    `figure` stays at hand for `figure.savefig(...)`. colors: size of the PNG's palette; fewer is smaller.
    """

    def __init__(self, figure, name: str = "chart", *, colors: int = 256):
        self.figure, self.name, self.colors = figure, name, colors

    def png(self) -> bytes:
        """The figure at twice its size on screen, with a reduced palette."""
        import matplotlib
        from PIL import Image

        raw = io.BytesIO()
        with matplotlib.rc_context(theme.RC):
            self.figure.savefig(raw, format="png", dpi=2 * theme.PIXELS / theme.WIDTH, metadata={"Software": None})
        small = io.BytesIO()
        image = Image.open(raw).convert("RGB")
        image.quantize(self.colors, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
        return small.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        width = round(self.figure.get_figwidth() * theme.PIXELS / theme.WIDTH)
        return {"image/png": self.png(), "text/plain": repr(self)}, {"image/png": {"width": width}}

    def __repr__(self) -> str:
        return f"<{self.name}>"
