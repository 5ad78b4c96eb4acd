"""The steps that train heads beside a frozen model, and the record of what they measured, heads.json."""
import argparse
import json
from pathlib import Path

import minilm
from minilm.heads import FOLDER
from minilm.model import GPT
from minilm.tokenizer import Tokenizer
from minilm.training.ahead import train_ahead
from minilm.training.card import refresh_heads
from minilm.training.exit_classifier import train_exit_classifier
from minilm.training.lens import train_lens
from minilm.training.recurrent import train_recurrent
from minilm.training.request_classifier import train_request_classifier

LENS_EXITS = (12, 20, 22, 24, 26, 28)       # of SmolLM2's 30 layers; below 20 none gets right much more than 1 in 4


def _place(args: argparse.Namespace) -> Path:
    """Where heads are written: into the run's folder, or the package's."""
    folder = FOLDER if args.folder is None else args.folder / "heads"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _target(args: argparse.Namespace) -> tuple[GPT, Tokenizer]:
    """The run's own minilm-14m, if it made one, or the bundled one; on the CPU, frozen."""
    own = args.folder is not None and (args.folder / "minilm-14m" / "config.json").is_file()
    return _frozen(args.folder / "minilm-14m" if own else "minilm-14m")


def _frozen(name: str | Path) -> tuple[GPT, Tokenizer]:
    model, tokenizer = minilm.load(name)
    return model.requires_grad_(False), tokenizer


def _note(folder: Path, name: str, facts: dict) -> None:
    """Record what was measured, and tell it in the model card beside the folder, if there is one."""
    path = folder / "heads.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(known | {name: facts}, indent=2) + "\n", encoding="utf-8")
    refresh_heads(folder)
    print(json.dumps(facts), flush=True)


def exit_classifier_step(args: argparse.Namespace) -> None:
    model, tokenizer = _target(args)
    toy = {"num_prompts": 6, "max_new_tokens": 16, "keep": 1.0, "steps": 3, "num_held_out": 3} if args.toy else {}
    head, facts = train_exit_classifier(model, tokenizer, **toy)
    head.save(_place(args) / "minilm-14m-exit-classifier.safetensors", model)
    _note(_place(args), "exit_classifier", facts)


def request_classifier_step(args: argparse.Namespace) -> None:
    model, tokenizer = _target(args)
    toy = {"num_prompts": 48, "num_held_out": 12, "steps": 3} if args.toy else {}
    classifiers, facts = train_request_classifier(model, tokenizer, **toy)
    classifiers.save(_place(args) / "minilm-14m-request-classifier.safetensors", model)
    _note(_place(args), "request_classifier", facts)


def lens_step(args: argparse.Namespace) -> None:
    model, tokenizer = _frozen(args.teacher)
    exits = tuple(layer for layer in LENS_EXITS if layer < model.config.num_layers) or (1, 2)
    toy = {"num_tokens": 200, "steps": 2, "num_words": 64, "num_prompts": 2, "max_new_tokens": 8} if args.toy else {}
    corpus = None if args.folder is None else args.folder / "corpus.jsonl"
    lens, facts = train_lens(model, tokenizer, corpus, exits=exits, minutes=args.minutes, **toy)
    lens.save(_place(args) / "smollm2-135m-instruct-lens.safetensors", model)
    _note(_place(args), "lens", facts)


def ahead_step(args: argparse.Namespace) -> None:
    model, tokenizer = _target(args)
    toy = {"num_prompts": 6, "max_new_tokens": 16, "epochs": 1, "hidden": 8, "num_held_out": 3} if args.toy else {}
    ahead, facts = train_ahead(model, tokenizer, **toy)
    ahead.save(_place(args) / "minilm-14m-ahead.safetensors", model)
    _note(_place(args), "ahead", facts)


def recurrent_step(args: argparse.Namespace) -> None:
    model, tokenizer = _frozen(args.teacher)
    toy = {"num_tokens": 200, "num_words": 64, "inner": 8, "epochs": 1.0, "num_prompts": 2,
           "max_new_tokens": 8} if args.toy else {}
    corpus = None if args.folder is None else args.folder / "corpus.jsonl"
    head, facts = train_recurrent(model, tokenizer, corpus, minutes=args.minutes, **toy)
    head.save(_place(args) / "smollm2-135m-instruct-draft.safetensors", model)
    _note(_place(args), "recurrent", facts)
