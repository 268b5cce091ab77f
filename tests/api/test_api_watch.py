"""Watches: what is there, then each change, and going on where one was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from flow_operator.api.statuses import status_of
from flow_operator.board import Changes
from flow_operator.figures import Figures
from flow_operator.model.status import StepStatus
from flow_operator.runners.base import Usage
from support import FakeClock, make_document

WATCHES = ("/flows/status", "/flows/status/a", "/events", "/flows/a/events")
SSE = {"HTTP_ACCEPT": "text/event-stream"}


@pytest.fixture
def flows(api: Any) -> Any:
    """Two flows that were looked at, each with an event."""
    documents = [make_document(name) for name in "ab"]
    documents[0]["metadata"] = {"labels": {"team": "red"}}
    assert api.client.send("POST", "/flows", documents).read()
    for name in "ab":
        publish(api, name)
        api.board.record(name, "Started", "m")
    return api


def publish(api: Any, flow_id: str, **changes: Any) -> None:
    api.board.publish(replace(status_of(api.services, flow_id), **changes))


def parsed(piece: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in piece.splitlines()]


def kinds(piece: bytes) -> list[tuple[str, str | None]]:
    """Type and flow of each message."""
    return [(told["type"], told["object"].get("flow_id")) for told in parsed(piece)]


def header(api: Any, path: str = "/flows/status") -> str:
    answer = api.client.get(path)
    answer.read()
    version: str = answer.headers["Resource-Version"]
    return version


# --- what is told ----------------------------------------------------------------------------


def test_a_watch_begins_with_what_is_there(flows: Any) -> None:
    """Then a bookmark, from which it can go on, then each change with its version."""
    answer = flows.client.get("/flows/status?watch=1")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.headers["Cache-Control"] == "no-cache"
    first = parsed(next(answer.body))
    assert [told["type"] for told in first] == ["ADDED", "ADDED", "BOOKMARK"]
    assert first[0]["object"] == flows.client.get("/flows/status/a").json()
    assert [told["resourceVersion"] for told in first[:2]] == ["", ""]
    assert first[2] == {"type": "BOOKMARK", "resourceVersion": header(flows), "object": {}}
    publish(flows, "a", status="running")
    flows.board.record("a", "Other", "of no interest here")
    publish(flows, "b", status="failed")
    flows.board.remove("a")
    told = parsed(next(answer.body))
    assert [(t["type"], t["object"]["status"]) for t in told] == [
        ("MODIFIED", "running"),
        ("MODIFIED", "failed"),
        ("DELETED", "running"),
    ]
    assert told[-1]["resourceVersion"] == header(flows)
    answer.close()


def test_events_are_watched_as_they_come_and_count(flows: Any) -> None:
    """And that those of a flow are gone with it."""
    answer = flows.client.get("/events?watch=1")
    assert kinds(next(answer.body)) == [("ADDED", "a"), ("ADDED", "b"), ("BOOKMARK", None)]
    flows.board.record("a", "Started", "m")
    flows.board.record("a", "Ended", "m")
    publish(flows, "a", status="running")
    flows.board.remove("b")
    told = parsed(next(answer.body))
    assert [t["type"] for t in told] == ["MODIFIED", "ADDED", "DELETED"]
    assert (told[0]["object"]["count"], told[1]["object"]["reason"]) == (2, "Ended")
    assert told[2]["object"] == {"flow_id": "b"}
    answer.close()


@pytest.mark.parametrize("path", ["/flows/status/a", "/flows/a/events"])
def test_a_watch_of_one_flow_tells_of_no_other(flows: Any, path: str) -> None:
    """Neither at first nor later."""
    answer = flows.client.get(f"{path}?watch=1")
    assert kinds(next(answer.body)) == [("ADDED", "a"), ("BOOKMARK", None)]
    for name in "ba":
        publish(flows, name, status="running")
        flows.board.record(name, "Reached", "m")
    flows.board.remove("b")
    [told] = parsed(next(answer.body))
    assert told["object"]["flow_id"] == "a"
    answer.close()


@pytest.mark.parametrize(
    "query", ["fieldSelector=status=running", "labelSelector=team&fieldSelector=status!=failed"]
)
def test_a_selected_watch_tells_what_begins_and_ceases_to_match(flows: Any, query: str) -> None:
    """As added, and as deleted with what it was."""
    publish(flows, "a", status="failed")
    answer = flows.client.get(f"/flows/status?watch=1&{query}")
    assert kinds(next(answer.body)) == [("BOOKMARK", None)]
    for status, message in (("running", "1"), ("running", "2"), ("failed", "3")):
        publish(flows, "a", status=status, message=message)
    publish(flows, "b", message="not selected")
    told = [(t["type"], t["object"]["message"]) for t in parsed(next(answer.body))]
    assert told == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]
    answer.close()


def test_server_sent_events_are_framed_by_their_rules(flows: Any) -> None:
    """Whatever is in a text; what is there at first has no id, as nobody can go on from it."""
    publish(flows, "a", message="one\ntwo\r\nthree\n\ndata: x\u2028\0é")
    answer = flows.client.get("/flows/status?watch=1", **SSE)
    assert answer.headers["Content-Type"] == "text/event-stream"
    text = next(answer.body).decode()
    blocks = text.removesuffix("\n\n").split("\n\n")
    assert blocks[0] == "retry: 2000"
    fields = [[line.partition(": ") for line in block.split("\n")] for block in blocks[1:]]
    assert [[name for name, _, _ in block] for block in fields] == [
        ["event", "data"],
        ["event", "data"],
        ["id", "event", "data"],
    ]
    assert [value for block in fields for n, _, value in block if n == "event"] == [
        "added",
        "added",
        "bookmark",
    ]
    told = json.loads(fields[0][1][2])
    assert told["object"]["message"] == "one\ntwo\r\nthree\n\ndata: x\u2028\0é"
    publish(flows, "a", status="running")
    change = next(answer.body).decode()
    assert change.startswith(f"id: {header(flows)}\nevent: modified\ndata: {{")
    assert "\r" not in text + change
    answer.close()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/event-stream", "text/event-stream"),
        ("application/json;q=0.5, Text/Event-Stream;q=0.9", "text/event-stream"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("*/*", "application/x-ndjson"),
        ("", "application/x-ndjson"),
    ],
)
def test_accept_chooses_the_format(flows: Any, accept: str, kind: str) -> None:
    """Lines, unless server-sent events are named."""
    answer = flows.client.get("/events?watch=1", HTTP_ACCEPT=accept)
    assert (answer.headers["Content-Type"], answer.headers["Vary"]) == (kind, "Accept")
    answer.close()


def test_a_watched_status_has_the_last_known_figures(make_api: Any) -> None:
    """They make no change, and no look is taken for them."""
    looks: list[Any] = []

    class Runner:
        def usage(self, flow_ids: Any) -> Any:
            looks.append(flow_ids)
            return {"run": (Usage(memory_bytes=len(looks)),)}

    clock = FakeClock()
    figures = Figures({"process": Runner()}, clock, lambda _: {})  # type: ignore[dict-item]
    api = make_api(figures=figures, clock=clock)
    assert api.client.send("POST", "/flows", [make_document("a")]).read()
    step = StepStatus("s", 0, "run", "running", 1, 0, True, None, 0.0, 0, 0)
    publish(api, "a", steps=(step,))
    watches = [api.client.get("/flows/status?watch=1") for _ in range(3)]
    assert [_memory(watch)[0] for watch in watches] == [0, 0, 0]
    api.client.get("/flows/status").read()
    assert len(looks) == 1
    clock.advance(1000)
    publish(api, "a", status="running")
    assert [_memory(watch) for watch in watches] == [[1], [1], [1]]
    assert len(looks) == 1
    for watch in watches:
        watch.close()


def _memory(watch: Any) -> list[int]:
    told = [t["object"] for t in parsed(next(watch.body)) if t["object"]]
    return [step["memoryBytes"] for status in told for step in status["steps"]]


def test_a_change_is_written_once_for_all_who_watch_it(
    flows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except for those who watch in another format."""
    watches = [flows.client.get("/flows/status?watch=1", **more) for more in ({}, {}, SSE, SSE)]
    for watch in watches:
        next(watch.body)
    known, written = flows.services.figures.known, []
    monkeypatch.setattr(Figures, "known", lambda _, s: written.append(s.flow_id) or known(s))
    publish(flows, "b", status="running")
    assert all(b"running" in next(watch.body) for watch in watches)
    assert written == ["b", "b"]
    for watch in watches:
        watch.close()


# --- going on --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WATCHES)
def test_a_watch_goes_on_from_a_list(flows: Any, path: str) -> None:
    """What has changed since then, and nothing of what the list shows."""
    version = header(flows, path)
    publish(flows, "a", status="running")
    flows.board.record("a", "Reached", "m")
    answer = flows.client.get(f"{path}?watch=1&resourceVersion={version}")
    [told] = parsed(next(answer.body))
    assert "running" in json.dumps(told) or "Reached" in json.dumps(told)
    answer.close()


def test_what_changes_while_it_is_listed_is_not_missed(flows: Any, monkeypatch: Any) -> None:
    """The version of a list is read before the list."""
    added = flows.services.figures.added

    def busy(_self: Any, statuses: Any) -> Any:
        monkeypatch.setattr(Figures, "added", lambda _, more: added(more))
        publish(flows, "b", status="running")
        return added(statuses)

    for path in ("/flows/status", "/flows/status/b"):
        publish(flows, "b", status="stopped")
        monkeypatch.setattr(Figures, "added", busy)
        version = header(flows, path)
        answer = flows.client.get(f"/flows/status?watch=1&resourceVersion={version}")
        [told] = parsed(next(answer.body))
        assert told["object"]["status"] == "running"
        answer.close()


def test_a_list_that_has_not_changed_tells_the_present_version(flows: Any) -> None:
    """Else a watch of statuses could not begin after many events."""
    before = header(flows)
    for number in range(10):
        flows.board.record("a", "Reason", f"{number}")
    listed = flows.client.get("/flows/status")
    listed.read()
    answer = flows.client.get("/flows/status", HTTP_IF_NONE_MATCH=listed.headers["Etag"])
    answer.read()
    assert answer.status == 304
    assert answer.headers["Resource-Version"] == header(flows, "/events") != before


def test_the_last_event_id_stands_over_the_query(flows: Any) -> None:
    """A browser that connects again repeats the URL of the first time."""
    old = header(flows)
    publish(flows, "a", status="running")
    new = header(flows)
    publish(flows, "a", status="failed")
    url = f"/flows/status?watch=1&resourceVersion={old}"
    answer = flows.client.get(url, HTTP_LAST_EVENT_ID=new)
    assert [told["object"]["status"] for told in parsed(next(answer.body))] == ["failed"]
    answer.close()


@pytest.mark.parametrize("path", WATCHES)
@pytest.mark.parametrize("made", ["of another life", "too old", "to come"])
def test_a_version_that_is_not_known_is_gone(flows: Any, path: str, made: str) -> None:
    """410, with what to do: list again."""
    flows.board.changes = changes = Changes(most=3)
    for number in range(5):
        changes.add(f"f{number}")
    epoch = flows.board.epoch
    version = {"of another life": f"{epoch[::-1]}-4", "too old": f"{epoch}-1"}.get(
        made, f"{epoch}-6"
    )
    for query, more in (
        (f"&resourceVersion={version}", {}),
        ("", {"HTTP_LAST_EVENT_ID": version}),
    ):
        answer = flows.client.get(f"{path}?watch=1{query}", **more)
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status == 410
        assert "list again" in problem["detail"]


@pytest.mark.parametrize(
    ("query", "more"),
    [
        ("watch=1&resourceVersion=7", {}),
        ("watch=1&resourceVersion=", {}),
        ("watch=1&resourceVersion=0123456x-1", {}),
        ("watch=1&resourceVersion=01234567-1%0A", {}),
        ("watch=1", {"HTTP_LAST_EVENT_ID": "\xe9"}),
        ("watch=perhaps", {}),
        ("watch=1&timeout=0", {}),
        ("watch=1&limit=3", {}),
        ("watch=1&continue=a", {}),
        ("timeout=3", {}),
        ("resourceVersion=01234567-1", {}),
    ],
)
def test_what_is_no_watch_is_refused(flows: Any, query: str, more: dict[str, str]) -> None:
    """400, which names what is wrong."""
    answer = flows.client.get(f"/flows/status?{query}", **more)
    assert answer.status == 400, answer.read()
    assert answer.json()["detail"]


@pytest.mark.parametrize("path", ["/flows/status/none", "/flows/none/events"])
def test_a_flow_that_is_not_there_cannot_be_watched(flows: Any, path: str) -> None:
    """404, as without watch."""
    assert flows.client.get(f"{path}?watch=1").json()["status"] == 404


def test_a_watch_that_is_too_slow_is_told_so_and_ends(flows: Any) -> None:
    """With a problem as its last message; a browser comes again without an id."""
    flows.board.changes = Changes(most=4)
    watches = [flows.client.get("/flows/status?watch=1", **more) for more in ({}, SSE)]
    for watch in watches:
        next(watch.body)
    for number in range(6):
        publish(flows, "a", message=f"{number}")
    [told] = parsed(next(watches[0].body))
    assert (told["type"], told["object"]["status"]) == ("ERROR", 410)
    assert "list again" in told["object"]["detail"]
    assert next(watches[1].body).startswith(b"id\nevent: error\ndata: {")
    for watch in watches:
        assert watch.read() == b""


def test_a_watch_ends_when_its_time_is_up(flows: Any) -> None:
    """Cleanly, and with what there was by then."""
    answer = flows.client.get("/events?watch=1&timeout=30")
    next(answer.body)
    flows.services.clock.advance(30)
    flows.board.record("a", "Last", "m")
    assert [t["object"]["reason"] for t in parsed(answer.read())] == ["Last"]


@pytest.mark.parametrize("path", WATCHES)
def test_head_of_a_watch_ends(flows: Any, path: str) -> None:
    """With the head of the stream."""
    answer = flows.client.open("HEAD", f"{path}?watch=1", **SSE)
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.read() == b""
