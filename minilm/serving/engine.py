"""The serving loop: many requests at once, on paged memory, with continuous batching.

Each step the scheduler says who feeds what; one pass of the model serves them all; every sequence then gets its token,
or several, if it drafts. The output of a request does not depend on who else is there.
"""
import copy
import warnings
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from minilm.decoding.speculative import Chain, Draft, Proposer, SpeculativePass, check_draft, decide
from minilm.generation import Generation, Pass, Recorder
from minilm.model import GPT
from minilm.sampling import Sampling, choose
from minilm.serving.beam import beam_step
from minilm.serving.blocks import BlockTable, prefix_keys
from minilm.serving.checks import check_add, check_engine, check_size
from minilm.serving.paged_cache import Feed, PagedBatch, PagedCache, PagedSequence
from minilm.serving.request import Request, Sequence, Step
from minilm.serving.scheduler import Scheduler, Work


class Engine:
    """Serves requests with one model. Greedy and sampled output is what `decoding` gives for each request alone; with
    a proposer, sampled output has the same law, but which tokens are drawn depends on how many drafts there was room
    for.

    num_blocks · block_size tokens of keys and values, for all.  max_batch_tokens: the most tokens of one pass; longer
    prompts are read in chunks.  preemption: "recompute" or "swap", into `swap_blocks` blocks of host memory (default:
    as many as there are).  prefix_caching: texts that begin alike share full blocks, also after their request is done.
    proposer: any drafter of `decoding`; each sequence gets a copy, which drafts up to `max_drafts` tokens when blocks
    are to spare.  watch: called with each `Step`.
    """

    def __init__(self, model: GPT, *, block_size: int = 16, num_blocks: int, max_batch_tokens: int = 512,
                 proposer: Proposer | None = None, max_drafts: int = 8, preemption: str = "recompute",
                 swap_blocks: int | None = None, prefix_caching: bool = True,
                 watch: Callable[[Step], None] | None = None):
        swap_blocks = num_blocks if swap_blocks is None else swap_blocks
        check_engine(model, proposer, preemption, watch, prefix_caching, {
            "num_blocks": (num_blocks, 1), "block_size": (block_size, 1), "max_batch_tokens": (max_batch_tokens, 1),
            "max_drafts": (max_drafts, 0), "swap_blocks": (swap_blocks, 0 if preemption == "recompute" else 1)})
        self.model, self.proposer, self.watch = model, proposer, watch
        self.cache = PagedCache(model.config, num_blocks, block_size, dtype=model.dtype, device=model.device)
        self.pool = self.cache.pool
        self.swap_blocks = swap_blocks
        self.scheduler = Scheduler(self.cache, max_batch_tokens=max_batch_tokens, preemption=preemption,
                                   swap_blocks=swap_blocks, max_drafts=0 if proposer is None else max_drafts,
                                   prefix_caching=prefix_caching,
                                   tell=lambda event, name: self._events.append((event, name)))
        self.requests: dict[int, Request] = {}
        self._events: list[tuple[str, str]] = []
        self._news: deque[tuple[Request, int, list[int]]] = deque()     # what callbacks have not been told yet
        self._busy = False
        if proposer is not None:                                        # a misfit shows here, not in the first request
            self._proposer(BlockTable(self.pool))

    def add(self, prompt: list[int], max_new_tokens: int, sampling: Sampling = Sampling(), n: int = 1, *,
            beams: int = 0, eos: int | None = None, seed: int = 0,
            callback: Callable[[int, int, list[int]], None] | None = None) -> int:
        """Queue a request and return its id.

        n: how many samples of the prompt, sample i drawn with the seed `seed` + i; with `beams` (at least n), the best
        n texts of a beam search. callback(id, sample, new tokens): called at the end of the step that made them (not
        with beams); it may add and cancel requests. If it raises, its request ends there, and no other. Raises
        TypeError or ValueError for what can't be served.
        """
        request = Request(len(self.requests), prompt, max_new_tokens, sampling, n, beams, eos, seed, callback)
        check_add(self.model, request)
        request.prompt = list(prompt)                                   # the caller may go on with theirs
        check_size(request, self.pool.block_size, self.pool.num_blocks,
                   self.swap_blocks if self.scheduler.preemption == "swap" else None)
        self.requests[request.id] = request
        first = self._sequence(request, 0, Recorder(prompt, max_new_tokens, eos), BlockTable(self.pool))
        if max_new_tokens == 0:
            request.finished = [self._sequence(request, i, first.out, first.table) for i in range(n)]
            return request.id
        request.sequences = [first]
        self.scheduler.add(request)
        return request.id

    def cancel(self, id: int) -> None:
        """End a request where it is; what it has so far is its result. Raises KeyError for an id that is unknown, and
        ValueError for one that is done."""
        if not isinstance(id, int) or id not in self.requests:
            raise KeyError(f"there is no request {id!r}; {len(self.requests)} were added, with ids from 0")
        if self.requests[id].done:
            raise ValueError(f"request {id} is done already")
        self._end(self.requests[id], "cancel")

    def step(self) -> list[int]:
        """One pass of the model; the ids of the requests that it finished. Raises RuntimeError inside a callback.

        If the pass breaks off, by an interrupt or an error of the proposer, nothing is lost: the next step takes up
        every text where it was.
        """
        if self._busy:
            raise RuntimeError("a step is under way: a callback may add and cancel requests, but not step or run")
        self._busy = True
        try:
            unfinished = self.scheduler.running + self.scheduler.waiting
            work = self._pass()
            self._deliver()
            self._report(work)
        finally:
            self._busy = False
        return [request.id for request in unfinished if request.done]

    def run(self) -> dict[int, Generation | list[Generation]]:
        """Step until all is done: {id: result}, a list of generations where n > 1 (fewer if cancelled)."""
        while self.scheduler.running or self.scheduler.waiting or self._news:
            self.step()
        return {id: request.result() for id, request in self.requests.items()}

    # ---- one step -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _pass(self) -> list[Work]:
        try:
            work = self.scheduler.schedule()
            if work:
                self._run(work)
        except BaseException:                                           # an interrupt too: notebooks have a stop button
            self.scheduler.restart()
            raise
        return work

    def _run(self, work: list[Work]) -> None:
        """Draft, one pass for all, then commit what each got."""
        drafts = [self._draft(w) for w in work]
        feeds, ids, alone = [], [], {}
        for i, (w, draft) in enumerate(zip(work, drafts, strict=True)):
            table, text = w.sequence.table, w.sequence.text
            tokens = text[table.length : table.length + w.count] + draft.tokens
            if draft.tokens and type(w.sequence.proposer).verify is not Chain.verify:
                alone[i] = tokens                               # it verifies in a way of its own
                continue
            feeds.append(Feed(table, len(tokens), draft.rooted))
            ids += tokens
        contexts = [w.sequence.table.length for w in work]
        states = iter(())
        if feeds:
            batch = self.model.hidden(torch.tensor([ids], device=self.model.device), PagedBatch(self.cache, feeds))[0]
            states = iter(batch.split([feed.count for feed in feeds]))
        for i, (w, draft) in enumerate(zip(work, drafts, strict=True)):
            if i in alone:
                view = PagedSequence(self.cache, w.sequence.table)
                if draft.parents is not None:
                    view.branch(draft.rooted)
                own = w.sequence.proposer.verify(self.model, view, alone[i])
            else:
                own = next(states)
            self._commit(w.sequence, draft, own, contexts[i])
        for request in {w.sequence.request.id: w.sequence.request for w in work}.values():
            if request.beams:
                self._beam_step(request)

    def _draft(self, work: Work) -> Draft:
        sequence, request = work.sequence, work.sequence.request
        room = min(request.max_new_tokens - len(sequence.out.tokens) - 1, work.drafts)
        if room < 1:
            return Draft()
        if sequence.proposer is None:
            sequence.proposer = self._proposer(sequence.table)
        draft = sequence.proposer.propose(sequence.text, room, sequence.hidden, request.sampling, sequence.generator)
        check_draft(draft, room, "rejection")
        if len(draft.tokens) > work.drafts:                     # a tree that is too large: its first nodes are a tree
            draft = Draft(draft.tokens[: work.drafts], None, draft.parents[: work.drafts])
        work.drafts = len(draft.tokens)
        return draft

    def _commit(self, sequence: Sequence, draft: Draft, states: Tensor, context: int) -> None:
        """Keep what was accepted, in the cache and in the text; states[tokens fed, d]."""
        request, table = sequence.request, sequence.table
        if draft.tokens:
            path, last = decide(self.model.head(states), draft, request.sampling, "rejection", sequence.generator)
            PagedSequence(self.cache, table).keep(context, [0, *(node + 1 for node in path)])
            sequence.hidden = states[path[-1] + 1 if path else 0]
            tokens = [*(draft.tokens[node] for node in path), last]
            self._emit(sequence, len(states), context, tokens, draft, path)
        elif sequence.pending:                                  # a chunk of the prompt, and not its last
            self._remember(sequence)
        elif request.beams:
            sequence.logits = self.model.head(states[-1])
        else:
            sequence.hidden, logits = states[-1], self.model.head(states[-1])
            if not sequence.out.tokens and sequence.index == 0:
                self._fork(sequence, logits)
            token = choose(logits, request.sampling, sequence.generator)
            self._emit(sequence, len(states), context, [token], draft, [])

    def _emit(self, sequence: Sequence, fed: int, context: int, tokens: list[int], draft: Draft,
              path: list[int]) -> None:
        request = sequence.request
        new = sequence.out.emit(fed, context, tokens, SpeculativePass, drafted=tuple(draft.tokens),
                                accepted=tuple(path), parents=None if draft.parents is None else tuple(draft.parents))
        sequence.table.trim()
        self._remember(sequence)
        if sequence.out.done:
            self._finish(sequence)
        if request.callback is not None:
            self._news.append((request, sequence.index, list(new)))

    def _deliver(self) -> None:
        """Tell callbacks of new tokens, now that everything is in order and they may change it."""
        while self._news:
            request, index, tokens = self._news.popleft()
            if request.callback is None:                                # cancelled meanwhile
                continue
            try:
                request.callback(request.id, index, tokens)
            except Exception as error:                          # a user's mistake must not end the others' service
                request.error, request.callback = error, None
                if not request.done:
                    self._end(request, "cancel")
                warnings.warn(f"the callback of request {request.id} raised {type(error).__name__}: {error}; the "
                              "request ends here, the others go on", RuntimeWarning, stacklevel=4)

    def _report(self, work: list[Work]) -> None:
        events, self._events = self._events, []
        if self.watch is not None:
            held = sum(s.table.length for request in self.scheduler.running for s in request.sequences)
            self.watch(Step([(w.sequence.name, w.count + w.drafts) for w in work], events,
                            self.pool.num_blocks - self.pool.num_free, held, len(self.scheduler.waiting)))

    def _fork(self, first: Sequence, logits: Tensor) -> None:
        """The prompt is read: the other samples begin, sharing all of its blocks, each with its own first token."""
        request = first.request
        for index in range(1, request.n):
            out = Recorder(request.prompt, request.max_new_tokens, request.eos)
            child = self._sequence(request, index, out, first.table.fork())
            child.hidden = first.hidden
            request.sequences.append(child)
            self._events.append(("fork", child.name))
            token = choose(logits, request.sampling, child.generator)
            self._emit(child, 0, first.table.length, [token], Draft(), [])

    def _beam_step(self, request: Request) -> None:
        """When every beam has its logits: the best continuations live on, each in a fork of its parent's blocks."""
        beams = request.sequences
        if any(sequence.logits is None for sequence in beams):
            return
        scores = torch.tensor([s.score for s in beams], dtype=torch.float64, device=self.model.device)
        log_probs = torch.stack([s.logits for s in beams]).double().log_softmax(-1)
        width = request.beams - len(request.finished)
        request.sequences = []
        for index, (parent, token, score) in enumerate(zip(*beam_step(scores, log_probs, width), strict=True)):
            out = copy.deepcopy(beams[parent].out)
            child = self._sequence(request, index, out, beams[parent].table.fork())
            child.score, child.keys = score, list(beams[parent].keys)
            out.emit(1, child.table.length, [token], Pass)
            request.sequences.append(child)
        for sequence in beams:
            sequence.table.free()
        for sequence in list(request.sequences):
            self._remember(sequence)
            if sequence.out.done:
                self._finish(sequence)

    def _finish(self, sequence: Sequence) -> None:
        sequence.table.free()
        sequence.retire()
        sequence.request.sequences.remove(sequence)
        sequence.request.finished.append(sequence)
        self._events.append(("finish", sequence.name))
        if sequence.request.done:
            self.scheduler.drop(sequence.request)

    def _end(self, request: Request, event: str) -> None:
        self.scheduler.drop(request)
        for sequence in request.sequences:
            sequence.retire()
        request.finished += request.sequences
        request.sequences, request.callback = [], None
        self._events.append((event, str(request.id)))

    def _remember(self, sequence: Sequence) -> None:
        """Let others find the full blocks of what is in the cache, which holds accepted tokens only."""
        if self.scheduler.prefix_caching:
            held = sequence.text[: sequence.table.length]
            sequence.keys = prefix_keys(held, self.pool.block_size, sequence.keys[: len(held) // self.pool.block_size])
            sequence.table.remember(sequence.keys)

    def _sequence(self, request: Request, index: int, out: Recorder, table: BlockTable) -> Sequence:
        generator = torch.Generator(self.model.device).manual_seed(request.seed + index)
        return Sequence(request, index, table, out, generator)

    def _proposer(self, table: BlockTable) -> Proposer:
        """A drafter for one sequence, made when it first drafts: it may hold a cache of its own."""
        proposer = copy.copy(self.proposer)
        proposer.start(self.model, PagedSequence(self.cache, table))
        return proposer
