"""A wrong version of a kernel: its module's source with one place edited, made into a module of its own.

Triton reads a kernel's source from its file, so the edited text gets a file too, for as long as the tests run.
"""
import importlib.util
import inspect
import itertools
import tempfile
from pathlib import Path
from types import ModuleType

from mutants.core import Change

_folder = tempfile.TemporaryDirectory(prefix="minilm-mutants-")
_numbers = itertools.count()


class KernelEdit:
    """Where the module reads `old`, exactly once, it reads `new`; then `check` must fail. name: what is replaced.

    The module is made when the wrong version is applied, not when it is named: most runs want few of them.
    """

    def __init__(self, says: str, check: str, module: ModuleType, name: str, old: str, new: str, part: str = ""):
        self.says, self.check, self.module, self.name = says, check, module, name
        source = Path(module.__file__).read_text()
        part = part or source
        if part.count(old) != 1 or source.count(part) != 1:
            raise LookupError(f"{module.__name__} holds {old!r} {part.count(old)} times: this wrong version needs to "
                              "be rewritten")
        self.source = source.replace(part, part.replace(old, new))

    def apply(self, monkeypatch) -> None:
        """Put what the edited module has under that name, with all that it calls, in the place of the right one."""
        file = Path(_folder.name) / f"wrong_{next(_numbers)}.py"
        file.write_text(self.source)
        spec = importlib.util.spec_from_file_location(file.stem, file)
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        Change(self.says, self.check, self.module, self.name, getattr(made, self.name)).apply(monkeypatch)

    def __str__(self) -> str:
        return self.says


def edit_kernel(says: str, check: str, module: ModuleType, name: str, old: str, new: str) -> KernelEdit:
    """module.name, a kernel or a function, with the one place in it that reads `old` made to read `new`."""
    function = getattr(module, name)
    return KernelEdit(says, check, module, name, old, new, inspect.getsource(getattr(function, "fn", function)))
