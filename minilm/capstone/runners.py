"""The race's end of the pipes: a process for the package's decoders, one for the learner's, and a clock out here."""
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm.capstone.entry import Disqualified, Entry
from minilm.capstone.watch import family, send
from minilm.lab.remote import Session
from minilm.lab.steady import CheckTimeout, time_limit
from minilm.lab.trial import LearnerError
from minilm.lab.values import clip

CPU_SECONDS, MEMORY, PATIENCE = 3600, 4 << 30, 60.0
SHARE, LEAST = 1.25, 1.0        # processors that it may use on average, told once it has worked for so many seconds
ALONE = "A decoder is one file: nothing beside it can be imported, and nothing can be written"
TOO_SLOW = ("an endless loop, or far too slow? (the limit is ten times the baseline's time, within 3 to 50 seconds; "
            "the first answers have at least 10)")
SETUP = """
from minilm.capstone.stall import Stall as _Stall
_stall = _Stall({name!r})
_house, _echo, _enter, _mine, _audit = _stall.house, _stall.echo, _stall.enter, _stall.mine, _stall.audit
"""


@dataclass(frozen=True)
class Run:
    """One answer. made: what came back.  seconds: from the request to the answer, by the clock of this process.

    seen: tokens that the model's first layer was given.  passes: how often its last one ran.  threads, weights (1: as
    they were): see `Stall.audit`.
    """

    made: Any
    seconds: float
    seen: int
    passes: int
    threads: int = 1
    weights: int = 1


class Runner:
    """A process with the model in it. Use it as a context manager."""

    def __init__(self, model: str) -> None:
        model = str(Path(model).resolve()) if Path(model).exists() else model
        self.session = Session(cpu_seconds=CPU_SECONDS, memory_bytes=MEMORY)
        try:
            self.session.run(SETUP.format(name=model), "stall", PATIENCE)
            self.calls = {name: self.session.function(f"_{name}", "")
                          for name in ("house", "echo", "enter", "mine", "audit")}
        except (LearnerError, CheckTimeout) as error:
            self.close()
            why = str(error).removeprefix("your code ") or f"not within {PATIENCE:g} s"
            raise RuntimeError(f"the model {model!r} did not open in the race's own process: {why}") from None

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and what it started: that may have left its group."""
        self._signal("SIGSTOP")
        self._signal("SIGKILL")
        self.session.close()

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self.session.process.poll() is None:
            send(self.session.process.pid, getattr(signal, name))

    def _timed(self, name: str, *given: Any) -> tuple[dict, float]:
        call = self.calls[name]
        started = time.perf_counter()
        answer = call(*given)
        return answer, time.perf_counter() - started

    def _run(self, name: str, *given: Any) -> tuple[dict, float, dict]:
        self.calls["audit"]()
        answer, seconds = self._timed(name, *given)
        return answer, seconds, self.calls["audit"]()

    def house(self, name: str, prompt: list[int], count: int) -> Run:
        """One of the package's contestants, by name."""
        try:
            answer, seconds, counted = self._run("house", name, prompt, count)
        except LearnerError as error:
            raise RuntimeError(f"{name}, of the package, failed: {error}") from None
        return Run(answer["made"], seconds, counted["seen"], counted["passes"])

    def overhead(self, prompt: list[int], count: int, times: int = 9) -> float:
        """Seconds of a request and its answer when there is nothing to do: the median."""
        return sorted(self._timed("echo", prompt, count)[1] for _ in range(times))[times // 2]


class Learners(Runner):
    """The process with the learner's decoder. It stands still while it is not its turn, where the system allows."""

    def __init__(self, model: str, entry: Entry) -> None:
        super().__init__(model)
        self.entry, self.seconds, self.processor = entry, 0.0, 0.0
        self.own = self._members()
        try:
            self._load()
            self.pause()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        try:
            with time_limit(PATIENCE):
                self.session.ask({"do": "run", "source": self.entry.source, "name": self.entry.file,
                                  "file": str(Path(self.entry.folder, self.entry.file))})
            with time_limit(PATIENCE):
                function = self.session.function(self.entry.role, "")
                exits = self.session.function("EXITS", "")
                said = self.calls["enter"](self.entry.role, function, exits)
        except LearnerError as error:
            raise self.out(error.message.removeprefix("your code ")) from None
        except CheckTimeout:
            raise self.out(f"was still not loaded after {PATIENCE:g} seconds") from None
        if isinstance(said, dict) and "failed" in said:
            raise self.out(said["failed"])

    def out(self, why: str) -> Disqualified:
        """The error to raise: the file's name and why, and what its process forbids where that was the cause."""
        missing = re.search(r"No module named '(\w+)", why)
        if (missing and self.entry.beside(missing[1])) or "Read-only file system" in why or "File too large" in why:
            why += ". " + ALONE
        return Disqualified(f"{self.entry.file}: {why.replace(' of the cell', '')}")

    def run(self, prompt: list[int], count: int, limit: float) -> Run:
        """One answer of the learner's. Raises Disqualified when it fails, or takes longer than `limit` seconds."""
        self.resume()
        try:
            with time_limit(limit + 1):                             # and the counting before and after
                answer, seconds, counted = self._run("mine", list(prompt), count)       # no one else's list
            numbers = {name: int(counted[name]) for name in ("seen", "passes", "threads", "weights")}
            made, failed = answer.get("made"), answer.get("failed")
        except Disqualified:
            raise
        except CheckTimeout:
            raise self.out(f"had no answer after {limit:.1f} seconds and was stopped: {TOO_SLOW}") from None
        except LearnerError as error:
            raise self.out(error.message.removeprefix("your code ")) from None
        except (LookupError, TypeError, ValueError, AttributeError):
            raise self.out("it answered what nobody asked: leave the race's own process as it is") from None
        if failed is not None:
            raise self.out(clip(str(failed), 400))
        self.pause()
        self._one_processor()
        return Run(made, seconds, **numbers)

    def _timed(self, name: str, *given: Any) -> tuple[dict, float]:
        before = family(self.session.process.pid)
        answer, seconds = super()._timed(name, *given)
        after = family(self.session.process.pid)
        if name == "mine" and before and after:
            self.seconds += seconds
            self.processor += sum(after.values()) - sum(before.values())
        return answer, seconds

    def _members(self) -> set[int]:
        return set(family(self.session.process.pid) or ())

    def _one_processor(self) -> None:
        """Threads show in the processor time, whoever started them."""
        if self.seconds >= LEAST and self.processor > SHARE * self.seconds:
            raise self.out(f"it used {self.processor / self.seconds:.1f} processors on average; everyone has one")

    def pause(self) -> None:
        """Nothing of it runs from here on, no thread either, until its next turn; and it is one process still."""
        self._signal("SIGSTOP")
        if self._members() - self.own:
            raise self.out("it starts processes of its own; everyone has one")

    def resume(self) -> None:
        """Its turn."""
        self._signal("SIGCONT")
