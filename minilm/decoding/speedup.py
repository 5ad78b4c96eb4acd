"""What speculation should bring, on paper: Leviathan et al. 2023, §3, and the ladder that needs no independence.

Letters are theirs: α the acceptance rate, γ the drafts of a round, c the time of a draft pass in target passes.
"""
from collections.abc import Sequence


def expected_tokens(alpha: float, gamma: int) -> float:
    """Tokens of one round, (1 - α^(γ+1)) / (1 - α) (eq. 1), if each draft is accepted with α whatever came before."""
    _check(alpha, gamma)
    return gamma + 1.0 if alpha == 1 else (1 - alpha ** (gamma + 1)) / (1 - alpha)


def walltime_factor(alpha: float, gamma: int, c: float) -> float:
    """How many times faster than plain decoding, E[tokens] / (γ c + 1) (theorem 3.8); below 1 is slower.

    It takes a pass over γ + 1 tokens to cost what a pass over one does: true while reading the weights is the limit.
    """
    if c < 0:
        raise ValueError(f"c is a ratio of times, 0 or more; it is {c}")
    return expected_tokens(alpha, gamma) / (gamma * c + 1)


def ladder(accepted: Sequence[float]) -> float:
    """Tokens of one round, 1 + Σ_k Π_{i<=k} α_i, from α_i: how often draft i was accepted when those before it were.

    Exact for any dependence between the drafts of a round: from one log, it is the measured mean.
    """
    total, reach = 1.0, 1.0
    for alpha in accepted:
        _check(alpha, 0)
        reach *= alpha
        total += reach
    return total


def rungs(lengths: Sequence[tuple[int, int]]) -> list[float]:
    """α_i of a log of rounds, each (drafted, accepted): of the rounds that came to draft i, the share that accepted it.

    Rounds that drafted fewer than i tokens say nothing of draft i, so with drafts of one length `ladder` is exact.
    """
    deepest = max((drafted for drafted, _ in lengths), default=0)
    out = []
    for i in range(1, deepest + 1):
        came = sum(drafted >= i and accepted >= i - 1 for drafted, accepted in lengths)
        if not came:
            break
        out.append(sum(accepted >= i for drafted, accepted in lengths if drafted >= i) / came)
    return out


def best_length(alpha: float, draft_seconds: float, verify_seconds: Sequence[float]) -> int:
    """The γ with the most tokens a second, from measured times: a draft pass, and target passes over 1, 2, ... tokens.

    0 means that no draft pays.
    """
    rates = [expected_tokens(alpha, gamma) / (gamma * draft_seconds + seconds)
             for gamma, seconds in enumerate(verify_seconds)]
    return max(range(len(rates)), key=rates.__getitem__)


def _check(alpha: float, gamma: int) -> None:
    if not 0 <= alpha <= 1:
        raise ValueError(f"an acceptance rate lies in [0, 1]; it is {alpha}")
    if gamma < 0:
        raise ValueError(f"the number of drafts is 0 or more; it is {gamma}")


# --- lookahead decoding (Fu et al. 2024, §4); letters as there ---

def expected_of_best(alpha: float, gamma: int, b: int) -> float:
    """Tokens of one pass that verifies b guesses of γ tokens each: E = (γ + 1) - Σ_{i=1..γ} (1 - α^i)^b.

    The best guess counts. Each token is taken to be right with α, the guesses to be independent of each other; with
    b = 1 this is `expected_tokens`.
    """
    _check(alpha, gamma)
    if b < 0:
        raise ValueError(f"the number of guesses is 0 or more; it is {b}")
    return gamma + 1 - sum((1 - alpha**i) ** b for i in range(1, gamma + 1))


def step_compression(expected: float, f: float) -> float:
    """How many times fewer passes than plain decoding, S = (f - 1 + E) / f.

    One pass in f finds guesses to verify and gives E tokens (`expected`, where b = G and γ = N - 1), the others one.
    """
    if not f >= 1:
        raise ValueError(f"at most every pass finds a guess, so f is 1 or more; it is {f}")
    return (f - 1 + expected) / f


def lookahead_tokens(window: int, ngram: int, guesses: int) -> int:
    """Tokens that a pass of lookahead decoding feeds, (W + G)(N - 1): the window with the last token, the guesses."""
    return (window + guesses) * (ngram - 1)


def tensorrt_draft_tokens(window: int, ngram: int, guesses: int) -> int:
    """TensorRT-LLM's count of the same, (N - 2) + (W - 1 + G)(N - 1): one less, since the last token is no draft."""
    return ngram - 2 + (window - 1 + guesses) * (ngram - 1)
