"""The unix socket: bound so that at no time more may connect than are meant to."""

from __future__ import annotations

import grp
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from flow_operator.errors import ConflictError, InvalidError

_PATIENCE = 2.0
"""Seconds for another server's queue of connections to have a place."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may connect.

    Attributes:
        mode: permission bits.
        group: by name; None leaves it as it is.
    """

    mode: int = 0o600
    group: str | None = None


def bind_unix(path: Path, access: Access) -> socket.socket:
    """A socket that is bound, and does not listen yet.

    What a server that was killed has left there is replaced.

    Raises:
        ConflictError: something else stands there.
        InvalidError: there is no such group, or the operator may not give the socket to it.
        OSError: it cannot be bound.
    """
    _make_way(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The file is born with the mode of its descriptor, and nobody can connect before listen().
        os.fchmod(made.fileno(), 0o600)
        made.bind(str(path))
        if access.group is not None:
            _give(path, access.group)
        path.chmod(access.mode)
    except BaseException:
        made.close()
        raise
    return made


def remove_unix(path: Path, identity: tuple[int, int]) -> None:
    """Remove a socket, unless another one stands there by now."""
    if unix_identity(path) == identity:
        path.unlink(missing_ok=True)


def unix_identity(path: Path) -> tuple[int, int] | None:
    """What tells one file at a path from another; None if there is none."""
    try:
        info = path.lstat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _make_way(path: Path) -> None:
    try:
        info = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(info.st_mode):
        raise ConflictError(
            f"{path} exists and is no socket: remove it, or name another path with --listen"
        )
    if _answers(path):
        raise ConflictError(
            f"{path} is in use, perhaps by another flowd; name another path with --listen"
        )
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Whether somebody listens; one who is too busy does too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(_PATIENCE)
        try:
            asked.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            # No permission, or no place in its queue: it is there.
            return True
    return True


def _give(path: Path, group: str) -> None:
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except KeyError:
        raise InvalidError(
            f"--socket-group: there is no group {group!r} here: create it, or name another"
        ) from None
    except PermissionError:
        said = f"--socket-group: the operator's user must be in the group {group!r}"
        raise InvalidError(said) from None
