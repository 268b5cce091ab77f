"""Whether the operator of this container answers: what its engine asks again and again.

A program of its own, on the standard library only: it is started every few seconds. It finds the
operator by the environment that the image gives it, FLOWD_LISTEN and FLOWD_TLS_CERT.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping

_REQUEST = b"GET %s/livez HTTP/1.0\r\nHost: localhost\r\n\r\n"

_EVERY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared only
"""Where to reach who listens on every address."""

_TIMEOUT = 2.0
"""Seconds; less than the image gives the whole check."""


def answer(environment: Mapping[str, str]) -> bytes:
    """The first line that the operator answers with.

    Raises:
        OSError: it does not answer.
    """
    base = environment.get("app_url") or environment.get("APP_URL") or ""
    path = base.partition("://")[2].partition("/")[2].rstrip("/")
    tls = bool(environment.get("FLOWD_TLS_CERT"))
    with _connect(environment["FLOWD_LISTEN"]) as plain, _wrapped(plain, tls=tls) as sock:
        sock.sendall(_REQUEST % (f"/{path}" if path else "").encode())
        with sock.makefile("rb") as lines:
            return lines.readline()


def _connect(listen: str) -> socket.socket:
    if listen.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(_TIMEOUT)
        sock.connect(listen.removeprefix("unix:"))
        return sock
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    return socket.create_connection((_EVERY.get(host, host), int(port)), _TIMEOUT)


def _wrapped(sock: socket.socket, *, tls: bool) -> socket.socket:
    if not tls:
        return sock
    import ssl  # noqa: PLC0415 - few serve https themselves

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # It is asked whether it lives, on this machine; nothing that it says is believed.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock)


def main() -> None:
    """Entry point of ``flowd-health``.

    Raises:
        SystemExit: 0 if it answers well, 1 after a message if not.
    """
    try:
        line = answer(os.environ)
    except OSError as error:
        sys.exit(f"flowd does not answer: {error}")
    except KeyError:
        sys.exit("FLOWD_LISTEN is not set: say by it, not by --listen, where flowd listens")
    if b" 200 " not in line:
        sys.exit(f"flowd is not well: {line.decode(errors='replace').strip()}")
