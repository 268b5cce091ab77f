"""Streams over real connections: one thread feeds them all, and nobody else is held up."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Peer, Tape, serving, streaming, thread_names

from flow_operator.api.caps import Caps
from support import always_for, eventually


@pytest.fixture
def tapes() -> defaultdict[str, Tape]:
    """Sources by the name in the path, made when they are asked for."""
    return defaultdict(Tape)


@pytest.fixture
def server(tapes: Any) -> Iterator[Any]:
    """A server of them."""
    with serving(streaming(tapes.__getitem__)) as server:
        yield server


def closed(tape: Tape, times: int = 1) -> None:
    assert tape.closed == times


def test_a_stream_is_sent_in_chunks_as_it_comes(server: Any, tapes: Any) -> None:
    """The head at once, then each piece when the server is poked, then the end."""
    with Peer(server).get("/stream/a") as peer:
        head = peer.head()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Transfer-Encoding: chunked\r\n" in head
        assert b"Content-Length" not in head
        tapes["a"].say(b"one", b"x" * 300)
        server.poke()
        assert peer.until(b"one\r\n") == b"3\r\none\r\n"
        assert peer.until(b"x\r\n") == b"12c\r\n" + b"x" * 300 + b"\r\n"
        tapes["a"].say(b"last", None)
        server.poke()
        assert peer.rest() == b"4\r\nlast\r\n0\r\n\r\n"
    eventually(lambda: closed(tapes["a"]))


def test_a_stream_to_an_old_client_ends_with_the_connection(server: Any, tapes: Any) -> None:
    """HTTP/1.0 knows no chunks."""
    with Peer(server).get("/stream/a", version="1.0") as peer:
        assert b"Transfer-Encoding" not in peer.head()
        tapes["a"].say(b"one", b"two", None)
        server.poke()
        assert peer.rest() == b"onetwo"


def test_a_source_with_a_period_needs_no_poke(server: Any, tapes: Any) -> None:
    """It is looked at when the period is over, and pokes are none of its business."""
    tapes["a"] = Tape(period=0.02)
    with Peer(server).get("/stream/a") as peer:
        peer.head()
        tapes["a"].say(b"one")
        peer.until(b"one\r\n")


def test_head_of_a_stream_has_no_body(server: Any, tapes: Any) -> None:
    """The source is closed at once, nothing was taken, and the connection ends after the head."""
    with Peer(server).get("/stream/a", method="HEAD") as peer:
        head = peer.head()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        closed(tapes["a"])
        assert tapes["a"].looks == 0
        assert server._hub.count() == 0


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_a_client_that_goes_closes_its_source(server: Any, tapes: Any, how: str) -> None:
    """Once, also while nothing is sent; the place is free again."""
    with Peer(server).get("/stream/a") as peer:
        peer.head()
        if how == "half":
            peer.socket.shutdown(socket.SHUT_WR)
        elif how == "reset":
            linger = b"\1\0\0\0\0\0\0\0"
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if how != "half":
            peer.socket.close()
        eventually(lambda: closed(tapes["a"]), within=5)
    always_for(0.1, lambda: closed(tapes["a"]))
    assert server._hub.count() == 0


@pytest.mark.parametrize("how", ["close", "half"])
def test_a_client_that_goes_while_much_is_unsent(server: Any, tapes: Any, how: str) -> None:
    """The end of a client that does not read is seen all the same."""
    tapes["a"].say(*[b"x" * 65536] * 200)
    with Peer(server, receive=4096).get("/stream/a") as peer:
        peer.head()
        eventually(lambda: always_for(0.1, stalled(tapes["a"])))
        if how == "close":
            peer.socket.close()
        else:
            peer.socket.shutdown(socket.SHUT_WR)
        eventually(lambda: closed(tapes["a"]), within=5)


def looked_at(tape: Tape) -> None:
    assert tape.looks


def stalled(tape: Tape) -> Any:
    looks = tape.looks

    def check() -> None:
        assert tape.looks == looks

    return check


def test_a_slow_reader_lags_behind_in_its_source(server: Any, tapes: Any) -> None:
    """No more than a little is taken for it, and all of it arrives once it reads."""
    pieces = [b"%05d" % n + b"x" * 65531 for n in range(300)]
    tapes["slow"].say(*pieces, None)
    with Peer(server, receive=4096).get("/stream/slow", version="1.0") as slow:
        eventually(lambda: always_for(0.2, stalled(tapes["slow"])))
        assert 0 < tapes["slow"].looks < 200, "taken although nobody reads"
        tapes["fast"].say(b"one")
        with Peer(server).get("/stream/fast") as fast:
            fast.until(b"one\r\n")
        slow.head()
        assert slow.rest() == b"".join(pieces)
    eventually(lambda: closed(tapes["slow"]))


def test_what_a_client_says_during_a_stream_is_not_answered(server: Any, tapes: Any) -> None:
    """Neither requests sent with the first one, nor later ones, nor half of one."""
    again = b"GET / HTTP/1.1\r\n\r\n"
    with Peer(server).send(b"GET /stream/a HTTP/1.1\r\n\r\n" + again + again[:9]) as peer:
        peer.head()
        peer.send(again * 20 + b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Le")
        tapes["a"].say(b"one")
        server.poke()
        assert peer.until(b"one\r\n") == b"3\r\none\r\n"
        peer.send(again)
        tapes["a"].say(b"two", None)
        server.poke()
        assert peer.rest() == b"3\r\ntwo\r\n0\r\n\r\n"


def test_many_streams_hold_no_thread(server: Any, tapes: Any) -> None:
    """300 streams, and hardly more threads than before; each call and each stream is served."""
    before = len(thread_names())
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(server).get(f"/stream/{n}")) for n in range(300)]
        for peer in peers:
            peer.head()
        # Calls that come at once have one more started; streams never do.
        assert len(thread_names()) <= before + 10
        with Peer(server).get("/") as other:
            assert other.answer() == (200, b"hello")
        for n in range(300):
            tapes[str(n)].say(b"%d." % n)
        server.poke()
        for n, peer in enumerate(peers):
            peer.until(b"%d.\r\n" % n)
    eventually(lambda: [closed(tape) for tape in tapes.values()])


def test_too_many_streams_are_refused(server: Any, tapes: Any) -> None:
    """503 with Retry-After as a problem; a stream that ends makes room."""
    with contextlib.ExitStack() as stack:
        peers = [
            stack.enter_context(Peer(server).get(f"/stream/{n}")) for n in range(Caps().streams)
        ]
        for peer in peers:
            peer.head()
        with Peer(server).get("/stream/more") as refused:
            head = refused.head()
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: 10\r\n" in head
            assert b"application/problem+json" in head
        closed(tapes["more"])
        with Peer(server).get("/") as other:
            assert other.answer() == (200, b"hello")
        peers[0].socket.close()
        eventually(lambda: closed(tapes["0"]))
        with Peer(server).get("/stream/again") as again:
            assert again.head().startswith(b"HTTP/1.1 200 ")


def test_a_source_that_fails_ends_its_own_stream_only(server: Any, tapes: Any) -> None:
    """The client sees that the body is not whole; others go on."""

    class Broken(Tape):
        def take(self) -> bytes | None:
            raise OSError(5, "the disk is gone")

    tapes["bad"] = Broken()
    with Peer(server).get("/stream/good") as good, Peer(server).get("/stream/bad") as bad:
        good.head()
        assert not bad.rest().endswith(b"0\r\n\r\n")
        eventually(lambda: closed(tapes["bad"]))
        tapes["good"].say(b"one")
        server.poke()
        good.until(b"one\r\n")


def test_the_end_of_the_server_ends_all_streams(tapes: Any) -> None:
    """Properly: a client can tell it from a broken connection."""
    with serving(streaming(tapes.__getitem__)) as server:
        peers = [Peer(server).get(f"/stream/{n}") for n in range(20)]
        for peer in peers:
            peer.head()
        eventually(lambda: [looked_at(tape) for tape in tapes.values()])
    for peer in peers:
        with peer:
            assert peer.rest() == b"0\r\n\r\n"
    for tape in tapes.values():
        closed(tape)
    assert "streams" not in thread_names()


def test_a_client_that_goes_before_its_stream_begins(server: Any, tapes: Any) -> None:
    """Its source is closed all the same."""
    held = threading.Event()
    entered = threading.Event()

    class Late(Tape):
        def __init__(self) -> None:
            super().__init__()
            entered.set()
            held.wait(10)

    tapes.default_factory = Late
    peer = Peer(server).get("/stream/a")
    assert entered.wait(10)
    peer.socket.close()
    eventually(lambda: nobody(server))
    held.set()
    eventually(lambda: closed(tapes["a"]))
    eventually(lambda: nobody(server))


def nobody(server: Any) -> None:
    assert not server._server.active_channels
    assert server._hub.count() == 0
