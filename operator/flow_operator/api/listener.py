"""The sockets that are listened on: waitress's servers, with what they share."""

from __future__ import annotations

import errno
import math
import socket
from typing import Any

import structlog
from waitress import wasyncore
from waitress.server import TcpWSGIServer, UnixWSGIServer

from flow_operator.api.caps import Caps
from flow_operator.api.channel import Channel
from flow_operator.api.hub import Hub
from flow_operator.api.tls import Certificates, TlsSocket
from flow_operator.clock import Clock

_TICK = 1.0
"""Seconds between two looks for those who are late."""

_PAUSE = 0.1
"""Seconds in which nobody is accepted after there was no room."""

_GRACE = 1.0
"""Seconds in which nobody has to make room for others: his request may be on its way."""

_FLUSH = 1.0
"""Seconds in which answers are still sent when the server ends."""

_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger("server")


class _Listener:
    """What is ours of either kind. Waitress goes by the wall clock; this one does not."""

    channel_class = Channel
    next_channel_cleanup = math.inf  # waitress's own never comes
    hub: Hub
    caps: Caps
    clock: Clock
    certificates: Certificates | None = None
    accepting: bool
    active_channels: dict[int, Channel]
    trigger: Any
    _map: dict[int, Any]
    _tick_at = -math.inf
    _paused_until = -math.inf
    _told_at = -math.inf
    _close_by = math.inf
    _pulled = False

    def run(self) -> None:
        """Read, send and accept until closed; without connections, without waking."""
        while self._map:
            short = self._paused_until > self.clock.monotonic() or self._close_by < math.inf
            tick = _TICK if self.active_channels else None
            wasyncore.poll2(_PAUSE if short else tick, self._map)
            if self._close_by < math.inf and self._may_close():
                wasyncore.close_all(self._map)

    def _may_close(self) -> bool:
        if not self._pulled:
            return False
        unsent = any(channel.total_outbufs_len for channel in self.active_channels.values())
        return not unsent or self.clock.monotonic() >= self._close_by

    def close_soon(self) -> None:
        """End the loop once all is sent, a second from now at the latest. From any thread."""
        # It closes what wakes it, and somebody else may wake it before we have.
        self.trigger.pull_trigger(self._begin_to_close)
        self._pulled = True

    def _begin_to_close(self) -> None:
        self.accepting = False
        self._close_by = self.clock.monotonic() + _FLUSH

    def readable(self) -> bool:
        """Whether to accept; asked in each turn of the loop."""
        now = self.clock.monotonic()
        if now >= self._tick_at:
            self._tick_at = now + _TICK
            for channel in tuple(self.active_channels.values()):
                channel.hang_up_if_late(now)
        return self.accepting and now >= self._paused_until

    def handle_accept(self) -> None:
        """Take one connection, if there is or can be room."""
        if len(self.active_channels) < self.caps.connections or self._make_room():
            super().handle_accept()  # type: ignore[misc]
        else:
            self._pause()

    def accept(self) -> tuple[socket.socket | TlsSocket, Any] | None:
        """A connection; None if it has gone already.

        Raises:
            OSError: there is none to be had, of descriptors perhaps.
        """
        try:
            found: tuple[socket.socket, Any] | None = super().accept()  # type: ignore[misc]
        except OSError as error:
            if error.errno in _SCARCE:
                self._pause()
                self._make_room()
            raise
        if found is None or self.certificates is None:
            return found
        sock, address = found
        try:
            return TlsSocket(sock, self.certificates.context()), address
        except (OSError, ValueError):
            sock.close()  # It has gone already, or has sent something that is no TLS.
            return None

    def _pause(self) -> None:
        # Else the loop would be told again at once of who is waiting.
        self._paused_until = self.clock.monotonic() + _PAUSE

    def _make_room(self) -> bool:
        """Hang up on who has owed a whole request for longest; False if everybody is busy."""
        now = self.clock.monotonic()
        if now >= self._told_at + 60:
            self._told_at = now
            log.warning("no more connections can be had", open=len(self.active_channels))
        silent = (channel for channel in self.active_channels.values() if channel.owes_request())
        longest = min(silent, key=lambda channel: channel.since, default=None)
        if longest is None or now - longest.since < _GRACE:
            return False
        longest.handle_close()
        return True


class TcpListener(_Listener, TcpWSGIServer):
    """A TCP port."""


class UnixListener(_Listener, UnixWSGIServer):
    """A unix socket."""
