"""The ground a check runs on: seeded generators, global state put back, a time limit."""

from __future__ import annotations

import contextlib
import ctypes
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any


class CheckTimeout(BaseException):
    """The time limit of a check; a BaseException, so that a learner's `except Exception` lets it through."""


@contextlib.contextmanager
def steady_state() -> Iterator[None]:
    """Seed the random generators for a check and put all global state back after it; stderr goes to stdout.

    stderr matters because nbgrader counts any of it, even a warning, as a failure.
    """
    import numpy
    import torch

    python, array = random.getstate(), numpy.random.get_state()
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), contextlib.redirect_stderr(sys.stdout):
        warnings.simplefilter("ignore")
        random.seed(0)
        numpy.random.seed(0)
        torch.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(array)
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(grad)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise CheckTimeout in this thread after so many seconds, and again each second while code swallows it.

    With an alarm signal where there is one (it also ends a sleep), else from a timer thread, which reaches Python code
    at its next instruction.
    """
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        yield from _limit_by_signal(seconds)
    else:
        yield from _limit_by_thread(seconds)


def _limit_by_signal(seconds: float) -> Iterator[None]:
    def ring(signum: int, frame: Any) -> None:
        raise CheckTimeout

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _limit_by_thread(seconds: float) -> Iterator[None]:
    done, target = threading.Event(), threading.get_ident()

    def ring() -> None:
        wait = seconds
        while not done.wait(wait):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), ctypes.py_object(CheckTimeout))
            wait = 1.0

    timer = threading.Thread(target=ring, daemon=True)
    timer.start()
    try:
        yield
    finally:
        done.set()
        timer.join()
