"""Exercise 12.3: early exit in a batch, where each row leaves on its own and the others go on closer together."""

import torch

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import Part
from minilm.lab.exercises.ch12_shared import shown_as
from minilm.lab.expect import Failed
from minilm.lab.values import difference, show

ex3 = Exercise(
    "12.3",
    "Rows that leave the batch",
    answer="descend(x, layers, leaves)",
    task="(states[B, d] with which each row left, depth[B], the layers that each ran); a layer is given only the "
         "rows still there",
    hints=(
        "Keep two things side by side: the states of those who are still there, and which rows of the batch they are. "
        "When some leave, where do their states go, and what becomes of the two?",
        "rows = torch.arange(B). After each layer but the last, going = leaves(layer, x, rows): states[rows[going]] = "
        "x[going], depth[rows[going]] = layer, and the others stay: x, rows = x[~going], rows[~going]. Stop when "
        "nobody is left; whoever comes through the last layer leaves there.",
        "for number, layer in enumerate(layers, 1): x = layer(x, rows); going = leaves(number, x, rows) if number < "
        "len(layers) else torch.ones(len(rows), dtype=torch.bool); write states and depth at rows[going]; x, rows = "
        "x[~going], rows[~going]; if len(rows) == 0: break",
    ),
    points=2,
)
NAMES = ("states", "depth")


def descend(x, layers, leaves):
    """The reference: (tensor[B, d], int64 tensor[B])"""
    return _descend(x, layers, leaves)


def _descend(x, layers, leaves, *, place=lambda rows, going: rows[going], keep=lambda x, going: x[~going],
             stay=lambda rows, going: rows[~going], asked=lambda n, L: n < L, depth=lambda n: n, begin=None, log=None,
             state=lambda x, before: x, together=None, turn=lambda going: going):
    """The answer, each of its steps open to change."""
    B, rows = len(x), torch.arange(len(x))
    states, depths = torch.zeros_like(x) if begin is None else begin(x), torch.zeros(B, dtype=torch.long)
    for number, layer in enumerate(layers, 1):
        before, x = x, layer(x, rows)
        if log is not None:
            log.append(rows.tolist())
        going = turn(leaves(number, x, rows)) if asked(number, len(layers)) else torch.ones(len(rows), dtype=torch.bool)
        if together:
            going = together(going).expand(len(rows))
        if number == len(layers):
            going = torch.ones(len(rows), dtype=torch.bool)
        spots = place(rows, going)
        states[spots], depths[spots] = state(x, before)[going], depth(number)
        x, rows = keep(x, going), stay(rows, going)
        if not len(rows):
            break
    return states, depths


def _but(**change):
    def wrong(*case):
        try:
            return _descend(*case, **change)
        except (IndexError, RuntimeError):
            return None                                 # this mistake does not get through this case
    return wrong


def _going(rows, going):
    return going.nonzero()[:, 0]


WRONG = {
    "those who stay keep their numbers in the batch: rows = rows[~going], beside x = x[~going]": _but(
        stay=lambda rows, going: rows[: int((~going).sum())]),
    "nobody leaves in your loop before the last layer: ask leaves after each of the others, and those whom it names "
    "leave at once": lambda x, layers, leaves: descend(
        x, layers, lambda number, some, rows: torch.zeros(len(rows), dtype=torch.bool)),
    "a row's number stays its own: after some have left, going counts within those who are there; write at rows[going]":
        _but(place=_going),
    "the states of those who stay go on: x = x[~going]; yours keeps the first ones": _but(
        keep=lambda x, going: x[: int((~going).sum())]),
    "a row leaves with its state after this layer; yours is the one from before it": _but(
        state=lambda x, before: before),
    "depths count layers run, from 1": _but(depth=lambda n: n - 1),
    "the number of a layer is counted from 1: leaves(1, ...) after the first": lambda x, layers, leaves: descend(
        x, layers, lambda number, some, rows: leaves(number - 1, some, rows)),
    "each row leaves on its own; yours sends all away as soon as one leaves": _but(together=torch.any),
    "each row leaves on its own; yours waits until all who are there want to leave at once": _but(together=torch.all),
    "`rows` given to a layer are numbers of the batch, which say whose keys and values to use: give it your rows, not "
    "0, 1, 2, ... of those who are still there": lambda x, layers, leaves: descend(
        x, [_renumbered(layer) for layer in layers], leaves),
    "`rows` given to leaves are numbers of the batch, as a layer's are: give it your rows, not 0, 1, 2, ... of those "
    "who are still there": lambda x, layers, leaves: descend(x, layers, lambda number, some, rows: leaves(
        number, some, torch.arange(len(rows)))),
    "`rows` given to layers and to leaves are numbers of the batch: give them your rows, not 0, 1, 2, ... of those who "
    "are still there": lambda x, layers, leaves: descend(
        x, [_renumbered(layer) for layer in layers], lambda number, some, rows: leaves(
            number, some, torch.arange(len(rows)))),
    "leaves says who *leaves*; yours keeps those": _but(turn=lambda going: ~going),
    "whoever comes through the last layer leaves there, with its state": _but(
        begin=lambda x: x.clone(), place=lambda rows, going: rows[going][:0] if bool(going.all()) else rows[going]),
    "a row that left keeps the state with which it left: nothing may run over it": lambda x, layers, leaves: (
        _whole(x, layers), descend(x, layers, leaves)[1]),
}


def _renumbered(layer):
    return lambda x, rows: layer(x, torch.arange(len(x)))


def _whole(x, layers):
    for layer in layers:
        x = layer(x, torch.arange(len(x)))
    return x


def layers_of(count, log=None):
    """Layers that depend on the row: a row's own number, as its keys and values would be."""
    def layer(number):
        def run(x, rows):
            if log is not None:
                log.append((len(x), rows.tolist() if isinstance(rows, torch.Tensor) else list(rows)))
            return x * 2 + number + 10 * rows[:, None]
        return shown_as(f"2*x + {number} + 10*rows[:, None]", run)
    return [layer(number) for number in range(1, count + 1)]


def leaving(depths):
    """Row i leaves after depths[i] layers."""
    at = torch.tensor(depths)
    return shown_as(f"lambda number, x, rows: torch.tensor({depths})[rows] == number",
                    lambda number, x, rows: at[rows] == number)


def case(depths, count):
    """A batch whose rows leave after these many layers of `count`; those with `count` or more never ask to."""
    chance = torch.Generator().manual_seed(len(depths) + count)
    return (torch.randint(-4, 5, (len(depths), 2), generator=chance).double(), layers_of(count), leaving(depths))


@ex3.check("one row", mistake="it runs its layers and leaves with the state after the last of them")
def _(answer):
    agree(_tuple(answer), descend, [case([1], 3), case([2], 3), case([9], 3)], wrong=WRONG)


@ex3.check("rows leave at different layers", mistake="states and depths go to the rows' own places in the batch")
def _(answer):
    agree(_tuple(answer), descend, [case([1, 2], 2), case([2, 1], 2), case([2, 2], 3), case([3, 1, 2], 3),
                                    case([2, 1, 9, 1], 4), case([9, 2, 3, 1, 3, 9, 2], 5)], wrong=WRONG)


@ex3.check("by the state, not by a plan", mistake="leaves is asked about those who are still there, with their states")
def _(answer):
    sure = shown_as("lambda number, x, rows: x[:, 0] % 3 == number % 3",
                    lambda number, x, rows: x[:, 0] % 3 == number % 3)
    agree(_tuple(answer), descend, [(case([1] * rows, 4)[0], layers_of(4), sure) for rows in (2, 5, 9)], wrong=WRONG)


@ex3.check("a layer gets only those who are still there", mistake="leave out the rows that have left: that is the gain")
def _(answer):
    for depths, count in (([2, 1], 2), ([3, 1, 2, 3], 3), ([1, 4, 2, 4, 1], 4)):
        log, wanted = [], []
        x, layers, leaves = case(depths, count)
        _descend(x, layers, leaves, log=wanted)
        Part(answer, NAMES, 0)(x, layers_of(count, log), leaves)
        sizes = [size for size, _ in log]
        if sizes == [len(depths)] * len(sizes) and len(sizes) == count and max(depths) > min(depths):
            raise Failed("all rows run through every layer: right, and no faster; give a layer only those still there",
                         [("rows in each layer", f"{sizes}; it should be {[len(rows) for rows in wanted]}")])
        if [rows for _, rows in log] != wanted:
            raise Failed("a layer should be given the rows that are still there, in order, with their own numbers",
                         [("rows in each layer", show([rows for _, rows in log])), ("expected", show(wanted))])


@ex3.check("nobody left", mistake="stop as soon as the last row has left: a layer may not be run for nobody")
def _(answer):
    for depths, count in (([1], 3), ([1, 1], 2), ([2, 1, 2], 4)):
        log, asked = [], []
        x, layers, leaves = case(depths, count)

        def noted(number, some, rows, asked=asked, leaves=leaves):
            asked.append(number)
            return leaves(number, some, rows)
        Part(answer, NAMES, 0)(x, layers_of(count, log), shown_as(leaves.__name__, noted))
        if len(log) > max(depths):
            raise Failed(f"all rows have left after layer {max(depths)}, but your loop goes on to layer {len(log)}")
        if len(asked) > max(depths):
            raise Failed("leaves is asked again when nobody is there")


@ex3.check("the last layer asks nobody", mistake="after the last layer everybody leaves: leaves need not be asked, and "
           "may say no")
def _(answer):
    asked = []
    x, layers, _ = case([9, 9], 3)

    def never(number, some, rows):
        asked.append(number)
        return torch.zeros(len(rows), dtype=torch.bool)
    shown_as("lambda number, x, rows: torch.zeros(len(rows), dtype=torch.bool)", never)
    agree(_tuple(answer), descend, [(x, layers, never)], wrong=WRONG)
    if 3 in asked:
        raise Failed("leaves is asked after the last layer, too: a vocabulary product for nothing")


def _tuple(answer):
    """The answer, with a plain word where it does not return two things, or something of another kind as one."""
    def both(x, layers, leaves):
        once = answer(x, layers, leaves)
        pair = tuple(Part(lambda: once, NAMES, index)() for index in (0, 1))
        kinds = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.long)
        for name, got, like in zip(NAMES, pair, kinds, strict=True):
            if reason := difference(got, like):
                raise Failed(f"{name}: {reason}", [("got", show(got))])
        return pair
    return _Shown(answer, both)


class _Shown:
    def __init__(self, answer, call):
        self.answer, self.call = answer, call

    def __call__(self, *given):
        return self.call(*given)

    @property
    def shown(self):
        return self.answer.shown
