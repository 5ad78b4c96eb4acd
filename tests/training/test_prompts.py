"""The prompts of the corpus: distinct, even, reproducible, grammatical; copy tasks whose answers are right."""
import ast
import random
import re
import time
from collections import Counter

import pytest

from minilm.training import code_edits
from minilm.training.copying import with_errors
from minilm.training.prompts import (
    COPY_KINDS,
    KINDS,
    PERFECT_KINDS,
    article,
    copy_prompts,
    held_out,
    is_held_out,
    perfect_copy,
    prompts,
)

STORY = """Clara found an old map behind the stove. It showed a path through the forest to a small lake. She packed
some bread and a lantern and walked all morning. At noon she met a fox that seemed to know the way. "Follow
me," it said, and Clara did.

The lake was dark and calm. In the middle lay a boat with a silver bell. Clara rang it once, and the whole
forest answered."""
FACTS = """Bees make honey from the nectar of flowers. They carry it home in a small stomach and pass it on to other
bees. Those bees dry the nectar with their wings until it is thick. Then they close the cell with wax. Honey
keeps for years because it holds little water. A strong hive makes about thirty kilograms of honey in a good
summer."""
CODE = '''Here is the function:

```python
def count_above(numbers, limit):
    total = 0
    for number in numbers:
        if number > limit:
            total += 1
    return total


def area(width, height):
    """Area of a rectangle."""
    return width * height
```

It returns how many numbers are above the limit.'''
SOURCES = [("story", STORY), ("explanation", FACTS), ("python", CODE)]


@pytest.fixture(scope="module")
def many():
    started = time.perf_counter()
    made = prompts(50_000)
    assert time.perf_counter() - started < 5
    return made


def test_the_same_seed_gives_the_same_prompts_and_another_seed_others(many):
    assert prompts(600) == prompts(600) == many[:600]
    assert held_out(60) == held_out(60)
    assert len(set(prompts(600, seed=1)) & set(many[:600])) < 30


def test_prompts_are_distinct_even_over_kinds_and_short(many):
    assert len({p.text for p in many}) == 50_000
    counts = Counter(p.kind for p in many)
    assert set(counts) == set(KINDS) and max(counts.values()) - min(counts.values()) <= 1
    assert all(20 <= len(p.text) <= 260 for p in many)


def test_two_hundred_thousand_distinct_prompts_exist():
    assert len({p.text for p in prompts(200_000, seed=5)}) == 200_000


def test_about_a_third_ask_for_short_answers(many):
    short = re.compile(r"sentence\.|sentences\.|brief\.|short|sentences at most|four lines|few words|No explanations"
                       r"|only twice|only the code|just the code|two lines|three lines|three sentences")
    share = sum(bool(short.search(p.text)) for p in many) / len(many)
    assert 0.30 < share < 0.45, share


def test_text_is_clean(many):
    """Guards a slot left open, a wrong article, doubled words or spaces, a small first letter, a lost full stop."""
    for p in many:
        assert not re.search(r"[{}%|]|  |\.\.(?!\.)|\?\.|\s$", p.text), p.text
        assert not re.search(r"\b[Aa] (?!one|uni|use)[aeiou]|\b[Aa]n [^aeiouh]", p.text), p.text
        assert not re.search(r"\b(a|an|the) (a|an|the)\b", p.text), p.text
        assert p.text[0].isupper() and p.text[-1] in ".?`", p.text
        assert not re.search(r"\b([a-z]+) \1\b", p.text), p.text


def test_held_out_prompts_never_occur_among_prompts(many):
    held = held_out(1200, seed=3)
    assert len({p.text for p in held}) == 1200
    assert set(Counter(p.kind for p in held).values()) == {100}
    assert all(is_held_out(p.text) for p in held) and not any(is_held_out(p.text) for p in many)


def test_kinds_can_be_chosen():
    assert [p.kind for p in prompts(4, kinds=("poem", "python"))] == ["poem", "python"] * 2


@pytest.mark.parametrize("call, message", [
    (lambda: prompts(-1), "0 or more"), (lambda: prompts(3, kinds=("novel",)), "different ones of story"),
    (lambda: prompts(3, kinds=()), "different ones"), (lambda: copy_prompts([], 3), "sources is empty"),
    (lambda: prompts(10, kinds="nope"), "nope")])
def test_bad_requests_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    with pytest.raises(TypeError, match="whole number"):
        prompts(2.5)


def test_articles():
    right = ["an owl", "a fox", "an honest king", "an hour", "a unicorn", "a useful box", "an umbrella", "a house"]
    assert [article(words.split(" ", 1)[1]) for words in right] == right


def test_copy_prompts_cover_their_kinds_and_stay_short():
    made = copy_prompts(SOURCES, 200)
    assert made == copy_prompts(SOURCES, 200) and len({p.text for p in made}) == len(made) > 100
    assert {p.kind for p in made} == set(COPY_KINDS)
    for p in made:
        given = p.text.split("\n\n", 1)[1]
        assert len(given.split()) <= 116 and given.count("\n") < 28     # six errors may each write a word twice


def test_copy_prompts_give_what_there_is_when_sources_run_out():
    few = copy_prompts([("python", CODE)], 10_000)
    assert 10 < len(few) < 10_000 and {p.kind for p in few} == {"code_edit"}
    assert copy_prompts([("story", "Too short.")], 5) == []


def test_errors_are_put_into_words_only():
    for seed in range(200):
        wrong = with_errors(FACTS, random.Random(seed))
        assert wrong != FACTS and abs(len(wrong.split()) - len(FACTS.split())) <= 6
        assert re.sub(r"[A-Za-z'\s]", "", wrong) == re.sub(r"[A-Za-z'\s]", "", FACTS)


def test_perfect_answers_are_right():
    made = perfect_copy(SOURCES, 300)
    assert {p.kind for p, _ in made} == set(PERFECT_KINDS)
    for p, answer in made:
        ask, given = p.text.split("\n\n", 1)
        if p.kind == "repeat":
            assert answer == given and answer in STORY + FACTS
        elif p.kind == "correct":
            assert answer != given and answer in STORY + FACTS
        elif p.kind == "replace":
            first, second = re.findall(r'"(\w+)"', ask)
            old, new = (second, first) if "instead of" in ask else (first, second)
            assert old in given and old not in answer and given == answer.replace(new, old)
        elif p.kind == "reorder":
            backwards = "reverse" in ask or "last" in ask
            lines = given.splitlines()
            assert answer.splitlines() == (lines[::-1] if backwards else sorted(lines, key=str.lower))
        elif p.kind == "rename":
            assert _shape(answer) == _shape(given) and answer != given
        else:
            assert answer.removeprefix("```python\n").removesuffix("\n```") in CODE and answer != given
            assert sum(a != b for a, b in zip(answer.splitlines(), given.splitlines(), strict=True)) == 1


def _shape(fenced: str) -> str:
    """A function with its names numbered in order of use: two that differ in names alone look the same."""
    names: dict[str, str] = {}
    tree = ast.parse(fenced.removeprefix("```python\n").removesuffix("\n```"))
    for node in ast.walk(tree):
        for field in ("arg", "id"):
            if isinstance(getattr(node, field, None), str):
                setattr(node, field, names.setdefault(getattr(node, field), f"n{len(names)}"))
    return ast.dump(tree)


def test_a_name_that_also_stands_in_a_string_or_attribute_is_not_renamed():
    code = 'def f(path, data):\n    print("path")\n    return data.data'
    assert code_edits.rename(code, random.Random(0)) is None
