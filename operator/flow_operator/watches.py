"""Following a watch over lost connections, as a client has to."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

from flow_operator.errors import GoneError

JsonObject = dict[str, Any]

Connect = Callable[[str | None], AbstractContextManager[Iterable[str]]]
"""Opens a watch after a version (None: from the beginning), and gives its lines."""


class Change(NamedTuple):
    """One change of what is watched.

    Attributes:
        type: ``ADDED`` also for what is there at first.
        object: as it is now; for ``DELETED`` as it was at last, or as much as is known of it.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: JsonObject


class Follower:
    """Keeps a watch going: each change once, in order, however often the connection is lost.

    It goes on from the last version. Where that is not known any more it begins anew, and tells
    what has changed meanwhile.

    Args:
        connect: opens the watch; raises :class:`GoneError` where the version is not known.
        key: tells which object it is, beginning with its flow_id.
        lost: the errors after which to try again; the first connection is tried once.
        sleep: waits so many seconds between two tries.
    """

    def __init__(
        self,
        connect: Connect,
        key: Callable[[JsonObject], tuple[Hashable, ...]],
        lost: tuple[type[Exception], ...],
        sleep: Callable[[float], object],
    ) -> None:
        self._connect = connect
        self._key = key
        # Of a line that was cut off, half is no JSON.
        self._lost: tuple[type[Exception], ...] = (*lost, ValueError)
        self._sleep = sleep
        self._version: str | None = None
        self._known: dict[tuple[Hashable, ...], JsonObject] = {}
        self._present: set[tuple[Hashable, ...]] = set()
        """What was listed since the watch has begun anew."""
        self._failures = 0

    def changes(self) -> Iterator[Change]:
        """What changes, without an end."""
        from flow_operator.backoff import requeue_delay  # noqa: PLC0415 - takes longer than a call

        connected = False
        while True:
            try:
                with self._connect(self._version) as lines:
                    connected = True
                    for line in lines:
                        yield from self._told(**json.loads(line))
            except GoneError:
                self._version = None
            except self._lost:
                if not connected:
                    raise
            self._present.clear()
            self._failures += 1
            self._sleep(requeue_delay(self._failures))

    def _told(self, type: str, resourceVersion: str, object: JsonObject) -> Iterator[Change]:  # noqa: A002, N803
        if type == "ERROR":
            raise GoneError(str(object.get("detail")))
        if self._version is None:
            yield from self._listed(type, object)
        elif type != "BOOKMARK":
            yield from self._changed(type, object)
        self._version = resourceVersion or self._version
        self._failures = 0

    def _listed(self, kind: str, told: JsonObject) -> Iterator[Change]:
        """What is there when the watch begins; a bookmark ends it."""
        if kind == "BOOKMARK":
            for key in [key for key in self._known if key not in self._present]:
                yield Change("DELETED", self._known.pop(key))
            return
        key = self._key(told)
        self._present.add(key)
        if self._known.get(key) != told:
            yield self._kept(key, told)

    def _changed(self, kind: str, told: JsonObject) -> Iterator[Change]:
        key = self._key(told)
        if kind == "DELETED":
            # Of events, the flow_id alone is told: all of that flow are gone.
            for gone in [known for known in self._known if known[: len(key)] == key]:
                del self._known[gone]
            yield Change("DELETED", told)
        else:
            yield self._kept(key, told)

    def _kept(self, key: tuple[Hashable, ...], told: JsonObject) -> Change:
        change = Change("MODIFIED" if key in self._known else "ADDED", told)
        self._known[key] = told
        return change


def status_key(status: JsonObject) -> tuple[Hashable, ...]:
    """Which flow a status is of."""
    return (status["flow_id"],)


def event_key(event: JsonObject) -> tuple[Hashable, ...]:
    """Which event it is, however often it has happened; of a flow that is gone, all."""
    names = ("flow_id", "type", "reason", "message")
    return tuple(event[name] for name in names if name in event)
