"""Connections: waitress's, with streams and with errors that are told as problems."""

from __future__ import annotations

import socket
import struct
import threading
from http import HTTPStatus
from typing import Any

from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask, WSGITask

from flow_operator.api.buffers import Piece
from flow_operator.api.errors import PROBLEM, problem_body
from flow_operator.api.hub import Hub, Stream
from flow_operator.api.stream import SERVE, Source

UNSENT = 64 * 1024
"""Bytes that a stream may have on their way; more is not taken from its source."""

_CREDENTIALS = struct.Struct("3i")

_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""tcp(7): a peer that is silent for a minute although it was asked is gone."""


class ProblemTask(ErrorTask):
    """What the server itself refuses (bad syntax, too large), told like everything else."""

    def execute(self) -> None:
        """Answer, and hang up."""
        error = self.request.error
        status = HTTPStatus(error.code)
        body = problem_body(status, error.body)
        self.status = f"{status.value} {status.phrase}"
        self.response_headers.append(("Content-Type", PROBLEM))
        self.response_headers.append(("Connection", "close"))
        self.close_on_finish = True
        self.content_length = len(body)
        self.write(body)


class Task(WSGITask):
    """A request, which may be answered by a stream."""

    _source: Source | None = None

    def get_environment(self) -> dict[str, Any]:
        """The WSGI environment, with what takes a stream over."""
        environ: dict[str, Any] = super().get_environment()
        environ[SERVE] = self._accept
        return environ

    def _accept(self, source: Source) -> bool:
        if not self.channel.hub.admit():
            return False
        self._source = source
        return True

    def service(self) -> None:
        """Answer the request."""
        try:
            super().service()
        finally:
            if self._source is not None:  # The client went before its stream began.
                self.channel.hub.abandon(self._source)

    def finish(self) -> None:
        """Send what is left to send; of a stream, that is the head."""
        if self._source is None:
            super().finish()
            return
        self.write(b"")
        source, self._source = self._source, None
        self.channel.begin(source, chunked=self.chunked_response)
        # The head has said that the connection ends with the body. That is not now.
        self.close_on_finish = False


class Parser(HTTPRequestParser):
    """Waitress lets some of int()'s and urlsplit()'s errors end the connection without a word.

    And it tells the path of what it has refused, if its client has gone, although there is none.
    """

    path = ""

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the head of a request.

        Raises:
            ParsingError: it is none; answered with 400.
        """
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError(f"the head of the request is malformed: {error}") from None


class Channel(HTTPChannel):
    """A connection.

    The loop's thread reads and sends, a worker answers, and the hub feeds a stream. What is unsent
    is guarded by ``outbuf_lock``, requests by ``requests_lock``; who takes both takes the latter
    first.
    """

    task_class = Task
    error_task_class = ProblemTask
    parser_class = Parser
    request: Any = None

    def __init__(
        self, server: Any, sock: socket.socket, addr: Any, *rest: Any, **named: Any
    ) -> None:
        if sock.family == socket.AF_UNIX:
            # The user at the other end is told as REMOTE_ADDR; unix(7): pid, uid, gid.
            told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            addr = (f"uid={_CREDENTIALS.unpack(told)[1]}", None)
        self.hub: Hub = server.hub
        self.stream: Stream | None = None
        self._chunked = False
        self._crowded = False
        super().__init__(server, sock, addr, *rest, **named)
        self.requests_lock = threading.RLock()

    # --- in the loop ---------------------------------------------------------------------

    def readable(self) -> bool:
        """Whether to read. During a stream always, for that is how its client's end is seen."""
        if self.stream is not None:
            return not self.will_close
        return bool(super().readable())

    def received(self, data: bytes) -> bool:
        """Take bytes of the client; those sent during a stream are answered by nobody."""
        with self.requests_lock:
            return self.stream is None and bool(super().received(data))

    def handle_write(self) -> None:
        """Send what is unsent."""
        with self.outbuf_lock:
            super().handle_write()
            if self._crowded and not self.total_outbufs_len and self.stream is not None:
                self._crowded = False
                self.hub.wake(self.stream)

    def handle_close(self) -> None:
        """The client has gone, or is to go."""
        with self.outbuf_lock:
            super().handle_close()
        if self.stream is not None:
            self.hub.wake(self.stream)

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
