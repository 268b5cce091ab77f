"""A watch and the list it began with are the present list, whatever happens meanwhile."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from flow_operator.api import watching
from flow_operator.api.frames import NDJSON, SSE, Format
from flow_operator.api.watch import Watch, Watched
from flow_operator.board import Board, Changes
from flow_operator.errors import GoneError
from flow_operator.figures import Figures
from flow_operator.model.status import FlowStatus
from flow_operator.teller import unknown_status
from support import FakeClock

FLOWS = st.sampled_from("abc")
PLACES = st.integers(0, 5)
SELECTED = (None, lambda status: status.restarts % 2 == 0)

DOINGS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), FLOWS, st.integers(0, 3)),
        st.tuples(st.just("record"), FLOWS, st.sampled_from("xyz")),
        st.tuples(st.just("remove"), FLOWS),
        st.tuples(
            st.just("watch"),
            st.sampled_from(["statuses", "events"]),
            st.none() | FLOWS,
            st.sampled_from(SELECTED),
            st.sampled_from([NDJSON, SSE]),
        ),
        st.tuples(st.just("read"), PLACES),
        st.tuples(st.just("lose"), PLACES, st.booleans()),
    ),
    max_size=60,
)


class Reader:
    """Somebody who lists and watches, as a client has to."""

    def __init__(self, clock: FakeClock, board: Board, watched: Watched, form: Format) -> None:
        self._clock, self._board, self._watched, self._form = clock, board, watched, form
        self.state: dict[Any, Any] = {}
        self.version: str | None = None
        self.begin()

    def begin(self) -> None:
        """Go on from the last version; anew if there is none, or it is too old."""
        changes = self._board.changes
        try:
            self.watch = Watch(changes, self._watched, self._form, self.version, self._clock)
        except GoneError:
            self.version = None
            self.watch = Watch(changes, self._watched, self._form, None, self._clock)
        if self.version is None:
            self.state = {}

    def read(self, *, everything: bool = True) -> None:
        while data := self.watch.take():
            for message in messages(data, self._form):
                self._apply(**message)
            if not everything:
                return
        if data is None:
            self.version = None
            self.begin()
            self.read()

    def _apply(self, type: str, resourceVersion: str, object: Any) -> None:  # noqa: A002, N803
        if resourceVersion:
            before = int(self.version.partition("-")[2]) if self.version else 0
            now = int(resourceVersion.partition("-")[2])
            assert now > before or (type == "BOOKMARK" and now >= before), "told twice"
            self.version = resourceVersion
        if type == "BOOKMARK":
            assert object == {}
        elif type == "ERROR":
            assert object["status"] == 410
        else:
            self._change(type, object)

    def _change(self, kind: str, told: Any) -> None:
        if "reason" in told:
            key = tuple(told[name] for name in ("flow_id", "type", "reason", "message"))
            assert (kind == "MODIFIED") == (told["count"] > 1) or not self.version
            self.state.pop(key, None)
            self.state[key] = told
        elif "status" not in told:
            assert kind == "DELETED"
            self.state = {k: v for k, v in self.state.items() if k[0] != told["flow_id"]}
        else:
            known = self.state.pop(told["flow_id"], None)
            assert (kind == "ADDED") == (known is None)
            if kind == "DELETED":
                assert told == known
                return
            assert known is None or told["generation"] > known["generation"]
            self.state[told["flow_id"]] = told


def messages(data: bytes, form: Format) -> list[dict[str, Any]]:
    """What a piece of a watch says; of server-sent events the fields agree with it."""
    if form is NDJSON:
        return [json.loads(line) for line in data.splitlines()]
    found = []
    assert data.endswith(b"\n\n")
    for block in data.decode().removesuffix("\n\n").split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.split("\n"))
        if "retry" in fields:
            continue
        message = json.loads(fields["data"])
        assert fields["event"] == message["type"].lower()
        assert ("id" in fields) == (message["type"] == "ERROR" or message["resourceVersion"] != "")
        assert fields.get("id", "") == message["resourceVersion"]
        found.append(message)
    return found


class World:
    """A board that keeps few changes, and its readers."""

    def __init__(self, most: int, weight: int) -> None:
        self.clock = FakeClock()
        self.board = Board(self.clock)
        self.board.changes = Changes(most, weight)
        self.statuses = watching.statuses_watched(self.board, Figures({}, self.clock, lambda _: {}))
        self.events = watching.events_watched(self.board)
        self.readers: list[tuple[Reader, Any]] = []
        self.told = 0

    def publish(self, flow_id: str, number: int) -> None:
        self.told += 1
        status = unknown_status(flow_id, "é\n\r\x85\u2028")
        self.board.publish(replace(status, generation=self.told, restarts=number))

    def record(self, flow_id: str, message: str) -> None:
        self.board.record(flow_id, "Reason", message)
        self.clock.advance(1)

    def remove(self, flow_id: str) -> None:
        self.board.remove(flow_id)

    def watch(self, what: str, flow_id: str | None, matches: Any, form: Format) -> None:
        if what == "events":
            watched = self.events(flow_id)
            expected = lambda: self._events(flow_id)  # noqa: E731
        else:
            watched = self.statuses(flow_id, matches)
            expected = lambda: self._statuses(flow_id, matches)  # noqa: E731
        self.readers.append((Reader(self.clock, self.board, watched, form), expected))

    def _events(self, flow_id: str | None) -> list[Any]:
        told = self.board.events(None if flow_id is None else [flow_id])
        return [json.loads(msgspec.json.encode(event)) for event in told]

    def _statuses(self, flow_id: str | None, matches: Any) -> list[Any]:
        def wanted(status: FlowStatus) -> bool:
            return flow_id in (None, status.flow_id) and (matches is None or matches(status))

        return [json.loads(msgspec.json.encode(s)) for s in self.board.all().values() if wanted(s)]

    def read(self, place: int) -> None:
        for reader, _ in self.readers[place : place + 1]:
            reader.read(everything=False)

    def lose(self, place: int, anew: bool) -> None:
        for reader, _ in self.readers[place : place + 1]:
            reader.watch.close()
            reader.version = None if anew else reader.version
            reader.begin()


@given(DOINGS)
@settings(max_examples=300, deadline=None)
@pytest.mark.parametrize(("most", "weight"), [(1000, 10_000), (5, 10_000), (1000, 20)])
def test_a_watch_ends_up_with_what_is_there(most, weight, doings):
    """Over lost connections, too; whoever is too slow for what is kept begins anew."""
    world = World(most, weight)
    for name, *arguments in doings:
        getattr(world, name)(*arguments)
    for reader, expected in world.readers:
        reader.read()
        told, wanted = list(reader.state.values()), expected()
        if told and "reason" not in told[0]:
            told.sort(key=lambda status: status["flow_id"])
            wanted.sort(key=lambda status: status["flow_id"])
        assert told == wanted
