"""The sockets that are listened on: waitress's servers, with what they share."""

from __future__ import annotations

from typing import Any

from waitress.server import TcpWSGIServer, UnixWSGIServer

from flow_operator.api.channel import Channel
from flow_operator.api.hub import Hub


class _Listener:
    """What is ours of either kind."""

    channel_class = Channel
    hub: Hub
    adj: Any
    active_channels: dict[int, Channel]

    def maintenance(self, now: float) -> None:
        """Hang up on who has neither sent nor taken anything for long; streams may be silent."""
        cutoff = now - self.adj.channel_timeout
        for channel in tuple(self.active_channels.values()):
            if not channel.requests and channel.stream is None and channel.last_activity < cutoff:
                channel.will_close = True


class TcpListener(_Listener, TcpWSGIServer):
    """A TCP port."""


class UnixListener(_Listener, UnixWSGIServer):
    """A unix socket."""
