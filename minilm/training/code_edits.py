"""Edits of a given Python function: rename a variable, add a docstring or types, fix a bug put in on purpose."""
import ast
import io
import random
import re
import tokenize
import warnings

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)
_NEW_NAMES = ("value", "result", "data", "current", "entry", "amount", "values", "output", "piece", "source", "first",
              "limit", "answer", "element", "record", "position")
_BUGS = {"<": ">", ">": "<", "<=": "<", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "*": "+", "//": "/",
         "%": "//", "+=": "-=", "-=": "+=", "and": "or", "or": "and", "True": "False", "False": "True"}
Task = tuple[str, str]


def parse(code: str) -> ast.Module | None:
    """The syntax tree of some code, or None where it is not valid Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")             # a teacher's code may hold odd escapes
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def functions(text: str, max_lines: int) -> list[str]:
    """The whole top-level functions of 2 to max_lines lines in a text's fenced code, or in the text itself."""
    out = []
    for code in _FENCE.findall(text) or [text]:
        code = code.replace("\t", "    ")
        tree = parse(code)
        for node in tree.body if tree else []:
            lines = code.splitlines()[node.lineno - 1:node.end_lineno]
            if isinstance(node, ast.FunctionDef) and 2 <= len(lines) <= max_lines and len("\n".join(lines)) < 1200:
                if parse("\n".join(lines)):
                    out.append("\n".join(line.rstrip() for line in lines))
    return out


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


def _variables(code: str) -> list[str]:
    """Arguments and local names that a plain search finds exactly where the syntax tree has them: safe to rename."""
    nodes = list(ast.walk(parse(code)))
    uses = [n.arg for n in nodes if isinstance(n, ast.arg)] + [n.id for n in nodes if isinstance(n, ast.Name)]
    own = {n.arg for n in nodes if isinstance(n, ast.arg)}
    own |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return sorted(name for name in own if name != "self" and len(re.findall(rf"\b{name}\b", code)) == uses.count(name))


def _renamed(code: str, rng: random.Random) -> tuple[str, str, str] | None:
    """(old name, new name, the changed code)."""
    olds = _variables(code)
    news = [name for name in _NEW_NAMES if not re.search(rf"\b{name}\b", code)]
    if not olds or not news:
        return None
    old, new = rng.choice(olds), rng.choice(news)
    return old, new, re.sub(rf"\b{old}\b", new, code)


def with_bug(code: str, rng: random.Random) -> tuple[str, int, str, str] | None:
    """(the code with one operator or word changed, its line from 1, the wrong token, the right token)."""
    try:
        tokens = [t for t in tokenize.generate_tokens(io.StringIO(code).readline) if t.string in _BUGS]
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return None
    lines = code.splitlines()
    rng.shuffle(tokens)
    for token in tokens:
        row, column = token.start
        line = lines[row - 1]
        right, wrong = token.string, _BUGS[token.string]
        changed = line[:column] + wrong + line[column + len(right):]
        broken = "\n".join([*lines[:row - 1], changed, *lines[row:]])
        if parse(broken) and len(re.findall(rf"(?<!\S){re.escape(wrong)}(?!\S)", changed)) == 1:
            return broken, row, wrong, right
    return None


def rename(code: str, rng: random.Random) -> Task | None:
    """Prompt and exact answer: the function with one variable renamed."""
    found = _renamed(code, rng)
    if not found:
        return None
    old, new, changed = found
    ask = rng.choice((f"Rename the variable `{old}` to `{new}` in this function.",
                      f"Rewrite this function with `{new}` instead of `{old}`.",
                      f"In this code, change the name `{old}` to `{new}`. Answer with the code only."))
    return f"{ask}\n\n{fenced(code)}", fenced(changed)


def fix(code: str, rng: random.Random) -> Task | None:
    """Prompt and exact answer: one token of the function is wrong, and the prompt says which."""
    found = with_bug(code, rng)
    if not found:
        return None
    broken, row, wrong, right = found
    lines = [text.strip() for text in broken.splitlines()]
    line = lines[row - 1]
    if lines.count(line) > 1:
        return None                                                 # the prompt could not say which line
    ask = rng.choice((f"In the line `{line}`, change `{wrong}` to `{right}` and show the whole function.",
                      f"This function has a bug: in `{line}` there should be `{right}` in place of `{wrong}`. Fix it.",
                      f"Replace `{wrong}` with `{right}` in the line `{line}` of this function."))
    return f"{ask}\n\n{fenced(broken)}", fenced(code)


def edit(code: str, rng: random.Random) -> Task | None:
    """A prompt for a teacher: one of the edits, drawn at random among those that this function allows."""
    tree = parse(code)
    node = tree.body[0]
    asks = [("Add comments that explain this function.", code), ("Add a check for bad input to this function.", code),
            ("Make this function easier to read and show the whole code.", code),
            (f"Copy the function `{node.name}` and add an example of how to use it.", code)]
    if ast.get_docstring(node) is None:
        asks += [("Add a docstring to this function.", code),
                 ("Write this function again with a short docstring.", code)]
    if node.args.args and not any(a.annotation for a in node.args.args):
        asks += [("Add type hints to this function.", code), ("Write this function again with type hints.", code)]
    if bug := with_bug(code, rng):
        asks += [("This function has a bug. Find it and fix it.", bug[0]),
                 ("Something is wrong in this function. Show the corrected code.", bug[0])]
    if renamed := _renamed(code, rng):
        asks += [(f"Rename `{renamed[0]}` to `{renamed[1]}` and add a docstring.", code),
                 (f"Rename the variable `{renamed[0]}` to `{renamed[1]}` in this function.", code)]
    ask, given = rng.choice(asks)
    return f"{ask}\n\n{fenced(given)}", ""
