"""python -m minilm.training STEP --folder RUN: make the bundled checkpoints, one step at a time or all of them.

Each step reads what the steps before it left in the folder. The steps for heads (exit-classifier, request-classifier,
lens, ahead, recurrent) also run alone: without --folder they take the bundled models and write into the package.
"""
import argparse
import json
from pathlib import Path

import torch

import minilm
from minilm import checkpoint
from minilm.model import GPT
from minilm.tokenizer import Tokenizer
from minilm.training import heads
from minilm.training.bpe import train_tokenizer
from minilm.training.card import write_card
from minilm.training.corpus import make_corpus
from minilm.training.distil import distil, write_own_text
from minilm.training.evaluate import evaluate
from minilm.training.pretrain import pretrain
from minilm.training.tokens import encode_corpus

VOCABULARY = 8192


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m minilm.training", description=__doc__)
    parser.add_argument("steps", nargs="+", choices=[*STEPS, "all"], metavar="step", help=f"{', '.join(STEPS)} or all")
    parser.add_argument("--folder", type=Path, help="where everything is read and written")
    parser.add_argument("--teacher", default="smollm2-135m-instruct", help="who writes the corpus")
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit of each step")
    parser.add_argument("--train-steps", type=int, help="stop each training after so many steps")
    parser.add_argument("--prompts", type=int, default=200_000, help="how many prompts to answer")
    parser.add_argument("--batch-size", type=int, help="of sampling (default: 2048 on a GPU, 16 elsewhere)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--toy", action="store_true", help="a tiny run of everything, for a test on a CPU")
    args = parser.parse_args(argv)
    if args.folder is None and not HEADS.keys() >= set(args.steps):
        parser.error(f"--folder is needed; only {', '.join(HEADS)} can do without")
    return args


def save_bf16(model: GPT, tokenizer: Tokenizer, folder: Path) -> None:
    checkpoint.save(model.to("cpu", torch.bfloat16), tokenizer, folder)


def note(folder: Path, **facts) -> None:
    """Add facts of the run to run.json, for the model card."""
    path = folder / "run.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(known | facts, indent=2) + "\n", encoding="utf-8")


def corpus_step(args: argparse.Namespace) -> None:
    teacher, tokenizer = minilm.load(args.teacher, device=args.device, dtype=args.dtype)
    make_corpus(teacher, tokenizer, args.folder, num_prompts=args.prompts, minutes=args.minutes,
                batch_size=args.batch_size, max_new_tokens=args.new_tokens)


def tokenizer_step(args: argparse.Namespace) -> None:
    tokenizer = train_tokenizer(args.folder, 512 if args.toy else VOCABULARY)
    with open(args.folder / "corpus.jsonl", encoding="utf-8") as file:
        note(args.folder, answers=sum(1 for _ in file), corpus_tokens=encode_corpus(args.folder, tokenizer),
             hardware=torch.cuda.get_device_name() if args.device == "cuda" else "CPU")


def pretrain_step(args: argparse.Namespace) -> None:
    tokenizer = Tokenizer.from_folder(args.folder)
    save_bf16(pretrain(args.folder, tokenizer.vocab_size, **args.training), tokenizer, args.folder / "minilm-14m")


def own_text_step(args: argparse.Namespace) -> None:
    target, tokenizer = minilm.load(args.folder / "minilm-14m", device=args.device, dtype=args.dtype)
    note(args.folder, own_tokens=write_own_text(
        target, tokenizer, args.folder, num_prompts=args.prompts, minutes=args.minutes,
        batch_size=2 * args.batch_size, max_new_tokens=args.new_tokens))


def distil_step(args: argparse.Namespace) -> None:
    target, tokenizer = minilm.load(args.folder / "minilm-14m", device=args.device)
    save_bf16(distil(args.folder, target, **args.training), tokenizer, args.folder / "minilm-1m")


def evaluate_step(args: argparse.Namespace) -> None:
    target, tokenizer = minilm.load(args.folder / "minilm-14m", device=args.device)
    draft, _ = minilm.load(args.folder / "minilm-1m", device=args.device)
    result = evaluate(target, draft, tokenizer, **({"num_prompts": 8, "max_new_tokens": 32} if args.toy else {}))
    (args.folder / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in result.items() if k != "samples"}, indent=2))


def card_step(args: argparse.Namespace) -> None:
    print(write_card(args.folder, args.folder))


STEPS = {"corpus": corpus_step, "tokenizer": tokenizer_step, "pretrain": pretrain_step, "own-text": own_text_step,
         "distil": distil_step, "evaluate": evaluate_step}
HEADS = {"exit-classifier": heads.exit_classifier_step, "request-classifier": heads.request_classifier_step,
         "lens": heads.lens_step, "ahead": heads.ahead_step, "recurrent": heads.recurrent_step}
STEPS |= HEADS | {"card": card_step}


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    on_gpu = args.device != "cpu"
    if args.folder is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
    args.dtype = torch.bfloat16 if on_gpu else torch.float32
    args.batch_size = args.batch_size or (2048 if on_gpu else 16)
    args.new_tokens = 32 if args.toy else 256
    args.training = {"device": args.device, "minutes": args.minutes, "steps": args.train_steps}
    if args.toy:
        args.training |= {"batch_size": 4, "length": 64}
    for name, step in STEPS.items():
        if name in args.steps or "all" in args.steps:
            print(f"== {name}", flush=True)
            step(args)


if __name__ == "__main__":
    main()
