"""Wrong answers to 10.1, 10.2 and 10.3: the running state, the loop over tiles, the causal mask."""

import torch

from mutants import Mutant

# --- 10.1 -------------------------------------------------------------------------------------------------------------


def fold(m, l, acc, scores, values):
    m_new = torch.maximum(m, scores.amax(1))
    shift = m_new.where(m_new > -torch.inf, 0)
    shrink, p = (m - shift).exp(), (scores - shift[:, None]).exp()
    return m_new, l * shrink + p.sum(1), acc * shrink[:, None] + p @ values


def parts(m, scores):
    m_new = torch.maximum(m, scores.amax(1))
    shift = m_new.where(m_new > -torch.inf, 0)
    return m_new, (m - shift).exp(), (scores - shift[:, None]).exp()


def unguarded(m, l, acc, scores, values):
    m_new = torch.maximum(m, scores.amax(1))
    shrink, p = (m - m_new).exp(), (scores - m_new[:, None]).exp()
    return m_new, l * shrink + p.sum(1), acc * shrink[:, None] + p @ values


def acc_not_corrected(m, l, acc, scores, values):
    m_new, shrink, p = parts(m, scores)
    return m_new, l * shrink + p.sum(1), acc + p @ values


def l_not_corrected(m, l, acc, scores, values):
    m_new, shrink, p = parts(m, scores)
    return m_new, l + p.sum(1), acc * shrink[:, None] + p @ values


def nothing_corrected(m, l, acc, scores, values):
    m_new, _, p = parts(m, scores)
    return m_new, l + p.sum(1), acc + p @ values


def corrects_the_tile(m, l, acc, scores, values):
    m_new, shrink, p = parts(m, scores)
    return m_new, (l + p.sum(1)) * shrink, (acc + p @ values) * shrink[:, None]


def forgets_the_past(m, l, acc, scores, values):
    m_new, _, p = parts(m, scores)
    return m_new, p.sum(1), p @ values


def upside_down(m, l, acc, scores, values):
    m_new, _, p = parts(m, scores)
    grow = (m_new - m).exp().where(m > -torch.inf, 0)
    return m_new, l * grow + p.sum(1), acc * grow[:, None] + p @ values


def tiles_own_maximum(m, l, acc, scores, values):
    m_new = scores.amax(1)
    shift = m_new.where(m_new > -torch.inf, 0)
    shrink, p = (m - shift).exp(), (scores - shift[:, None]).exp()
    return m_new, l * shrink + p.sum(1), acc * shrink[:, None] + p @ values


def one_maximum(m, l, acc, scores, values):
    m_new = torch.maximum(m, scores.max())
    shift = m_new.where(m_new > -torch.inf, 0)
    shrink, p = (m - shift).exp(), (scores - shift[:, None]).exp()
    return m_new, l * shrink + p.sum(1), acc * shrink[:, None] + p @ values


def old_m(m, l, acc, scores, values):
    return (m, *fold(m, l, acc, scores, values)[1:])


def divided(m, l, acc, scores, values):
    m, l, acc = fold(m, l, acc, scores, values)
    return m, l, acc / l[:, None]


def upside_down_from_the_start(m, l, acc, scores, values):
    m_new, _, p = parts(m, scores)
    grow = (m_new - m).exp()
    return m_new, l * grow + p.sum(1), acc * grow[:, None] + p @ values


def powers_of_two(m, l, acc, scores, values):
    m_new = torch.maximum(m, scores.amax(1))
    shift = m_new.where(m_new > -torch.inf, 0)
    shrink, p = (m - shift).exp2(), (scores - shift[:, None]).exp2()
    return m_new, l * shrink + p.sum(1), acc * shrink[:, None] + p @ values


def softmax_of_the_tile(m, l, acc, scores, values):
    m_new, shrink, _ = parts(m, scores)
    p = scores.softmax(1)
    return m_new, l * shrink + p.sum(1), acc * shrink[:, None] + p @ values


# --- 10.2 -------------------------------------------------------------------------------------------------------------


def loop(q, k, v, tile, scale=None, stop=None, values=None, step=fold):
    m, l, acc = torch.full_like(q[:, 0], -torch.inf), torch.zeros_like(q[:, 0]), torch.zeros_like(q)
    for start in range(0, stop or len(k), tile):
        scores = q @ k[start: start + tile].T * (q.shape[1] ** -0.5 if scale is None else scale)
        m, l, acc = step(m, l, acc, scores, (v if values is None else values)[start: start + tile])
    return m, l, acc


def done(m, l, acc):
    return acc / l[:, None], m + l.log()


def no_scale(q, k, v, tile):
    return done(*loop(q, k, v, tile, scale=1.0))


def scale_by_D(q, k, v, tile):
    return done(*loop(q, k, v, tile, scale=1 / q.shape[1]))


def first_tile(q, k, v, tile):
    return done(*loop(q, k, v, tile, stop=tile))


def whole_tiles(q, k, v, tile):
    return done(*loop(q, k, v, tile, stop=len(k) // tile * tile))


def not_divided(q, k, v, tile):
    m, l, acc = loop(q, k, v, tile)
    return acc, m + l.log()


def divided_each_time(q, k, v, tile):
    return done(*loop(q, k, v, tile, step=divided))


def log_of_l(q, k, v, tile):
    m, l, acc = loop(q, k, v, tile)
    return acc / l[:, None], l.log()


def m_plus_l(q, k, v, tile):
    m, l, acc = loop(q, k, v, tile)
    return acc / l[:, None], m + l


def averaged(q, k, v, tile):
    parts = [done(*loop(q, k[i: i + tile], v[i: i + tile], tile))[0] for i in range(0, len(k), tile)]
    return torch.stack(parts).mean(0), done(*loop(q, k, v, tile))[1]


def first_values(q, k, v, tile):
    m, l, acc = torch.full_like(q[:, 0], -torch.inf), torch.zeros_like(q[:, 0]), torch.zeros_like(q)
    for start in range(0, len(k), tile):
        scores = q @ k[start: start + tile].T * q.shape[1] ** -0.5
        m, l, acc = fold(m, l, acc, scores, v[: scores.shape[1]])
    return done(m, l, acc)


def loop_not_corrected(q, k, v, tile):
    return done(*loop(q, k, v, tile, step=acc_not_corrected))


# --- 10.3 -------------------------------------------------------------------------------------------------------------


def tile_of(top, rows, start, tile, prefix):
    last_seen = prefix + top + torch.arange(rows)
    mask = start + torch.arange(tile)[None, :] <= last_seen[:, None]
    if start > last_seen[-1]:
        return "skipped", None
    return ("full", None) if start + tile - 1 <= last_seen[0] else ("diagonal", mask)


def no_prefix(top, rows, start, tile, T, S):
    return tile_of(top, rows, start, tile, 0)


def prefix_S(top, rows, start, tile, T, S):
    return tile_of(top, rows, start, tile, S)


def strictly(top, rows, start, tile, T, S):
    return tile_of(top, rows, start, tile, S - T - 1)


def never_skipped(top, rows, start, tile, T, S):
    mask = start + torch.arange(tile)[None, :] <= (S - T + top + torch.arange(rows))[:, None]
    return ("full", None) if mask.all() else ("diagonal", mask)


def never_full(top, rows, start, tile, T, S):
    mask = start + torch.arange(tile)[None, :] <= (S - T + top + torch.arange(rows))[:, None]
    return ("diagonal", mask) if mask.any() else ("skipped", None)


def full_by_last_query(top, rows, start, tile, T, S):
    mask = start + torch.arange(tile)[None, :] <= (S - T + top + torch.arange(rows))[:, None]
    kind = "skipped" if not mask.any() else "full" if start + tile - 1 <= S - T + top + rows - 1 else "diagonal"
    return kind, mask if kind == "diagonal" else None


def skipped_by_first_query(top, rows, start, tile, T, S):
    kind, mask = tile_of(top, rows, start, tile, S - T)
    return ("skipped", None) if start > S - T + top else (kind, mask)


def inverted(top, rows, start, tile, T, S):
    kind, mask = tile_of(top, rows, start, tile, S - T)
    return kind, ~mask if kind == "diagonal" else None


def transposed(top, rows, start, tile, T, S):
    kind, mask = tile_of(top, rows, start, tile, S - T)
    return kind, mask.T if kind == "diagonal" else None


def tile_numbers(top, rows, start, tile, T, S):
    i, j = top // rows, start // tile
    if j > i:
        return "skipped", None
    mask = start + torch.arange(tile)[None, :] <= (S - T + top + torch.arange(rows))[:, None]
    return ("full", None) if j < i else ("diagonal", mask)


def corner_mask(top, rows, start, tile, T, S):
    kind, _ = tile_of(top, rows, start, tile, S - T)
    return kind, torch.ones(rows, tile, dtype=torch.bool).tril() if kind == "diagonal" else None


def one_too_many(top, rows, start, tile, T, S):
    last_seen = S - T + top + torch.arange(rows) + 1
    if start > last_seen[-1]:
        return "skipped", None
    if start + tile - 1 <= last_seen[0]:
        return "full", None
    return "diagonal", start + torch.arange(tile)[None, :] <= last_seen[:, None]


def all_at_once(q, k, v, tile):
    scores = q @ k.T * q.shape[1] ** -0.5
    return scores.softmax(1) @ v, scores.logsumexp(1)


def put_together(q, k, v, tile):
    scores = torch.cat([q @ k[i: i + tile].T for i in range(0, len(k), tile)], 1) * q.shape[1] ** -0.5
    return scores.softmax(1) @ v, scores.logsumexp(1)


def pytorchs_own(q, k, v, tile):
    lse = torch.stack([(k @ row * len(row) ** -0.5).logsumexp(0) for row in q])
    return torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None])[0], lse


def walk_tiles(q, k, v, tile, first=-torch.inf, each=False):
    m, l, acc = torch.full_like(q[:, 0], first), torch.zeros_like(q[:, 0]), torch.zeros_like(q)
    for i in range(0, len(k), tile):
        m, l, acc = fold(m, l, acc, q @ k[i: i + tile].T * q.shape[1] ** -0.5, v[i: i + tile])
        acc = acc / l[:, None] if each else acc
    return m, l, acc if each else acc / l[:, None]


def that_many_tiles(q, k, v, tile):
    m, l, out = walk_tiles(q, k, v, max(1, len(k) // tile))
    return out, m + l.log()


def m_from_zero(q, k, v, tile):
    m, l, out = walk_tiles(q, k, v, tile, first=0.0)
    return out, m + l.log()


def divided_on_the_way(q, k, v, tile):
    m, l, out = walk_tiles(q, k, v, tile, each=True)
    return out, m + l.log()


def sum_of_exponentials(q, k, v, tile):
    m, l, out = walk_tiles(q, k, v, tile)
    return out, m.exp() * l


def causal(q, k, v, tile):
    scores = q @ k.T * q.shape[1] ** -0.5
    scores = scores.masked_fill(torch.ones_like(scores).triu(len(k) - len(q) + 1) > 0, -torch.inf)
    return scores.softmax(1) @ v, scores.logsumexp(1)


MUTANTS = {
    "10.1": [
        Mutant("unguarded", unguarded, "exp(-inf - (-inf)) = NaN"),
        Mutant("accumulator not corrected", acc_not_corrected, "accumulator is never corrected"),
        Mutant("l not corrected", l_not_corrected, "l is never corrected"),
        Mutant("nothing corrected", nothing_corrected, "neither l nor the accumulator"),
        Mutant("corrects the tile", corrects_the_tile, "new tile is corrected as well"),
        Mutant("forgets the past", forgets_the_past, "what was summed before is lost"),
        Mutant("upside down", upside_down, "upside down"),
        Mutant("the tile's own maximum", tiles_own_maximum, "not the largest so far"),
        Mutant("one maximum", one_maximum, "one number for all rows"),
        Mutant("old m", old_m, "you return the old m"),
        Mutant("divided", divided, "divided by l already"),
        Mutant("upside down from the start", upside_down_from_the_start, "begins with exp(inf) · 0"),
        Mutant("powers of two", powers_of_two, "those are powers of two"),
        Mutant("softmax of the tile", softmax_of_the_tile, "divided by its own sum"),
    ],
    "10.2": [
        Mutant("no scale", no_scale, "the scale is missing"),
        Mutant("scale by D", scale_by_D, "divided by D"),
        Mutant("first tile", first_tile, "only the first tile"),
        Mutant("whole tiles", whole_tiles, "only whole tiles"),
        Mutant("not divided", not_divided, "not divided"),
        Mutant("divided each time", divided_each_time, "after every tile"),
        Mutant("log of l", log_of_l, "lacks the maximum"),
        Mutant("m plus l", m_plus_l, "not its logarithm"),
        Mutant("averaged", averaged, "softmax is averaged"),
        Mutant("first values", first_values, "values are always the first tile's"),
        Mutant("all scores at once", all_at_once, "scores of 40 keys stand there at once"),
        Mutant("all scores put together", put_together, "scores of 40 keys stand there at once"),
        Mutant("as many tiles", that_many_tiles, "scores of 10 keys stand there at once"),
        Mutant("PyTorch's attention", pytorchs_own, "that is PyTorch's own attention"),
        Mutant("m from 0", m_from_zero, "m begins at 0"),
        Mutant("divided on the way", divided_on_the_way, "divided in every turn"),
        Mutant("sum of exponentials", sum_of_exponentials, "not its logarithm: m + log(l)"),
        Mutant("causal", causal, "a causal mask hides keys"),
        Mutant("not corrected", loop_not_corrected, "not corrected when m rises"),
    ],
    "10.3": [
        Mutant("no prefix", no_prefix, "prefix is forgotten"),
        Mutant("prefix S", prefix_S, "the prefix is S - T keys"),
        Mutant("one too many", one_too_many, "one key too many"),
        Mutant("strictly", strictly, "<=, not <"),
        Mutant("never skipped", never_skipped, "nothing is ever skipped"),
        Mutant("never full", never_full, "nothing is ever full"),
        Mutant("full by the last query", full_by_last_query, "you ask the last query"),
        Mutant("skipped by the first query", skipped_by_first_query, "you ask the first query"),
        Mutant("inverted", inverted, "the mask is inverted"),
        Mutant("transposed", transposed, "the mask is transposed"),
        Mutant("tile numbers", tile_numbers, "you compare tile numbers"),
        Mutant("a corner", corner_mask, "no notice of where the tile stands"),
    ],
}
