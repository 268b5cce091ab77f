"""How the shim notices that a process has ended which it has started, however many others live."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import time
from collections.abc import Callable, Iterable

LOOK_WITHIN = 0.02
"""Seconds after a SIGCHLD within which all are looked at: two that end at once are one signal."""

BURST_WITHIN = 0.002
"""The same, and how soon signals must follow each other, where many seem to end at once."""

_INFO = struct.Struct("=12xI112x")
"""signalfd_siginfo of signalfd(2), of which ``ssi_pid`` is read."""


class Children:
    """Reaps children, and orphans, who come to us as their subreaper.

    waitpid(2) for any of them goes through all of them, twice for each end: with 1,000 that takes
    longer than to tell of it. A SIGCHLD tells whose end it is about, so that one is waited for at
    once. As signals of one kind do not queue, it may be about others too: they are looked for a
    little later, by one look for all that have ended by then. A pidfd for each child would tell of
    each end; but with thousands of descriptors, of which the next child gets a copy, each start
    takes a tenth longer.

    SIGCHLD is blocked from then on; whoever is started must have it unblocked.

    Args:
        ended: told the pid and the status of each that was reaped.

    Raises:
        OSError: there is no descriptor to be had.
    """

    def __init__(self, ended: Callable[[int, int], None]) -> None:
        self._ended = ended
        self._signals = _signals_of_children()
        self._last = 0.0
        self._look_at: float | None = None

    def fileno(self) -> int:
        """Readable once somebody has ended."""
        return self._signals

    def look(self) -> None:
        """Read the signals that have come, and reap those whom they are about."""
        with contextlib.suppress(BlockingIOError):
            self.signalled(pid for (pid,) in _INFO.iter_unpack(os.read(self._signals, 4096)))

    def signalled(self, pids: Iterable[int]) -> None:
        """Signals have come about some."""
        now = time.monotonic()
        burst, self._last = now - self._last < BURST_WITHIN, now
        due = now + (BURST_WITHIN if burst else LOOK_WITHIN)
        self._look_at = due if self._look_at is None else min(self._look_at, due)
        if not burst:
            for pid in pids:
                self._wait(pid)

    @property
    def look_in(self) -> float | None:
        """Seconds until all have to be looked at; None if nothing is known of an end."""
        return None if self._look_at is None else max(self._look_at - time.monotonic(), 0.0)

    def look_if_due(self) -> None:
        """Look at all, if it is time."""
        if self._look_at is not None and self._look_at <= time.monotonic():
            self.look_at_all()

    def look_at_all(self) -> None:
        """Reap everybody who has ended."""
        self._look_at = None
        while self._wait(-1):
            pass

    def _wait(self, which: int) -> int:
        with contextlib.suppress(ChildProcessError):  # There are none, or it was reaped before.
            pid, status = os.waitpid(which, os.WNOHANG)
            if pid:
                self._ended(pid, status)
            return pid
        return 0

    def close(self) -> None:
        """Hear of nobody any more."""
        os.close(self._signals)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _signals_of_children() -> int:
    # Whoever has started us may ignore it, and then nobody is left to be reaped.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = (ctypes.c_ulong * 16)()  # sigset_t
    libc.sigemptyset(wanted)
    libc.sigaddset(wanted, int(signal.SIGCHLD))
    descriptor = int(libc.signalfd(-1, wanted, os.O_NONBLOCK | os.O_CLOEXEC))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return descriptor
