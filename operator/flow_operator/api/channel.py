"""Connections: waitress's, with streams and with errors that are told as problems."""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
import threading
from http import HTTPStatus
from typing import Any

from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel

from flow_operator.api.buffers import Piece
from flow_operator.api.caps import Caps
from flow_operator.api.errors import PROBLEM, problem_body
from flow_operator.api.hub import Hub, Stream
from flow_operator.api.parser import Parser
from flow_operator.api.stream import Source
from flow_operator.api.task import ProblemTask, Task
from flow_operator.api.tls import TlsSocket

UNSENT = 64 * 1024
"""Bytes that a stream may have on their way; more is not taken from its source."""

_WHOLE = 64 * 1024
"""Bytes from which on they are sent as they are; fewer are cheaper to collect."""

_CREDENTIALS = struct.Struct("3i")

_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""tcp(7): a peer that is silent for a minute although it was asked is gone."""


class Stage(enum.Enum):
    """What a client is waited for."""

    HANDSHAKE = "handshake"
    IDLE = "beginning"
    HEAD = "head"
    BODY = "body"
    ANSWER = "reading of the answer"
    END = "end"


_OWING = frozenset({Stage.HANDSHAKE, Stage.IDLE, Stage.HEAD})


class Channel(HTTPChannel):
    """A connection.

    The loop's thread reads and sends, a worker answers, and the hub feeds a stream. What is unsent
    is guarded by ``outbuf_lock``, requests by ``requests_lock``; who takes both takes the latter
    first.

    Attributes:
        since: monotonic seconds from which on the client is waited for.
        stream: what is sent from now on, if that has no end.
        lingers: whether the client is to be heard out when all is sent.
    """

    task_class = Task
    error_task_class = ProblemTask
    parser_class = Parser
    request: Any = None
    requests: list[Any]
    will_close: bool
    close_when_flushed: bool
    total_outbufs_len: int

    def __init__(
        self, server: Any, sock: socket.socket, addr: Any, *rest: Any, **named: Any
    ) -> None:
        if sock.family == socket.AF_UNIX:
            # The user at the other end is told as REMOTE_ADDR; unix(7): pid, uid, gid.
            told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            addr = (f"uid={_CREDENTIALS.unpack(told)[1]}", None)
        self.hub: Hub = server.hub
        self._caps: Caps = server.caps
        self._now = server.clock.monotonic
        self.since: float = self._now()
        self.stream: Stream | None = None
        self.lingers = False
        self._sends_first: bool | None = False if isinstance(sock, TlsSocket) else None
        self._deaf = False
        self._answered = 0
        self._chunked = False
        self._crowded = False
        super().__init__(server, sock, addr, *rest, **named)
        self.requests_lock = threading.RLock()

    # --- in the loop ---------------------------------------------------------------------

    def readable(self) -> bool:
        """Whether to read. During a stream always, for that is how its client's end is seen."""
        if self._fileno is None:
            return False
        if self._sends_first is not None:
            return not self._sends_first
        if self.stream is not None or self._deaf:
            return not self.will_close
        return bool(super().readable())

    def writable(self) -> bool:
        """Whether to send."""
        if self._sends_first is not None:
            return self._fileno is not None and self._sends_first
        return self._fileno is not None and bool(super().writable())

    def handle_read(self) -> None:
        """Read what has come."""
        if self._sends_first is not None:
            self._agree()
            return
        try:
            data = self.recv(self.adj.recv_bytes)
        except BlockingIOError:
            return  # The rest of a TLS record is yet to come.
        except OSError:
            self.handle_close()
            return
        if data:
            self.received(data)

    def _agree(self) -> None:
        """Go on with the handshake of TLS."""
        try:
            self._sends_first = self.socket.handshake()
        except OSError:
            self.handle_close()
        if self._sends_first is None:
            self.since = self._now()

    def send(self, data: Any, do_close: bool = True) -> int:  # noqa: FBT001, FBT002 - waitress's
        """Send some bytes; returns how many. In the loop or in a worker, under the lock."""
        try:
            return int(super().send(data, do_close))
        except OSError:
            self.will_close = True  # The network has failed.
            return 0

    def received(self, data: bytes) -> bool:
        """Take bytes of the client; those sent during a stream are answered by nobody."""
        with self.requests_lock:
            if self.stream is not None or self._deaf:
                return False
            before = self._stage()
            taken = bool(super().received(data))
            if self._stage() != before:
                self.since = self._now()
            self._admit_large()
            return taken

    def handle_write(self) -> None:
        """Send what is unsent."""
        if self._sends_first is not None:
            self._agree()
            return
        with self.outbuf_lock:
            self._flush_exception(self._flush_some)
            unsent = self.total_outbufs_len
            if unsent < self.adj.outbuf_high_watermark:
                self.outbuf_lock.notify()
        if self.close_when_flushed and not unsent:
            self.close_when_flushed = False
            self._hang_up()
        if self.will_close:
            self.handle_close()
        elif self._crowded and not unsent and self.stream is not None:
            self._crowded = False
            self.hub.wake(self.stream)

    def _hang_up(self) -> None:
        """Close; where the client may still be sending, not before it has read the answer.

        Closing with bytes unread would have the kernel reset the connection, and the answer with
        it.
        """
        if not self.lingers:
            self.will_close = True
            return
        self._deaf = True
        self.since = self._now()
        open_still = self.socket  # A worker whose sending fails takes it away.
        if open_still is not None:
            with contextlib.suppress(OSError):
                open_still.shutdown(socket.SHUT_WR)

    def handle_close(self) -> None:
        """The client has gone, or is to go."""
        with self.outbuf_lock:
            super().handle_close()
        if self.stream is not None:
            self.hub.wake(self.stream)

    # --- those who are late --------------------------------------------------------------

    def _stage(self) -> Stage:
        """What the client is waited for."""
        if self._sends_first is not None:
            return Stage.HANDSHAKE
        if self._deaf:
            return Stage.END
        if self.total_outbufs_len:
            return Stage.ANSWER
        if self.request is None:
            return Stage.IDLE
        return Stage.BODY if self.request.headers_finished else Stage.HEAD

    def owes_request(self) -> bool:
        """Whether nothing is being done for the client, because it has not asked in full."""
        return not self.requests and self.stream is None and self._stage() in _OWING

    def hang_up_if_late(self, now: float) -> None:
        """Hang up on a client that has kept us waiting for too long. In the loop."""
        if self.requests or self.stream is not None:
            return
        stage = self._stage()
        if now - self.since <= self._patience(stage):
            return
        if stage in (Stage.HEAD, Stage.BODY) and not self.close_when_flushed:
            self.refuse(408, f"the {stage.value} of the request did not come in time")
        else:
            self.handle_close()

    def _patience(self, stage: Stage) -> float:
        """How long a client may keep us waiting, in seconds."""
        caps = self._caps
        if stage is Stage.BODY:
            received: int = self.request.body_bytes_received
            return caps.body + received / caps.rate
        if stage is Stage.ANSWER:
            return caps.answer + (self._answered - self.total_outbufs_len) / caps.rate
        return {
            Stage.HANDSHAKE: caps.handshake,
            Stage.HEAD: caps.head,
            Stage.END: caps.linger,
        }.get(stage, caps.idle)

    def wait_for_client(self) -> None:
        """An answer is given; from now on it is the client that is waited for. In any thread."""
        self.since = self._now()
        self._answered = self.total_outbufs_len

    def _admit_large(self) -> None:
        """Refuse a large body where many are on their way, before it takes space."""
        if self.close_when_flushed or not self.holds_large():
            return
        channels = tuple(self.server.active_channels.values())
        if sum(channel.holds_large() for channel in channels) > self._caps.large_bodies:
            self.refuse(503, "too many large bodies are on their way", retry_after=5)

    def holds_large(self) -> bool:
        """Whether a large body is being received, waits, or is worked on."""
        return any(
            max(request.content_length, request.body_bytes_received) >= self._caps.large
            for request in (*self.requests, self.request)
            if request is not None and request.error is None
        )

    def refuse(self, status: int, detail: str, *, retry_after: int | None = None) -> None:
        """Answer without a worker and hang up, while no request is being answered."""
        with self.requests_lock:
            for request in filter(None, (*self.requests, self.request)):
                request.close()
            self.requests = []
            self.request = None
            if self.close_when_flushed:
                return
            self._append(_problem(status, detail, retry_after))
            self.lingers = self.close_when_flushed = True
            self.wait_for_client()

    def write_soon(self, data: Any) -> int:
        """Have bytes of an answer sent; in a worker, which waits while very much is unsent."""
        if isinstance(data, bytes) and len(data) >= _WHOLE:
            data = Piece(data)
        return int(super().write_soon(data))

    # --- a stream ------------------------------------------------------------------------

    def begin(self, source: Source, *, chunked: bool) -> None:
        """Send what a source has from now on; its head is on its way. In a worker."""
        with self.requests_lock:
            for request in filter(None, (*self.requests[1:], self.request)):
                request.close()
            del self.requests[1:]
            self.request = None
            self._chunked = chunked
            with self.outbuf_lock:
                if self.connected:
                    _keep_alive(self.socket)
            self.stream = self.hub.add(source, self)

    def is_open(self) -> bool:
        """Whether the client is still there."""
        return bool(self.connected)

    def has_room(self) -> bool:
        """Whether little is unsent; if not, the hub is woken once it is sent."""
        with self.outbuf_lock:
            self._crowded = self.total_outbufs_len >= UNSENT
            return not self._crowded

    def push(self, data: bytes) -> None:
        """Have bytes of the body sent."""
        self._append(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def finish(self) -> None:
        """The body is whole."""
        if self._chunked:
            self._append(b"0\r\n\r\n")
        self.close_when_flushed = True

    def abort(self) -> None:
        """Hang up without the end of the body."""
        self.server.trigger.pull_trigger(self.handle_close)

    def _append(self, data: bytes) -> None:
        """Add to what is unsent; never waits, as write_soon() does."""
        with self.outbuf_lock:
            if not self.connected:
                return
            # The last buffer must be one that can be written; an empty one can stay it.
            if self.outbufs[-1]:
                self.outbufs.append(OverflowableBuffer(self.adj.outbuf_overflow))
            self.outbufs.insert(-1, Piece(data))
            self.total_outbufs_len += len(data)


def _keep_alive(sock: socket.socket) -> None:
    """Have the kernel find out about a peer that went without a word."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _problem(status: int, detail: str, retry_after: int | None) -> bytes:
    """A whole answer."""
    body = problem_body(status, detail)
    later = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
        f"Content-Type: {PROBLEM}\r\nContent-Length: {len(body)}\r\n{later}\r\n"
    )
    return head.encode("ascii") + body
