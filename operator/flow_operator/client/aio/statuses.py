"""What is observed of flows, what they are told to do, and waiting for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from flow_operator.client.aio.streams import AsyncStreams
from flow_operator.client.changes import Change, Told, status_key
from flow_operator.client.repeat import Repeat
from flow_operator.client.waited import Until, Waited
from flow_operator.client.wire import (
    JsonObject,
    Seen,
    by_flow,
    check_flow_id,
    countdown,
    decoded,
    expect,
    flag,
    given,
    known_as,
    objects,
    patience,
    see,
    selectors,
    status_path,
)


class AsyncStatuses(AsyncStreams):
    """The observed state, and commands."""

    async def statuses(
        self,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int | None = None,
        if_none_match: Seen | None = None,
    ) -> dict[str, JsonObject]:
        """Every flow's status, by flow_id; also of those that were deleted and still stop.

        The arguments are as in :meth:`flows`.

        Raises:
            NotModified: all of it is still as it was seen.
        """
        found: dict[str, JsonObject] = {}
        asked = selectors(label_selector, field_selector)
        async for part in self._parts("/flows/status", asked, limit, if_none_match):
            found |= expect(part, dict)
        return found

    async def status(self, flow_id: str, *, if_none_match: Seen | None = None) -> JsonObject:
        """One flow's status, as it was observed.

        Raises:
            NotFound: there is no flow of that id.
            NotModified: it is still as ``if_none_match`` has seen it.
        """
        headers = known_as(if_none_match)
        path = status_path(flow_id)
        response = await self._send("GET", path, repeat=Repeat.ALWAYS, headers=headers)
        see(if_none_match, response)
        return expect(decoded(response), dict)

    async def command(
        self,
        command: str,
        flow_ids: Sequence[str] | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        hard: bool = False,
        timeout: float = 10.0,
        dry_run: bool = False,
    ) -> dict[str, str]:
        """Command flows, all or none, and wait for what they do.

        ``stop`` and ``pause`` are repeated where an answer was lost; the others only where the
        operator has certainly not got the first try.

        Args:
            command: start, stop, pause, resume or restart.
            flow_ids: which; None means every flow. An empty sequence is an error.
            label_selector: in place of ``flow_ids``: flows with such labels, which may be none.
            field_selector: likewise, flows with such a status.
            hard: of a stop: kill instead of drain.
            timeout: seconds to wait for the wanted states, 0 to 600.
            dry_run: command nothing; the answer is what would happen to processes.

        Returns:
            The status of each flow as observed when the wait ended, by flow_id.

        Raises:
            ApiError: 400, an unknown flow or command; nothing was done.
        """
        body: JsonObject = {"command": command}
        if flow_ids is not None:
            body["flow_ids"] = list(flow_ids)
        if hard:
            body["type"] = 1
        asked = selectors(label_selector, field_selector)
        asked |= given(timeout=f"{timeout:g}", dryRun=flag(dry_run, "All"))
        answer = await self._call(
            "PATCH",
            "/flows/commands",
            repeat=Repeat.of_command(command, dry_run=dry_run),
            json=body,
            params=asked,
            timeout=patience(self._seconds + timeout),
        )
        return by_flow(objects(answer, "details"), "change" if dry_run else "status")

    def watch_statuses(
        self,
        flow_id: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> AsyncGenerator[Change]:
        """The changes of one flow's status, or of all, without an end.

        First everything that is there is ``ADDED``. A connection that is lost is made again, and
        nothing is told twice or left out; where the operator does not know any more what has
        changed meanwhile, its present list is compared with what was told. Nothing is sent, and so
        nothing raised, before the first change is asked for. The iterator holds a connection until
        it is closed.

        Args:
            flow_id: of the only flow; None is all.
            label_selector: only flows with such labels: ``team=payments``. What begins to match is
                ``ADDED``, what ceases to is ``DELETED``.
            field_selector: only flows with such a status: ``status=running``.

        Raises:
            ApiError: the operator refuses it.
            NotFound: there is no flow of that id.
            UnreachableError: the first connection cannot be made; later ones are tried for ever.
        """
        asked = selectors(label_selector, field_selector)
        return self._watch(status_path(flow_id), asked, Told(status_key))

    async def wait_for(
        self, flow_ids: str | Sequence[str], until: Until = "running", *, timeout: float = 60.0
    ) -> dict[str, JsonObject]:
        """Wait until flows are where they should be, all of them at once.

        Nothing is polled: the operator tells of each change.

        Args:
            flow_ids: one or several.
            until: a status, or several of which one will do, or a predicate of a whole status.
                ``"deleted"`` is when there is no such flow any more, nor a process of it.
            timeout: seconds, besides those that the first look takes.

        Returns:
            The statuses, by flow_id.

        Raises:
            LateError: time is up; it has the statuses of those that are not there.
            NotFound: there is no such flow, or it was deleted.
        """
        names = [flow_ids] if isinstance(flow_ids, str) else list(flow_ids)
        chosen = f"flow_id={check_flow_id(names[0])}" if len(names) == 1 else None
        left = countdown(timeout)
        seen = Seen()
        listed = await self.statuses(field_selector=chosen, if_none_match=seen)
        waited = Waited(names, until, listed)
        told = Told(status_key, seen.resource_version or None, listed.values())
        asked = selectors(None, chosen)
        async with aclosing(self._watch(status_path(None), asked, told, left)) as changes:
            while not waited.over():
                change = await anext(changes, None)
                if change is None:
                    raise waited.error(timeout)
                waited.take(change)
        return waited.statuses
