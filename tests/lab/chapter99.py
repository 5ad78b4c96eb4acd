"""A chapter 99 of small exercises, so that the workshop's tests don't depend on the course's own."""

import torch

from minilm.lab.exercise import Exercise, agree, expect

HINTS = ("look", "think", "write x * 2")


class Script:
    """A model that says what it is told; it lives with the grader."""

    __module__ = "minilm.lab.exercises.ch99"

    def __init__(self, tokens):
        self.tokens, self.calls = tokens, 0

    def next(self, ids):
        self.calls += 1
        return self.tokens[len(ids)]


def define():
    """Make exercises 99.1 to 99.4."""
    double = Exercise("99.1", "Double", answer="double(x)", task="return x[n] times two", hints=HINTS)

    @double.check("doubles small rows", mistake="multiply by two", seconds=3)
    def _(answer):
        cases = [(torch.tensor([1.0, 2.0]),), (torch.tensor([2.0]),), (torch.tensor([[3.0, 5.0]]),)]
        agree(answer, lambda x: 2 * x, cases, wrong={
            "you are probably squaring": lambda x: x * x,
            "you are probably adding two": lambda x: x + 2,
        })

    @double.check("keeps the shape")
    def _(answer):
        assert answer(torch.ones(3, 4)).shape == (3, 4), "the shape should stay"

    counter = Exercise("99.2", "Counter", answer="Counter", task="a class with add(n) and value", hints=HINTS, points=2)

    @counter.check("adds up", mistake="each object keeps its own sum")
    def _(answer):
        one, two = answer(), answer()
        one.add(3)
        two.add(4)
        expect([one.value, two.value], [3, 4], wrong={"the sum is shared by all objects": [7, 7]})

    follow = Exercise("99.3", "Follow", answer="follow(script, limit, count)", task="ask the script", hints=HINTS)

    @follow.check("asks the script once a token", mistake="ask the script")
    def _(answer):
        script, asked = Script([5, 6, 7]), []
        expect(answer(script, lambda n: asked.append(n) or n < 3, 3), [5, 6, 7])
        assert script.calls == 3, f"the script was asked {script.calls} times"
        assert asked == [0, 1, 2], "ask limit before each token"

    extend = Exercise("99.4", "Extend", answer="extend(items, item)", task="append in place", hints=HINTS)

    @extend.check("changes the list it is given", mistake="append to items itself", mutates=True)
    def _(answer):
        items = [1]
        answer(items, 2)
        expect(items, [1, 2])

    @extend.check("says no to None", mistake="raise ValueError for None", mutates=True)
    def _(answer):
        try:
            answer([1], None)
        except ValueError:
            return
        raise AssertionError("None should raise ValueError")


SOLUTIONS = {
    "ex_99_1": "def double(x):\n    return 2 * x",
    "ex_99_2": "class Counter:\n    def __init__(self):\n        self.value = 0\n    def add(self, n):\n"
               "        self.value += n",
    "ex_99_3": "def follow(script, limit, count):\n    ids = []\n    while len(ids) < count and limit(len(ids)):\n"
               "        ids.append(script.next(ids))\n    return ids",
    "ex_99_4": "def extend(items, item):\n    if item is None:\n        raise ValueError('no item')\n"
               "    items.append(item)\n    return items",
}
