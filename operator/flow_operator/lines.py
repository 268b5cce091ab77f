"""Looking for a line in what a step prints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from flow_operator.runners.base import LogPart

LONGEST = 4096
"""Bytes of a line that are matched; the rest is passed over."""

Read = Callable[[int | None], LogPart]
"""Tells the part of a log that begins at a position; None is where the step was started."""


class LineSearch:
    """Reads a log from where the step was started, each part once, until a line matches."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)
        self._position: int | None = None
        self._rest = b""
        self._passing_over = False
        self.found = False

    def go_on(self, read: Read, late: Callable[[], bool]) -> bool:
        """Read on to the end of the log, or until it is ``late``; returns whether it was found.

        Raises:
            OSError: the log cannot be read.
            RunnerError: the runner is away.
        """
        while not self.found:
            part = read(self._position)
            if part.start != self._position:
                self._rest, self._passing_over = b"", False  # What stood between is gone.
            if part.data or self._position is not None:
                self._position = part.end  # Else the runner may not know the step yet.
            self.found = any(self._matches(line) for line in self._heads(part.data))
            if not part.data or late():
                break
        return self.found

    def _heads(self, data: bytes) -> Iterator[bytes]:
        """The beginning of each line that has ended, or is as long as is looked at."""
        *whole, rest = data.split(b"\n")
        for line in whole:
            head, self._rest = self._rest + line, b""
            if self._passing_over:
                self._passing_over = False  # It was looked at while it was being written.
            else:
                yield head[:LONGEST]
        if self._passing_over:
            return
        self._rest += rest
        if len(self._rest) >= LONGEST:
            yield self._rest[:LONGEST]
            self._rest, self._passing_over = b"", True

    def _matches(self, line: bytes) -> bool:
        text = line.removesuffix(b"\r").decode(errors="replace")
        return self._pattern.search(text) is not None
