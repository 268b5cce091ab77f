"""How the shim notices that a process has ended which it has started, however many others live."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable

from flow_operator.shim.spawn import own_limit

LOOK_WITHIN = 0.02
"""Seconds after a SIGCHLD within which orphans are reaped, who came to us by it as well."""


class Children:
    """Reaps children.

    waitpid(2) for any of them goes through all of them, twice for each end: with 1,000 that takes
    longer than to tell of it. So each is watched by a pidfd, as long as half of all descriptors are
    left for others, and only that one is then waited for. Who has none is found by a look at all,
    at once; so are orphans, of whom nobody waits to hear, a little later and many together.

    Args:
        ended: told the pid and the status of each that was reaped.
    """

    def __init__(self, ended: Callable[[int, int], None]) -> None:
        self._ended = ended
        self._ends = select.epoll()
        self._pids: dict[int, int] = {}
        self._pidfds: dict[int, int] = {}
        self._unwatched: set[int] = set()
        self._look_at: float | None = None

    def fileno(self) -> int:
        """Readable while somebody who is watched has ended."""
        return self._ends.fileno()

    def watch(self, pid: int) -> None:
        """Notice the end of a child."""
        descriptor = self._watched(pid)
        if descriptor < 0:
            self._unwatched.add(pid)
        else:
            self._pids[descriptor], self._pidfds[pid] = pid, descriptor

    def _watched(self, pid: int) -> int:
        """A pidfd that is looked at; -1 if there is none to be had."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return -1
        with contextlib.suppress(OSError):
            if descriptor < own_limit() // 2:
                self._ends.register(descriptor, select.EPOLLIN)
                return descriptor
        os.close(descriptor)
        return -1

    def look(self) -> None:
        """Reap those who were watched and have ended."""
        for descriptor, _ in self._ends.poll(0):
            self._wait(self._pids[descriptor])

    def signalled(self) -> None:
        """A SIGCHLD has come: by one who is watched, or by another one."""
        if self._unwatched:
            self.look_at_all()
        elif self._look_at is None:
            self._look_at = time.monotonic() + LOOK_WITHIN

    @property
    def look_in(self) -> float | None:
        """Seconds until all have to be looked at; None if nothing is known of an end."""
        return None if self._look_at is None else max(self._look_at - time.monotonic(), 0.0)

    def look_if_due(self) -> None:
        """Look at all, if it is time."""
        if self._look_at is not None and self._look_at <= time.monotonic():
            self.look_at_all()

    def look_at_all(self) -> None:
        """Reap everybody who has ended, orphans too."""
        self._look_at = None
        while self._wait(-1):
            pass

    def close(self) -> None:
        """Let go of all who are watched."""
        for pid in list(self._pidfds):
            self._forget(pid)
        self._ends.close()

    def _wait(self, which: int) -> int:
        try:
            pid, status = os.waitpid(which, os.WNOHANG)
        except ChildProcessError:
            pid, status = 0, 0
            self._forget(which)  # Somebody else has waited for it.
        if pid:
            self._forget(pid)
            self._ended(pid, status)
        return pid

    def _forget(self, pid: int) -> None:
        self._unwatched.discard(pid)
        descriptor = self._pidfds.pop(pid, None)
        if descriptor is not None:
            del self._pids[descriptor]
            self._ends.unregister(descriptor)
            os.close(descriptor)
