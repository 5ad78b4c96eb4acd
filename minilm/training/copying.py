"""Tasks that copy from a text given in the prompt: what prompt lookup and drafting without a model live on.

A source is a (kind, text) pair, an answer of the teacher; kind "python" gives code tasks, every other kind text tasks.
"""
import random
import re
from collections.abc import Callable, Sequence

from . import code_edits, words
from .request import Prompt, check

MAX_WORDS, MIN_WORDS, MAX_LINES = 110, 20, 25
TRIES = 60                      # sources tried in a row for one prompt before its kind counts as used up
Source = tuple[str, str]
Task = tuple[str, str]          # the prompt's text, the right answer where one is known (else "")

_SENTENCE_END = re.compile(r"[.!?][\"')]?(?=\s|$)|\n(?![a-z])")
_NOUN = re.compile(r"(?<=\ba )[a-z]{4,}|(?<=\b(?:the|his|her|our) )[a-z]{4,}|(?<=[a-z,] )[A-Z][a-z]{2,}")
_WORD = re.compile(r"[A-Za-z]{4,}")
_MISSPELT = {"their": "there", "there": "their", "its": "it's", "then": "than", "than": "then", "your": "you're",
             "because": "becuase", "friend": "freind", "which": "wich", "believe": "beleive", "were": "where",
             "through": "threw", "beautiful": "beatiful", "people": "poeple", "until": "untill", "too": "to",
             "important": "importent", "different": "diffrent", "really": "realy", "together": "togather"}
_PLAIN = set("""that this with from have they them their there were been when what which will would could should
    about into your more some than then just like only also each very much many most such even over after before
    because while where these those being other make made does them here well""".split())
_PUT_IN = ("garden", "castle", "window", "river", "teacher", "market", "lantern", "mountain", "letter", "kitchen",
           "music", "desert", "motor", "winter", "blanket", "bridge", "basket", "pepper", "pocket", "harbour")


def passage(text: str, rng: random.Random, most: int = MAX_WORDS) -> str | None:
    """Whole sentences or lines from a random start: MIN_WORDS to `most` words, at most MAX_LINES lines; or None."""
    text = text.strip()
    ends = [0] + [m.end() for m in _SENTENCE_END.finditer(text)]
    starts = ends[:-1]
    found = ""
    for start in [rng.choice(starts), rng.choice(starts), 0] if starts else []:
        best = ""
        for end in ends:
            piece = text[start:end].strip()
            if len(piece.split()) > most or piece.count("\n") >= MAX_LINES:
                break
            best = piece if len(piece.split()) >= MIN_WORDS else best
        if "```" not in best and '"""' not in best and len(best) < 12 * most:
            found = max(found, best, key=len)
        if len(found.split()) > most // 2:
            break                           # long enough; else another start may leave more
    return found or None


def _misspell(word: str, rng: random.Random) -> str:
    """A word with one error of spelling: a known confusion, or a letter swapped, lost or doubled."""
    if word in _MISSPELT:
        return _MISSPELT[word]
    i = rng.randrange(1, len(word) - 2)
    swapped = word[:i] + word[i + 1] + word[i] + word[i + 2:]
    return rng.choice([swapped, word[:i] + word[i + 1:], word[:i] + word[i] + word[i:]])


def with_errors(text: str, rng: random.Random) -> str | None:
    """The text with two to six errors in its words, or None where it has too few words."""
    spots = list(_WORD.finditer(text))
    if len(spots) < 8:
        return None
    for spot in sorted(rng.sample(spots, rng.randint(2, 6)), key=lambda m: -m.start()):     # from the end: offsets stay
        wrong = spot[0] if rng.random() < 0.15 else _misspell(spot[0], rng)
        if wrong == spot[0]:
            wrong = f"{wrong} {wrong}"                  # a word written twice; so is one that a swap left unchanged
        text = text[: spot.start()] + wrong + text[spot.end():]
    return text


def _swap(text: str, rng: random.Random) -> tuple[str, str, str] | None:
    """(a word of the text, a word to put in its place, the changed text), where no other form of it is there."""
    found = [w for w in sorted(set(_NOUN.findall(text))) if w.lower() not in _PLAIN
             and len(re.findall(w, text, re.IGNORECASE)) == len(re.findall(rf"\b{w}\b", text))]
    if not found:
        return None
    old = rng.choice(found)
    put_in = words.NAMES if old[0].isupper() else _PUT_IN
    new = rng.choice([word for word in put_in if word.lower() not in text.lower()] or [""])
    return (old, new, re.sub(rf"\b{old}\b", new, text)) if new else None


def _ask(rng: random.Random, asks: Sequence[str], text: str) -> str:
    return f"{rng.choice(asks)}\n\n{text}"


def _correct(text: str, rng: random.Random) -> Task | None:
    wrong = with_errors(text, rng)
    return wrong and (_ask(rng, (
        "Correct the spelling mistakes in this text.", "Fix the errors in the following text and change nothing else.",
        "Correct this text. Answer with the corrected text only.",
        "Please proofread this passage and write it without errors.",
        "This text has a few mistakes. Write it correctly."), wrong), text)


def _extend(text: str, rng: random.Random) -> Task | None:
    half = passage(text, rng, most=max(MIN_WORDS + 5, len(text.split()) // 2))
    return half and (_ask(rng, (
        "Repeat this text and then continue it with a few more sentences.", "Copy the text below, then go on with it.",
        "Here is the beginning of a text. Repeat it and write what comes next.",
        "Write this text again and add a good ending."), half), "")


def _summarise(text: str, rng: random.Random) -> Task:
    return _ask(rng, (
        "Summarise this text in one sentence.", "Summarise the following text in two sentences.",
        "What are the main points of this text?", "Give this text a title and a summary of one sentence.",
        "Pick the most important sentence of this text and repeat it."), text), ""


def _rewrite(text: str, rng: random.Random) -> Task | None:
    swap = _swap(text, rng)
    how = rng.choice(("Rewrite this text in simpler words", "Rewrite this text so that it sounds friendlier",
                      "Rewrite this text a little shorter", "Rewrite this text and improve its style"))
    return swap and (f'{how}, and use "{swap[1]}" in place of "{swap[0]}".\n\n{text}', "")


def _repeat(text: str, rng: random.Random) -> Task:
    return _ask(rng, ("Repeat this text word for word.", "Copy the following text exactly.",
                      "Write this text again without any change.", "Say exactly this:"), text), text


def _replace(text: str, rng: random.Random) -> Task | None:
    swap = _swap(text, rng)
    if not swap:
        return None
    old, new, changed = swap
    return _ask(rng, (f'Replace "{old}" with "{new}" in this text.',
                      f'Write this text with "{new}" instead of "{old}".',
                      f'Copy this text, but change every "{old}" to "{new}".'), text), changed


def _reorder(text: str, rng: random.Random) -> Task:
    """A list of the source's words or of plain things, to be reversed or sorted."""
    pool = sorted(set(w.lower() for w in _WORD.findall(text)) - _PLAIN)
    pool = pool if len(pool) >= 12 and rng.random() < 0.5 else rng.choice(
        (words.ANIMALS, words.OBJECTS, words.FOODS, words.NAMES, words.THINGS))
    items = rng.sample(pool, rng.randint(4, 10))
    ask, ordered = rng.choice((("Put this list in reverse order.", items[::-1]),
                               ("Write this list from the last item to the first.", items[::-1]),
                               ("Sort this list from A to Z.", sorted(items, key=str.lower)),
                               ("Put this list in alphabetical order.", sorted(items, key=str.lower))))
    return f"{ask}\n\n" + "\n".join(f"- {item}" for item in items), "\n".join(f"- {item}" for item in ordered)


_TEXT = {"correct": _correct, "extend": _extend, "summarise": _summarise, "rewrite": _rewrite}
_PERFECT_TEXT = {"correct": _correct, "repeat": _repeat, "replace": _replace, "reorder": _reorder}
_CODE = {"code_edit": code_edits.edit}
_PERFECT_CODE = {"rename": code_edits.rename, "fix": code_edits.fix}
COPY_KINDS = (*_TEXT, *_CODE)
PERFECT_KINDS = (*_PERFECT_TEXT, *_PERFECT_CODE)


def _tasks(sources: Sequence[Source], n: int, seed: int, of_text: dict[str, Callable], of_code: dict[str, Callable]
           ) -> list[tuple[Prompt, str]]:
    """Up to n distinct tasks, the kinds in turn; a kind that finds nothing new in TRIES sources drops out."""
    check(n, tuple(of_text), tuple(of_text))
    if n and not sources:
        raise ValueError("sources is empty: give (kind, text) pairs, such as the teacher's answers to prompts()")
    texts = [text for kind, text in sources if kind != "python"]
    codes = [code for kind, text in sources if kind == "python" for code in code_edits.functions(text, MAX_LINES)]
    makers = [(kind, make, pool) for table, pool in ((of_text, texts), (of_code, codes))
              for kind, make in table.items() if pool]
    rng, seen, out, turn = random.Random(f"copy {seed}"), set(), [], 0
    while len(out) < n and makers:
        kind, make, pool = makers[turn % len(makers)]
        for _ in range(TRIES):
            given = rng.choice(pool)
            given = given if pool is codes or kind == "extend" else passage(given, rng)
            task = given and make(given, rng)
            if task and task[0] not in seen:
                seen.add(task[0])
                out.append((Prompt(kind, task[0]), task[1]))
                turn += 1
                break
        else:
            makers.pop(turn % len(makers))
    return out


def copy_prompts(sources: Sequence[Source], n: int, seed: int = 0) -> list[Prompt]:
    """n distinct prompts over COPY_KINDS for a teacher to answer; fewer where the sources hold no more.

    Passages are at most 110 words and 25 lines, cut at ends of sentences or lines. "code_edit" needs python sources
    with a whole top-level function. Raises ValueError for a negative n or no sources.
    """
    return [prompt for prompt, _ in _tasks(sources, n, seed, _TEXT, _CODE)]


def perfect_copy(sources: Sequence[Source], n: int, seed: int = 0) -> list[tuple[Prompt, str]]:
    """n distinct (prompt, right answer) over PERFECT_KINDS, known without a teacher; fewer where sources run out.

    "Right" means: as the source had it. The source itself may hold mistakes of its own.
    """
    return _tasks(sources, n, seed, _PERFECT_TEXT, _PERFECT_CODE)
