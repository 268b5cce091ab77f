"""The register: where workers say that they run. Its layout stands in ``programs/register.h``.

It is the proof of running: the worker writes it, not the supervisor that is measured.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from typing import NamedTuple, Self

_HEAD = struct.Struct("=QQ")
_ENTRY = struct.Struct("=qii")


class Start(NamedTuple):
    """One start of one flow's worker; ``at`` is in seconds of the monotonic clock."""

    at: float
    pid: int
    number: int


class Register:
    """A shared file that workers write and this process reads.

    Args:
        path: where to make it; best on a file system in memory.
        size: how many starts it has room for. A worker that finds none fails, and is missed.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        length = _HEAD.size + size * _ENTRY.size
        with path.open("wb") as file:
            file.write(_HEAD.pack(0, size))
            file.truncate(length)
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), length)
        self._size = size
        self._whole = 0  # so many entries from the first one on are known to be written

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the memory."""
        self._page.close()

    def read(self, first: int = 0) -> list[Start]:
        """The starts from the ``first`` on, up to the first one that is not whole yet."""
        taken, _ = _HEAD.unpack_from(self._page)
        found = []
        for index in range(first, min(taken, self._size)):
            at, pid, number = _ENTRY.unpack_from(self._page, _HEAD.size + index * _ENTRY.size)
            if not at:
                break
            found.append(Start(at / 1e9, pid, number))
        return found

    def count(self) -> int:
        """How many starts there were."""
        while self.read(self._whole)[:1]:
            self._whole += len(self.read(self._whole))
        return self._whole

    def pids(self) -> dict[int, int]:
        """The newest pid of each flow, by its number."""
        return {start.number: start.pid for start in self.read()}

    def wait(self, count: int, within: float) -> list[Start]:
        """The first ``count`` starts, once there are so many.

        Looking costs the measured nothing: it is one read of memory in each 2 ms.

        Raises:
            TimeoutError: there were fewer within so many seconds.
        """
        end = time.monotonic() + within
        while self.count() < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.count()} of {count} started within {within:.0f} s")
            time.sleep(0.002)
        return self.read()[:count]

    def wait_for(self, number: int, after: int, within: float) -> Start | None:
        """The first start of a flow among those from the ``after``-th on; None if none came."""
        end = time.monotonic() + within
        while True:
            for start in self.read(after):
                if start.number == number:
                    return start
            if time.monotonic() > end:
                return None
            time.sleep(0.0005)
