"""The tokens that count now: the file is looked at with each request, and read when it has changed.

So a token that is taken out is refused from the next request on, and nobody has to be told. A
mistake in an edit must not shut everybody out: the last good tokens stay, and it is told.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from pathlib import Path

import structlog

from flow_operator.api.token_file import Grant, Granted, read_granted
from flow_operator.clock import Clock
from flow_operator.errors import InvalidError

_SETTLED = 2.0
"""Seconds after its last change from which on a file's times tell whether it changes again: two
changes within a tick of the kernel's clock look like one."""

_Look = tuple[int, int, int, int, int]

log = structlog.get_logger("tokens")


class Tokens:
    """Finds whose a token is.

    Args:
        path: the file.
        clock: tells whether the file has just been changed.

    Raises:
        InvalidError: the file is refused; later on, that is only told.

    Attributes:
        error: why the file as it is now is not used; None if it is.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = self._look()
        self._granted = read_granted(path)
        self.error: str | None = None
        self._tell()

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return len(self._granted.grants)

    def find(self, token: str) -> Grant | None:
        """Whose a token is; None if it is nobody's.

        It takes as long whether it is found first, last or not at all.
        """
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for grant in self._present().grants:
            if hmac.compare_digest(grant.digest, digest):
                found = grant
        return found

    def stands(self, grant: Grant) -> bool:
        """Whether a token that was found still means the same."""
        return grant in self._present().grants

    def _present(self) -> Granted:
        if self._seen is None or self._look() != self._seen:
            with self._lock:
                self._read()
        return self._granted

    def _look(self) -> _Look | None:
        """What tells one state of the file from another; None if it cannot."""
        try:
            info = self._path.stat()
        except OSError:
            return (0, 0, 0, 0, 0)
        if abs(self._clock.wall() - max(info.st_mtime, info.st_ctime)) < _SETTLED:
            return None
        return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)

    def _read(self) -> None:
        # Looked at before it is read: a change in between is found by the next look.
        seen = self._look()
        if seen is not None and seen == self._seen:
            return
        before, fault = self._granted, self.error
        try:
            self._granted, self.error = read_granted(self._path), None
        except InvalidError as error:
            self.error = str(error)
        self._seen = seen
        if self.error is not None and self.error != fault:
            log.error("the tokens stay as they were", tokens=self.count, error=self.error)
        elif self.error is None and (self._granted != before or fault is not None):
            self._tell()

    def _tell(self) -> None:
        log.info("tokens read", file=str(self._path), tokens=self.count)
        if self._granted.exposed:
            log.warning(
                "everybody on this machine may read the tokens",
                file=str(self._path),
                hint="mount it with mode 0400, or write sha256 into it instead",
            )
