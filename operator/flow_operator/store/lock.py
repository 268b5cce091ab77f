"""One operator per data directory."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path

from flow_operator.clock import rfc3339
from flow_operator.errors import LockedError
from flow_operator.store.files import storage_errors


class DataLock:
    """An flock on ``DATA/lock``, whose content names the holder.

    The kernel lets go of it when the process ends, however it ends.

    Raises:
        LockedError: naming who holds it.
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        with storage_errors(f"cannot lock {path.parent}"):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise LockedError(
                f"{path.parent} is in use by another operator ({holder or 'unknown'}); "
                "stop it, or choose another --data directory"
            ) from None
        told = f"pid {os.getpid()} on {socket.gethostname()} since {rfc3339(time.time())}\n"
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, told.encode(), 0)

    def release(self) -> None:
        """Let another operator have the directory."""
        os.close(self._descriptor)
