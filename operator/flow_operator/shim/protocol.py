"""Messages between the operator and the shim.

One JSON object per SOCK_SEQPACKET packet. A message that would not fit a packet travels in a
memfd beside a one-byte packet.

Requests are ``{"id": n, "op": name, ...}``; replies ``{"id": n, "ok": value}`` or ``{"id": n,
"error": text}``, with ``"unknown": true`` where the run is not known; events, which have no id,
``{"event": name, ...}``. The operation ``many`` has ``requests``, which are carried out one after
the other, and is answered by what each would have been answered with; other messages may overtake
those that are left.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable

from flow_operator.shim.digest import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 3
"""Raised when a message changes its meaning; the two sides compare it in ``hello``. What must mean
the same for ever is ``hello`` and ``upgrade``, by which a shim becomes one of another version."""

SOCKET_NAME = "shim.sock"
LOCK_NAME = "shim.lock"

_MAX_PACKET = 96 * 1024
"""Bytes; well below the default socket buffer of 208 KiB, so that two packets always fit."""


def code() -> str:
    """Names the program that a shim is, by a digest of its source."""
    here = os.path.dirname(__file__)
    content: list[bytes] = []
    for name in sorted(os.listdir(here)):
        if name.endswith(".py"):
            with open(os.path.join(here, name), "rb") as file:
                content.append(file.read())
    return sha256(b"".join(content))[:16]


_ENCODER = json.JSONEncoder(separators=(",", ":"))
"""json.dumps would make one for each message."""


def encode(message: dict[str, Any]) -> bytes:
    """One message as bytes."""
    return _ENCODER.encode(message).encode()


def send(sock: socket.socket, data: bytes) -> None:
    """Send one encoded message.

    Raises:
        BlockingIOError: a non-blocking socket has no room; nothing was sent.
        OSError: the connection is gone.
    """
    if len(data) <= _MAX_PACKET:
        sock.send(data, socket.MSG_NOSIGNAL)
        return
    memory = os.memfd_create("shim-message", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(data)
        socket.send_fds(sock, [b"F"], [memory], socket.MSG_NOSIGNAL)
    finally:
        os.close(memory)


def receive(
    sock: socket.socket, decode: Callable[[bytes], Any] = json.loads
) -> dict[str, Any] | None:
    """Receive one message; None once the other side has closed.

    Args:
        sock: the connection.
        decode: reads JSON.

    Raises:
        BlockingIOError: a non-blocking socket has nothing to read.
        OSError: the connection is gone.
    """
    data, descriptors, _, _ = socket.recv_fds(sock, _MAX_PACKET + 1, 1, socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    if descriptors:
        with open(descriptors[0], "rb") as file:
            file.seek(0)
            data = file.read()
    message: dict[str, Any] = decode(data)
    return message


class SocketPath:
    """The address of a socket in a directory whose path may be longer than sun_path's 108 bytes.

    A context manager: the address goes through an open directory and is good while it is open.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = directory
        self._descriptor = -1

    def __enter__(self) -> str:
        self._descriptor = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{SOCKET_NAME}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
