"""Logs that are followed as objects: server-sent events, or NDJSON.

Each line has an id that tells where all logs of the stream stand after it, so that whoever loses
the connection goes on exactly there. Positions outlive rotations, and the operator.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from flow_operator.api.frames import RETRY, SSE, Format
from flow_operator.clock import Clock, rfc3339
from flow_operator.errors import GoneError, InvalidError, clipped
from flow_operator.logs import Stream
from flow_operator.logs.lines import Line, Lines

MOST = 64
"""Logs of one stream: an id holds the position of each, and comes back in a header."""

_PIECE = 64 * 1024
"""Bytes after which no more is added to a piece."""

_ID = re.compile("([0-9a-f]{8})((?:-[0-9]{1,18})*)")


class LogLine(msgspec.Struct, frozen=True):
    """One line that a step has printed.

    Attributes:
        time: RFC 3339; by when it was begun. Null where that is not known.
        line: without its end; U+FFFD stands for what is no UTF-8.
        id: what `Last-Event-ID` takes to go on after it.
    """

    flow_id: str
    step: str
    replica: int
    time: str | None
    line: str
    id: str


class Log(NamedTuple):
    """What one step of one replica prints."""

    step: str
    replica: int
    stream: Stream


class Ids:
    """The ids of one set of logs.

    Args:
        flow_id: whose they are.
        uid: the flow's.
        logs: all of them, in the order of the positions.

    Raises:
        InvalidError: there are too many.
    """

    def __init__(self, flow_id: str, uid: str, logs: list[Log]) -> None:
        if len(logs) > MOST:
            raise InvalidError(
                f"'{flow_id}' has {len(logs)} logs, of which {MOST} at most can be followed as "
                "objects: name a step or a replica, or accept text/plain"
            )
        self.flow_id = flow_id
        self.logs = logs
        told = repr((uid, [(log.step, log.replica) for log in logs]))
        self._key = f"{zlib.crc32(told.encode()):08x}"

    def written(self, positions: list[int]) -> str:
        """The id of such a place."""
        return "-".join([self._key, *map(str, positions)])

    def read(self, text: str) -> list[int]:
        """The positions that an id tells.

        Raises:
            GoneError: it is of other logs.
            InvalidError: it is none.
        """
        found = _ID.fullmatch(text)
        if not found:
            raise InvalidError(
                f"Last-Event-ID: {clipped(ascii(text))} is no id of a log's line; "
                "leave it out to begin anew"
            )
        positions = [int(number) for number in found[2].split("-")[1:]]
        if (
            found[1] != self._key
            or len(positions) != len(self.logs)
            or any(at > log.stream.end() for at, log in zip(positions, self.logs, strict=True))
        ):
            raise GoneError("that Last-Event-ID is of other logs; leave it out to begin anew")
        return positions


class LogLines:
    """The lines of several logs as they are printed.

    Args:
        ids: of the logs.
        positions: where to begin in each.
        clock: tells the time of lines that are new.
        form: in which they are written.
    """

    def __init__(self, ids: Ids, positions: list[int], clock: Clock, form: Format) -> None:
        self._ids = ids
        self._positions = list(positions)
        self._lines = [
            Lines(log.stream, position, clock)
            for log, position in zip(ids.logs, positions, strict=True)
        ]
        self._events = form is SSE
        self.heartbeat = b":\n\n" if self._events else b""

    def pieces(self) -> Iterator[bytes]:
        """What is printed, piece by piece; an empty one where nothing is new."""
        if self._events:
            # An id without data: whoever is cut off before the first line goes on from here.
            number = self._ids.written(self._positions)
            yield b"retry: %d\nid: %b\n\n" % (RETRY, number.encode())
        while True:
            piece = bytearray()
            for written in self._added():
                piece += written
                if len(piece) >= _PIECE:
                    yield bytes(piece)
                    piece.clear()
            if piece:
                yield bytes(piece)
            yield b""

    def _added(self) -> Iterator[bytes]:
        for index, (log, lines) in enumerate(zip(self._ids.logs, self._lines, strict=True)):
            for found in lines.read():
                for line in found:
                    self._positions[index] = line.end
                    yield self._written(log, line)

    def _written(self, log: Log, line: Line) -> bytes:
        number = self._ids.written(self._positions)
        told = LogLine(
            flow_id=self._ids.flow_id,
            step=log.step,
            replica=log.replica,
            time=rfc3339(line.second, "seconds") if line.second else None,
            line=line.text.decode("utf-8", "replace"),
            id=number,
        )
        data = msgspec.json.encode(told)
        return b"id: %b\ndata: %b\n\n" % (number.encode(), data) if self._events else data + b"\n"
