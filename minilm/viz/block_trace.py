"""What every block holds after each step of an engine: recorded once, so that pictures can be drawn without it.

    shots = block_trace.record(engine)          # before it runs
    engine.run()
    widgets.player(block_view.frames(shots, tokenizer), label="step")
"""
from collections.abc import Iterable
from dataclasses import dataclass

from minilm.serving import Engine, Step
from minilm.serving.request import Sequence


@dataclass(frozen=True)
class Table:
    """A sequence as it stands: its blocks, how many tokens are in them, and its text, of which the last token waits.

    prompt: tokens of the text that were given.
    """

    name: str
    blocks: tuple[int, ...]
    length: int
    text: tuple[int, ...]
    prompt: int


@dataclass(frozen=True)
class Shot:
    """The pool after a step.

    tables: who runs.  places[block]: its tokens; of a free block those that may be found again, else none.
    references[block]: tables that point at it.  host: who is swapped out, in how many blocks.  waiting: who else waits.
    batch: tokens fed.  events: what happened to whom.
    """

    block_size: int
    tables: tuple[Table, ...]
    places: tuple[tuple[int, ...], ...]
    references: tuple[int, ...]
    host: tuple[tuple[str, int], ...] = ()
    waiting: tuple[str, ...] = ()
    batch: tuple[tuple[str, int], ...] = ()
    events: tuple[tuple[str, str], ...] = ()

    def table(self, name: str) -> Table | None:
        return next((table for table in self.tables if table.name == name), None)

    @property
    def used(self) -> int:
        """Blocks that somebody points at."""
        return sum(count > 0 for count in self.references)

    @property
    def free(self) -> int:
        return len(self.references) - self.used

    @property
    def held(self) -> int:
        """Tokens in the used blocks; one that several share counts once."""
        return sum(len(tokens) for tokens, count in zip(self.places, self.references, strict=True) if count)

    @property
    def saved(self) -> float:
        """Share of the blocks that the tables would need without sharing, and don't."""
        return 1 - self.used / sum(self.references) if self.used else 0.0


def record(engine: Engine) -> list[Shot]:
    """A list to which every step adds a shot; the first one is the pool as it is now. A watcher of its own goes on."""
    content: list[tuple[int, ...]] = [()] * engine.pool.num_blocks
    shots: list[Shot] = []
    before = engine.watch

    def watch(step: Step) -> None:
        shots.append(_shot(engine, content, step))
        if before is not None:
            before(step)

    engine.watch = watch
    shots.append(_shot(engine, content, Step([], [], 0, 0, 0)))
    return shots


def _shot(engine: Engine, content: list[tuple[int, ...]], step: Step) -> Shot:
    """Update what blocks hold, and copy it all."""
    pool, size = engine.pool, engine.pool.block_size
    running = [sequence for request in engine.scheduler.running for sequence in request.sequences]
    for sequence in running:
        held = sequence.text[: sequence.table.length]
        for i, block in enumerate(sequence.table.blocks):
            content[block] = tuple(held[i * size : (i + 1) * size])
    for block in range(pool.num_blocks):
        if not pool.references[block] and not pool.remembers(block):
            content[block] = ()
    away = [(request.sequences[0].name, request.host.num_blocks) for request in engine.scheduler.waiting
            if request.host is not None]
    line = [request.sequences[0].name for request in engine.scheduler.waiting if request.host is None]
    return Shot(size, tuple(map(_table, running)), tuple(content), tuple(pool.references), tuple(away), tuple(line),
                tuple(step.batch), tuple(step.events))


def _table(sequence: Sequence) -> Table:
    table = sequence.table
    return Table(sequence.name, tuple(table.blocks), table.length, tuple(sequence.text), len(sequence.request.prompt))


def letters(shots: Iterable[Shot]) -> dict[str, int]:
    """Each sequence's place in the alphabet: by request, then by sample."""
    names = {name for shot in shots for name in (*(table.name for table in shot.tables), *shot.waiting,
                                                 *(name for name, _ in shot.batch), *(name for name, _ in shot.host))}
    ordered = sorted(names, key=lambda name: tuple(map(int, name.split("."))))
    return {name: place for place, name in enumerate(ordered)}


def waste(shots: Iterable[Shot]) -> float:
    """Of all places in used blocks, over all steps, the share that held no token."""
    shots = list(shots)
    places = sum(shot.used * shot.block_size for shot in shots)
    if not places:
        raise ValueError("no block was used in these shots: run the engine first")
    return 1 - sum(shot.held for shot in shots) / places
