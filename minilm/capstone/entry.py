"""A learner's file, read but not run: it has to be Python, and to define one of the three functions."""
import ast
from dataclasses import dataclass
from pathlib import Path

ROLES = {"decode": "decode(model, prompt, max_new_tokens)", "policy": "policy(model)", "proposer": "proposer(model)"}
KINDS = ("open", "edit", "python")                                  # of prompts, one of each a round
LONGEST_NAME, LARGEST_FILE = 40, 1 << 20


class Disqualified(ValueError):
    """A learner's decoder that can't be in the race; its message says why, and what to do."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this: the message is all that helps
        return [f"Disqualified: {self}"]


@dataclass(frozen=True)
class Entry:
    """name: what the table calls it.  file: the file's name.  role: which of ROLES it defines.  source: its text.

    folder: where the file is, to say what can't be imported from there.
    """

    name: str
    file: str
    role: str
    source: str
    folder: str = ""

    def beside(self, module: str) -> bool:
        """Whether a module of this name lies beside the file."""
        return bool(self.folder) and any(Path(self.folder, name).exists() for name in (f"{module}.py", module))


def read(path: str | Path, name: str | None = None) -> Entry:
    """The entry in a file. Raises FileNotFoundError or Disqualified with one line that says what is wrong."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: --mine takes the Python file with your decoder")
    if path.stat().st_size > LARGEST_FILE:
        raise Disqualified(f"{path.name} is larger than 1 MiB: a decoder is text, not data")
    try:
        source = path.read_text(encoding="utf-8-sig")
        tree = ast.parse(source)
    except UnicodeDecodeError:
        raise Disqualified(f"{path.name} is not text: --mine takes a Python file") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if getattr(error, "lineno", None) else ""
        raise Disqualified(f"{path.name} is not Python{line}: {getattr(error, 'msg', error)}") from None
    named, folder = check_name(path.stem if name is None else name), str(path.resolve().parent)
    return Entry(named, path.name, _role(path.name, tree), source, folder)


def check_name(name: str) -> str:
    """The name without blanks around it. Raises ValueError on one that a table can't show."""
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a name has 1 to {LONGEST_NAME} characters that can be printed; this one is {name[:60]!r}")
    return name


def _role(file: str, tree: ast.Module) -> str:
    found = [role for role in ROLES if role in _defined(tree)]
    if not found:
        raise Disqualified(f"{file} defines no decoder: write one of {'; '.join(ROLES.values())}")
    if len(found) > 1:
        raise Disqualified(f"{file} defines {' and '.join(found)}: which of them is to race? Keep one")
    return found[0]


def _defined(node: ast.AST) -> set[str]:
    """The names that the file's top level may bind, in whatever way; bodies of functions and classes are their own."""
    names = set()
    for part in ast.iter_child_nodes(node):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(part.name)
        elif isinstance(part, ast.alias):
            names.add(part.asname or part.name)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
        elif not isinstance(part, ast.Lambda):
            names |= _defined(part)
    return names
