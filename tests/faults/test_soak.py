"""Kill rounds while clients write: what was acknowledged stands, and nothing runs twice.

A short one always; ``--soak`` runs as many rounds as SOAK_ROUNDS says (200).
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from support import Flowd, eventually, make_document, members_of, processes_of

SCRIPT = "exec sleep 1000"
CONVERGE = 5.0
"""Seconds within which everything is as it was asked to be."""

GONE = "gone"


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


def rounds(flowd: Flowd, count: int) -> int:
    """Returns how many writes were acknowledged."""
    writers = [Writer(number) for number in range(3)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(count):
            for writer in writers:
                writer.base_url = str(flowd.client.base_url)
                writer.going.set()
            pause = threading.Event()
            pause.wait(random.uniform(0, 0.25))  # the random moment itself
            kill_shim, kill_operator = random.choice([(1, 0), (0, 1), (0, 1), (1, 1)])
            flowd.strike(operator=bool(kill_operator), shim=bool(kill_shim))
            for writer in writers:
                writer.pause()
            if kill_operator:
                flowd.start()
            eventually(lambda: check(flowd, writers), within=CONVERGE)
            settle(flowd, writers)
    finally:
        for writer in writers:
            writer.done = True
            writer.going.clear()
            writer.join()
    return sum(writer.acknowledged for writer in writers)


def test_kills_of_operator_and_shim_lose_nothing_and_double_nothing(flowd: Flowd) -> None:
    """A dozen rounds: converged within five seconds each time."""
    assert rounds(flowd, 12) > 0
    flowd.command("stop", type=1)
    assert processes_of(flowd.data) == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_kills(flowd: Flowd, record_property: Callable[[str, int], None]) -> None:
    """The same, for long."""
    acknowledged = rounds(flowd, int(os.environ.get("SOAK_ROUNDS", "200")))
    record_property("writes acknowledged", acknowledged)
    flowd.command("stop", type=1)
    assert processes_of(flowd.data) == []
