"""Wrong versions of the speculative loop, its cache and its proposers, each a single edit; see `speculative`."""
import importlib
from collections.abc import Callable

import torch

from mutants.core import Change
from mutants.edits import edit

SPEC, GENERATION, CACHE_FILE, DRAFT, SELF, BLOCKWISE, RECURRENT, LOOKUP, SPEEDUP_FILE = (
    importlib.import_module(f"minilm.{name}") for name in (
        "decoding.speculative", "generation", "cache", "decoding.proposers.draft_model",
        "decoding.proposers.self_speculative", "decoding.proposers.blockwise", "decoding.proposers.recurrent",
        "decoding.proposers.prompt_lookup", "decoding.speedup"))

# Through the whole decoder; the "check" is the proposer with which the law of four tokens is wrong.
DECIDE, PROPOSE = (SPEC, "decide"), (DRAFT.DraftModel, "propose")
LAW = [
    edit("one uniform for all of a round", "prompt lookup", *DECIDE, "[uniform(generator) for _ in range(n + 1)]",
         "[uniform(generator)] * (n + 1)"),
    edit("p before temperature and cuts", "draft model", *DECIDE, "p = sampling.probs(logits)",
         "p = torch.softmax(logits, -1)"),
    edit("chosen drafts treated as drawn from p", "prompt lookup", *DECIDE, "if q is None:",
         "if q is None:\n        q = p[:-1]\n    if q is None:"),
    edit("a tree verified as a chain of chosen drafts", "blockwise tree", *DECIDE,
         "if draft.parents is not None:", "if False:"),
    edit("a greedy draft, a soft q", "draft model", *PROPOSE, "draw(q, uniform(generator))", "int(q.argmax())"),
    edit("q before temperature and cuts", "draft model", *PROPOSE, "probs.append(q)",
         "probs.append(torch.softmax(logits, -1))"),
    edit("drawn at another temperature", "draft model", *PROPOSE, "draw(q, uniform",
         "draw(Sampling(2.5, sampling.top_k, sampling.top_p).probs(logits), uniform"),
    edit("temperature on one side", "draft model", *PROPOSE, "probs.append(q)",
         "probs.append(Sampling(1.0, sampling.top_k, sampling.top_p).probs(logits))"),
    edit("top-k on one side", "draft model", *PROPOSE, "probs.append(q)",
         "probs.append(Sampling(sampling.temperature).probs(logits))"),
    edit("q one place late", "draft model", *PROPOSE, "torch.stack(probs)", "torch.stack(probs[:1] + probs[:-1])"),
    edit("the doubted token is dropped", "confidence stop", *PROPOSE, "        tokens.append(token)\n",
         "        if self.confidence and float(torch.softmax(logits, -1)[token]) < self.confidence:\n"
         "            probs.pop()\n            break\n        tokens.append(token)\n"),
    edit("a draft of some value is dropped", "draft model", *PROPOSE, "self.guess = text + tokens",
         "tokens, probs = (tokens[:-1], probs[:-1]) if tokens[1:] and tokens[-1] == 0 else (tokens, probs)\n"
         "    self.guess = text + tokens"),
    edit("self-speculation: a greedy draft, a soft q", "self-speculation", SELF.SelfSpeculative, "propose",
         "draw(q, uniform(generator))", "int(q.argmax())"),
    edit("self-speculation: q before temperature and cuts", "self-speculation", SELF.SelfSpeculative, "propose",
         "probs.append(q)", "probs.append(torch.softmax(logits, -1))"),
    edit("recurrent: a greedy draft, a soft q", "recurrent", RECURRENT.RecurrentDraft, "propose",
         "draw(q, uniform(generator))", "int(q.argmax())"),
    edit("recurrent: words numbered in the head's own order", "recurrent", RECURRENT.RecurrentDraft, "propose",
         "draw(q, uniform(generator))", "draw(q[self.head.words], uniform(generator)) * 2"),
    edit("recurrent: q of the words put in another order", "recurrent", RECURRENT.RecurrentDraft, "propose",
         "probs.append(q)", "probs.append(q.flip(0))"),
]

LOOP_F, EMIT = (SPEC, "speculative"), (GENERATION.Recorder, "emit")
KEEPS, BEGIN, KEEP = "cache.keep(context, [0, *(node + 1 for node in path)])", *(
    (CACHE_FILE.KVCache, name) for name in ("begin", "keep"))
TREE_LOGITS, TREE_KEEPS, CACHE_CHECK = "check_tree_logits", "check_tree_keeps", "check_cache"
S_PROPOSE, S_VERIFY = ((SELF.SelfSpeculative, name) for name in ("propose", "verify"))


def ancestors_with(says: str, change: Callable) -> Change:
    """A tree's (depths, mask) as they should be, but for `change`."""
    right = CACHE_FILE.ancestry
    return Change(says, TREE_LOGITS, CACHE_FILE, "ancestry", lambda parents: change(parents, *right(parents)))


LOOP = [
    # what stays in the cache
    edit("rejected drafts stay in the cache", CACHE_CHECK, *LOOP_F, KEEPS, "pass"),
    edit("one rejected draft stays in the cache", CACHE_CHECK, *LOOP_F, KEEPS,
         "cache.truncate(min(context + len(path) + 2, cache.length))"),
    edit("the last accepted draft leaves the cache", CACHE_CHECK, *LOOP_F, KEEPS,
         "cache.truncate(context + max(len(path), 1))"),
    edit("a tree keeps its first nodes", CACHE_CHECK, *LOOP_F, KEEPS,
         "cache.keep(context, list(range(len(path) + 1)))"),
    edit("a tree keeps the nodes before the right ones", CACHE_CHECK, *LOOP_F, "*(node + 1 for node in path)",
         "*(node for node in path)"),
    edit("keep: nothing moves", TREE_KEEPS, *KEEP, "if tokens != list(range(len(tokens))):", "if False:"),
    edit("keep: values stay behind", TREE_KEEPS, *KEEP, "self._all[..., length:end, :] = self._all[",
         "self._all[0][..., length:end, :] = self._all[0]["),
    edit("keep: the last layer stays behind", TREE_KEEPS, *KEEP, "self._all[..., length:end, :] = self._all[",
         "self._all[:, :-1][..., length:end, :] = self._all[:, :-1]["),
    edit("keep: counted from the start", TREE_KEEPS, *KEEP, "_all.device) + length", "_all.device)"),
    # a tree's pass
    edit("a tree's positions by index", TREE_LOGITS, *BEGIN, "self.length + depths.to(device)",
         "torch.arange(self.length, end)"),
    ancestors_with("a tree's depths one too large", lambda parents, depths, sees: (depths + 1, sees)),
    ancestors_with("a node does not see its ancestors", lambda parents, depths, sees: (
        depths, torch.eye(len(parents), dtype=torch.bool))),
    ancestors_with("a node sees its parent, not those above", lambda parents, depths, sees: (
        depths, torch.tensor([[j in (i, parent) for j in range(len(parents))] for i, parent in enumerate(parents)]))),
    ancestors_with("a node sees those that continue it", lambda parents, depths, sees: (depths, sees.T)),
    edit("a node sees all before it", TREE_LOGITS, *BEGIN, "= sees", "= torch.ones_like(sees).tril()"),
    edit("a tree's mask stays on", "check_yield", *BEGIN, "        self._parents = None\n", ""),
    edit("the tree hangs from the last token, not after it", "check_greedy", *LOOP_F, "draft.rooted",
         "[-1, *draft.parents]"),
    edit("a tree fed as a chain", "check_greedy", *LOOP_F, "if draft.parents is not None:\n            cache",
         "if False:\n            cache"),
    # which tokens come out
    edit("the state of the last node", "check_hidden", *LOOP_F, "states[path[-1] + 1 if path else 0]", "states[-1]"),
    edit("the state by the number of accepted tokens", "check_hidden", *LOOP_F,
         "states[path[-1] + 1 if path else 0]", "states[len(path)]"),
    edit("the state of the node before", "check_hidden", *LOOP_F, "states[path[-1] + 1 if path else 0]",
         "states[path[-1] if path else 0]"),
    edit("the token after the text, not after the path", "check_greedy", SPEC, "greedy_path",
         "return path, best[node + 1]", "return path, best[0]"),
    edit("children compared with the wrong row", "check_yield", SPEC, "greedy_path", "token == best[node + 1]",
         "token == best[child]"),
    edit("siblings of accepted nodes accepted too", "check_greedy", SPEC, "greedy_path",
         "parent == node and token", "token"),
    edit("drafts accepted unseen", "check_greedy", SPEC, "greedy_path", " and token == best[node + 1]", ""),
    edit("no draft is ever accepted", "check_yield", SPEC, "greedy_path", "token == best[node + 1]", "False"),
    edit("no token after the drafts", "check_yield", *LOOP_F, "for node in path), last]",
         "for node in path), *([] if path else [last])]"),
    # where it stops
    edit("the room is one too large", "check_greedy", *LOOP_F, "- len(out.tokens) - 1 ", "- len(out.tokens) "),
    edit("a draft as long as all that was asked for", "check_refused", SPEC, "check_draft", "max(depth) > room",
         "max(depth) > 60"),
    edit("the end token counts at a round's end only", "check_end_token", *EMIT, "self.eos in kept:",
         "self.eos == kept[-1]:"),
    edit("tokens after the end token stay", "check_end_token", *EMIT, "kept[: kept.index(self.eos) + 1]", "kept"),
    edit("the end token is cut away", "check_end_token", *EMIT, "kept[: kept.index(self.eos) + 1]",
         "kept[: kept.index(self.eos)]"),
    edit("rounds overrun the limit", "check_greedy", *EMIT, "tokens[: self.max_new_tokens - len(self.tokens)]",
         "tokens + tokens[-1:] * (len(self.tokens) == self.max_new_tokens - 1)"),
    # self-speculation, which shares the target's cache
    edit("self-speculation: the last draft is not run", CACHE_CHECK, *S_VERIFY, "self._first_layers(token)",
         "self.states.append(self.states[-1])"),
    edit("self-speculation: the last draft runs at the first one's place", CACHE_CHECK, *S_VERIFY,
         "cache.length += len(self.states)", "pass"),
    edit("self-speculation: the first layers run again", "check_layers_run_once", *S_VERIFY,
         "start = cache.length\n", "start = cache.length\n    self.states = []\n"),
    edit("self-speculation: states left for the next round", "check_greedy", *S_VERIFY, "self.states = []",
         "self.states = self.states[:]"),
    edit("self-speculation: the upper layers see no drafts", "check_greedy", *S_VERIFY, "self.exit_layer, model",
         "self.exit_layer + 1, model"),
    # what a proposer may hand over
    edit("a tree of drawn tokens passes", "check_refused", SPEC, "check_draft", "if draft.probs is not None:",
         "if False:"),
    edit("a tree under a chain's rule passes", "check_refused", SPEC, "check_draft", 'if rule != "rejection":',
         "if False:"),
    edit("too large a tree passes", "check_refused", SPEC, "check_draft", "len(draft.tokens) > SPARE", "False"),
    edit("a node before its parent passes", "check_refused", SPEC, "check_draft",
         "verify.check_parents(draft.parents, len(draft.tokens))", "pass"),
]

HEADS_F, RECUR, LOOK, CHOOSE = ((BLOCKWISE.Blockwise, "propose"), (RECURRENT.RecurrentDraft, "propose"),
                                (LOOKUP, "lookup"), (BLOCKWISE, "choose_tree"))
PROPOSERS = [
    edit("the draft's cache has a hole after a round accepted whole", "check_draft_model", *PROPOSE,
         "feed = text[len(self.read):]", "feed = text[len(self.read):][-1:] if self.read else text"),
    edit("rejected drafts stay in the draft's cache", "check_draft_cache", *PROPOSE, "self.cache.truncate(shared)",
         "pass"),
    edit("rejected drafts stay among what was read", "check_draft_model", *PROPOSE, "del self.read[shared:]", "pass"),
    edit("the draft reads its last token twice", "check_draft_model", *PROPOSE, "feed = [token]",
         "feed = [token] if len(tokens) > 1 else [token, token]"),
    edit("one draft too few", "check_draft_model", *PROPOSE, "limit = min(self.length, limit,",
         "limit = min(self.length - 1, limit,"),
    edit("heuristic: one more, not two", "check_schedule", *PROPOSE, "self.length + 2", "self.length + 1"),
    edit("heuristic: down to zero", "check_schedule", *PROPOSE, "max(1, self.length - 1)", "max(0, self.length - 1)"),
    edit("heuristic: longer after any acceptance", "check_schedule", *PROPOSE, "== len(self.guess)",
         "> len(self.guess) - self.length"),
    edit("heuristic: never shorter", "check_schedule", *PROPOSE, "else max(1, self.length - 1)", "else self.length"),
    edit("confidence: stops after a sure token", "check_confidence", *PROPOSE, "< self.confidence:",
         ">= self.confidence:"),
    edit("confidence: of the likeliest token's rival", "check_confidence", *PROPOSE,
         "float(torch.softmax(logits, -1)[token])", "float(torch.softmax(logits, -1).topk(2).values[1])"),
    edit("self-speculation: one layer too few", "check_self_speculation", SELF.SelfSpeculative, "_first_layers",
         "range(self.exit_layer)", "range(self.exit_layer - 1)"),
    edit("self-speculation: drafts the least likely", "check_self_speculation", SELF.SelfSpeculative, "propose",
         "feed = int(logits.argmax())", "feed = int(logits.argmin())"),
    edit("heads shifted by one", "check_heads", *HEADS_F, "best[len(path) - 1][path[-1]]",
         "best[len(path) - 2][path[-1]]"),
    edit("each node its head's best guess", "check_heads", *HEADS_F, "[path[-1]]", "[0]"),
    edit("ranks of the parent", "check_heads", *HEADS_F, "[path[-1]]", "[path[0]]"),
    edit("all nodes hang from the text", "check_heads", *HEADS_F, "where.get(path[:-1], -1)", "-1"),
    edit("a tree of first ranks alone is called a chain", "check_heads", *HEADS_F, "all(set(path)", "any(set(path)"),
    edit("recurrent: the state is not carried on", "check_recurrent", *RECUR, "state = self.head.step(state,",
         "self.head.step(state,"),
    edit("recurrent: always the text's last token", "check_recurrent", *RECUR, "self.model.embedding(last)",
         "self.model.embedding(torch.tensor(text[-1]))"),
    edit("recurrent: the state as it comes", "check_recurrent", *RECUR, "normalised(hidden)", "hidden"),
    edit("recurrent: without its bias", "check_recurrent", *RECUR, "self.rows, self.head.bias", "self.rows"),
    edit("recurrent: a word's place for its id", "check_recurrent", *RECUR, "self.head.words[logits.argmax()]",
         "logits.argmax()"),
    edit("recurrent: rows without the norm's weight", "check_recurrent", RECURRENT.RecurrentHead, "vocabulary",
         " * model.norm.weight.detach()", ""),
    edit("recurrent: gate and up swapped", "check_recurrent", RECURRENT.RecurrentHead, "step", "gate, up =",
         "up, gate ="),
    edit("recurrent: token before state", "check_recurrent", RECURRENT.RecurrentHead, "step",
         "(state, normalised(embedded))", "(normalised(embedded), state)"),
    edit("lookup: shortest first", "check_lookup", *LOOK, "range(min(ngram, len(text) - 1), min_ngram - 1, -1)",
         "range(1, min(ngram, len(text) - 1) + 1)"),
    edit("lookup: min_ngram ignored", "check_lookup", *LOOK, "min_ngram - 1, -1)", "0, -1)"),
    edit("lookup: the earliest wins", "check_lookup", *LOOK, "range(len(text) - n - 1, -1, -1)",
         "range(len(text) - n)"),
    edit("lookup: the first token is never tried", "check_lookup", *LOOK, "- n - 1, -1, -1", "- n - 1, 0, -1"),
    edit("lookup: drafts the n-gram itself", "check_lookup", *LOOK, "text[start + n : start + n + num_tokens]",
         "text[start : start + num_tokens]"),
    edit("lookup: too many tokens", "check_lookup", *LOOK, "start + n + num_tokens]", "start + n + num_tokens + 1]"),
    edit("tree: chances added", "check_chosen_tree", *CHOOSE, "chance * share", "chance + share"),
    edit("tree: a path's chance is its last guess's", "check_chosen_tree", *CHOOSE, "chance * share", "share"),
    edit("tree: the unlikeliest first", "check_chosen_tree", *CHOOSE, "max(open_paths", "min(open_paths"),
    edit("tree: one level", "check_chosen_tree", *CHOOSE, "if len(path) < len(chances):", "if False:"),
    edit("tree: one node too many", "check_chosen_tree", *CHOOSE, "len(chosen) < nodes", "len(chosen) <= nodes"),
]

TOKENS, RUNGS = "check_expected_tokens", (SPEEDUP_FILE, "rungs")
SPEEDUP = [
    edit("no bonus token", TOKENS, SPEEDUP_FILE, "expected_tokens", "alpha ** (gamma + 1)", "alpha**gamma"),
    edit("at α = 1 no bonus token", TOKENS, SPEEDUP_FILE, "expected_tokens", "gamma + 1.0 if", "gamma + 0.0 if"),
    edit("the draft is free", "check_walltime_factor", SPEEDUP_FILE, "walltime_factor", "(gamma * c + 1)", "1"),
    edit("the bonus token costs a draft pass, too", "check_walltime_factor", SPEEDUP_FILE, "walltime_factor",
         "(gamma * c + 1)", "((gamma + 1) * c + 1)"),
    edit("the ladder adds rates, not products", TOKENS, SPEEDUP_FILE, "ladder", "reach *= alpha", "reach = alpha"),
    edit("the ladder starts at 0", TOKENS, SPEEDUP_FILE, "ladder", "total, reach = 1.0", "total, reach = 0.0"),
    edit("every round counts at every rung", "check_ladder", *RUNGS, "accepted >= i - 1 for", "True for"),
    edit("rounds that never drafted so far count", "check_rungs", *RUNGS, "drafted >= i and ", ""),
    edit("a rung nobody reached counts as 0", "check_rungs", *RUNGS, "            break",
         "            came = 1"),
    edit("a round that drafted less is a refusal", "check_rungs", *RUNGS, "drafted >= i and accepted >= i - 1",
         "accepted >= i - 1"),
    edit("verification costs the same at any length", "check_best_length", SPEEDUP_FILE, "best_length", "+ seconds)",
         "+ verify_seconds[0])"),
    edit("the best length is one draft off", "check_best_length", SPEEDUP_FILE, "best_length",
         "return max(range(len(rates)), key=rates.__getitem__)",
         "return 1 + max(range(len(rates) - 1), key=rates.__getitem__)"),
    edit("at least one draft", "check_best_length", SPEEDUP_FILE, "best_length", "max(range(len", "max(range(1, len"),
    edit("NaN is a rate", "check_bad_input", SPEEDUP_FILE, "_check", "not 0 <= alpha <= 1", "alpha < 0 or alpha > 1"),
    edit("negative times pass", "check_bad_input", SPEEDUP_FILE, "walltime_factor", "if c < 0:", "if False:"),
]
