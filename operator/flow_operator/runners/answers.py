"""Answers of an engine that are read as they come."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any


def cut_off(response: Any) -> None:
    """Have who reads an answer (of ``requests``) see its end, in whatever thread."""
    # It may be ending by itself, or have no descriptor of its own.
    with (
        contextlib.suppress(OSError, ValueError, AttributeError),
        socket.socket(fileno=os.dup(response.raw.fileno())) as connection,
    ):
        connection.shutdown(socket.SHUT_RDWR)
