"""``DATA/events.jsonl``: the last events, for the operator that comes after this one.

Each event is appended by one write, without a sync: it survives a killed operator, not always a
power cut. An event that counts up has a line for each time, and a deleted flow one more, so the
file is rewritten when it has grown to about twice what lives.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import structlog

from flow_operator.clock import Clock
from flow_operator.errors import StorageError
from flow_operator.model.status import Event
from flow_operator.store.files import storage_errors, write_quietly
from flow_operator.structs import prepared

SLACK = 500
"""Lines beyond twice what lives: a small file is not rewritten all the time."""

RETRY = 5.0
"""Seconds until what could not be written is tried again."""

_SPARE = 2 * 2**20, 10
"""What events leave free of a disk: so many bytes, and no more than one part in so many. Twice
what the reserve frees for stops: what is kept for them is not for us."""

log = structlog.get_logger("events")

Living = Callable[[], Iterable[Event]]


@prepared
class _Dropped(msgspec.Struct, frozen=True):
    """The line of a flow whose events are forgotten."""

    dropped: str


class EventFile:
    """Keeps events on the disk; a disk that refuses disturbs nobody.

    For one thread at a time, and nobody else may write the file.

    Args:
        path: of the file.
        clock: tells when to try again.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._descriptor = -1
        self._lines = 0
        self._enough = SLACK
        """With more lines than so many it is asked how many events live: that takes its time."""
        self._whole = True
        """Whether the file holds everything that lives, and ends with a whole line."""
        self._retry_at = 0.0

    # --- reading -------------------------------------------------------------------------

    def recover(self) -> Iterable[Event]:
        """What was kept, in its order; what cannot be read is left out, and cut off later."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            self._tell(error)
            return ()
        dropped: dict[str, int] = {}
        events: list[tuple[int, Event]] = []
        for number, line in enumerate(self._parsed(data)):
            if isinstance(line, Event):
                events.append((number, line))
            else:
                dropped[line.dropped] = number
        return [event for number, event in events if number > dropped.get(event.flow_id, -1)]

    def _parsed(self, data: bytes) -> Iterator[Event | _Dropped]:
        lines = data.split(b"\n")
        bad = bool(lines.pop())
        self._lines = len(lines)
        for line in lines:
            entry = _parse(line)
            if entry is None:
                bad = True
            else:
                yield entry
        if bad:
            self._whole = False
            log.warning("some events are unreadable", file=self._path.name)

    # --- writing -------------------------------------------------------------------------

    def keep(self, event: Event, living: Living) -> None:
        """Keep an event; ``living`` gives all that have to be kept, this one included."""
        self._add(msgspec.json.encode(event) + b"\n", living)

    def drop(self, flow_id: str, living: Living) -> None:
        """Forget the events of a flow."""
        self._add(msgspec.json.encode(_Dropped(flow_id)) + b"\n", living)

    def close(self, living: Living) -> None:
        """End, with the file as whole as the disk lets it be."""
        if not self._whole:
            self._rewrite(list(living()))
        self._release()

    def _add(self, line: bytes, living: Living) -> None:
        if not self._whole:
            if self._clock.monotonic() >= self._retry_at:
                self._rewrite(list(living()))
            return
        try:
            self._append(line)
        except OSError as error:
            self._tell(error)
            return
        self._lines += 1
        if self._lines > self._enough and self._clock.monotonic() >= self._retry_at:
            self._compact(list(living()))

    def _append(self, line: bytes) -> None:
        """Write a line, or a part of it.

        Raises:
            OSError: the file may end with a torn line now.
        """
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
        _leave_room(self._descriptor, len(line))
        if os.write(self._descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _compact(self, events: list[Event]) -> None:
        self._enough = 2 * len(events) + SLACK
        if self._lines > self._enough:
            self._rewrite(events)

    def _rewrite(self, events: list[Event]) -> None:
        """Have the file hold these and nothing else."""
        data = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
        try:
            with storage_errors(f"cannot write {self._path}"):
                _leave_room(self._path.parent, len(data))
            write_quietly(self._path, data)
        except StorageError as error:
            self._retry_at = self._clock.monotonic() + RETRY
            log.debug("events are not rewritten", error=str(error))
            return
        self._release()  # It is the old file's.
        self._lines = len(events)
        if not self._whole:
            log.info("events are kept on the disk again", events=len(events))
        self._whole = True

    def _tell(self, error: OSError) -> None:
        self._whole = False
        self._retry_at = self._clock.monotonic() + RETRY
        log.warning(
            "events are kept in memory only, until the disk takes them",
            file=str(self._path),
            error=error.strerror,
        )

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _leave_room(where: int | Path, size: int) -> None:
    """See to it that enough is left for those who cannot do without.

    Raises:
        OSError: ENOSPC: too little would be left.
    """
    told = os.statvfs(where)
    most, share = _SPARE
    spare = min(most, told.f_blocks * told.f_frsize // share)
    if told.f_bavail * told.f_frsize < size + spare:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _parse(line: bytes) -> Event | _Dropped | None:
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(line, type=Event)
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(line, type=_Dropped)
    return None
