"""Starts the processes of a distributed run on this machine, and ends them all as soon as one has failed.

`torch.distributed` itself lets the others wait for a rank that has died, until a timeout. Here the parent watches: the
first rank that raises, is killed, or does not finish in time, ends the run with one error that names it.
"""
import math
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from signal import Signals
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing

from minilm.checks import check_count
from minilm.text import counted

BACKENDS = {"gloo": "cpu", "nccl": "cuda"}
GRACE = 1.0             # seconds from the first failure until the cause is looked for among all that failed
TURNS = 4               # ranks for each core, beyond which they would only wait for one another


class RankError(RuntimeError):
    """A rank failed and the run was ended. `rank`: which one (the first of several); the message says how it ended."""

    def __init__(self, message: str, rank: int):
        super().__init__(message)
        self.rank = rank


def run(function: Callable, ranks: int, *args: Any, backend: str = "gloo", timeout: float | None = 600.0,
        patience: float = 300.0, **kwargs: Any) -> Any:
    """function(mesh, *args, **kwargs) in `ranks` processes at once; what rank 0 returned.

    function: from a module, since each process imports it anew; not from a notebook's cell. Arguments and result are
    copied between processes, so give a model's name rather than the model.
    backend: "gloo", on the CPU, with the threads of this process shared out; or "nccl", a GPU for each rank.
    timeout: seconds for all of it, the start of the processes included; None waits for ever. patience: seconds after
    which a rank that waits for the others in one exchange gives up. A rank that dies or raises is seen at once.
    Raises ValueError for what can't start, and RankError, with all processes ended, when a rank raises, dies or has
    not finished in time.
    """
    work = _check(function, ranks, backend, timeout, patience, args, kwargs)
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    store = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // ranks)
    workers: list[_Worker] = []
    try:
        for rank in range(ranks):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, daemon=True, name=f"rank {rank}",
                                      args=(rank, ranks, store.port, backend, patience, threads, work, theirs))
            process.start()
            theirs.close()
            workers.append(_Worker(rank, process, ours))
        return _watch(workers, deadline, timeout)
    finally:
        _end(workers)


@dataclass
class _Worker:
    """A rank as its parent knows it.

    news, once it came: ("done", pickled result) or ("raised", what, traceback, how it missed the others: "waited" in
    vain, "lost" them, or "", if it did not).
    """

    rank: int
    process: BaseProcess
    pipe: Connection
    news: tuple | None = None
    failed_at: float = field(default=math.inf)

    def look(self) -> None:
        """Take what it has sent, and note when it failed."""
        try:
            if self.news is None and self.pipe.poll():
                self.news = self.pipe.recv()
        except (EOFError, OSError):                             # it died with the pipe open
            pass
        if (self.failed or not self.process.is_alive()) and not self.done and self.failed_at == math.inf:
            self.failed_at = time.monotonic()

    @property
    def done(self) -> bool:
        return self.news is not None and self.news[0] == "done"

    @property
    def failed(self) -> bool:
        return self.news is not None and self.news[0] == "raised"


def _watch(workers: list[_Worker], deadline: float, timeout: float | None) -> Any:
    """Wait until all are done, one has failed, or the time is up."""
    while not all(worker.done for worker in workers):
        busy = [w for w in workers if w.news is None]
        left = deadline - time.monotonic()
        if left <= 0:
            raise _unfinished(busy, workers, f"within {timeout:g} seconds; all were ended (timeout=... allows more)")
        wait([w.pipe for w in busy] + [w.process.sentinel for w in busy], None if left == math.inf else left)
        for worker in workers:
            worker.look()
        if any(w.failed_at < math.inf for w in workers):
            raise _cause(workers)
    for worker in workers:
        worker.pipe.send("leave")                               # none goes before all have what they wait for
    return pickle.loads(workers[0].news[1])


def _unfinished(busy: list[_Worker], workers: list[_Worker], how: str) -> RankError:
    names = " and ".join(filter(None, (", ".join(str(w.rank) for w in busy[:-1]), str(busy[-1].rank))))
    return RankError(f"rank{'s' * (len(busy) > 1)} {names} of {len(workers)} had not finished {how}", busy[0].rank)


def _cause(workers: list[_Worker]) -> RankError:
    """The rank to blame: one that died, else one that raised by itself, else those that others waited for in vain, or,
    where these had left already, one that waited."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline and any(w.news is None and w.process.is_alive() for w in workers):
        time.sleep(0.02)
        for worker in workers:
            worker.look()

    def blame(worker: _Worker) -> tuple:
        missed_others = worker.failed and worker.news[3] != ""
        return (missed_others, worker.failed, worker.failed_at)
    worst = min((w for w in workers if w.failed_at < math.inf), key=blame)
    ended = {1: "", 2: "; the other rank was ended too"}.get(len(workers), "; the other ranks were ended too")
    busy = [w for w in workers if w.news is None and w.process.is_alive()]
    if worst.failed and worst.news[3] == "waited" and busy:
        return _unfinished(busy, workers, f"while rank {worst.rank} {worst.news[1]}{ended}")
    if worst.failed:
        error = RankError(f"rank {worst.rank} of {len(workers)} {worst.news[1]}{ended}", worst.rank)
        error.add_note(f"In rank {worst.rank}:\n{worst.news[2]}")
        return error
    worst.process.join(1)
    code = worst.process.exitcode
    how = f"was killed by {Signals(-code).name}" if code is not None and code < 0 else f"ended with exit code {code}"
    if code == 1 and worst.news is None:
        how += (" before it could say why (a script that calls parallel.run must do so under "
                "`if __name__ == \"__main__\":`)")
    return RankError(f"rank {worst.rank} of {len(workers)} {how}{ended}", worst.rank)


def _end(workers: list[_Worker]) -> None:
    """No process stays behind, whatever happened."""
    failed = not all(worker.done for worker in workers)
    for worker in workers:
        if failed:
            worker.process.terminate()
    for worker in workers:
        worker.process.join(5)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


def _work(rank: int, ranks: int, port: int, backend: str, patience: float, threads: int, work: bytes,
          pipe: Connection) -> None:
    """What a rank's process does: join the others, call the function, send the result, wait until all are done."""
    try:
        with _quiet():
            mesh = _join(rank, ranks, port, backend, patience, threads)
        function, args, kwargs = pickle.loads(work)
        result = function(mesh, *args, **kwargs)
        pipe.send(("done", _packed(result if rank == 0 else None)))
    except BaseException as error:
        waited = "imed out" in str(error) and not isinstance(error, TimeoutError)
        lost = isinstance(error, dist.DistError) or "onnection closed by peer" in str(error)
        what = f"raised {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if waited:
            what = f"waited more than {patience:g} seconds for the others, who came no more or took too long"
        pipe.send(("raised", what, traceback.format_exc(), "waited" if waited else "lost" if lost else ""))
        os._exit(1)                                             # no goodbyes to ranks that may hang
    pipe.recv()
    dist.destroy_process_group()


def _packed(result: Any) -> bytes:
    try:
        return pickle.dumps(result)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"what the function returned cannot be sent to the process that called run ({error}): return "
                         "plain values or tensors") from None


def _join(rank: int, ranks: int, port: int, backend: str, patience: float, threads: int) -> dist.DeviceMesh:
    torch.set_num_threads(threads)
    if backend == "gloo" and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")       # all on this machine: needs no name or network
    if backend == "nccl":
        torch.cuda.set_device(rank)
    limit = timedelta(seconds=patience)
    dist.init_process_group(backend, store=dist.TCPStore("127.0.0.1", port, None, False, timeout=limit), rank=rank,
                            world_size=ranks, timeout=limit)
    return dist.init_device_mesh(BACKENDS[backend], (ranks,), mesh_dim_names=("ranks",))


@contextmanager
def _quiet():
    """Without what gloo's C++ prints about its connections, which a notebook would show."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def _check(function: Callable, ranks: int, backend: str, timeout: float | None, patience: float, args: tuple,
           kwargs: dict) -> bytes:
    """Raise TypeError or ValueError for a run that can't start; what the processes are sent."""
    check_count("ranks", ranks, 1)
    if not callable(function):
        raise TypeError(f"run calls function(mesh, ...) on every rank; it got {function!r:.80}")
    if backend not in BACKENDS:
        raise ValueError(f'backend is "gloo" (CPU) or "nccl" (a GPU for each rank); it is {backend!r}')
    for name, seconds in (("timeout", timeout), ("patience", patience)):
        if (name, seconds) != ("timeout", None) and not (isinstance(seconds, int | float) and 0 < seconds < math.inf):
            raise ValueError(f"{name} must be a number of seconds above 0{', or None' * (name == 'timeout')}; it is "
                             f"{seconds!r}")
    if backend == "nccl":
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if ranks > gpus:
            raise ValueError(f"{counted(ranks, 'rank')} by NCCL need a GPU each, and this machine has {gpus}: ask for "
                             "fewer, or use backend=\"gloo\", on the CPU")
    elif ranks > (most := TURNS * (os.cpu_count() or 1)):
        raise ValueError(f"{ranks} ranks would only wait for each other on {counted(os.cpu_count() or 1, 'core')}: "
                         f"ask for at most {most}")
    main = sys.modules["__main__"]
    if getattr(function, "__module__", None) == "__main__" and not hasattr(main, "__file__"):
        raise ValueError(f"{function.__name__} was made in a notebook or at a prompt, where other processes can't find "
                         "it: put it into a .py file, and import it from there")
    try:
        return pickle.dumps((function, args, kwargs))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"the function and its arguments must be such as can be sent to another process ({error}): "
                         "give a function of a module, and plain values") from None
