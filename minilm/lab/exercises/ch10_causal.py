"""Exercise 10.3: the kind of a tile under a causal mask after a cached prefix, and the mask of a diagonal one."""

import torch

from minilm.lab.exercise import Exercise, agree

ex3 = Exercise(
    "10.3",
    "Full, diagonal or skipped",
    answer="causal_tile(top, rows, start, tile, T, S)",
    task='("full", None), ("skipped", None) or ("diagonal", mask[rows, tile], True where the query sees the key)',
    hints=(
        "Which is the last key that query top sees? And the last query of the tile? Everything follows from those two.",
        "Query i is token S - T + i of all, and sees keys 0 to S - T + i. Full: the first query sees the tile's last "
        "key. Skipped: the last query doesn't see its first. Else compare each key with each query's last.",
        "last_seen = S - T + top + torch.arange(rows); skipped if start > last_seen[-1]; full if start + tile - 1 <= "
        "last_seen[0]; mask = start + torch.arange(tile)[None, :] <= last_seen[:, None]",
    ),
)


def causal_tile(top, rows, start, tile, T, S, *, prefix=lambda T, S: S - T, sees=lambda key, last: key <= last,
                full=lambda mask: mask.all(), skipped=lambda mask: ~mask.any(), shown=lambda mask: mask):
    """The reference, or with one thing changed."""
    last_seen = prefix(T, S) + top + torch.arange(rows)
    mask = sees(start + torch.arange(tile)[None, :], last_seen[:, None])
    if bool(skipped(mask)):
        return "skipped", None
    return ("full", None) if bool(full(mask)) else ("diagonal", shown(mask))


def wrong(**change):
    return lambda *tile: causal_tile(*tile, **change)


def by_index(top, rows, start, tile, T, S):
    kind = "full" if start // tile < top // rows else "skipped" if start // tile > top // rows else "diagonal"
    return kind, causal_tile(top, rows, start, tile, T, S, skipped=lambda m: False, full=lambda m: False)[1] if (
        kind == "diagonal") else None


def tile_numbers(top, rows, start, tile, T, S):
    """Keys counted from the tile's own start, queries from their tile's."""
    kind, mask = causal_tile(top, rows, start, tile, T, S)
    return kind, torch.ones(rows, tile, dtype=torch.bool).tril() if kind == "diagonal" else None


WRONG_3 = {
    "the cached prefix is forgotten: query i is token S - T + i, and sees as many keys before it": wrong(
        prefix=lambda T, S: 0),
    "query i sees key S - T + i, its own, too: <=, not <": wrong(sees=lambda key, last: key < last),
    "the prefix is S - T keys, not S: the last T of the S keys are the queries' own tokens": wrong(
        prefix=lambda T, S: S),
    "every query sees one key too many: query i sees the keys 0 to S - T + i, its own is the last": wrong(
        prefix=lambda T, S: S - T + 1),
    "full means that the first query sees the last key; you ask the last query": wrong(
        full=lambda mask: mask[-1].all()),
    "full means that every query sees the last key; you ask for the first key": wrong(
        full=lambda mask: mask[:, 0].all()),
    "skipped means that not even the last query sees the first key; you ask the first query": wrong(
        skipped=lambda mask: ~mask[0].any()),
    "skipped means that no query sees the first key; you ask for the last key": wrong(
        skipped=lambda mask: ~mask[:, -1].any()),
    "nothing is ever skipped: a tile that begins after the last query's last key need not be loaded": wrong(
        skipped=lambda mask: False),
    "nothing is ever full: when the first query sees the tile's last key, no mask is needed": wrong(
        full=lambda mask: False),
    "the mask is inverted: True where the query sees the key": wrong(shown=lambda mask: ~mask),
    "the mask is transposed: a row for each query, a column for each key": wrong(shown=lambda mask: mask.T),
    "you compare tile numbers: that is right only for equal tiles without a prefix; compare tokens": by_index,
    "the mask takes no notice of where the tile stands: compare start + column with S - T + top + row": tile_numbers,
}


def tiles(T, S, rows, tile):
    """All tiles of a problem whose queries fill their tiles."""
    return [(top, rows, start, tile, T, S) for top in range(0, T, rows) for start in range(0, S, tile)]


@ex3.check("square tiles, no prefix", mistake="full below the diagonal, skipped above it")
def _(answer):
    agree(answer, causal_tile, tiles(4, 4, 2, 2) + tiles(12, 12, 4, 4), wrong=WRONG_3)


@ex3.check("after a cached prefix", mistake="query i is token S - T + i")
def _(answer):
    agree(answer, causal_tile, tiles(4, 8, 2, 2) + tiles(4, 7, 2, 2) + tiles(8, 21, 4, 4), wrong=WRONG_3)


@ex3.check("tiles that are not square", mistake="compare tokens with tokens: start + column with S - T + top + row")
def _(answer):
    agree(answer, causal_tile, tiles(8, 8, 4, 2) + tiles(8, 8, 2, 4) + tiles(6, 11, 3, 4), wrong=WRONG_3)


@ex3.check("the end of the keys", mistake="keys past S are nobody's: no query's last key is that far")
def _(answer):
    agree(answer, causal_tile, tiles(3, 5, 1, 4) + tiles(1, 9, 1, 8) + tiles(4, 18, 4, 16), wrong=WRONG_3)
