"""Answers of an engine that are read as they come."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import Any, Self

ALONE = {"Connection": "close"}
"""Headers of who asks for such an answer: its connection never serves another request, which would
be cut off in its stead once the answer has come to its end."""


class Answer:
    """An answer (of ``requests``) that any thread can cut off while another one reads it.

    It has a descriptor of its own for the connection. Who reads may see the end and close the
    connection at any moment, and from then on its number may be that of any other file.
    """

    def __init__(self, response: Any) -> None:
        self.response = response
        self._lock = threading.Lock()
        self._connection = _connection(response)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut_off(self) -> None:
        """Have who reads see the end, unless that has come."""
        with self._lock, contextlib.suppress(OSError):  # The engine may have hung up.
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection; for who reads."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self.response.close()


def _connection(response: Any) -> socket.socket | None:
    """The connection of an answer that nobody reads yet; None where all of it has come."""
    try:
        descriptor = os.dup(response.raw.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    try:
        return socket.socket(fileno=descriptor)
    except OSError:  # Of another kind: it is read to its end, and tells when that is.
        os.close(descriptor)
        return None
