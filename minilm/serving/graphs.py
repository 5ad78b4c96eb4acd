"""Decode and verify steps as CUDA graphs: passes of fixed size, recorded on first use and then sent in one call.

A decoding step of many sequences is small for a GPU, and Python cannot ask for its kernels as fast as they run. So the
number of sequences, of tokens that each feeds, and of blocks that a table may have are rounded up to a few sizes, with
a graph for each. What changes from step to step travels in one piece, and the tokens come back in one piece; the next
pass may begin before they are read (`ahead`). What pads a pass writes to a block that is nobody's, and nobody sees it.

Without a GPU the same passes run unrecorded, under Triton's interpreter: a way to test them.
"""
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from minilm.cache import ancestry
from minilm.captured import record_graph, size_for
from minilm.kernels import paged_attention
from minilm.model import GPT
from minilm.sampling import Sampling
from minilm.serving.blocks import BlockTable
from minilm.serving.groups import LARGEST_TREE
from minilm.serving.paged_cache import PagedCache
from minilm.serving.turns import Turn

MOST_ROWS = 512                 # of a recorded pass; more are so much work that launching them costs nothing beside it
ROWS_OF_LAYERS = 64             # up to which `DecodeLayers`, which then reads every weight once, is the faster way
LEAST_REACH = 256               # tokens: shorter tables save nothing
GREEDY = Sampling()

FIELDS = {"ids": np.int64, "rows": np.int64, "positions": np.int64, "slots": np.int64, "lengths": np.int32,
          "tables": np.int32, "temperature": np.float64, "top_k": np.int32, "top_p": np.float64,
          "uniforms": np.float64, "sees": np.bool_}


class Staging:
    """A step's numbers in one piece of memory on the host, and its twin on the device: `host` and `there` by name."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], device: torch.device):
        sizes = {name: -(-int(np.prod(shape)) * np.dtype(FIELDS[name]).itemsize // 16) * 16
                 for name, shape in shapes.items()}
        self.row = torch.zeros(sum(sizes.values()), dtype=torch.uint8)
        self.row = self.row.pin_memory() if device.type == "cuda" else self.row
        self.twin = self.row.to(device)
        self.sent = torch.cuda.Event() if device.type == "cuda" else None
        self.host: dict[str, np.ndarray] = {}
        self.there: dict[str, Tensor] = {}
        start = 0
        for name, shape in shapes.items():
            end = start + int(np.prod(shape)) * np.dtype(FIELDS[name]).itemsize
            self.host[name] = self.row[start:end].numpy().view(FIELDS[name]).reshape(shape)
            kind = torch.from_numpy(self.host[name]).dtype
            self.there[name] = self.twin[start:end].view(kind).view(shape)
            start += sizes[name]

    def wait(self) -> None:
        """Until what was sent last has left, and may be written over."""
        if self.sent is not None:
            self.sent.synchronize()

    def send(self) -> None:
        self.twin.copy_(self.row, non_blocking=True)
        if self.sent is not None:
            self.sent.record()


class Recorded:
    """One pass: `batch` sequences of m tokens with tables of `width` blocks; to the model, the cache it runs with."""

    def __init__(self, owner: "Graphs", batch: int, m: int, width: int, tree: bool, drawn: bool):
        self.model, self.cache, self.pool = owner.model, owner.cache, owner.pool
        self.batch, self.m, self.width, self.drawn = batch, m, width, drawn
        N = batch * m
        shapes = {"ids": (batch, m), "positions": (batch, m), "slots": (batch, m), "lengths": (batch,),
                  "tables": (batch, width)}
        shapes |= dict.fromkeys(("temperature", "top_k", "top_p", "uniforms"), (batch,)) if drawn else {}
        shapes |= {"sees": (batch, m, m)} if tree else {"rows": (batch,)} if m == 1 else {}
        self.staging = Staging(shapes, owner.cache.device)
        self.positions, self.slots = (self.staging.there[name].view(-1) for name in ("positions", "slots"))
        self.tables, self.lengths = self.staging.there["tables"], self.staging.there["lengths"]
        self.sees = self.staging.there.get("sees")
        self.layers, self.many = owner.layers if N <= ROWS_OF_LAYERS else None, owner.many
        self.versions: list[int] = []                                           # of the tables in `staging`
        self.graph: torch.cuda.CUDAGraph | None = None

    def start(self, turns: list[Turn], after: "UnderWay | None" = None, rows: Sequence[int] = ()) -> "UnderWay":
        """Let the device begin, without waiting for it. after: feed what that pass, not read yet, chose in `rows`."""
        self.staging.wait()
        self._fill(turns)
        if after is not None:
            self.staging.host["rows"].fill(0)
            self.staging.host["rows"][: len(rows)] = rows
        self.staging.send()
        if after is not None:
            there = self.staging.there
            torch.index_select(after.chosen, 0, there["rows"], out=there["ids"].view(-1))
        if self.pool is None:
            self._run()
        else:
            if self.graph is None:
                self.graph, _ = record_graph(self._run, self.pool)
            self.graph.replay()
        return UnderWay(self)

    def _fill(self, turns: list[Turn]) -> None:
        host, b, m, size = self.staging.host, len(turns), self.m, self.cache.pool.block_size
        tables = host["tables"]
        self._fill_tables(tables, [turn.table for turn in turns])
        held = np.array([turn.context for turn in turns])[:, None]
        places = held + np.arange(m)                                            # (b, m)
        slots = tables[np.arange(b)[:, None], places // size].astype(np.int64) * size + places % size
        host["ids"].fill(0)
        if m == 1:
            host["ids"][:b, 0] = [turn.ids[0] for turn in turns]
        else:
            counts = np.array([len(turn.ids) for turn in turns])[:, None]
            slots = np.where(np.arange(m) < counts, slots, self.cache.scrap * size)
            places = np.where(np.arange(m) < counts, places, 0)
            for row, turn in zip(host["ids"], turns, strict=False):
                row[: len(turn.ids)] = turn.ids
        host["positions"][:b], host["positions"][b:] = places, 0
        host["slots"][:b], host["slots"][b:] = slots, self.cache.scrap * size
        host["lengths"][:b], host["lengths"][b:] = held[:, 0] + m, 0
        if self.sees is not None:
            self._fill_trees(turns)
        if self.drawn:
            draws = [turn.draw or (GREEDY, 0.0) for turn in turns] + [(GREEDY, 0.0)] * (self.batch - b)
            for name in ("temperature", "top_k", "top_p"):
                host[name][:] = [getattr(sampling, name) for sampling, _ in draws]
            host["uniforms"][:] = [uniform for _, uniform in draws]

    def _fill_tables(self, rows: np.ndarray, tables: list[BlockTable]) -> None:
        """Only what is not there from the last step: most tables take a block once in `block_size` steps."""
        before, versions = self.versions, [table.version for table in tables]
        if versions == before:
            return
        self.versions = []                                                      # if this breaks off, nothing is there
        place = {version: i for i, version in enumerate(before)}
        rows[: len(tables)] = rows[[place.get(version, i) for i, version in enumerate(versions)]]
        for i, version in enumerate(versions):
            if version not in place:
                blocks = tables[i].blocks[: self.width]                         # there may be room beyond
                rows[i, : len(blocks)] = blocks
                rows[i, len(blocks) :] = self.cache.scrap
        rows[len(tables) :] = self.cache.scrap
        self.versions = versions

    def _fill_trees(self, turns: list[Turn]) -> None:
        """Who sees whom; a chain's token those up to itself. What pads a row sees what was held."""
        sees, positions = self.staging.host["sees"], self.staging.host["positions"]
        sees[:] = np.tri(self.m, dtype=bool)
        for i, turn in enumerate(turns):
            if turn.parents is not None:
                n = len(turn.ids)
                depths, whom = ancestry(turn.parents)
                sees[i] = False
                sees[i, :n, :n], positions[i, :n] = whom.numpy(), turn.table.length + depths.numpy()

    @torch.inference_mode()
    def _run(self) -> None:
        """The pass itself: only work on the device, with nothing decided on the way."""
        there, keys, values = self.staging.there, self.cache.keys, self.cache.values
        if self.layers is not None:
            self.states = self.layers.hidden(there["ids"].view(-1), self.positions, self.slots, keys, values,
                                             self.tables, self.lengths, self.sees)
            self.logits = self.layers.logits(self.states)
        elif self.many is not None:
            self.states = self.many.hidden(there["ids"].view(-1), self.positions, self.slots, keys, values,
                                           self.attend_to_pool)
            self.logits = self.model.head(self.states)
        else:
            self.states = self.model.hidden(there["ids"].view(1, -1), self)[0]
            self.logits = self.model.head(self.states)
        if self.drawn:
            from minilm.kernels.sampler import sample

            self.chosen = sample(self.logits, *(there[name] for name in ("temperature", "top_k", "top_p", "uniforms")))
        else:
            self.chosen = self.logits.argmax(-1)

    def attend_to_pool(self, layer: int, q: Tensor) -> Tensor:
        """q[N, H, D] -> [N, H, D], where the layer's new keys and values are in their slots already."""
        queries = q.unflatten(0, (self.batch, self.m))
        out = paged_attention(queries, self.cache.keys[layer], self.cache.values[layer], self.tables, self.lengths,
                              tree_mask=self.sees)
        return out.flatten(0, 1)

    # --- what the model asks of a cache, where its own modules run ---

    def begin(self, num_tokens: int) -> Tensor:
        return self.positions

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.cache.put(layer, self.slots, k, v)
        return self.attend_to_pool(layer, q[0].transpose(0, 1)).transpose(0, 1)[None]

    def end(self, num_tokens: int) -> None:
        pass


class UnderWay:
    """A recorded pass that was started: m tokens of each sequence; its `states[N, d]`, `logits[N, V]` and `chosen[N]`
    are on the device, in memory that the next pass writes over."""

    def __init__(self, made: Recorded):
        self.m, self.states, self.logits, self.chosen = made.m, made.states, made.logits, made.chosen
        self._back, self._done = self.chosen, None
        if made.pool is not None:
            self._back = torch.empty(self.chosen.shape, dtype=torch.int64, pin_memory=True)
            self._back.copy_(self.chosen, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record()

    def tokens(self) -> list[int]:
        """What it chose; waits for the device."""
        if self._done is not None:
            self._done.synchronize()
        return self._back.tolist()


class Graphs:
    """The recorded passes of a model over a paged cache, one for each size that was needed so far."""

    def __init__(self, model: GPT, cache: PagedCache):
        from minilm.kernels.decode_layers import DecodeLayers
        from minilm.kernels.many_rows import ManyRows

        self.model, self.cache = model, cache
        self.pool = torch.cuda.graph_pool_handle() if cache.device.type == "cuda" else None
        self.layers = DecodeLayers(model, ROWS_OF_LAYERS) if DecodeLayers.fits(model) else None
        self.many = ManyRows(model) if ManyRows.fits(model) else None
        self.passes: dict[tuple, Recorded] = {}

    def takes(self, turns: list[Turn]) -> bool:
        """Whether they fit into one recorded pass."""
        m = max([len(turn.ids) for turn in turns], default=0)
        return 0 < m <= LARGEST_TREE and size_for(len(turns)) * size_for(m) <= MOST_ROWS

    def start(self, turns: list[Turn], after: UnderWay | None = None, rows: Sequence[int] = ()) -> UnderWay:
        """Their pass, of m tokens each: turn i's are rows i · m and on, as many as it feeds. See `Recorded.start`."""
        m = size_for(max([len(turn.ids) for turn in turns]))
        size = self.cache.pool.block_size
        reach = max(LEAST_REACH, max([turn.context for turn in turns]) + m)
        width = -(-(1 << (reach - 1).bit_length()) // size)
        key = (size_for(len(turns)), m, width, m > 1 and any(turn.parents is not None for turn in turns),
               m == 1 and any(turn.draw is not None for turn in turns))
        if key not in self.passes:
            self.passes[key] = Recorded(self, *key)
        return self.passes[key].start(turns, after, rows)
