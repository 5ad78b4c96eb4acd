"""Which drafted tokens to keep: the acceptance rules of speculative decoding, as pure functions of probabilities.

Letters are Leviathan et al.'s (2023): p the target's distribution, q the draft's. n tokens were drafted; the target
looked at all of them in one pass and so knows n + 1 distributions: one for each drafted token, one for what follows.
Every rule returns the accepted drafts and one more token, "recovered" in the place of a rejected draft or "bonus" after
all were accepted. All but `typical` are exact: the tokens are distributed as the target's own; the tests prove it by
enumeration. Chance comes in from outside, as numbers in [0, 1), so that a test can go through all of it.
"""
from collections.abc import Sequence

import torch
from torch import Tensor

from minilm.sampling import draw


def greedy(target: Tensor, drafted: Sequence[int]) -> list[int]:
    """Keep drafts while they are the target's argmax. target[n+1, V]: logits or probabilities."""
    best = target.argmax(-1).tolist()
    accepted = 0
    while accepted < len(drafted) and drafted[accepted] == best[accepted]:
        accepted += 1
    return [*drafted[:accepted], best[accepted]]


def rejection_sample(target_probs: Tensor, draft_probs: Tensor, drafted: Sequence[int],
                     uniforms: Sequence[float]) -> list[int]:
    """Speculative sampling (Leviathan et al. 2023, algorithm 1; Chen et al. 2023, algorithm 2).

    target_probs[n+1, V]: p.  draft_probs[n, V]: q, from which drafted[n] were drawn; one-hot rows for drafts that are
    not drawn.  uniforms[n+1]: the i-th decides draft i, the last draws the recovered or the bonus token by inverse CDF.
    A draft x is accepted with probability min(1, p(x) / q(x)); at the first rejection the recovered token is drawn from
    max(0, p - q), made to sum to 1. Raises ValueError on what are no probabilities, or don't fit together.
    """
    p, q, drafted = _check(target_probs, draft_probs, drafted, uniforms)
    for i, token in enumerate(drafted):
        if uniforms[i] * q[i, token] >= p[i, token]:                    # u >= p/q, also where q is 0
            return [*drafted[:i], _from_residual(p[i], q[i], uniforms[-1])]
    return [*drafted, draw(p[-1], uniforms[-1])]


def block_verify(target_probs: Tensor, draft_probs: Tensor, drafted: Sequence[int],
                 uniforms: Sequence[float]) -> list[int]:
    """Block verification (Sun et al. 2024, algorithm 2): judge drafts together, accept at least as many, stay exact.

    Arguments as for `rejection_sample`; uniforms[i] decides whether a prefix of i + 1 drafts is accepted.
    """
    p, q, drafted = _check(target_probs, draft_probs, drafted, uniforms)
    n, ratio = len(drafted), 1.0                                        # the paper's p_i of the prefix so far
    kept, kept_ratio = 0, 1.0
    for i, token in enumerate(drafted):
        ratio = min(1.0, ratio * float(p[i, token] / q[i, token]))
        if i + 1 < n:
            residual = float((ratio * p[i + 1] - q[i + 1]).clamp(min=0).sum())
            room = residual + 1 - ratio
            accept = residual / room if room > 0 else 1.0
        else:
            accept = ratio
        if uniforms[i] < accept:
            kept, kept_ratio = i + 1, ratio
    if kept == n:
        return [*drafted, draw(p[-1], uniforms[-1])]
    return [*drafted[:kept], _from_residual(kept_ratio * p[kept], q[kept], uniforms[-1])]


def typical(target_probs: Tensor, drafted: Sequence[int], uniform: float, *, epsilon: float = 0.09,
            delta: float = 0.3) -> list[int]:
    """Medusa's typical acceptance (Cai et al. 2024): keep drafts with p(x) > min(ε, δ · exp(-H(p))). NOT exact.

    It keeps whatever is likely enough, so likely tokens come too often. The token after the kept ones is drawn from p.
    """
    target_probs, drafted = _probabilities("target_probs", target_probs), [int(token) for token in drafted]
    _check_shapes(target_probs, drafted)
    kept = 0
    for p, token in zip(target_probs[:-1], drafted, strict=True):
        entropy = torch.special.entr(p).sum()
        if not p[token] > min(epsilon, delta * float(torch.exp(-entropy))):
            break
        kept += 1
    return [*drafted[:kept], draw(target_probs[kept], uniform)]


def tree(target_probs: Tensor, tokens: Sequence[int], parents: Sequence[int], uniforms: Sequence[float]) -> list[int]:
    """Walk down a tree of drafted tokens that were chosen, not drawn (one-hot q): exact for any tree.

    tokens[n], parents[n]: node i continues node parents[i] < i, or the text itself where that is -1; siblings differ.
    target_probs[n+1, V]: row 0 is p after the text, row i + 1 is p after node i.  uniforms[n+1] as before, one a node.
    At each node its children are tried in turn: x is accepted with probability p(x); if not, p(x) becomes 0, the rest
    is made to sum to 1 again, and the next sibling is tried. Returns the indices of the nodes on the way, then the last
    token.
    """
    target_probs, tokens = _probabilities("target_probs", target_probs), [int(token) for token in tokens]
    _check_shapes(target_probs, tokens, uniforms=uniforms)
    check_parents(parents, len(tokens))
    node, path = -1, []
    while True:
        p = target_probs[node + 1].clone()
        for child in (i for i, parent in enumerate(parents) if parent == node):
            share = float(p[tokens[child]] / p.sum())
            if uniforms[child] < share:
                node = child
                path.append(child)
                break
            p[tokens[child]] = 0.0
        else:
            return [*path, draw(p, uniforms[-1])]


def _from_residual(p: Tensor, q: Tensor, uniform: float) -> int:
    """A draw from max(0, p - q); from p itself where rounding leaves nothing of the difference (p = q)."""
    residual = (p - q).clamp(min=0)
    return draw(residual if residual.sum() > 0 else p, uniform)


def _check(target_probs: Tensor, draft_probs: Tensor, drafted: Sequence[int],
           uniforms: Sequence[float]) -> tuple[Tensor, Tensor, list[int]]:
    """(p, q, drafted) in float64, after one clear error for what can't be verified."""
    drafted = [int(token) for token in drafted]
    if not drafted:
        raise ValueError("no token was drafted: there is nothing to verify")
    _check_shapes(target_probs, drafted, draft_probs, uniforms)
    p, q = _probabilities("target_probs", target_probs), _probabilities("draft_probs", draft_probs)
    for i, token in enumerate(drafted):
        if q[i, token] == 0:
            raise ValueError(f"draft {i} is token {token}, to which draft_probs gives probability 0: it was not drawn "
                             "from them")
    return p, q, drafted


def _check_shapes(target_probs: Tensor, drafted: list[int], draft_probs: Tensor | None = None,
                  uniforms: Sequence[float] | None = None) -> None:
    """Raise ValueError when the parts don't fit together, or a draft is outside the vocabulary."""
    n, V = len(drafted), target_probs.shape[-1]
    needs, got = [f"target_probs[{n + 1}, V]"], [f"{list(target_probs.shape)}"]
    right = target_probs.shape == (n + 1, V)
    if draft_probs is not None:
        needs, got = [*needs, f"draft_probs[{n}, V]"], [*got, f"{list(draft_probs.shape)}"]
        right &= draft_probs.shape == (n, V)
    if uniforms is not None:
        needs, got = [*needs, f"{n + 1} uniforms"], [*got, f"{len(uniforms)}"]
        right &= len(uniforms) == n + 1
    if not right:
        raise ValueError(f"{n} drafts need {', '.join(needs)}; got {', '.join(got)}")
    for i, token in enumerate(drafted):
        if not 0 <= token < V:
            raise ValueError(f"draft {i} is token {token}, outside the vocabulary of {V}")


def check_parents(parents: Sequence[int], nodes: int) -> None:
    """Raise ValueError unless parents[n] make a tree whose nodes come after what they continue."""
    if len(parents) != nodes:
        raise ValueError(f"a tree of {nodes} tokens needs as many parents; it has {len(parents)}")
    for node, parent in enumerate(parents):
        if not -1 <= parent < node:
            raise ValueError(f"node {node} of a tree must continue an earlier one, or the text (-1); it continues "
                             f"{parent}")


def _probabilities(name: str, probs: Tensor) -> Tensor:
    """probs[n, V] in float64 with rows that sum to 1 exactly, as `draw` takes them: bfloat16's are off by up to 0.006.

    Raises ValueError for what are no probabilities.
    """
    probs = probs.double()
    total = probs.sum(-1, keepdim=True)
    if not bool((probs >= 0).all()) or not bool(((total - 1).abs() < 1e-2).all()):
        raise ValueError(f"{name} are no probabilities: each row must be 0 or more, sum to 1, and hold no NaN")
    return probs / total
