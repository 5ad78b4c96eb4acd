"""Wrong versions of Jacobi, of lookahead decoding and of the trie, each a single edit; checks must reject every one."""
import importlib

from mutants.early_exit import edit

la = importlib.import_module("minilm.decoding.lookahead")
trie = importlib.import_module("minilm.decoding.proposers.trie")
JACOBI, TRACE, MASK, LAW, GREEDY = "check_jacobi", "check_trace", "check_mask", "check_law", "check_greedy"
RIGHT, LOOP, BOTH = "check_jacobi_takes_what_is_right", (la, "lookahead"), (la, "both_branches")
LOOKAHEAD = [
    # Jacobi
    edit("a new guess is taken before it is right", JACOBI, la, "jacobi", "right + 1, len", "right + 2, len"),
    edit("only what was guessed is kept", RIGHT, la, "jacobi", "min(right + 1, len(guess))", "max(right, 1)"),
    edit("one token a pass, whatever is right", RIGHT, la, "jacobi", "min(right + 1, len(guess))", "1"),
    edit("the old guess is kept", JACOBI, la, "jacobi", "guess = renewed[fixed:]", "guess = guess[fixed:]"),
    edit("the whole guess stays in the cache", JACOBI, la, "jacobi", "cache.truncate(context + fixed)", "pass"),
    edit("the last token is read over again", JACOBI, la, "jacobi", "cache.truncate(context + fixed)",
         "cache.truncate(context + fixed - 1)"),
    edit("each block begins anew before the last is done", JACOBI, la, "jacobi", "guess = renewed[fixed:]",
         "guess = []"),
    # the window
    edit("a column continues its left neighbour", MASK, la.Window, "tree", "*range(len(tokens) - self.width)",
         "*(max(i - 1, 0) for i in range(len(tokens) - self.width))"),
    edit("the newer rows follow each other", MASK, la.Window, "tree",
         "[*range(-1, self.width - 1), *range(len(tokens) - self.width)]", "[*range(-1, len(tokens) - 1)]"),
    edit("all of the oldest row follow the text", MASK, la.Window, "tree", "*range(-1, self.width - 1)",
         "-1, *[0] * (self.width - 1)"),
    edit("the text's last token is not put in", TRACE, la.Window, "tree", "self.rows[0][0] = last", "pass"),
    edit("the window slides a column too far", TRACE, la.Window, "slide", "[*self.rows[1:], list(renewed)]",
         "[*(row[1:] + row[:1] for row in self.rows[1:]), list(renewed)]"),
    edit("the newest row goes instead of the oldest", "check_two_grams_are_jacobi", la.Window, "slide",
         "[*self.rows[1:], list(renewed)]", "[list(renewed), *self.rows[:-1]][: len(self.rows)][::-1]"
         " if len(self.rows) > 1 else self.rows"),
    edit("n-grams read along the rows", TRACE, la.Window, "slide", "list(zip(*self.rows, renewed, strict=True))",
         "[(*self.rows[0][: len(self.rows)], token) for token in renewed]"),
    edit("n-grams without their newest token", TRACE, la.Window, "slide", "list(zip(*self.rows, renewed, strict=True))",
         "list(zip(*self.rows, strict=True))"),
    edit("n-grams from the first guess", TRACE, la.Window, "slide", ">= len(self.rows) - 1", ">= 0"),
    edit("n-grams a pass late", TRACE, la.Window, "slide", ">= len(self.rows) - 1", ">= len(self.rows)"),
    # the pool
    edit("what is made again does not count as late", "check_pool", la.NgramPool, "add",
         "known.move_to_end(rest)", "pass"),
    edit("the latest is dropped", "check_pool", la.NgramPool, "add", "popitem(last=False)", "popitem()"),
    edit("one n-gram too many is kept", "check_pool", la.NgramPool, "add", "> self.size", "> self.size + 1"),
    edit("the oldest comes first", "check_pool", la.NgramPool, "after", "list(reversed(self._after.get(token, ())))",
         "list(self._after.get(token, ()))"),
    edit("keyed by the second token", TRACE, la.NgramPool, "add", "ngram[0], tuple(ngram[1:])",
         "ngram[1], tuple(ngram[2:])"),
    # both branches in one pass
    edit("guesses see the window", MASK, *BOTH, "first + parent if parent >= 0 else 0", "first + parent"),
    edit("guesses follow the context, not the last token", MASK, *BOTH, "if parent >= 0 else 0",
         "if parent >= 0 else -1"),
    edit("the window sees the guesses", MASK, *BOTH, "cache.branch(",
         "cache.branch(list(range(-1, first + n - 1)) if n else "),
    edit("a guess is judged by its own token", LAW, *BOTH, "states[:1], states[first : first + n]",
         "states[first : first + n], states[:1]"),
    edit("the oldest row is renewed", TRACE, *BOTH, "states[first - width : first]",
         "states[:width]"),
    # guesses
    edit("guesses do not share what they begin with", "check_merge", la, "merge", "if prefix not in where:",
         "if True:"),
    edit("each token continues the one before", "check_merge", la, "merge", "where.get(prefix[:-1], -1)",
         "len(tokens) - 2"),
    # the loop
    edit("guesses for the token before the last", TRACE, *LOOP, "pool.after(last)",
         "pool.after(([*prompt, *out.tokens])[-2])"),
    edit("guesses are not cut to the room", GREEDY, *LOOP, "guess[:room]", "guess"),
    edit("the window never rests", GREEDY, *LOOP, "room > 0 and context + reach <= cache.capacity", "True"),
    edit("the window rests a token too soon", TRACE, *LOOP, "context + reach <= cache", "context + reach < cache"),
    edit("the window's first tokens are kept", "check_cache", *LOOP, "len(branch.tokens) + node", "1 + node"),
    edit("keys are not moved", "check_cache", *LOOP,
         "cache.keep(context, [0, *(len(branch.tokens) + node for node in path)])",
         "cache.truncate(context + 1 + len(path))"),
    edit("accepted guesses lose their keys", "check_cache", *LOOP, "[0, *(len(branch.tokens) + node for node in path)]",
         "[0]"),
    edit("what is made is not remembered", TRACE, *LOOP, "pool.add(made)", "pass"),
    edit("the prompt's n-grams one token apart", TRACE, *LOOP, "prompt[i : i + ngram]",
         "prompt[i + 1 : i + 1 + ngram]"),
    edit("the prompt's last n-gram is forgotten", TRACE, *LOOP, "len(prompt) - ngram + 1 if", "len(prompt) - ngram if"),
    edit("guesses are believed", LAW, *LOOP, '= decide(logits, draft, sampling, "rejection", generator)',
         '= decide(logits, draft, sampling if room < 2 else Sampling(), "rejection", generator)'),
    edit("the sampled token is drawn from sharper odds", LAW, *LOOP, "decide(logits,", "decide(2 * logits,"),
    edit("the end token is not told to the recorder", "check_end_token", *LOOP, "max_new_tokens, eos), Ngram",
         "max_new_tokens), Ngram"),
]


RETRIEVAL, BUDGET, KEPT = "check_retrieval", "check_budget", "check_kept_texts"
TRIE = [
    # insertion
    edit("only whole n-grams are counted", RETRIEVAL, trie.Trie, "learn", "[*self._ends, self.root]", "[self.root]"),
    edit("n-grams one token too short", RETRIEVAL, trie.Trie, "learn", "< self.match + self.branch",
         "< self.match + self.branch - 1"),
    edit("n-grams one token too long", RETRIEVAL, trie.Trie, "learn", "< self.match + self.branch",
         "< self.match + self.branch + 1"),
    edit("what was learnt is learnt again", "check_shares_the_loop", trie.Trie, "learn", "self.read += 1", "pass"),
    edit("seen or not, counted once", RETRIEVAL, trie.Trie, "_count", "min(node.count + 1, end.count)", "1.0"),
    edit("the first place counts as the latest", RETRIEVAL, trie.Trie, "_count",
         "node.start = self.seen - end.depth", "node.start = self.seen - end.depth if node.start < 0 else node.start"),
    edit("later by where it ends", BUDGET, trie.Trie, "_count", "self.seen - end.depth", "self.seen"),
    # budget
    edit("no budget", BUDGET, trie.Trie, "_count", "self.size >= self.nodes", "False"),
    edit("one node over the budget", BUDGET, trie.Trie, "_count", "self.size >= self.nodes", "self.size > self.nodes"),
    edit("forgotten ends still grow", BUDGET, trie.Trie, "_count", "end.parent is None and end is not self.root",
         "False"),
    edit("the best half is forgotten", BUDGET, trie.Trie, "_squeeze", "key=lambda node: node.rank",
         "key=lambda node: (-node.depth, node.rank)"),
    edit("counts outgrow those of what they continue", BUDGET, trie.Trie, "_count",
         "min(node.count + 1, end.count)", "node.count + 1"),
    edit("counts do not fade", "check_fades", trie.Trie, "_squeeze", "self._fade()", "pass"),
    # retrieval
    edit("the shortest end that matches", RETRIEVAL, trie.Trie, "longest_end", "for end in self._ends",
         "for end in reversed(self._ends)"),
    edit("ends longer than match are looked up", RETRIEVAL, trie.Trie, "longest_end", "end.depth <= self.match and ",
         ""),
    edit("an end that nothing followed counts", RETRIEVAL, trie.Trie, "longest_end", " and end.children)", ")"),
    edit("past the limit", RETRIEVAL, trie.Trie, "retrieve", "min(self.branch, limit)", "self.branch"),
    edit("the rarest first", RETRIEVAL, trie, "best_chain", "min(node.children", "max(node.children"),
    edit("a tree one token too deep", RETRIEVAL, trie, "best_tree", "< reach", "<= reach"),
    edit("a tree one node too large", RETRIEVAL, trie, "best_tree", "< num_tokens", "<= num_tokens"),
    edit("level by level instead of best first", RETRIEVAL, trie, "best_tree", "(child.rank, child, len(tokens) - 1)",
         "((0.0, child.depth, child.rank), child, len(tokens) - 1)"),
    edit("all nodes follow the text", RETRIEVAL, trie, "best_tree", "child, len(tokens) - 1)", "child, -1)"),
    edit("one branch too many", RETRIEVAL, trie.Trie, "_parallel", "[: self.branches]", "[: self.branches + 1]"),
    edit("each branch continues the one before", RETRIEVAL, trie.Trie, "_parallel", "[-1, *range(len(tokens), ",
         "[len(tokens) - 1, *range(len(tokens), "),
    # texts
    edit("n-grams reach from text to text", KEPT, trie.Trie, "_begin", "self._ends: list[Node] = []",
         "self._ends = getattr(self, '_ends', [])"),
    edit("every text begins cold", KEPT, trie.Trie, "start", "if self.keep:", "if False:"),
    edit("every text is kept", KEPT, trie.Trie, "start", "if self.keep:", "if True:"),
    edit("earlier texts do not fade", KEPT, trie.Trie, "start", "self._fade()", "pass"),
    edit("a warm trie calls itself cold", KEPT, trie.Trie, "start", "self.warm = self.seen", "self.warm = 0"),
]
