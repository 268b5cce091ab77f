"""Watches of a real operator, over real connections that break."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from flowctl_runs import PROGRAM, environment

from flow_operator.client import Change, FlowClient, event_key, status_key
from support import Flowd, eventually, make_document, spawned

BACKOFF = {"initial": "10ms", "factor": 1, "max": "10ms"}


def busy(name: str) -> dict[str, Any]:
    """A flow whose status changes all the time."""
    return make_document(name, "sleep 0.02; exit 1", restart={"backoff": BACKOFF})


@contextmanager
def watching(flowd: Flowd, path: str, **headers: str) -> Iterator[httpx.Response]:
    with flowd.client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        yield answer


def messages(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in answer.iter_lines():
        yield json.loads(line)


def sent(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, data) of each server-sent event; the id is empty where none was sent."""
    number = ""
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            number = value
        elif name == "data":
            yield number, json.loads(value)
            number = ""


def stream(flowd: Flowd, path: str, since: str, count: int) -> list[dict[str, Any]]:
    """So many changes after a version."""
    with watching(flowd, f"{path}?watch=1&resourceVersion={since}") as answer:
        changes = (told for told in messages(answer) if told["type"] != "BOOKMARK")
        return [next(changes) for _ in range(count)]


@pytest.mark.parametrize("path", ["/flows/status", "/events"])
def test_a_connection_that_breaks_loses_and_doubles_nothing(flowd: Flowd, path: str) -> None:
    """Broken after each few messages while flows change, and gone on from the last id."""
    begin = flowd.client.get(path).headers["Resource-Version"]
    flowd.create(*(busy(f"b{number}") for number in range(4)))
    seen: list[dict[str, Any]] = []
    last = begin
    while len(seen) < 200:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
        with watching(flowd, f"{path}?watch=1", **headers) as answer:
            for (number, told), _ in zip(sent(answer), range(7), strict=False):
                assert number == told["resourceVersion"]
                last = number
                if told["type"] != "BOOKMARK":
                    seen.append(told)
    assert stream(flowd, path, begin, len(seen)) == seen


def test_a_list_and_its_watch_are_the_present_list(flowd: Flowd) -> None:
    """Also while flows come and go."""
    flowd.create(*(busy(f"b{number}") for number in range(3)))
    listed = flowd.client.get("/flows/status")
    known = listed.json()
    version = listed.headers["Resource-Version"]
    for name in ("b0", "b1"):
        flowd.command("stop", name, type=1)
    flowd.client.delete("/flows/b0")
    flowd.await_gone("b0")
    flowd.create(make_document("b3"))
    flowd.await_status("b3", "running")
    flowd.command("stop", "b2", type=1)
    wanted = {name: status["conditions"] for name, status in flowd.statuses().items()}
    with watching(flowd, f"/flows/status?watch=1&resourceVersion={version}") as answer:
        for told in messages(answer):
            known.pop(told["object"]["flow_id"], None)
            if told["type"] != "DELETED":
                known[told["object"]["flow_id"]] = told["object"]
            if {name: status["conditions"] for name, status in known.items()} == wanted:
                break


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_watch_of_an_earlier_operator_is_gone(flowd: Flowd, number: signal.Signals) -> None:
    """Its stream ends, its versions are 410, and listing again works."""
    flowd.create(make_document("a"))
    flowd.await_status("a", "running")
    version = flowd.client.get("/flows/status").headers["Resource-Version"]
    ended = threading.Event()

    def watch() -> None:
        try:
            with httpx.stream("GET", f"{flowd.client.base_url}/events?watch=1", timeout=60) as told:
                for _ in told.iter_lines():
                    begun.set()
        except httpx.TransportError:
            pass
        ended.set()

    begun = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    assert begun.wait(10)
    flowd.end(number)
    watcher.join(10)
    assert ended.is_set()
    flowd.start()
    answer = flowd.client.get(f"/flows/status?watch=1&resourceVersion={version}")
    assert answer.status_code == 410
    assert "list again" in answer.json()["detail"]
    fresh = flowd.client.get("/flows/status").headers["Resource-Version"]
    flowd.command("restart", "a")
    assert stream(flowd, "/flows/status", fresh, 1)


def test_fifty_watchers_see_the_same(flowd: Flowd) -> None:
    """Each the same changes in the same order, up to the last."""
    begin = flowd.client.get("/flows/status").headers["Resource-Version"]
    found: list[list[str]] = [[] for _ in range(50)]

    def watch(lines: list[str]) -> None:
        url = f"{flowd.client.base_url}/flows/status?watch=1&resourceVersion={begin}"
        with httpx.stream("GET", url, timeout=60) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                if '"flow_id":"last"' in line:
                    return

    watchers = [threading.Thread(target=watch, args=(lines,)) for lines in found]
    for watcher in watchers:
        watcher.start()
    flowd.create(*(busy(f"b{number}") for number in range(4)))
    eventually(lambda: _assert(all(len(lines) > 20 for lines in found)))
    flowd.create(make_document("last"))
    for watcher in watchers:
        watcher.join(30)
    assert len(found[0]) > 20
    assert '"flow_id":"last"' in found[0][-1]
    assert all(lines == found[0] for lines in found)


def test_a_watch_with_a_time_ends_by_itself(flowd: Flowd) -> None:
    """The answer is whole: nothing was broken off."""
    with watching(flowd, "/flows/status?watch=1&timeout=1") as answer:
        assert [told["type"] for told in messages(answer)] == ["BOOKMARK"]


class Following:
    """A client's watch in a thread: what it is told, and what it makes of it."""

    def __init__(self, flowd: Flowd, what: str) -> None:
        self.known: dict[Any, Any] = {}
        self.told: list[Change] = []
        self.sleeps: list[float] = []
        # The same address again after a restart: a client has no other.
        url = str(flowd.client.base_url).rstrip("/")
        self._client = FlowClient(url, sleep=self._rest)
        self._changes = getattr(self._client, what)()
        self._key = status_key if what == "watch_statuses" else event_key
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _rest(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if self._over.wait(min(seconds, 0.05)):
            raise InterruptedError

    def _run(self) -> None:
        with contextlib.suppress(InterruptedError), self._client:
            for change in self._changes:
                self.told.append(change)
                self._apply(change)

    def _apply(self, change: Change) -> None:
        key = self._key(change.object)
        if change.type == "DELETED":
            self.known = {k: v for k, v in self.known.items() if k[: len(key)] != key}
        else:
            assert (change.type == "ADDED") == (key not in self.known)
            self.known[key] = change.object

    def stop(self) -> None:
        """Once the operator has gone."""
        self._over.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_follows_over_restarts_of_the_operator(
    make_flowd: Any, number: signal.Signals
) -> None:
    """Its picture is right again, also of what has gone; no event is told twice."""
    port = free_port()
    flowd = make_flowd("--listen", f"127.0.0.1:{port}").start()
    flowd.create(*(make_document(name) for name in "abc"))
    for name in "abc":
        flowd.await_status(name, "running")
    statuses, events = Following(flowd, "watch_statuses"), Following(flowd, "watch_events")

    def right() -> None:
        wanted = {(name,): status["conditions"] for name, status in flowd.statuses().items()}
        assert {key: told["conditions"] for key, told in statuses.known.items()} == wanted
        listed = flowd.client.get("/events").json()["events"]
        assert events.known
        assert {event_key(event): event for event in listed} == events.known

    eventually(right)
    flowd.end(number)
    flowd.start()
    flowd.client.delete("/flows/b?type=1")
    flowd.await_gone("b")
    flowd.command("restart", "a")
    flowd.create(busy("d"))
    eventually(right, within=30)
    flowd.command("stop", "d", type=1)
    eventually(right)
    happened = [change.object for change in events.told if change.type != "DELETED"]
    told = [(event_key(event), event["count"]) for event in happened]
    assert len(set(told)) == len(told)
    flowd.kill()
    statuses.stop()
    events.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_flowctl_shows_events_as_they_happen(flowd: Flowd) -> None:
    """First those that are kept, with headers; then a line for each."""
    flowd.create(make_document("a"))
    flowd.await_status("a", "running")
    command = [*PROGRAM, "events", "-w", "a"]
    piped = {"stdout": subprocess.PIPE, "text": True}
    with spawned(command, **piped, env=environment(flowd)) as shown:
        assert shown.stdout.readline().split() == [
            *("LAST", "COUNT", "NAME", "TYPE", "REASON", "MESSAGE")
        ]
        assert shown.stdout.readline().split()[1:5] == ["1", "a", "Normal", "Launching"]
        flowd.command("pause", "a")
        assert any("Pausing" in line for line in iter(shown.stdout.readline, ""))
        shown.send_signal(signal.SIGINT)
        assert shown.wait(10) == 130


def _assert(condition: bool) -> None:
    assert condition
