"""Pipes of which both ends are held, so that neither neighbour's death breaks one."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
from collections.abc import Iterable

_INT = struct.calcsize("i")


class Pipe:
    """A pipe of which the shim holds both ends, so that neither neighbour's death breaks it."""

    def __init__(self, read: int, write: int) -> None:
        self.read = read
        self.write = write

    @classmethod
    def fresh(cls) -> Pipe:
        """A new pipe."""
        return cls(*os.pipe2(os.O_CLOEXEC))

    @classmethod
    def reopened(cls, path: str) -> Pipe | None:
        """Both ends of the pipe that a living process holds as ``/proc/PID/fd/N``, if it may be."""
        try:
            # The reading end first: opening the other one asks for a reader.
            ends = [
                os.open(path, mode | os.O_NONBLOCK | os.O_CLOEXEC)
                for mode in (os.O_RDONLY, os.O_WRONLY)
            ]
        except OSError:
            return None
        for end in ends:
            fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        return cls(*ends)

    def close_write(self) -> None:
        """Let the reader see the end of file once all writers are gone."""
        if self.write >= 0:
            os.close(self.write)
            self.write = -1

    def close_read(self) -> None:
        """Let the writer see a broken pipe once all readers are gone."""
        if self.read >= 0:
            os.close(self.read)
            self.read = -1

    def bytes(self) -> int:
        """Bytes that were written and not yet read."""
        end = self.read if self.read >= 0 else self.write
        if end < 0:
            return 0
        size: int = struct.unpack("i", fcntl.ioctl(end, termios.FIONREAD, b"\0" * _INT))[0]
        return size

    @property
    def fill(self) -> tuple[int, int, bool]:
        """(unread bytes, capacity in bytes, whether a writer would have to wait).

        The capacity is 0 once nobody writes any more. Writers that do not fill whole pages have
        to wait long before the capacity is reached; only poll tells.
        """
        if self.write < 0:
            return self.bytes(), 0, False
        poll = select.poll()
        poll.register(self.write, select.POLLOUT)
        full = not poll.poll(0)
        return self.bytes(), fcntl.fcntl(self.write, fcntl.F_GETPIPE_SZ), full


class Piped:
    """Steps that are joined by pipes.

    Attributes:
        pipes: by the index of the step before each.
    """

    def __init__(self, pipes: Iterable[Pipe] = ()) -> None:
        self.pipes = list(pipes)

    def end(self, index: int) -> None:
        """A step has ended for good: its reader will see end of file, its writer a broken pipe."""
        if index > 0:
            self.pipes[index - 1].close_read()
        if index < len(self.pipes):
            self.pipes[index].close_write()

    def in_flight(self) -> list[int]:
        """Bytes in the pipe before each step; 0 for the first."""
        return [0, *(pipe.bytes() for pipe in self.pipes)]

    def fills(self) -> list[tuple[int, int, bool]]:
        """How full the pipe before each step is; the first has none."""
        return [(0, 0, False), *(pipe.fill for pipe in self.pipes)]

    def close(self) -> None:
        """Let go of all pipes."""
        for pipe in self.pipes:
            pipe.close_read()
            pipe.close_write()
