"""Exercise 13.1: in which order the rows of a fused matrix must lie so that an even cut gives each rank whole heads."""

from collections import Counter

from minilm.lab.exercise import Exercise, agree
from minilm.lab.expect import Failed
from minilm.lab.values import kind

ex1 = Exercise(
    "13.1",
    "The rows of a fused matrix",
    answer="deal_rows(heads, kv_heads, head_size, ranks)",
    task="row numbers of qkv in the order in which an even cut gives each rank its queries, keys and values",
    hints=(
        "The matrix holds three parts, one after the other. Which piece of each does rank 0 need? At which row does "
        "each part begin?",
        "Rank r needs piece r of the queries, then piece r of the keys, then piece r of the values. A part of n heads "
        "has n · head_size rows; its pieces are runs of n · head_size / ranks rows.",
        "sizes = [n * head_size for n in (heads, kv_heads, kv_heads)]; starts = [0, sizes[0], sizes[0] + sizes[1]]; "
        "for each rank, for each start and size: rows += range(start + rank * size // ranks, start + (rank + 1) * "
        "size // ranks).",
    ),
)


def deal_rows(heads, kv_heads, head_size, ranks):
    """The reference: a list of ints."""
    return _deal(heads, kv_heads, head_size, ranks)


def _deal(heads, kv_heads, head_size, ranks, *, parts=("q", "k", "v"), piece=lambda r, n, R: range(r * n // R,
                                                                                                   (r + 1) * n // R)):
    """The answer by heads; parts: in which order a rank has them; piece(r, heads, ranks): which heads are r's."""
    first = {"q": 0, "k": heads, "v": heads + kv_heads}
    count = {"q": heads, "k": kv_heads, "v": kv_heads}
    chosen = [first[part] + head for r in range(ranks) for part in parts for head in piece(r, count[part], ranks)]
    return [head * head_size + row for head in chosen for row in range(head_size)]


def _inverse(*given):
    order = _deal(*given)
    return sorted(range(len(order)), key=order.__getitem__)


def _by_group(heads, kv_heads, head_size, ranks):
    """Each key-value head with its queries, before the next."""
    group = heads // kv_heads
    order = [head for k in range(kv_heads) for head in (*range(k * group, (k + 1) * group), heads + k,
                                                        heads + kv_heads + k)]
    return [head * head_size + row for head in order for row in range(head_size)]


WRONG = {
    "that is the order in which the rows lie already: cut evenly, rank 0 has queries only, and the last rank the keys "
    "and values": lambda h, k, d, ranks: list(range((h + 2 * k) * d)),
    "dealt like cards, head by head: rank r has query heads r · heads / ranks and on, a run of them, as the columns of "
    "`out` are cut in runs; and so of the key-value heads": lambda h, k, d, ranks: _deal(
        h, k, d, ranks, piece=lambda r, n, R: range(r, n, R)),
    "dealt like cards, row by row: that tears every head apart; a rank needs whole heads": lambda h, k, d, ranks: _deal(
        h * d, k * d, 1, ranks, piece=lambda r, n, R: range(r, n, R)),
    "the values are missing: qkv has three parts": lambda h, k, d, ranks: _deal(h, k, d, ranks, parts=("q", "k")),
    "those are heads, not rows: a head has head_size rows, one after the other": lambda h, k, d, ranks: _deal(
        h, k, 1, ranks),
    "that says to which place each row goes; wanted is which row comes next, as in weight[rows]": _inverse,
    "a rank's rows are all its queries, then all its keys, then all its values, as in the whole matrix; yours has "
    "each key-value head next to its queries": _by_group,
    "within a rank the order is queries, keys, values, as the model splits them; yours has the values before the keys":
        lambda h, k, d, ranks: _deal(h, k, d, ranks, parts=("q", "v", "k")),
    "the ranks are the wrong way round: the first run of rows is rank 0's": lambda h, k, d, ranks: _deal(
        h, k, d, ranks, piece=lambda r, n, R: range((R - 1 - r) * n // R, (R - r) * n // R)),
    "with grouped queries there are fewer key-value heads than query heads: keys and values have kv_heads heads each":
        lambda h, k, d, ranks: _deal(h, h, d, ranks),
}


class _Flat:
    """The answer, with a plain word where it returns a list of lists; what it was last given and gave is kept."""

    def __init__(self, answer):
        self.answer, self.given, self.got = answer, (), None

    def __call__(self, *given):
        self.given, self.got = given, self.answer(*given)
        inner = next((row for row in self.got if not isinstance(row, (int, float))), None) if isinstance(
            self.got, (list, tuple)) else None
        if inner is not None:
            raise Failed(f"return one flat list of row numbers, rank 0's first, then rank 1's; yours holds "
                         f"{kind(inner)}: rows += ... or rows.extend(...) in place of append")
        return self.got

    @property
    def shown(self):
        return self.answer.shown


def _agree(answer, cases):
    """agree; where no known mistake explains the answer, rows that occur twice, or not at all, are named."""
    answer = _Flat(answer)
    try:
        agree(answer, deal_rows, cases, wrong=WRONG)
    except Failed as failed:
        told = failed.message or _strays(answer.got, *answer.given)
        raise Failed(told, failed.facts) from None


def _strays(rows, heads, kv_heads, head_size, ranks):
    """"row 3, a key's, occurs twice; row 6, a value's, is missing", or "" where each row is there once."""
    count, ends = Counter(rows), (heads * head_size, (heads + kv_heads) * head_size, (heads + 2 * kv_heads) * head_size)

    def named(row):
        return f"row {row}, a {'query' if row < ends[0] else 'key' if row < ends[1] else 'value'}'s,"
    found = [f"there is no row {row}, only 0 to {ends[2] - 1}" for row in count if row not in range(ends[2])][:1]
    found += [f"{named(row)} occurs {'twice' if n == 2 else f'{n} times'}"
              for row, n in count.items() if n > 1 and row in range(ends[2])][:1]
    found += [f"{named(row)} is missing" for row in range(ends[2]) if row not in count][:1]
    return "; ".join(found) + ": at which row does each part begin, and how long is it?" if found else ""


@ex1.check("as many heads of each kind", mistake="rank r has piece r of the queries, of the keys, of the values")
def _(answer):
    _agree(answer, [(2, 2, 1, 2), (4, 4, 1, 2), (4, 4, 2, 2), (6, 6, 2, 3)])


@ex1.check("grouped queries", mistake="keys and values begin at heads and heads + kv_heads, in heads")
def _(answer):
    _agree(answer, [(4, 2, 1, 2), (8, 4, 1, 2), (8, 4, 3, 4), (9, 3, 2, 3), (4, 2, 64, 2)])


@ex1.check("one rank", mistake="with one rank nothing moves: 0, 1, 2, ...")
def _(answer):
    _agree(answer, [(2, 1, 2, 1), (4, 2, 8, 1)])
