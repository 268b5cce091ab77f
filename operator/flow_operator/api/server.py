"""The HTTP server: waitress in a thread of its own.

Chosen by measurement over seven others (see docs/design.md): it buffers slow clients in its loop,
so that they hold no thread, and can be embedded.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.task import ThreadedTaskDispatcher

from flow_operator.api.http import MAX_BODY
from flow_operator.api.hub import Hub
from flow_operator.api.listener import TcpListener, UnixListener
from flow_operator.api.unix_socket import Access, bind_unix, remove_unix, unix_identity
from flow_operator.clock import SystemClock
from flow_operator.settings import Address

THREADS = 96
"""Three times the commands that may wait at once (32); an idle thread costs about 30 kB."""

CONNECTIONS = 1000


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
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(THREADS)
        try:
            self._server, self.address = _listen(
                app, address, access or Access(), dispatcher, options
            )
        except BaseException:
            dispatcher.shutdown(timeout=2)
            raise
        self._identity = unix_identity(address.unix) if address.unix is not None else None
        self._hub = self._server.hub = Hub(self._server.pull_trigger, SystemClock())
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

    def close(self) -> None:
        """End all streams, and answer nothing any more."""
        self._hub.close()
        self._server.task_dispatcher.shutdown(timeout=2)
        # In the loop's own thread: it looks at the map that this empties.
        self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._server._map))  # noqa: SLF001
        self._thread.join(timeout=5)
        if self.address.unix is not None and self._identity is not None:
            remove_unix(self.address.unix, self._identity)


def _listen(
    app: Callable[..., Any],
    address: Address,
    access: Access,
    dispatcher: ThreadedTaskDispatcher,
    options: dict[str, Any],
) -> tuple[TcpListener | UnixListener, Address]:
    """What listens, and where it really does."""
    given: dict[str, Any] = {"map": {}, "dispatcher": dispatcher}
    if address.unix is not None:
        bound = bind_unix(address.unix, access)
        adjustments = Adjustments(sockets=[bound], **options)
        given.update(_sock=bound, sockinfo=(bound.family, bound.type, bound.proto, None))
        return UnixListener(app, adj=adjustments, bind_socket=False, **given), address
    adjustments = Adjustments(host=_one_address(address), port=address.port, **options)
    server = TcpListener(app, adj=adjustments, sockinfo=adjustments.listen[0], **given)
    return server, Address(address.host, int(server.effective_port), address.prefix)


def _one_address(address: Address) -> str:
    """The first address of a name: waitress would make a server of another kind for several."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    v4_first = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    return str(v4_first[0][4][0])
