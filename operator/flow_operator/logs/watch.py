"""Being told, once, when a file is written to: inotify(7)."""

from __future__ import annotations

import ctypes
import os
import struct
import threading

_IN_MODIFY = 0x2
_IN_Q_OVERFLOW = 0x4000
_IN_ONESHOT = 0x8000_0000
_IN_CLOEXEC = os.O_CLOEXEC
_IN_NONBLOCK = os.O_NONBLOCK
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Watcher:
    """Watches files that are still, each until its first write.

    Attributes:
        descriptor: readable when one was written to; -1 where there is no inotify to be had.
    """

    def __init__(self) -> None:
        self.descriptor = int(_libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK))
        self._watched: dict[int, str] = {}
        self._lock = threading.Lock()
        """So that no event is looked at before it is known whose it is."""

    def watch(self, path: str) -> bool:
        """Be told of the next write; False where that is not possible, and one has to look.

        For any thread; for a file that is watched already, too.
        """
        if self.descriptor < 0:
            return False
        name, mask = os.fsencode(path), ctypes.c_uint32(_IN_MODIFY | _IN_ONESHOT)
        with self._lock:
            number = _libc.inotify_add_watch(self.descriptor, name, mask)
            if number < 0:
                return False
            self._watched[number] = path
        return True

    def written(self) -> set[str]:
        """The files that were written to, or removed, since they were watched."""
        found: set[str] = set()
        while self.descriptor >= 0:
            try:
                events = os.read(self.descriptor, 64 * 1024)
                with self._lock:
                    found |= self._told(events)
            except BlockingIOError:
                break
        return found

    def _told(self, events: bytes) -> set[str]:
        found: set[str] = set()
        at = 0
        while at < len(events):
            number, mask, _cookie, length = _EVENT.unpack_from(events, at)
            at += _EVENT.size + length
            if mask & _IN_Q_OVERFLOW:  # Some were lost, and nobody knows whose.
                found.update(self._watched.values())
                self._watched.clear()
            # The end of a watch comes as an event of its own, after the write.
            path = self._watched.pop(number, None)
            if path is not None:
                found.add(path)
        return found

    def close(self) -> None:
        """Watch nothing any more."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
