"""Exercise 13.3: what an all-reduce costs, and so whether to cut a model or to copy it."""

from minilm.lab.exercise import Exercise, agree

ex3 = Exercise(
    "13.3",
    "Cut or copy",
    answer="best_ranks(gpus, texts, model, machine)",
    task="(ranks that each copy of the model is cut over, seconds of its step) with the shortest step, or None",
    hints=(
        "Try every number of ranks that divides gpus. How many copies are there then, and how many texts has the "
        "fullest of them? What must a GPU hold, and read?",
        "A GPU holds and reads (weights + texts of its copy · text) / ranks, which must not be more than its memory. "
        "On top come two all-reduces a layer, each a latency and 2(n − 1)/n times its bytes over the link; one rank "
        "alone exchanges nothing.",
        "each = ceil(texts / (gpus // n)); size = (weights + each * text) / n; if size <= memory: seconds = size / "
        "read + (2 * layers * (latency + 2 * (n - 1) / n * each * exchange / link) if n > 1 else 0); keep the least, "
        "the fewer ranks if equal.",
    ),
)
NAMES = ("ranks", "seconds")


def best_ranks(gpus, texts, model, machine):
    """The reference: (int, float) or None"""
    return _best(gpus, texts, model, machine)


def _ceil(a, b):
    return -(-a // b)


def _best(gpus, texts, model, machine, *, ways=lambda gpus: [n for n in range(1, gpus + 1) if gpus % n == 0],
          share=_ceil, size=lambda weights, kv, n: (weights + kv) / n, fits=lambda size, whole, memory: size <= memory,
          per_layer=2, latency=lambda n, seconds: seconds, factor=lambda n: 2 * (n - 1) / n, alone=0.0,
          sent=lambda each, texts: each, pick=lambda found, texts, gpus: min(found, key=lambda one: (one[1], one[0])),
          link="link"):
    """The answer, each of its steps open to change."""
    found = []
    for n in ways(gpus):
        each = share(texts, gpus // n)
        held = size(model["weights"], each * model["text"], n)
        if not fits(held, model["weights"] + each * model["text"], machine["memory"]):
            continue
        exchange = latency(n, machine["latency"]) + factor(n) * sent(each, texts) * model["exchange"] / machine[link]
        exchange = exchange if n > 1 else alone * machine["latency"]
        found.append((n, held / machine["read"] + per_layer * model["layers"] * exchange))
    return pick(found, texts, gpus) if found else None


def _but(**change):
    return lambda *given: _best(*given, **change)


def _swapped(*given):
    best = best_ranks(*given)
    return best and best[::-1]


WRONG = {
    "if two are as fast, take the fewer ranks": _but(
        pick=lambda found, texts, gpus: min(found, key=lambda one: (one[1], -one[0]))),
    "a layer has two all-reduces, one after attention and one after the MLP; yours has one": _but(per_layer=1),
    "the latency is missing: an all-reduce takes it however few bytes there are, and at batch 1 it is all that counts":
        _but(latency=lambda n, seconds: 0.0),
    "an all-reduce takes its latency once, however many ranks it has; yours takes it (n − 1) times": _but(
        latency=lambda n, seconds: (n - 1) * seconds),
    "an all-reduce takes its latency once, however many ranks it has; yours takes it twice with two ranks, as if it "
    "waited at every hop or for every rank": _but(latency=lambda n, seconds: 2 * (n - 1) * seconds),
    "one rank has nobody to talk to: no latency": _but(alone=1.0),
    "a rank sends 2(n − 1)/n times the bytes: (n − 1)/n to add up, and as much again to tell the sums; yours goes "
    "one way only": _but(factor=lambda n: (n - 1) / n),
    "a rank sends 2(n − 1)/n times the bytes, not 2(n − 1) times: every rank takes care of an n-th": _but(
        factor=lambda n: 2 * (n - 1)),
    "a rank sends 2(n − 1)/n times the bytes, not the bytes once": _but(factor=lambda n: 1),
    "an all-reduce carries the texts of its own copy, not those of all copies": _but(sent=lambda each, texts: texts),
    "every text of the copy has its numbers in the all-reduce; yours carries one text": _but(
        sent=lambda each, texts: 1),
    "the weights are cut: a rank reads weights / ranks": _but(size=lambda weights, kv, n: weights + kv / n),
    "keys and values are cut with their heads: a rank reads an n-th of them, too": _but(
        size=lambda weights, kv, n: weights / n + kv),
    "keys and values must be held and read, too": _but(size=lambda weights, kv, n: weights / n),
    "your two are the wrong way round: return (ranks, seconds)": _swapped,
    "a text goes to one copy whole, so a copy has no broken number of texts: yours has texts / copies of them; round "
    "up, for the fullest copy sets the pace": _but(share=lambda texts, copies: texts / copies),
    "the fullest copy sets the pace: texts are dealt to copies, rounded up": _but(
        share=lambda texts, copies: texts // copies),
    "the fullest copy sets the pace: rounded up, not to the nearest number of texts": _but(
        share=lambda texts, copies: round(texts / copies)),
    "texts that can be dealt evenly leave no copy one more: round up, do not add 1": _but(
        share=lambda texts, copies: texts // copies + 1),
    "texts are dealt to the copies; yours gives all of them to each": _but(share=lambda texts, copies: texts),
    "what does not fit into a GPU's memory is no choice": _but(fits=lambda size, whole, memory: True),
    "a GPU must hold its share, not the whole model": _but(fits=lambda size, whole, memory: whole <= memory),
    "what just fits, fits": _but(fits=lambda size, whole, memory: size < memory),
    "the number of ranks must divide the GPUs, or some have nothing to do": _but(ways=lambda gpus: range(1, gpus + 1)),
    "that is the largest number of ranks that fits; wanted is the one with the shortest step": _but(
        pick=lambda found, texts, gpus: max(found)),
    "that is the smallest number of ranks that fits; wanted is the one with the shortest step": _but(
        pick=lambda found, texts, gpus: min(found)),
}

SMALL = {"weights": 12.0, "text": 1.0, "exchange": 1.0, "layers": 1}
FAST = {"read": 1.0, "link": 7.0, "latency": 0.5, "memory": 100.0}
ONE = FAST | {"latency": 0.75}                          # not the time of a text: that is another mistake
EIGHT_B = {"weights": 15e9, "text": 268e6, "exchange": 8192.0, "layers": 32}
SEVENTY_B = {"weights": 139e9, "text": 671e6, "exchange": 16_384.0, "layers": 80}
H100 = {"read": 3.0e12, "link": 366e9, "latency": 10e-6, "memory": 80e9}
PCIE = {"read": 3.0e12, "link": 25e9, "latency": 30e-6, "memory": 80e9}


@ex3.check("one GPU, one text", mistake="(weights + all texts · text) / read, and nothing to exchange")
def _(answer):
    agree(answer, best_ranks, [(1, 1, SMALL, ONE), (1, 3, SMALL, ONE)], wrong=WRONG, tol=1e-9)


@ex3.check("two GPUs", mistake="the faster of two: copied, all weights and half of the texts, rounded up, are read; "
           "cut, half of everything, and two all-reduces a layer come on top")
def _(answer):
    agree(answer, best_ranks, [(2, 1, SMALL, FAST), (2, 1, SMALL, FAST | {"latency": 2.25, "link": 1.0}),
                               (2, 4, SMALL, FAST), (2, 3, SMALL, FAST | {"latency": 30.0}),
                               (2, 2, SMALL, FAST | {"link": 0.1})],
          wrong=WRONG, tol=1e-9)


@ex3.check("memory", mistake="only what fits; None if nothing does")
def _(answer):
    agree(answer, best_ranks, [(2, 2, SMALL, FAST | {"latency": 30.0, "memory": 7.0}),
                               (2, 2, SMALL, FAST | {"memory": 6.9}),
                               (4, 1, SMALL, FAST | {"latency": 9.0, "memory": 6.5}),
                               (6, 1, SMALL, FAST | {"memory": 4.0, "link": 0.1})],
          wrong=WRONG, tol=1e-9)


@ex3.check("real sizes", mistake="the shortest step of all that fit")
def _(answer):
    agree(answer, best_ranks, [(8, 1, EIGHT_B, H100), (8, 64, EIGHT_B, PCIE), (8, 300, EIGHT_B, PCIE),
                               (6, 7, EIGHT_B, PCIE), (8, 1024, EIGHT_B, H100), (8, 1, SEVENTY_B, H100),
                               (8, 100, SEVENTY_B, PCIE), (8, 900, SEVENTY_B, H100), (1, 1, SEVENTY_B, H100)],
          wrong=WRONG, tol=1e-9)
