"""What a service manager is told of the operator, as sd_notify(3) describes it."""

from __future__ import annotations

import socket
from collections.abc import MutableMapping

import structlog

_PATIENCE = 1.0
"""Seconds for a message to be taken; a manager that is that busy must not hold us up."""

log = structlog.get_logger("systemd")


class ServiceManager:
    """Who has started the operator as a service and waits to be told, if anybody does.

    Args:
        environ: ``NOTIFY_SOCKET`` is taken out of it, since it is not for the steps to speak of us.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        # In an abstract socket's name an @ stands for the null byte.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._stopping = False

    def ready(self, status: str) -> None:
        """The service has started, unless it is about to end by now."""
        if not self._stopping:
            self._tell("READY=1", status)

    def stopping(self, status: str) -> None:
        """The service is about to end."""
        self._stopping = True
        self._tell("STOPPING=1", status)

    def _tell(self, state: str, status: str) -> None:
        if not self._address:
            return
        message = f"{state}\nSTATUS={status}".encode(errors="surrogateescape")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.settimeout(_PATIENCE)
                notify.sendto(message, self._address)
        except OSError as error:
            log.warning("the service manager cannot be told", what=state, error=str(error))
