"""The serving loop: many requests at once, on paged memory, with continuous batching.

Each step the scheduler says who feeds what; one pass of the model serves them all; every sequence then gets its token,
or several, if it drafts. The output of a request does not depend on who else is there. On a GPU the next step's pass
may be under way before this one's tokens are read (`ahead`).
"""
from collections.abc import Callable
from collections.abc import Sequence as Listed

import torch
from torch import Tensor

from minilm.decoding.early_exit import ExitPass, ExitPolicy
from minilm.decoding.speculative import Draft, Proposer, SpeculativePass, decide, greedy_path
from minilm.generation import Generation, Recorder
from minilm.model import GPT
from minilm.sampling import Sampling, choose
from minilm.serving.beam import grow
from minilm.serving.blocks import BlockTable
from minilm.serving.checks import check_add, check_engine, check_size
from minilm.serving.drafting import Drafting
from minilm.serving.exits import ExitRunner
from minilm.serving.groups import kernels_fit
from minilm.serving.memory import blocks_that_fit, check_memory
from minilm.serving.news import News
from minilm.serving.paged_cache import PagedCache, PagedSequence
from minilm.serving.request import Request, Sequence, Step
from minilm.serving.runner import Rows, Runner
from minilm.serving.scheduler import Scheduler, Work
from minilm.serving.turns import Turn, turn_of

NOTHING = Draft()


class Engine:
    """Serves requests with one model. Greedy and sampled output is what `decoding` gives for each request alone; with
    a proposer, sampled output has the same law, but which tokens are drawn depends on how many drafts there was room
    for.

    num_blocks · block_size tokens of keys and values, for all; on a GPU as many as its free memory holds, unless given.
    max_batch_tokens: the most tokens of one step; longer prompts are read in chunks.  preemption: "recompute" or
    "swap", into `swap_blocks` blocks of host memory (default: as many as there are).  prefix_caching: texts that begin
    alike share full blocks, also after their request is done.  proposer: any drafter of `decoding`; each sequence gets
    a copy, which drafts up to `max_drafts` tokens when blocks are to spare.  exit_policy, exits, lens: as for
    `decoding.early_exit`, for each sequence on its own; see `exits`.  watch: called with each `Step`.  kernels: by the
    Triton kernels and recorded passes (default: on a GPU, where they know the model), or by PyTorch alone.
    """

    def __init__(self, model: GPT, *, block_size: int = 16, num_blocks: int | None = None, max_batch_tokens: int = 512,
                 proposer: Proposer | None = None, max_drafts: int = 8, preemption: str = "recompute",
                 swap_blocks: int | None = None, prefix_caching: bool = True, exit_policy: ExitPolicy | None = None,
                 exits: Listed[int] | None = None, lens: Callable[[int, Tensor], Tensor] | None = None,
                 watch: Callable[[Step], None] | None = None, kernels: bool | None = None):
        check_engine(model, proposer, exit_policy, bool(exits or lens), preemption, watch, prefix_caching, kernels, {
            "num_blocks": (num_blocks, 1), "block_size": (block_size, 1), "max_batch_tokens": (max_batch_tokens, 1),
            "max_drafts": (max_drafts, 0), "swap_blocks": (swap_blocks, 0 if preemption == "recompute" else 1)})
        if num_blocks is None:
            num_blocks = blocks_that_fit(model, block_size, max_batch_tokens)
        check_memory(model, num_blocks, block_size)
        self.model, self.watch = model, watch
        kernels = model.device.type == "cuda" and kernels_fit(model) if kernels is None else kernels
        self.cache = PagedCache(model.config, num_blocks, block_size, dtype=model.dtype, device=model.device,
                                kernels=kernels)
        self.pool = self.cache.pool
        self.swap_blocks = num_blocks if swap_blocks is None else swap_blocks
        self.scheduler = Scheduler(self.cache, max_batch_tokens=max_batch_tokens, preemption=preemption,
                                   swap_blocks=self.swap_blocks, max_drafts=0 if proposer is None else max_drafts,
                                   prefix_caching=prefix_caching, prompts_only=exit_policy is not None,
                                   tell=lambda event, name: self._events.append((event, name)))
        self.drafting = None if proposer is None else Drafting(model, self.cache, proposer)
        self.runner = (Runner(model, self.cache, keeps=proposer is not None) if exit_policy is None else
                       ExitRunner(model, self.cache, exit_policy, exits, lens))
        self.requests: dict[int, Request] = {}
        self._events: list[tuple[str, str]] = []
        self._news = News()
        self._busy = False

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
        check_add(self.model, request, isinstance(self.runner, ExitRunner))
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
            self._news.deliver(self._end)
            self._report(work)
        finally:
            self._busy = False
        return [request.id for request in unfinished if not request.sequences]

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
        drafts = [self.drafting.draft(w) if w.drafts else NOTHING for w in work]
        turns = [turn_of(w, draft, self.runner.draws) for w, draft in zip(work, drafts, strict=True)]
        made = self.runner.run(turns) if self.drafting is None else self.drafting.run(turns, self.runner)
        for turn, rows in zip(turns, made, strict=True):
            self._commit(turn, rows)
        for request in [request for request in self.scheduler.running if request.beams]:
            self._beam_step(request)

    def _commit(self, turn: Turn, rows: Rows) -> None:
        """Keep what was accepted, in the cache and in the text."""
        sequence, table, context, draft = turn.sequence, turn.table, turn.context, turn.draft
        request = sequence.request
        if draft.tokens:
            path, last = (greedy_path(rows.tokens, draft) if request.sampling.greedy else
                          decide(rows.logits, draft, request.sampling, "rejection", sequence.generator))
            PagedSequence(self.cache, table).keep(context, [0, *(node + 1 for node in path)])
            sequence.hidden = rows.state(path[-1] + 1 if path else 0)
            self._emit(sequence, rows, context, [*(draft.tokens[node] for node in path), last],
                       drafted=tuple(draft.tokens), accepted=tuple(path),
                       parents=None if draft.parents is None else tuple(draft.parents))
        elif not turn.asks:                                     # a chunk of the prompt, and not its last
            self.scheduler.remember(sequence)
        elif request.beams:
            sequence.logits = rows.logits[-1].clone()
        else:
            if self.drafting:
                sequence.hidden = rows.state(-1)
            if not sequence.out.tokens and sequence.index == 0 and request.n > 1:
                self._fork(sequence, rows)
            if self.runner.draws or request.sampling.greedy:
                token = rows.token
            else:
                token = choose(rows.logits[-1], request.sampling, sequence.generator)
            del sequence.uniforms[:1]
            self._emit(sequence, rows, context, [token])

    def _emit(self, sequence: Sequence, rows: Rows, context: int, tokens: list[int], **drafted) -> None:
        request = sequence.request
        kind, told = (SpeculativePass, drafted) if rows.told is None else (ExitPass, rows.told)
        new = sequence.out.emit(rows.count, context, tokens, kind, **told)
        if self.drafting:
            sequence.table.trim()
        self.scheduler.remember(sequence)
        if sequence.out.done:
            self._finish(sequence)
        if request.callback is not None:
            self._news.add(request, sequence.index, list(new))

    def _report(self, work: list[Work]) -> None:
        events, self._events = self._events, []
        if self.watch is not None:
            held = sum(s.table.length for request in self.scheduler.running for s in request.sequences)
            self.watch(Step([(w.sequence.name, w.count + w.drafts) for w in work], events,
                            self.pool.num_blocks - self.pool.num_free, held, len(self.scheduler.waiting)))

    def _fork(self, first: Sequence, rows: Rows) -> None:
        """The prompt is read: the other samples begin, sharing all of its blocks, each with its own first token."""
        request = first.request
        for index in range(1, request.n):
            out = Recorder(request.prompt, request.max_new_tokens, request.eos)
            child = self._sequence(request, index, out, first.table.fork())
            child.hidden = first.hidden
            request.sequences.append(child)
            self._events.append(("fork", child.name))
            token = choose(rows.logits[-1], request.sampling, child.generator)
            self._emit(child, Rows(rows.made, 0, 0, 0, 0, rows.told), first.table.length, [token])

    def _beam_step(self, request: Request) -> None:
        """When every beam has its logits: the best continuations live on, each in a fork of its parent's blocks."""
        beams = request.sequences
        if any(sequence.logits is None for sequence in beams):
            return
        request.sequences = grow(beams, request.beams - len(request.finished), self._sequence)
        for sequence in beams:
            sequence.table.free()
        for sequence in list(request.sequences):
            self.scheduler.remember(sequence)
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

    def _sequence(self, request: Request, index: int, out: Recorder, table: BlockTable) -> Sequence:
        generator = torch.Generator().manual_seed(request.seed + index)         # on the host: the same on every device
        return Sequence(request, index, table, out, generator)
