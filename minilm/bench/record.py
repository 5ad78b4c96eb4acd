"""Recorded measurements: JSON files in `results/` that say what was measured, on which machine, with which versions."""
import json
import os
import platform
import re
from datetime import date
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def machine(device: str = "cpu") -> dict:
    """What a reader must know to compare: processor or GPU, cores, system, versions."""
    about = {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
             "system": platform.system(), "python": platform.python_version(), "torch": torch.__version__}
    if device.startswith("cuda"):
        about["gpu"] = torch.cuda.get_device_name(device)
    try:
        import transformers
        about["transformers"] = transformers.__version__
    except ImportError:
        pass
    return about


def _processor() -> str:
    """The processor's name: /proc/cpuinfo on Linux says more than `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write(name: str, measured: dict, device: str = "cpu", folder: Path = RESULTS) -> Path:
    """Save `measured` as folder/NAME.json with date and machine; returns the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    content = {"date": date.today().isoformat(), "machine": machine(device), **measured}
    text = re.sub(r"\[[^][{}]*]", _one_line, json.dumps(content, indent=1))
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _one_line(numbers: re.Match) -> str:
    """A list of plain values on one line, where JSON would give each its own."""
    return re.sub(r"\s+", " ", numbers[0]).replace("[ ", "[").replace(" ]", "]")


def read(name: str, folder: Path = RESULTS) -> dict:
    """A recorded measurement. Raises FileNotFoundError that names the recorded ones."""
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(f"no recorded result named {name!r}; there are: {known}")
    return json.loads(path.read_text(encoding="utf-8"))
