"""Following a stream over lost connections, as a client has to."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from flow_operator.client.aio.parts import AsyncParts
from flow_operator.client.changes import Change, Memory, Told
from flow_operator.client.errors import NOT_OURS, ApiError, Gone, Unavailable, UnreachableError
from flow_operator.client.repeat import Repeat
from flow_operator.client.wire import AsyncSleep, given, patience

SILENCE = 45.0
"""Seconds after which a stream is taken for lost: it has something every 15."""

AsyncLines = Callable[[str | None], AbstractAsyncContextManager[AsyncIterator[str]]]
"""Opens a stream after a version (None: from the beginning), and gives its lines."""

T = TypeVar("T")


def for_ever() -> float:
    """How many seconds are left where there is no end."""
    return math.inf


async def async_following(
    memory: Memory[T], lines_after: AsyncLines, sleep: AsyncSleep, left: Callable[[], float]
) -> AsyncGenerator[T]:
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
            async with lines_after(memory.version) as lines:
                connected = True
                async for line in lines:
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
        await sleep(max(0.0, min(requeue_delay(failures), left())))


class AsyncStreams(AsyncParts):
    """Opens streams."""

    def _watch(
        self,
        path: str,
        params: Mapping[str, str],
        told: Told,
        left: Callable[[], float] = for_ever,
    ) -> AsyncGenerator[Change]:
        @asynccontextmanager
        async def lines_after(version: str | None) -> AsyncGenerator[AsyncIterator[str]]:
            asked = {"watch": "1", **params, **given(resourceVersion=version)}
            silence = max(0.001, min(SILENCE, left()))
            async with self._lines(path, "application/x-ndjson", asked, silence) as lines:
                yield lines

        return async_following(told, lines_after, self._sleep, left)

    @asynccontextmanager
    async def _lines(
        self,
        path: str,
        kind: str,
        params: Mapping[str, str],
        silence: float = SILENCE,
        last_id: str | None = None,
    ) -> AsyncGenerator[AsyncIterator[str]]:
        """The lines of an answer of a content type."""
        headers = {"Accept": kind, **given(**{"Last-Event-ID": last_id})}
        stream = self._stream(
            path,
            repeat=Repeat.NEVER,
            params=params,
            headers=headers,
            timeout=patience(silence),
        )
        async with stream as response:
            if response.headers.get("content-type") != kind:
                raise ApiError(response.status_code, NOT_OURS)
            yield response.aiter_lines()
