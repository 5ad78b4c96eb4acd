"""Wrong answers to 13.1, 13.2 and 13.3: the rows of a fused matrix, an MLP in pieces, cut or copy."""
import math

import torch
import torch.nn.functional as F

from mutants import Mutant

# --- 13.1 ------------------------------------------------------------------------------------------------------------


def as_they_lie(heads, kv_heads, head_size, ranks):
    return list(range((heads + 2 * kv_heads) * head_size))


def rows_of(lists, head_size):
    return [head * head_size + row for head in lists for row in range(head_size)]


def like_cards(heads, kv_heads, head_size, ranks):
    order = []
    for r in range(ranks):
        order += [h for h in range(heads) if h % ranks == r]
        order += [heads + h for h in range(kv_heads) if h % ranks == r]
        order += [heads + kv_heads + h for h in range(kv_heads) if h % ranks == r]
    return rows_of(order, head_size)


def runs(heads, kv_heads, ranks, parts):
    first, order = {"q": 0, "k": heads, "v": heads + kv_heads}, []
    for r in range(ranks):
        for part in parts:
            own = (heads if part == "q" else kv_heads) // ranks
            order += range(first[part] + r * own, first[part] + (r + 1) * own)
    return order


def without_values(heads, kv_heads, head_size, ranks):
    return rows_of(runs(heads, kv_heads, ranks, "qk"), head_size)


def heads_not_rows(heads, kv_heads, head_size, ranks):
    return runs(heads, kv_heads, ranks, "qkv")


def where_they_go(heads, kv_heads, head_size, ranks):
    return torch.tensor(rows_of(runs(heads, kv_heads, ranks, "qkv"), head_size)).argsort().tolist()


def values_first(heads, kv_heads, head_size, ranks):
    return rows_of(runs(heads, kv_heads, ranks, "qvk"), head_size)


def keys_like_queries(heads, kv_heads, head_size, ranks):
    return rows_of(runs(heads, heads, ranks, "qkv"), head_size)


def by_group(heads, kv_heads, head_size, ranks):
    order = []
    for k in range(kv_heads):
        order += [*range(k * heads // kv_heads, (k + 1) * heads // kv_heads), heads + k, heads + kv_heads + k]
    return rows_of(order, head_size)


def list_of_each_rank(heads, kv_heads, head_size, ranks):
    rows = rows_of(runs(heads, kv_heads, ranks, "qkv"), head_size)
    return [rows[r * len(rows) // ranks : (r + 1) * len(rows) // ranks] for r in range(ranks)]


def from_starts(starts):
    """starts(rows of the queries, rows of the keys): where the three parts begin."""
    def answer(heads, kv_heads, head_size, ranks):
        sizes, rows = [n * head_size for n in (heads, kv_heads, kv_heads)], []
        for r in range(ranks):
            for start, size in zip(starts(sizes[0], sizes[1]), sizes, strict=True):
                rows += range(start + r * size // ranks, start + (r + 1) * size // ranks)
        return rows
    return answer


# --- 13.2 ------------------------------------------------------------------------------------------------------------


def each(x, gate_ups, downs, bias=0, act=lambda gate, up: F.silu(gate) * up):
    found = []
    for gate_up, down in zip(gate_ups, downs, strict=True):
        y = F.linear(x, gate_up)
        half = y.shape[-1] // 2
        found.append(F.linear(act(y[:, :half], y[:, half:]), down) + bias)
    return found


def bias_on_every_rank(x, gate_ups, downs, bias):
    return torch.stack(each(x, gate_ups, downs, bias)).sum(0)


def averaged(x, gate_ups, downs, bias):
    return torch.stack(each(x, gate_ups, downs)).mean(0) + bias


def rank_0_alone(x, gate_ups, downs, bias):
    return each(x, gate_ups, downs)[0] + bias


def side_by_side(x, gate_ups, downs, bias):
    return torch.cat(each(x, gate_ups, downs), -1)


def no_bias(x, gate_ups, downs, bias):
    return torch.stack(each(x, gate_ups, downs)).sum(0)


def exchanged(x, gate_ups, downs, bias):
    return sum(each(x, gate_ups, downs, act=lambda gate, up: gate * F.silu(up))) + bias


def added_before_silu(x, gate_ups, downs, bias):
    y = torch.stack([F.linear(x, gate_up) for gate_up in gate_ups]).sum(0)
    half = y.shape[-1] // 2
    return sum(F.linear(F.silu(y[:, :half]) * y[:, half:], down) for down in downs) + bias


def joined_as_they_lie(x, gate_ups, downs, bias):
    y = F.linear(x, torch.cat(gate_ups))
    half = y.shape[-1] // 2
    return F.linear(F.silu(y[:, :half]) * y[:, half:], torch.cat(downs, 1)) + bias


# --- 13.3 ------------------------------------------------------------------------------------------------------------


def plan(gpus, texts, model, machine, *, reduces=2, latency=lambda n: 1, way=2, factor=True, alone=False,
         all_texts=False, one_text=False, cut_weights=True, cut_kv=True, floor=False, undealt=False, memory=True,
         most=False, any_ranks=False, late=False,
         share=None):
    best = None
    for n in range(1, gpus + 1):
        if gpus % n and not any_ranks:
            continue
        copies = gpus // n
        mine = texts if undealt else texts // copies if floor else math.ceil(texts / copies)
        mine = share(texts, copies) if share else mine
        size = (model["weights"] / n if cut_weights else model["weights"]) + mine * model["text"] / (n if cut_kv else 1)
        if memory and size > machine["memory"]:
            continue
        sent = (texts if all_texts else 1 if one_text else mine) * model["exchange"]
        times = way * ((n - 1) / n if factor else n - 1)
        once = latency(n) * machine["latency"] + times * sent / machine["link"]
        if n == 1:
            once = machine["latency"] if alone else 0
        seconds = size / machine["read"] + reduces * model["layers"] * once
        if best is None or seconds < best[1] or most or (late and seconds == best[1]):
            best = n, seconds
    return best


def but(**change):
    return lambda gpus, texts, model, machine: plan(gpus, texts, model, machine, **change)


def least_pair(gpus, texts, model, machine):
    """min over (seconds, ranks), returned as it is."""
    best = plan(gpus, texts, model, machine)
    return best if best is None else (best[1], best[0])


MUTANTS = {
    "13.1": [
        Mutant("as they lie", as_they_lie, "the order in which the rows lie already"),
        Mutant("like cards", like_cards, "as the columns of `out` are cut"),
        Mutant("without values", without_values, "the values are missing"),
        Mutant("heads, not rows", heads_not_rows, "those are heads, not rows"),
        Mutant("where rows go", where_they_go, "to which place each row goes"),
        Mutant("values first", values_first, "yours has the values before the keys"),
        Mutant("keys like queries", keys_like_queries, "fewer key-value heads than query heads"),
        Mutant("by group", by_group, "yours has each key-value head next to its queries"),
        Mutant("a list of each rank", list_of_each_rank, "return one flat list of row numbers"),
        Mutant("values begin with the keys", from_starts(lambda q, k: (0, q, q)),
               "row 2, a key's, occurs twice; row 4, a value's, is missing"),
        Mutant("values begin after twice the queries", from_starts(lambda q, k: (0, q, 2 * q)),
               "there is no row 8, only 0 to 7; row 6, a value's, is missing"),
        Mutant("values begin one early", from_starts(lambda q, k: (0, q, q + k - 1)), "a key's, occurs twice"),
    ],
    "13.2": [
        Mutant("bias on every rank", bias_on_every_rank, "the bias is added once"),
        Mutant("averaged", averaged, "added up, not averaged"),
        Mutant("rank 0 alone", rank_0_alone, "rank 0's summand alone"),
        Mutant("side by side", side_by_side, "summands are added, not put side by side"),
        Mutant("no bias", no_bias, "the bias is missing"),
        Mutant("exchanged", exchanged, "yours has them exchanged"),
        Mutant("added before silu", added_before_silu, "must not be added up before silu"),
        Mutant("joined as they lie", joined_as_they_lie, "put together as they lie"),
    ],
    "13.3": [
        Mutant("one all-reduce", but(reduces=1), "a layer has two all-reduces"),
        Mutant("no latency", but(latency=lambda n: 0), "the latency is missing"),
        Mutant("a latency for each other rank", but(latency=lambda n: n - 1), "takes it (n − 1) times"),
        Mutant("a latency for each hop", but(latency=lambda n: 2 * n - 2), "takes it twice with two ranks"),
        Mutant("a latency for each rank", but(latency=lambda n: n), "takes it twice with two ranks"),
        Mutant("latency alone", but(alone=True), "one rank has nobody to talk to"),
        Mutant("one way", but(way=1), "yours goes one way only"),
        Mutant("n - 1 times", but(factor=False), "not 2(n − 1) times"),
        Mutant("all texts", but(all_texts=True), "not those of all copies"),
        Mutant("one text", but(one_text=True), "yours carries one text"),
        Mutant("whole weights", but(cut_weights=False), "the weights are cut"),
        Mutant("whole cache", but(cut_kv=False), "keys and values are cut with their heads"),
        Mutant("rounded down", but(floor=True), "the fullest copy sets the pace: texts"),
        Mutant("not rounded", but(share=lambda texts, copies: texts / copies), "no broken number of texts"),
        Mutant("to the nearest", but(share=lambda texts, copies: round(texts / copies)), "not to the nearest"),
        Mutant("always one more", but(share=lambda texts, copies: texts // copies + 1), "do not add 1"),
        Mutant("seconds first", least_pair, "the wrong way round: return (ranks, seconds)"),
        Mutant("texts for all", but(undealt=True), "yours gives all of them to each"),
        Mutant("any size", but(memory=False), "what does not fit into a GPU's memory"),
        Mutant("most ranks", but(most=True), "the largest number of ranks that fits"),
        Mutant("any ranks", but(any_ranks=True), "must divide the GPUs"),
        Mutant("more of equals", but(late=True), "take the fewer ranks"),
    ],
}
