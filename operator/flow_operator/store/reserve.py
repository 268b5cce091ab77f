"""A file that takes up space, to be given back when the disk is full and something must stop."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from flow_operator.errors import StorageError
from flow_operator.store.files import storage_errors, sync_directory

SIZE = 2**20
"""Bytes: a stop of a thousand flows in one journal takes about 700 kB, a stop of one takes two
blocks. The least that helps, as no flow may use it."""

SHARE = 20
"""And no more than one part in so many of the disk."""

_BLOCK = 4096


class Reserve:
    """``DATA/reserve``.

    While it is missing, only what stops or deletes something is written: the space that was given
    back is for that.

    Attributes:
        missing: whether it has been given back, or could not be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changing = threading.Lock()
        self.missing = True

    def take(self) -> None:
        """Have the space taken up.

        Raises:
            StorageFullError: there is too little; nothing is taken.
            StorageError: the file cannot be made.
        """
        with self._changing, storage_errors(f"cannot make {self._path}, which every write needs"):
            if not self.missing:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size())
            except OSError:
                # What was had of it is no use: others may need it.
                self._path.unlink(missing_ok=True)
                raise
            finally:
                os.close(descriptor)
            self.missing = False

    def _size(self) -> int:
        told = os.statvfs(self._path.parent)
        share = told.f_blocks * told.f_frsize // SHARE
        return max(_BLOCK, min(SIZE, share) // _BLOCK * _BLOCK)

    def give_back(self) -> bool:
        """Free the space; returns whether there was any to free."""
        with self._changing:
            if self.missing:
                return False
            self.missing = True
            with contextlib.suppress(OSError, StorageError):
                self._path.unlink(missing_ok=True)
                sync_directory(self._path.parent)  # Some file systems free it no sooner.
            return True
