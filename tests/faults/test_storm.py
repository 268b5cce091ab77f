"""Everything at once: many flows start, exit, crash and are taken back, and the API answers.

A few hundred flows always, a thousand with ``--soak``. Figures (``-s`` shows them) are told, never
judged: what is asserted is that each request was answered at all, and what runs afterwards.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Self

import httpx
import pytest

from support import Flowd, eventually, make_document, processes_of, steps_of

ANSWER = 15.0
"""Seconds within which each request is answered, whatever goes on."""

SETTLE = 60.0
"""Seconds within which everything runs again."""

OTHER = "bystander"
COUNTS = [300, pytest.param(1000, marks=pytest.mark.soak)]


class Caller(threading.Thread):
    """Makes one request after another, and keeps how long each took."""

    def __init__(self, name: str, request: Callable[[], httpx.Response]) -> None:
        super().__init__(name=name, daemon=True)
        self.took: list[float] = []
        self.trouble: list[str] = []
        self._request = request
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.01):
            begun = time.perf_counter()
            try:
                answer = self._request()
            except httpx.TransportError as error:
                self.trouble.append(repr(error))
                continue
            self.took.append(time.perf_counter() - begun)
            if answer.status_code != 200:
                self.trouble.append(answer.text)

    def end(self) -> None:
        self._ended.set()
        self.join()


class Storm:
    """Asks for life, one status and one command of an uninvolved flow, as long as it is open."""

    def __init__(self, flowd: Flowd) -> None:
        self._base_url = flowd.client.base_url
        self._clients: list[httpx.Client] = []
        self._turn = 0
        self.callers: list[Caller] = []

    def __enter__(self) -> Self:
        for name, request in (
            ("GET /livez", lambda http: http.get("/livez")),
            ("GET /flows/status/<id>", lambda http: http.get(f"/flows/status/{OTHER}")),
            ("PATCH /flows/commands", self._command),
        ):
            http = httpx.Client(base_url=self._base_url, timeout=ANSWER)
            self._clients.append(http)
            self.callers.append(Caller(name, lambda http=http, ask=request: ask(http)))
        for caller in self.callers:
            caller.start()
        return self

    def _command(self, http: httpx.Client) -> httpx.Response:
        """Pause or resume the uninvolved flow; answered once it is seen to be so."""
        self._turn += 1
        command, reached = (("pause", "paused"), ("resume", "running"))[self._turn % 2]
        body = {"command": command, "flow_ids": [OTHER]}
        answer = http.patch(f"/flows/commands?timeout={ANSWER}", json=body)
        assert answer.json()["details"] == [{"flow_id": OTHER, "status": reached}], answer.text
        return answer

    def __exit__(self, *_: object) -> None:
        for caller in self.callers:
            caller.end()
        for http in self._clients:
            http.close()

    def table(self) -> str:
        """One line for each request: how many, median, 99 %, and the longest, in ms."""
        return "\n".join(
            f"  {caller.name:24} {len(caller.took):6} "
            + "  ".join(f"{1000 * seconds:8.1f}" for seconds in _figures(caller.took))
            for caller in self.callers
        )


def _figures(took: list[float]) -> tuple[float, float, float]:
    ordered = sorted(took)
    return statistics.median(ordered), ordered[int(0.99 * (len(ordered) - 1))], ordered[-1]


@contextlib.contextmanager
def storm(flowd: Flowd, name: str) -> Iterator[None]:
    """Callers while something goes on; each request must have been answered in time."""
    begun = time.perf_counter()
    with Storm(flowd) as callers:
        yield
        # Not ended before each has had an answer during or right after it.
        eventually(lambda: _assert(all(caller.took for caller in callers.callers)), within=SETTLE)
    took = time.perf_counter() - begun
    sys.stdout.write(f"\n{name}: {took:.2f} s; n, p50, p99, max ms\n{callers.table()}\n")
    assert [caller.trouble for caller in callers.callers] == [[], [], []]


def names(count: int) -> list[str]:
    return [f"flow-{number:04}" for number in range(count)]


def each_once(flowd: Flowd, expected: list[str]) -> dict[str, Any]:
    """Every flow runs, by exactly one process; returns the statuses."""
    statuses = flowd.statuses()
    running = {name for name, row in statuses.items() if row["status"] == "running"}
    assert running >= set(expected)
    assert steps_of(flowd.data) == Counter((name, 0, "s0") for name in statuses)
    return statuses


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", COUNTS)
def test_a_storm_of_starts_and_exits_leaves_each_flow_running_once(
    make_flowd: Callable[..., Flowd], count: int
) -> None:
    """Posted, killed, and started again by a restarted operator, all at once each time."""
    flowd = make_flowd().start()
    flowd.create(make_document(OTHER))
    flowd.await_status(OTHER, "running")
    expected = names(count)
    with storm(flowd, f"{count} posted"):
        flowd.create(*(make_document(name) for name in expected))
        eventually(lambda: each_once(flowd, expected), within=SETTLE, every=0.5)

    victims = {name: row["steps"][0]["pid"] for name, row in flowd.statuses().items()}
    with storm(flowd, f"{count} killed"):
        for name in expected:
            os.kill(victims[name], signal.SIGKILL)

        def again() -> None:
            for name, row in each_once(flowd, expected).items():
                [step] = row["steps"]
                if name != OTHER:
                    assert step["restarts"] == 1
                    assert step["lastExit"]["signal"] == signal.SIGKILL
                    assert step["pid"] != victims[name]

        eventually(again, within=SETTLE, every=0.5)
    assert flowd.pids(OTHER) == [victims[OTHER]]
    assert flowd.end() == 0
    assert processes_of(flowd.data) == []

    flowd.start()
    with storm(flowd, f"{count} at boot"):
        eventually(lambda: each_once(flowd, expected), within=SETTLE, every=0.5)
    flowd.kill()
    flowd.start()
    with storm(flowd, f"{count} taken back"):
        eventually(lambda: each_once(flowd, expected), within=SETTLE, every=0.5)
    flowd.command("stop", type=1)
    assert processes_of(flowd.data) == []


def test_restarts_of_many_are_spread(flowd: Flowd) -> None:
    """What fails together is started together once, and then apart: the jitter of the backoff."""
    fails = "read up _ </proc/uptime; echo $up >>$FLOW_DATA/starts; exit 1"
    backoff = {"initial": "1s", "factor": 1, "jitter": 0.5}
    expected = names(60)
    flowd.create(*(make_document(name, fails, restart={"backoff": backoff}) for name in expected))

    def waits() -> list[float]:
        starts = [(flowd.work(name) / "starts").read_text().split() for name in expected]
        assert all(len(each) >= 3 for each in starts)
        return [float(each[2]) - float(each[1]) for each in starts]

    def there() -> None:
        assert all((flowd.work(name) / "starts").exists() for name in expected)

    eventually(there)
    waited = eventually(waits, every=0.1)
    assert min(waited) > 0.45
    # A busy machine makes them later, never earlier; without jitter none would be.
    assert sum(wait < 0.95 for wait in waited) >= 3, "none came before its time"
    flowd.command("stop", type=1)


def _assert(condition: bool) -> None:
    assert condition
