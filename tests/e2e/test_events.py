"""What has happened to flows, as a real operator keeps it."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from support import Flowd, eventually, make_document


def events(flowd: Flowd, path: str = "/events") -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = flowd.client.get(path).json()["events"]
    return told


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_events_outlive_the_operator(flowd: Flowd, number: signal.Signals) -> None:
    """All of them in their order; what is taken back is not told once more."""
    flowd.create(*(make_document(name) for name in "ab"))
    for name in "ab":
        flowd.await_status(name, "running")
    flowd.command("pause", "a")
    before = events(flowd)
    assert {event["flow_id"] for event in before} == {"a", "b"}
    flowd.end(number)
    flowd.start()
    flowd.await_status("a", "paused" if number == signal.SIGKILL else "stopped")
    flowd.await_status("b", "running")
    after = events(flowd)
    assert after[: len(before)] == before
    if number == signal.SIGKILL:
        assert after == before


def test_an_exit_that_repeats_is_one_event(flowd: Flowd) -> None:
    """Also with others in between, and over a kill: it counts up and moves to the end."""
    backoff = {"initial": "20ms", "factor": 1, "max": "20ms"}
    flowd.create(make_document("fails", "sleep 0.01; exit 3", restart={"backoff": backoff}))

    def exits(more_than: int) -> int:
        told = [e for e in events(flowd, "/flows/fails/events") if e["reason"] == "StepExited"]
        assert len(told) == 1, told
        assert told[0]["count"] > more_than
        assert told[0]["firstAt"] < told[0]["at"]
        count: int = told[0]["count"]
        return count

    seen = eventually(lambda: exits(3))
    flowd.kill()
    flowd.start()
    eventually(lambda: exits(seen + 2))


def test_the_events_of_a_deleted_flow_go_with_it(flowd: Flowd) -> None:
    """For good: neither a restart nor a new flow of the name brings them back."""
    flowd.create(make_document("old"), make_document("kept"))
    for name in ("old", "kept"):
        flowd.await_status(name, "running")
    assert flowd.client.delete("/flows/old?type=1").status_code == 200
    flowd.await_gone("old")
    assert flowd.client.get("/flows/old/events").status_code == 404
    flowd.kill()
    flowd.start()
    assert {event["flow_id"] for event in events(flowd)} == {"kept"}
    flowd.create(make_document("old"))
    flowd.await_status("old", "running")
    launched = [e for e in events(flowd, "/flows/old/events") if e["reason"] == "Launching"]
    assert [event["count"] for event in launched] == [1]
