"""Exercises of chapter 08: where reserved memory goes."""

from minilm.lab.exercise import Exercise, agree
from minilm.lab.exercises.ch05_shared import Part, plain_int

# --- 08.1 -------------------------------------------------------------------------------------------------------------

ex1 = Exercise(
    "08.1",
    "Where the memory goes",
    answer="account(requests, policy, block_size, most)",
    task="(used, reserved, internal): slots that hold a token, where one will come, where none ever will",
    hints=(
        "For one request, under each policy: how many slots are taken? In how many of them is a token now, and how "
        "many tokens will the request have in the end?",
        "held = prompt + made and end = prompt + output. Of `size` slots, held are used, those from held up to end (or "
        "to size, where that is less) are reserved, the rest is for nobody.",
        "1 << (output - 1).bit_length() is the smallest power of two that is not below output; -(-held // block_size) "
        "rounds up. used += held; reserved += min(size, end) - held; internal += size - min(size, end).",
    ),
)
NAMES_1 = ("used", "reserved", "internal")


def _power(output):
    return 1 << (output - 1).bit_length()


SIZES = {
    "max": lambda prompt, output, made, block, most: most,
    "pow2": lambda prompt, output, made, block, most: min(most, prompt + _power(output)),
    "oracle": lambda prompt, output, made, block, most: prompt + output,
    "paged": lambda prompt, output, made, block, most: -(-(prompt + made) // block) * block,
}


def account(requests, policy, block_size, most):
    """The reference: (int, int, int)"""
    return _account(requests, policy, block_size, most)


def _shares(prompt, output, made, size):
    held, end = prompt + made, min(size, prompt + output)
    return held, end - held, size - end


def _account(requests, policy, block_size, most, *, shares=_shares, **sizes):
    """The answer, but for one thing: a policy's size, or how a request's slots are told apart."""
    size = {**SIZES, **sizes}[policy]
    rows = [shares(*request, size(*request, block_size, most)) for request in requests]
    return tuple(map(sum, zip(*rows, strict=True))) if rows else (0, 0, 0)


def _but(**change):
    return lambda *case: _account(*case, **change)


def _together(requests, policy, block_size, most):
    """The mistake of one last block for all."""
    if policy != "paged":
        return account(requests, policy, block_size, most)
    held, end = (sum(p + x for p, x in pairs) for pairs in ([(p, m) for p, _, m in requests],
                                                            [(p, o) for p, o, _ in requests]))
    size = -(-held // block_size) * block_size
    return held, min(size, end) - held, size - min(size, end)


WRONG_1 = {
    "pow2 rounds the *output* up to a power of two, for the prompt is known; yours rounds prompt and output together":
        _but(pow2=lambda p, o, m, b, most: min(most, _power(p + o))),
    "pow2 reserves the prompt's slots, too": _but(pow2=lambda p, o, m, b, most: min(most, _power(o))),
    "an output that is a power of two needs no larger one": _but(
        pow2=lambda p, o, m, b, most: min(most, p + (1 << o.bit_length()))),
    "pow2 reserves at least the output; your power of two lies below it": _but(
        pow2=lambda p, o, m, b, most: min(most, p + (1 << o.bit_length() - 1))),
    "no policy reserves more than `most`, what the model can hold": _but(
        pow2=lambda p, o, m, b, most: p + _power(o)),
    "pow2 is reserved at the start, for the whole output; yours grows with what is made": _but(
        pow2=lambda p, o, m, b, most: min(most, p + _power(max(m, 1)))),
    "`most` is for prompt and output together": _but(max=lambda p, o, m, b, most: p + most),
    "a last block that is just full needs no other one: round up, not down and one more": _but(
        paged=lambda p, o, m, b, most: ((p + m) // b + 1) * b),
    "the last block is taken as a whole, though it is not full": _but(
        paged=lambda p, o, m, b, most: p + m),
    "paged memory takes blocks for the tokens that are there; yours takes them for those to come, too": _but(
        paged=lambda p, o, m, b, most: -(-(p + o) // b) * b),
    "prompt and output share blocks: round up their sum once": _but(
        paged=lambda p, o, m, b, most: (-(-p // b) - (-m // b)) * b),
    "every request has a last block of its own; yours puts all tokens together": _together,
    "in the last block's room some of the request's tokens will come: reserved, up to its end; internal is what lies "
    "past it": lambda requests, policy, b, most: _account(requests, policy, b, most) if policy != "paged" else _account(
        requests, policy, b, most, shares=lambda p, o, m, size: (p + m, 0, size - p - m)),
    "reserved is for tokens that will come; what lies past the request's end is internal": _but(
        shares=lambda p, o, m, size: (p + m, size - p - m, 0)),
    "internal is what lies past the request's end, prompt and output; yours counts from what is held": _but(
        shares=lambda p, o, m, size: (p + m, min(size, p + o) - p - m, size - p - m)),
    "the prompt's tokens are held, too: used is prompt + made": _but(
        shares=lambda p, o, m, size: (m, *_shares(p, o, m, size)[1:])),
    "used, reserved, internal is the order; yours swaps the last two": _but(
        shares=lambda p, o, m, size: (p + m, size - min(size, p + o), min(size, p + o) - p - m)),
    "blocks may end before the request does: reserved goes up to the end of the slots taken, or internal falls below "
    "0": _but(shares=lambda p, o, m, size: (p + m, o - m, size - p - o)),
    "used is what is there now; tokens still to come are reserved": _but(
        shares=lambda p, o, m, size: (min(size, p + o), *_shares(p, o, m, size)[1:])),
    "count slots, not shares of them": lambda *case: tuple(x / sum(_account(*case)) for x in _account(*case)),
    "the sums are over all requests; yours are the last one's": lambda requests, *rest: _account(requests[-1:], *rest),
    "the sums are over all requests; yours are the first one's": lambda requests, *rest: _account(requests[:1], *rest),
}
LOADS = [
    [(2, 3, 1)], [(2, 3, 2)], [(3, 4, 1)], [(3, 4, 3)], [(4, 3, 3)], [(1, 5, 0)], [(5, 6, 2)], [(9, 9, 4)], [(7, 9, 9)],
    [(10, 6, 5)], [(2, 3, 1), (3, 4, 1)], [(5, 7, 2), (1, 1, 0), (8, 3, 2)], [(6, 12, 11), (3, 17, 4), (9, 1, 1)],
]
CASES_1 = [(load, policy, 4, 40) for load in LOADS for policy in SIZES]
CASES_1 += [([(20, 17, 3)], "pow2", 4, 40), ([(20, 17, 3), (7, 3, 2)], "paged", 16, 40), ([(3, 9, 5)], "paged", 1, 40)]


@ex1.check("used, reserved, internal: each policy", mistake="the slots that a policy takes, less those held, "
           "less those still to come")
def _(answer):
    agree(_Triple(answer), account, CASES_1, wrong=WRONG_1)


@ex1.check("plain ints", mistake="three ints")
def _(answer):
    for policy in SIZES:
        for index, name in enumerate(NAMES_1):
            plain_int(Part(answer, NAMES_1, index)([(5, 6, 2)], policy, 4, 40), name)


class _Triple:
    """The answer, with a plain word if it does not return three things."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, *case):
        Part(self.answer, NAMES_1, 0)(*case)
        return self.answer(*case)

    @property
    def shown(self):
        return self.answer.shown
