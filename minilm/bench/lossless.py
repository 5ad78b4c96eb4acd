"""Every lossless decoder against plain decoding, greedy, token by token, in float64 and in float32.

In exact arithmetic the two are the same. A machine rounds, and one pass over several tokens rounds otherwise than
several passes over one: where the two largest logits nearly tie, the winner may change, and with it the rest of the
text. float64 has no such near ties here; in float32 each divergence is told with the gap between its two best logits.
"""
from collections.abc import Callable

import torch

import minilm
from minilm.bench.drafters import draft_of, drafters, trained
from minilm.decoding import autoregressive, jacobi, lookahead
from minilm.decoding.proposers import AheadHeads, Blockwise, DraftModel, PromptLookup, SelfSpeculative, choose_tree
from minilm.decoding.speculative import Proposer, speculative
from minilm.generation import Generation
from minilm.model import GPT
from minilm.race import first_difference
from minilm.training.evaluate import held_out_prompts

# How often head k's guess of a rank might be right: any numbers make a tree, and any tree must be lossless.
SHARES = torch.tensor([[0.6, 0.15, 0.08], [0.4, 0.12, 0.07], [0.25, 0.1, 0.06]])
NODES = 16


def proposers(model: GPT) -> dict[str, Callable[[], Proposer]]:
    """name -> how to make it: the drafters of the race, then the same ones with longer and larger drafts."""
    found = drafters(model)
    found["prompt lookup, of one token"] = lambda: PromptLookup(10, 3)
    draft = draft_of(model)
    if draft is not None:
        found["draft model, constant"] = lambda: DraftModel(draft, 4)
        found["draft model, heuristic"] = lambda: DraftModel(draft, 5, schedule="heuristic", confidence=0.4)
    layer = model.config.num_layers * 3 // 8
    found[f"self-speculation, exit {layer}"] = lambda: SelfSpeculative(layer, 4)
    ahead = trained(AheadHeads.load, model)
    if ahead is not None:
        found["blockwise, all heads"] = lambda: Blockwise(ahead)
        found[f"blockwise, {NODES} nodes"] = lambda: Blockwise(ahead, choose_tree(SHARES[: len(ahead)], NODES))
    return found


def decoders(model: GPT) -> dict[str, Callable[[list[int], int], Generation]]:
    """name -> run(prompt, new tokens): speculation by every proposer, Jacobi decoding, lookahead narrow and wide."""
    found = {name: lambda prompt, new, make=make: speculative(model, prompt, new, make())
             for name, make in proposers(model).items()}
    found["Jacobi, blocks of 16"] = lambda prompt, new: jacobi(model, prompt, new)
    for W, N, G in ((5, 3, 5), (15, 5, 15)):
        found[f"lookahead ({W}, {N}, {G})"] = lambda prompt, new, W=W, N=N, G=G: lookahead(
            model, prompt, new, window=W, ngram=N, guesses=G)
    return found


def measure(num_prompts: int = 50, new_tokens: int = 64, name: str = "minilm-14m",
            on_update: Callable[[str], None] = print) -> dict:
    """One row for each decoder and precision: of how many held-out prompts the greedy text is plain decoding's own.

    No timings: the same machine gives the same rows. A divergence is {"prompt", "at" (new tokens before it), "margin"
    (of the two best logits there, in float64)}. tokens_per_pass: new tokens for each pass of the target.
    """
    rows = []
    exact, tokenizer = minilm.load(name, dtype=torch.float64)
    prompts = held_out_prompts(tokenizer, num_prompts)
    for dtype in (torch.float64, torch.float32):
        model = exact if dtype == torch.float64 else minilm.load(name, dtype=dtype)[0]
        plain = [autoregressive(model, prompt, new_tokens).tokens for prompt in prompts]
        for label, run in decoders(model).items():
            made = [run(prompt, new_tokens) for prompt in prompts]
            apart = [divergence(exact, prompts[i], plain[i], made[i].tokens) | {"prompt": i}
                     for i in range(num_prompts) if made[i].tokens != plain[i]]
            passes = sum(generation.stats.target_passes for generation in made)
            rows.append({"decoder": label, "dtype": str(dtype).removeprefix("torch."), "prompts": num_prompts,
                         "identical": num_prompts - len(apart), "divergences": apart,
                         "tokens_per_pass": round(num_prompts * new_tokens / passes, 4)})
            on_update(line(rows[-1]))
    return {"benchmark": "lossless", "model": name, "new_tokens": new_tokens, "rows": rows}


@torch.inference_mode()
def divergence(model: GPT, prompt: list[int], plain: list[int], made: list[int]) -> dict:
    """Where two texts part, how near the two best logits are there, and how far behind the best the worse of the two
    tokens is that were chosen (None where one text has no token there)."""
    at = first_difference(plain, made)
    logits = model(torch.tensor([prompt + plain[:at]], device=model.device))[0, -1]
    best, chosen = logits.topk(2).values, [text[at] for text in (plain, made) if at < len(text)]
    behind = float(best[0] - logits[chosen].min()) if len(chosen) == 2 else None
    return {"at": at, "margin": float(best[0] - best[1]), "behind": behind}


def line(row: dict) -> str:
    """A row as text."""
    apart = "".join(f"; prompt {one['prompt']} parts at token {one['at']}, margin {one['margin']:.1e}"
                    for one in row["divergences"])
    return (f"{row['decoder']:27} {row['dtype']:8} {row['identical']} of {row['prompts']} prompts identical, "
            f"{row['tokens_per_pass']:.2f} tokens per pass{apart}")


def show(measured: dict) -> str:
    """The measurement as a few lines of text."""
    head = f"{measured['model']}, greedy, {measured['new_tokens']} new tokens, against plain decoding of the same dtype"
    return "\n".join([head, *map(line, measured["rows"])])
