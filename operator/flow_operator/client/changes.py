"""What a watch tells, and what is known of it over lost connections."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Literal, NamedTuple, Protocol, TypeVar

from flow_operator.client.errors import Gone
from flow_operator.client.wire import JsonObject

Key = Callable[[JsonObject], tuple[Hashable, ...]]
_GONE = 410

T_co = TypeVar("T_co", covariant=True)


class Change(NamedTuple):
    """One change of what is watched.

    Attributes:
        type: ``ADDED`` also for what is there at first.
        object: as it is now; for ``DELETED`` as it was at last, or as much as is known of it.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: JsonObject


class Memory(Protocol[T_co]):
    """What is kept of a stream while its connections come and go.

    Attributes:
        version: where the stream goes on after what was taken; None is from its beginning.
    """

    version: str | None

    def take(self, line: str) -> Iterator[T_co]:
        """What a line of the stream tells.

        Raises:
            Gone: the stream cannot go on from its version.
            ValueError: it is no such line.
        """

    def lost(self) -> None:
        """The connection has ended."""

    def gone(self, error: Gone) -> None:
        """The stream cannot go on from the version; it begins anew, or this raises."""


class Told:
    """What a watch has told up to now, so that each change is told once.

    Args:
        key: tells which object it is, beginning with its flow_id.
        version: from where the watch goes on; None begins it anew.
        known: what was there at that version.
    """

    def __init__(
        self, key: Key, version: str | None = None, known: Iterable[JsonObject] = ()
    ) -> None:
        self._key = key
        self.version = version
        self._known = {key(told): told for told in known}
        self._present: set[tuple[Hashable, ...]] = set()
        """What was listed since the watch has begun anew."""

    def take(self, line: str) -> Iterator[Change]:
        """The changes that a message makes; of a line that was cut off, half is no JSON."""
        yield from self._message(**json.loads(line))

    def lost(self) -> None:
        """The connection has ended."""
        self._present.clear()

    def gone(self, error: Gone) -> None:
        """The operator cannot go on from the version: what has changed is found by a new list."""
        del error
        self.version = None

    def _message(self, type: str, resourceVersion: str, object: JsonObject) -> Iterator[Change]:  # noqa: A002, N803
        if type == "ERROR":
            raise Gone(_GONE, str(object.get("detail")))
        if self.version is None:
            yield from self._listed(type, object)
        elif type != "BOOKMARK":
            yield from self._changed(type, object)
        self.version = resourceVersion or self.version

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


class Printed:
    """What was taken of a log, as server-sent events of one line each.

    Args:
        version: the id of the last line; None if there was none.
    """

    def __init__(self, version: str | None = None) -> None:
        self.version = version
        self._id: str | None = None
        self._data: str | None = None

    def take(self, line: str) -> Iterator[JsonObject]:
        """The line that was printed, once its event is whole."""
        name, _, value = line.partition(": ")
        if name == "id":
            self._id = value
        elif name == "data":
            self._data = value
        elif not line:
            self.version = self._id or self.version
            told = self._data
            self.lost()
            if told is not None:
                yield json.loads(told)

    def lost(self) -> None:
        """What had come of an event is void."""
        self._id = self._data = None

    def gone(self, error: Gone) -> None:
        """Other logs stand there now; to begin anew would tell lines twice."""
        raise error
