"""The HTTP server: waitress in a thread of its own.

Chosen by measurement over seven others (see docs/design.md): it buffers slow clients in its loop,
so that they hold no thread, and can be embedded.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask

from flow_operator.api.errors import PROBLEM, problem_body
from flow_operator.api.http import MAX_BODY
from flow_operator.api.unix_socket import Access, bind_unix, remove_unix, unix_identity
from flow_operator.settings import Address

THREADS = 96
"""More than the commands (32) and the streams (32) that may wait at once; an idle thread costs
about 30 kB."""

CONNECTIONS = 1000

_CREDENTIALS = struct.Struct("3i")

log = structlog.get_logger("server")


class _ProblemTask(ErrorTask):
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


class _Parser(HTTPRequestParser):
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


class _Channel(HTTPChannel):
    error_task_class = _ProblemTask
    parser_class = _Parser

    def __init__(
        self, server: Any, sock: socket.socket, addr: Any, *rest: Any, **named: Any
    ) -> None:
        if sock.family == socket.AF_UNIX:
            # The user at the other end is told as REMOTE_ADDR; unix(7): pid, uid, gid.
            told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            addr = (f"uid={_CREDENTIALS.unpack(told)[1]}", None)
        super().__init__(server, sock, addr, *rest, **named)


class Server:
    """Serves an application until closed.

    Args:
        app: what answers.
        address: where; it is bound when this returns.
        access: who may connect to a unix socket; by default only who the operator is.

    Raises:
        FlowError: something else stands where the unix socket is to be.
        OSError: the address cannot be bound.
    """

    def __init__(
        self, app: Callable[..., Any], address: Address, access: Access | None = None
    ) -> None:
        options: dict[str, Any] = {
            "threads": THREADS,
            "connection_limit": CONNECTIONS,
            "channel_timeout": 30,
            "channel_request_lookahead": 1,
            "cleanup_interval": 5,
            "max_request_header_size": 32 * 1024,
            "max_request_body_size": MAX_BODY,
            "ident": None,
            "asyncore_use_poll": True,
        }
        if address.unix is not None:
            bound = bind_unix(address.unix, access or Access())
            self._identity = unix_identity(address.unix)
            self._server = create_server(app, sockets=[bound], **options)
            self.address = address
        else:
            host = _one_address(address)
            self._server = create_server(app, host=host, port=address.port, **options)
            port = self._server.effective_port
            self.address = Address(address.host, int(port), address.prefix)
        self._server.channel_class = _Channel
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def _serve(self) -> None:
        self._server.run()

    def close(self) -> None:
        """Answer nothing any more."""
        self._server.task_dispatcher.shutdown(timeout=2)
        # In the loop's own thread: it looks at the map that this empties.
        self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._server._map))  # noqa: SLF001
        self._thread.join(timeout=5)
        if self.address.unix is not None and self._identity is not None:
            remove_unix(self.address.unix, self._identity)


def _one_address(address: Address) -> str:
    """The first address of a name: waitress would make a server of another kind for several."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    v4_first = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    return str(v4_first[0][4][0])
