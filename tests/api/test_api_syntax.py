"""Requests that are none, or that two readers could understand differently."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Peer, plain, serving

from flow_operator.api.channel import Channel
from flow_operator.api.http import MAX_BODY
from support import eventually

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
EXPECT = POST + b"Expect: 100-continue\r\n"


@pytest.fixture
def server() -> Iterator[Any]:
    with serving(plain) as server:
        yield server


REFUSED: dict[str, tuple[int, bytes]] = {
    "no request": (400, b"hello\r\n\r\n"),
    "a method in small letters": (400, b"get / HTTP/1.1\r\n\r\n"),
    "two lengths": (400, POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    "one length twice": (400, POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    "a length with a sign": (400, POST + b"Content-Length: +5\r\n\r\nhello"),
    "a length below zero": (400, POST + b"Content-Length: -5\r\n\r\nhello"),
    "a length in hexadecimal": (400, POST + b"Content-Length: 0x5\r\n\r\nhello"),
    "a length of many digits": (400, POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"),
    "length and chunks": (
        400,
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunks twice": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "chunks in two lines": (
        400,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunks in HTTP/1.0": (
        400,
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "another coding": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    "a chunk's size that is none": (400, CHUNKED + b"5x\r\nhello\r\n0\r\n\r\n"),
    "a chunk's size below zero": (400, CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk longer than it says": (400, CHUNKED + b"3\r\nhello\r\n0\r\n\r\n"),
    "a chunk's size without an end": (400, CHUNKED + b"0" * 3000),
    "a trailer without an end": (400, CHUNKED + b"0\r\n" + b"a: b\r\n" * 3000),
    "very many very small chunks": (400, CHUNKED + b"1\r\nx\r\n" * 30000),
    "chunks beyond the limit": (
        413,
        CHUNKED + (b"100000\r\n" + b"x" * 2**20 + b"\r\n") * 8 + b"1\r\nx\r\n0\r\n\r\n",
    ),
    "NUL in a header": (400, b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"),
    "NUL in the path": (400, b"GET /\0 HTTP/1.1\r\n\r\n"),
    "a folded line": (400, b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n"),
    "a folded Transfer-Encoding": (400, POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n"),
    "a line feed alone": (400, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    "a blank before the colon": (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "NUL behind many blanks": (400, b"GET / HTTP/1.1\r\nX:" + b" " * 32000 + b"\0\r\n\r\n"),
    "a long head": (431, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 6000 + b"\r\n"),
    "a long head without an end": (431, b"GET / HTTP/1.1\r\nX: " + b"y" * 40000),
    "a body beyond the limit": (413, POST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1)),
    "leave to send too much": (413, EXPECT + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1)),
    "leave to send nonsense": (400, EXPECT + b"Content-Length: x\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "sent"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_request(server: Any, status: int, sent: bytes) -> None:
    """A problem, and then the end of the connection: what follows may not be a request either."""
    with Peer(server).send(sent) as peer:
        head, _, body = peer.rest().partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 %d " % status, b"HTTP/1.0 %d " % status))
    assert b"\r\nConnection: close" in head
    assert b"application/problem+json" in head
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["detail"]
    eventually(lambda: nobody(server))


def nobody(server: Any) -> None:
    assert not server._server.active_channels


def test_a_refused_head_has_no_body(server: Any) -> None:
    """HEAD is answered without one, also where it is malformed."""
    with Peer(server).send(b"HEAD / HTTP/1.1\r\nContent-Length: x\r\n\r\n") as peer:
        assert peer.rest().partition(b"\r\n\r\n")[2] == b""


def test_the_largest_body_is_taken(server: Any) -> None:
    """8 MiB to the byte."""
    with Peer(server) as peer:
        peer.send(POST + b"Content-Length: %d\r\n\r\n" % MAX_BODY + b"x" * MAX_BODY)
        assert peer.answer() == (200, b"hello")


def test_who_sends_too_much_gets_to_read_why(server: Any) -> None:
    """The answer is not lost with the bytes that nobody reads any more."""
    for _ in range(5):
        with Peer(server) as peer:
            peer.send(POST + b"Content-Length: %d\r\n\r\n" % (2 * MAX_BODY) + b"x" * MAX_BODY)
            assert peer.answer()[0] == 413


def test_requests_in_a_row_are_answered_in_their_order(server: Any) -> None:
    """Also if they come at once, in pieces, and with empty lines between them."""
    many = (
        POST + b"Content-Length: 3\r\n\r\nabc" + b"\r\n" + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
    ) * 9
    with Peer(server).send(many[:-40]) as peer:
        for _ in range(17):
            assert peer.answer() == (200, b"hello")
        peer.send(many[-40:])
        assert peer.answer() == (200, b"hello")


def test_leave_to_send_a_body(server: Any) -> None:
    """100 for who asks before sending; who has nothing to send is simply answered."""
    with Peer(server).send(EXPECT + b"Content-Length: 5\r\n\r\n") as peer:
        assert peer.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert peer.send(b"hello").answer() == (200, b"hello")
        peer.send(EXPECT + b"Content-Length: 5\r\n\r\nhello")
        assert peer.until(b"hello").endswith(b"\r\n\r\nhello")  # with or without the leave
        assert peer.send(EXPECT + b"\r\n").answer() == (200, b"hello")


def test_a_body_shorter_than_it_says(server: Any) -> None:
    """No answer is due to who hangs up in its midst, and nothing is left of it."""
    with Peer(server).send(POST + b"Content-Length: 50\r\n\r\nhello") as peer:
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.rest() == b""
    eventually(lambda: nobody(server))


def test_a_client_that_is_gone_before_its_refusal_is_sent_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Sending is how that is found out: the connection is closed once, and nothing is told."""
    gone = threading.Event()

    def send(channel: Channel, _data: bytes, **_: Any) -> int:
        if threading.current_thread().name == "http":  # A worker leaves it to the loop.
            channel.handle_close()
            gone.set()
        return 0

    monkeypatch.setattr(Channel, "send", send)
    with serving(plain) as server, Peer(server) as peer:
        peer.send(b"nonsense\r\n\r\n")
        assert gone.wait(20)
        eventually(lambda: _assert_none(server._server.active_channels))
    assert caplog.text == ""


def _assert_none(channels: Any) -> None:
    assert not channels
