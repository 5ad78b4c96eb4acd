"""Exercises of chapter 03: the loop that asks a policy, and what a token then costs."""

from minilm.lab.exercise import Exercise, agree, expect
from minilm.lab.expect import Failed
from minilm.lab.values import kind

# --- 03.3 -------------------------------------------------------------------------------------------------------------

ex3 = Exercise(
    "03.3",
    "The exit loop",
    answer="run_layers(x, layers, exits, leaves)",
    task="run x through the layers until leaves(layers run, x) is true at one of the exits; return (x, layers run)",
    hints=(
        "When has the policy something to look at: before a layer or after it? And when is nothing left to skip?",
        "After each layer: if the number of layers run so far is one of the exits, and not all of them, ask.",
        "for n, layer in enumerate(layers, start=1): first x = layer(x); then, if n is an exit, is not the last layer "
        "and leaves(n, x) says so, return. What is returned when the loop ends?",
    ),
)


def run_layers(x, layers, exits, leaves):
    """The reference: (x, layers run)"""
    for n, layer in enumerate(layers, start=1):
        x = layer(x)
        if n in exits and n < len(layers) and leaves(n, x):
            return x, n
    return x, len(layers)


def _scene(num_layers, says=()):
    """Layers that write their number behind x as a digit, a policy that leaves at `says`, and what they were asked."""
    ran, asked = [], []

    def make(n):
        def layer(x):
            if isinstance(x, bool) or not isinstance(x, int):
                raise Failed(f"layer {n} is fed {x!r}; feed it the state that the layer before returned")
            ran.append(n)
            return 10 * x + n
        return layer

    def leaves(n, x):
        asked.append((n, x))
        return n in says

    return [make(n) for n in range(1, num_layers + 1)], leaves, ran, asked


ZERO_BASED = "return how many layers ran, counted from 1: layers[0] is layer 1"


@ex3.check("without a leave, every layer runs", mistake="each state goes into the next layer; return state and number")
def _(answer):
    layers, leaves, _, _ = _scene(4)
    expect(answer(0, layers, (2, 3), leaves), (1234, 4), wrong={
        ZERO_BASED: (1234, 3), "the last layer is missing: a token that never leaves runs them all": (123, 3),
        "the number comes second: return x, layers run": (4, 1234),
        "you return the state before the last layer": (123, 4),
        "you feed every layer the first x; feed it what the layer before returned": (4, 4),
        "you leave where the policy says stay; true means leave": (12, 2)})


@ex3.check("asks after a layer, at the exits only", mistake="ask leaves(number of layers run, state after them)")
def _(answer):
    layers, leaves, _, asked = _scene(5)
    answer(0, layers, (2, 3), leaves)
    expect(asked, [(2, 12), (3, 123)], wrong={
        "you ask after every layer; each question has its price: ask at the exits only":
            [(1, 1), (2, 12), (3, 123), (4, 1234)],
        "you ask after every layer, whatever `exits` says": [(1, 1), (2, 12), (3, 123), (4, 1234), (5, 12345)],
        "you ask before the layer runs; let it run, then ask about its state": [(2, 1), (3, 12)],
        "tell the policy how many layers ran, counted from 1; yours is one too small": [(1, 12), (2, 123)],
        "exit 2 is after two layers, layers[0] and layers[1]; yours comes one layer later": [(2, 123), (3, 1234)],
        "exit 2 is after two layers; you ask at the index 2, when three have run": [(3, 123), (4, 1234)],
        "you never ask the policy": []})


@ex3.check("leaves at once when the policy says so", mistake="leaving means: run no further layer, return now")
def _(answer):
    layers, leaves, ran, asked = _scene(5, says=(2, 3))
    expect(answer(0, layers, (1, 2, 3), leaves), (12, 2), wrong={
        ZERO_BASED: (12, 1), "you run one more layer after the policy said leave": (123, 3),
        "you go on after the first leave, to a later one": (123, 2),
        "you run all layers although the policy said leave": (12345, 5),
        "you run on after the policy said leave: return there and then": (12345, 3),
        "you return the state before the layer; the policy liked the one after it": (1, 2),
        "you leave where the policy says stay; true means leave": (1, 1)})
    assert ran == [1, 2], f"after leaving no layer may run; yours ran {ran} where [1, 2] is enough"
    assert asked == [(1, 1), (2, 12)], f"ask once at each exit, and not after leaving; you asked {asked}"


@ex3.check("the last layer is no exit", mistake="after the last layer nothing is left to skip: don't pay for a look")
def _(answer):
    layers, leaves, _, asked = _scene(3)
    expect(answer(0, layers, (1, 3), leaves), (123, 3), wrong={ZERO_BASED: (123, 2)})
    expect(asked, [(1, 1)], wrong={
        "you ask after the last layer, where nothing is left to skip: that look is paid for nothing":
            [(1, 1), (3, 123)]})


@ex3.check("no exits: never asked", mistake="with no exit allowed the policy has no say")
def _(answer):
    layers, leaves, _, asked = _scene(2, says=(1, 2))
    expect(answer(0, layers, (), leaves), (12, 2))
    assert not asked, f"there is no exit, and yet you ask the policy: {asked}"


# --- 03.5 -------------------------------------------------------------------------------------------------------------

ex5 = Exercise(
    "03.5",
    "The whole cost",
    answer="mean_cost(depths, exits, num_layers, product)",
    task="mean cost of a token, in layers: layers it ran + `product` for each time its state met the vocabulary matrix",
    hints=(
        "Follow one token up. Where does its state meet the vocabulary matrix, and which of these gives its name?",
        "A token that leaves has looked at every exit up to its own, and the last look names it. One that runs all "
        "layers has looked at every exit, and needs one product more.",
        "products of a token of depth d: the number of exits below d, and one more, the one that names it.",
    ),
)


def mean_cost(depths, exits, num_layers, product):
    """The reference, in layers."""
    return sum(d + product * (sum(e < d for e in exits) + 1) for d in depths) / len(depths)


def _cost(products, total=False):
    """The mistake of counting products(d, exits, L) for a token of depth d."""
    def wrong(depths, exits, num_layers, product):
        cost = sum(d + product * products(d, exits, num_layers) for d in depths)
        return cost if total else cost / len(depths)
    return wrong


def _right(d, exits, num_layers):
    return sum(e < d for e in exits) + 1


WRONG_5 = {
    "that is layers alone; the looks cost, too: a product for each": _cost(lambda d, e, L: 0),
    "you count one product a token; every look on the way up costs one": _cost(lambda d, e, L: 1),
    "a token that runs all layers needs one product more, after the last": _cost(
        lambda d, e, L: sum(x <= d for x in e)),
    "a token that leaves is named by its last look; it needs no product more": _cost(
        lambda d, e, L: sum(x <= d for x in e) + 1),
    "you charge every token for every exit; one that has left does not look again": _cost(lambda d, e, L: len(e) + 1),
    "you charge exits never reached: a token that has left does not look again":
        _cost(lambda d, e, L: len(e) + (d == L)),
    "you charge every token for every exit, and none for the last layer's product": _cost(lambda d, e, L: len(e)),
    "the leaving exit's own look is missing: the look at the exit where a token leaves counts, too":
        _cost(lambda d, e, L: sum(x < d for x in e) + (d == L)),
    "you charge a look after every layer; only the exits look": _cost(lambda d, e, L: d),
    "that is the sum; divide by the number of tokens": _cost(_right, total=True),
    "the answer is in layers; don't divide by their number": lambda d, e, L, p: mean_cost(d, e, L, p) / L,
}


@ex5.check("counts layers and products", mistake="follow one token: its layers, its looks, the product that names it")
def _(answer):
    cases = [([4], (4, 8), 16, 3.0), ([16], (4, 8), 16, 3.0), ([8], (4, 8), 16, 3.0), ([4, 8, 16], (4, 8), 16, 2.5),
             ([6, 4, 16, 10, 4, 8], (4, 6, 8, 10), 16, 2.8)]
    agree(answer, mean_cost, cases, wrong=WRONG_5)


@ex5.check("any number of layers", mistake="the full depth is `num_layers`")
def _(answer):
    for depths, exits, L, product in [([12, 4], (4, 8), 12, 2.0), ([16, 8], (8, 16), 24, 2.0)]:
        hard = sum(d + product * (sum(e <= d for e in exits) + (d == 16)) for d in depths) / len(depths)
        expect(answer(list(depths), exits, L, product), mean_cost(depths, exits, L, product), wrong={
            "a 16 is probably hard-coded; the full depth is `num_layers`": hard})


@ex5.check("returns a plain number", mistake="the mean cost is a float")
def _(answer):
    got = answer([4, 16], (4, 8), 16, 2.5)
    if not isinstance(got, (int, float)):
        raise Failed(f"the mean cost is a float; yours is {kind(got)}: .item() takes the number out")


@ex5.check("looks can cost more than they save", mistake="15 exits are up to 15 products for one token")
def _(answer):
    every = tuple(range(1, 16))
    few, many = answer([8, 8, 16, 8], (8,), 16, 2.8), answer([6, 6, 16, 7], every, 16, 2.8)
    assert few < 16 + 2.8 < many, (
        f"one exit should cost less than the full model's 18.8 layers, 15 more; you say {few:.1f} and {many:.1f}")
