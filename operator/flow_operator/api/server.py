"""The HTTP server: waitress in a thread of its own.

Chosen by measurement over seven others (see docs/design.md): it buffers slow clients in its loop,
so that they hold no thread, and can be embedded.
"""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from waitress.adjustments import Adjustments

from flow_operator.api.caps import Caps
from flow_operator.api.http import MAX_BODY
from flow_operator.api.hub import Hub
from flow_operator.api.lanes import Lanes
from flow_operator.api.listener import TcpListener, UnixListener
from flow_operator.api.tls import Certificates
from flow_operator.api.unix_socket import Access, bind_unix, remove_unix, unix_identity
from flow_operator.clock import SystemClock
from flow_operator.settings import Address

_SPARE = 256
"""Descriptors that connections leave to the rest of the operator."""


class Server:
    """Serves an application until closed.

    Args:
        app: what answers.
        address: where; it is bound when this returns.
        access: who may connect to a unix socket; by default only who the operator is.
        tls: with what a TCP port is served, as https; None serves it in clear text.
        caps: what one client may take; in tests, less.

    Raises:
        FlowError: something else stands where the unix socket is to be.
        OSError: the address cannot be bound.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        address: Address,
        access: Access | None = None,
        tls: Certificates | None = None,
        caps: Caps | None = None,
    ) -> None:
        caps = _affordable(caps or Caps())
        lanes = Lanes(caps, address.prefix)
        try:
            self._server, self.address = _listen(app, address, access or Access(), lanes)
        except BaseException:
            lanes.shutdown(timeout=2)
            raise
        self._identity = unix_identity(address.unix) if address.unix is not None else None
        self._server.certificates = tls
        self._server.adj.url_scheme = "https" if tls else "http"
        clock = SystemClock()
        self._hub = Hub(self._server.pull_trigger, clock, caps.streams)
        self._server.hub, self._server.caps, self._server.clock = self._hub, caps, clock
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._hub.start()
        self._thread.start()

    def _serve(self) -> None:
        self._server.run()

    def poke(self) -> None:
        """Have every stream without a period looked at: something has changed. From any thread."""
        self._hub.poke()

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return self._hub.count()

    def close(self) -> None:
        """End all streams, and answer nothing any more."""
        self._hub.close()
        self._server.task_dispatcher.shutdown(timeout=2)
        self._server.close_soon()
        self._thread.join(timeout=5)
        if self.address.unix is not None and self._identity is not None:
            remove_unix(self.address.unix, self._identity)


_OPTIONS: dict[str, Any] = {
    "recv_bytes": 64 * 1024,
    "channel_request_lookahead": 1,
    "inbuf_overflow": 128 * 1024,  # of each connection in memory; the rest is in a file
    "max_request_header_size": 32 * 1024,
    "max_request_body_size": MAX_BODY + 1,  # from which on it is too large
    "ident": None,
}


def _listen(
    app: Callable[..., Any], address: Address, access: Access, lanes: Lanes
) -> tuple[TcpListener | UnixListener, Address]:
    """What listens, and where it really does."""
    given: dict[str, Any] = {"map": {}, "dispatcher": lanes}
    if address.unix is not None:
        bound = bind_unix(address.unix, access)
        adj = Adjustments(sockets=[bound], **_OPTIONS)
        given.update(_sock=bound, sockinfo=(bound.family, bound.type, bound.proto, None))
        return UnixListener(app, adj=adj, bind_socket=False, **given), address
    adj = Adjustments(host=_one_address(address), port=address.port, **_OPTIONS)
    server = TcpListener(app, adj=adj, sockinfo=adj.listen[0], **given)
    return server, replace(address, port=int(server.effective_port))


def _affordable(caps: Caps) -> Caps:
    """Limits that leave descriptors to others, and connections to calls beside streams."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = min(caps.connections, max(most - _SPARE, most // 2))
    return replace(caps, connections=connections, streams=min(caps.streams, connections * 2 // 3))


def _one_address(address: Address) -> str:
    """The first address of a name: waitress would make a server of another kind for several."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    v4_first = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    return str(v4_first[0][4][0])
