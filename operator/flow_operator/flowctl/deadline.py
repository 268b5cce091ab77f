"""An end to waiting in the main thread, wherever it waits."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class LateError(Exception):
    """Time is up. No OSError, which those who read from sockets would take for one of theirs."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Have the block end after so many seconds; only in the main thread, and not nested.

    An alarm that somebody else has set goes on after the block, as much later.

    Raises:
        LateError: it did not end by itself.
    """

    def late(*_: object) -> None:
        raise LateError

    alarm = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.signal(signal.SIGALRM, late)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *alarm)
