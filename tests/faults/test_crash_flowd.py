"""A whole operator is killed at its calls on its data directory, while a client writes.

Some calls in CI; each in turn, until none is left, with ``--soak``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from faults.tracer import unavailable
from support import Flowd, eventually, make_document, processes_of, require

HERE = Path(__file__).parent
GONE = "gone"
SAMPLES = 12

Act = tuple[str, str, Any, dict[str, str]]


def acts(number: int) -> list[Act]:
    """What the client does in one round: the request, and what it changes."""
    a, b, c = (f"{name}-{number}" for name in "abc")
    stopped, running = {"state": "stopped"}, {"state": "running"}
    batch = [
        make_document(a, **stopped),
        make_document(b, **running),
        make_document(c, **stopped),
    ]
    stop = {"command": "stop", "flow_ids": [a, b], "type": 1}
    return [
        ("POST", "/flows", batch, {a: "stopped", b: "running", c: "stopped"}),
        ("PUT", f"/flows/{c}", make_document(c, **running), {c: "running"}),
        ("PATCH", "/flows/commands?timeout=0", stop, {a: "stopped", b: "stopped"}),
        ("DELETE", f"/flows/{a}", None, {a: GONE}),
    ]


class Rounds:
    """Traced operators, one after the other.

    A flow that runs all the time must not notice.

    Attributes:
        expected: flow id -> its desired state, as far as it was acknowledged.
        pending: what was under way when the operator was killed.
    """

    def __init__(self, flowd: Flowd, report: Path) -> None:
        self._flowd = flowd.start()
        self._report = report
        flowd.create(make_document("keeper"))
        flowd.await_status("keeper", "running")
        self._pids = flowd.pids("keeper")
        flowd.kill()
        self.expected: dict[str, str] = {"keeper": "running"}
        self.pending: dict[str, str] = {}

    def play(self, number: int, kill_at: int) -> dict[str, Any]:
        """Returns what the tracer tells: how many calls there were, and the last."""
        self._report.unlink(missing_ok=True)
        flowd = self._flowd
        program = [sys.executable, str(HERE / "traced.py")]
        flowd.under = [*program, str(flowd.data), str(kill_at), str(self._report)]
        flowd.start()
        self.check()
        flowd.process.send_signal(signal.SIGUSR1)
        eventually(lambda: _assert(self._report.exists()))
        for method, url, body, changes in acts(number):
            try:
                answer = flowd.client.request(method, url, json=body)
            except httpx.TransportError:
                self.pending = changes
                break
            assert answer.is_success, answer.text
            self.expected |= changes
        else:
            self._come_to_rest(f"a-{number}")
        flowd.end(signal.SIGTERM)
        return json.loads(self._report.read_text())

    def _come_to_rest(self, deleted: str) -> None:
        """What goes on behind the last answer comes to its end, or is killed."""

        def rest() -> None:
            with contextlib.suppress(httpx.TransportError):
                status = self._flowd.client.get(f"/flows/status/{deleted}").status_code
                assert status == 404
                assert not list((self._flowd.data / "flows").glob("txn-*"))

        eventually(rest)

    def check(self) -> None:
        """What the operator found is what was acknowledged, and it comes to that."""
        flows = self._flowd.client.get("/flows").json()
        found = {flow["flow_id"]: flow["spec"].get("state", "running") for flow in flows}
        new = self.expected | self.pending
        assert found in (_without_gone(self.expected), _without_gone(new)), self.pending
        self.expected, self.pending = found, {}
        eventually(self._converged)
        names = [path.name for path in self._flowd.data.rglob("*")]
        assert not [name for name in names if ".corrupt" in name or name.startswith(".tmp-")]

    def _converged(self) -> None:
        statuses = self._flowd.statuses()
        assert {name: told["status"] for name, told in statuses.items()} == self.expected
        assert self._flowd.pids("keeper") == self._pids, "it was started a second time"
        running = [name for name, state in self.expected.items() if state == "running"]
        assert len(processes_of(self._flowd.data)) == len(running)

    def close(self) -> None:
        """Look once more, with nobody tracing, and remove what rounds have left."""
        self._flowd.under = ()
        self._flowd.start()
        self.check()
        for flow_id in self.expected.keys() - {"keeper"}:
            self._flowd.client.delete(f"/flows/{flow_id}?type=1")
            self._flowd.await_gone(flow_id)
        self.expected = {"keeper": "running"}
        self._flowd.kill()


def _without_gone(states: dict[str, str]) -> dict[str, str]:
    return {name: state for name, state in states.items() if state != GONE}


def _assert(condition: bool) -> None:
    assert condition


@pytest.fixture
def rounds(make_flowd: Callable[..., Flowd], root: Path, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    """An operator that can be killed at its calls."""
    require(unavailable())
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parent), *sys.path]))
    return Rounds(make_flowd(), root / "report")


def tried(rounds: Rounds, numbers: Iterable[int]) -> int:
    """Kill at each of these calls, until one is not reached; returns how many were."""
    count = 0
    for number in numbers:
        if rounds.play(number, kill_at=number)["calls"] < number:
            break
        count += 1
        if count % 10 == 0:
            rounds.close()
    rounds.close()
    return count


def test_an_operator_killed_at_some_call_has_lost_nothing(
    rounds: Rounds, record_property: Callable[[str, int], None]
) -> None:
    """The next one finds what was acknowledged, comes to it, and starts nothing twice."""
    calls = rounds.play(0, kill_at=0)["calls"]
    record_property("system calls in a round", calls)
    chosen = sorted(random.sample(range(1, calls), SAMPLES))
    record_property("system calls tried", tried(rounds, chosen))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_an_operator_killed_at_each_call_has_lost_nothing(
    rounds: Rounds, record_property: Callable[[str, int], None]
) -> None:
    """The same for every call in turn."""
    record_property("system calls tried", tried(rounds, itertools.count(1)))
