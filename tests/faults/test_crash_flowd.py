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

from faults.ledger import Ledger
from faults.tracer import unavailable
from support import Flowd, eventually, make_document, processes_of, require

HERE = Path(__file__).parent
SAMPLES = 12


class Rounds:
    """Traced operators, one after the other, and a flow that must not notice."""

    def __init__(self, flowd: Flowd, report: Path) -> None:
        self._flowd = flowd.start()
        self._report = report
        self._ledger = Ledger(keeper="running")
        flowd.create(make_document("keeper"))
        flowd.await_status("keeper", "running")
        self._pids = flowd.pids("keeper")
        flowd.kill()

    def play(self, number: int, kill_at: int) -> dict[str, Any]:
        """Returns what the tracer tells: how many calls there were, and the last."""
        self._report.unlink(missing_ok=True)
        flowd = self._flowd
        program = [sys.executable, str(HERE / "traced.py")]
        flowd.under = [*program, str(flowd.data), str(kill_at), str(self._report)]
        flowd.start()
        self._check()
        flowd.process.send_signal(signal.SIGUSR1)
        eventually(lambda: _assert(self._report.exists()))
        if self._ledger.carry_out(flowd.client, number):
            eventually(lambda: self._at_rest(f"a-{number}"))
        flowd.end(signal.SIGTERM)
        return json.loads(self._report.read_text())

    def _at_rest(self, deleted: str) -> None:
        """What goes on behind the last answer has come to its end, or was killed."""
        with contextlib.suppress(httpx.TransportError):
            assert self._flowd.client.get(f"/flows/status/{deleted}").status_code == 404
            assert not list((self._flowd.data / "flows").glob("txn-*"))

    def _check(self) -> None:
        """What was acknowledged is there, and comes about."""
        self._ledger.check(self._flowd)
        eventually(self._converged)
        names = [path.name for path in self._flowd.data.rglob("*")]
        assert not [name for name in names if ".corrupt" in name or name.startswith(".tmp-")]

    def _converged(self) -> None:
        wanted = self._ledger.expected
        statuses = self._flowd.statuses()
        assert {name: told["status"] for name, told in statuses.items()} == wanted
        assert self._flowd.pids("keeper") == self._pids, "it was started a second time"
        running = [name for name, state in wanted.items() if state == "running"]
        assert len(processes_of(self._flowd.data)) == len(running)

    def look(self) -> None:
        """Look with nobody tracing, and remove what rounds have left."""
        self._flowd.under = ()
        self._flowd.start()
        self._check()
        for flow_id in self._ledger.expected.keys() - {"keeper"}:
            self._flowd.client.delete(f"/flows/{flow_id}?type=1")
            self._flowd.await_gone(flow_id)
        self._ledger = Ledger(keeper="running")
        self._flowd.kill()


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
            rounds.look()
    rounds.look()
    return count


def test_an_operator_killed_at_some_call_has_lost_nothing(
    rounds: Rounds, record_property: Callable[[str, int], None]
) -> None:
    """The next one finds what was acknowledged, comes to it, and starts nothing twice."""
    calls = rounds.play(0, kill_at=0)["calls"]
    record_property("system calls in a round", calls)
    chosen = sorted(random.sample(range(1, calls), SAMPLES))
    count = tried(rounds, chosen)
    assert count > SAMPLES / 2, "rounds differ too much in their calls"
    record_property("system calls tried", count)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_an_operator_killed_at_each_call_has_lost_nothing(
    rounds: Rounds, record_property: Callable[[str, int], None]
) -> None:
    """The same for every call in turn."""
    record_property("system calls tried", tried(rounds, itertools.count(1)))
