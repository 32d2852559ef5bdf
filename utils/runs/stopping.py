"""When a training ends early: at the first SIGINT, SIGTERM or SIGHUP, or at its --time_limit."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import time
from contextlib import contextmanager
from typing import Callable, Iterator, Optional, Sequence

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
GRACE = 5.0  # seconds after the first signal in which others change nothing: shells and schedulers send several
TIME_LIMIT_REACHED, INTERRUPTED = 3, 130  # exit codes


class Stopping:
    """What this process knows of its end. The first signal raises KeyboardInterrupt; while that is deferred, for code
    that has something to save, it only sets `signalled`. One that comes GRACE seconds later ends the process at once.
    """

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        self.started = time.monotonic()
        self.signalled = False
        self._first, self._deferred = 0.0, False

    def catch(self, _number: int, _frame) -> None:
        """The handler of SIGNALS."""
        now = time.monotonic()
        if not self.signalled:
            self.signalled, self._first = True, now
            if not self._deferred:
                raise KeyboardInterrupt
        elif now - self._first > GRACE:
            os.write(2, b"interrupted again, ended at once; rerun the same command to resume\n")
            os._exit(INTERRUPTED)

    @contextmanager
    def deferring(self, deferred: bool) -> Iterator[None]:
        """Inside the block a signal is deferred, or not; if not, one that was deferred before raises now."""
        before, self._deferred = self._deferred, deferred
        try:
            if self.signalled and not deferred:
                raise KeyboardInterrupt
            yield
        finally:
            self._deferred = before

    def is_late(self, time_limit: Optional[float]) -> bool:
        """Whether so many minutes have passed since the start; None: no limit."""
        return time_limit is not None and time.monotonic() - self.started >= 60 * time_limit


STOP = Stopping()  # signals are the process's, not a run's


def heeded_signals() -> list[signal.Signals]:
    """SIGNALS without a SIGHUP or SIGTERM that is ignored already, as nohup does."""
    return [n for n in SIGNALS if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]


def stoppable(main: Callable) -> Callable:
    """Decorate a script's main(argv): STOP catches the signals meanwhile, and its time begins."""

    @functools.wraps(main)
    def wrapper(argv: Optional[Sequence[str]] = None):
        STOP.reset()
        handlers = {number: signal.signal(number, STOP.catch) for number in heeded_signals()}
        try:
            return main(argv)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, signal.SIG_IGN if STOP.signalled else handler)

    return wrapper


@contextmanager
def blocked_in_children() -> Iterator[None]:
    """Processes begun in this block have SIGNALS blocked from their first moment; this one gets them at its end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_interrupts_to_parent() -> None:
    """Of a worker begun in `blocked_in_children`: Ctrl-C is its parent's to handle, the other signals its own again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def ignore_signals(_worker: int) -> None:
    """Of a DataLoader's worker: its parent alone decides when to stop."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def kill_children() -> None:
    """End the workers after an error: they ignore the SIGTERM that Python sends before it waits for their end."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would report them as well
    for process in multiprocessing.active_children():
        process.kill()
