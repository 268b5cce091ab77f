"""A real server on loopback, and clients that speak to it byte by byte."""

from __future__ import annotations

import contextlib
import math
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from flow_operator.api import Server
from flow_operator.api.stream import Streams, set_stream
from flow_operator.settings import Address


class Tape:
    """A source that a test speaks through."""

    def __init__(self, period: float | None = None, heartbeat: bytes = b"") -> None:
        self.period = period
        self.heartbeat = heartbeat
        self.ends_at = math.inf
        self.looks = 0
        self.closed = 0
        self._pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def say(self, *pieces: bytes | None) -> None:
        for piece in pieces:
            self._pieces.put(piece)

    def take(self) -> bytes | None:
        assert not self.closed
        self.looks += 1
        with contextlib.suppress(queue.Empty):
            return self._pieces.get_nowait()
        return b""

    def close(self) -> None:
        self.closed += 1


@contextlib.contextmanager
def serving(app: Callable[..., Any], at: Address | None = None, **options: Any) -> Iterator[Server]:
    """A server of an application, until the end of the block."""
    server = Server(app, at or Address("127.0.0.1", 0), **options)
    server.start()
    try:
        yield server
    finally:
        server.close()


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer ``hello`` to anything, once the body is read."""
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def streaming(source_of: Callable[[str], Any]) -> Callable[..., Any]:
    """An application whose ``/stream/NAME`` is a stream; all else is ``hello``."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        _, _, name = environ["PATH_INFO"].partition("/stream/")
        if not name:
            return plain(environ, start_response)
        set_stream(environ, source_of(name))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return []

    return Streams(app)


class Peer:
    """One connection of a client that sees every byte."""

    def __init__(self, server: Server, *, receive: int | None = None, timeout: float = 20) -> None:
        self.socket = socket.socket()
        if receive is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.socket.settimeout(timeout)
        self.socket.connect((server.address.host, server.address.port))
        self.got = b""

    def secure(self, context: ssl.SSLContext) -> Self:
        """Speak TLS from now on; an end of which the server has not told is an error."""
        self.socket = context.wrap_socket(
            self.socket, server_hostname="localhost", suppress_ragged_eofs=False
        )
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Peer:
        self.socket.sendall(data)
        return self

    def get(self, path: str, *, version: str = "1.1", method: str = "GET", more: str = "") -> Peer:
        head = f"{method} {path} HTTP/{version}\r\nHost: 127.0.0.1\r\n{more}\r\n"
        return self.send(head.encode())

    def until(self, end: bytes) -> bytes:
        """Everything up to and with ``end``; what follows is kept."""
        while end not in self.got:
            data = self.socket.recv(65536)
            assert data, f"the connection ended after {self.got[-2000:]!r}"
            self.got += data
        found, _, self.got = self.got.partition(end)
        return found + end

    def head(self) -> bytes:
        return self.until(b"\r\n\r\n")

    def rest(self) -> bytes:
        """Everything until the server hangs up."""
        pieces = [self.got]
        self.got = b""
        with contextlib.suppress(ConnectionResetError):
            while data := self.socket.recv(65536):
                pieces.append(data)
        return b"".join(pieces)

    def answer(self) -> tuple[int, bytes]:
        """Status and body of an answer that has a Content-Length."""
        head = self.head()
        fields = [line.partition(b":") for line in head.lower().split(b"\r\n")[1:]]
        length = next(int(value) for name, _, value in fields if name == b"content-length")
        while len(self.got) < length:
            data = self.socket.recv(65536)
            assert data, "the connection ended in the body"
            self.got += data
        body, self.got = self.got[:length], self.got[length:]
        return int(head.split(b" ", 2)[1]), body


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]
