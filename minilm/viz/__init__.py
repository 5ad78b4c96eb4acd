"""How it is seen: figures and widgets, one file a noun, drawn from data and never from a model that runs again.

    theme      colours, roles, scales and chart sizes: the one visual language of all lessons
    picture    what a cell shows: `Html` and `Chart`, with a short repr that stays the same on every machine
    html       tokens as readable chips, tables, cards: pure functions to HTML strings
    svg        the few shapes that diagrams need: pure functions to SVG strings
    widgets    players and sliders that replay frames (the only file that imports ipywidgets)

The rest is one file a subject: `attention`, `rotary`, `parameters`, `lens`, ... Submodules load when first used:
`from minilm import viz; viz.attention.heat_map(...)`.
"""
import importlib
import pkgutil

__all__ = sorted(module.name for module in pkgutil.iter_modules(__path__))


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'minilm.viz' has no picture {name!r}; there are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
