"""What a request lived through in the engine, step by step: read off what `block_trace` recorded, and its result.

    shots = block_trace.record(engine)          # before it runs
    lives = lives.read(shots, engine.run())     # {"0": [Moment, ...], ...}
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minilm.generation import Generation, Pass
from minilm.viz.block_trace import Shot, letters


@dataclass(frozen=True)
class Moment:
    """One step of one text.

    doing: "absent" (not there yet), "waiting", "prompt" (reads a piece of its text), "decode", "paused" (holds its
    blocks, but the pass had no room), "preempted" (lost its blocks; waits to come back), "done" (ended before).
    fed: tokens that it put into the pass.  found: tokens that it did not need to compute, from others' blocks.
    length: tokens in the cache after the step.  again: it reads what it had read before.  passed: the pass that gave it
    tokens, if one did.  blocks: its table after the step; shared[i]: who else has block i.  ends: its last token came.
    """

    doing: str
    fed: int = 0
    found: int = 0
    length: int = 0
    again: bool = False
    passed: Pass | None = None
    blocks: tuple[int, ...] = ()
    shared: tuple[tuple[str, ...], ...] = ()
    ends: bool = False

    @property
    def drafted(self) -> tuple[int, ...]:
        return getattr(self.passed, "drafted", ())

    @property
    def accepted(self) -> tuple[int, ...]:
        return getattr(self.passed, "accepted", ())

    @property
    def kept(self) -> int:
        """Drafts that became part of the text; an end token or the limit may cut some that were accepted."""
        return min(len(self.accepted), len(self.passed.emitted)) if self.passed else 0


def read(shots: Sequence[Shot], made: Mapping[int, Generation]) -> dict[str, list[Moment]]:
    """{name: a moment for each step}, for requests of one text each, recorded from their start on.

    Raises ValueError where a request's steps and its result don't fit together.
    """
    if len(shots) < 2:
        raise ValueError("nothing was recorded: run the engine after block_trace.record(engine)")
    return {name: _life(shots, name, made) for name in letters(shots)}


def _life(shots: Sequence[Shot], name: str, made: Mapping[int, Generation]) -> list[Moment]:
    result = made.get(int(name)) if name.isdigit() else None
    if not isinstance(result, Generation):
        raise ValueError(f"{name!r} has no single text in these results: a timeline takes requests with n = 1 and no "
                         "beams")
    passes, moments, count, most = iter(result.trace), [], 0, 0     # count: new tokens so far; most: tokens ever held
    for before, after in zip(shots, shots[1:], strict=False):
        if moments and (moments[-1].ends or moments[-1].doing == "done"):
            moments.append(Moment("done"))
            continue
        table, fed = after.table(name), dict(after.batch).get(name, 0)
        ends = any(who == name and event in ("finish", "cancel") for event, who in after.events)
        now = len(result.tokens) if ends else len(table.text) - table.prompt if table else count
        passed = next(passes, None) if now > count else None
        drafts = len(getattr(passed, "drafted", ()))
        length = table.length if table else passed.context + passed.fed if passed else 0
        entered = fed and before.table(name) is None
        found = (passed.context if passed else length - fed) if entered else 0
        reads = fed and (passed is None or count == 0 or fed - drafts > 1)
        moments.append(Moment("prompt" if reads else "decode" if fed else _idle(after, name, most), fed, found,
                              length, bool(reads and length - fed < most), passed,
                              table.blocks if table else (), _shared(after, name), ends))
        count, most = now, max(most, length - drafts)
    if next(passes, None) is not None:
        raise ValueError(f"request {name} made passes that were not recorded: call block_trace.record before it runs")
    return moments


def _idle(shot: Shot, name: str, most: int) -> str:
    """What a text does that fed nothing in this step."""
    if name in shot.waiting or name in dict(shot.host):
        return "preempted" if most else "waiting"
    return "paused" if shot.table(name) else "absent"


def _shared(shot: Shot, name: str) -> tuple[tuple[str, ...], ...]:
    table = shot.table(name)
    return tuple(tuple(other.name for other in shot.tables if other.name != name and block in other.blocks)
                 for block in (table.blocks if table else ()))
