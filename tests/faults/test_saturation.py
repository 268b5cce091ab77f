"""Row 26 of the faults: whatever some clients do, others are served (and all of it is bounded)."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from flow_operator.api.lanes import THREADS
from support import Flowd, always_for, eventually, make_document

SERVED = 2.0
"""Seconds that no call of another client may take; what it really takes is recorded."""

LIMIT = 8 * 2**20


class Other(threading.Thread):
    """A client that goes on calling while others misbehave."""

    def __init__(self, url: str) -> None:
        super().__init__(name="other")
        self.took: list[float] = []
        self.wrong: list[str] = []
        self._url = url
        self._over = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._over.is_set():
                self._call(client, "/flows/status/demo")
                self._call(client, "/livez")
                self._over.wait(0.01)

    def _call(self, client: httpx.Client, path: str) -> None:
        begun = time.monotonic()
        try:
            answer = client.get(path)
        except httpx.HTTPError as error:
            self.wrong.append(repr(error))
        else:
            if answer.status_code != 200:
                self.wrong.append(answer.text)
        self.took.append(time.monotonic() - begun)

    def end(self) -> None:
        self._over.set()
        self.join()


@pytest.fixture
def demo(flowd: Flowd) -> Flowd:
    """An operator with one flow that says something now and then."""
    flowd.create(make_document("demo", "while :; do echo tick; sleep 0.5; done"))
    flowd.await_status("demo", "running")
    flowd.client.close()
    flowd.client = httpx.Client(base_url=flowd.client.base_url, timeout=60)
    return flowd


def held(pid: int) -> tuple[int, int]:
    """Descriptors and threads of a process."""
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


@pytest.fixture
def others(demo: Flowd, record_property: Any) -> Any:
    """A block in which somebody must be served; afterwards the operator holds what it held."""

    @contextlib.contextmanager
    def going_on() -> Iterator[Callable[[], None]]:
        before = held(demo.pid)
        other = Other(str(demo.client.base_url))
        other.start()
        try:
            yield lambda: served(other)
        finally:
            other.end()
        took = sorted(other.took)
        record_property("ms p99 of another client", round(took[len(took) * 99 // 100] * 1000, 1))
        record_property("ms at most", round(took[-1] * 1000, 1))
        assert took[-1] < SERVED
        demo.client.close()
        eventually(lambda: at_most(held(demo.pid), before))

    return going_on


def served(other: Other) -> None:
    """Twenty more calls are answered as they should be."""
    wanted = len(other.took) + 20

    def answered() -> None:
        assert len(other.took) >= wanted

    eventually(answered)
    assert not other.wrong


def at_most(now: tuple[int, int], before: tuple[int, int]) -> None:
    assert now[0] <= before[0]
    # Those that answer are started when they are needed, and stay.
    assert now[1] <= before[1] + THREADS


def connect(
    demo: Flowd, stack: contextlib.ExitStack, count: int, receive: int | None = None
) -> list[socket.socket]:
    url = urlsplit(str(demo.client.base_url))
    made = []
    for _ in range(count):
        sock = stack.enter_context(socket.socket())
        if receive is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        sock.settimeout(20)
        sock.connect((url.hostname, url.port))
        made.append(sock)
    return made


def request(line: str, more: str = "") -> bytes:
    return f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}".encode()


def trickle(sockets: list[socket.socket], seconds: float) -> int:
    """A byte to each now and then, as long as told; returns how many were hung up on."""
    left = set(sockets)
    for sock in sockets:
        sock.setblocking(False)

    def send() -> None:
        for sock in tuple(left):
            try:
                sock.send(b"x")
                if sock.recv(4096) == b"":
                    left.discard(sock)
            except BlockingIOError:
                pass
            except OSError:
                left.discard(sock)
        assert left

    with contextlib.suppress(AssertionError):
        always_for(seconds, send, every=0.1)
    return len(sockets) - len(left)


def test_slowloris(demo: Flowd, others: Any) -> None:
    """60 connections whose heads never end: all are hung up on after ten seconds."""
    with others() as go_on, contextlib.ExitStack() as stack:
        sockets = connect(demo, stack, 60)
        for sock in sockets:
            sock.sendall(request("GET /flows", "X: "))
        assert trickle(sockets, 20) == 60
        go_on()


def test_151_idle_connections(demo: Flowd, others: Any) -> None:
    """They hold nothing that others need."""
    with others() as go_on, contextlib.ExitStack() as stack:
        connect(demo, stack, 151)
        go_on()
        go_on()


def test_12_slow_bodies(demo: Flowd, others: Any) -> None:
    """Bodies that never end hold no thread."""
    with others() as go_on, contextlib.ExitStack() as stack:
        sockets = connect(demo, stack, 12)
        told = "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        for sock in sockets:
            sock.sendall(request("POST /flows", told) + b"[")
        trickle(sockets, 3)
        go_on()


def test_huge_bodies(demo: Flowd, others: Any) -> None:
    """8 MiB are read, one byte more is refused; what takes long to read delays others little."""
    url = str(demo.client.base_url)
    kind = {"Content-Type": "application/json"}

    def post(body: bytes) -> int:
        with httpx.Client(base_url=url, timeout=60) as client:
            return client.post("/flows", content=body, headers=kind).status_code

    largest = b'["' + b"x" * (LIMIT - 4) + b'"]'
    heavy = b"[" + b"{}," * 500_000 + b"{}]"
    with others() as go_on, ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(post, body) for body in (largest, heavy, heavy, largest)]
        beyond = pool.submit(post, largest + b" ")
        go_on()
        assert beyond.result() == 413
        assert [answer.result() for answer in answers] == [400] * 4


def test_200_followers(demo: Flowd, others: Any) -> None:
    """Each gets what is printed, and none holds a thread."""
    with others() as go_on, contextlib.ExitStack() as stack:
        sockets = connect(demo, stack, 200)
        for sock in sockets:
            sock.sendall(request("GET /flows/demo/logs?follow=1&tail=0", "\r\n"))
        go_on()
        for sock in sockets:
            said = b""
            while b"tick\n" not in said:
                said += sock.recv(4096)
        go_on()


def test_120_who_do_not_read_a_log(demo: Flowd, others: Any) -> None:
    """More than there are threads, of more than is buffered for anybody."""
    script = "head -c 40000000 /dev/zero | tr '\\0' x | fold -w 999; exec sleep 1000"
    demo.create(make_document("loud", script))
    log = demo.data / "logs" / "loud" / "0"
    eventually(lambda: at_least(sum(path.stat().st_size for path in log.glob("*.log*")), 4 * 10**7))
    with others() as go_on, contextlib.ExitStack() as stack:
        for sock in connect(demo, stack, 120, receive=4096):
            sock.sendall(request("GET /flows/loud/logs", "\r\n"))
        go_on()
        go_on()


def at_least(value: int, wanted: int) -> None:
    assert value >= wanted


def test_flood(demo: Flowd, others: Any) -> None:
    """16 clients that ask for everything, on and on and each time anew."""

    def ask(_number: int) -> bytes:
        with contextlib.ExitStack() as stack:
            [sock] = connect(demo, stack, 1)
            sock.sendall(request("GET /flows/status", "Connection: close\r\n\r\n"))
            return sock.recv(15)

    with others() as go_on, ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(ask, number) for number in range(640)]
        go_on()
        assert {answer.result() for answer in answers} == {b"HTTP/1.1 200 OK"}
