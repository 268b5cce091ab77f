# Generated from aio/streams.py by `make client`: edit that one.
"""Following a stream over lost connections, as a client has to."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Callable, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from flow_operator.client.sync.parts import Parts
from flow_operator.client.changes import Change, Memory, Told
from flow_operator.client.errors import NOT_OURS, ApiError, Gone, Unavailable, UnreachableError
from flow_operator.client.repeat import Repeat
from flow_operator.client.wire import Sleep, given, patience

SILENCE = 45.0
"""Seconds after which a stream is taken for lost: it has something every 15."""

Lines = Callable[[str | None], AbstractContextManager[Iterator[str]]]
"""Opens a stream after a version (None: from the beginning), and gives its lines."""

T = TypeVar("T")


def for_ever() -> float:
    """How many seconds are left where there is no end."""
    return math.inf


def following(
    memory: Memory[T], lines_after: Lines, sleep: Sleep, left: Callable[[], float]
) -> Generator[T]:
    """What a stream tells, each once and in order, however often the connection is lost.

    The first connection is tried once.

    Args:
        memory: knows where the stream goes on, and reads its lines.
        lines_after: opens it.
        sleep: waits between two tries.
        left: tells how many seconds are left; it ends when there are none.
    """
    from flow_operator.backoff import requeue_delay  # noqa: PLC0415 - takes longer than a call

    connected = False
    failures = 0
    while left() > 0:
        try:
            with lines_after(memory.version) as lines:
                connected = True
                for line in lines:
                    for told in memory.take(line):
                        yield told
                    failures = 0
                    if left() <= 0:
                        return
        except Gone as error:
            memory.gone(error)
        except (UnreachableError, Unavailable, ValueError):
            # Of a line that was cut off, half is no JSON.
            if not connected:
                raise
        memory.lost()
        failures += 1
        sleep(max(0.0, min(requeue_delay(failures), left())))


class Streams(Parts):
    """Opens streams."""

    def _watch(
        self,
        path: str,
        params: Mapping[str, str],
        told: Told,
        left: Callable[[], float] = for_ever,
    ) -> Generator[Change]:
        @contextmanager
        def lines_after(version: str | None) -> Generator[Iterator[str]]:
            asked = {"watch": "1", **params, **given(resourceVersion=version)}
            silence = max(0.001, min(SILENCE, left()))
            with self._lines(path, "application/x-ndjson", asked, silence) as lines:
                yield lines

        return following(told, lines_after, self._sleep, left)

    @contextmanager
    def _lines(
        self,
        path: str,
        kind: str,
        params: Mapping[str, str],
        silence: float = SILENCE,
        last_id: str | None = None,
    ) -> Generator[Iterator[str]]:
        """The lines of an answer of a content type."""
        headers = {"Accept": kind, **given(**{"Last-Event-ID": last_id})}
        stream = self._stream(
            path,
            repeat=Repeat.NEVER,
            params=params,
            headers=headers,
            timeout=patience(silence),
        )
        with stream as response:
            if response.headers.get("content-type") != kind:
                raise ApiError(response.status_code, NOT_OURS)
            yield response.iter_lines()
