"""What a container engine keeps of what a container prints, and which of it was seen before.

The engine's log API (``GET /containers/ID/logs`` with ``timestamps``) answers frames of a stream's
number, three zeros, a length and so many bytes: a time, a blank, and what was printed. A line of
more than 16 KiB comes in several frames of the same time, of which only the last ends in a newline.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

_HEADER = struct.Struct(">BxxxI")

_ERROR = 3
"""The stream in which the engine tells that it could not go on."""

SLACK = 5
"""Seconds by which an entry may be older than one that stands before it: stdout and stderr each
have their time before they have their place. Far more than an engine waits in between."""


class Entry(NamedTuple):
    """One piece of what was printed.

    Attributes:
        stream: 1 is stdout, 2 stderr.
        stamp: when, in the engine's own words.
        text: what.
    """

    stream: int
    stamp: bytes
    text: bytes


def entries(chunks: Iterable[bytes]) -> Iterator[Entry]:
    """The entries of an answer, however it is cut into chunks.

    Raises:
        OSError: it ends within an entry, or the engine tells of an error.
    """
    rest = b""
    for chunk in chunks:
        rest += chunk
        at = 0
        while (end := _end(rest, at)) <= len(rest):
            stream = rest[at]
            stamp, _, text = rest[at + _HEADER.size : end].partition(b" ")
            if stream == _ERROR:
                raise OSError(f"the engine cannot read a log: {(stamp + b' ' + text).decode()}")
            yield Entry(stream, stamp, text)
            at = end
        rest = rest[at:]
    if rest:
        raise OSError("the engine's answer was cut off")


def _end(data: bytes, at: int) -> int:
    """Where the frame at a place ends; behind the data if it is not whole."""
    if len(data) < at + _HEADER.size:
        return len(data) + 1
    length: int = _HEADER.unpack_from(data, at)[1]
    return at + _HEADER.size + length


class Place(NamedTuple):
    """The last entry of a stream that was seen.

    Attributes:
        stamp: its time.
        number: which of those that follow each other with that time it is, from 1.
    """

    stamp: str
    number: int


class Places:
    """Where one is in the streams of a log, by what the engine told last."""

    def __init__(self, known: Mapping[int, Place] | None = None) -> None:
        self._seen = {
            stream: (place.stamp.encode(), place.number) for stream, place in (known or {}).items()
        }

    def __bool__(self) -> bool:
        return bool(self._seen)

    @property
    def newest(self) -> tuple[bytes, int] | None:
        """The one that was seen last."""
        return next(reversed(self._seen.values()), None)

    def passed(self, entry: Entry) -> None:
        """An entry was seen."""
        stamp, count = self._seen.pop(entry.stream, (b"", 0))
        # The last of the dictionary is what was seen last.
        self._seen[entry.stream] = (entry.stamp, count + 1 if stamp == entry.stamp else 1)

    def told(self) -> dict[int, Place]:
        """As data."""
        return {stream: Place(stamp.decode(), n) for stream, (stamp, n) in self._seen.items()}

    def since(self) -> int:
        """Seconds since the epoch before which nothing was printed that was not seen.

        As long as nobody has set the clock meanwhile.
        """
        if self.newest is None:
            return 0
        return int(datetime.fromisoformat(self.newest[0].decode()).timestamp()) - SLACK

    def kept(self, log: Iterable[Entry]) -> Places:
        """Those of these places that still are in a log."""
        walk, found = Places(), Places()
        for entry in log:
            walk.passed(entry)
            place = walk._seen[entry.stream]
            if self._seen.get(entry.stream) == place:
                found._seen[entry.stream] = place
                if len(found._seen) == len(self._seen):
                    break
        return found

    def after(self, log: Iterable[Entry]) -> Iterator[Entry]:
        """The entries of a log behind these places, each stream for itself.

        By their order and not by their times: clocks may be set back.
        """
        walk, ahead = Places(), set(self._seen)
        for entry in log:
            if entry.stream in ahead:
                walk.passed(entry)
                if walk._seen[entry.stream] == self._seen[entry.stream]:
                    ahead.discard(entry.stream)
            else:
                yield entry
