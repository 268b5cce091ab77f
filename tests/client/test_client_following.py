"""Following a watch: whatever becomes of its connections, each change is told once."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flow_operator.client import Gone, UnreachableError, event_key, status_key
from flow_operator.client.changes import Told


def lost() -> UnreachableError:
    """The connection is gone."""
    return UnreachableError("http://x", "lost")


def status(name: str, number: int) -> dict[str, Any]:
    return {"flow_id": name, "status": "running", "restarts": number}


def event(name: str, message: str, count: int = 1) -> dict[str, Any]:
    return {"flow_id": name, "type": "N", "reason": "R", "message": message, "count": count}


def message(kind: str, version: int | str, told: dict[str, Any]) -> str:
    return json.dumps({"type": kind, "resourceVersion": version and f"v{version}", "object": told})


def bookmark(version: int) -> str:
    return message("BOOKMARK", version, {})


def added(*told: dict[str, Any]) -> list[str]:
    return [message("ADDED", "", one) for one in told]


ERROR = message("ERROR", "", {"status": 410, "detail": "list again"})


class Server:
    """Connections one after the other: each the lines that come, then what it ends with."""

    def __init__(
        self,
        flavour: Any,
        *connections: list[str | Exception],
        memory: Any = None,
        left: Any = None,
    ) -> None:
        self._connections = iter(connections)
        self.since: list[str | None] = []
        self.slept: list[float] = []
        self.closed = 0
        told = memory or Told(status_key)
        self.changes = flavour.following(
            told, self._connect, self.slept.append, left or (lambda: math.inf)
        )

    @contextmanager
    def _connect(self, since: str | None) -> Iterator[Iterator[str]]:
        self.since.append(since)
        lines = next(self._connections)
        if lines and isinstance(lines[0], Exception):
            raise lines[0]
        try:
            yield self._lines(lines)
        finally:
            self.closed += 1

    def _lines(self, lines: list[str | Exception]) -> Iterator[str]:
        for line in lines:
            if isinstance(line, Exception):
                raise line
            yield line

    def told(self, count: int) -> list[tuple[str, str, Any]]:
        """So many changes: type, flow, and number or count."""
        changes = itertools.islice(self.changes, count)
        return [(c.type, c.object["flow_id"], _number(c.object)) for c in changes]


def _number(told: dict[str, Any]) -> Any:
    return told.get("restarts", told.get("count"))


@pytest.mark.parametrize("end", [[], [lost()], ['{"type": "MOD']])
def test_a_lost_connection_is_made_again_from_the_last_version(
    flavour: Any, end: list[Any]
) -> None:
    """Also if a line was cut off in its middle."""
    server = Server(
        flavour,
        [*added(status("a", 1)), bookmark(4), message("MODIFIED", 5, status("a", 2)), *end],
        [message("MODIFIED", 6, status("a", 3)), bookmark(9), *end],
        [message("DELETED", 10, status("a", 3))],
    )
    assert server.told(4) == [
        ("ADDED", "a", 1),
        ("MODIFIED", "a", 2),
        ("MODIFIED", "a", 3),
        ("DELETED", "a", 3),
    ]
    assert server.since == [None, "v5", "v9"]


def test_who_is_cut_off_before_the_first_bookmark_begins_anew(flavour: Any) -> None:
    """What was told of the first list is not told again."""
    server = Server(
        flavour,
        added(status("a", 1), status("b", 1)),
        [*added(status("a", 1), status("b", 2), status("c", 1)), bookmark(3)],
    )
    assert server.told(4) == [
        ("ADDED", "a", 1),
        ("ADDED", "b", 1),
        ("MODIFIED", "b", 2),
        ("ADDED", "c", 1),
    ]
    assert server.since == [None, None]


@pytest.mark.parametrize("gone", [[ERROR], [lost(), Gone(410, "list again")]])
def test_what_has_changed_meanwhile_is_found_by_a_new_list(flavour: Any, gone: list[Any]) -> None:
    """After a 410, as an answer or in the stream: what is new, other, and gone."""
    first = [*added(status("a", 1), status("b", 1), status("c", 1)), bookmark(4)]
    connections = [[*first, gone[0]], *([one] for one in gone[1:])]
    server = Server(
        flavour,
        *connections,
        [*added(status("a", 1), status("b", 2), status("d", 1)), bookmark(1)],
        [message("MODIFIED", 2, status("d", 2))],
    )
    assert server.told(7)[3:] == [
        ("MODIFIED", "b", 2),
        ("ADDED", "d", 1),
        ("DELETED", "c", 1),
        ("MODIFIED", "d", 2),
    ]
    assert server.since[-2:] == [None, "v1"]


def test_events_are_known_by_what_they_say(flavour: Any) -> None:
    """One that counts up is the same; all of a flow may go at once."""
    server = Server(
        flavour,
        [*added(event("a", "x"), event("ab", "x")), bookmark(1)],
        [
            message("MODIFIED", 2, event("a", "x", 2)),
            message("DELETED", 3, {"flow_id": "a"}),
            ERROR,
        ],
        [*added(event("a", "x", 1), event("ab", "x")), bookmark(9)],
        memory=Told(event_key),
    )
    assert server.told(5) == [
        ("ADDED", "a", 1),
        ("ADDED", "ab", 1),
        ("MODIFIED", "a", 2),
        ("DELETED", "a", None),
        ("ADDED", "a", 1),
    ]


def test_tries_in_a_row_are_ever_farther_apart(flavour: Any) -> None:
    """Until the operator says something again."""
    down: Callable[[], list[Any]] = lambda: [lost()]  # noqa: E731
    server = Server(
        flavour,
        [*added(status("a", 1)), bookmark(1)],
        *(down() for _ in range(3)),
        [bookmark(2)],
        down(),
        [message("MODIFIED", 3, status("a", 2))],
    )
    assert len(server.told(2)) == 2
    first, *later = server.slept
    assert later[:3] == sorted(later[:3])
    assert later[2] > first
    assert later[3] == first


@pytest.mark.parametrize("error", [lost(), ZeroDivisionError()])
def test_the_first_connection_is_tried_once(flavour: Any, error: Exception) -> None:
    """Who has the wrong address wants to know; so is what no retry can mend."""
    with pytest.raises(type(error)):
        Server(flavour, [error]).told(1)
    with pytest.raises(ZeroDivisionError):
        Server(flavour, [bookmark(1)], [ZeroDivisionError()]).told(1)


def test_the_connection_is_closed_with_the_iterator(flavour: Any) -> None:
    """And not before."""
    server = Server(flavour, [*added(status("a", 1), status("b", 1)), bookmark(1)])
    changes = server.changes
    next(changes)
    assert server.closed == 0
    changes.close()
    assert server.closed == 1
