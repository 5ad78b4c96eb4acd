"""Run notebooks from the top and store them so that a second run changes nothing.

    python -m minilm.lab.notebooks execute notebooks/01_*.ipynb solutions/01_*.ipynb
    python -m minilm.lab.notebooks check   notebooks/*.ipynb      # says what is not normalised; runs nothing

`execute` fails on any error in a cell, and on one inside a widget callback that was caught by an Output widget. A
failing notebook is left as it was. Cells whose output nbval ignores (timings) keep their stored output when all else
is the same.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import os
import re
import sys
from pathlib import Path

import nbformat

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KEPT_CELL_METADATA = ("tags", "nbgrader", "deletable", "editable", "jupyter", "slideshow")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
IGNORED = re.compile(r"^\s*#\s*(NBVAL_IGNORE_OUTPUT|NBVAL_SKIP|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*$", re.MULTILINE)
IGNORED_TAGS = {"nbval-ignore-output", "nbval-skip"}
BIG_OUTPUT = 150_000  # characters; an output above this is named, since readers download it

# The same on every machine: no progress file, no date in SVG, no colour codes, few threads.
RUN_ENVIRONMENT = {"MINILM_PROGRESS": "off", "SOURCE_DATE_EPOCH": "0", "PYTHONHASHSEED": "0", "NO_COLOR": "1"}


class NotebookError(Exception):
    """A notebook could not be read or did not run; the message is for the reader."""


def load(path: Path) -> nbformat.NotebookNode:
    """Read a notebook, giving cells without an id a stable one (nbformat's own would be random)."""
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
        seen: set[str] = set()
        for index, cell in enumerate(raw["cells"]):
            if not cell.get("id") or cell["id"] in seen:
                cell["id"] = f"cell-{index:03d}" if f"cell-{index:03d}" not in seen else f"cell-{index:03d}-again"
            seen.add(cell["id"])
        raw["nbformat"], raw["nbformat_minor"] = 4, max(5, raw.get("nbformat_minor", 5))
        return nbformat.from_dict(nbformat.reads(json.dumps(raw), as_version=4))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError) as error:
        raise NotebookError(f"{path}: not a readable notebook ({str(error).splitlines()[0][:120]})") from error


def dumps(nb: nbformat.NotebookNode) -> str:
    """The notebook as text: sorted keys, one space of indent, a final newline."""
    return nbformat.writes(nb, version=4).rstrip("\n") + "\n"


def normalise(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what differs between two runs or two machines; keep ids, counts and outputs. Works in place."""
    nb.metadata = nbformat.from_dict({"kernelspec": dict(KERNEL)})
    nb.nbformat_minor = 5
    for cell in nb.cells:
        kept = {k: v for k, v in cell.metadata.items() if k in KEPT_CELL_METADATA and v not in ({}, [])}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type == "code":
            cell.outputs = _merge_streams([_normalise_output(out) for out in cell.outputs])
    return nb


def _normalise_output(out):
    if "data" in out:
        out["data"].pop(WIDGET_VIEW, None)
        if "image/svg+xml" in out["data"]:
            out["data"]["image/svg+xml"] = _steady_svg(out["data"]["image/svg+xml"])
    if "metadata" in out:
        out["metadata"] = nbformat.from_dict({k: v for k, v in out["metadata"].items() if v and k != WIDGET_VIEW})
    return out


def _merge_streams(outputs: list) -> list:
    """Join neighbouring pieces of one stream: how a kernel cuts them is a matter of timing."""
    merged: list = []
    for out in outputs:
        last = merged[-1] if merged else None
        if last and last.output_type == out.output_type == "stream" and last.name == out.name:
            last["text"] += out["text"]
        else:
            merged.append(out)
    return merged


def _steady_svg(svg: str) -> str:
    """Rename matplotlib's random ids (p1a2b3c4d5e, m...) in order of appearance and drop the date."""
    svg = re.sub(r"<dc:date>.*?</dc:date>", "", svg)
    names = dict.fromkeys(re.findall(r'id="([a-z]+[0-9a-f]{10})"', svg))
    for number, name in enumerate(names):
        svg = svg.replace(name, f"id{number}")
    return svg


def ignores_output(cell) -> bool:
    """Whether nbval does not compare this cell's output."""
    return bool(IGNORED.search(cell.source)) or bool(IGNORED_TAGS & set(cell.metadata.get("tags", [])))


def execute(path: Path, *, timeout: int = 300, total: int = 1800) -> nbformat.NotebookNode:
    """Run a notebook from the top in a fresh kernel and return it normalised.

    timeout: seconds for a cell; total: seconds for the notebook. Raises NotebookError naming the cell and the error.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    nb = load(path)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        nb,
        timeout=timeout,
        startup_timeout=120,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(Path(path).resolve().parent)}},
    )
    here = str(Path(__file__).resolve().parents[2])  # the minilm that runs this script is the one the notebook imports
    python_path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **RUN_ENVIRONMENT, "PYTHONPATH": python_path}
    try:
        asyncio.run(asyncio.wait_for(client.async_execute(env=environment), total))
    except CellExecutionError as error:
        raise NotebookError(f"{path}: {_where(nb)}{error.ename}: {error.evalue}") from error
    except (TimeoutError, CellTimeoutError) as error:
        raise NotebookError(f"{path}: {_where(nb)}ran past its time limit") from error
    except DeadKernelError as error:
        raise NotebookError(f"{path}: {_where(nb)}the kernel died (out of memory or a native crash)") from error
    caught = _callback_error(client)
    if caught:
        raise NotebookError(f"{path}: a widget callback raised {caught}")
    return normalise(nb)


def _where(nb) -> str:
    """Name the cell that failed: the last code cell that was started."""
    for index in range(len(nb.cells) - 1, -1, -1):
        cell = nb.cells[index]
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count):
            return f"cell {index} (id {cell.id}, after `{cell.source.strip().splitlines()[0][:60]}`): "
    return ""


def _callback_error(client) -> str | None:
    """An error that an Output widget swallowed, as 'Name: message'."""
    for state in getattr(client, "widget_state", {}).values():
        for out in state.get("outputs", []) or []:
            if out.get("output_type") == "error":
                return f"{out.get('ename')}: {out.get('evalue')}"
    return None


def store(path: Path, nb: nbformat.NotebookNode) -> bool:
    """Write the notebook unless only ignored outputs differ from what is stored. Returns whether it was written."""
    text = dumps(nb)
    old = Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""
    if text == old or (old and _same_but_for_ignored(load(path), nb, old)):
        return False
    temporary = Path(path).with_suffix(".ipynb.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)
    return True


def _same_but_for_ignored(old, new, old_text: str) -> bool:
    if dumps(old) != old_text or len(old.cells) != len(new.cells):
        return False
    new = copy.deepcopy(new)  # with what the old one stored in the ignored cells
    for before, after in zip(old.cells, new.cells, strict=True):
        if before.cell_type == after.cell_type == "code" and before.outputs and ignores_output(after):
            after.outputs = before.outputs
    return dumps(new) == old_text


def remarks(path: Path, nb) -> list[str]:
    """What a reviewer would want to know of stored outputs: big ones, addresses, stderr."""
    found = []
    for index, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        text = json.dumps(cell.outputs)
        if len(text) > BIG_OUTPUT:
            found.append(f"{path}: cell {index} stores {len(text) // 1000} kB of output; make the figure smaller")
        if re.search(r" at 0x[0-9a-f]{6,}", text) and not ignores_output(cell):
            found.append(f"{path}: cell {index} prints a memory address, which changes at every run")
        if any(out.get("name") == "stderr" for out in cell.outputs):
            found.append(f"{path}: cell {index} writes to stderr")
    return found


def main(argv: list[str] | None = None) -> int:
    """Command line; returns 1 if a notebook failed (execute) or is not normalised (check)."""
    parser = argparse.ArgumentParser(prog="python -m minilm.lab.notebooks", description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=["execute", "check"])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--timeout", type=int, default=300, help="seconds for one cell (default %(default)s)")
    parser.add_argument("--total", type=int, default=1800, help="seconds for one notebook (default %(default)s)")
    args = parser.parse_args(argv)
    failed = False
    for path in args.paths:
        try:
            if args.action == "check":
                tidy = dumps(normalise(load(path))) == path.read_text(encoding="utf-8")
                failed |= not tidy
                print(f"{path}: {'normalised' if tidy else 'not normalised; run `execute` on it'}")
                continue
            _mark_if_solution(path)
            nb = execute(path, timeout=args.timeout, total=args.total)
            print(f"{path}: {'stored' if store(path, nb) else 'unchanged'}", flush=True)
            print("".join(f"  note: {line}\n" for line in remarks(path, nb)), end="")
        except NotebookError as error:
            failed = True
            print(error, file=sys.stderr)
    return int(failed)


def _mark_if_solution(path: Path) -> None:
    """Give the cells of a solutions notebook their nbgrader metadata before it runs."""
    nb = load(path)
    if "### BEGIN SOLUTION" in "".join(cell.source for cell in nb.cells):
        from minilm.lab.release import mark

        if mark(nb):
            Path(path).write_text(dumps(nb), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
