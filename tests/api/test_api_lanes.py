"""Who is answered while others wait."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from serving import Peer, plain, serving
from waitress.task import ThreadedTaskDispatcher

from flow_operator.api import Server
from flow_operator.api.caps import Caps
from flow_operator.api.lanes import LARGE_THREADS, THREADS
from flow_operator.settings import Address
from support import always_for, eventually


class Gate:
    """An application that keeps every request waiting but those for health."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.inside = 0
        self.most_large = 0
        self._large = 0
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        large = int(environ.get("CONTENT_LENGTH") or 0) > 1000
        if environ["PATH_INFO"].startswith("/wait"):
            with self._lock:
                self.inside += 1
                self._large += large
                self.most_large = max(self.most_large, self._large)
            self.release.wait(60)
            with self._lock:
                self._large -= large
        return plain(environ, start_response)


@pytest.fixture
def gate() -> Any:
    gate = Gate()
    yield gate
    gate.release.set()


def waiting(stack: contextlib.ExitStack, server: Any, count: int) -> list[Peer]:
    return [stack.enter_context(Peer(server).get("/wait")) for _ in range(count)]


def queued(server: Any, count: int) -> None:
    assert len(server._server.task_dispatcher._work.queue) == count


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_told_while_everybody_waits(gate: Gate, path: str) -> None:
    """Every thread is busy and 200 requests wait; GET and HEAD are answered all the same."""
    with serving(gate) as server, contextlib.ExitStack() as stack:
        peers = waiting(stack, server, THREADS + 200)
        eventually(lambda: queued(server, 200))
        for _ in range(3):
            with Peer(server).get(path) as peer:
                assert peer.answer() == (200, b"hello")
                assert b"200 OK" in peer.get(path, method="HEAD").head()
        queued(server, 200)
        gate.release.set()
        assert [peer.answer() for peer in peers] == [(200, b"hello")] * len(peers)


def test_health_under_a_base_url_with_a_path(gate: Gate) -> None:
    """The path of the base URL stands before it."""
    at = Address("127.0.0.1", 0, "/base")
    with serving(gate, at=at) as server, contextlib.ExitStack() as stack:
        waiting(stack, server, THREADS)
        eventually(lambda: inside(gate, THREADS))
        with Peer(server).get("/base/livez") as peer, Peer(server).get("/livez") as other:
            assert peer.answer() == (200, b"hello")
            eventually(lambda: queued(server, 1))
            gate.release.set()
            assert other.answer() == (200, b"hello")


def inside(gate: Gate, count: int) -> None:
    assert gate.inside == count


def test_who_would_wait_too_long_is_refused(gate: Gate) -> None:
    """503 with Retry-After, at once; those who wait already are answered."""
    with serving(gate, caps=Caps(waiting=5)) as server, contextlib.ExitStack() as stack:
        peers = []
        for count in range(1, THREADS + 1):
            peers += waiting(stack, server, 1)
            eventually(lambda count=count: inside(gate, count))
        peers += waiting(stack, server, 5)
        eventually(lambda: queued(server, 5))
        with Peer(server).get("/") as refused:
            head, _, body = refused.rest().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1" in head
        assert json.loads(body)["status"] == 503
        gate.release.set()
        assert [peer.answer() for peer in peers] == [(200, b"hello")] * len(peers)


def all_idle(server: Any) -> None:
    assert server._server.task_dispatcher._work.active_count == 0


def test_threads_are_started_when_they_are_needed(gate: Gate) -> None:
    """Fewer at first than at most; one more for each request that would wait."""
    with serving(gate) as server, contextlib.ExitStack() as stack:
        few = len(server._server.task_dispatcher._work.threads)
        assert few <= THREADS // 2
        peers = waiting(stack, server, few + 6)
        eventually(lambda: inside(gate, few + 6))
        assert len(server._server.task_dispatcher._work.threads) == few + 6
        gate.release.set()
        assert [peer.answer() for peer in peers] == [(200, b"hello")] * len(peers)


def test_calls_are_answered_where_no_thread_can_be_had(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By those that run already, one after the other; and by more once there are some again."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with serving(gate) as server, contextlib.ExitStack() as stack:
        few = len(server._server.task_dispatcher._work.threads)
        eventually(lambda: all_idle(server))
        with monkeypatch.context() as patch:
            patch.setattr(ThreadedTaskDispatcher, "start_new_thread", refuse)
            peers = waiting(stack, server, few + 3)
            eventually(lambda: queued(server, 3))
            eventually(lambda: inside(gate, few))
            assert len(server._server.task_dispatcher._work.threads) == few
        peers += waiting(stack, server, 1)
        eventually(lambda: inside(gate, few + 1))
        gate.release.set()
        assert [peer.answer() for peer in peers] == [(200, b"hello")] * len(peers)


def test_large_bodies_wait_for_each_other(gate: Gate) -> None:
    """A few are worked on at once, and small ones are not kept waiting by them."""
    body = b"x" * 2**20
    head = b"POST /wait HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serving(gate) as server, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(server).send(head + body)) for _ in range(6)]
        eventually(lambda: inside(gate, LARGE_THREADS))
        with Peer(server).send(b"POST / HTTP/1.1\r\nContent-Length: 2000\r\n\r\n") as small:
            assert small.send(b"x" * 2000).answer() == (200, b"hello")
        always_for(0.2, lambda: inside(gate, LARGE_THREADS))
        gate.release.set()
        assert [peer.answer() for peer in peers] == [(200, b"hello")] * 6
    assert gate.most_large == LARGE_THREADS


@pytest.mark.parametrize("coding", ["length", "chunks"])
def test_many_large_bodies_are_not_even_received(gate: Gate, coding: str) -> None:
    """One too many is refused when its size shows; one that is done makes room."""
    declared = b"Content-Length: 5000\r\n\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n\r\n1388\r\n"
    head = b"POST / HTTP/1.1\r\n" + (declared if coding == "length" else chunked)
    limits = Caps(large=1000, large_bodies=3)
    with serving(gate, caps=limits) as server, contextlib.ExitStack() as stack:

        def begun() -> Peer:
            return stack.enter_context(Peer(server).send(head + b"x" * 2000))

        peers = [begun() for _ in range(3)]
        eventually(lambda: holding(server, 3))
        status, body = begun().answer()
        assert (status, json.loads(body)["detail"]) == (
            503,
            "too many large bodies are on their way",
        )
        end = b"" if coding == "length" else b"\r\n0\r\n\r\n"
        assert peers[0].send(b"x" * 3000 + end).answer() == (200, b"hello")
        assert begun().send(b"x" * 3000 + end).answer() == (200, b"hello")


def holding(server: Any, count: int) -> None:
    channels = tuple(server._server.active_channels.values())
    assert sum(channel.holds_large() for channel in channels) == count


def test_the_loop_is_not_over_before_it_is_told_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is woken meanwhile: what wakes it is not closed under who ends it."""
    server = Server(plain, Address("127.0.0.1", 0))
    server.start()
    trigger = server._server.trigger
    pull = trigger.pull_trigger

    def after_another(thunk: Callable[[], None] | None = None) -> None:
        pull()
        server._thread.join(0.2)
        pull(thunk)

    monkeypatch.setattr(trigger, "pull_trigger", after_another)
    server.close()
    assert not server._thread.is_alive()
