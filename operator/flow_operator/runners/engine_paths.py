"""Paths as a container engine sees them.

An engine mounts what lies on its own machine. The operator may itself run in a container, with the
engine's socket mounted into it; what it calls ``/data`` is then something else to the engine.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from flow_operator.errors import TerminalError

Inspect = Callable[[str], Mapping[str, Any] | None]
"""Tells the engine's description of a container by its id or name; None if it knows none."""

_PEER = struct.Struct("3i")

_ID = re.compile("[0-9a-f]{64}")

_OURS = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv")
"""Files that engines mount into a container from a directory that bears its id."""

_MARKS = ("/.dockerenv", "/run/.containerenv")
"""What Docker and Podman put into each container."""


class EnginePaths:
    """Translates paths of this process.

    Args:
        socket_path: the engine's unix socket; None where it is reached otherwise.
        inspect: asks the engine for a container.
    """

    def __init__(self, socket_path: Path | None, inspect: Inspect) -> None:
        self._socket = socket_path
        self._inspect = inspect

    def of(self, path: Path) -> str:
        """An existing path, as the engine has to be told it.

        The same, where the engine sees the same there; else by the mounts of our own container.

        Raises:
            RetryableError: the engine is away.
            TerminalError: the engine can not get at it; the message says what to mount.
        """
        real = path.resolve(strict=True)
        if self._socket is not None and _sees(engine_pid(self._socket), real):
            return str(real)
        for name in own_names(
            _text("/proc/self/mountinfo"), _text("/proc/self/cgroup"), socket.gethostname()
        ):
            found = self._inspect(name)
            if found is not None:
                return translated(PurePosixPath(real), found)
        if any(Path(mark).exists() for mark in _MARKS):
            raise TerminalError(
                f"this operator seems to run in a container that the engine does not know, so "
                f"{path} cannot be mounted into others: give it the socket of the engine that runs "
                "it, or run it on the machine of the engine"
            )
        return str(real)


def own_names(mountinfo: str, cgroup: str, hostname: str) -> list[str]:
    """What may be the id of the container of a process, the surest first.

    Args:
        mountinfo: its ``/proc/PID/mountinfo`` (proc_pid_mountinfo(5)).
        cgroup: its ``/proc/PID/cgroup``.
        hostname: which engines make the beginning of the id, unless told another.
    """
    fields = (line.split() for line in mountinfo.splitlines())
    sources = (field[3] for field in fields if len(field) > 4 and field[4] in _OURS)  # noqa: PLR2004 - the columns of mountinfo
    found = [name for text in (*sources, cgroup) for name in _ID.findall(text)]
    if re.fullmatch("[0-9a-f]{12}", hostname):
        found.append(hostname)
    return list(dict.fromkeys(found))


def translated(path: PurePosixPath, container: Mapping[str, Any]) -> str:
    """A path within a container, as its engine sees it.

    Args:
        path: without symbolic links.
        container: as the engine describes it.

    Raises:
        TerminalError: it lies on no volume and no directory of the machine.
    """
    over: list[Mapping[str, Any]] = [
        mount
        for mount in container.get("Mounts") or ()
        if path.is_relative_to(mount["Destination"])
    ]
    mount = max(over, key=lambda mount: len(mount["Destination"]), default={})
    source = mount.get("Source")
    if not source or mount.get("Type") not in ("bind", "volume"):
        raise TerminalError(
            f"the engine cannot mount {path} into other containers: it lies in the operator's own "
            "container; mount a volume or a directory of the machine there"
        )
    return str(PurePosixPath(source) / path.relative_to(mount["Destination"]))


def engine_pid(path: Path) -> int:
    """Who listens on an engine's socket; 0 where that cannot be seen from here (unix(7))."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(path))
        pid: int = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return pid
    return 0


def _sees(pid: int, path: Path) -> bool:
    """Whether a process sees the same at a path as we do."""
    if pid == 0:
        return False
    try:
        return Path(f"/proc/{pid}/root{path}").samefile(path)
    except OSError:
        return False  # Nothing is there, or we may not look.


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
