"""Proposers against slow references. What they guess never changes the output, so these tests alone see a bad guess."""
import itertools

import pytest
import torch
import torch.nn.functional as F
from core_helpers import assert_clear_error, one_thread, tiny_model  # noqa: F401
from mutants import speculative_loop as mutants
from spec_helpers import BUSHY, PROMPT, SMALL, TARGET, decode, plain, random_heads, recurrent_head, spec

from minilm.decoding.proposers import (
    Blockwise,
    DraftModel,
    PromptLookup,
    SelfSpeculative,
    blockwise,
    choose_tree,
    prompt_lookup,
)
from minilm.decoding.proposers.recurrent import RecurrentDraft

LENGTH = 24


def rounds(proposer):
    """(text, the pass that drafted after it) of a greedy run, but for the prefill."""
    text = list(PROMPT)
    for step in decode(PROMPT, LENGTH, proposer).trace:
        if len(text) > len(PROMPT):
            yield list(text), step
        text += step.emitted


def hidden_after(text: list[int], model=TARGET):
    """The last state [d] where `model` chose the text's last token."""
    return model.hidden(torch.tensor([text[:-1]]))[0, -1]


def check_draft_model():
    """Every draft is what the draft model itself would say after the whole text: its cache has no hole after a round
    that was accepted whole, and nothing left of rejected drafts."""
    for draft in (SMALL, TARGET):
        for text, step in rounds(DraftModel(draft, 3)):
            assert list(step.drafted) == plain(text, len(step.drafted), draft)
            assert len(step.drafted) == min(3, LENGTH + len(PROMPT) - len(text) - 1)


def check_draft_cache():
    """The draft's cache holds the keys and values of the text alone, whatever was accepted."""
    for draft in (SMALL, TARGET):
        proposer = DraftModel(draft, 3)
        for _ in rounds(proposer):
            pass
        fresh = type(proposer.cache)(draft.config, dtype=torch.float64)
        draft.hidden(torch.tensor([proposer.read]), fresh)
        assert proposer.cache.length == len(proposer.read)
        assert (proposer.cache.keys(0) - fresh.keys(0)).abs().max() < 1e-10


def check_schedule():
    """Two more after a round accepted whole, one less after any other; at least one; never more than fit."""
    lengths = []
    for draft in (SMALL, TARGET):
        length = 2
        for text, step in rounds(DraftModel(draft, 2, schedule="heuristic")):
            assert len(step.drafted) == min(length, LENGTH + len(PROMPT) - len(text) - 1)
            length = length + 2 if len(step.accepted) == len(step.drafted) else max(1, length - 1)
            lengths.append(len(step.drafted))
    assert {1, 2, 4, 6} <= set(lengths)


def check_confidence():
    """Drafting stops after the first token that the draft doubts, and that token is still drafted."""
    seen = set()
    for confidence in (0.08, 0.12):
        for text, step in rounds(DraftModel(SMALL, 6, confidence=confidence)):
            p = torch.softmax(SMALL(torch.tensor([text + list(step.drafted)]))[0, len(text) - 1 : -1], -1)
            sure = [float(row[token]) >= confidence for row, token in zip(p, step.drafted, strict=True)]
            assert all(sure[:-1])
            room = LENGTH + len(PROMPT) - len(text) - 1
            assert len(sure) == min(6, room) or not sure[-1]
            seen.add((len(sure) > 1, sure[-1:] == [False]))
    assert {(True, True), (False, True)} <= seen


def check_self_speculation():
    """Drafts are greedy tokens of the first layers under the model's own head."""
    for text, step in rounds(SelfSpeculative(2, 3)):
        for i, token in enumerate(step.drafted):
            states = list(TARGET.layer_outputs(torch.tensor([text + list(step.drafted[:i])])))[1][0, -1]
            assert token == int(TARGET.head(states).argmax())


def check_heads():
    """Chain and tree: each node is its head's guess of its rank, from the state that named the last token."""
    heads = random_heads()
    for paths in (BUSHY, [(0,), (0, 0), (0, 0, 0)], [(3,), (0,), (3, 1)]):
        for text, step in rounds(Blockwise(heads, paths)):
            best = heads.logits(TARGET, hidden_after(text), torch.tensor(text[-1])).topk(4, dim=-1).indices
            room = LENGTH + len(PROMPT) - len(text) - 1
            nodes = [path for path in sorted(paths, key=lambda path: (len(path), path)) if len(path) <= room]
            assert list(step.drafted) == [int(best[len(path) - 1, path[-1]]) for path in nodes]
            if step.parents is not None:
                assert list(step.parents) == [nodes.index(path[:-1]) if path[:-1] else -1 for path in nodes]
            else:
                assert all(set(path) == {0} for path in nodes)


def check_recurrent():
    """Token by token: the state goes on with each drafted token; the best word by the model's own matrix and norm."""
    head = recurrent_head(list(range(1, 97, 3)))
    for text, step in rounds(RecurrentDraft(head, 3)):
        s = F.rms_norm(hidden_after(text), (24,), eps=1e-6)
        for token, before in zip(step.drafted, [text[-1], *step.drafted], strict=False):
            e = F.rms_norm(TARGET.embedding.weight[before], (24,), eps=1e-6)
            gate, up = (head.gate_up @ torch.cat((s, e))).chunk(2)
            s = F.rms_norm(s + head.down @ (F.silu(gate) * up), (24,), eps=1e-6)
            logits = TARGET.vocabulary(s * TARGET.norm.weight)[head.words] + head.bias
            assert token == head.words[int(logits.argmax())]


def check_lookup():
    """Against brute force on random texts: longest n-gram first, then the latest with enough after it."""
    lookup = prompt_lookup.lookup
    assert lookup([1, 2, 3, 9, 1, 2, 3, 7, 5, 1, 2, 3], 2, 3) == [7, 5]
    assert lookup([1, 2, 3], 4, 3) == []
    assert lookup([7, 7, 7, 7], 2, 1) == [7, 7]
    assert lookup([1, 2, 9, 3, 2], 2, 3) == [9, 3] and lookup([1, 2, 9, 3, 2], 2, 3, 2) == []
    assert lookup([1, 2, 9, 1, 2], 1, 3, 2) == [9]
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        text = torch.randint(3, (int(torch.randint(1, 14, (), generator=generator)),), generator=generator).tolist()
        found = []
        for n in range(min(3, len(text) - 1), 0, -1):
            after = [text[i + n : i + n + 3] for i in range(len(text) - n) if text[i : i + n] == text[-n:]]
            longest = max(map(len, after), default=0)
            found = next((tokens for tokens in reversed(after) if len(tokens) == longest), [])
            if found:
                break
        assert lookup(text, 3, 3) == found, text


def check_chosen_tree():
    """Against all trees of so many nodes, by the expected number of accepted tokens; parents come before children."""
    accuracy = torch.tensor([[0.6, 0.2, 0.1], [0.5, 0.3, 0.05]])
    paths = [(a,) for a in range(3)] + [(a, b) for a in range(3) for b in range(3)]
    chance = lambda path: float(torch.stack([accuracy[k, rank] for k, rank in enumerate(path)]).prod())     # noqa: E731
    for nodes in (1, 2, 4, 6):
        trees = [tree for tree in itertools.combinations(paths, nodes)
                 if all(p[:-1] in tree or len(p) == 1 for p in tree)]
        best = max(sum(map(chance, tree)) for tree in trees)
        chosen = blockwise.choose_tree(accuracy, nodes)
        assert abs(sum(map(chance, chosen)) - best) < 1e-6 and len(chosen) == nodes
        assert all(len(p) == 1 or p[:-1] in chosen[:i] for i, p in enumerate(chosen))
        Blockwise(random_heads(count=2), chosen)


CHECKS = {check.__name__: check for check in (
    check_draft_model, check_draft_cache, check_schedule, check_confidence, check_self_speculation, check_heads,
    check_recurrent, check_lookup, check_chosen_tree)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check_holds(check):
    """Guards guesses that are worse than they should be; see each check."""
    check()


@pytest.mark.parametrize("mutant", mutants.PROPOSERS, ids=str)
def test_mutant_is_rejected(mutant, monkeypatch):
    """Guards checks that let a wrong proposer pass."""
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[mutant.check]()


@pytest.mark.parametrize(("call", "says"), [
    (lambda: DraftModel(SMALL, 0), "num_tokens must be a whole number of at least 1; it is 0"),
    (lambda: DraftModel(SMALL, True), "num_tokens must be a whole number"),
    (lambda: DraftModel(SMALL, 2, schedule="lazy"), "schedule is"),
    (lambda: DraftModel(SMALL, 2, confidence=1.0), "confidence lies in"),
    (lambda: DraftModel(SMALL, 2, confidence=float("nan")), "confidence lies in"),
    (lambda: Blockwise(random_heads(), [(0, 0)]), "what it continues must be in the tree"),
    (lambda: Blockwise(random_heads(count=1), [(0,), (0, 0)]), "at most as deep as there are heads"),
    (lambda: Blockwise(random_heads(), []), "1 to 64 different paths"),
    (lambda: spec.speculative(TARGET, [5], 4, Blockwise(random_heads(width=8))), "width 8"),
    (lambda: Blockwise(random_heads(), [(0,), (0,)]), "different paths; this one has 2"),
    (lambda: Blockwise(random_heads(), [(rank,) for rank in range(65)]), "1 to 64 different paths"),
    (lambda: Blockwise(random_heads(), [(0,), (-1,)]), "of ranks from 0"),
    (lambda: Blockwise(random_heads(), [0, 1]), "a list of paths of ranks"),
    (lambda: Blockwise(random_heads(), [(0.5,)]), "a list of paths of ranks"),
    (lambda: spec.speculative(TARGET, [5], 4, Blockwise(random_heads(), [(97,)])), "rank 97, and the"),
    (lambda: choose_tree(torch.ones(2, 2), 0), "at least one node"),
    (lambda: choose_tree(torch.ones(2, 2), 2.0), "as a whole number"),
    (lambda: choose_tree(torch.ones(4), 2), "accuracies[K, R]"),
    (lambda: choose_tree(torch.ones(0, 3), 2), "accuracies[K, R]"),
    (lambda: choose_tree(torch.tensor([[0.5, float("nan")]]), 2), "in [0, 1]"),
    (lambda: choose_tree(torch.tensor([[0.5, 1.5]]), 2), "in [0, 1]"),
    (lambda: PromptLookup(0), "num_tokens"),
    (lambda: PromptLookup(4, 0), "ngram"),
    (lambda: PromptLookup(4, 2, 3), "min_ngram, 3, is more than ngram, 2"),
    (lambda: SelfSpeculative(0), "exit_layer"),
    (lambda: SelfSpeculative(2, 0), "num_tokens"),
    (lambda: spec.speculative(TARGET, [5], 4, SelfSpeculative(4)), "below the model's 4 layers"),
    (lambda: RecurrentDraft(recurrent_head([1, 2]), 0), "num_tokens must be a whole number"),
    (lambda: spec.speculative(TARGET, [5], 4, RecurrentDraft(recurrent_head([1], 8))), "width 8"),
])
def test_bad_input(call, says):
    """Guards a proposer that fails deep in a run, or drafts nonsense."""
    assert_clear_error(call, ValueError, says)
