"""What one client may take of the server, so that others are served too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of a server. Times are seconds, sizes bytes.

    Attributes:
        connections: at once. At the limit, who has been silent for longest makes room.
        streams: of them, at once.
        waiting: requests that wait for a thread; one more is refused.
        head: until a request's head is complete, from its first byte.
        body: until its body is, besides what it may take at ``rate``.
        idle: a connection without a request.
        answer: until an answer is taken, besides what it may take at ``rate``.
        handshake: until TLS has been agreed upon.
        linger: how long what a refused client still sends is read and thrown away, so that it gets
            to see why it was refused.
        rate: bytes a second that a client must send or take when there is much.
        large: a body from here on is large.
        large_bodies: of them, being received or waiting or worked on.
    """

    connections: int = 1000
    streams: int = 512
    waiting: int = 512
    head: float = 10.0
    body: float = 30.0
    idle: float = 30.0
    answer: float = 30.0
    handshake: float = 10.0
    linger: float = 2.0
    rate: int = 32 * 1024
    large: int = 1024 * 1024
    large_bodies: int = 16
