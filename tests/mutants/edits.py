"""A wrong version as an edit of the source: easy to read, and it fails aloud when the source moves on."""
import inspect
import textwrap
from typing import Any

from mutants.core import Change


def edit(says: str, check: str, owner: Any, name: str, old: str, new: str) -> Change:
    """owner.name with the one place that reads `old` made to read `new`."""
    function = inspect.unwrap(getattr(owner, name))
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(old) != 1:
        raise LookupError(f"{name} holds {old!r} {source.count(old)} times: this wrong version needs to be rewritten")
    source = source.replace(old, new)
    if inspect.isclass(owner):
        source = source.replace("super()", f"super({owner.__name__}, self)")    # outside a class, it needs both names
    made: dict = {}
    exec(compile(source, f"<{says}>", "exec"), function.__globals__, made)
    return Change(says, check, owner, name, made[name])
