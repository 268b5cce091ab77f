"""Kill rounds while clients write: what was acknowledged stands, and nothing runs twice.

A short one always; ``--soak`` runs as many rounds as SOAK_ROUNDS says (200).
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from support import Flowd, eventually, make_document, members_of, processes_of

SCRIPT = "exec sleep 1000"
CONVERGE = 5.0
"""Seconds within which everything is as it was asked to be."""

GONE = "gone"
BATCH = 50


class Writer(threading.Thread):
    """A client with flows of its own, and what it may expect of them.

    ``allowed``: flow id -> the states that are right. More than one after a request that was cut
    off: it may have been carried out, or not.
    """

    def __init__(self, number: int) -> None:
        super().__init__(name=f"writer-{number}", daemon=True)
        self.names = [f"w{number}-{n}" for n in range(5)]
        self.allowed: dict[str, set[str]] = {name: {GONE} for name in self.names}
        self.acknowledged = 0
        self.going = threading.Event()
        self.idle = threading.Event()
        self.done = False
        self.base_url = ""

    def run(self) -> None:
        while not self.done:
            self.idle.set()
            if not self.going.wait(0.05):
                continue
            self.idle.clear()
            with httpx.Client(base_url=self.base_url, timeout=10) as http:
                while self.going.is_set():
                    self.step(http)

    def pause(self) -> None:
        """Let it finish its request, and wait until it has."""
        self.going.clear()
        assert self.idle.wait(20)
        assert self.is_alive(), "it got an answer that it did not expect"

    def step(self, http: httpx.Client) -> None:
        name = random.choice(self.names)
        known = self.allowed[name]
        if GONE in known:
            wanted = "running"
            request = ("POST", "/flows", [make_document(name, SCRIPT)], 201)
        elif random.random() < 0.2:
            wanted = GONE
            request = ("DELETE", f"/flows/{name}?type={random.randrange(2)}", None, 200)
        else:
            command, wanted = random.choice(
                [
                    ("stop", "stopped"),
                    ("start", "running"),
                    ("pause", "paused"),
                    ("resume", "running"),
                ]
            )
            body = {"command": command, "flow_ids": [name]}
            if command == "stop":
                body["type"] = random.randrange(2)
            request = ("PATCH", "/flows/commands?timeout=0", body, 200)
        method, url, content, good = request
        self.allowed[name] = known | {wanted}
        try:
            answer = http.request(method, url, json=content)
        except httpx.TransportError:
            self.going.clear()  # The operator was killed: this one may stand, or not.
            return
        if answer.status_code == good:
            self.allowed[name] = {wanted}
            self.acknowledged += 1
        elif len(known) == 1:
            raise AssertionError((request, answer.status_code, answer.text))
        else:
            # An earlier cut-off request had made it otherwise than we thought.
            self.allowed[name] = {GONE} if "no flow" in answer.text else known - {GONE}


def counted(data: Path) -> Counter[str]:
    """Living processes by flow."""
    return Counter(who.flow_id for _, who in members_of(data))


def check(flowd: Flowd, writers: list[Writer]) -> None:
    """Configurations, observed states and processes agree with what was acknowledged."""
    configured = {flow["flow_id"]: flow for flow in flowd.client.get("/flows").json()}
    statuses = flowd.statuses()
    running = counted(flowd.data)
    for writer in writers:
        for name, allowed in writer.allowed.items():
            flow = configured.get(name)
            desired = flow["spec"].get("state", "running") if flow else GONE
            assert desired in allowed, (name, desired, allowed)
            status = statuses.get(name, {"status": GONE})["status"]
            # A flow that was paused or stopped before it ever ran stays not running.
            right = {desired} | ({"stopped"} if desired == "paused" else set())
            assert status in right, (name, status, desired)
            assert running[name] == (1 if status in ("running", "paused") else 0), (name, status)


def settle(flowd: Flowd, writers: list[Writer]) -> None:
    """What was unsure is known now."""
    configured = {flow["flow_id"]: flow for flow in flowd.client.get("/flows").json()}
    for writer in writers:
        for name in writer.names:
            flow = configured.get(name)
            writer.allowed[name] = {flow["spec"].get("state", "running") if flow else GONE}


class BatchUnderWay:
    """Fifty flows are created at once, and the kill comes while they are."""

    def __init__(self, flowd: Flowd, number: int) -> None:
        self._names = {f"batch-{number}-{n}" for n in range(BATCH)}
        self._code = 0
        url = str(flowd.client.base_url.join("/flows"))
        body = [make_document(name, SCRIPT) for name in sorted(self._names)]
        self._thread = threading.Thread(target=self._post, args=(url, body), daemon=True)
        self._thread.start()

    def _post(self, url: str, body: list[dict[str, Any]]) -> None:
        with contextlib.suppress(httpx.TransportError):
            self._code = httpx.post(url, json=body, timeout=10).status_code

    def check(self, flowd: Flowd) -> None:
        """All of them are there and run once, or none is; if it was acknowledged, all."""
        self._thread.join()
        there = {flow["flow_id"] for flow in flowd.client.get("/flows").json()} & self._names
        assert self._code in (0, 201)
        assert there == self._names or (self._code == 0 and not there), len(there)
        eventually(lambda: self._all_run(flowd, there), within=CONVERGE)
        for name in there:
            flowd.client.delete(f"/flows/{name}?type=1")
        for name in there:
            flowd.await_gone(name)

    def _all_run(self, flowd: Flowd, there: set[str]) -> None:
        running = counted(flowd.data)
        assert {name: running[name] for name in self._names if running[name]} == dict.fromkeys(
            there, 1
        )


class DrainUnderWay:
    """A flow is stopped softly, and the kill comes while its last words run down the pipe."""

    SOURCE = "trap 'sleep 0.3; echo last; exit 0' TERM; echo first; while :; do sleep 0.02; done"
    SINK = "while read -r line; do echo $line >> $FLOW_DATA/said; done"

    def __init__(self, flowd: Flowd, number: int) -> None:
        self._name = f"drain-{number}"
        flowd.create(make_document(self._name, self.SOURCE, self.SINK))
        self._said = flowd.work(self._name) / "said"
        eventually(self._has_begun)
        flowd.command("stop", self._name, timeout=0)

    def _has_begun(self) -> None:
        assert self._said.exists()

    def check(self, flowd: Flowd) -> None:
        """The drain goes on to its end, and nothing that was in the pipe is lost."""
        flowd.await_status(self._name, "stopped", within=CONVERGE)
        assert counted(flowd.data)[self._name] == 0
        assert self._said.read_text().split() == ["first", "last"]
        flowd.client.delete(f"/flows/{self._name}")
        flowd.await_gone(self._name)


@dataclass
class Tally:
    """What came of the rounds.

    Attributes:
        acknowledged: writes of the clients that were, all of which stood.
        longest: seconds that it took at most until everything was as it was asked to be.
    """

    acknowledged: int = 0
    longest: float = 0.0
    under_way: Counter[str] = field(default_factory=Counter)


def one_round(flowd: Flowd, writers: list[Writer], number: int, tally: Tally) -> None:
    """Let clients write, kill at a random moment, and look."""
    kind = random.choice([None, None, BatchUnderWay, DrainUnderWay])
    for writer in writers:
        writer.base_url = str(flowd.client.base_url)
        writer.going.set()
    under_way = kind(flowd, number) if kind else None
    pause = threading.Event()
    pause.wait(random.uniform(0, 0.05 if kind is BatchUnderWay else 0.25))  # the random moment
    operator, shim = random.choice([(False, True), (True, False), (True, False), (True, True)])
    flowd.strike(operator=operator, shim=shim)
    for writer in writers:
        writer.pause()
    if operator:
        flowd.start()
    begun = time.monotonic()
    eventually(lambda: check(flowd, writers), within=CONVERGE)
    tally.longest = max(tally.longest, time.monotonic() - begun)
    if under_way:
        under_way.check(flowd)
        tally.under_way[kind.__name__] += 1
    settle(flowd, writers)


def rounds(flowd: Flowd, count: int) -> Tally:
    """Kill so often."""
    tally = Tally()
    writers = [Writer(number) for number in range(3)]
    for writer in writers:
        writer.start()
    try:
        for number in range(count):
            one_round(flowd, writers, number, tally)
    finally:
        for writer in writers:
            writer.done = True
            writer.going.clear()
            writer.join()
    tally.acknowledged = sum(writer.acknowledged for writer in writers)
    return tally


def test_kills_of_operator_and_shim_lose_nothing_and_double_nothing(flowd: Flowd) -> None:
    """A dozen rounds: converged within five seconds each time."""
    assert rounds(flowd, 12).acknowledged > 0
    flowd.command("stop", type=1)
    assert processes_of(flowd.data) == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_kills(flowd: Flowd, record_property: Callable[[str, float], None]) -> None:
    """The same, for long."""
    tally = rounds(flowd, int(os.environ.get("SOAK_ROUNDS", "200")))
    record_property("writes acknowledged", tally.acknowledged)
    record_property("s at most until all was right", round(tally.longest, 2))
    for what, count in tally.under_way.items():
        record_property(f"times a {what} was struck", count)
    flowd.command("stop", type=1)
    assert processes_of(flowd.data) == []
