"""What flows print, and what has happened to them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from flow_operator.client.aio.streams import AsyncStreams, async_following, for_ever
from flow_operator.client.changes import Change, Printed, Told, event_key
from flow_operator.client.repeat import Repeat
from flow_operator.client.wire import (
    JsonObject,
    events_path,
    flow_path,
    given,
    objects,
    patience,
)


class AsyncSaid(AsyncStreams):
    """Logs and events."""

    async def logs(
        self,
        flow_id: str,
        *,
        step: str | None = None,
        replica: int | None = None,
        tail: int | None = None,
        since: str | None = None,
        timestamps: bool = False,
        follow: bool = False,
    ) -> AsyncGenerator[bytes]:
        """What a flow prints, oldest first, in pieces of any length as they arrive.

        Nothing is sent, and so nothing raised, before the first piece is asked for.

        Args:
            flow_id: of the flow.
            step: only of this step.
            replica: only of this replica.
            tail: only the last lines of each step, this many.
            since: only what was printed since then: ``10m``, or a time as RFC 3339 writes it.
            timestamps: with the second of each line before it.
            follow: go on with what is printed from now on; ends with the caller or the operator.

        Raises:
            NotFound: there is no flow of that id.
            ApiError: 400, it has no such step or replica.
        """
        asked = given(
            step=step,
            replica=replica,
            tail=tail,
            since=since,
            timestamps=timestamps,
            follow=follow,
        )
        silence = patience(None if follow else self._seconds)
        path = f"{flow_path(flow_id)}/logs"
        stream = self._stream(path, repeat=Repeat.ALWAYS, params=asked, timeout=silence)
        async with stream as response:
            async for piece in response.aiter_bytes():
                yield piece

    def log_lines(
        self,
        flow_id: str,
        *,
        step: str | None = None,
        replica: int | None = None,
        tail: int | None = None,
        since: str | None = None,
        last_id: str | None = None,
    ) -> AsyncGenerator[JsonObject]:
        """What a flow prints, and goes on to print, a line at a time, without an end.

        Each is ``{"flow_id", "step", "replica", "time", "line", "id"}``. A connection that is lost
        is made again, and no line is told twice or left out, whatever was restarted or rotated.
        ``tail`` and the like are as in :meth:`logs`.

        Args:
            flow_id: of the flow.
            step: only of this step.
            replica: only of this replica.
            tail: only the last lines of each step, this many.
            since: only what was printed since then.
            last_id: only what comes after the line of this id.

        Raises:
            NotFound: there is no flow of that id.
            Gone: the flow has other steps now, or is another one of its name.
            UnreachableError: the first connection cannot be made; later ones are tried for ever.
        """
        path = f"{flow_path(flow_id)}/logs"
        asked = given(step=step, replica=replica, tail=tail, since=since, follow=True)

        @asynccontextmanager
        async def lines_after(version: str | None) -> AsyncGenerator[AsyncIterator[str]]:
            async with self._lines(path, "text/event-stream", asked, last_id=version) as lines:
                yield lines

        return async_following(Printed(last_id), lines_after, self._sleep, for_ever)

    async def events(self, flow_id: str | None = None) -> list[JsonObject]:
        """What happened to a flow, or to all, oldest first.

        ``{"flow_id", "at", "firstAt", "type", "reason", "message", "count"}`` each.

        Raises:
            NotFound: there is no flow of that id.
        """
        return objects(await self._get(events_path(flow_id)), "events")

    def watch_events(self, flow_id: str | None = None) -> AsyncGenerator[Change]:
        """The events of one flow, or of all, as they happen; first those that are kept.

        ``MODIFIED`` is one that has happened once more. ``DELETED`` has the ``flow_id`` alone where
        that flow is gone with all of its events, else one that is not kept any more. All else is
        as with :meth:`watch_statuses`.
        """
        return self._watch(events_path(flow_id), {}, Told(event_key))
