"""Wrong answers to 08.1: where reserved memory goes."""

import math

from mutants import Mutant


def counted(size, parts=None):
    """An answer from a function (policy, prompt, output, made, block_size, most) -> slots taken."""
    def account(requests, policy, block_size, most):
        used = reserved = internal = 0
        for prompt, output, made in requests:
            taken = size(policy, prompt, output, made, block_size, most)
            if parts:
                a, b, c = parts(prompt, output, made, taken)
            else:
                a, end = prompt + made, min(taken, prompt + output)
                b, c = end - a, taken - end
            used, reserved, internal = used + a, reserved + b, internal + c
        return used, reserved, internal
    return account


def right(policy, prompt, output, made, block_size, most):
    if policy == "max":
        return most
    if policy == "pow2":
        return min(most, prompt + 2 ** math.ceil(math.log2(output)))
    if policy == "oracle":
        return prompt + output
    return math.ceil((prompt + made) / block_size) * block_size


def but(name, function):
    return counted(lambda policy, *rest: function(*rest) if policy == name else right(policy, *rest))


def one_last_block(requests, policy, block_size, most):
    if policy != "paged":
        return counted(right)(requests, policy, block_size, most)
    used, reserved, _ = counted(right)(requests, "oracle", block_size, most)
    taken = math.ceil(used / block_size) * block_size
    end = min(taken, used + reserved)
    return used, end - used, taken - end


def shares(requests, policy, block_size, most):
    parts = counted(right)(requests, policy, block_size, most)
    return tuple(part / sum(parts) for part in parts)


def last_alone(requests, policy, block_size, most):
    for request in requests:
        held, end = request[0] + request[2], request[0] + request[1]
        size = right(policy, *request, block_size, most)
    return held, min(size, end) - held, size - min(size, end)


def waste_alone(requests, policy, block_size, most):
    return 1 - counted(right)(requests, policy, block_size, most)[0] / most


def paged_internal(prompt, output, made, size):
    return prompt + made, 0, size - prompt - made


def paged_all_internal(requests, policy, block_size, most):
    return counted(right, paged_internal if policy == "paged" else None)(requests, policy, block_size, most)


MUTANTS = {
    "08.1": [
        Mutant("power of the whole", but("pow2", lambda p, o, m, b, most: min(most, 1 << (p + o - 1).bit_length())),
               "yours rounds prompt and output together"),
        Mutant("without the prompt", but("pow2", lambda p, o, m, b, most: min(most, 1 << (o - 1).bit_length())),
               "pow2 reserves the prompt's slots"),
        Mutant("a larger power", but("pow2", lambda p, o, m, b, most: min(most, p + 2 ** (int(math.log2(o)) + 1))),
               "needs no larger one"),
        Mutant("the power below", but("pow2", lambda p, o, m, b, most: min(most, p + 2 ** int(math.log2(o)))),
               "your power of two lies below it"),
        Mutant("past the model's limit", but("pow2", lambda p, o, m, b, most: p + 2 ** math.ceil(math.log2(o))),
               "no policy reserves more than `most`"),
        Mutant("grows by powers", but("pow2", lambda p, o, m, b, most: min(most, p + 2 ** math.ceil(math.log2(max(m, 1)
                                                                                                     )))),
               "yours grows with what is made"),
        Mutant("most beside the prompt", but("max", lambda p, o, m, b, most: p + most), "prompt and output together"),
        Mutant("a block too many", but("paged", lambda p, o, m, b, most: ((p + m) // b + 1) * b),
               "needs no other one"),
        Mutant("partial blocks", but("paged", lambda p, o, m, b, most: p + m), "the last block is taken as a whole"),
        Mutant("blocks for all to come", but("paged", lambda p, o, m, b, most: -(-(p + o) // b) * b),
               "yours takes them for those to come"),
        Mutant("prompt and output apart", but("paged", lambda p, o, m, b, most: (math.ceil(p / b) + math.ceil(m / b))
                                              * b),
               "prompt and output share blocks"),
        Mutant("one last block for all", one_last_block, "yours puts all tokens together"),
        Mutant("paged room all internal", paged_all_internal, "in the last block's room some of the request's tokens"),
        Mutant("all reserved", counted(right, lambda p, o, m, size: (p + m, size - p - m, 0)),
               "what lies past the request's end is internal"),
        Mutant("counted twice", counted(right, lambda p, o, m, size: (p + m, min(size, p + o) - p - m, size - p - m)),
               "yours counts from what is held"),
        Mutant("prompt not held", counted(right, lambda p, o, m, size: (m, min(size, p + o) - p - m, size - min(
            size, p + o))), "the prompt's tokens are held, too"),
        Mutant("used in the end", counted(right, lambda p, o, m, size: (min(size, p + o), min(size, p + o) - p - m,
                                                                        size - min(size, p + o))),
               "tokens still to come are reserved"),
        Mutant("in another order", counted(right, lambda p, o, m, size: (p + m, size - min(size, p + o), min(
            size, p + o) - p - m)), "yours swaps the last two"),
        Mutant("less than nothing", counted(right, lambda p, o, m, size: (p + m, o - m, size - p - o)),
               "internal falls below 0"),
        Mutant("shares", shares, "count slots, not shares"),
        Mutant("the last alone", last_alone, "yours are the last one's"),
        Mutant("one number", waste_alone, "return 3 things"),
    ],
}
