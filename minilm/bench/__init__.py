"""How it is measured: this machine's limits, what a pass costs on paper, and techniques beside their peers.

    limits      how fast this machine reads memory and multiplies matrices: the two lines of its roofline
    cost        floating-point operations and bytes of one forward pass, from the config alone
    contestants who takes part in races and benchmarks: one registry
    decode      plain decoding beside `transformers` and beside the read limit
    few_rows    the product that decoding is made of, by the library's call and by ours
    exits       early exit: what every policy loses, and how fast the calibrated ones are
    exit_losses, exit_cost, edit_tasks      what `exits` stands on
    speculative speculation by every drafter, beside plain decoding and `transformers`' assisted generation
    lossless    every lossless decoder is plain decoding token by token, greedy, float64 and float32; on a GPU it is
                engine_lossless: the engine with everything on, each divergence held against the measured rounding
    lookahead_steps     how many passes lookahead saves, by window, n-gram and guesses (`minilm bench lookahead`)
    trie        a trie on the clock: requests that come again, the first of their kind, and where it is no use
    big_decode  a decode step of models of real size on a GPU, beside the limit and peers (`minilm bench big`); the
                peers are in big_peers
    captured    decoding with passes as CUDA graphs: plain, lookahead, speculative; passes beside their floor
    serving     many requests: the engine, one at a time, static batches, `transformers`' continuous batching; memory
    serving_gpu the same on a GPU, with an 8B model's shape; flash_peer gives `transformers` flash attention for it
    batched_exit        early exit in a batch: layers run, layers read, the clock
    reservations where KV memory goes under contiguous reservations and under blocks
    kernels     the Triton kernels beside SDPA, cuDNN, FlexAttention, FlashInfer and the limits of a GPU; it stands on
                kernel_cells (shapes, inputs, references), kernel_peers, kernel_timing and kernel_report
    parallel    a decode step whole and cut over ranks, and the price of an all-reduce
    drafters    which ways to draft go with a model
    cost_model  what a technique should bring, from bytes, FLOPs and launches (paper); ceilings measures what it
                predicts from, predict reads a run's trace with it
    combinations        every technique alone, in pairs, all together: measured beside predicted; matrix says how each
                runs; gpu_combinations and big_steps: the same on a GPU, at real size
    record      recorded results and their machine

`results/` holds recorded runs.
"""
import argparse
import importlib

ROUNDS = 7
# Each benchmark and the options that mean something to it; --record goes with all.
BENCHMARKS = {"limits": ("rounds", "device"), "decode": ("model", "rounds", "device"), "linear": ("rounds",),
              "exit-losses": (), "exits": ("rounds",), "speculative": ("model", "rounds"),
              "lossless": ("model", "device"), "serving": ("rounds",), "lookahead": (), "kernels": ("rounds",),
              "captured": ("rounds",), "trie": ("model", "rounds"), "parallel": ("model", "rounds", "device", "ranks"),
              "big": ("model", "rounds", "peers"), "serving_gpu": ("rounds",), "batched_exit": ("rounds",),
              "combinations": ("model", "rounds", "device")}
# Those that `measure(model, rounds=...)` and `show` say all of, and where they are.
PLAIN = {"linear": "few_rows", "speculative": "speculative", "lookahead": "lookahead_steps", "trie": "trie",
         "serving": "serving", "serving_gpu": "serving_gpu", "batched_exit": "batched_exit", "captured": "captured",
         "kernels": "kernels", "parallel": "parallel", "big": "big_decode",
         "combinations": "combinations"}
ON_GPU = ("captured", "kernels", "big", "serving_gpu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=tuple(BENCHMARKS), help="which benchmark")
    parser.add_argument("--model", nargs="+", metavar="NAME",
                        help="which models: decode takes several (default: minilm-14m smollm2-135m-instruct), big too "
                             "(default: llama-3-8b llama-3.2-1b minilm-14m, with random weights for the first two), "
                             "speculative, lossless, trie, combinations and parallel take one (default: minilm-14m; "
                             "for parallel on cuda 8b, random weights of that shape)")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"how often each is timed (default: {ROUNDS})")
    parser.add_argument("--device",
                        help="for limits, decode, lossless, parallel and combinations: cpu (default) or cuda; "
                             "lossless on cuda is the engine, with everything on")
    parser.add_argument("--ranks", type=int, metavar="N", help="for parallel: over how many ranks (default: 2)")
    parser.add_argument("--peers", nargs="*", metavar="NAME",
                        help="for big: pytorch (default), compiled, transformers; the last two take minutes to compile")
    parser.add_argument("--record", metavar="NAME", help="save the result as minilm/bench/results/NAME.json")


def run(args: argparse.Namespace) -> int:
    """`minilm bench`: measure, print, and record if asked to. Raises ValueError for an option that has no meaning."""
    check_options(args)
    rounds = ROUNDS if args.rounds is None else args.rounds
    device = args.device or ("cuda" if args.what in ON_GPU else "cpu")
    if args.what == "limits":
        from minilm.bench import limits as benchmark
        found = benchmark.measure(device, repeats=rounds)
        measured, shown = found.as_dict(), str(found)
    elif args.what == "decode":
        from minilm.bench import decode as benchmark
        models = args.model or ["minilm-14m", "smollm2-135m-instruct"]
        measured = benchmark.measure(models, rounds=rounds, device=device)
        shown = benchmark.show(measured)
    elif args.what == "exit-losses":
        from minilm.bench import exits as benchmark
        measured = benchmark.measure_losses()
        shown = "record it with --record early_exit_losses: `minilm bench exits` and lesson 04 read it"
    elif args.what == "exits":
        from minilm.bench import exits as benchmark
        measured = benchmark.measure_speed(rounds=rounds)
        shown = benchmark.show(measured)
    elif args.what in PLAIN:
        benchmark = importlib.import_module(f"minilm.bench.{PLAIN[args.what]}")
        timed = {"rounds": rounds} if "rounds" in BENCHMARKS[args.what] else {}
        given = {name: getattr(args, name) for name in ("device", "ranks", "peers")
                 if getattr(args, name) is not None}
        given |= kept(args, device) if args.what == "serving_gpu" else {}
        measured = benchmark.measure(*args.model or [], **timed, **given)
        shown = benchmark.show(measured)
    else:
        benchmark = importlib.import_module(f"minilm.bench.{'lossless' if device == 'cpu' else 'engine_lossless'}")
        given = {"name": args.model[0]} if args.model else {}
        if device != "cpu":
            given |= {"device": device} | kept(args, device)
        measured = benchmark.measure(**given)
        shown = benchmark.show(measured)
    print(shown)
    if args.record:
        from minilm.bench.record import write
        print(f"recorded in {write(args.record, measured, device)}")
    return 0


def kept(args: argparse.Namespace, device: str) -> dict:
    """For a long benchmark that hands out what it has after every row: --record saves each time."""
    if not args.record:
        return {}
    from minilm.bench.record import write
    return {"keep": lambda measured: write(args.record, measured, device)}


def check_options(args: argparse.Namespace) -> None:
    """Raise ValueError, before anything is measured, for an option that the benchmark would ignore, or no rounds."""
    for option in ("model", "rounds", "device", "ranks", "peers"):
        if getattr(args, option) is not None and option not in BENCHMARKS[args.what]:
            takers = " and ".join(name for name, options in BENCHMARKS.items() if option in options)
            raise ValueError(f"`minilm bench {args.what}` has no --{option}; it belongs to {takers}")
    if args.what in ("speculative", "lossless", "trie", "parallel", "combinations") and len(args.model or []) > 1:
        raise ValueError(f"`minilm bench {args.what}` takes one model; it got {len(args.model)}")
    if args.rounds is not None and args.rounds < 1:
        raise ValueError(f"--rounds must be at least 1; it is {args.rounds}")
