"""Looking at the cgroup of a run, which the shim has made.

Every function takes the group's directory and treats one that is gone as empty: it goes only when
nobody is left in it. Only the shim changes groups, since it enters them when it starts a step: a
group that was frozen or killed by others at that moment would take the shim with it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ESRCH})


def members(path: str) -> frozenset[int]:
    """The pids of everybody in a group and the groups below it, zombies left out."""
    return residents(path)[1]


def residents(path: str) -> tuple[bool, frozenset[int]]:
    """:func:`populated`, and :func:`members`."""
    somebody = populated(path)
    return somebody, frozenset(_members(path)) if somebody else frozenset()


def populated(path: str) -> bool:
    """Whether anybody is in a group or below it.

    Surer than a list of members, from which somebody who forks and exits all the time is missing.
    """
    return state(path)[1]


def _members(path: str) -> Iterator[int]:
    # Another pid namespace's processes show as 0.
    yield from (int(line) for line in _lines(path, "cgroup.procs") if line != b"0\n")
    try:
        below = [entry.path for entry in os.scandir(path) if entry.is_dir()]
    except FileNotFoundError:
        return
    for group in below:
        yield from _members(group)


def frozen(path: str) -> bool:
    """Whether everybody in a group stands still."""
    return state(path)[0]


def state(path: str) -> tuple[bool, bool]:
    """Whether a group is frozen, and whether anybody is in it; as of one moment."""
    lines = _lines(path, "cgroup.events")
    return b"frozen 1\n" in lines, b"populated 1\n" in lines


def _lines(path: str, name: str) -> list[bytes]:
    """A file of a group; empty where the group is gone."""
    try:
        with open(f"{path}/{name}", "rb") as file:
            return file.readlines()
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise
