"""What a trie brings on the clock: over requests that come again, over the first of their kind, and where it is no use.

"again": requests that the service has answered before (the trie kept them).  "first": the same requests, asked the
first time, with a trie that sees nothing but the text itself.  "no match": tokens drawn so nearly at random that no
end of the text was seen before, so that nothing is ever drafted: what is left is the price of learning and looking up.
"""
import statistics
from collections.abc import Callable

import torch

import minilm
from minilm.bench.speculative import KINDS, prompt_sets
from minilm.decoding import autoregressive, speculative
from minilm.decoding.proposers import Trie
from minilm.generation import Generation
from minilm.model import GPT
from minilm.race import rotated
from minilm.sampling import Sampling

RANDOM = Sampling(temperature=50.0)                     # nearly even over the vocabulary
Run = Callable[[list[int], int], Generation]            # (prompt, seed)


def contestants(model: GPT, new_tokens: int, eos: int | None, known: list[list[int]]) -> dict[str, tuple[Run, Run]]:
    """what is measured -> (plain decoding, with a trie). `known`: the prompts that were asked before."""
    kept = Trie(8, keep=True, decay=1.0)

    def plain(prompt: list[int], seed: int) -> Generation:
        return autoregressive(model, prompt, new_tokens, eos=eos)

    def drawn(seed: int) -> dict:
        return {"sampling": RANDOM, "generator": torch.Generator().manual_seed(seed)}

    for prompt in known:
        kept.insert([*prompt, *plain(prompt, 0).tokens])
    return {
        "again": (plain, lambda prompt, seed: speculative(model, prompt, new_tokens, kept, eos=eos)),
        "first": (plain, lambda prompt, seed: speculative(model, prompt, new_tokens, Trie(8), eos=eos)),
        "no match": (lambda prompt, seed: autoregressive(model, prompt, new_tokens, **drawn(seed)),
                     lambda prompt, seed: speculative(model, prompt, new_tokens, Trie(8), **drawn(seed)))}


def measure(name: str = "minilm-14m", *, prompts: int = 2, new_tokens: int = 64, rounds: int = 5,
            on_update: Callable[[str], None] = print) -> dict:
    """Paired rounds of plain decoding and of a trie, over the same prompts; the two must give the same tokens."""
    model, tokenizer = minilm.load(name)
    asked = [prompt for kind, some in prompt_sets(tokenizer, prompts).items() if kind in KINDS for prompt in some]
    rows = []
    for what, runs in contestants(model, new_tokens, tokenizer.eos_id, asked).items():
        seconds: list[list[float]] = [[], []]
        drafted = same = 0
        for number in range(rounds + 1):
            made: list[list[Generation]] = [[], []]
            for which in rotated([0, 1], number):
                made[which] = [runs[which](prompt, number) for prompt in asked]
                if number:
                    seconds[which].append(sum(out.stats.seconds for out in made[which]))
            same += sum(a.tokens == b.tokens for a, b in zip(*made, strict=True))
            drafted += sum(len(step.drafted) for out in made[1] for step in out.trace)
        passes = sum(out.stats.target_passes for out in made[1])
        rows.append({"what": what, "plain_seconds": seconds[0], "trie_seconds": seconds[1],
                     "speed_up": statistics.median(a / b for a, b in zip(*seconds, strict=True)),
                     "tokens_per_pass": sum(len(out.tokens) for out in made[1]) / passes, "drafted": drafted,
                     "same": same, "texts": len(asked) * (rounds + 1)})
        on_update(line(rows[-1]))
    return {"benchmark": "trie", "model": name, "prompts": len(asked), "new_tokens": new_tokens, "rounds": rounds,
            "rows": rows}


def line(row: dict) -> str:
    """A row as text."""
    return (f"{row['what']:9} {row['speed_up']:5.2f} × plain decoding, {row['tokens_per_pass']:5.2f} tokens a pass, "
            f"{row['drafted']} tokens drafted; {row['same']} of {row['texts']} texts the same")


def show(measured: dict) -> str:
    """The measurement as a few lines of text."""
    return "\n".join([f"{measured['model']}, a trie over {measured['prompts']} prompts, up to {measured['new_tokens']} "
                      f"tokens, medians of {measured['rounds']} paired rounds", *map(line, measured["rows"])])
