"""A stream as whole lines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from flow_operator.clock import Clock
from flow_operator.logs.stream import PART, Stream

LONGEST = 1024 * 1024
"""Bytes after which a line without an end is broken."""


class Line(NamedTuple):
    """One line without its end.

    Attributes:
        second: by when it was begun, since the epoch; 0 where times were not asked for.
        end: the position behind it, at which the next one begins.
    """

    second: int
    text: bytes
    end: int


class Lines:
    """Reads a stream line by line, each once, from a position on.

    Args:
        stream: what is read.
        position: where to begin.
        clock: for lines that are to have their times, which costs a look into the index.
    """

    def __init__(self, stream: Stream, position: int, clock: Clock | None = None) -> None:
        self._stream = stream
        self._position = position
        self._clock = clock
        self._rest = b""

    def read(self) -> Iterator[list[Line]]:
        """What was added since the last call, in whole lines.

        Bytes that went before they could be read are told in a line of their own.
        """
        end = self._stream.end()
        while self._position < end:
            part = self._stream.read(self._position)
            if part.start > self._position:
                gone = part.start - self._position
                self._rest = b""
                self._position = part.start
                told = b"[flow-operator: %d bytes are no longer kept]" % gone
                yield [Line(0, told, part.start)]
            if not part.data:
                return
            begin = self._position - len(self._rest)
            self._position += len(part.data)
            *whole, self._rest = (self._rest + part.data).split(b"\n")
            if len(self._rest) > LONGEST:
                whole, self._rest = [*whole, self._rest], b""
            if whole:
                yield self._with_times(begin, whole)

    def finish(self) -> list[Line]:
        """A last line that has no end."""
        rest, self._rest = self._rest, b""
        return self._with_times(self._position - len(rest), [rest]) if rest else []

    def _with_times(self, begin: int, texts: list[bytes]) -> list[Line]:
        *begins, end = accumulate((len(text) + 1 for text in texts), initial=begin)
        # The last line may have been broken before its end.
        ends = [*begins[1:], min(end, self._position)]
        if self._clock is None:
            return [Line(0, text, end) for text, end in zip(texts, ends, strict=True)]
        now = int(self._clock.wall())
        seconds = self._stream.times.seconds_of(begins)
        return [
            Line(second or now, text, end)
            for second, text, end in zip(seconds, texts, ends, strict=True)
        ]


def since(stream: Stream, second: int) -> int:
    """The position of the first line that was begun at a second or later."""
    position = max(stream.times.position_of(second), stream.first())
    while position > stream.first():
        part = stream.read(position - 1)
        newline = part.data.find(b"\n")
        if newline >= 0:
            return position + newline
        position += len(part.data)
        if not part.data:
            break
    return position


def tail(stream: Stream, lines: int) -> int:
    """The position at which the last so many lines begin; the end for 0."""
    end = position = stream.end()
    if lines == 0:
        return end
    first = stream.first()
    while position > first:
        start = max(first, position - PART)
        data = _between(stream, start, position)
        at = len(data) - (position == end and data.endswith(b"\n"))
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            lines -= 1
            if lines == 0:
                return position - len(data) + at + 1
        position = start
    return first


def _between(stream: Stream, start: int, end: int) -> bytes:
    """The bytes from one position to another; without those at the start that have just gone."""
    data = b""
    while start < end:
        part = stream.read(start, end - start)
        if not part.data or part.start > end:
            break
        if part.start > start:
            data = b""
        data += part.data[: end - part.start]
        start = part.start + len(part.data)
    return data
