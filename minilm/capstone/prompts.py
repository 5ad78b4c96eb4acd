"""What the capstone asks: held-out requests of three kinds, drawn anew for every race and every round."""
import random
import secrets

from minilm.bench import edit_tasks
from minilm.capstone.entry import KINDS
from minilm.tokenizer import Tokenizer
from minilm.training import prompts as prompt_maker
from minilm.training.copying import perfect_copy

OPEN = ("story", "list", "explanation")
MOST_TOKENS = 400


def draw(tokenizer: Tokenizer, rounds: int, seed: int | None = None) -> list[dict[str, list[int]]]:
    """One dict a round: kind -> the prompt's tokens. No prompt comes twice; without a seed nobody can know them."""
    seed = secrets.randbits(62) if seed is None else seed
    chance = random.Random(f"capstone {seed}")
    asked = prompt_maker.held_out(rounds * len(prompt_maker.KINDS), seed)                   # the kinds in turn
    texts = {"open": [p.text for p in asked if p.kind in OPEN], "python": [p.text for p in asked if p.kind == "python"],
             "edit": _edits(4 * rounds, seed, chance)}
    chance.shuffle(texts["open"])
    drawn = []
    for kind in KINDS:
        tokens = tokenizer.chat_batch(texts[kind]) if tokenizer.chat_template else map(tokenizer.encode, texts[kind])
        short = [some for some in tokens if len(some) <= MOST_TOKENS]
        drawn.append(short[:rounds])
    return [dict(zip(KINDS, some, strict=True)) for some in zip(*drawn, strict=True)]


def _edits(count: int, seed: int, chance: random.Random) -> list[str]:
    """Tasks on texts that were never seen in this order: each is put together from two of the bundled ones."""
    texts = [task["answer"] for task in edit_tasks.load() if task["kind"] == "repeat"]
    pairs = [chance.sample(texts, 2) for _ in range(4 * count)]
    return [task.text for task, _ in perfect_copy([("story", f"{a}\n\n{b}") for a, b in pairs], count, seed)]
