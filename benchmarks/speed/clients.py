"""Many calls at once, by the client in C, so that the client is not the limit."""

from __future__ import annotations

import subprocess
from pathlib import Path

from speed.contender import Load

_PATIENCE = 60.0
"""Seconds that the last answers may take after the time is over."""


class HttpClient:
    """Asks one thing again and again.

    Args:
        program: ``client.c``, compiled.
        address: a port of 127.0.0.1, or the path of a Unix socket.
        request: the bytes of the request.
    """

    def __init__(self, program: Path, address: str, request: bytes) -> None:
        self._command = str(program), address
        self._request = request

    def load(self, clients: int, seconds: float) -> Load:
        """Ask from so many connections for so long.

        Raises:
            subprocess.SubprocessError: an answer was refused, or none came.
        """
        told = subprocess.run(
            (*self._command, str(clients), str(seconds)),
            input=self._request,
            stdout=subprocess.PIPE,
            check=True,
            timeout=seconds + _PATIENCE,
        )
        count, p50, p99, size = map(int, told.stdout.split())
        return Load(p50 / 1e9, p99 / 1e9, count / seconds, size)
