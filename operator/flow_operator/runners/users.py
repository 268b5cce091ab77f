"""Who a step runs as, where it is not who the operator runs as."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_operator.errors import TerminalError
from flow_operator.model.flow import Step

ANYBODY = "*"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody of the user database."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str

    def ids(self) -> dict[str, Any]:
        """What the shim takes: ``uid``, ``gid`` and all ``groups``."""
        return {
            "uid": self.uid,
            "gid": self.gid,
            "groups": os.getgrouplist(self.name, self.gid),
        }

    def environment(self) -> dict[str, str]:
        """What a login sets; the step's own variables come after."""
        return {
            "HOME": self.home,
            "LOGNAME": self.name,
            "SHELL": self.shell,
            "USER": self.name,
        }

    def give(self, root: Path, work: Path) -> None:
        """Make a flow's directory this user's, and let it be reached.

        Passing through is all that others may do on the way; they can list nothing.

        Raises:
            TerminalError: that is not allowed.
        """
        try:
            for directory in (root, work.parent):
                directory.chmod(directory.stat().st_mode | 0o011)
            if work.stat().st_uid != self.uid:
                os.chown(work, self.uid, self.gid)
                work.chmod(0o700)
        except OSError as error:
            raise TerminalError(
                f"cannot give {work} to {self.name}: {error}; start flowd as root, or leave it out"
            ) from error


class Users:
    """Whom steps may run as.

    Args:
        allowed: their names; ``*`` allows everybody.
    """

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed

    def of(self, step: Step) -> User | None:
        """Whom a step asks for; None for who the operator is.

        Raises:
            TerminalError: there is no such user, or the operator may or can not use it.
        """
        if step.user is None:
            return None
        user = _look_up(step.user)
        if user.uid == os.geteuid():
            return None
        if os.geteuid() != 0:
            raise TerminalError(
                f"step '{step.name}' asks for user '{step.user}', and only root can switch users: "
                "start flowd as root, or leave the user out"
            )
        if not self._allowed & {ANYBODY, user.name, str(user.uid)}:
            raise TerminalError(
                f"step '{step.name}' asks for user '{step.user}', which is not allowed here: start "
                f"flowd with --allow-users {user.name}, or leave the user out"
            )
        return user


def _look_up(name: str) -> User:
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise TerminalError(
            f"there is no user '{name}' on this machine: create it, or correct the name"
        ) from None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)
