"""The operators that are connected to the shim: what they ask, what they are told."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import struct
from collections import deque
from collections.abc import Callable

from flow_operator.shim import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_QUEUED = 10_000
"""Messages that wait for one operator; beyond it is cut off and asks again from the start."""

_PEER = struct.Struct("3i")


class UnknownRunError(Exception):
    """A request is about a run that this shim does not have."""


class Client:
    """One connection of an operator."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.queue: deque[bytes] = deque()
        self.subscribed = False


class _Volley:
    """Requests that came in one message, and those answers that there are already."""

    def __init__(self, client: Client, number: Any, requests: list[Any]) -> None:
        self.client = client
        self.number = number
        self.left = deque(requests)
        self.answers: list[dict[str, Any]] = []


class Connections:
    """Accepts operators, answers them, and tells them events.

    One descriptor is kept in reserve, so that an operator can still connect, and stop flows, when
    steps have used up all others.

    Args:
        selector: of the shim's loop.
        listener: the socket that operators connect to.
        answer: answers one request, given the one of the same volley that comes next, if there is
            one: nothing is told of the first before that.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        listener: socket.socket,
        answer: Callable[[dict[str, Any], Client, Any], Any],
    ) -> None:
        self._selector = selector
        self._answer_one = answer
        self._clients: set[Client] = set()
        self._volleys: deque[_Volley] = deque()
        self._reserve = -1
        self.listener = listener
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._listening = True
        self.keep_reserve()

    def __len__(self) -> int:
        return len(self._clients)

    def listen_again(self, listener: socket.socket) -> None:
        """Take another listener instead of the present one."""
        if self._listening:
            self._selector.unregister(self.listener)
        self.listener.close()
        self.listener = listener
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._listening = True

    def keep_reserve(self) -> None:
        """Have a descriptor in reserve again, and listen again, as soon as one is free."""
        if self._reserve < 0:
            with contextlib.suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if self._reserve >= 0 and not self._listening:
            self._selector.register(self.listener, selectors.EVENT_READ, self._accept)
            self._listening = True

    def _accept(self, listener: socket.socket, _: int) -> None:
        try:
            sock, _address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._make_room()
            return  # Who calls waits, or has gone.
        sock.setblocking(False)  # noqa: FBT003 - the name of the method tells
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _pid, uid, _gid = _PEER.unpack(raw)
        if uid not in (os.geteuid(), 0):
            sock.close()
            return
        client = Client(sock)
        self._clients.add(client)
        self._selector.register(sock, selectors.EVENT_READ, lambda _s, m: self._serve(client, m))

    def _make_room(self) -> None:
        """Give the reserve to the next caller; without one, be deaf rather than busy."""
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1
        elif self._listening:
            self._selector.unregister(self.listener)
            self._listening = False

    def _serve(self, client: Client, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush(client)
            if mask & selectors.EVENT_READ:
                message = protocol.receive(client.sock)
                if message is None:
                    self._drop(client)
                else:
                    self._answer(message, client)
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            self._drop(client)  # It has gone, or speaks no language of ours.

    def _answer(self, message: Any, client: Client) -> None:
        if not isinstance(message, dict):
            self._drop(client)
            return
        requests = message.get("requests")
        if message.get("op") == "many" and isinstance(requests, list):
            self._volleys.append(_Volley(client, message.get("id"), requests))
        else:
            self._reply(client, message.get("id"), self._answer_to(message, client))

    def _answer_to(self, message: Any, client: Client, following: Any = None) -> dict[str, Any]:
        try:
            return {"ok": self._answer_one(message, client, following)}
        except UnknownRunError as error:
            return {"error": str(error), "unknown": True}
        except Exception as error:  # noqa: BLE001 - the shim outlives every mistake of a request
            return {"error": f"{type(error).__name__}: {error}"}

    def _reply(self, client: Client, number: Any, answer: dict[str, Any]) -> None:
        self._send(client, protocol.encode({"id": number, **answer}))

    @property
    def busy(self) -> bool:
        """Whether there is more to be done of what was asked for."""
        return bool(self._volleys)

    def go_on(self) -> None:
        """Carry out one request of a volley; one by itself never waits for all of another's."""
        if not self._volleys:
            return
        volley = self._volleys[0]
        if volley.left:
            request = volley.left.popleft()
            following = volley.left[0] if volley.left else None
            volley.answers.append(self._answer_to(request, volley.client, following))
        if not volley.left:
            self._volleys.popleft()
            self._reply(volley.client, volley.number, {"ok": volley.answers})

    def _send(self, client: Client, data: bytes) -> None:
        if client not in self._clients:
            return
        client.queue.append(data)
        if len(client.queue) > _MAX_QUEUED:
            self._drop(client)
        elif len(client.queue) == 1:
            self._flush(client)

    def _flush(self, client: Client) -> None:
        try:
            while client.queue:
                protocol.send(client.sock, client.queue[0])
                client.queue.popleft()
            events = selectors.EVENT_READ
        except BlockingIOError:
            events = selectors.EVENT_READ | selectors.EVENT_WRITE
        except OSError:
            self._drop(client)
            return
        if self._selector.get_key(client.sock).events != events:
            data = self._selector.get_key(client.sock).data
            self._selector.modify(client.sock, events, data)

    def _drop(self, client: Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            # Who asked for it will never know; another operator asks again for what is missing.
            for volley in self._volleys:
                if volley.client is client:
                    volley.left.clear()
            self._selector.unregister(client.sock)
            client.sock.close()

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event to everybody who has said hello."""
        data = protocol.encode(event)
        for client in list(self._clients):
            if client.subscribed:
                self._send(client, data)


def listen(data: str | os.PathLike[str]) -> socket.socket:
    """A listening socket at its place in the data directory, for its owner only."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    with protocol.SocketPath(data) as path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        previous = os.umask(0o177)
        listener.bind(path)
        os.umask(previous)
    listener.listen(8)
    return listener
