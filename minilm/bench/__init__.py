"""How it is measured: this machine's limits, what a pass costs on paper, and techniques beside their peers.

    limits      how fast this machine reads memory and multiplies matrices: the two lines of its roofline
    cost        floating-point operations and bytes of one forward pass, from the config alone
    contestants who takes part in races and benchmarks: one registry
    decode      plain decoding beside `transformers` and beside the read limit
    few_rows    the product that decoding is made of, by the library's call and by ours
    record      recorded results and their machine

`results/` holds recorded runs.
"""
import argparse

BENCHMARKS = ("limits", "decode", "linear")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=BENCHMARKS, help="which benchmark")
    parser.add_argument("--model", nargs="+", default=["minilm-14m", "smollm2-135m-instruct"], help="for decode")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="paired rounds (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--record", metavar="NAME", help="save the result as minilm/bench/results/NAME.json")


def run(args: argparse.Namespace) -> int:
    """`minilm bench`: measure, print, and record if asked to."""
    if args.what == "limits":
        from minilm.bench.limits import measure
        print(measure(args.device))
        return 0
    if args.what == "decode":
        from minilm.bench import decode as benchmark
        measured = benchmark.measure(args.model, rounds=args.rounds, device=args.device)
    else:
        from minilm.bench import few_rows as benchmark
        measured = benchmark.measure(rounds=args.rounds)
    print(benchmark.show(measured))
    if args.record:
        from minilm.bench.record import write
        print(f"recorded in {write(args.record, measured, args.device)}")
    return 0
