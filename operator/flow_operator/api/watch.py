"""Watches: first what is there, then each change, as the board numbers them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from flow_operator.api.errors import problem_body
from flow_operator.api.frames import Format, Frames, Kind
from flow_operator.board import Change, Changes
from flow_operator.clock import Clock
from flow_operator.errors import GoneError, InvalidError, clipped

_PIECE = 64 * 1024
"""Bytes after which no more is added to a piece."""

_VERSION = re.compile("([0-9a-f]{8})-([0-9]{1,18})")

_GONE = "what has changed since that resourceVersion is not known any more; list again"


@dataclass(frozen=True)
class Watched:
    """What one watch tells.

    Attributes:
        frames: writes it.
        kind_of: what a change is to this watch; None if it is not told of it.
        listed: gives the present revision, and the objects that are there at it.
    """

    frames: Frames
    kind_of: Callable[[Change], Kind | None]
    listed: Callable[[], tuple[int, Iterable[Any]]]


class Watch:
    """A watch as the source of a stream.

    Args:
        changes: where changes come from.
        watched: which of them, and how.
        form: in which they are written.
        since: the version after which it begins; None begins with what is there.
        ends_at: when it ends, in monotonic seconds of ``clock``.

    Raises:
        GoneError: ``since`` is too old, or of an earlier operator.
        InvalidError: ``since`` is no version at all.
    """

    period: float | None = None

    def __init__(
        self,
        changes: Changes,
        watched: Watched,
        form: Format,
        since: str | None,
        clock: Clock,
        ends_at: float = math.inf,
    ) -> None:
        self._changes = changes
        self._watched = watched
        self._form = form
        self._clock = clock
        self.ends_at = ends_at
        self._over = False
        listed: Iterable[Any] = ()
        if since is None:
            self._cursor, listed = watched.listed()
        else:
            self._cursor = self._from(since)
        self._first = self._begin(listed, bookmark=since is None)

    def _from(self, since: str) -> int:
        found = _VERSION.fullmatch(since)
        if not found:
            raise InvalidError(
                f"{clipped(ascii(since))} is no resourceVersion of this operator; list first"
            )
        epoch, revision = found[1], int(found[2])
        if epoch != self._watched.frames.epoch or not self._changes.holds(revision):
            raise GoneError(_GONE)
        return revision

    def _begin(self, listed: Iterable[Any], *, bookmark: bool) -> Iterator[bytes]:
        """What comes before changes; only after all of it a watch can go on from a version."""
        yield self._form.begin
        for item in listed:
            yield self._form.frame("ADDED", "", msgspec.json.encode(item))
        if bookmark:
            yield self.heartbeat

    @property
    def heartbeat(self) -> bytes:
        """A bookmark: nothing has changed up to where it stands."""
        return self._form.frame("BOOKMARK", self._watched.frames.version(self._cursor), b"{}")

    def take(self) -> bytes | None:
        """What is new; None once the watch has ended."""
        piece = bytearray()
        while len(piece) < _PIECE and (frame := self._next()) is not None:
            piece += frame
        if not piece and (self._over or self._clock.monotonic() >= self.ends_at):
            return None
        return bytes(piece)

    def _next(self) -> bytes | None:
        """The next frame, which is empty for what is not told; None if there is none yet."""
        first = next(self._first, None)
        if first is not None:
            return first
        if self._over or self._cursor == self._changes.revision:
            return None
        change = self._changes.next(self._cursor)
        if change is None:
            self._over = True
            return self._form.frame("ERROR", "", problem_body(410, _GONE))
        self._cursor = change.revision
        kind = self._watched.kind_of(change)
        return b"" if kind is None else self._watched.frames.of(change, kind, self._form)

    def close(self) -> None:
        """Nobody reads any more."""
        self._over = True
