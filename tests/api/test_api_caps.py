"""Clients that take their time, or all the connections: others are served."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Peer, Tape, plain, serving, streaming

from flow_operator.api.caps import Caps
from support import always_for, eventually

SHORT = Caps(head=0.2, body=0.2, idle=0.2, answer=0.2, linger=0.2, rate=10**9)
PATIENT = 10**6


def caps(**changes: Any) -> Caps:
    patient = dict.fromkeys(("head", "body", "idle", "answer", "linger"), PATIENT)
    return Caps(**{**patient, "rate": 10**9, **changes})


def nobody(server: Any) -> None:
    assert not server._server.active_channels


def trickle(peer: Peer, data: bytes) -> None:
    """Send byte by byte until the server has said something."""
    peer.socket.setblocking(False)
    pieces = iter(data)

    def answered() -> None:
        with contextlib.suppress(StopIteration):
            peer.socket.send(bytes([next(pieces)]))
        with contextlib.suppress(BlockingIOError):
            peer.got += peer.socket.recv(65536)
        assert peer.got

    eventually(answered, every=0.02)
    peer.socket.settimeout(20)


TRICKLED = {
    "head": b"GET / HTTP/1.1\r\nX: " + b"x" * 10000,
    "body": b"POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n" + b"x" * 8999,
}


@pytest.mark.parametrize("part", TRICKLED)
def test_who_sends_byte_by_byte_is_hung_up_on(part: str) -> None:
    """408 as a problem that names what did not come; inactivity alone would never show it."""
    with serving(plain, caps=caps(**{part: 0.2})) as server, Peer(server) as peer:
        trickle(peer, TRICKLED[part])
        status, body = peer.answer()
        assert status == 408
        assert f"the {part} of the request".encode() in body


def test_who_never_reads_the_refusal_is_hung_up_on() -> None:
    """Nobody stays because he is being told to go."""
    with serving(plain, caps=caps(head=0.2, linger=0.2)) as server, Peer(server) as peer:
        peer.send(b"GET / HT")
        eventually(lambda: open_are(server, 1))
        eventually(lambda: nobody(server))


def test_a_steady_upload_has_its_time() -> None:
    """What counts is what has come, and not the time alone."""
    with serving(plain, caps=caps(body=0.1, rate=10)) as server, Peer(server) as peer:
        peer.send(b"POST / HTTP/1.1\r\nContent-Length: 200\r\n\r\n" + b"x" * 150)
        stays(server)
        assert peer.send(b"x" * 50).answer() == (200, b"hello")


def stays(server: Any) -> None:
    """Nobody is hung up on in more than one look of the server."""

    def somebody() -> None:
        assert server._server.active_channels

    eventually(somebody)
    always_for(1.5, somebody)


def test_connections_without_a_request_are_closed() -> None:
    """New ones, and those whose request was answered."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(plain, caps=caps(idle=0.2)))
        fresh = stack.enter_context(Peer(server))
        used = stack.enter_context(Peer(server).get("/"))
        assert used.answer() == (200, b"hello")
        assert fresh.rest() == used.rest() == b""


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What :func:`slow` waits for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def slow(release: threading.Event) -> Any:
    """An application that answers when it is released."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        release.wait(20)
        return plain(environ, start_response)

    return app


def test_who_waits_for_an_answer_is_not_late(slow: Any, release: threading.Event) -> None:
    """However long the operator takes; the time of the client begins when it has answered."""
    with serving(slow, caps=SHORT) as server, Peer(server).get("/") as peer:
        stays(server)
        [channel] = server._server.active_channels.values()
        before = time.monotonic()
        release.set()
        assert peer.answer() == (200, b"hello")
        eventually(lambda: waited_for_since(channel, before))


def waited_for_since(channel: Any, moment: float) -> None:
    assert channel.since > moment


def test_streams_may_be_silent() -> None:
    """None of the times is theirs."""
    tape = Tape()
    app = streaming(lambda _name: tape)
    with serving(app, caps=SHORT) as server, Peer(server).get("/stream/a") as peer:
        peer.head()
        stays(server)
        tape.say(b"one")
        server.poke()
        peer.until(b"one\r\n")


def large(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", str(2**23))])
    return [b"x" * 2**23]


def test_who_does_not_read_the_answer_is_hung_up_on() -> None:
    """Also where the kernel takes nothing more for it, so that no event would ever come."""
    with serving(large, caps=caps(answer=0.2)) as server, Peer(server, receive=4096) as peer:
        peer.get("/").head()
        eventually(lambda: nobody(server))


def test_a_steady_reader_has_its_time() -> None:
    """What it has taken counts."""
    limits = caps(answer=0.1, rate=1000)
    with serving(large, caps=limits) as server, Peer(server, receive=4096).get("/") as peer:
        while len(peer.got) < 2**22:
            peer.got += peer.socket.recv(65536)
        stays(server)
        assert len(peer.answer()[1]) == 2**23


# --- all the connections ---------------------------------------------------------------------


def test_the_longest_silent_makes_room() -> None:
    """At the limit: neither those who wait for an answer nor streams go, and everybody comes in."""
    tape, release = Tape(), threading.Event()
    told = streaming(lambda _name: tape)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/slow":
            release.wait(20)
        return told(environ, start_response)

    with serving(app, caps=caps(connections=6)) as server, contextlib.ExitStack() as stack:
        stream = stack.enter_context(Peer(server).get("/stream/a"))
        stream.head()
        slow = stack.enter_context(Peer(server).get("/slow"))
        idle = [stack.enter_context(Peer(server)) for _ in range(4)]
        eventually(lambda: open_are(server, 6))
        for _ in range(3):
            new = stack.enter_context(Peer(server).get("/"))
            assert new.answer() == (200, b"hello")
        for peer in idle[:3]:
            assert peer.rest() == b""
        assert idle[3].get("/").answer() == (200, b"hello")
        release.set()
        assert slow.answer() == (200, b"hello")
        tape.say(b"one")
        server.poke()
        stream.until(b"one\r\n")


def open_are(server: Any, count: int) -> None:
    assert len(server._server.active_channels) == count


def test_where_everybody_is_busy_others_wait(slow: Any, release: threading.Event) -> None:
    """They are served as soon as somebody has gone."""
    with serving(slow, caps=caps(connections=3)) as server, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(Peer(server).get("/")) for _ in range(3)]
        eventually(lambda: open_are(server, 3))
        more = stack.enter_context(Peer(server).get("/"))
        always_for(0.3, lambda: open_are(server, 3))
        release.set()
        assert more.answer() == (200, b"hello")
        assert [peer.answer() for peer in busy[1:]] == [(200, b"hello")] * 2


def test_without_descriptors_nothing_spins(slow: Any, release: threading.Event) -> None:
    """Who cannot be accepted for want of one is, once there is one; meanwhile the loop rests."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving(slow) as server, contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(4)]
        tries = counted(server._server)
        resource.setrlimit(resource.RLIMIT_NOFILE, (room_for_two(), hard))
        try:
            for sock in sockets:
                sock.settimeout(20)
                sock.connect((server.address.host, server.address.port))
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            eventually(lambda: more_than(tries, 4))
            seen = len(tries)
            always_for(1, lambda: fewer_than(tries, seen + 20))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            release.set()
        for sock in sockets:
            assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")


def room_for_two() -> int:
    """A limit that leaves two descriptors."""
    taken = {int(name) for name in os.listdir("/proc/self/fd")}
    return [number for number in range(10**4) if number not in taken][2]


def counted(listener: Any) -> list[int]:
    """Grows whenever a connection is asked for."""
    tries: list[int] = []
    accept = listener.accept

    def counting() -> Any:
        tries.append(1)
        return accept()

    listener.accept = counting
    return tries


def more_than(tries: list[int], count: int) -> None:
    assert len(tries) > count


def fewer_than(tries: list[int], count: int) -> None:
    assert len(tries) < count
