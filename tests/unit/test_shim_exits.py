"""How the shim tells of steps that have ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flow_operator.shim import server
from flow_operator.shim.connections import listen
from flow_operator.shim.runs import Run
from flow_operator.shim.server import Shim


class Heard:
    """In place of the connections: what was told, and whether there is a volley to go on with."""

    def __init__(self) -> None:
        self.busy = False
        self.told: list[dict[str, Any]] = []

    def tell(self, event: dict[str, Any]) -> None:
        self.told.append(event)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def shim(root: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shim]:
    monkeypatch.setattr(server, "Connections", lambda *_: heard)
    listener = listen(root)
    made = Shim(root, -1, listener)
    yield made
    made._selector.close()
    made._reaper.close()
    listener.close()


def _ended(shim: Shim, *names: str) -> None:
    for name in names:
        run = Run(name, {"flow": name, "replica": 0, "steps": ["s0"]}, 1)
        run.steps[0].pid, run.steps[0].attempt = 4711, 1
        run.steps[0].left("Error", 3, None)
        shim._tell_exit(run)


def _names(event: dict[str, Any]) -> list[str]:
    assert event["event"] == "exits"
    return [state["run"] for state in event["runs"]]


def test_exits_that_come_at_once_are_one_message(shim: Shim, heard: Heard) -> None:
    """Each with all that is known of its run; and once."""
    _ended(shim, "r1", "r2", "r3")
    assert heard.told == []
    shim._tell_exits()
    shim._tell_exits()
    [event] = heard.told
    assert _names(event) == ["r1", "r2", "r3"]
    assert event["runs"][1]["steps"][0]["exit"]["code"] == 3


def test_while_there_is_more_to_do_an_exit_waits_for_others_but_not_long(
    shim: Shim, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time runs from the first that was not told yet."""
    now = 1000.0
    monkeypatch.setattr(server.time, "monotonic", lambda: now)
    heard.busy = True
    _ended(shim, "r1")
    now += server.TELL_WITHIN / 2
    shim._tell_exits()
    _ended(shim, "r2")
    assert heard.told == []
    now += server.TELL_WITHIN / 2
    shim._tell_exits()
    assert list(map(_names, heard.told)) == [["r1", "r2"]]
    _ended(shim, "r3")
    shim._tell_exits()
    assert len(heard.told) == 1, "of the next the time begins anew"
    heard.busy = False
    shim._tell_exits()
    assert _names(heard.told[1]) == ["r3"]


def test_of_a_run_that_is_forgotten_nothing_more_is_told(shim: Shim, heard: Heard) -> None:
    """Else the operator would meet it once more."""
    run = Run("r1", {"flow": "f1", "replica": 0, "steps": ["s0"]}, 1)
    shim._register(run)
    shim._tell_exit(run)
    shim._forget({"run": "r1"}, None)
    shim._tell_exits()
    assert heard.told == []
