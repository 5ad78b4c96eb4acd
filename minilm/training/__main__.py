"""python -m minilm.training STEP --folder RUN: make the bundled checkpoints, one step at a time or all of them."""
import argparse
import json
from pathlib import Path

import torch

import minilm
from minilm import checkpoint
from minilm.model import GPT
from minilm.tokenizer import Tokenizer
from minilm.training.bpe import train_tokenizer
from minilm.training.corpus import make_corpus
from minilm.training.distil import distil, write_own_text
from minilm.training.evaluate import evaluate
from minilm.training.pretrain import pretrain
from minilm.training.tokens import encode_corpus

VOCABULARY = 8192
STEPS = ("corpus", "tokenizer", "pretrain", "own-text", "distil", "evaluate")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m minilm.training", description=__doc__)
    parser.add_argument("steps", nargs="+", choices=[*STEPS, "all"], metavar="step", help=f"{', '.join(STEPS)} or all")
    parser.add_argument("--folder", type=Path, required=True, help="where everything is read and written")
    parser.add_argument("--teacher", default="smollm2-135m-instruct", help="who writes the corpus")
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit of each step")
    parser.add_argument("--train-steps", type=int, help="stop each training after so many steps")
    parser.add_argument("--prompts", type=int, default=200_000, help="how many prompts to answer")
    parser.add_argument("--batch-size", type=int, help="of sampling (default: 2048 on a GPU, 16 elsewhere)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--toy", action="store_true", help="a tiny run of everything, for a test on a CPU")
    return parser.parse_args(argv)


def save_bf16(model: GPT, tokenizer: Tokenizer, folder: Path) -> None:
    checkpoint.save(model.to("cpu", torch.bfloat16), tokenizer, folder)


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    steps = STEPS if "all" in args.steps else args.steps
    folder, on_gpu = args.folder, args.device != "cpu"
    folder.mkdir(parents=True, exist_ok=True)
    dtype = torch.bfloat16 if on_gpu else torch.float32
    batch_size = args.batch_size or (2048 if on_gpu else 16)
    timing = {"device": args.device, "minutes": args.minutes, "steps": args.train_steps}
    new_tokens = 32 if args.toy else 256
    small = {"batch_size": 4, "length": 64} if args.toy else {}
    if "corpus" in steps:
        teacher, its_tokenizer = minilm.load(args.teacher, device=args.device, dtype=dtype)
        make_corpus(teacher, its_tokenizer, folder, num_prompts=args.prompts, minutes=args.minutes,
                    batch_size=batch_size, max_new_tokens=new_tokens)
    if "tokenizer" in steps:
        tokenizer = train_tokenizer(folder, 512 if args.toy else VOCABULARY)
        print(f"{tokenizer}: {encode_corpus(folder, tokenizer):,} tokens of text", flush=True)
    if "pretrain" in steps:
        tokenizer = Tokenizer.from_folder(folder)
        save_bf16(pretrain(folder, tokenizer.vocab_size, **timing, **small), tokenizer, folder / "minilm-14m")
    if "own-text" in steps:
        target, tokenizer = minilm.load(folder / "minilm-14m", device=args.device, dtype=dtype)
        count = write_own_text(target, tokenizer, folder, num_prompts=args.prompts, minutes=args.minutes,
                               batch_size=2 * batch_size, max_new_tokens=new_tokens)
        print(f"{count:,} tokens of the target's own text", flush=True)
    if "distil" in steps:
        target, tokenizer = minilm.load(folder / "minilm-14m", device=args.device)
        save_bf16(distil(folder, target, **timing, **small), tokenizer, folder / "minilm-1m")
    if "evaluate" in steps:
        target, tokenizer = minilm.load(folder / "minilm-14m", device=args.device)
        draft, _ = minilm.load(folder / "minilm-1m", device=args.device)
        result = evaluate(target, draft, tokenizer, **({"num_prompts": 8, "max_new_tokens": 32} if args.toy else {}))
        (folder / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(json.dumps({k: v for k, v in result.items() if k != "samples"}, indent=2))


if __name__ == "__main__":
    main()
