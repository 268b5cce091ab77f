"""TLS: certificates that may be exchanged while the server runs, and sockets for its loop."""

from __future__ import annotations

import errno
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from flow_operator.errors import InvalidError
from flow_operator.lean import Later

if TYPE_CHECKING:
    import ssl
else:
    ssl = Later("ssl")  # 2 MB that only those need who serve https

_RECORD = 16 * 1024
"""Bytes of a TLS record at most (RFC 8446, 5.1). Who reads more leaves nothing behind in the
library, of which the kernel would not tell; who writes no more can always write the same again."""

log = structlog.get_logger("server")


class Certificates:
    """A certificate and its key, as their files are now.

    Args:
        cert: PEM, the server's own first, then those between it and a root.
        key: PEM, without a password.

    Raises:
        InvalidError: they cannot be used; it says why.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self._seen = self._look()
        self._context = _load(cert, key)

    def context(self) -> ssl.SSLContext:
        """What a new connection uses. Files that have become unusable leave it as it was."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = _load(self._cert, self._key)
                log.info("certificate read again", file=str(self._cert))
            except InvalidError as error:
                log.error("the new certificate is not used, the old one stays", why=str(error))
        return self._context

    def _look(self) -> list[tuple[int, ...] | None]:
        return [_identity(path) for path in (self._cert, self._key)]


def _identity(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does."""
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns


def _load(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    try:
        _check_secret(key)
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        why = error.reason or "one of them is no PEM"
        raise InvalidError(
            f"{cert} and {key} must be a certificate and its key (PEM): {why}"
        ) from None
    except OSError as error:
        why = error.strerror or str(error)
        raise InvalidError(
            f"{cert} or {key} cannot be read ({why}): put it right, or name others"
        ) from None
    return context


def _check_secret(key: Path) -> None:
    """Refuse a key that others can read. A group may, if root owns the file: so keys are shared.

    Raises:
        InvalidError: they can.
        OSError: it cannot be looked at.
    """
    info = key.stat()
    allowed = 0o740 if info.st_uid == 0 else 0o700
    if stat.S_IMODE(info.st_mode) & ~allowed:
        raise InvalidError(f"other users can read or write the key {key}: chmod 600 {key}")


def _no_password() -> str:
    # Else OpenSSL would ask the terminal, and wait.
    raise InvalidError("the key is encrypted: give one without a password")


class TlsSocket:
    """A connection under TLS, with what waitress asks of a socket; it never waits.

    OpenSSL's objects are for one thread at a time; the loop reads while a worker sends.
    """

    def __init__(self, sock: Any, context: ssl.SSLContext) -> None:
        self.family = sock.family
        self._lock = threading.Lock()
        sock.settimeout(0)
        self._tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.fileno = self._tls.fileno
        self.getsockopt = self._tls.getsockopt
        self.setsockopt = self._tls.setsockopt

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - as sockets have it
        """It is not, and stays so."""

    def handshake(self) -> bool | None:
        """Agree upon TLS as far as it goes: None when done, else whether it has to send first.

        Raises:
            OSError: the client speaks something else, or has gone.
        """
        with self._lock:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            except ssl.SSLWantWriteError:
                return True
        return None

    def recv(self, size: int) -> bytes:
        """Bytes of the client; none at its end.

        Raises:
            BlockingIOError: there are none yet.
            ConnectionResetError: the connection is broken.
        """
        with self._lock, _errors():
            return self._tls.recv(max(size, _RECORD))

    def send(self, data: bytes | memoryview) -> int:
        """Send some of the bytes; returns how many.

        Raises:
            BlockingIOError: none can be sent now.
            ConnectionResetError: the connection is broken.
        """
        with self._lock, _errors():
            return self._tls.send(memoryview(data)[:_RECORD])

    def shutdown(self, how: int) -> None:
        """Tell the client that nothing follows.

        Raises:
            OSError: it has gone.
        """
        with self._lock:
            self._say_goodbye()
            self._tls.shutdown(how)

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            self._say_goodbye()
            self._tls.close()

    def _say_goodbye(self) -> None:
        # As far as it goes: nobody waits for the answer.
        with suppress(OSError, ValueError):
            self._tls.unwrap()


@contextmanager
def _errors() -> Iterator[None]:
    """TLS's errors as those of a socket."""
    try:
        yield
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        raise BlockingIOError(errno.EWOULDBLOCK, "not now") from None
    except ssl.SSLError as error:
        raise ConnectionResetError(errno.ECONNRESET, str(error)) from None
